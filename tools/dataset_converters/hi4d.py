# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Hi4D (pairs in close contact, scans and cameras) to a manifest: depth and normals are drawn from the scans.

    python tools/dataset_converters/hi4d.py data/hi4d data/hi4d_test --cameras 4,16 --every 30

The root holds ``pairNN/ACTION`` folders with ``images/CAMERA/NNNNNN.jpg``, ``frames/mesh-fNNNNN.obj``,
``cameras/rgb_cameras.npz`` (ids, intrinsics, extrinsics, dist_coeffs) and, for the persons,
``seg/img_seg_mask/CAMERA/{0,1}/NNNNNN.png``.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from conversion import Conversion, converter_parser, named_files, read_mask

from sapiens.errors import UserError, run_cli
from sapiens.utils.optional import need


def main() -> None:
    """Convert."""
    parser = converter_parser(__doc__)
    parser.add_argument('--cameras', help='ids of the cameras to take, e.g. 4,16; default: all')
    parser.add_argument('--every', type='count', default=1, metavar='N', help='take every Nth frame')
    args = parser.parse_args()
    actions = sorted(path.parent.parent for path in Path(args.root).glob('**/cameras/rgb_cameras.npz'))
    if not actions:
        raise UserError(f'{args.root}: holds no pairNN/ACTION/cameras/rgb_cameras.npz; give the root of Hi4D')
    need('numba', 'drawing scans', extra='synthesis')
    wanted = None if args.cameras is None else args.cameras.split(',')
    with Conversion(args, source='Hi4D') as conversion:
        for action in actions:
            for name, camera in read_cameras(action / 'cameras' / 'rgb_cameras.npz').items():
                if wanted is None or name in wanted:
                    convert_view(conversion, action, name, camera, args.every, args.limit)


def convert_view(conversion: Conversion, action: Path, name: str, camera: dict, every: int, limit: int | None) -> None:
    """Add the frames of one camera."""
    from sapiens.synthesis.makehuman.body import triangulate
    from sapiens.synthesis.makehuman.formats import read_obj

    images = named_files(action / 'images' / name, ('.jpg', '.png'))
    for frame, image in list(images.items())[::every]:
        if limit is not None and len(conversion.lines) >= limit:
            return
        mesh = read_obj(action / 'frames' / f'mesh-f{int(frame):05d}.obj')
        faces, _, _ = triangulate(mesh.faces, mesh.uv, np.arange(len(mesh.faces)))
        points = mesh.vertices @ camera['rotation'].T + camera['translation']
        pixels = project(points, camera)
        picture = cv2.imread(str(image), cv2.IMREAD_COLOR)
        if picture is None:
            raise UserError(f'{image}: not a readable image')
        size = picture.shape[:2]
        depth, normals = render(points, pixels, faces, size)
        labels = dict(depth=depth, normals=normals, mask=depth > 0)
        labels.update(people(action / 'seg' / 'img_seg_mask' / name, frame, size))
        conversion.add(f'{action.parent.name}_{action.name}_{name}_{frame}', image, normal_bits=16,
                       camera={'K': camera['K'].tolist()}, **labels)  # fmt: skip


def render(
    points: np.ndarray, pixels: np.ndarray, faces: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a mesh.

    Args:
        points: ``(V, 3)`` vertices in camera axes (x right, y down, z forward), metres.
        pixels: ``(V, 2)`` their projections, pixel centres at integers (lens distortion may be in them).
        faces: ``(F, 3)``.
        size: H, W.

    Returns:
        ``(H, W)`` float32 depth in metres and ``(H, W, 3)`` float32 unit normals, x right, y up, z towards the viewer;
        0 where nothing is seen.
    """
    from sapiens.synthesis.rasterizer import interpolate, rasterize, vertex_normals

    # A camera without a lens sees these points at those pixels.
    straight = np.concatenate([pixels * points[:, 2:], points[:, 2:]], 1)
    depth, *hit = rasterize(straight, faces, np.eye(3), size)
    normals = interpolate(vertex_normals(points, faces), faces, *hit) * [1, -1, -1]
    # What is seen faces the camera, whichever way the triangles wind.
    towards = interpolate(points, faces, *hit) * [-1, 1, 1]
    normals *= np.where((normals * towards).sum(-1, keepdims=True) < 0, -1, 1)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-12)
    return np.where(np.isfinite(depth), depth, 0).astype(np.float32), normals.astype(np.float32)


def project(points: np.ndarray, camera: dict) -> np.ndarray:
    """``(V, 2)`` pixels of points in camera axes, with the lens distortion."""
    ahead = np.where(points[:, 2:] > 1e-6, points, [0, 0, 1])
    zero = np.zeros(3)
    return cv2.projectPoints(ahead, zero, zero, camera['K'], camera['distortion'])[0].reshape(-1, 2)


def read_cameras(path: Path) -> dict[str, dict]:
    """Cameras by id: ``K``, ``rotation``, ``translation`` (world to camera) and ``distortion``.

    Raises:
        UserError: The file lacks an array.
    """
    try:
        with np.load(path, allow_pickle=False) as data:
            arrays = {key: data[key] for key in ('ids', 'intrinsics', 'extrinsics')}
            distortion = data['dist_coeffs'] if 'dist_coeffs' in data else np.zeros((len(arrays['ids']), 5))
    except (KeyError, ValueError, OSError) as error:
        raise UserError(f'{path}: not the cameras of Hi4D ({error})') from None
    return {
        str(identifier): {
            'K': arrays['intrinsics'][i].astype(np.float64),
            'rotation': arrays['extrinsics'][i][:3, :3].astype(np.float64),
            'translation': arrays['extrinsics'][i][:3, 3].astype(np.float64),
            'distortion': np.asarray(distortion[i], np.float64).reshape(-1),
        }
        for i, identifier in enumerate(arrays['ids'])
    }


def people(folder: Path, frame: str, size: tuple[int, int]) -> dict:
    """Instances and boxes from the persons' masks; nothing when they are not there."""
    files = [folder / person / f'{frame}.png' for person in ('0', '1')]
    if not all(file.is_file() for file in files):
        return {}
    instances = np.zeros(size, np.uint8)
    for number, file in enumerate(files, start=1):
        mask = read_mask(file)
        if mask.shape != size:
            raise UserError(f'{file}: is {mask.shape[0]}x{mask.shape[1]} but its image {size[0]}x{size[1]} (H x W)')
        instances[mask] = number
    boxes = [list(cv2.boundingRect((instances == n).astype(np.uint8))) for n in (1, 2)]
    return {'instances': instances, 'persons': [{'bbox': box} for box in boxes]}


if __name__ == '__main__':
    run_cli(main)
