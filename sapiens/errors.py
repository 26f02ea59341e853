# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Failures that a user can cause: one line that names the file and the mend, and exit code 1."""

from __future__ import annotations

import atexit
import difflib
import errno
import functools
import inspect
import logging
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

if not hasattr(sys.modules[__package__], 'TOOLKIT'):
    # Another distribution wrote its `sapiens/__init__.py` over ours; every module of ours comes past here.
    from sapiens_toolkit import explain

    raise ImportError(explain(str(sys.modules[__package__].__file__)))

CONFIG_ERRORS = (TypeError, LookupError, ValueError, AttributeError, AssertionError, ArithmeticError, RuntimeError)
"""What a wrong value in a config can raise where it is used first."""

# Functions, of mmengine and ours, that build what a config describes, or hand its options on.
_BUILDER = re.compile(
    r'from_cfg|scale_lr|_maybe_compile|_clip_grad|build_(from_cfg|(train_|val_|test_)?(dataloader|loop)|optim_wrapper|param_scheduler|evaluator)'
)


leave_at_once = False
"""For `run_cli`, set where threads of a library would abort the interpreter as it winds up (gloo's, exit code 134)."""


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

    Files that cannot be opened, and parts of a config that cannot be built, count as user errors too;
    with ``SAPIENS_TRACEBACK=1`` in the environment the latter show their traceback. SIGTERM, which schedulers and
    ``timeout`` send, and which alone reaches what a script started with ``&``, ends like Ctrl-C, and so does SIGHUP of
    a closed terminal (without ``nohup``): work in progress is put in order first.

    Args:
        main: Returns the exit code (None is 0).
    """
    for stream in (sys.stdout, sys.stderr):  # names of files may hold what a terminal cannot show
        if hasattr(stream, 'reconfigure'):
            stream.reconfigure(errors='backslashreplace')
    logging.raiseExceptions = False  # a log that cannot be written, on a full disk say, is no traceback
    main_thread = threading.current_thread() is threading.main_thread()
    numbers = {signal.SIGTERM, getattr(signal, 'SIGHUP', signal.SIGTERM)} if main_thread else set()
    ours = [number for number in numbers if signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, functools.partial(_stop, os.getpid()))
    told = threading.excepthook
    threading.excepthook = functools.partial(_tell_of_thread, told)
    try:
        _run(main)
    except BaseException as error:
        if not leave_at_once:
            raise
        if not isinstance(error, SystemExit):
            traceback.print_exc()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(error.code or 0) if isinstance(error, SystemExit) else 1)
    finally:
        threading.excepthook = told
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def _tell_of_thread(others: Callable[[Any], Any], failure: Any) -> None:
    """A thread has ended: one that a full disk stops, TensorBoard's, say, with one line instead of its traceback."""
    if _is_full(failure.exc_value):
        print('warning: the disk is full: what runs beside, e.g. TensorBoard, writes no more', file=sys.stderr)
    else:
        others(failure)


