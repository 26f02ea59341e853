# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Files as other programs name them: backslashes, other Unicode forms, folders of another machine."""

from __future__ import annotations

import os
import re
import unicodedata
import zlib
from collections.abc import Hashable, Iterable, Iterator
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from ..errors import UserError


def find_file(folder: str, name: str) -> str:
    """Path of a file that a list or an annotation names, below a folder.

    Where there is no such file, other spellings are tried: slashes for backslashes, a name without blanks around it,
    composed or decomposed letters, ``%20`` and the like, ``file://``, Label Studio's ``/data/local-files/?d=``, a path
    that begins at the folder although it is absolute.

    Returns:
        A path that exists, else the plain one (reading it will say that it is missing).
    """
    plain = os.path.join(folder, name)
    if name.isascii() and not re.search(r'[\\%\s]|^[./]|^file:', name):
        return plain  # the usual case costs no look at the disk
    for spelling in _spellings(name):
        path = os.path.normpath(os.path.join(folder, spelling)) if spelling != name else plain
        if os.path.exists(path):
            return path
    return plain


def _spellings(name: str) -> Iterator[str]:
    yield name
    bare = re.sub(r'^(file://(localhost)?|/data/local-files/\?d=)', '', name.strip())
    for text in dict.fromkeys((name, name.strip(), bare, bare.replace('\\', '/'), unquote(bare))):
        for form in ('NFC', 'NFD'):
            spelling = unicodedata.normalize(form, text)
            yield spelling
            yield spelling.lstrip('/')


def short_name(name: str, most: int = 200) -> str:
    """A name of at most so many bytes, since files have 255 and endings come behind; a longer one gets a checksum."""
    data = name.encode(errors='surrogateescape')
    return name if len(data) <= most else data[: most - 20].decode(errors='ignore') + f'_{zlib.crc32(data):08x}'


def safe_stem(text: str) -> str:
    """Any text, say an image's id, as the name of a file without ending: letters, digits, ``_``, ``.`` and ``-``."""
    return short_name(re.sub(r'[^\w.-]+', '_', text).strip('.') or 'image')


def path_parts(name: str) -> tuple[str, ...]:
    """Folders and file name of a path of any system, or of a URL, in one spelling."""
    text = urlsplit(name).path if re.match(r'[a-z]+://', name) else name
    text = unicodedata.normalize('NFC', text.strip().replace('\\', '/'))
    return tuple(part for part in text.split('/') if part not in ('', '.', '..'))


class PathIndex:
    """Which entry of a file is about an image, by the longest matching end of its path.

    ``clip1/000001.jpg`` is found for ``photos/clip1/000001.jpg``; an entry without an extension, or a number, is found
    for any extension. A file name alone decides only where it is all that one of the two has.

    Args:
        entries: ``(key, name)`` pairs.
        source: Where they come from, for messages.
    """

    def __init__(self, entries: Iterable[tuple[Hashable, str]], source: str) -> None:
        self.source = source
        self._by_name: dict[str, list[tuple[tuple[str, ...], Hashable, str]]] = {}
        self._taken: dict[Hashable, tuple[str, ...]] = {}
        for key, name in entries:
            parts = path_parts(str(name))
            for form in _forms(parts):
                self._by_name.setdefault(form, []).append((parts, key, str(name)))

    def find(self, path: str) -> Hashable | None:
        """Key of the entry of an image; None when no entry is about it.

        Raises:
            UserError: Two entries may be meant, or one entry was found for another image already.
        """
        parts = path_parts(str(path))
        scores: dict[Hashable, tuple[tuple[int, bool], str]] = {}
        for form in _forms(parts):
            for known, key, text in self._by_name.get(form, ()):
                full = _forms(known)[0]
                if form != full and form in _forms(parts)[1:]:
                    continue  # a.jpg is not a.png: only a name without an extension stands for any
                length = _common_end(known[:-1], parts[:-1])
                absolute = re.match(r'[\\/]|[A-Za-z]:|[a-z]+://', text) is not None
                if length == min(len(known), len(parts)) - 1 or length > 0 or absolute:
                    score = (length, full == _forms(parts)[0])
                    scores[key] = max(scores.get(key, ((-1, False), '')), (score, text))
        if not scores:
            return None
        best = max(score for score, _ in scores.values())
        found = [(key, text) for key, (score, text) in scores.items() if score == best]
        if len(found) > 1:
            (first, one), (second, two) = found[:2]
            if one == two:
                raise UserError(f"{self.source}: '{one}' is listed twice, as {first} and as {second}; keep one")
            raise UserError(f"{self.source}: '{path}' may be '{one}' or '{two}'; name the images with their folders")
        key, text = found[0]
        other = self._taken.setdefault(key, parts)
        if _common_end(other[:-1], parts[:-1]) < min(len(other), len(parts)) - 1:
            raise UserError(f"{self.source}: '{text}' may be '{'/'.join(other)}' or '{path}'; name the images with "
                            'their folders')  # fmt: skip
        return key


def _forms(parts: tuple[str, ...]) -> tuple[str, ...]:
    """A file name as it is compared, with and without its extension; numbers without leading zeros."""
    if not parts:
        return ()
    names = dict.fromkeys((parts[-1], PurePosixPath(parts[-1]).stem))
    return tuple(name.lstrip('0') or '0' if name.isdecimal() else name for name in names)


def may_be_same(path: str, name: str) -> bool:
    """Whether a file may be what a list calls so (see `find_file`): folders, extension and leading zeros aside."""
    own = set(_forms(path_parts(path.rpartition('#')[2] if '.tar#' in path else path)))
    return any(own & set(_forms(path_parts(spelling))) for spelling in _spellings(name))


def _common_end(a: tuple[str, ...], b: tuple[str, ...]) -> int:
    pairs = list(zip(reversed(a), reversed(b), strict=False))
    return next((i for i, (x, y) in enumerate(pairs) if x != y), len(pairs))
