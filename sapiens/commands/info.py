# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Say what is installed here (for questions and bug reports), or what checkpoints hold.

Example: sapiens info
         sapiens info downloads/*.pth
"""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

from .. import __version__
from . import options

PACKAGES = {
    'core': ('torch', 'numpy', 'opencv-python', 'opencv-python-headless', 'mmengine', 'mmcv-lite', 'safetensors')
    + ('faster-coco-eval',),
    'optional': ('huggingface_hub', 'av', 'gradio', 'torchvision', 'onnxruntime', 'openvino', 'numba', 'mmcv'),
    'OpenMMLab toolkits': ('mmpose', 'mmsegmentation', 'mmpretrain', 'mmdet'),
}


def main() -> None:
    """Read the options and print."""
    parser = options.new_parser(__doc__)
    parser.add_argument('checkpoints', nargs='*', metavar='CHECKPOINT', help='files to look into; default: none')
    args = parser.parse_args()
    if not args.checkpoints:
        print('\n'.join(f'{name}: {value}' for name, value in describe_installation().items()))
        return
    from ..engine.describe import describe_file

    print('\n'.join(describe_file(file) for file in args.checkpoints))


def describe_installation() -> dict[str, str]:
    """Versions, devices and folders, for people."""
    import torch

    facts = {
        'sapiens-toolkit': f'{__version__} in {Path(__file__).parents[1]}',
        'Python': f'{platform.python_version()} on {platform.platform()}',
    }
    for kind, names in PACKAGES.items():
        facts[kind] = ', '.join(f'{name} {version}' for name in names if (version := _version(name))) or 'none'
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    facts['devices'] = ', '.join([*gpus, *(['mps'] if torch.backends.mps.is_available() else []), 'cpu'])
    return facts


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
