# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Published checkpoints in our names and ours in theirs, bit for bit.

Encoder and MAE decoder have the published names already, so an adapter only renames heads:

==================  =======================================  =========================
published           ours                                     written for
==================  =======================================  =========================
``head.*``          ``heads.pose.*``                         mmpose (``TopdownPoseEstimator``)
``decode_head.*``   ``heads.seg|depth|normal.*``             mmseg (``EncoderDecoder``)
``conv_seg``        ``final_layer`` (dense heads)
==================  =======================================  =========================

`sapiens.engine.checkpoint.fit_state_dict` calls `adapt` for every checkpoint, wherever one is accepted.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

import torch
from torch import nn

from ..vocabularies import KeypointVocabulary, PartVocabulary
from ..vocabularies.names import name_key
from .containers import CheckpointError
from .layouts import Layout, dense_task, noted, noted_vocabulary, plain_names, recognise, task_of_name
from .state import shapeless_facts


def to_ours(
    state: Mapping[str, torch.Tensor], source: str = 'state dict', task: str | None = None
) -> dict[str, torch.Tensor]:
    """Rename a checkpoint of any known layout to our names; tensors stay as they are.

    Args:
        source: File, for messages and for what its name tells.
        task: Task of a published dense head, where the caller knows.

    Raises:
        CheckpointError: Two parameters get one name, or the head cannot be told.
    """
    table = plain_names(state, source)
    if 'decode_head.conv_seg.weight' in table.values():
        task = dense_task({plain: tuple(state[name].shape) for name, plain in table.items()}, source, task)
    renamed: dict[str, torch.Tensor] = {}
    for name, plain in table.items():
        ours = re.sub(r'^head\.', 'heads.pose.', plain)
        if task and plain.startswith('decode_head.'):
            ours = f'heads.{task}.' + plain[len('decode_head.') :].replace('conv_seg.', 'final_layer.')
        if ours in renamed:
            raise CheckpointError(f"{source}: holds '{ours}' twice, with and without a prefix; give one model's file")
        renamed[ours] = state[name]
    return renamed


def adapt(
    state: Mapping[str, torch.Tensor], expected: Collection[str], source: str = 'state dict'
) -> dict[str, torch.Tensor]:
    """Bring a checkpoint into the names of a model.

    Args:
        expected: Names of the model: ours (``heads.*``), a bare encoder's, or those of another toolkit's model.
    """
    if all(name in state for name in expected):
        return dict(state)
    table = plain_names(state, source)
    tasks = {name.split('.')[1] for name in expected if name.startswith('heads.')}
    if not tasks or not any(plain.startswith(('head.', 'decode_head.')) for plain in table.values()):
        return {plain: state[name] for name, plain in table.items()}
    # A model that has one dense head settles what the shapes leave open (a part head of three classes).
    dense = tasks & {'seg', 'depth', 'normal'}
    hint = 'seg' if dense == {'seg'} and task_of_name(source) == 'seg' else None
    return to_ours(state, source, hint)


def check_facts(model: nn.Module, state: Mapping[str, torch.Tensor], meta: Mapping | None, source: str,
                skip: tuple[str, ...] = ()) -> None:  # fmt: skip
    """Compare what no shape shows.

    That is the number of attention heads and, for a head that is loaded, its vocabulary, the patch padding and the
    normalisation.

    Args:
        skip: Prefixes of parameters that are not loaded.

    Raises:
        CheckpointError: Another one; expected and found are named.
    """
    own = shapeless_facts(model)
    number = noted(meta, 'num_heads')
    if None not in (number, own.get('num_heads')) and number != own['num_heads']:
        raise CheckpointError(
            f'{source}: was trained with {number} attention heads, the config has {own["num_heads"]}; set num_heads in '
            f'model.backbone.arch to {number}'
        )
    heads = getattr(model, 'heads', None)
    if not isinstance(heads, nn.ModuleDict) or not {'backbone.pos_embed', 'backbone.patch_embed.projection.weight'} <= {
        *plain_names(state).values()
    }:
        return
    layout = recognise(state, source, meta)
    loaded = [
        task for task in heads if task in layout.heads and not f'heads.{task}.final_layer.weight'.startswith(skip)
    ]
    for task in loaded:
        vocabulary = getattr(heads[task], 'vocabulary', None)
        if vocabulary is not None:
            _check_vocabulary(task, vocabulary, layout, noted_vocabulary(meta, task), source)
    if not loaded:
        return
    padding, known = own.get('patch_padding'), layout.patch_padding
    if None not in (padding, known) and padding != known:
        raise CheckpointError(
            f'{source}: was trained with patch_padding={known}, the config has patch_padding={padding}; set '
            f'model.backbone.patch_padding={known} (if these weights differ from the published ones, note it in the '
            f'file: tools/convert_checkpoint.py IN OUT --patch-padding {padding})'
        )
    for name, values in (own.get('normalisation') or {}).items():
        there = noted(meta, 'normalisation', name)
        if isinstance(there, (list, tuple)) and list(there) != list(values):
            raise CheckpointError(
                f'{source}: was trained on images normalised by {name}={list(there)}, the config has '
                f'{name}={list(values)}; set model.data_preprocessor.{name}={list(there)}'
            )


def _check_vocabulary(
    task: str, vocabulary: KeypointVocabulary | PartVocabulary, layout: Layout, document: Mapping, source: str
) -> None:
    expected, found = len(vocabulary.names), layout.heads[task]
    name, what = layout.vocabularies.get(task), 'keypoints' if task == 'pose' else 'classes'
    # The names of a file's entries say more than its own name, which stays when they are reordered.
    theirs = [str(e.get('name') if isinstance(e, Mapping) else e) for e in document.get(what) or ()]
    moved = next((i for i, names in enumerate(zip(theirs, vocabulary.names, strict=False))
                  if name_key(names[0]) != name_key(names[1])), None)  # fmt: skip
    if found != expected or moved is not None or (document and not theirs and name != vocabulary.name):
        where = '' if moved is None else f': number {moved} is {theirs[moved]} there, {vocabulary.names[moved]} here'
        raise CheckpointError(
            f'{source}: its {task} head has {found} {what} ({name or "unknown vocabulary"}), the config expects '
            f'{expected} ({vocabulary.name}){where}; use the config of that vocabulary, or to train a new head '
            f"skip it: load_skip=['heads.{task}.final_layer.']"
        )


def to_published(state: Mapping[str, torch.Tensor], source: str = 'state dict') -> dict[str, torch.Tensor]:
    """Rename our names to the published ones; the reverse of `to_ours`.

    Raises:
        CheckpointError: Several dense heads, which the published layout has no place for.
    """
    tasks = {name.split('.')[1] for name in state if name.startswith('heads.')}
    dense = sorted(tasks - {'pose'})
    if len(dense) > 1:
        raise CheckpointError(
            f'{source}: has heads {", ".join(sorted(tasks))}; a published file holds one dense head, convert one '
            'with --task'
        )
    renamed = {}
    for name, tensor in state.items():
        if name.startswith('heads.pose.'):
            name = 'head.' + name[len('heads.pose.') :]
        elif name.startswith('heads.'):
            name = 'decode_head.' + name.split('.', 2)[2].replace('final_layer.', 'conv_seg.')
        renamed[name] = tensor
    return renamed
