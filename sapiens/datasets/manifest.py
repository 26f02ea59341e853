# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The manifest format ``sapiens-manifest/1``: a folder of images with any of our labels, read and written.

``manifest.json`` (the header) says which vocabularies and units hold and which files list the samples: ``.jsonl`` files
with one sample a line and paths relative to the folder, webdataset-style tar shards, or the ``manifest.json`` of other
folders with the same vocabularies and units. See `Manifest` for reading, `ManifestWriter` for writing, `pack_shards`
for turning a folder into shards, and `label_files` for the label files.
"""

from __future__ import annotations

import heapq
import io
import itertools
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from ..utils.file_names import find_file
from ..utils.files import replace_when_done, write_atomic
from ..utils.json_files import parse_json
from ..vocabularies import load_vocabulary
from .label_files import (
    NORMAL_AXES,
    decode_depth,
    decode_ids,
    decode_mask,
    decode_normals,
    encode_depth,
    encode_ids,
    encode_image,
    encode_normals,
    encode_npz,
)
from .storage import list_lines, list_tar, member_name, read_bytes, readable_name

__all__ = [
    'FORMAT',
    'LABELS',
    'Manifest',
    'ManifestWriter',
    'decode_depth',
    'decode_ids',
    'decode_mask',
    'decode_normals',
    'encode_depth',
    'encode_ids',
    'encode_image',
    'encode_normals',
    'encode_npz',
    'pack_shards',
]

FORMAT = 'sapiens-manifest/1'
LABELS = ('parts', 'depth', 'normals', 'mask', 'instances')
_IMAGE_EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')


class Manifest:
    """A manifest opened for reading; nothing but the header is read until `entries` is walked.

    Args:
        path: The folder or its ``manifest.json``.

    Attributes:
        folder: The folder.
        header: The header; ``depth_scale`` and ``normal_axes`` are always there.

    Raises:
        UserError: No header, malformed JSON, another format, unknown axes.
    """

    def __init__(self, path: str | Path) -> None:
        path = Path(path)
        self.path = path if path.suffix == '.json' else path / 'manifest.json'
        self.folder = self.path.parent
        header = _object(read_bytes(str(self.path)), str(self.path))
        if header.get('format') != FORMAT:
            raise UserError(f"{self.path}: format is {header.get('format')!r}, this program reads '{FORMAT}'")
        self.header: dict[str, Any] = {
            'depth_scale': 0.001,
            'normal_axes': 'x-right y-up z-viewer',
            'files': ['manifest.jsonl'],
            **header,
        }
        axes, scale, files = (self.header[key] for key in ('normal_axes', 'depth_scale', 'files'))
        if not isinstance(axes, str) or axes not in NORMAL_AXES:
            raise UserError(f"{self.path}: unknown normal_axes '{axes}'; "
                            f'known are {", ".join(map(repr, NORMAL_AXES))}')  # fmt: skip
        if not isinstance(files, list) or not all(isinstance(name, str) and name for name in files):
            raise UserError(f'{self.path}: "files" must be a list of file names, not {files!r}')
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or not 0 < scale < 1e9:
            raise UserError(f'{self.path}: "depth_scale" must be a number above 0 (metres per unit), not {scale!r}')
        for key in ('keypoints', 'parts'):
            if not isinstance(self.header.get(key), (str, type(None))):
                raise UserError(f'{self.path}: "{key}" must be the name or file of a vocabulary; mend the file')

    def entries(self, parse: bool = True) -> Iterator[dict[str, Any]]:
        """Walk the samples.

        Args:
            parse: Also read each sample's record where that is not needed to find its files (tar shards).

        Yields:
            ``id``; ``record``, the reference of the sample's JSON (see `read_record`); ``files``, references of
            ``'image'`` and of each label there is; and ``fields``, the parsed record (None if not parsed).

        Raises:
            UserError: A malformed line, a sample without an image, a broken shard.
        """
        for name in self.header['files']:
            path = self.folder / name
            if path.suffix == '.json':
                yield from self._part(path).entries(parse)
                continue
            yield from self._from_shard(path, parse) if path.suffix == '.tar' else self._from_lines(path)

    def _part(self, path: Path) -> Manifest:
        """Another manifest that this one lists."""
        part = Manifest(path)
        meaning = ('keypoints', 'parts', 'depth_scale', 'normal_axes')
        differing = [key for key in meaning if part.header.get(key) != self.header.get(key)]
        if differing or part.path.samefile(self.path):
            raise UserError(f'{self.path}: lists {path}, which has another {", ".join(differing) or "place: itself"}')
        return part

    def _from_lines(self, path: Path) -> Iterator[dict[str, Any]]:
        for reference, line in list_lines(path):
            name = readable_name(reference)
            fields = _record(line, name)
            if not isinstance(fields.get('image'), str) or not fields['image']:
                raise UserError(f'{name}: the sample has no "image"; every line needs one')
            files = {kind: fields[kind] for kind in ('image', *LABELS) if fields.get(kind)}
            wrong = [kind for kind, file in files.items() if not isinstance(file, str)]
            if wrong:
                raise UserError(f'{name}: "{wrong[0]}" must be the path of a file; mend the line')
            files = {kind: find_file(str(self.folder), file) for kind, file in files.items()}
            sample_id = fields.get('id', Path(fields['image']).stem)
            yield {'id': sample_id, 'record': reference, 'files': files, 'fields': fields}

    def _from_shard(self, path: Path, parse: bool) -> Iterator[dict[str, Any]]:
        samples: dict[str, dict[str, str]] = {}
        for name, reference in list_tar(path).items():
            # webdataset naming: the key ends at the first dot of the file name.
            folder, _, file = name.rpartition('/')
            key, _, kind = file.partition('.')
            samples.setdefault(f'{folder}/{key}' if folder else key, {})['.' + kind.lower()] = reference
        for key, members in samples.items():
            image = next((members[e] for e in _IMAGE_EXTENSIONS if e in members), None)
            if image is None or '.json' not in members:
                raise UserError(
                    f"{path}: sample '{key}' lacks its {'.json' if image else 'image'}; pack the shard again"
                )
            files = {'image': image}
            files.update({kind.split('.')[1]: r for kind, r in members.items() if kind.split('.')[1] in LABELS})
            fields = self.read_record(members['.json']) if parse else None
            yield {'id': key, 'record': members['.json'], 'files': files, 'fields': fields}

    @staticmethod
    def read_record(reference: str) -> dict[str, Any]:
        """Parse a sample's record again, by the reference that `entries` gave."""
        return _record(read_bytes(reference), readable_name(reference))


