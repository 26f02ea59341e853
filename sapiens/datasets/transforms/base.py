# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What all transforms share: their arguments are checked, settings come to them once, and what one lacks is named."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from numbers import Real
from pathlib import PurePath
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform

from ...errors import UserError

_MAKERS = {'bbox_center': 'PersonBox', 'bbox_scale': 'PersonBox',
           **dict.fromkeys(('img', 'img_shape', 'ori_shape', 'warp_mat'), 'LoadImage')}  # fmt: skip
"""Field of a sample -> the transform that makes it."""
_WANTED: dict[str, tuple[Any, int | None, str]] = {
    'str': ((str, PurePath), 0, 'a word'),
    'dict': (Mapping, 0, 'a dict'),
    **dict.fromkeys(('int', 'float'), (Real, 0, 'a number')),
    **dict.fromkeys(('tuple[int, int]', 'tuple[int, float]', 'tuple[float, float]'), (Real, 2, 'two numbers')),
    'tuple[int, int, int]': (Real, 3, 'three numbers'),
    **dict.fromkeys(('Sequence[int]', 'Sequence[float]'), (Real, None, 'a list of numbers')),
    'Sequence[str]': (str, None, 'a list of names'),
    'Sequence[Any]': (object, None, 'a list'),
}
"""Annotation -> the type of the thing (0) or of so many things (None: of any number), in words."""


class Transform(BaseTransform):
    """A step of a pipeline: a derived class has ``transform(results)``, which changes a sample and returns it."""

    def __call__(self, results: dict[str, Any]) -> Any:
        """Do it.

        Raises:
            UserError: The sample lacks what another transform would have made, which is named.
        """
        try:
            return self.transform(results)
        except KeyError as error:
            (field,) = error.args or (None,)
            if field not in _MAKERS or field in results:
                raise
            raise UserError(
                f'{results.get("img_path", "sample")}: {type(self).__name__} needs {field}, which '
                f'{_MAKERS[field]} makes; put {_MAKERS[field]} before it into the pipeline'
            ) from None


@dataclass(eq=False)
class SizedTransform(Transform):
    """A transform whose result has the size of the network's input.

    Args:
        input_size: ``(H, W)``; None takes the data set's.
    """

    input_size: Sequence[int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """``(H, W)``.

        Raises:
            UserError: Neither the transform nor the data set says it.
        """
        if self.input_size is None:
            raise UserError(f'{type(self).__name__} does not know the size of the input: give it, or the data set, '
                            'input_size=(H, W)')  # fmt: skip
        return int(self.input_size[0]), int(self.input_size[1])


def settle(pipeline: Any, **settings: Any) -> None:
    """Tell transforms, once, what holds for all samples of a data set, where their own arguments are silent.

    Args:
        pipeline: Transforms, or what holds some (a ``Compose``, ``RandomApply``, ...).
        **settings: Attribute -> value: ``input_size``, ``labels``, ``background``.

    Raises:
        UserError: An argument of a transform is no word or number, or no pair, where its class asks for one.
    """
    while hasattr(pipeline, 'transforms'):
        pipeline = pipeline.transforms
    for transform in pipeline:
        for field in fields(transform) if is_dataclass(transform) else ():
            check_argument(type(transform).__name__, field.name, getattr(transform, field.name), str(field.type))
        for name, value in settings.items():
            if value is not None and getattr(transform, name, value) is None:
                setattr(transform, name, value)
        if hasattr(transform, 'transforms'):
            settle(transform, **settings)


def check_argument(owner: str, name: str, value: Any, kind: str) -> None:
    """Compare a value with the annotation of its argument, where that asks for words, numbers, or several of something.

    Raises:
        UserError: It is none of what the annotation names, e.g. one number where a list of them is meant.
    """
    kinds = kind.replace('Sequence[int]', 'tuple[int, int]' if name == 'input_size' else 'Sequence[int]').split(' | ')
    if value is None and ('None' in kinds or kind in ('int', 'float')):
        return
    wanted = [_WANTED.get(one, (object, 0, '')) for one in kinds if one != 'None']
    if not any(_fits(value, *one) for one in wanted):
        raise UserError(f'{owner}: {name} is {value!r}; give {" or ".join(words for *_, words in wanted)}')


def _fits(value: Any, kind: Any, count: int | None, _: str) -> bool:
    if count == 0:
        return isinstance(value, kind)
    several = isinstance(value, (list, tuple, np.ndarray)) and count in (None, len(value))
    return several and all(isinstance(one, kind) for one in value)


def accept(**theirs: tuple) -> Callable[[Any], Any]:
    """Let a transform take mmpose's and mmsegmentation's words for its arguments, so that pipelines port.

    Args:
        **theirs: Their word -> ours, and what makes their value ours where they differ.
    """

    def decorate(kind: Any) -> Any:
        init = kind.__init__

        @functools.wraps(init)
        def translated(self: Any, *args: Any, **kwargs: Any) -> None:
            for word, (ours, *convert) in theirs.items():
                if word in kwargs:
                    value = kwargs.pop(word)
                    kwargs[ours] = convert[0](value) if convert else value
            init(self, *args, **kwargs)

        kind.__init__ = translated
        return kind

    return decorate
