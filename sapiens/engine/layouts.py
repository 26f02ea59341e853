# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Recognise a checkpoint by the names and shapes of its parameters: task, size, vocabulary, patch padding.

What the shapes tell is taken from them. Patch padding and the meaning of the classes are in no shape: they come from
the file's own notes, from its name, or from the published models whose head has that many outputs; else they stay
unknown.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..models.backbones import ARCHS
from .containers import CheckpointError

# Published heads: task -> outputs -> (vocabulary, patch padding).
PUBLISHED: dict[str, dict[int, tuple[str | None, int]]] = {
    'pose': {17: ('coco17', 2), 133: ('wholebody133', 2), 308: ('keypoints308', 2)},
    'seg': {20: ('parts20', 2), 28: ('parts28', 0)},
    'depth': {1: (None, 0)},
    'normal': {3: (None, 2)},
}
# What the outputs of a head are, in vocabularies.
KINDS = {'pose': 'keypoints', 'seg': 'parts'}
# (embed_dims, number of layers) -> size of the family.
SIZES = {(arch['embed_dims'], arch['num_layers']): name for name, arch in ARCHS.items()}
_WRAPPERS = {'module', '_orig_mod', '_fsdp_wrapped_module', '_fpw_module', '_checkpoint_wrapped_module',
             '_forward_module'}  # fmt: skip
ANCHOR = 'patch_embed.projection.weight'
"""The encoder's first weight, in its own names."""
_LAYER_PARTS = {'ln1', 'ln2', 'attn', 'qkv', 'proj', 'ffn', 'layers', 'weight', 'bias'}
_ENCODER = ('pos_embed', 'cls_token', 'patch_embed.', 'layers.', 'ln1.')
_DECODER = ('mask_token', 'decoder_')
# Words in file names that tell the task.
_TASK_WORDS = {
    'pose': r'pose|keypoint|kpt|coco|goliath_?308|wholebody',
    'seg': r'seg|parts?(?![a-z])|\d+cls|lip|cihp|face',
    'depth': r'depth',
    'normal': r'normal',
}


@dataclass(frozen=True)
class Layout:
    """What a checkpoint is.

    Attributes:
        arch: Size of the family (``'1b'``), or None for other widths.
        size: The same for people, who are told the widths.
        heads: Task -> number of outputs.
        vocabularies: Task -> name of the vocabulary, None where unknown.
        patch_padding: 0, 2 or None where unknown.
        cls_token: The position embedding has a cls row.
        decoder: There is an MAE decoder.
        tokens: Rows of the position embedding without the cls row.
    """

    arch: str | None = None
    size: str = ''
    heads: dict[str, int] = field(default_factory=dict)
    vocabularies: dict[str, str | None] = field(default_factory=dict)
    patch_padding: int | None = None
    cls_token: bool = False
    decoder: bool = False
    tokens: int = 0

    def __str__(self) -> str:
        heads = [
            f'{task} ({count}' + (f', {self.vocabularies[task]})' if self.vocabularies.get(task) else ')')
            for task, count in self.heads.items()
        ]
        parts = [f'encoder {self.size}'] + (['MAE decoder'] if self.decoder else []) + heads
        padding = 'unknown' if self.patch_padding is None else self.patch_padding
        return f'{", ".join(parts)}, patch padding {padding}'


def plain_names(names: Iterable[str], source: str = 'state dict') -> dict[str, str]:
    """Name in a file -> name with all prefixes as published: wrappers gone, ``backbone.`` and ``neck.`` there.

    DDP, FSDP, torch.compile and activation checkpointing put parts of their own into names, at any place. What stands
    before the model's own names (Lightning's ``model.``, ``net.``) is found by the encoder's first weight; names
    without it (``criterion.weight``) stay. A doubled ``backbone.backbone.`` becomes one.

    Raises:
        CheckpointError: Several models under prefixes of their own.
    """
    table = {name: '.'.join(part for part in name.split('.') if part not in _WRAPPERS) for name in names}
    root = _root(table.values(), source)
    for name, plain in table.items():
        plain = plain.removeprefix(root)
        if plain.startswith('backbone.backbone.'):
            plain = plain[len('backbone.') :]
        elif plain.startswith(_ENCODER):
            plain = f'backbone.{plain}'
        elif plain.startswith(_DECODER):
            plain = f'neck.{plain}'
        # A whole model under `backbone.`: its heads are still heads.
        found = re.match(r'backbone\.((?:head|decode_head|heads\.\w+|neck)\..*)', plain)
        table[name] = found.group(1) if found else plain
    return table


def _root(names: Collection[str], source: str) -> str:
    """What stands before the names of the model."""
    before = {name[: -len(ANCHOR)] for name in names if name.endswith(ANCHOR)}
    roots = {re.sub(r'(backbone\.)+$', '', prefix) for prefix in before}
    if len(roots) > 1 and '' not in roots:
        raise CheckpointError(
            f'{source}: holds several models, under {" and ".join(map(repr, sorted(roots)))}; save the one you want'
        )
    if roots:
        return '' if '' in roots else roots.pop()
    root = ''
    while names and all(name.startswith(f'{root}model.') for name in names):
        root += 'model.'
    return root


def unknown_wrappers(names: Iterable[str]) -> dict[str, str]:
    """Parts of the encoder's names, as `plain_names` gives them, that no encoder has: part -> a name with it."""
    found: dict[str, str] = {}
    for name in names:
        if name.startswith('backbone.layers.'):
            for part in name.split('.')[2:]:
                if not part.isdecimal() and part not in _LAYER_PARTS:
                    found.setdefault(part, name)
    return found