def _object(data: bytes, name: str) -> dict[str, Any]:
    value = parse_json(data, name)
    if not isinstance(value, dict):
        raise UserError(f'{name}: must hold a JSON object {{...}}, not a {type(value).__name__}')
    return value


def _record(data: bytes, name: str) -> dict[str, Any]:
    """A sample's record, with ``persons`` that are a list of objects."""
    record = _object(data, name)
    persons = record.get('persons') or []
    if not isinstance(persons, list) or not all(isinstance(person, dict) for person in persons):
        raise UserError(f'{name}: "persons" must be a list of {{...}}; mend the line')
    if not isinstance(record.get('id', ''), (str, int)):
        raise UserError(f'{name}: "id" must be a name or a number; mend the line')
    return {**record, 'persons': persons}


class ManifestWriter:
    """Write a manifest folder sample by sample; safe to kill, to resume and to use from several processes.

    Every file is written under a temporary name and renamed. A sample counts as written when its record
    (``records/ID.json``) appears, which comes last. `close` gathers all records into ``manifest.jsonl``, sorted by id,
    and is called by one process when the others are done; leaving a ``with`` block calls it, also after an error, so
    whatever was finished can be read.

    Args:
        folder: Where to write; an existing manifest is continued.
        keypoints: Name of the keypoint vocabulary of ``persons``.
        parts: Name of the part vocabulary of ``parts``.
        depth_scale: Metres per unit of the 16-bit depth files.
        normal_bits: 8 or 16 bits a channel.
        image_extension: ``'.jpg'`` or ``'.png'``.
        quality: JPEG quality.
        **metadata: Anything else for the header (JSON values).

    Raises:
        UserError: The folder holds a manifest with other vocabularies or units.
    """

    def __init__(
        self,
        folder: str | Path,
        keypoints: str | None = None,
        parts: str | None = None,
        depth_scale: float = 0.001,
        normal_bits: int = 8,
        image_extension: str = '.jpg',
        quality: int = 95,
        **metadata: Any,
    ) -> None:
        self.folder = Path(folder)
        self.depth_scale, self.normal_bits = depth_scale, normal_bits
        self.image_extension, self.quality = image_extension, quality
        self.num_keypoints = load_vocabulary(keypoints).num_keypoints if keypoints else None
        self.num_classes = load_vocabulary(parts).num_classes if parts else None
        meaning = {'format': FORMAT, 'keypoints': keypoints, 'parts': parts, 'depth_scale': depth_scale,
                   'normal_axes': 'x-right y-up z-viewer'}  # fmt: skip
        path = self.folder / 'manifest.json'
        if path.exists():
            old = Manifest(path).header
            differing = [k for k, v in meaning.items() if old.get(k) != v]
            if differing or old['files'] != ['manifest.jsonl']:
                raise UserError(f'{path}: holds a manifest with another {", ".join(differing) or "layout"}; '
                                'choose an empty folder')  # fmt: skip
        write_atomic(path, _dump({**meaning, 'files': ['manifest.jsonl'], **metadata}, indent=1))
        self._gathered = {key for key, _ in self._read_lines()}

    def __contains__(self, sample_id: str) -> bool:
        return sample_id in self._gathered or self._record_path(sample_id).exists()

    def __len__(self) -> int:
        return len(self._gathered | {p.stem for p in self._record_paths()})

    def write(
        self,
        sample_id: str,
        image: np.ndarray,
        parts: np.ndarray | None = None,
        depth: np.ndarray | None = None,
        normals: np.ndarray | None = None,
        mask: np.ndarray | None = None,
        instances: np.ndarray | None = None,
        persons: list[dict[str, Any]] | None = None,
        **fields: Any,
    ) -> None:
        """Write one sample; nothing happens if it is there already.

        Args:
            sample_id: File name without extension; no ``/`` and no dot.
            image: ``(H, W, 3)`` uint8 RGB.
            parts: ``(H, W)`` ids of the part vocabulary; 255 = ignore.
            depth: ``(H, W)`` metres; 0, NaN or infinity = unknown.
            normals: ``(H, W, 3)`` unit, x right, y up, z to the viewer; (0, 0, 0) = unknown.
            mask: ``(H, W)``; nonzero = person.
            instances: ``(H, W)`` ids, 0 = background, i = ``persons[i - 1]``.
            persons: Each ``{'bbox': [x, y, w, h], 'keypoints': (K, 3) of x, y, v, ...}``.
            **fields: More for the record, e.g. ``camera={'K': [[fx, 0, cx], [0, fy, cy], [0, 0, 1]]}``.

        Raises:
            UserError: Labels and image differ in size, ids outside the vocabulary, a wrong number of keypoints.
        """
        if '.' in sample_id or '/' in sample_id or not sample_id:
            raise UserError(f"sample id '{sample_id}' must not be empty or hold '.' or '/': it becomes a file name")
        if sample_id in self:
            return
        height, width = image.shape[:2]
        labels = {'parts': parts, 'depth': depth, 'normals': normals, 'mask': mask, 'instances': instances}
        labels = {k: v for k, v in labels.items() if v is not None}
        for kind, array in labels.items():
            if array.shape[:2] != (height, width):
                raise UserError(f"sample '{sample_id}': {kind} is {array.shape[:2]}, the image {(height, width)}")
        if parts is not None and self.num_classes:
            outside = parts[(parts >= self.num_classes) & (parts != 255)]
            if outside.size:
                raise UserError(
                    f"sample '{sample_id}': part id {outside.max()} is outside the {self.num_classes} classes"
                )
        record = {
            'id': sample_id,
            'image': f'images/{sample_id}{self.image_extension}',
            'width': width,
            'height': height,
        }
        record.update({kind: f'{kind}/{sample_id}.png' for kind in labels})
        record['persons'] = [self._person(p, sample_id) for p in persons or []]
        write_atomic(self.folder / record['image'], encode_image(image, self.image_extension, self.quality))
        for kind, array in labels.items():
            write_atomic(self.folder / record[kind], self._encode(kind, array))
        write_atomic(self._record_path(sample_id), _dump({**record, **fields}))

    def close(self) -> None:
        """Gather every finished sample into ``manifest.jsonl``."""
        records = self._record_paths()
        new = ((path.stem, path.read_bytes()) for path in records)
        # Both are sorted, and neither need fit into memory.
        merged = heapq.merge(self._read_lines(), new, key=lambda pair: pair[0])
        groups = itertools.groupby(merged, key=lambda pair: pair[0])
        write_atomic(self.folder / 'manifest.jsonl', (next(group)[1] for _, group in groups))
        self._gathered |= {path.stem for path in records}
        for path in records:
            path.unlink()
        if records and not any((self.folder / 'records').iterdir()):
            (self.folder / 'records').rmdir()

    def __enter__(self) -> ManifestWriter:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _encode(self, kind: str, array: np.ndarray) -> bytes:
        if kind == 'depth':
            return encode_depth(array, self.depth_scale)
        if kind == 'normals':
            return encode_normals(array, self.normal_bits)
        return encode_ids(np.asarray(array) != 0 if kind == 'mask' else array)

    def _person(self, person: dict[str, Any], sample_id: str) -> dict[str, Any]:
        keypoints = person.get('keypoints')
        if keypoints is not None and np.shape(keypoints) != (self.num_keypoints, 3):
            raise UserError(f"sample '{sample_id}': keypoints are {np.shape(keypoints)}, "
                            f'the vocabulary asks for {(self.num_keypoints, 3)}')  # fmt: skip
        return {k: np.round(v, 3).tolist() if k in ('bbox', 'keypoints') else v for k, v in person.items()}

    def _record_path(self, sample_id: str) -> Path:
        return self.folder / 'records' / f'{sample_id}.json'

    def _record_paths(self) -> list[Path]:
        return sorted((self.folder / 'records').glob('[!.]*.json'), key=lambda path: path.stem)

    def _read_lines(self) -> Iterator[tuple[str, bytes]]:
        path = self.folder / 'manifest.jsonl'
        if path.exists():
            for reference, line in list_lines(path):
                yield str(_record(line, readable_name(reference)).get('id')), line.rstrip(b'\n') + b'\n'


