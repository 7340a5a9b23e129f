"""One thread that makes appended lines durable: at most one sync per stream and interval, or at once for
who waits. It sleeps without a timer while nothing is dirty.
"""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Protocol

from hivectl.kit.clock import SystemClock


class Syncable(Protocol):
    """Something with unsynced bytes."""

    def sync_files(self) -> None:
        """Make everything durable that was written before the call. In the sync thread; may raise OSError."""
        ...


_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[None]"]


class Syncer:
    """The thread and its list of what is dirty."""

    def __init__(self, interval_s: float) -> None:
        self._clock = SystemClock()  # a thread's waits cannot be driven by a test's clock
        self._interval_s = interval_s
        self._wake = threading.Condition()
        self._due: dict[Syncable, float] = {}
        self._waiters: dict[Syncable, list[_Waiter]] = {}
        self._is_closing = False
        self._thread: threading.Thread | None = None

    def mark(self, item: Syncable) -> None:
        """`item` has unsynced bytes: sync it within the interval."""
        with self._wake:
            self._due.setdefault(item, self._clock.monotonic() + self._interval_s)
            self._started()
            self._wake.notify()

    async def wait(self, item: Syncable) -> None:
        """Return when everything written to `item` before the call is durable. Raises OSError."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        with self._wake:
            self._waiters.setdefault(item, []).append((loop, done))
            self._started()
            self._wake.notify()
        await done

    def forget(self, item: Syncable) -> None:
        """Do not sync `item` any more."""
        with self._wake:
            self._due.pop(item, None)

    def close(self) -> None:
        """Sync what is dirty and end the thread. Blocks; call it in a thread."""
        with self._wake:
            self._is_closing = True
            self._wake.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _started(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="hivectl-journal-sync", daemon=True
            )
            self._thread.start()

    def _run(self) -> None:
        while True:
            with self._wake:
                while (pause := self._pause()) != 0:
                    self._wake.wait(pause)
                work = self._take()
                if not work and self._is_closing:
                    return
            for item, waiters in work:
                _sync(item, waiters)

    def _pause(self) -> float | None:
        """Seconds until there is something to do; 0 = now, None = nothing is dirty."""
        if self._waiters or self._is_closing:
            return 0
        if not self._due:
            return None
        return max(0.0, min(self._due.values()) - self._clock.monotonic())

    def _take(self) -> list[tuple[Syncable, list[_Waiter]]]:
        work = list(self._waiters.items())
        self._waiters = {}
        for item, _ in work:
            self._due.pop(item, None)
        now = self._clock.monotonic()
        due = [item for item, at in self._due.items() if at <= now or self._is_closing]
        for item in due:
            del self._due[item]
            work.append((item, []))
        return work


def _sync(item: Syncable, waiters: list[_Waiter]) -> None:
    error: OSError | None = None
    try:
        item.sync_files()
    except OSError as exc:
        error = exc
    for loop, done in waiters:
        with suppress(RuntimeError):  # the loop has ended, and the waiter with it
            loop.call_soon_threadsafe(_resolve, done, error)


def _resolve(done: asyncio.Future[None], error: OSError | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(OSError(error.errno, error.strerror))