def _is_full(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def _run(main: Callable[[], int | None]) -> None:
    """Run a main function; ends in `SystemExit` or, with a defect of ours, in another exception."""
    try:
        try:
            code = main()
        except Exception as error:
            hidden: BaseException | None = error
            while hidden is not None and not isinstance(hidden, KeyboardInterrupt):
                hidden = hidden.__context__
            if hidden is not None:  # a library's `except:` made another error of it
                raise KeyboardInterrupt from None
            raise
    except UserError as error:
        _fail(str(error))
    except OSError as error:
        if _is_full(error):
            where = f'{error.filename}: ' if error.filename else ''
            _fail(f'{where}the disk is full; free some space and run the same command again')
        if error.filename is None:
            raise
        in_the_way = isinstance(error, (FileExistsError, NotADirectoryError))
        _fail(f'{error.filename}: {"a file is in the way; give another folder" if in_the_way else error.strerror}')
    except ImportError as error:
        message = explain_missing_library(error)
        if message is None:
            raise
        _fail(message)
    except CONFIG_ERRORS as error:
        message = explain_config_error(error)
        if message is None or os.environ.get('SAPIENS_TRACEBACK'):
            raise
        _fail(message)
    except KeyboardInterrupt:
        _fail('interrupted', code=130)
    else:
        sys.exit(code or 0)


def _stop(process: int, number: int, _: FrameType | None) -> None:
    if os.getpid() == process:
        raise KeyboardInterrupt
    # A worker that was forked off has nothing to put in order.
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def explain_missing_library(error: ImportError) -> str | None:
    """One line for a compiled package that does not find a library of the system, as OpenCV in a slim container.

    Args:
        error: Of the import.

    Returns:
        None where something else failed.
    """
    library = re.match(r'(\S+\.so[.\d]*): cannot open shared object file', str(error))
    if library is None:
        return None
    importers = [frame.f_globals.get('__name__', '') for frame, _ in traceback.walk_tb(error.__traceback__)]
    package = next(name for name in [*reversed(importers), 'Python'] if not name.startswith('importlib')).partition(
        '.'
    )[0]
    if package == 'cv2':
        return (
            f'OpenCV needs {library[1]}, which this machine does not have; without windows it does not: pip uninstall '
            '-y opencv-python && pip install opencv-python-headless (or, on Debian and Ubuntu: apt-get install libgl1 '
            'libglib2.0-0 libxcb1)'
        )
    return f'{package} needs {library[1]}, which this machine does not have; install what brings it, or {package} anew'


def explain_config_error(error: Exception) -> str | None:
    """One line for an error that came up while a part of a config was being built.

    That is a part without a type, an argument that its class does not have, or a value that it does not take.

    Args:
        error: One of `CONFIG_ERRORS`.

    Returns:
        None when nothing was being built.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    builders = [f for f in frames if _BUILDER.fullmatch(f.f_code.co_name)]
    if not builders:
        return None
    last = builders[-1]
    places = [f.f_locals for f in frames]
    configs: list[Any] = [
        c for p in places for c in (p.get('cfg'), p.get('config'), getattr(p.get('self'), 'cfg', None))
    ]
    config = next((c.filename for c in configs if type(c).__name__ == 'Config' and c.filename), 'config')
    if isinstance(error, KeyError) and 'must contain the key "type"' in str(error):
        return (
            f"{config}: a {last.f_locals['registry'].name} needs a 'type', this has none: {dict(last.f_locals['cfg'])}"
        )
    wrong = re.search(r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'", str(error))
    built = last.f_locals.get('obj_cls')
    inherits = wrong and inspect.isclass(built) and wrong[1] in {parent.__name__ for parent in built.__mro__}
    owner = built if inherits else _find_class(wrong[1], frames) if wrong else None
    if wrong and owner is not None:
        known = {*arguments_of(owner)} - {'args', 'kwargs'}
        near = difflib.get_close_matches(wrong[2], known, n=1, cutoff=0.5)
        hint = f"; did you mean '{near[0]}'?" if near else f'; it takes {", ".join(sorted(known))}'
        return f"{config}: {owner.__name__} has no argument '{wrong[2]}'{hint}"
    what = built.__name__ if inspect.isclass(built) else last.f_code.co_name.removeprefix('build_').strip('_')
    what = 'the runner' if what == 'from_cfg' else what
    return f'{config}: {what}: {type(error).__name__}: {error} (SAPIENS_TRACEBACK=1 shows where)'


def arguments_of(kind: type | None) -> dict[str, inspect.Parameter]:
    """What a class takes, by name, and what its parents take of the rest that it hands on."""
    found: dict[str, inspect.Parameter] = {}
    for parent in getattr(kind, '__mro__', ()):
        if '__init__' in vars(parent):
            own = dict(list(inspect.signature(parent.__init__).parameters.items())[1:])
            found = {**own, **found}
            if not any(argument.kind is argument.VAR_KEYWORD for argument in own.values()):
                break
    return found


def _find_class(name: str, frames: list[FrameType]) -> type | None:
    """The class of that name that some frame knows."""
    for frame in reversed(frames):
        for value in (*frame.f_locals.values(), *frame.f_globals.values()):
            if inspect.isclass(value) and value.__name__ == name:
                return value
    return None


def _fail(message: str, code: int = 1) -> None:
    print('error: ' + ' '.join(message.split()), file=sys.stderr)
    sys.exit(code)
