# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""The one way to write a file or a folder: it is there whole or not at all, and what was there before stays safe."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import socket
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import UserError


@contextlib.contextmanager
def replace_when_done(path: str | Path, *, folder: bool = False, sync: bool = True) -> Iterator[Path]:
    """Give a temporary path beside ``path``; when the block ends without an error it is renamed to ``path``.

    Libraries report a full disk in their own ways (a RuntimeError of torch, an error of safetensors); whatever the
    block raises because the system refused to write leaves as an ``OSError`` with its number and the file's name.

    Args:
        path: The file; folders on the way are made.
        folder: ``path`` is a folder: the temporary one is made, and an old folder is removed once the new one is there.
        sync: Flush to the disk before the file takes the old one's place. Leave it out for thousands of small files.

    Raises:
        OSError: The system refused; ``filename`` is ``path``.
    """
    path = Path(path)
    # Clipped, since names may have 255 bytes and the temporary one must not be too long where the final one fits.
    temporary = path.with_name(f'.{path.name[:40]}.{uuid.uuid4().hex[:8]}.tmp')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if folder:
            temporary.mkdir()
        yield temporary
        if sync:
            for file in filter(Path.is_file, temporary.rglob('*') if folder else [temporary]):
                _flush(file)
        if folder and path.is_dir():
            _exchange(temporary, path)
        else:
            os.replace(temporary, path)
    except Exception as error:
        cause = _refusal(error)
        if cause is None or (cause is error and error.filename not in (None, str(temporary), temporary)):
            raise
        number = cause.errno or errno.EIO
        raise OSError(number, os.strerror(number), str(path)) from error
    finally:
        if folder:
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):  # a read-only disk refuses even what is not there
                temporary.unlink()


def write_atomic(path: str | Path, content: bytes | str | Iterable[bytes], *, sync: bool = False) -> None:
    """Write a file whole or not at all.

    Args:
        path: The file; folders on the way are made.
        content: Text (UTF-8), bytes, or pieces of bytes.
        sync: See `replace_when_done`.

    Raises:
        OSError: The system refused; ``filename`` is ``path``.
    """
    if isinstance(content, str):
        content = content.encode(errors='surrogateescape')  # names of files in it may be of any bytes
    pieces = [content] if isinstance(content, bytes) else content
    with replace_when_done(path, sync=sync) as temporary, open(temporary, 'wb') as file:
        file.writelines(pieces)


@contextlib.contextmanager
def only_writer(folder: str | Path) -> Iterator[None]:
    """Be the only process that works in a folder; nothing of that is left there afterwards.

    The system ends the lock with the process, however that ends.

    Raises:
        UserError: Another process is at work there.
    """
    path = Path(folder) / '.in_use'
    path.parent.mkdir(parents=True, exist_ok=True)
    file = None
    with contextlib.suppress(ImportError, PermissionError):  # Windows; one that another user has left there
        import fcntl

        file = open(path, 'a+', encoding='utf-8')  # noqa: SIM115
    if file is None:
        yield
        return
    with file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # unlike flock's, this lock is not of forked workers too
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.seek(0)
                raise UserError(
                    f'{folder}: process {file.read().strip() or "?"} is at work there; give another folder, or wait '
                    f'for its end (should that machine be gone, remove {path})'
                ) from None
            # else a file system without locks
        if not os.fstat(file.fileno()).st_nlink:  # who was at work there has just ended and removed it
            with only_writer(folder):
                yield
            return
        file.truncate(0)
        file.write(f'{os.getpid()} of {socket.gethostname()}')
        file.flush()
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()  # while it is still locked: it is ours


def _flush(file: Path) -> None:
    # Opened for writing, since Windows flushes nothing else.
    descriptor = os.open(file, os.O_RDWR | getattr(os, 'O_BINARY', 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(new: Path, old: Path) -> None:
    """Put a folder in the place of another, which no system does in one step."""
    aside = new.with_suffix('.old')
    os.replace(old, aside)
    try:
        os.replace(new, old)
    except OSError:
        os.replace(aside, old)
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _refusal(error: BaseException | None) -> OSError | None:
    """The system's refusal behind an error of a library: in its chain of causes, or in its text."""
    seen = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno:
            return error
        told = re.search(r'\(os error (\d+)\)|\d+ requested and \d+ written', str(error))
        if told:  # by safetensors with a number, by numpy without one
            return OSError(int(told[1] or errno.ENOSPC), str(error))
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None
