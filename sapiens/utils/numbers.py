# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Numbers that people write into configs."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

from ..errors import UserError


def check_number(
    name: str,
    value: Any,
    least: float = 0,
    most: float = math.inf,
    *,
    above: bool = False,
    below: bool = False,
    whole: bool = False,
    hint: str = '',
) -> None:
    """Say at once that a value is no number that makes sense; training would go on with it, or end in mid-step.

    Args:
        name: Of whose argument it is, e.g. ``'SiLogLoss.lam'``.
        least, most: Smallest and largest number that makes sense; infinity and NaN never do.
        above, below: It must be above ``least``, below ``most``.
        whole: It is a number of things.
        hint: What to say behind it.

    Raises:
        UserError: It is not.
    """
    number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
    ends = number and ((above and value == least) or (below and value == most))
    if number and math.isfinite(value) and least <= value <= most and not ends:
        return
    limits = f'{"above" if above else "of at least"} {least:g}'
    limits += f' and {"below" if below else "at most"} {most:g}' * math.isfinite(most)
    raise UserError(f'{name} is {value!r}; give a {"whole " * whole}number {limits}{hint}')
