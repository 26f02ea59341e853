# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The wheel as a pip user has it: a fresh environment with numpy 2, no OpenMMLab toolkits, no checkout on the path.

Making that environment takes longer than all the rest, so these tests are a step of their own: ``pytest -m wheel``.
"""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TREES = ('sapiens', 'configs', 'tools', 'demo', 'requirements')
FILES = ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE', 'model-index.yml', 'sapiens_toolkit.py')
pytestmark = pytest.mark.wheel


class Environment:
    """A virtual environment outside the checkout, and the folder its commands run in."""

    def __init__(self, folder):
        self.bin, self.home = folder / 'env' / 'bin', folder / 'home'
        self.home.mkdir()
        subprocess.run([sys.executable, '-m', 'venv', str(folder / 'env')], check=True)

    def run(self, command, *arguments, code=0, **variables):
        """Standard output and errors of a command that must end with that code."""
        kept = {k: v for k, v in os.environ.items() if k not in ('PYTHONPATH', 'PYTHONHOME', 'COLUMNS')}
        done = subprocess.run(
            [str(self.bin / command), *map(str, arguments)],
            cwd=self.home, env={**kept, 'OMP_NUM_THREADS': '1', **variables}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == code, (done.stdout + done.stderr)[-3000:]
        return done.stdout, done.stderr


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the checkout, which stays as it is."""
    folder = tmp_path_factory.mktemp('wheel')
    source = folder / 'source'
    for name in TREES:
        shutil.copytree(ROOT / name, source / name, symlinks=True)
    for name in FILES:
        shutil.copy(ROOT / name, source)
    command = [sys.executable, '-m', 'pip', 'wheel', '--quiet', '--no-deps', '--wheel-dir', str(folder), str(source)]
    subprocess.run(command, check=True)
    (made,) = folder.glob('*.whl')
    return made


@pytest.fixture(scope='module')
def env(wheel, tmp_path_factory):
    made = Environment(tmp_path_factory.mktemp('fresh'))
    made.run('pip', 'install', '--quiet', '-c', ROOT / 'requirements/constraints.txt', 'numpy>=2', wheel)
    subprocess.run(['sh', ROOT / 'tools/headless_opencv.sh', made.bin / 'python'], check=True)
    return made


def test_the_wheel_holds_what_a_checkout_has(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    tracked = [p for folder in ('configs', 'tools', 'demo') for p in (ROOT / folder).rglob('*.*') if p.is_file()]
    missing = {
        f'sapiens/.mim/{path.relative_to(ROOT).as_posix()}' for path in tracked if '__pycache__' not in path.parts
    } - names
    assert not missing
    data = [p for p in (ROOT / 'sapiens').rglob('*.json') if '.mim' not in p.parts]
    needed = {p.relative_to(ROOT).as_posix() for p in data} | {'sapiens/py.typed', 'sapiens_toolkit.py'}
    assert not needed - names
    assert not [name for name in names if name.endswith('.pyc') or name.startswith(('tests/', 'build/'))]


def test_importing_is_quick_and_needs_no_toolkit(env):
    code = 'import sapiens, sys, time; print(time.process_time(), sapiens.__file__)'
    seconds, file = env.run('python', '-c', code)[0].split()
    assert float(seconds) < 1.5 and str(env.bin.parent) in file
    out, _ = env.run('sapiens', 'info')
    assert 'numpy 2.' in out and 'OpenMMLab toolkits: none' in out


def test_predicts_and_trains_in_an_empty_folder(env):
    """Names of shipped configs resolve, and so does a config of the user's that inherits one."""
    (env.home / 'mine.py').write_text(
        "_base_ = 'sapiens::pose/sapiens_tiny_17kpt.py'\n"
        'model = dict(backbone=dict(_delete_=True, type="SapiensViT", img_size=(64, 48), patch_padding=2, '
        'arch=dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)))\n'
    )
    code = (
        'import torch\nfrom pathlib import Path\nfrom sapiens.engine import load_config\n'
        'from sapiens.registry import MODELS\nfrom sapiens.utils.shipped import shipped_root\n'
        "stem = 'sapiens_tiny_17kpt'\n"
        "names = [stem, f'pose/{stem}.py', f'configs/pose/{stem}.py', 'mine.py']\n"
        'models = [load_config(name).model for name in names]\n'
        'assert models[0] == models[1] == models[2] != models[3]\n'
        "torch.save(MODELS.build(models[3]).state_dict(), 'mine.pth')\n"
        "print(shipped_root() / 'demo/images/astronaut.jpg')\n"
    )
    photo = env.run('python', '-c', code)[0].split()[-1]
    options = ['--config', 'mine.py', '--checkpoint', 'mine.pth', '--out-dir', 'results']
    out, err = env.run('sapiens', 'predict', photo, *options)
    assert err == '' and '1 image(s), results in results' in out
    (person,) = json.loads((env.home / 'results/astronaut.json').read_text())['persons']
    assert len(person['keypoints']) == 17 and (env.home / 'results/astronaut_pose.jpg').stat().st_size > 1000
    _, err = env.run('sapiens', 'train', 'configs/pose/sapiens_tiny_17kp.py', code=1)
    assert err.count('\n') == 1 and "did you mean 'configs/pose/sapiens_tiny_17kpt.py'" in err
    _, err = env.run('sapiens', 'train', 'mine.py', code=1)
    assert err.count('\n') == 1 and 'data/coco/annotations' in err


@pytest.mark.parametrize('inside', [True, False], ids=['written over ours', 'earlier on the path'])
def test_another_package_of_that_name_is_named(env, tmp_path, inside):
    site = Path(env.run('python', '-c', 'import sysconfig; print(sysconfig.get_path("purelib"))')[0].strip())
    init, facts = site / 'sapiens/__init__.py', site / 'sapiens-1.1.dist-info'
    ours = init.read_text()
    try:
        if inside:
            init.write_text("__version__ = '1.1'\n")
            facts.mkdir()
            (facts / 'METADATA').write_text('Metadata-Version: 2.1\nName: sapiens\nVersion: 1.1\n')
            (facts / 'RECORD').write_text('sapiens/__init__.py,,\nsapiens-1.1.dist-info/RECORD,,\n')
            _, err = env.run('python', '-c', 'from sapiens.apis import Inferencer', code=1)
            assert 'sapiens 1.1' in err.splitlines()[-1]
            variables = {}
        else:
            (tmp_path / 'sapiens').mkdir()
            (tmp_path / 'sapiens/__init__.py').write_text("raise RuntimeError('needs a GPU')")
            variables = {'PYTHONPATH': str(tmp_path)}
        _, err = env.run('sapiens', '--help', code=1, **variables)
    finally:
        init.write_text(ours)
        shutil.rmtree(facts, ignore_errors=True)
    assert err.count('\n') == 1 and err.startswith("error: Python finds another package 'sapiens'")
    assert 'pip uninstall sapiens and' in err if inside else 'needs a GPU' in err
    assert env.run('sapiens', '--version')[0].startswith('sapiens-toolkit ')
