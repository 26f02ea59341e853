# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Convert checkpoint files (tools/convert_checkpoint.py)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import init_default_scope

from ..errors import UserError
from ..models.backbones.low_rank import merge_adapters
from ..registry import MODELS
from ..vocabularies import KeypointVocabulary, PartVocabulary, load_vocabulary, parse_vocabulary
from .adapters import to_ours, to_published
from .checkpoint import fit_state_dict
from .config import load_config
from .containers import CheckpointError
from .files import check_finite, read_checkpoint, save_weights
from .layouts import KINDS, Layout, noted_vocabulary, recognise, unknown_wrappers
from .state import describe_model, describe_vocabulary

TARGETS = ('sapiens', 'reference', 'safetensors', 'mmpose', 'mmseg')
_PARTS = ('backbone.', 'neck.', 'heads.', 'head.', 'decode_head.')


def convert_checkpoint(
    source: str | Path,
    target: str | Path,
    to: str = 'sapiens',
    config: str | Path | None = None,
    task: str | None = None,
    vocabulary: str | None = None,
    patch_padding: int | None = None,
    allow_partial: bool = False,
    half: bool = False,
) -> str:
    """Convert one file.

    Args:
        config: The file must cover this config's model.
        task: What a published dense head is; of a file with several heads, the one to keep.
        vocabulary: Name or file of the head's vocabulary, where its number of outputs does not tell.
        patch_padding: Where the layout does not tell.
        half: Write float16, and nothing about the run that made them: a file to publish.

    Returns:
        What was recognised and written, for people.

    Raises:
        CheckpointError: Unreadable, unknown, or not fitting.
    """
    state, meta = read_checkpoint(source)
    layout = recognise(state, str(source), meta, task)
    meta.pop('container', None)
    notes = dict(meta.get('sapiens') or {}) if isinstance(meta.get('sapiens'), dict) else {}
    # A user's word on padding comes before what the published models have.
    if patch_padding is not None:
        notes['patch_padding'] = patch_padding
    elif layout.patch_padding is not None:
        notes.setdefault('patch_padding', layout.patch_padding)
    ours = merge_adapters(to_ours(state, str(source), task))
    for part, name in unknown_wrappers(ours).items():
        raise CheckpointError(
            f"{source}: '{name}' holds '{part}', which no encoder has and no known wrapper adds; save the state dict "
            'of the unwrapped model'
        )
    left_out = [name for name in ours if not name.startswith(_PARTS)]
    ours = {name: tensor for name, tensor in ours.items() if name.startswith(_PARTS)}
    check_finite(ours, str(source))
    if task and f'heads.{task}.final_layer.weight' not in ours:
        raise CheckpointError(f'{source}: has no {task} head (it is: {layout})')
    if task:
        ours = {n: t for n, t in ours.items() if not n.startswith('heads.') or n.startswith(f'heads.{task}.')}
    notes['vocabularies'] = _vocabularies(notes, layout, vocabulary, str(source))
    lines = [f'{source}: {layout}']
    if left_out:
        lines.append(f'left out, since it is no part of the model: {", ".join(left_out[:5])}')
    if config is not None:
        model = build_on_meta(config)
        known = {**meta, 'sapiens': {**notes}}
        _, report = fit_state_dict(model, ours, known, allow_partial=allow_partial, source=str(source))
        # The embedding is kept as it was trained; whoever loads the file resizes it.
        facts = describe_model(model)
        notes = {**facts, **{k: v for k, v in notes.items() if v}, 'patch_padding': facts['patch_padding']}
        if report.resized:
            notes.pop('patch_grid', None)
        lines.append(str(report))
    if half:
        ours = {name: value.half() if value.is_floating_point() else value for name, value in ours.items()}
        meta = {}
    save_converted(ours, {**meta, 'sapiens': notes}, target, to, str(source))
    lines.append(f'written: {target}')
    return '\n'.join(lines)