def pack_shards(source: str | Path, target: str | Path, samples_per_shard: int = 1000) -> list[Path]:
    """Copy a manifest folder into webdataset-style tar shards; resumable, since finished shards are kept.

    Args:
        source: Folder with ``.jsonl`` files.
        target: Folder for ``shards/000000.tar``, ... and the header, which is written last.
        samples_per_shard: Samples in a shard.

    Returns:
        Paths of the shards.
    """
    manifest, target = Manifest(source), Path(target)
    entries = list(manifest.entries())
    (target / 'shards').mkdir(parents=True, exist_ok=True)
    shards = []
    for number, start in enumerate(range(0, len(entries), samples_per_shard)):
        shards.append(target / 'shards' / f'{number:06d}.tar')
        if not shards[-1].exists():
            _pack(entries[start : start + samples_per_shard], shards[-1])
    header = {**manifest.header, 'files': [f'shards/{s.name}' for s in shards]}
    write_atomic(target / 'manifest.json', _dump(header, indent=1))
    return shards


def _pack(entries: list[dict[str, Any]], path: Path) -> None:
    with replace_when_done(path) as temporary, tarfile.open(temporary, 'w') as tar:
        for entry in entries:
            if '.' in str(entry['id']) or '/' in str(entry['id']):
                raise UserError(f"sample id '{entry['id']}' must not hold '.' or '/' to become a member of a shard")
            members = {'.json': _dump(entry['fields'])}
            for kind, reference in entry['files'].items():
                suffix = Path(member_name(reference)).suffix.lower()
                members[suffix if kind == 'image' else f'.{kind}{suffix}'] = read_bytes(reference)
            for suffix, data in members.items():
                info = tarfile.TarInfo(f'{entry["id"]}{suffix}')
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))


def _dump(value: dict[str, Any], indent: int | None = None) -> bytes:
    return (json.dumps(value, indent=indent, separators=None if indent else (',', ':')) + '\n').encode()
