# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The shell scripts, against stand-ins for Slurm's commands."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / 'tools'

pytestmark = pytest.mark.skipif(shutil.which('bash') is None, reason='needs bash')


@pytest.fixture
def slurm(tmp_path):
    """Environment in which sbatch, srun and scontrol note how they were called; srun ends with $SRUN_CODE."""
    log = tmp_path / 'calls'
    for name, answer in (('sbatch', ''), ('srun', 'exit $SRUN_CODE'), ('scontrol', 'echo node7')):
        file = tmp_path / name
        file.write_text(f'#!/bin/sh\necho {name} "$@" >> {log}\n{answer}\n')
        file.chmod(0o755)
    env = dict(os.environ, PATH=f'{tmp_path}:{os.environ["PATH"]}', PYTHON='python', SLURM_JOB_ID='17')
    env['SLURM_JOB_NODELIST'] = 'node[7-8]'
    return env, log


@pytest.mark.parametrize(('code', 'requeued'), [(0, False), (1, False), (75, True)])
def test_the_job_is_requeued_on_code_75_only(slurm, code, requeued):
    env, log = slurm
    done = subprocess.run([TOOLS / 'slurm_job.sh', 'train.py', 'c.py', '--amp'], env={**env, 'SRUN_CODE': str(code)})
    assert done.returncode == code
    calls = log.read_text().splitlines()
    assert 'srun --kill-on-bad-exit=0 python train.py c.py --launcher slurm --resume --amp' in calls
    assert ('scontrol requeue 17' in calls) == requeued


def test_a_job_asks_for_the_signal_and_passes_its_options_on(slurm):
    env, log = slurm
    command = [TOOLS / 'slurm_train.sh', 'gpu', 'pose', 'c.py', '--amp', '--work-dir', 'w']
    subprocess.run(
        command, env={**env, 'NODES': '2', 'GPUS_PER_NODE': '4', 'SBATCH_ARGS': '--time=1:00 -q x'}, check=True
    )
    call = log.read_text()
    for part in (
        '--partition=gpu',
        '--nodes=2',
        '--ntasks-per-node=4',
        '--signal=USR1@120',
        '--requeue',
        '--time=1:00 -q x',
    ):
        assert part in call
    assert call.endswith(f'slurm_job.sh {TOOLS}/train.py c.py --amp --work-dir w\n')


@pytest.mark.parametrize(('nodes', 'up', 'code'), [(1, 1, 0), (3, 3, 0), (3, 1, 1), (1, 1, 7)])
def test_curation_on_slurm_starts_one_ray_and_passes_its_options_on(slurm, tmp_path, nodes, up, code):
    """`up` machines come up; sapiens ends with the code; what was started in the background ends with the job."""
    env, log = slurm
    (tmp_path / 'srun').write_text(f'#!/bin/sh\necho srun "$@" >> {log}\nexec sleep 300')
    for name, answer in (('ray', f'for n in $(seq {up}); do echo " 1 node_$n"; done'), ('sapiens', f'exit {code}')):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@" >> {log}\n{answer}\n')
        (tmp_path / name).chmod(0o755)
    env |= dict(SLURM_NNODES=str(nodes), SLURM_CPUS_ON_NODE='64', TRIES='1')
    command = [TOOLS / 'curation/slurm_curate.sh', 'c.py', 'a b', 'out', '--store-mb', '9']
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == code
    calls = log.read_text().splitlines()
    start = 'srun --overlap --cpus-per-task=64'
    assert f'{start} --nodes=1 --ntasks=1 --nodelist=node7 ray start --head --port=20017 --block' in calls
    rest = f'{start} --nodes=2 --ntasks=2 --exclude=node7 ray start --address=node7:20017 --block'
    assert (rest in calls) == (nodes == 3)
    ran = 'sapiens curate c.py a b out --store-mb 9 --address node7:20017' in calls
    assert ran == (up == nodes) and ('did not come up on 3 of 3 machines' in done.stderr) != ran


@pytest.mark.parametrize('name', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'curation/slurm_curate.sh'])
def test_without_arguments_a_script_says_how_to_use_it(name):
    done = subprocess.run([TOOLS / name], capture_output=True, text=True)
    assert done.returncode == 2 and 'Usage:' in done.stderr and name in done.stderr


@pytest.mark.parametrize(
    ('failure', 'swapped'),
    [
        ('', False),
        ('ImportError: libxcb.so.1: cannot open shared object file: No such file or directory', True),
        ('ModuleNotFoundError: No module named numpy', False),
    ],
)
def test_opencv_without_windows_where_libraries_of_a_desktop_are_missing(tmp_path, failure, swapped):
    log, python = tmp_path / 'calls', tmp_path / 'python'
    python.write_text(
        f'#!/bin/sh\ncase "$*" in\n*"import cv2"*) echo "{failure}" >&2; exit {int(bool(failure))} ;;\n'
        f'*metadata*) echo 5.0.0 ;;\n*) echo "$@" >> {log} ;;\nesac\n'
    )
    python.chmod(0o755)
    done = subprocess.run([TOOLS / 'headless_opencv.sh', python], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, '')
    assert ('installing opencv-python-headless 5.0.0 in place' in done.stdout) == swapped
    calls = log.read_text().splitlines() if log.exists() else []
    assert [line.split()[2] for line in calls] == ['uninstall', 'install'] * swapped