def vocabulary_note(vocabulary: KeypointVocabulary | PartVocabulary) -> dict[str, Any]:
    """What mmpose and mmseg call ``dataset_meta``: names, symmetry and colours as their visualizers read them."""
    if isinstance(vocabulary, PartVocabulary):
        return dict(dataset_name=vocabulary.name, classes=list(vocabulary.names), palette=vocabulary.colors.tolist())
    names = list(vocabulary.names)
    return dict(
        dataset_name=vocabulary.name,
        num_keypoints=len(names),
        keypoint_id2name=dict(enumerate(names)),
        keypoint_name2id={name: i for i, name in enumerate(names)},
        keypoint_colors=vocabulary.colors.tolist(),
        flip_indices=vocabulary.swap.tolist(),
        skeleton_links=vocabulary.skeleton.tolist(),
        dataset_keypoint_weights=[1.0] * len(names),
        sigmas=vocabulary.sigmas.tolist(),
    )


def save_converted(
    state: Mapping[str, torch.Tensor], meta: Mapping, path: str | Path, target: str, source: str = 'state dict'
) -> None:
    """Write a checkpoint in our names in the layout of ``target``; the tensors' bytes do not change.

    Args:
        path: ``.safetensors``, or ``.pth`` / ``.pt``.
        target: ``'sapiens'`` (our names), ``'safetensors'`` (our names, in that format), ``'reference'`` (published
            names), ``'mmpose'`` or ``'mmseg'`` (published names, for a pose or a dense head, with ``dataset_meta``).

    Raises:
        CheckpointError: The layout has no place for these heads, or the file's suffix does not fit.
    """
    path = Path(path)
    if path.suffix not in ('.pth', '.pt', '.safetensors') or (
        target == 'safetensors' and path.suffix != '.safetensors'
    ):
        wanted = '.safetensors' if target == 'safetensors' else '.pth, .pt or .safetensors'
        raise CheckpointError(f'{path}: the name of the output must end in {wanted}')
    meta = dict(meta)
    tasks = {name.split('.')[1] for name in state if name.startswith('heads.')}
    if (target == 'mmpose' and tasks != {'pose'}) or (target == 'mmseg' and (not tasks or 'pose' in tasks)):
        kind = 'a pose head' if target == 'mmpose' else 'one dense head'
        raise CheckpointError(f'{source}: {target} takes {kind}, this file has {", ".join(sorted(tasks)) or "no head"}')
    if target in ('reference', 'mmpose', 'mmseg'):
        state = to_published(state, source)
    if target in ('mmpose', 'mmseg') and (document := noted_vocabulary(meta, next(iter(tasks)))):
        meta['dataset_meta'] = vocabulary_note(parse_vocabulary(document, source))
    save_weights(state, meta, path)


def _vocabularies(notes: dict, layout: Layout, given: str | None, source: str) -> dict[str, Any]:
    """Documents of the heads' vocabularies: those noted in the file, the user's, or the published ones."""
    documents = dict(notes.get('vocabularies') or {})
    for task, kind in KINDS.items():
        count = layout.heads.get(task)
        if count is None or kind in documents:
            continue
        name = layout.vocabularies.get(task)
        if given is not None:
            chosen = load_vocabulary(given)
            if chosen.kind != kind or len(chosen.names) != count:
                raise UserError(
                    f"{source}: its {task} head has {count} outputs; --vocabulary '{chosen.name}' has "
                    f'{len(chosen.names)} {chosen.kind}'
                )
            documents[kind] = describe_vocabulary(chosen)
        elif name is not None:
            documents[kind] = describe_vocabulary(load_vocabulary(name))
        else:
            raise CheckpointError(
                f'{source}: no shipped vocabulary has {count} {kind}; write down theirs in a vocabulary file and give '
                '--vocabulary FILE.json'
            )
    return documents


def build_on_meta(config: str | Path) -> torch.nn.Module:
    """The model of a config without memory for its parameters."""
    cfg = load_config(config)
    init_default_scope(cfg.get('default_scope', 'sapiens'))
    with torch.device('meta'):
        return MODELS.build(cfg.model)
