# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Read a config file, and say in one line what is wrong with it."""

from __future__ import annotations

import ast
import difflib
import os
import re
import warnings
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from mmengine.config import Config
from mmengine.config import config as mmengine_config
from mmengine.config.utils import MODULE2PACKAGE, ConfigParsingError
from yapf.yapflib.yapf_api import FormatCode

from ..errors import UserError
from ..utils.shipped import find_config_file, shipped_configs, shipped_root
from .complete import RUNNER_KEYS, complete_config

# `_base_ = 'sapiens::pose/sapiens_1b_308kpt.py'` in a config of the user's inherits ours, wherever it is installed.
MODULE2PACKAGE.setdefault('sapiens', 'sapiens')


@lru_cache(maxsize=8)
def _formatted(code: str, *options: tuple[str, Any]) -> Any:
    return FormatCode(code, **{key: dict(value) if key == 'style_config' else value for key, value in options})


# A runner writes its config five times as it starts, and into each checkpoint; to format one takes seconds.
mmengine_config.FormatCode = lambda code, style_config, **options: _formatted(
    code, ('style_config', tuple(style_config.items())), *options.items()
)


class ConfigError(UserError):
    """A config file that does not exist or cannot be read, or an option that no config has."""


def _nearest_config(path: Path) -> str:
    """A hint that names the config most like ``path``, or how to list them."""
    known = {stem: p.relative_to(shipped_root()).as_posix() for stem, p in shipped_configs().items()}
    known |= {p.stem: str(p) for p in path.parent.glob('*.py') if p.is_file()}
    near = difflib.get_close_matches(path.stem, known, n=1, cutoff=0.5)
    return f"did you mean '{known[near[0]]}'?" if near else 'the configs are in the folder configs/'


def _check_source(path: Path) -> None:
    """Parse a config and the files it inherits, before mmengine does, to name file and line of an error."""
    try:
        text = path.read_text(encoding='utf-8')
    except UnicodeDecodeError:
        raise ConfigError(f'{path}: is not UTF-8 text; save it as UTF-8') from None
    if text.startswith('\ufeff'):
        raise ConfigError(
            f'{path}: begins with a byte order mark; save it as UTF-8 without one ("UTF-8", not "with BOM")'
        )
    line, bases = (_bases_of_yaml if path.suffix in ('.yaml', '.yml') else _bases_of_python)(path, text)
    for base in [bases] if isinstance(bases, str) else bases:
        if '::' in base or '://' in base:
            continue
        target = Path(os.path.normpath(path.parent / base))
        if not target.is_file():
            there = [p.name for p in target.parent.glob('*.py') if p.is_file()]
            near = difflib.get_close_matches(target.name, there, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ''
            raise ConfigError(f"{path}:{line}: _base_ '{base}' does not exist{hint}")
        if target.suffix in ('.py', '.yaml', '.yml'):
            _check_source(target)


def _bases_of_python(path: Path, text: str) -> tuple[int, str | list[str]]:
    try:
        tree = ast.parse(text, filename=str(path))
    except SyntaxError as error:
        raise ConfigError(f'{path}:{error.lineno}: {error.msg}: {(error.text or "").strip()}') from None
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], 'id', '') == '_base_':
            try:
                return node.lineno, ast.literal_eval(node.value)
            except ValueError:
                break
    return 0, []


class _PlainLoader(yaml.SafeLoader):
    """YAML without the tags that call Python; tuples, which mmengine writes, are plain."""


_PlainLoader.add_constructor('tag:yaml.org,2002:python/tuple', yaml.SafeLoader.construct_yaml_seq)  # type: ignore[type-var]


def _bases_of_yaml(path: Path, text: str) -> tuple[int, str | list[str]]:
    """mmengine's own reader would run what a tag such as ``!!python/object/apply`` names."""
    try:
        # mmengine fills in {{ variables }} before it parses.
        document = yaml.load(re.sub(r'{{.*?}}', '0', text), Loader=_PlainLoader)
    except yaml.constructor.ConstructorError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        tag = re.search(r"'([^']*python[^']*)'", str(error.problem))
        what = f'the tag {tag[1].replace("tag:yaml.org,2002:", "!!")} runs code' if tag else error.problem
        raise ConfigError(f'{path}:{line}: {what}: refused; write plain values, or a .py config') from None
    except yaml.YAMLError as error:
        raise ConfigError(f'{path}: not valid YAML: {" ".join(str(error).split())}') from None
    return 1, (document.get('_base_') or []) if isinstance(document, dict) else []


