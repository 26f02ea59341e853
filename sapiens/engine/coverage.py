# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""How much of a model a file of weights covers, and how much of the file the model."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from .containers import CheckpointError
from .layouts import ANCHOR

_LAYER = re.compile(r'(layers|blocks)\.\d+\.')
# Of an encoder: pretraining has tokens that finetuning has not, and the final norm is for the config to ask for.
_LEFT_OUT = re.compile(r'(cls_token|mask_token)$|ln1\.')


@dataclass
class CoverageReport:
    """What a load did, by parameter name.

    Attributes:
        loaded: Parameters and buffers that got the file's values, resized ones included.
        resized: Name -> ``((h, w) of the file, (h, w) of the model)`` of position embeddings that were resized.
        missing: In the model, not in the file: they keep their initial values.
        unexpected: In the file, not in the model: ignored.
        skipped: Left out because the caller asked for it.
        source: Where the weights came from.
    """

    loaded: list[str] = field(default_factory=list)
    resized: dict[str, tuple[tuple[int, int], tuple[int, int]]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    source: str = 'state dict'

    @property
    def complete(self) -> bool:
        """Whether every parameter of the model was loaded."""
        return not self.missing and not self.skipped

    def by_module(self) -> dict[str, Counter[str]]:
        """Counts of loaded, resized, missing, unexpected and skipped names for each top module."""
        table: dict[str, Counter[str]] = {}
        for kind in ('loaded', 'resized', 'missing', 'unexpected', 'skipped'):
            for name in getattr(self, kind):
                table.setdefault(module_of(name), Counter())[kind] += 1
        return table

    def __str__(self) -> str:
        lines = [f'weights from {self.source}:']
        for module, counts in self.by_module().items():
            lines.append(f'  {module}: ' + ', '.join(f'{n} {kind}' for kind, n in counts.items()))
        for name, (source, target) in self.resized.items():
            lines.append(f'  {name}: grid {source[0]}x{source[1]} resized to {target[0]}x{target[1]}')
        return '\n'.join(lines)


def module_of(name: str) -> str:
    """The part of a model that a parameter belongs to: ``'backbone'``, ``'heads.pose'``, ``'neck'``, ..."""
    parts = name.split('.')
    return '.'.join(parts[:2]) if parts[0] == 'heads' and len(parts) > 1 else parts[0]


def check_coverage(report: CoverageReport, has_encoder: bool, allow_partial: bool) -> None:
    """Refuse a load that leaves parameters at their initial values.

    Args:
        has_encoder: The model has parts, of which the encoder is one.
        allow_partial: Parts other than the encoder may be absent as a whole.

    Raises:
        CheckpointError: Parameters are missing; expected and found are named.
    """
    if report.missing and not report.loaded:
        raise CheckpointError(
            f'{report.source}: none of its parameters belongs to this model (it has e.g. '
            f"'{next(iter(report.unexpected), 'nothing')}', the model expects e.g. '{report.missing[0]}')"
        )
    part_of = module_of if has_encoder else (lambda name: '')
    for part in sorted(set(map(part_of, report.missing))):
        missing = [name for name in report.missing if part_of(name) == part]
        present = [name for name in report.loaded if part_of(name) == part]
        is_head = part not in ('', 'backbone')
        if is_head and allow_partial and not present:
            continue
        where = f' of {part}' if part else ''
        mend = 'give a checkpoint that has it'
        if is_head and not allow_partial:
            mend = 'give a checkpoint trained for this task, or allow partial loading to train it'
        near = [name for name in report.unexpected if name.rpartition('.')[2] == missing[0].rpartition('.')[2]]
        raise CheckpointError(
            f'{report.source}: {len(missing)} of {len(missing) + len(present)} parameters{where} are missing: expected '
            f"'{missing[0]}'" + (f", found e.g. '{near[0]}'" if near else '') + f'; {mend}'
        )


def check_surplus(report: CoverageReport, skip: tuple[str, ...]) -> None:
    """Refuse to leave out layers of a part that is loaded: the rest of it was trained with them.

    Args:
        skip: Prefixes of parameters that are left out on purpose.

    Raises:
        CheckpointError: The file has layers that the model has not; one is named.
    """
    encoder = next((prefix for prefix in ('backbone.', '') if f'{prefix}{ANCHOR}' in report.loaded), None)
    parts = set(map(module_of, report.loaded))
    for name in report.unexpected:
        if encoder is not None and name.startswith(encoder):
            used = not _LEFT_OUT.match(name.removeprefix(encoder))
        else:
            used = module_of(name) in parts and bool(_LAYER.search(name))
        if used and not name.startswith(skip):
            raise CheckpointError(
                f"{report.source}: has '{name}', which the model has not, so it would compute something else than what "
                'was trained; give the config of these weights'
            )
