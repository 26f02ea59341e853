# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What a checkpoint carries beside the weights, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, MessageHub
from torch import nn

from ..vocabularies import KeypointVocabulary, PartVocabulary
from .optim import find_encoders
from .unpickle import ForeignHistory, to_plain

# Facts of a run that a new process finds out itself.
_NOT_RESUMED = ('cfg', 'dataset_meta', 'loop_stage', 'max_iters', 'max_epochs', 'iter', 'epoch')


def describe_vocabulary(vocabulary: KeypointVocabulary | PartVocabulary) -> dict:
    """A vocabulary as the plain document that `sapiens.vocabularies.load_vocabulary` reads from a file."""
    names = vocabulary.names
    entries: list[dict] = [
        dict(name=name, swap=names[vocabulary.swap[i]], color=vocabulary.colors[i].tolist())
        for i, name in enumerate(names)
    ]
    document = dict(name=vocabulary.name, kind=vocabulary.kind, source=vocabulary.source)
    if isinstance(vocabulary, PartVocabulary):
        for entry, weight in zip(entries, vocabulary.weights.tolist(), strict=True):
            entry['weight'] = weight
        return {**document, 'classes': entries}
    for entry, sigma in zip(entries, vocabulary.sigmas.tolist(), strict=True):
        entry['sigma'] = sigma
    for group, members in vocabulary.groups.items():
        for i in members:
            entries[i]['group'] = group
    skeleton = [[names[a], names[b]] for a, b in vocabulary.skeleton]
    return to_plain({**document, 'keypoints': entries, 'skeleton': skeleton, 'maps': vocabulary.maps})


def vocabularies_of(model: nn.Module) -> dict[str, KeypointVocabulary | PartVocabulary]:
    """Vocabularies of a model's heads by their kind, ``'keypoints'`` or ``'parts'``."""
    found = (getattr(module, 'vocabulary', None) for module in model.modules())
    return {v.kind: v for v in found if isinstance(v, (KeypointVocabulary, PartVocabulary))}


def shapeless_facts(model: nn.Module) -> dict[str, Any]:
    """What the shapes of a model do not tell, but for its vocabularies.

    Returns:
        ``patch_padding``, ``patch_grid``, ``img_size``, ``patch_size``, ``num_heads`` and ``with_cls_token`` of the
        first encoder, and ``normalisation`` as ``{'mean': RGB, 'std': RGB}``; what a model lacks is left out.
    """
    facts: dict[str, Any] = {}
    for encoder in list(find_encoders(model).values())[:1]:
        facts['patch_padding'] = getattr(encoder.patch_embed, 'padding', None)
        for name in ('patch_grid', 'img_size', 'patch_size', 'num_heads'):
            facts[name] = getattr(encoder, name, None)
        facts['with_cls_token'] = getattr(encoder, 'cls_token', None) is not None
    facts['normalisation'] = getattr(getattr(model, 'data_preprocessor', None), 'normalisation', None)
    return to_plain({key: value for key, value in facts.items() if value is not None})


def describe_model(model: nn.Module) -> dict:
    """What the shapes of a model do not tell, for its checkpoints.

    Returns:
        `shapeless_facts` and ``vocabularies`` as ``{'keypoints': document, 'parts': document}``, where there are some.
    """
    documents = {kind: describe_vocabulary(v) for kind, v in vocabularies_of(model).items()}
    return {**shapeless_facts(model), **({'vocabularies': to_plain(documents)} if documents else {})}


def message_hub_state(hub: MessageHub) -> dict:
    """Logged scalars and resumable facts of a message hub as tensors and plain values."""
    state = hub.state_dict()
    scalars = {
        name: dict(
            log=torch.from_numpy(np.asarray(history.data[0], dtype=np.float64).copy()),
            count=torch.from_numpy(np.asarray(history.data[1], dtype=np.float64).copy()),
            max_length=history.max_length,
        )
        for name, history in state['log_scalars'].items()
    }
    info = {k: v for k, v in state['runtime_info'].items() if k not in _NOT_RESUMED}
    return dict(scalars=scalars, info=to_plain(info), resumed_keys=dict(state['resumed_keys']))


def restore_message_hub(hub: MessageHub, state: Mapping) -> None:
    """Put back what `message_hub_state` gave, or what mmengine's own runner saved."""
    histories = {}
    for name, item in (state.get('scalars') or state.get('log_scalars') or {}).items():
        if isinstance(item, ForeignHistory):
            histories[name] = HistoryBuffer(item.log_history, item.count_history, item.max_length)
        else:
            histories[name] = HistoryBuffer(item['log'].numpy(), item['count'].numpy(), item['max_length'])
    info = state.get('info') or state.get('runtime_info') or {}
    info = {k: v for k, v in info.items() if k not in _NOT_RESUMED}
    hub.load_state_dict(
        dict(
            log_scalars=histories,
            runtime_info=info,
            resumed_keys={k: v for k, v in state.get('resumed_keys', {}).items() if k in histories or k in info},
        )
    )