def _check_kind(part: Any, key: str, value: Any, path: Path) -> None:
    """A command line can leave a part of a config out or set what is in it, but not replace it by plain text."""
    for name in key.split('.'):
        known = isinstance(part, (list, tuple)) and name.isdecimal() and int(name) < len(part)
        part = part[int(name)] if known else part.get(name) if isinstance(part, Mapping) else None
    parts = isinstance(part, (list, tuple)) and any(isinstance(item, Mapping) for item in part)
    # Some arguments are a name or a dict (``arch``); parts have a type, or parts in them, or stand on top.
    whole = isinstance(part, Mapping) and (
        'type' in part or '.' not in key or any(isinstance(item, Mapping) for item in part.values())
    )
    if value is not None and not isinstance(value, (Mapping, list, tuple)) and (parts or whole):
        inner = f'{key}.0' if parts else f'{key}.{next(iter(part), "NAME")}'
        raise ConfigError(f'--cfg-options: {key} is a {type(part).__name__.replace("ConfigDict", "dict")} in {path}, '
                          f'not {value!r}; set what is in it ({inner}=...), or leave it out ({key}=None)')  # fmt: skip


def load_config(path: str | Path, options: Mapping[str, Any] | None = None) -> Config:
    """Read a config and override parts of it.

    Args:
        path: ``.py`` (or ``.json``, ``.yaml``) file, or the name of a shipped config, see `find_config_file`.
        options: Dotted key -> value, e.g. ``{'model.backbone.arch': '0.3b'}``. The first part of a key must be known.

    Raises:
        ConfigError: No such file (the nearest is named), a syntax error (with its line), or an unknown option.
    """
    path = find_config_file(path)
    if not path.is_file():
        raise ConfigError(f'{path}: no such config; {_nearest_config(path)}')
    if path.suffix not in ('.py', '.json', '.yaml', '.yml'):
        raise ConfigError(f'{path}: a config is a .py file')
    if path.suffix != '.json':
        _check_source(path)
    try:
        with warnings.catch_warnings():
            # mmengine looks for the package of a `sapiens::` base with it.
            warnings.filterwarnings('ignore', 'pkg_resources is deprecated')
            config = Config.fromfile(str(path))
    except ImportError as error:
        raise _not_imported(path, error) from None
    except (ConfigParsingError, KeyError, NameError, TypeError, AttributeError, ValueError) as error:
        raise ConfigError(f'{path}: {type(error).__name__}: {error}') from None
    if options:
        for key in options:
            first = key.split('.')[0]
            if first not in config and first not in RUNNER_KEYS:
                near = difflib.get_close_matches(first, {*config, *RUNNER_KEYS}, n=1)
                hint = f"; did you mean '{near[0]}'?" if near else ''
                raise ConfigError(f"--cfg-options: '{first}' is no key of {path}{hint}")
            _check_kind(config._cfg_dict, key, options[key], path)
        try:
            config.merge_from_dict(dict(options))
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            # mmengine quotes the whole list or dict.
            reason = re.sub(r'\s*[\[{].*', '', str(error).strip('"'))
            raise ConfigError(f'--cfg-options: {" ".join(options)} does not fit {path}: {reason}') from None
    names = config.get('vocabulary')
    if isinstance(names, str) and not Path(names).exists() and (path.parent / names).is_file():
        config.vocabulary = str(path.parent / names)  # the config is used from another folder
    try:
        return complete_config(config)
    except UserError as error:
        raise ConfigError(f'{path}: {error}') from None
    except ImportError as error:  # mmengine looks up what a file without _base_ imports when it is first read
        raise _not_imported(path, error) from None


def _not_imported(path: Path, error: ImportError) -> ConfigError:
    cause: BaseException = error
    while isinstance(cause.__cause__ or cause.__context__, ImportError):
        cause = cause.__cause__ or cause.__context__ or cause
    return ConfigError(
        f'{path}: {cause}; modules of yours are found by PYTHONPATH, e.g. PYTHONPATH=. sapiens train ...'
    )
