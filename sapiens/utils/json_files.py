# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""JSON and text as they enter from files: any Unicode encoding, and one line for whatever is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError


@contextmanager
def reading(path: str | Path, what: str = 'file', place: str = '') -> Iterator[None]:
    """Turn what the system says of a file that is read into one line.

    Args:
        path: The file.
        what: What it should be, for messages.
        place: What to check beside the path.

    Raises:
        UserError: Missing, a folder, or not readable.
    """
    try:
        yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f'{path}: no such {what}; check the path{place}') from None
    except IsADirectoryError:
        raise UserError(f'{path}: is a folder, not a {what}; check the path') from None
    except OSError as error:
        raise UserError(f'{path}: cannot be read ({error.strerror or error})') from None
    except ValueError as error:  # of a name that no file can have
        raise UserError(f'{str(path)!a}: cannot be read ({error})') from None


def read_file(path: str | Path, what: str = 'file') -> bytes:
    """Bytes of a file; see `reading`."""
    with reading(path, what):
        return Path(path).read_bytes()


def decode_text(data: bytes, name: str) -> str:
    """Text of UTF-8 or UTF-16 bytes, with or without a byte order mark.

    Raises:
        UserError: Some other encoding, or no text at all, such as an archive.
    """
    try:
        text = data.decode(json.detect_encoding(data))
    except UnicodeDecodeError:
        packed = data[:2] in (b'\x1f\x8b', b'PK', b'BZ')
        raise UserError(
            f'{name}: is {"compressed; unpack it" if packed else "not UTF-8 text; save it as UTF-8"}'
        ) from None
    return text.removeprefix('\ufeff')


def parse_json(data: bytes, name: str) -> Any:
    """Value of a JSON document.

    Args:
        data: The document, UTF-8 or UTF-16.
        name: What to call it in messages.

    Raises:
        UserError: Empty, malformed, cut off, or nested too deeply.
    """
    if not data.strip():
        raise UserError(f'{name}: not valid JSON (the file is empty); mend the file')
    text = decode_text(data, name)
    try:
        return json.loads(text)
    except RecursionError:
        raise UserError(f'{name}: not valid JSON (nested too deeply); mend the file') from None
    except ValueError as error:  # JSONDecodeError, and numbers of more digits than Python converts
        raise UserError(f'{name}: not valid JSON ({error}); mend the file') from None


def read_json(path: str | Path, what: str = 'file') -> Any:
    """Value of a JSON file; see `reading` and `parse_json` for what is raised."""
    return parse_json(read_file(path, what), str(path))


def read_names(path: str | Path) -> list[str]:
    """Names of a list of files, one a line; blank lines and ``#`` comments do not count.

    Raises:
        UserError: The file is missing, not text, or names nothing.
    """
    lines = (line.strip() for line in decode_text(read_file(path, 'file list'), str(path)).splitlines())
    names = [line for line in lines if line and not line.startswith('#')]
    if not names:
        raise UserError(f'{path}: names no file; write one path a line')
    return names


def as_numbers(value: Any, *shape: int) -> np.ndarray | None:
    """Numbers of a JSON value as float64: null is NaN, strings of numbers are numbers.

    Args:
        value: Lists of numbers, nested or flat, or a number.
        *shape: What the result must have, -1 for any length; none given takes whatever comes.

    Returns:
        None when some are no numbers, rows differ in length or the shape is another.
    """
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    if shape and (array.ndim != len(shape) or any(b not in (-1, a) for a, b in zip(array.shape, shape, strict=True))):
        return None
    return array
