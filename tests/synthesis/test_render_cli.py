# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""tools/synthesis/render.py: resuming, determinism, what a user can get wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('numba')

from sapiens.datasets import HumanManifestDataset
from sapiens.datasets.manifest import Manifest
from sapiens.errors import UserError
from sapiens.synthesis.job import Job, run
from sapiens.synthesis.scene import Recipe
from sapiens.utils import files

ROOT = Path(__file__).resolve().parents[2]
RECIPE = Recipe(size=(96, 72), persons=(1, 2), samples=1, lights=6)


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(Path(folder).rglob('*')) if p.is_file()}


@pytest.fixture(scope='module')
def rendered(tmp_path_factory):
    folder = tmp_path_factory.mktemp('set')
    run([Job(str(folder), 4, 1, 0, RECIPE, 'fixture')], 1, lambda *_: None)
    return folder


def test_an_interrupted_run_goes_on_to_the_same_files(rendered, tmp_path):
    class Stop(Exception):
        pass

    def stop(job, index, rejected):
        if index == 1:
            raise Stop

    job = Job(str(tmp_path), 4, 1, 0, RECIPE, 'fixture')
    with pytest.raises(Stop):
        run([job], 1, stop)
    assert len(list(Manifest(tmp_path).entries())) == 2  # what was finished can be read
    new = []
    run([job], 1, lambda job, index, rejected: new.append(index))
    assert new == [2, 3]
    assert contents(tmp_path) == contents(rendered)


def test_workers_do_not_matter(rendered, tmp_path):
    run([Job(str(tmp_path), 4, 1, 0, RECIPE, 'fixture')], 2, lambda *_: None)
    assert contents(tmp_path) == contents(rendered)


def test_another_recipe_is_refused(rendered):
    with pytest.raises(UserError, match='seed'):
        run([Job(str(rendered), 4, 2, 0, RECIPE, 'fixture')], 1, lambda *_: None)


@pytest.mark.parametrize('per', ['image', 'person'])
def test_the_data_set_reads_it(rendered, per):
    dataset = HumanManifestDataset(data_root=str(rendered), sample_per=per, input_size=(96, 72), pipeline=[])
    assert len(dataset) >= 4
    header = Manifest(rendered).header
    assert header['keypoints'] == 'keypoints308' and header['parts'] == 'parts28'
    entry = next(iter(Manifest(rendered).entries()))['fields']
    assert np.array(entry['camera']['K']).shape == (3, 3)
    assert len(entry['persons'][0]['keypoints']) == 308


def test_train_and_val_folders(run_script, tmp_path):
    arguments = ['--out', tmp_path, '--num', 3, '--size', '96x72', '--assets', 'fixture', '--samples', 1,
                 '--persons', 1]  # fmt: skip
    done = run_script('tools/synthesis/render.py', *arguments)
    assert done.code == 0, done.err
    train, val = (json.loads((tmp_path / s / 'manifest.json').read_text()) for s in ('train', 'val'))
    assert train['synthesis']['stream'] != val['synthesis']['stream']
    assert len((tmp_path / 'train/manifest.jsonl').read_text().splitlines()) == 2
    images = [next((tmp_path / s / 'images').iterdir()).read_bytes() for s in ('train', 'val')]
    assert images[0] != images[1]


def test_shards_of_the_working_folder_lie_beside_it(run_script, tmp_path, monkeypatch):
    (tmp_path / 'set').mkdir()
    monkeypatch.chdir(tmp_path / 'set')
    done = run_script(ROOT / 'tools/synthesis/render.py', '--out', '.', '--num', 1, '--size', '64x64', '--assets',
                      'fixture', '--val-fraction', 0, '--samples', 1, '--persons', 1, '--shard-size', 1)  # fmt: skip
    assert done.code == 0, done.err
    assert (tmp_path / 'set-shards/shards/000000.tar').is_file()


@pytest.mark.parametrize('arguments, words', [
    (['--size', '1024'], 'HEIGHTxWIDTH'),
    (['--size', '10x10'], '64'),
    (['--framing', 'legs'], 'full'),
    (['--persons', '0'], '1 to 12'),
    (['--jpeg', 'nan'], '--jpeg nan: give a number from 0 to 10'),
    (['--white-balance', '-1'], '--white-balance -1.0: give a number from 0 to 10'),
    (['--lights', '999999'], 'from 0 to 1024'),
    (['--backgrounds', 'no/such/folder'], 'no/such/folder'),
    (['--assets', 'no/such/assets'], 'prepare_assets.py'),
])  # fmt: skip
def test_mistakes_are_one_line(run_script, tmp_path, arguments, words):
    defaults = ['--out', tmp_path / 'x', '--num', 2, '--assets', 'fixture']
    done = run_script('tools/synthesis/render.py', *defaults, *arguments)
    assert done.code == 1
    assert words in done.err and 'Traceback' not in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / 'x').exists()


@pytest.mark.skipif(not Path('/dev/full').exists(), reason='needs /dev/full')
def test_a_full_disk_is_one_line_and_a_rerun_goes_on(run_script, tmp_path, monkeypatch):
    arguments = ['--out', tmp_path / 'set', '--num', 3, '--size', '96x72', '--assets', 'fixture', '--val-fraction', 0,
                 '--samples', 1, '--persons', 1]  # fmt: skip
    made = []

    def full(path, mode):
        made.append(path)
        path.touch()
        # The header, the first sample and part of the second fit.
        return open(path if len(made) < 9 else '/dev/full', mode)

    monkeypatch.setattr(files, 'open', full, raising=False)
    failed = run_script('tools/synthesis/render.py', *arguments)
    assert failed.code == 1
    assert str(tmp_path / 'set') in failed.err and 'disk is full' in failed.err
    assert len(failed.err.strip().splitlines()) == 1
    assert not list(tmp_path.rglob('*.tmp'))
    monkeypatch.undo()
    assert run_script('tools/synthesis/render.py', *arguments).code == 0
    assert len(list(Manifest(tmp_path / 'set').entries())) == 3


@pytest.mark.skipif(not Path('/proc/self/task').exists(), reason='needs /proc')
def test_a_killed_worker_is_one_line_and_a_rerun_goes_on(run_script, tmp_path):
    arguments = ['--out', tmp_path, '--num', 12, '--size', '96x72', '--assets', 'fixture', '--val-fraction', 0,
                 '--samples', 1, '--persons', 1, '--workers', 2]  # fmt: skip
    command = [sys.executable, str(ROOT / 'tools/synthesis/render.py'), *map(str, arguments)]
    main = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    while main.poll() is None and not list(tmp_path.glob('records/*.json')):
        time.sleep(0.05)
    children = Path(f'/proc/{main.pid}/task/{main.pid}/children').read_text().split()
    workers = [int(c) for c in children if b'spawn_main' in Path(f'/proc/{c}/cmdline').read_bytes()]
    os.kill(workers[0], signal.SIGKILL)
    _, error = main.communicate()
    assert main.returncode == 1
    assert 'worker was killed' in error and 'again' in error and 'Traceback' not in error
    assert run_script('tools/synthesis/render.py', *arguments[:-1], 1).code == 0
    assert len(list(Manifest(tmp_path).entries())) == 12
