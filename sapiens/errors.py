# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Failures that a user can cause: one line that names the file and the mend, and exit code 1."""

from __future__ import annotations

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

    Files that cannot be opened count as user errors too.

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
    except KeyboardInterrupt:
        _fail('interrupted', code=130)
    else:
        sys.exit(code or 0)


def _fail(message: str, code: int = 1) -> None:
    print('error: ' + ' '.join(message.split()), file=sys.stderr)
    sys.exit(code)
