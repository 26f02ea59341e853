# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What a file of weights holds, told without running it and without reading its numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from .containers import CheckpointError
from .files import find_state_dict, open_checkpoint, parts_of, read_checkpoint
from .hub import origin_of, resolve_weights
from .layouts import recognise
from .unpickle import to_plain


def describe_file(source: str | Path) -> str:
    """Describe a checkpoint of any origin in a few lines.

    Args:
        source: See `sapiens.engine.files.read_checkpoint`.

    Raises:
        CheckpointError: Missing, damaged, or it asks to run code.
    """
    path = resolve_weights(source)
    parts = list(path.iterdir()) if path.is_dir() else parts_of(path)
    if parts:
        (state, meta), data, kind = read_checkpoint(path), {}, 'checkpoint in parts'
        size = sum(part.stat().st_size for part in parts)
    else:
        with open_checkpoint(path) as content:
            data, meta, kind, size = content.data, content.meta, content.kind, content.size
            state = find_state_dict(data)
    dtypes: Counter = Counter()
    for tensor in state.values():
        dtypes[str(tensor.dtype).removeprefix('torch.')] += tensor.numel()
    numbers = ' + '.join(f'{count / 1e6:.2f} M {dtype}' for dtype, count in dtypes.most_common()) or 'no weights'
    lines = [f'{path}: {kind}, {size / 1e6:.1f} MB, {len(state)} tensors, {numbers}']
    if isinstance(data, Mapping):
        meta = meta or data.get('meta') or {}
        others = [str(k) for k, v in data.items() if k not in ('state_dict', 'meta') and not hasattr(v, 'dtype')]
        if others and (len(others) < len(data) or not state):
            lines.append(f'  beside the weights: {", ".join(others[:12])}')
    if isinstance(meta, Mapping) and meta:
        lines.append(f'  metadata: {", ".join(map(str, list(meta)[:12]))}')
    try:
        lines.append(f'  {recognise(state, str(path), to_plain(meta) if isinstance(meta, Mapping) else {})}')
    except CheckpointError as error:
        lines.append(f'  {str(error).removeprefix(f"{path}: ")}')
    origin = origin_of(path)
    if origin:
        revision = f'@{origin["revision"][:12]}' if 'revision' in origin else ''
        lines.append(f'  from {origin["repository"]}{revision}; licence {origin["licence"]} ({origin["licence_url"]})')
    return '\n'.join(lines)
