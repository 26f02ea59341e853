# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Load weights into a model, say what was covered, and refuse when the model would run on random weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..models.backbones.low_rank import is_adapter, merge_adapters
from ..models.backbones.pos_embed import resize_grid
from .adapters import adapt, check_facts
from .containers import CheckpointError
from .coverage import CoverageReport, check_coverage, check_surplus, module_of
from .files import check_finite, find_state_dict, read_checkpoint
from .layouts import noted


def resize_pos_embed(
    pos_embed: torch.Tensor,
    source_grid: tuple[int, int],
    target_grid: tuple[int, int],
    source_extra: int = 0,
    target_extra: int = 0,
) -> torch.Tensor:
    """Resize a position embedding between any two grids, bicubically (``align_corners=False``).

    Args:
        pos_embed: ``(1, source_extra + h * w, C)``; the rows of extra tokens (cls) come first.
        source_grid: ``(h, w)`` of the embedding; need not be square.
        target_grid: ``(h', w')`` wanted.
        source_extra: Number of extra rows given (1 with a cls token).
        target_extra: Number of extra rows wanted; missing ones are zero, surplus ones are dropped.

    Returns:
        ``(1, target_extra + h' * w', C)`` of the same dtype.

    Raises:
        CheckpointError: The number of rows does not fit ``source_grid``.
    """
    if pos_embed.ndim != 3 or pos_embed.shape[1] != source_extra + math.prod(source_grid):
        raise CheckpointError(
            f'a position embedding of shape {tuple(pos_embed.shape)} does not fit a grid of '
            f'{source_grid[0]}x{source_grid[1]} and {source_extra} extra token(s)'
        )
    extra, patches = pos_embed[:, :source_extra], pos_embed[:, source_extra:]
    patches = resize_grid(patches, source_grid, target_grid)
    extra = extra[:, :target_extra]
    lacking = target_extra - extra.shape[1]
    if lacking:
        extra = torch.cat([extra, pos_embed.new_zeros(1, lacking, pos_embed.shape[2])], dim=1)
    return torch.cat([extra, patches], dim=1).contiguous()


def infer_grid(patches: torch.Tensor, target_grid: tuple[int, int]) -> tuple[int, int]:
    """Find the grid ``(h, w)`` of a position embedding whose file does not say it.

    Candidates are the model's own grid, a grid of the model's aspect, a square, and the 4:3 portrait of the
    published models, in this order. A later one is taken instead of an earlier one only when the embedding is
    clearly smoother on it, since the embedding of neighbours is alike on the true grid alone.

    Args:
        patches: ``(1, N, C)`` without extra rows.
        target_grid: ``(h, w)`` of the model.

    Raises:
        CheckpointError: N is none of these.
    """
    count = patches.shape[1]
    candidates: list[tuple[int, int]] = []
    for rows, columns in (target_grid, (1, 1), (4, 3), (3, 4)):
        scale = math.sqrt(count / (rows * columns))
        grid = (round(rows * scale), round(columns * scale))
        if math.prod(grid) == count and grid[0] * columns == grid[1] * rows and grid not in candidates:
            candidates.append(grid)
    if not candidates:
        raise CheckpointError(
            f'cannot tell the grid of a position embedding with {count} patches: it is neither square nor 4:3 nor of '
            f'the aspect of the model ({target_grid[0]}x{target_grid[1]}); note it as sapiens.patch_grid in its meta'
        )

    def roughness(grid: tuple[int, int]) -> float:
        planes = patches.float().reshape(*grid, -1)
        steps = [planes.diff(dim=axis).abs().mean() for axis in (0, 1) if grid[axis] > 1]
        return float(sum(steps)) if steps else 0.0

    best, best_roughness = candidates[0], roughness(candidates[0])
    for grid in candidates[1:]:
        value = roughness(grid)
        if value < 0.8 * best_roughness:
            best, best_roughness = grid, value
    return best


def _fit_position(
    model: nn.Module, name: str, state: Mapping[str, torch.Tensor], grid: Any, report: CoverageReport
) -> torch.Tensor:
    """A position embedding on the grid of the module that owns it; as it is if the module has none."""
    tensor, (path, _, leaf) = state[name], name.rpartition('.')
    module = model.get_submodule(path)
    target: Any = getattr(module, 'patch_grid', None)
    if target is None or tensor.ndim != 3:
        return tensor
    extra = 1 if leaf == 'decoder_pos_embed' else int(name.removesuffix('pos_embed') + 'cls_token' in state)
    source = tuple(grid) if isinstance(grid, (list, tuple)) else infer_grid(tensor[:, extra:], target)
    if source != target:
        report.resized[name] = source, target
    return resize_pos_embed(tensor, source, target, extra, getattr(module, leaf).shape[1] - math.prod(target))


