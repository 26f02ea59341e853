# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Every registry of the toolkit, child of mmengine's root, scope ``sapiens``."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Mapping

from mmengine import registry as root

from .errors import UserError
from .openmmlab import TOOLKITS, prepare_toolkit, toolkit_installed


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
        found = self._find(key)
        if found is None:
            near = difflib.get_close_matches(name, self._known(scope), n=1, cutoff=0.5)
            theirs = None if scope or difflib.get_close_matches(name, near, cutoff=0.9) else self._toolkit_of(name)
            if theirs:
                raise UnknownNameError(
                    f"'{key}' is a {self.name} of {theirs}: write '{theirs}.{name}', or leave it out"
                )
            hint = f"; did you mean '{scope + '.' if scope in TOOLKITS else ''}{near[0]}'?" if near else ''
            raise UnknownNameError(f"'{key}' is not a registered {self.name}{hint}")
        return found

    def _find(self, key: str) -> type | None:
        if self.split_scope_key(key)[0] in TOOLKITS:
            prepare_toolkit(self.split_scope_key(key)[0])
        return super().get(key)

    def _toolkit_of(self, name: str) -> str | None:
        for toolkit in filter(toolkit_installed, TOOLKITS if self.parent is not None else ()):
            with contextlib.suppress(ImportError, AssertionError):  # of versions that do not fit each other
                if self._find(f'{toolkit}.{name}'):
                    return toolkit
        return None

    def _known(self, scope: str | None) -> set[str]:
        """Names of the toolkit asked for; without one, ours and mmengine's."""
        root_registry = self._get_root_registry()
        if scope in TOOLKITS:
            return set(root_registry.children[scope].module_dict) if scope in root_registry.children else set()
        return set(self.module_dict) | set(root_registry.module_dict)

    def __contains__(self, key: str) -> bool:
        try:
            return self._find(key) is not None
        except UserError:
            return False


def type_name(part: Mapping, default: str = '') -> str:
    """Name of the class that a part of a config builds, without its scope or module."""
    kind = part.get('type', default)
    return str(getattr(kind, '__name__', kind)).rpartition('.')[2]


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
