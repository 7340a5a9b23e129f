"""Starts processes under shims on this machine, and finds them again."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from hivectl.kit import failpoint
from hivectl.kit.aio import Nursery
from hivectl.kit.clock import Clock
from hivectl.model.errors import HiveError
from hivectl.ports import Launch
from hivectl.procs import rundir
from hivectl.procs.handle import LocalHandle
from hivectl.procs.reaper import Reaper
from hivectl.procs.rundir import RunDir, StopTimes

START_LIMIT_S = 20.0
"""How long a shim may take to start its child, and an adopted one to be ready."""
CLOSE_LIMIT_S = 5.0
_POLL_S = 0.01

log = logging.getLogger(__name__)


class LocalHost:
    """The `ProcessHost` of this machine. One per runs directory; all its calls on one event loop."""

    def __init__(
        self,
        runs_dir: Path,
        *,
        clock: Clock,
        times: StopTimes | None = None,
        child_umask: int = 0o022,
        failpoints: str = "",
    ) -> None:
        """`child_umask`: the daemon's own is private, which is no umask for work in a project.
        `failpoints`: HIVECTL_FAILPOINT for the shims."""
        self._runs_dir = runs_dir
        self._clock = clock
        self._times = times or StopTimes()
        self._child_umask = child_umask
        self._failpoints = failpoints
        self._reaper = Reaper()
        self._is_open = False
        self._tasks = Nursery(self._on_failure)
        self._handles: dict[str, tuple[LocalHandle, asyncio.Task[None]]] = {}

    def _on_failure(self, name: str, error: BaseException) -> None:
        log.error("the watch over a process failed", extra={"process": name}, exc_info=error)

    def _open(self) -> None:
        if not self._is_open:
            self._is_open = True
            self._reaper.open()

    async def start(self, process: str, launch: Launch) -> LocalHandle:
        """Start a child under a shim of its own. Raises HiveError SPAWN_FAILED or STORAGE_FULL."""
        self._open()
        directory = RunDir(self._runs_dir, process)
        try:
            pid, report = await asyncio.to_thread(self._spawn, directory, launch)
        except OSError as error:
            raise rundir.start_error("shim", error.errno or 0, launch) from error
        gone = self._reaper.watch(pid)
        failpoint.hit("shim_forked")
        said = await self._hear(pid, report)
        match said.split():
            case ["ok", _]:
                pass
            case ["fail", stage, code]:
                await gone.wait()
                raise rundir.start_error(stage, int(code), launch)
            case _:
                raise HiveError(
                    "SPAWN_FAILED",
                    "the shim ended before it had started its child",
                    details={"reason": "shim", "log": directory.tail_of_log()},
                )
        handle = LocalHandle(directory, self._clock, shim_gone=gone)
        return await self._follow(handle)

    def _spawn(self, directory: RunDir, launch: Launch) -> tuple[int, int]:
        lock = directory.prepare(launch, self._times, self._child_umask)
        try:
            return directory.spawn(lock, self._failpoints)
        finally:
            os.close(lock)

    async def _hear(self, pid: int, report: int) -> str:
        """The shim's one line about its start; empty when it died without."""
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(report, readable.set)
        said = b""
        try:
            async with asyncio.timeout(START_LIMIT_S):
                while not said.endswith(b"\n"):
                    await readable.wait()
                    readable.clear()
                    with suppress(BlockingIOError):
                        part = os.read(report, 200)
                        if not part:
                            break
                        said += part
        except TimeoutError:
            os.kill(pid, signal.SIGKILL)  # our own child and not reaped: `report` is still open
            raise HiveError(
                "SPAWN_FAILED", "the process took too long to start", details={"reason": "timeout"}
            ) from None
        finally:
            loop.remove_reader(report)
            os.close(report)
        return said.decode()

    async def _follow(self, handle: LocalHandle) -> LocalHandle:
        await handle.attach()
        task = self._tasks.start(handle.live(), name=handle.process)
        self._handles[handle.process] = (handle, task)
        return handle

    async def adopt(self, process: str) -> LocalHandle | None:
        """Find a process again; None when no child was ever started.

        Raises HiveError UNAVAILABLE when its shim neither starts nor ends, PROTOCOL_MISMATCH when it
        is of another version."""
        self._open()
        directory = RunDir(self._runs_dir, process)
        until = time.monotonic() + START_LIMIT_S  # noqa: TID251  waits for another process: real time
        while True:
            ended = directory.read_exit()
            if ended is not None:
                handle = LocalHandle(directory, self._clock)
                handle.finish(ended)
                self._handles[process] = (handle, self._tasks.start(handle.live(), name=process))
                return handle
            is_locked = directory.is_locked()
            if directory.read_record() is None:
                if not is_locked and directory.read_record() is None:
                    return None
            elif not is_locked:
                return await self._follow(LocalHandle(directory, self._clock))
            else:
                handle = LocalHandle(directory, self._clock)
                if await handle.attach():
                    self._handles[process] = (
                        handle,
                        self._tasks.start(handle.live(), name=process),
                    )
                    return handle
            if time.monotonic() > until:  # noqa: TID251  as above
                raise HiveError("UNAVAILABLE", f"the shim of {process} does not answer")
            await asyncio.sleep(_POLL_S)

    def remove(self, process: str) -> None:
        """Delete the directory of an ended process."""
        handle, task = self._handles.pop(process, (None, None))
        if handle is not None and task is not None:
            task.cancel()
            handle.release()
        RunDir(self._runs_dir, process).remove()

    def list_processes(self) -> list[str]:
        """Ids of all process directories."""
        try:
            return sorted(entry.name for entry in self._runs_dir.iterdir() if entry.is_dir())
        except OSError as error:
            if error.errno == errno.ENOENT:
                return []
            raise

    async def close(self) -> None:
        """Let go of everything; the children go on."""
        await self._tasks.close(within_s=CLOSE_LIMIT_S)
        for handle, _ in self._handles.values():
            handle.release()
        self._handles.clear()
        if self._is_open:
            self._reaper.close()
            self._is_open = False