def task_of_name(source: str) -> str | None:
    """The one task that a file's name speaks of, or None."""
    stem = Path(source).name.lower()
    found = [task for task, words in _TASK_WORDS.items() if re.search(rf'(?<![a-z])(?:{words})', stem)]
    if len(found) > 1:  # the data's name may stand beside: "..._face_normal_..."
        found = [task for task in found if task in ('normal', 'depth')]
    return found[0] if len(found) == 1 else None


def dense_task(shapes: Mapping[str, tuple[int, ...]], source: str, task: str | None = None) -> str:
    """Task of the published ``decode_head`` among some parameters.

    Args:
        shapes: Of the parameters, by their plain names.
        source: File, for messages and for what its name tells.

    Raises:
        CheckpointError: A 29-class head, or a head that could be of two tasks.
    """
    channels = shapes['decode_head.conv_seg.weight'][0]
    # 4 in depth, 3 in the others.
    deconvolutions = sum(bool(re.fullmatch(r'decode_head\.deconv_layers\.\d+\.weight', name)) for name in shapes)
    if channels == 29 and task in (None, 'seg'):
        raise CheckpointError(
            f'{source}: its part head has 29 classes, the vocabulary of a later release (eyeglasses are inserted at '
            'id 2, so all later ids differ from those of parts28); use a 28-class checkpoint'
        )
    fitting = {'depth'} if channels == 1 and deconvolutions == 4 else {'normal'} if channels == 3 else set()
    if channels > 1:
        fitting.add('seg')
    named = task or task_of_name(source)
    if named in fitting:
        return named
    if task is not None:
        raise CheckpointError(f"{source}: its dense head has {channels} output(s), which is no head of task '{task}'")
    if channels == 3:
        return 'normal'  # the published layout; three part classes must be asked for
    if fitting == {'seg'} or fitting == {'depth'}:
        return next(iter(fitting))
    raise CheckpointError(
        f'{source}: cannot tell the task of a dense head with {channels} output(s) and {deconvolutions} '
        "deconvolutions; say it (task='depth' or 'seg')"
    )


def recognise(state: Mapping[str, torch.Tensor], source: str = '', meta: Mapping | None = None,
              task: str | None = None) -> Layout:  # fmt: skip
    """Recognise a checkpoint.

    Args:
        source: Its path, for messages and for what its name tells.
        meta: Plain data stored beside the weights; what it says comes first.
        task: Task of a published dense head, where the caller knows.

    Raises:
        CheckpointError: No encoder of ours in it, or a head that cannot be told.
    """
    shapes = {plain: tuple(state[name].shape) for name, plain in plain_names(state, source or 'state dict').items()}
    if 'backbone.patch_embed.projection.weight' not in shapes or 'backbone.pos_embed' not in shapes:
        kind = f'a {meta["container"]} that ' if meta and 'container' in meta else ''
        raise CheckpointError(
            f'{source or "state dict"}: {kind}holds no Sapiens encoder (patch_embed.projection.weight, pos_embed; it '
            f"has e.g. '{next(iter(state), 'nothing')}'); give the .pth or .safetensors of a Sapiens model"
        )
    dims = shapes['backbone.patch_embed.projection.weight'][0]
    layers = len({m.group(1) for m in (re.match(r'backbone\.layers\.(\d+)\.', n) for n in shapes) if m})
    arch = SIZES.get((dims, layers))
    cls_token = 'backbone.cls_token' in shapes
    heads, published = {}, False
    for name, shape in shapes.items():
        ours = re.fullmatch(r'heads\.(\w+)\.final_layer\.weight', name)
        if ours:
            heads[ours.group(1)] = shape[0]
        elif name == 'head.final_layer.weight':
            heads['pose'], published = shape[0], True
        elif name == 'decode_head.conv_seg.weight':
            heads[dense_task(shapes, source or 'state dict', task)], published = shape[0], True
    facts = {task: PUBLISHED.get(task, {}).get(count, (None, None)) for task, count in heads.items()}
    paddings = {fact[1] for fact in facts.values()}
    padding = noted(meta, 'patch_padding')
    if padding is None and published and len(paddings) == 1:
        padding = paddings.pop()
    return Layout(
        arch=arch,
        size=arch or f'{dims} x {layers} layers',
        heads=heads,
        vocabularies={task: noted_vocabulary(meta, task).get('name') or fact[0] for task, fact in facts.items()},
        patch_padding=padding,
        cls_token=cls_token,
        decoder=any(name.startswith(('neck.decoder_', 'neck.mask_token')) for name in shapes),
        tokens=shapes['backbone.pos_embed'][1] - int(cls_token),
    )


def noted_vocabulary(meta: Mapping | None, task: str) -> Mapping:
    """The document of a head's vocabulary that a file holds beside its weights; empty where there is none."""
    document = noted(meta, 'vocabularies', KINDS.get(task)) or noted(meta, 'tasks', task, 'vocabulary')
    return document if isinstance(document, Mapping) else {}


def noted_size(meta: Mapping | None, layout: Layout) -> tuple[int, int] | None:
    """The input size (H, W) that a file notes beside its weights, if its position embedding is of that size."""
    size, patch = noted(meta, 'img_size'), noted(meta, 'patch_size') or 16
    if not isinstance(size, (list, tuple)) or len(size) != 2 or not all(isinstance(n, int) for n in (*size, patch)):
        return None
    return (size[0], size[1]) if (size[0] // patch) * (size[1] // patch) == layout.tokens else None


def noted(meta: Any, *keys: Any) -> Any:
    """An entry of our own notes in a file, which may hold anything."""
    for key in ('sapiens', *keys):
        meta = meta.get(key) if isinstance(meta, Mapping) else None
    return meta