def fit_state_dict(
    model: nn.Module,
    state: Mapping[str, torch.Tensor],
    meta: Mapping | None = None,
    *,
    allow_partial: bool = False,
    skip: str | Sequence[str] = (),
    source: str = 'state dict',
) -> tuple[dict[str, torch.Tensor], CoverageReport]:
    """Choose and resize the tensors that a model takes, and check that they cover it.

    Args:
        model: Anything whose encoder is ours; its values are not read.
        state: Tensors by name, in our layout or a published one (see `adapters`); prefixes of DDP and torch.compile
            are removed, ``backbone.`` is added or removed as the model needs.
        meta: Plain data stored beside the weights; ``meta['sapiens']['patch_grid']`` is the source grid.
        allow_partial: Parts other than the encoder may be absent from the file as a whole (finetuning gives the
            model a new head). A part that is there must be there whole and fit.
        skip: Prefix or prefixes of names to leave at their initial values, e.g. ``('heads.pose.final_layer',)``.
        source: Named in messages; its name may tell what the shapes do not.

    Returns:
        ``(fitted, report)``; ``fitted`` holds only names of the model, with the model's shapes.

    Raises:
        CheckpointError: A parameter is missing or does not fit; the message names expected and found.
    """
    numbers = model.state_dict()
    expected = {name: tuple(tensor.shape) for name, tensor in numbers.items()}
    skip = (skip,) if isinstance(skip, str) else tuple(skip)
    check_facts(model, state, meta, source, skip)
    # Adapters that no file knows begin as nothing; a plain model takes what they have learnt into its weights.
    if not any(map(is_adapter, state)):
        expected = {name: shape for name, shape in expected.items() if not is_adapter(name)}
    elif not any(map(is_adapter, expected)):
        state = merge_adapters(state)
    state = adapt(state, expected, source)
    # A file of an encoder alone fits a whole model, and a whole file a bare encoder.
    added = {f'backbone.{key}': value for key, value in state.items()}
    bare = {k.removeprefix('backbone.'): v for k, v in state.items() if k.startswith('backbone.')}
    state = max((state, added, bare), key=lambda names: sum(key in expected for key in names))
    has_encoder = any(name.startswith('backbone.') for name in expected)
    report = CoverageReport(source=source)
    report.skipped = [name for name in expected if name.startswith(skip)]
    fitted: dict[str, torch.Tensor] = {}
    for name, shape in expected.items():
        if name in report.skipped:
            continue
        if name not in state:
            report.missing.append(name)
            continue
        tensor = state[name]
        if name.endswith('pos_embed'):
            tensor = _fit_position(model, name, state, noted(meta, 'patch_grid'), report)
        if tuple(tensor.shape) != shape:
            part = module_of(name)
            advice = (
                f"to train a new one, skip it: load_skip=['{name.rpartition('.')[0]}.']"
                if has_encoder and part != 'backbone'
                else 'give the checkpoint of the same architecture'
            )
            raise CheckpointError(
                f'{source}: {name} does not fit: the model expects {list(shape)}, the file has '
                f'{list(state[name].shape)}; {advice}'
            )
        if numbers[name].is_floating_point() and not tensor.is_floating_point():
            raise CheckpointError(
                f'{source}: {name} holds {str(tensor.dtype).removeprefix("torch.")}, as quantised files do; give the '
                'weights that it was made from'
            )
        fitted[name] = tensor
        report.loaded.append(name)
    report.unexpected = [name for name in state if name not in expected]
    check_coverage(report, has_encoder, allow_partial)
    if not allow_partial:  # a smaller model may begin with the first layers of a larger one
        check_surplus(report, skip)
    check_finite(fitted, source)
    return fitted, report


def load_model_weights(
    model: nn.Module,
    path_or_state: str | Path | Mapping[str, torch.Tensor],
    allow_partial: bool = False,
    **options: Any,
) -> CoverageReport:
    """Load weights into a model, or fail before anything is changed.

    Args:
        path_or_state: Checkpoint file (see `read_checkpoint`) or a state dict, in our layout or a published one.
        allow_partial, **options: See `fit_state_dict`; a file brings its own ``meta`` and ``source``.

    Returns:
        What was loaded, resized, missing and unexpected.

    Raises:
        CheckpointError: Missing, damaged or unsafe file, or one for another model.
    """
    if isinstance(path_or_state, (str, Path)):
        state, meta = read_checkpoint(path_or_state)
        options.update(meta=meta, source=str(path_or_state))
    else:
        state = find_state_dict(path_or_state)
    fitted, report = fit_state_dict(model, state, allow_partial=allow_partial, **options)
    model.load_state_dict(fitted, strict=False)
    return report
