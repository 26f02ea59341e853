# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What the converters share: writing a manifest beside copied image files, and checking axes of normals."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from sapiens.commands.options import new_parser
from sapiens.datasets.image_files import decode_image, list_images, upright_size
from sapiens.datasets.label_files import decode_depth, decode_ids, decode_normals, refuse_jpeg
from sapiens.datasets.manifest import FORMAT, LABELS
from sapiens.datasets.manifest_writer import encode_label
from sapiens.datasets.storage import read_bytes
from sapiens.errors import UserError
from sapiens.evaluation.analysis.axes import axis_evidence, describe_axes
from sapiens.structures.geometry import NORMAL_AXES, OUR_AXES
from sapiens.utils.files import write_atomic

# Images looked at before anything is converted, to tell the axes of their normals.
_CHECKED = 24


def converter_parser(description: str | None) -> argparse.ArgumentParser:
    """Options that every converter has."""
    parser = new_parser(description)
    parser.add_argument('root', help='folder of the data set')
    parser.add_argument('out', help='folder for the manifest; must not hold one yet')
    parser.add_argument('--limit', type='count', metavar='N', help='convert only the first N images')
    parser.add_argument('--link', action='store_true', help='link the image files instead of copying them')
    return parser


class Conversion:
    """A manifest folder in the making: image files are kept byte for byte, labels are written in our formats.

    Use as a context: the header and the list of samples are written last, so that an interrupted conversion leaves
    nothing that looks whole.

    Args:
        args: From `converter_parser`.
        parts, keypoints: Names of the vocabularies.
        depth_scale: Metres per unit of the depth files.
        metadata: More for the header.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        parts: str | None = None,
        keypoints: str | None = None,
        depth_scale: float = 0.001,
        **metadata: Any,
    ) -> None:
        self.folder = Path(args.out)
        self.link = args.link
        self.depth_scale = depth_scale
        if (self.folder / 'manifest.json').exists():
            raise UserError(f'{self.folder}: holds a manifest already; choose another folder')
        self.header = {
            'format': FORMAT,
            'keypoints': keypoints,
            'parts': parts,
            'depth_scale': depth_scale,
            'normal_axes': OUR_AXES,
            'files': ['manifest.jsonl'],
            **metadata,
        }
        self.lines: dict[str, str] = {}

    def __enter__(self) -> Conversion:
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if kind is not None:
            return
        if not self.lines:
            raise UserError('no sample was found to convert; check the paths')
        write_atomic(self.folder / 'manifest.jsonl', ''.join(self.lines.values()).encode())
        write_atomic(self.folder / 'manifest.json', (json.dumps(self.header, indent=1) + '\n').encode())
        print(f'{self.folder}: {len(self.lines)} samples')

    def add(self, name: str, image: str | Path, normal_bits: int = 8, **labels: Any) -> None:
        """Add a sample.

        Args:
            name: Its id; characters that a file name cannot hold become ``_``.
            image: Image file, in any format that OpenCV reads.
            normal_bits: Of the normals written.
            labels: ``parts``, ``depth`` (metres), ``normals`` (our axes), ``mask``, ``instances``: arrays of the
                image's size; ``persons``, ``camera``: for the record.

        Raises:
            UserError: A label has another size than the image, or the id was used before.
        """
        name = re.sub(r'[^\w-]+', '_', name)
        if name in self.lines:
            raise UserError(f'{image}: sample id {name} occurs twice; convert the folders one by one')
        data = read_bytes(str(image))
        size = upright_size(data)
        height, width = size[0] if size else decode_image(data, str(image)).shape[:2]
        record: dict[str, Any] = {'id': name, 'image': f'images/{name}{Path(image).suffix.lower()}'}
        record.update(width=width, height=height)
        for kind in LABELS:
            array = labels.get(kind)
            if array is None:
                continue
            if array.shape[:2] != (height, width):
                raise UserError(f'{image}: the image is {height}x{width} but its {kind} are '
                                f'{array.shape[0]}x{array.shape[1]} (H x W); they must have the same size')  # fmt: skip
            record[kind] = f'{kind}/{name}.png'
            write_atomic(self.folder / record[kind], encode_label(kind, array, self.depth_scale, normal_bits))
        record.update({key: labels[key] for key in ('persons', 'camera') if labels.get(key) is not None})
        self._copy(Path(image), data, self.folder / record['image'])
        self.lines[name] = json.dumps(record, separators=(',', ':')) + '\n'

    def _copy(self, source: Path, data: bytes, target: Path) -> None:
        if not self.link:
            write_atomic(target, data)
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        os.symlink(source.resolve(), target)


def named_files(
    folder: str | Path, endings: Sequence[str] = ('.png', '.npy', '.npz', '.tif', '.tiff')
) -> dict[str, Path]:
    """Files of a folder by name without ending.

    Raises:
        UserError: No such folder, or nothing in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f'{folder}: no such folder')
    found = {path.stem: path for path in sorted(folder.iterdir()) if path.suffix.lower() in endings}
    if not found:
        raise UserError(f'{folder}: holds no file ending in {", ".join(endings)}')
    return found


