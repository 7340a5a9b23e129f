"""Tasks that cannot be lost: the only maker of asyncio tasks.

A `Nursery` owns every task it starts, contains their failures (reported to one callback, never
swallowed silently) and ends them all, within a limit, when it is closed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVar

T = TypeVar("T")


class Nursery:
    """Owner of long-lived background tasks whose failures must not sink each other."""

    def __init__(self, on_failure: Callable[[str, BaseException], None]) -> None:
        """`on_failure(name, error)` hears of every task that ended with an exception."""
        self._on_failure = on_failure
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    def start(self, work: Coroutine[Any, Any, Any], *, name: str) -> asyncio.Task[Any]:
        """Run `work` until it ends or the nursery is closed."""
        if self._is_closed:
            work.close()
            raise RuntimeError(f"cannot start {name}: its owner is closing")
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(task.get_name(), error)

    async def close(self, *, within_s: float) -> None:
        """Cancel what still runs and wait for it, at most `within_s` seconds."""
        self._is_closed = True
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(list(self._tasks), timeout=within_s)


async def finish(work: Awaitable[T], *, within_s: float) -> T | None:
    """Await cleanup to its end even if the caller is cancelled meanwhile; None when time ran out."""
    task = asyncio.ensure_future(work)
    cancelled = False
    deadline = asyncio.get_running_loop().time() + within_s
    while not task.done():
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            break
        try:
            await asyncio.wait([task], timeout=left)
        except asyncio.CancelledError:
            cancelled = True
    if cancelled:
        raise asyncio.CancelledError
    return None if task.cancelled() else task.result()
