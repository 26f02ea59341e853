# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Reading ahead and writing behind, in threads, without piling up work or losing errors."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Empty, Full, Queue
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar('T')


def read_ahead(items: Iterator[T], depth: int = 2) -> Iterator[T]:
    """The items of an iterator that runs in a thread of its own, at most ``depth`` and one in the making ahead.

    What the iterator raises comes out after the items before it. When the reader of this stops early, so does the
    thread, and the iterator is closed.
    """
    queue: Queue = Queue(depth)
    stopped = threading.Event()

    def hand_over(*message: Any) -> bool:
        while not stopped.is_set():
            try:
                queue.put(message, timeout=0.1)
                return True
            except Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not hand_over('item', item):
                    break
            else:
                hand_over('end', None)
        except BaseException as error:  # of whatever kind: it is raised again where the items are read
            hand_over('error', error)
        finally:
            close = getattr(items, 'close', None)
            if close is not None:
                close()

    thread = threading.Thread(target=work, name='sapiens-read-ahead', daemon=True)
    thread.start()
    try:
        while True:
            kind, value = queue.get()
            if kind == 'end':
                return
            if kind == 'error':
                raise value
            yield value
    finally:
        stopped.set()
        try:
            while True:
                queue.get_nowait()
        except Empty:
            pass
        thread.join(timeout=10)


class WriteBehind:
    """Runs calls in threads, few at a time; `submit` waits while too many are under way.

    Results come in the order of the calls, and so does the first error, at the next `submit` or at the end.

    Args:
        workers: Threads; with one, calls run one after another.
        waiting: Calls that may be under way.
    """

    def __init__(self, workers: int = 1, waiting: int | None = None) -> None:
        self._pool = ThreadPoolExecutor(workers, 'sapiens-write-behind')
        self._calls: deque[Future] = deque()
        self.waiting = workers + 1 if waiting is None else waiting

    def submit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Run a call later; what calls before it have returned since."""
        self._calls.append(self._pool.submit(function, *args, **kwargs))
        return self._collect(self.waiting)

    def finish(self) -> list[Any]:
        """Wait for all calls; what they have returned since."""
        return self._collect(0)

    def _collect(self, left: int) -> list[Any]:
        done = []
        while self._calls and (len(self._calls) > left or self._calls[0].done()):
            done.append(self._calls.popleft().result())
        return done

    def __enter__(self) -> WriteBehind:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                self.finish()
        finally:
            self._pool.shutdown(wait=True, cancel_futures=True)