def convert_parsing(
    args: argparse.Namespace,
    source: str,
    images: dict[str, Path],
    labels: dict[str, Path],
    extra: Callable[[str], dict] = lambda name: {},
) -> None:
    """Write a set of 20 classes, one sample a label; ``extra`` gives what else is known of a name.

    Raises:
        UserError: A label has no image.
    """
    with Conversion(args, parts='parts20', source=source) as conversion:
        for name in sorted(labels)[: args.limit]:
            if name not in images:
                raise UserError(f'{labels[name]}: its image is missing; unpack the images too')
            conversion.add(name, images[name], parts=read_ids(labels[name]), **extra(name))


def named_images(folder: str | Path) -> dict[str, Path]:
    """Image files of a folder by name without ending."""
    return {Path(path).stem: Path(path) for path in sorted(list_images(folder))}


def unpacked_folder(root: str | Path, name: str, archive: str) -> Path:
    """A folder of an archive, which people unpack into the root, into a folder of its own, or into one too many.

    Raises:
        UserError: It is in none of these places.
    """
    candidates = [name, f'{archive}/{name}', f'{archive}/{archive}/{name}']
    for candidate in candidates:
        if (Path(root) / candidate).is_dir():
            return Path(root) / candidate
    raise UserError(f'{root}: holds none of the folders {", ".join(candidates)}; give the root of the data set')


def read_ids(path: str | Path) -> np.ndarray:
    """``(H, W)`` uint8 ids of parts or people."""
    return decode_ids(read_bytes(str(path)), str(path))


def read_depth(path: str | Path, unit: float) -> np.ndarray:
    """``(H, W)`` float32 metres, of whole numbers by the metres of a unit."""
    return decode_depth(read_bytes(str(path)), str(path), unit)


def read_normals(path: str | Path, axes: str, rgb: bool = True) -> np.ndarray:
    """Read normals and turn them into our axes.

    Args:
        path: 8- or 16-bit image of ``(n + 1) / 2``, or an array file.
        axes: A key of `NORMAL_AXES`.
        rgb: False: red and blue are swapped in the files.

    Returns:
        ``(H, W, 3)`` float32, (0, 0, 0) where unknown.
    """
    normals = decode_normals(read_bytes(str(path)), str(path))
    normals = normals if rgb else normals[..., ::-1]
    return normals * np.array(NORMAL_AXES[axes], np.float32)


def check_axes(files: Iterable[tuple[Path, Path | None]], axes: str, rgb: bool) -> None:
    """Look at some normals before converting all.

    Args:
        files: Normals and mask of each image.
        axes: Declared.
        rgb: As in `read_normals`.

    Raises:
        UserError: Visible surfaces say that the axes are others.
    """
    files = list(files)
    total: np.ndarray | None = None
    for path, mask_path in files[:: max(1, len(files) // _CHECKED)][:_CHECKED]:
        normals = read_normals(path, axes, rgb) * np.array(NORMAL_AXES[axes], np.float32)
        mask = None if mask_path is None else read_mask(mask_path)
        evidence = axis_evidence(np.moveaxis(normals, -1, 0), mask)
        total = evidence if total is None else total + evidence
    wrong = None if total is None else describe_axes(total, axes)
    if wrong:
        raise UserError(
            f'{files[0][0].parent}: {wrong}; declare the right axes, or pass --trust-axes to convert anyway'
        )


def read_mask(path: str | Path) -> np.ndarray:
    """``(H, W)`` bool; of an image with transparency its alpha, else any channel that is not 0."""
    data = read_bytes(str(path))
    refuse_jpeg('mask', data, str(path))
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise UserError(f'{path}: not a readable image')
    if image.ndim == 2:
        return image > 0
    return image[..., 3] > 127 if image.shape[2] == 4 else image.any(-1)


def add_normal_options(parser: argparse.ArgumentParser) -> None:
    """Options of converters that read colour-coded normals."""
    parser.add_argument('--normal-axes', choices=sorted(NORMAL_AXES), default=OUR_AXES)
    parser.add_argument('--bgr', action='store_true', help='red and blue are swapped in the normal files')
    parser.add_argument('--trust-axes', action='store_true', help='convert even if the normals look otherwise')
