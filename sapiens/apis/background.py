# Copyright (c) The Sapiens toolkit authors. Licensed under Apache-2.0.
"""Reading ahead and writing behind, in threads, without piling up work or losing errors."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeVar

T = TypeVar('T')


def read_ahead(items: Iterator[T], depth: int = 2) -> Iterator[T]:
    """The items of an iterator that runs in a thread of its own, at most ``depth`` and one in the making ahead.

    What the iterator raises comes out after the items before it. When the reader of this stops early, so does the
    thread, and the iterator is closed.
    """
    end: Any = object()
    pool = ThreadPoolExecutor(1, 'sapiens-read-ahead')
    ahead = deque(pool.submit(next, items, end) for _ in range(depth + 1))
    try:
        while (item := ahead.popleft().result()) is not end:
            ahead.append(pool.submit(next, items, end))
            yield item
    finally:
        for future in ahead:
            future.cancel()
        pool.submit(getattr(items, 'close', list))  # where it runs: a generator may hold what belongs to its thread
        pool.shutdown()


class WriteBehind:
    """Runs calls in threads, few at a time; `submit` waits while too many are under way.

    Results come in the order of the calls, and so does the first error, at the next `submit` or at the end.

    Args:
        workers: Threads; with one, calls run one after another. One call more may be under way.
    """

    def __init__(self, workers: int = 1) -> None:
        self._pool = ThreadPoolExecutor(workers, 'sapiens-write-behind')
        self._calls: deque[Future] = deque()
        self._waiting = workers + 1

    def submit(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> list[Any]:
        """Run a call later; what calls before it have returned since."""
        self._calls.append(self._pool.submit(function, *args, **kwargs))
        return self._collect(self._waiting)

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
