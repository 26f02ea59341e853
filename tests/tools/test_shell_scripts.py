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


@pytest.mark.parametrize('name', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh'])
def test_without_arguments_a_script_says_how_to_use_it(name):
    done = subprocess.run([TOOLS / name], capture_output=True, text=True)
    assert done.returncode == 2 and 'Usage:' in done.stderr and name in done.stderr
