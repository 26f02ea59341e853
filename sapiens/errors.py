# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Failures that a user can cause: one line that names the file and the mend, and exit code 1."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Callable


class UserError(ValueError):
    """Something outside the program is wrong; the message is one line that names it and says how to mend it."""

    def __init__(self, *args: object) -> None:
        # torch raises the error of a loader's worker again with the worker's traceback as its text.
        if args and isinstance(args[0], str) and 'Original Traceback (most recent call last)' in args[0]:
            message = args[0].rpartition(f'{type(self).__module__}.{type(self).__qualname__}: ')[2]
            args = (message.strip(), *args[1:])
        super().__init__(*args)


class MissingPackageError(UserError, ImportError):
    """An optional package is needed and not installed; the message says how to get it."""


def run_cli(main: Callable[[], int | None]) -> None:
    """Run the main function of a script: a `UserError` becomes one line on stderr and exit code 1.

    Files that cannot be opened, and parts of a config that cannot be built, count as user errors too.

    Args:
        main: Returns the exit code (None is 0).
    """
    try:
        code = main()
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f'{error.filename}: {error.strerror}')
    except (TypeError, KeyError) as error:
        message = explain_config_error(error)
        if message is None:
            raise
        _fail(message)
    except KeyboardInterrupt:
        _fail('interrupted', code=130)
    else:
        sys.exit(code or 0)


def explain_config_error(error: TypeError | KeyError) -> str | None:
    """One line for a part of a config without a type, or with an argument that its class does not have.

    Args:
        error: What building the part raised.

    Returns:
        None for any other error.
    """
    builders = [f.frame for f in inspect.getinnerframes(error.__traceback__) if f.function == 'build_from_cfg']
    if not builders:
        return None
    if isinstance(error, KeyError):
        if 'must contain the key "type"' not in str(error):
            return None
        part = builders[-1].f_locals
        return f"config: a {part['registry'].name} needs a 'type', this has none: {dict(part['cfg'])}"
    match = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    built = builders[-1].f_locals.get('obj_cls')
    if match is None or not inspect.isclass(built) or match[1] not in builders[-1].f_locals.get('args', {}):
        return None
    known = {
        name
        for parent in built.__mro__
        if '__init__' in vars(parent)
        for name in list(inspect.signature(parent.__init__).parameters)[1:]
    } - {'args', 'kwargs'}
    near = difflib.get_close_matches(match[1], known, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else f'; it takes {", ".join(sorted(known))}'
    return f"config: {built.__name__} has no argument '{match[1]}'{hint}"


def _fail(message: str, code: int = 1) -> None:
    print('error: ' + ' '.join(message.split()), file=sys.stderr)
    sys.exit(code)
