"""Starts processes under shims on this machine, and finds them again."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hivectl.kit import failpoint
from hivectl.kit.aio import Nursery
from hivectl.kit.clock import Clock
from hivectl.model.errors import HiveError
from hivectl.ports import Launch
from hivectl.procs import rundir
from hivectl.procs.handle import LocalHandle
from hivectl.procs.reaper import Reaper
from hivectl.procs.rundir import RunDir, StopTimes
from hivectl.procs.shim import SYSTEM

if TYPE_CHECKING:
    from hivectl.procs.shim import System

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
        system: System = SYSTEM,
    ) -> None:
        """`child_umask`: the daemon's own is private, which is no umask for work in a project.
        `failpoints`: HIVECTL_FAILPOINT for the shims. `system`: what they go through, and we."""
        self._runs_dir = runs_dir
        self._clock = clock
        self._times = times or StopTimes()
        self._child_umask = child_umask
        self._failpoints = failpoints
        self._system = system
        self._reaper = Reaper(system)
        self._is_open = False
        self._tasks = Nursery(self._on_failure)
        self._handles: dict[str, LocalHandle] = {}

    def _on_failure(self, name: str, error: BaseException) -> None:
        log.error("the watch over a process failed", extra={"process_id": name}, exc_info=error)

    def _directory(self, process: str) -> RunDir:
        return RunDir(self._runs_dir, process, self._system)

    def _open(self) -> None:
        if not self._is_open:
            self._is_open = True
            self._reaper.open()

    async def start(self, process: str, launch: Launch) -> LocalHandle:
        """Start a child under a shim of its own. Raises HiveError SPAWN_FAILED or STORAGE_FULL."""
        self._open()
        directory = self._directory(process)
        try:
            pid, report, pipes = await asyncio.to_thread(self._spawn, directory, launch)
        except OSError as error:
            await self._clear(directory)
            raise rundir.start_error("shim", error.errno or 0, launch) from error
        gone = self._reaper.watch(pid)
        failpoint.hit("shim_forked")
        handle = LocalHandle(
            directory, self._clock, shim_gone=gone, pipes=pipes, system=self._system
        )
        try:
            said = (await self._hear(pid, report)).split()
            if said[:1] != ["ok"]:
                await gone.wait()
                await self._check_started(directory, said, launch)
            return await self._follow(handle)
        except BaseException:
            handle.release()
            raise

    async def _check_started(self, directory: RunDir, said: list[str], launch: Launch) -> None:
        """A shim may die after it has let its child go: such a child is real, and cared for from here.

        Raises HiveError when there is none."""
        if directory.read_record() is not None:
            return
        match said:
            case ["fail", stage, code]:
                error = rundir.start_error(stage, int(code), launch)
            case _:
                error = HiveError(
                    "SPAWN_FAILED",
                    "the shim did not start its child",
                    details={"reason": "shim", "log": directory.tail_of_log()},
                )
        await self._clear(directory)
        raise error

    async def _clear(self, directory: RunDir) -> None:
        """Remove what a failed start left; what cannot be removed now is never taken for a process."""
        if directory.read_record() is None:
            with suppress(OSError, HiveError):
                await asyncio.to_thread(directory.remove)

    def _spawn(self, directory: RunDir, launch: Launch) -> tuple[int, int, dict[str, int]]:
        """(the shim's pid, where it reports, the child's pipes)."""
        lock = directory.prepare(launch, self._times, self._child_umask)
        try:
            pipes = directory.make_pipes()
            try:
                return *directory.spawn(lock, self._failpoints), pipes
            except BaseException:
                for fd in pipes.values():
                    os.close(fd)
                raise
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
            self._reaper.kill(pid)
        finally:
            loop.remove_reader(report)
            os.close(report)
        return said.decode()

    async def _follow(self, handle: LocalHandle) -> LocalHandle:
        await handle.attach()
        return self._keep(handle)

    def _keep(self, handle: LocalHandle) -> LocalHandle:
        handle.follow(self._tasks)
        self._handles[handle.process] = handle
        return handle

    async def adopt(self, process: str) -> LocalHandle | None:
        """Find a process again; None when no child was ever started.

        Raises HiveError UNAVAILABLE when its shim neither starts nor ends, PROTOCOL_MISMATCH when it
        is of another version."""
        self._open()
        directory = self._directory(process)
        until = asyncio.get_running_loop().time() + START_LIMIT_S
        while True:
            handle = LocalHandle(directory, self._clock, system=self._system)
            is_locked = directory.is_locked()  # asked first: what is read next cannot change if not
            record, ended = directory.read_record(), directory.read_exit()
            if ended is None and record is not None and record.boot != self._system.boot_id():
                ended = await asyncio.to_thread(directory.write_lost)
            if ended is not None:
                handle.finish(ended)
                return self._keep(handle)
            if not is_locked:
                return None if record is None else await self._follow(handle)
            if record is not None and await handle.attach():
                return self._keep(handle)
            if asyncio.get_running_loop().time() > until:
                raise HiveError("UNAVAILABLE", f"the shim of {process} does not answer")
            await asyncio.sleep(_POLL_S)

    def remove(self, process: str) -> None:
        """Delete the directory of an ended process."""
        handle = self._handles.pop(process, None)
        if handle is not None and handle.exit is not None:
            handle.release()
        self._directory(process).remove()

    def contain(self, argv: Sequence[str]) -> list[str]:
        """Run a program under an heir of all it starts; as it is where orphans cannot be had."""
        return rundir.contained(argv) if self._system.inherits else list(argv)

    def list_processes(self) -> list[str]:
        """Ids of all process directories. Finishes deletions that a crash has cut short."""
        try:
            names = sorted(entry.name for entry in self._runs_dir.iterdir() if entry.is_dir())
            for name in names:
                if name.endswith(rundir.GONE):
                    shutil.rmtree(self._runs_dir / name, ignore_errors=True)
            return [name for name in names if not name.endswith(rundir.GONE)]
        except OSError as error:
            if error.errno == errno.ENOENT:
                return []
            raise

    async def close(self) -> None:
        """Let go of everything; the children go on."""
        await self._tasks.close(within_s=CLOSE_LIMIT_S)
        for handle in self._handles.values():
            handle.release()
        self._handles.clear()
        if self._is_open:
            self._reaper.close()
            self._is_open = False
