# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Write the manifest format (see `manifest`): a folder sample by sample, and a folder as tar shards."""

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
from ..structures.geometry import OUR_AXES
from ..utils.files import replace_when_done, write_atomic
from ..vocabularies import load_keypoints, load_parts
from .label_files import encode_depth, encode_ids, encode_image, encode_normals
from .manifest import FORMAT, Manifest, parse_record
from .shard_index import INDEX_NAME
from .storage import list_lines, member_name, read_bytes, readable_name, walk_tar


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
        self.num_keypoints = load_keypoints(keypoints).num_keypoints if keypoints else None
        self.num_classes = load_parts(parts).num_classes if parts else None
        meaning = {'format': FORMAT, 'keypoints': keypoints, 'parts': parts, 'depth_scale': depth_scale,
                   'normal_axes': OUR_AXES}  # fmt: skip
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
        given = {'parts': parts, 'depth': depth, 'normals': normals, 'mask': mask, 'instances': instances}
        labels = {kind: array for kind, array in given.items() if array is not None}
        for kind, array in labels.items():
            if array.shape[:2] != (height, width):
                raise UserError(f"sample '{sample_id}': {kind} is {array.shape[:2]}, the image {(height, width)}")
        if parts is not None and self.num_classes:
            outside = parts[(parts >= self.num_classes) & (parts != 255)]
            if outside.size:
                raise UserError(
                    f"sample '{sample_id}': part id {outside.max()} is outside the {self.num_classes} classes"
                )
        record: dict[str, Any] = {
            'id': sample_id,
            'image': f'images/{sample_id}{self.image_extension}',
            'width': width,
            'height': height,
        }
        record.update({kind: f'{kind}/{sample_id}.png' for kind in labels})
        record['persons'] = [self._person(p, sample_id) for p in persons or []]
        write_atomic(self.folder / record['image'], encode_image(image, self.image_extension, self.quality))
        for kind, array in labels.items():
            write_atomic(self.folder / record[kind], encode_label(kind, array, self.depth_scale, self.normal_bits))
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

    def _person(self, person: dict[str, Any], sample_id: str) -> dict[str, Any]:
        keypoints = person.get('keypoints')
        if keypoints is not None and np.shape(keypoints) != (self.num_keypoints, 3):
            raise UserError(f"sample '{sample_id}': keypoints are {np.shape(keypoints)}, "
                            f'the vocabulary asks for {(self.num_keypoints, 3)}')  # fmt: skip
        return {k: _numbers(v) if k in ('bbox', 'keypoints') else v for k, v in person.items()}

    def _record_path(self, sample_id: str) -> Path:
        return self.folder / 'records' / f'{sample_id}.json'

    def _record_paths(self) -> list[Path]:
        return sorted((self.folder / 'records').glob('[!.]*.json'), key=lambda path: path.stem)

    def _read_lines(self) -> Iterator[tuple[str, bytes]]:
        path = self.folder / 'manifest.jsonl'
        if path.exists():
            for reference, line in list_lines(path):
                yield str(parse_record(line, readable_name(reference)).get('id')), line.rstrip(b'\n') + b'\n'


def encode_label(kind: str, array: np.ndarray, depth_scale: float, normal_bits: int) -> bytes:
    """The PNG of a label: metres of depth in units of ``depth_scale``, normals of 8 or 16 bits, ids as they are."""
    if kind == 'depth':
        return encode_depth(array, depth_scale)
    if kind == 'normals':
        return encode_normals(array, normal_bits)
    return encode_ids(np.asarray(array) != 0 if kind == 'mask' else array)


def pack_shards(source: str | Path, target: str | Path, samples_per_shard: int = 1000) -> list[Path]:
    """Copy a manifest folder into webdataset-style tar shards; resumable, since shards of the same samples are kept.

    What an earlier run packed otherwise is removed, with the index of it: who lists the folder would read it.

    Args:
        source: Folder with ``.jsonl`` files.
        target: Folder for ``shards/000000.tar``, ... and the header, which is written last.

    Returns:
        Paths of the shards.
    """
    manifest, target = Manifest(source), Path(target)
    entries = list(manifest.entries())
    (target / 'shards').mkdir(parents=True, exist_ok=True)
    wanted = {
        target / 'shards' / f'{number:06d}.tar': entries[start : start + samples_per_shard]
        for number, start in enumerate(range(0, len(entries), samples_per_shard))
    }
    for path in (target / 'shards').glob('[0-9]' * 6 + '.tar'):
        if path not in wanted or not _holds(path, wanted[path]):
            (path.parent / INDEX_NAME).unlink(missing_ok=True)
            path.unlink()
    for path, inside in wanted.items():
        if not path.exists():
            _pack(inside, path)
    shards = list(wanted)
    header = {**manifest.header, 'files': [f'shards/{s.name}' for s in shards]}
    write_atomic(target / 'manifest.json', _dump(header, indent=1))
    return shards


def _holds(path: Path, entries: list[dict[str, Any]]) -> bool:
    try:
        names = [name for name, _, _ in walk_tar(str(path))]
    except UserError:  # damaged or cut off
        return False
    return [name for name in names if name.count('.') == 1 and name.endswith('.json')] == [
        f'{entry["id"]}.json' for entry in entries
    ]


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


def _numbers(values: Any) -> list | None:
    """Rounded numbers for JSON; it has no NaN, and null is read as one."""
    if values is None:
        return None
    rounded = np.round(values, 3)
    plain = rounded.astype(object)
    plain[~np.isfinite(rounded)] = None
    return plain.tolist()


def _dump(value: dict[str, Any], indent: int | None = None) -> bytes:
    return (json.dumps(value, indent=indent, separators=None if indent else (',', ':')) + '\n').encode()
