# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Every registry of the toolkit, child of mmengine's root, scope ``sapiens``."""

from __future__ import annotations

import difflib

from mmengine import registry as root

from .errors import UserError
from .openmmlab import TOOLKITS, prepare_toolkit


class UnknownNameError(UserError, KeyError):
    """A registry was asked for a name that nothing is registered under."""

    def __str__(self) -> str:
        return str(self.args[0])


class Registry(root.Registry):
    """mmengine's registry that names the nearest match for a typo and prepares OpenMMLab toolkits on demand."""

    def get(self, key: str) -> type | None:
        """Find ``'SapiensViT'``, ``'sapiens.SapiensViT'`` or a toolkit's ``'mmpose.CocoDataset'``.

        Raises:
            UnknownNameError: Nothing has that name here, in mmengine or in the toolkit named.
            MissingPackageError: The toolkit that the name asks for is not installed.
        """
        scope, name = self.split_scope_key(key)
        if scope in TOOLKITS:
            prepare_toolkit(scope)
        found = super().get(key)
        if found is None:
            near = difflib.get_close_matches(name, self._known(scope), n=1, cutoff=0.5)
            hint = f"; did you mean '{scope + '.' if scope in TOOLKITS else ''}{near[0]}'?" if near else ''
            raise UnknownNameError(f"'{key}' is not a registered {self.name}{hint}")
        return found

    def _known(self, scope: str | None) -> set[str]:
        """Names of the toolkit asked for; without one, ours and mmengine's."""
        root_registry = self._get_root_registry()
        if scope in TOOLKITS:
            return set(root_registry.children[scope].module_dict) if scope in root_registry.children else set()
        return set(self.module_dict) | set(root_registry.module_dict)

    def __contains__(self, key: str) -> bool:
        try:
            return self.get(key) is not None
        except UserError:
            return False


def _child(name: str, locations: list[str]) -> Registry:
    """Our child of mmengine's registry of that name; the locations are imported at the first lookup."""
    parent = getattr(root, name)
    return Registry(parent.name, parent=parent, scope='sapiens', locations=locations)


DATASETS = _child('DATASETS', ['sapiens.datasets'])
DATA_SAMPLERS = _child('DATA_SAMPLERS', ['sapiens.datasets'])
TRANSFORMS = _child('TRANSFORMS', ['sapiens.datasets'])
MODELS = _child('MODELS', ['sapiens.models'])
MODEL_WRAPPERS = _child('MODEL_WRAPPERS', ['sapiens.engine'])
METRICS = _child('METRICS', ['sapiens.evaluation'])
EVALUATOR = _child('EVALUATOR', ['sapiens.evaluation'])
HOOKS = _child('HOOKS', ['sapiens.engine'])
LOOPS = _child('LOOPS', ['sapiens.engine'])
RUNNERS = _child('RUNNERS', ['sapiens.engine'])
STRATEGIES = _child('STRATEGIES', ['sapiens.engine'])
OPTIMIZERS = _child('OPTIMIZERS', ['sapiens.engine'])
OPTIM_WRAPPERS = _child('OPTIM_WRAPPERS', ['sapiens.engine'])
OPTIM_WRAPPER_CONSTRUCTORS = _child('OPTIM_WRAPPER_CONSTRUCTORS', ['sapiens.engine'])
PARAM_SCHEDULERS = _child('PARAM_SCHEDULERS', ['sapiens.engine'])
WEIGHT_INITIALIZERS = _child('WEIGHT_INITIALIZERS', ['sapiens.engine'])
LOG_PROCESSORS = _child('LOG_PROCESSORS', ['sapiens.engine'])
VISUALIZERS = _child('VISUALIZERS', ['sapiens.visualization'])
VISBACKENDS = _child('VISBACKENDS', ['sapiens.visualization'])

CODECS = Registry('codec', scope='sapiens', locations=['sapiens.codecs'])
DETECTORS = Registry('detector', scope='sapiens', locations=['sapiens.apis'])
CURATION_STAGES = Registry('curation stage', scope='sapiens', locations=['sapiens.curation'])
CURATION_MODELS = Registry('curation model', scope='sapiens', locations=['sapiens.curation'])
