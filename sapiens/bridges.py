# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""For configs of the OpenMMLab toolkits: ``custom_imports = dict(imports=['sapiens.bridges'])``.

Importing this module prepares every installed toolkit (see `sapiens.openmmlab`), so that the toolkit's own tools run
beside mmcv-lite. ``type='sapiens.SapiensViT'`` then needs nothing more.
"""

from .openmmlab import TOOLKITS, prepare_toolkit, toolkit_installed

for _name in TOOLKITS:
    if toolkit_installed(_name):
        prepare_toolkit(_name)
