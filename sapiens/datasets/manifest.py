# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The manifest format ``sapiens-manifest/1``: a folder of images with any of our labels.

``manifest.json`` (the header) says which vocabularies and units hold and which files list the samples: ``.jsonl`` files
with one sample a line and paths relative to the folder, webdataset-style tar shards, or the ``manifest.json`` of other
folders with the same vocabularies and units. `manifest_writer` writes what is read here; `label_files` has the labels.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..structures.geometry import OUR_AXES, check_axes
from ..utils.file_names import find_file
from ..utils.json_files import parse_json
from .image_files import IMAGE_EXTENSIONS
from .storage import list_lines, list_tar, read_bytes, readable_name

# The extra [fast]; not by an import statement, whose type would depend on what is installed.
orjson: Any = importlib.import_module('orjson') if importlib.util.find_spec('orjson') else None

FORMAT = 'sapiens-manifest/1'
LABELS = ('parts', 'depth', 'normals', 'mask', 'instances')


class Manifest:
    """A manifest opened for reading; nothing but the header is read until `entries` is walked.

    Args:
        path: The folder or its ``manifest.json``.

    Attributes:
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
            'normal_axes': OUR_AXES,
            'files': ['manifest.jsonl'],
            **header,
        }
        check_axes(self.header['normal_axes'], self.path)
        scale, files = self.header['depth_scale'], self.header['files']
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
        if not path.exists() and (self.folder / 'records').is_dir():
            raise UserError(f'{path}: not there yet: what fills the folder is at work or was killed; let it end, or '
                            'give its command again')  # fmt: skip
        for reference, line in list_lines(path):
            name = readable_name(reference)
            fields = parse_record(line, name)
            if not isinstance(fields.get('image'), str) or not fields['image']:
                raise UserError(f'{name}: the sample has no "image"; every line needs one')
            files = {kind: fields[kind] for kind in ('image', *LABELS) if fields.get(kind)}
            wrong = [kind for kind, file in files.items() if not isinstance(file, str)]
            if wrong:
                raise UserError(f'{name}: "{wrong[0]}" must be the path of a file; mend the line')
            files = {kind: find_file(str(self.folder), file) for kind, file in files.items()}
            sample_id = fields['id'] if 'id' in fields else Path(fields['image']).stem
            yield {'id': sample_id, 'record': reference, 'files': files, 'fields': fields}

    def _from_shard(self, path: Path, parse: bool) -> Iterator[dict[str, Any]]:
        samples: dict[str, dict[str, str]] = {}
        for name, reference in list_tar(path).items():
            # webdataset naming: the key ends at the first dot of the file name.
            folder, _, file = name.rpartition('/')
            key, _, kind = file.partition('.')
            kind = label_of(name) or f'.{kind.lower()}'
            samples.setdefault(f'{folder}/{key}' if folder else key, {})[kind] = reference
        for key, members in samples.items():
            image = next((members[e] for e in IMAGE_EXTENSIONS if e in members), None)
            if image is None or '.json' not in members:
                raise UserError(
                    f"{path}: sample '{key}' lacks its {'.json' if image else 'image'}; pack the shard again"
                )
            files = {'image': image, **{kind: members[kind] for kind in LABELS if kind in members}}
            fields = self.read_record(members['.json']) if parse else None
            yield {'id': key, 'record': members['.json'], 'files': files, 'fields': fields}

    @staticmethod
    def read_record(reference: str) -> dict[str, Any]:
        """Parse a sample's record again, by the reference that `entries` gave."""
        return parse_record(read_bytes(reference), readable_name(reference))


def label_of(name: str) -> str | None:
    """Kind of the label that a member of a shard is (``000001.parts.png``); None for an image of its own."""
    kinds = name.rpartition('/')[2].lower().split('.')[1:]
    return kinds[0] if len(kinds) == 2 and kinds[0] in LABELS else None


def labelled_images(folder: str | Path) -> list[str] | None:
    """The images of a folder with a manifest, whose other pictures are their labels; None for any other folder."""
    path = Path(folder) / 'manifest.json'
    if not path.is_file():
        return None
    try:
        ours = _object(path.read_bytes(), str(path)).get('format') == FORMAT
    except UserError:
        return None
    return [entry['files']['image'] for entry in Manifest(path).entries(parse=False)] if ours else None


def _object(data: bytes, name: str) -> dict[str, Any]:
    value = parse_json(data, name)
    if not isinstance(value, dict):
        raise UserError(f'{name}: must hold a JSON object {{...}}, not a {type(value).__name__}')
    return value


def parse_record(data: bytes, name: str) -> dict[str, Any]:
    """A sample's record, with ``persons`` that are a list of objects."""
    record: Any = None
    if orjson:
        with suppress(ValueError):  # `parse_json` says what is wrong, or takes it
            record = orjson.loads(data)
    if not isinstance(record, dict) or isinstance(record.get('id'), float):  # an id beyond 64 bits was rounded
        record = _object(data, name)
    persons = record.get('persons') or []
    if not isinstance(persons, list) or not all(isinstance(person, dict) for person in persons):
        raise UserError(f'{name}: "persons" must be a list of {{...}}; mend the line')
    if not isinstance(record.get('id', ''), (str, int)):
        raise UserError(f'{name}: "id" must be a name or a number; mend the line')
    return {**record, 'persons': persons}
