# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What a filter is: scores of an image, which are stored, and a reason to drop it, which depends on scores alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from inspect import Parameter, signature
from typing import Any, ClassVar

import cv2
import numpy as np
from mmengine.config import ConfigDict

from ..datasets.image_files import decode_image, is_jpeg, upright_size
from ..errors import UserError
from ..registry import CURATION_STAGES
from ..utils import optional

need = partial(optional.need, purpose='curation', extra='curation')

RESOURCES = ('batch_size', 'num_cpus', 'num_gpus', 'workers')


@dataclass
class Item:
    """One image on its way through the stages.

    Attributes:
        size: ``(H, W)`` of the whole upright image.
        image: ``(h, w, 3)`` uint8 RGB, decoded at a fraction of its size where it is large.
    """

    name: str
    data: bytes
    size: tuple[int, int]
    image: np.ndarray

    @property
    def zoom(self) -> float:
        """What turns lengths in ``image`` into lengths in the whole image."""
        return self.size[1] / self.image.shape[1]


def open_item(name: str, data: bytes, view: int, max_pixels: float) -> Item:
    """Decode a file for the stages.

    Args:
        view: Larger JPEGs are decoded at 1/2, 1/4 or 1/8, but not below this length of the longer side.
        max_pixels: What claims more is not decoded.

    Raises:
        UserError: No readable image, or too large.
    """
    header = upright_size(data)
    if header and header[0][0] * header[0][1] > max_pixels:
        raise UserError(f'{name}: {header[0][1]}x{header[0][0]} pixels are more than {max_pixels:.0f}')
    factors = [f for f in (8, 4, 2) if header and is_jpeg(data) and max(header[0]) >= f * view]
    image = decode_image(data, name, factors[0] if factors else 1)
    return Item(name, data, header[0] if factors and header else image.shape[:2], image)


def scaled(image: np.ndarray, scale: float, least: int = 1) -> np.ndarray:
    """An image resized by a factor, averaged where it shrinks; no side falls below so many pixels."""
    size = [max(least, round(scale * side)) for side in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


class Stage:
    """A filter.

    Subclasses say in ``columns`` what they find (name -> kind: float, int, str, floats or halfs) and write
    ``score`` and, if they can drop an image, ``reason``, whose keyword arguments are the thresholds.

    Args:
        name: The stage's key in the config.
        reject: Thresholds that decide. Changing them repeats only the last job.
        gate: Looser thresholds: what they drop, later stages do not look at. None = they see everything.
        resources: ``batch_size``, ``num_cpus``, ``num_gpus`` and ``workers`` (a number or a range) of the stage;
            neighbours with the same resources share a process and decode once.

    Raises:
        UserError: A threshold that the stage does not know.
    """

    columns: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self, name: str, reject: dict | None = None, gate: dict | None = None, resources: dict | None = None
    ) -> None:
        self.name, self.thresholds, self.gate, self.resources = name, dict(reject or {}), gate, dict(resources or {})
        for key, value in self.resources.items():
            least_most = value if key == 'workers' and isinstance(value, (list, tuple)) and len(value) == 2 else [value]
            if key not in RESOURCES or not all(type(number) in (int, float) and number >= 0 for number in least_most):
                raise UserError(f"config: stage '{name}': resources are numbers, {', '.join(RESOURCES)} (or a range of "
                                f'workers), not {key} = {value!r}')  # fmt: skip
        known = signature(self.reason).parameters
        any_name = next((p.annotation for p in known.values() if p.kind is Parameter.VAR_KEYWORD), '')
        for given in (self.thresholds, gate or {}):
            for key, value in given.items():
                kind = str(known[key].annotation if key in known else any_name)
                fits = type(value) in (int, float) or (value is None and 'None' in kind)
                if re.search('int|float', kind) and not fits:
                    raise UserError(f"config: stage '{name}' ({type(self).__name__}): {key} is {value!r}, not a number")
            try:
                self.reason({}, **given)
            except KeyError:
                pass  # the thresholds are known; there is no such row
            except TypeError as error:
                raise UserError(f"config: stage '{name}' ({type(self).__name__}): {error}") from None

    def load(self) -> None:
        """Load models, in the process that uses them."""

    def score(self, items: list[Item]) -> list[dict[str, Any]]:
        """Values of ``columns`` for each image."""
        raise NotImplementedError

    def reason(self, row: Mapping[str, Any]) -> str | None:
        """Why a row of scores is dropped, in a few words that are the same for all that are dropped for it."""
        return None


def build_stages(config: Mapping[str, Any]) -> list[Stage]:
    """Stages of a config, in its order.

    Raises:
        UserError: A stage without a type, of an unknown one, or two that write the same column.
    """
    stages, owner = [], {}
    for name, part in config['stages'].items():
        if not isinstance(part, Mapping) or 'type' not in part:
            raise UserError(f"config: stage '{name}' needs a type, e.g. dict(type='ImageSize')")
        stages.append(CURATION_STAGES.build(ConfigDict(part, name=name)))
        for column in stages[-1].columns:
            if owner.setdefault(column, name) != name:
                raise UserError(f"config: stages '{owner[column]}' and '{name}' both write the column '{column}'")
    return stages
