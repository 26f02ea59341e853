# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""What training and testing share: turning their options into a runner."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.device import utils as device_utils
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from ..errors import UserError
from ..openmmlab import prepare_torchvision
from ..registry import RUNNERS, type_name
from .config import load_config
from .precision import WRAPPERS, precision_of
from .runner import SapiensRunner
from .start import checkpoints_of


def prepare(args: argparse.Namespace) -> Config:
    """Choose the device, read the config and set its work directory.

    Raises:
        UserError: No such config, or a GPU is asked for where there is none.
    """
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    if args.device == 'cpu':
        os.environ['CUDA_VISIBLE_DEVICES'] = ''
        device_utils.DEVICE = 'cpu'  # mmengine has looked what there is when it was imported
    elif args.device == 'cuda' and not torch.cuda.is_available():
        raise UserError(
            '--device cuda: PyTorch sees no GPU here (check nvidia-smi, and that torch is a CUDA build); '
            'leave --device out to use the CPU'
        )
    prepare_torchvision()
    config = load_config(args.config, args.cfg_options)
    config.launcher = args.launcher
    config.work_dir = args.work_dir or config.get('work_dir') or str(Path('work_dirs') / Path(args.config).stem)
    set_precision(config, args.precision or precision_of(config))
    for phase in ('train', 'val', 'test'):
        if config.get(f'{phase}_dataloader') is None:
            config[f'{phase}_cfg'] = None
            if phase != 'train':
                config[f'{phase}_evaluator'] = None
    return config


def choose_resume(config: Config, resume: str | None) -> None:
    """Apply ``--resume``: ``'auto'`` continues the work directory's last checkpoint or, without one, starts anew.

    A start anew keeps ``load_from``, so that one command serves a job that is requeued.
    """
    if resume is None:
        return
    if resume != 'auto':
        if not Path(resume).exists():
            raise UserError(f'--resume {resume}: no such checkpoint; leave the path out to continue the last one')
        if checkpoints_of(resume):
            raise UserError(f'--resume {resume}: is a work directory; --work-dir {resume} --resume continues its last')
        config.resume, config.load_from = True, resume
    elif checkpoints_of(config.work_dir):
        config.resume, config.load_from = True, None
    else:
        config.resume = False


def set_precision(config: Config, precision: str | None) -> None:
    """Apply ``--precision`` (or ``--amp``), over whatever the config says.

    Raises:
        UserError: The config has an optimiser wrapper that knows no precisions.
    """
    if precision is None:
        return
    wrapper = config.get('optim_wrapper')
    if wrapper:
        if type_name(wrapper, 'OptimWrapper') not in WRAPPERS:
            raise UserError(f'--precision does not know how to change optim_wrapper.type={wrapper.type}')
        wrapper.type = 'OptimWrapper'
        wrapper.pop('dtype', None)
        wrapper.pop('loss_scale', None)
    config.precision = precision


def set_global_batch(config: Config, total: int | None) -> None:
    """Apply ``--global-batch``: the same batch over all processes, however many there are.

    Raises:
        UserError: It cannot be divided by the number of processes.
    """
    if total is None:
        return
    variable = {'slurm': 'SLURM_NTASKS', 'pytorch': 'WORLD_SIZE'}.get(config.launcher, '')
    world = int(os.environ.get(variable, 1))
    if total < world or total % world:
        raise UserError(f'--global-batch {total} cannot be divided by {world} processes')
    config.train_dataloader.batch_size = total // world


def check_compiler(config: Mapping) -> None:
    """torch.compile needs a C++ compiler at run time; say so before it fails in the depths.

    Raises:
        UserError: There is none.
    """
    if config.get('compile') and not any(shutil.which(name) for name in (os.environ.get('CXX', 'g++'), 'clang++')):
        raise UserError('--compile needs a C++ compiler (g++ or clang++): install one, or leave --compile out')


def build_runner(config: Config) -> Runner:
    """Build the runner; what the config asks for and does not exist is one line at the end of a command (`run_cli`)."""
    init_default_scope(config.default_scope)
    return RUNNERS.build(config) if 'runner_type' in config else SapiensRunner.from_cfg(config)
