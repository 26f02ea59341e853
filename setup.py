# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Install the toolkit: ``pip install -e .`` gives the core, extras are named below."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent


def requirements(name: str) -> list:
    """Lines of ``requirements/NAME.txt`` without comments."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text().splitlines()
    return [line for line in (line.split('#')[0].strip() for line in lines) if line and not line.startswith('-')]


setup(
    name='sapiens-toolkit',
    version=re.search(r"__version__ = '(.+)'", (ROOT / 'sapiens/__init__.py').read_text()).group(1),
    description='Open toolkit for human-centric vision: pose, body parts, depth and surface normals',
    long_description=(ROOT / 'README.md').read_text(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    packages=find_packages(include=['sapiens', 'sapiens.*']),
    py_modules=['sapiens_toolkit'],
    package_data={
        'sapiens': [
            'py.typed',
            '**/*.json',
            'synthesis/data/*',
            'weights/*',
            # OpenMMLab's place for what is not a package; links in the checkout, files in the wheel.
            '.mim/model-index.yml',
            '.mim/configs/**/*.*',
            '.mim/tools/**/*.*',
            '.mim/demo/**/*.*',
        ]
    },
    exclude_package_data={'': ['*.pyc']},
    entry_points={'console_scripts': ['sapiens = sapiens_toolkit:main']},
    python_requires='>=3.10',
    install_requires=requirements('core'),
    extras_require={
        name: requirements(name)
        for name in ('hub', 'demo', 'synthesis', 'mitsuba', 'openmmlab', 'tests', 'docs')
        + ('curation', 'streaming', 'onnx', 'openvino', 'export', 'executorch', 'coreml', 'fast')
    },
)
