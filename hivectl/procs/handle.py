"""One process as the daemon sees it, whoever cares for it: its shim, or the daemon when the shim was lost."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec

from hivectl.kit.aio import Nursery
from hivectl.kit.clock import Clock
from hivectl.model.errors import HiveError
from hivectl.ports import Exit, Spool, StopMode, StopReason
from hivectl.procs import link, rundir, shim
from hivectl.procs.orphan import Orphan
from hivectl.procs.rundir import LOST, Record, RunDir
from hivectl.procs.shim import SYSTEM

if TYPE_CHECKING:
    from hivectl.procs.shim import Held, System

ACK_LIMIT_S = 10.0
"""How long a shim may take to confirm a command. (A frame may wait as long as the child does not read.)"""
RECONNECT_S = (0.01, 0.05, 0.2, 1.0)
SHIM_END_S = 2.0
"""How long a shim that has written its exit file may take to be gone."""

log = logging.getLogger(__name__)


class _Asked(msgspec.Struct):
    """One request the shim has not confirmed yet; sent again after a reconnection."""

    line: bytes
    data: bytes
    done: asyncio.Future[bool]
    command: tuple[Any, ...] = ()


class LocalHandle:
    """A process of this machine. Made by `LocalHost` alone."""

    def __init__(
        self,
        directory: RunDir,
        clock: Clock,
        *,
        shim_gone: asyncio.Event | None = None,
        pipes: dict[str, int] | None = None,
        system: System = SYSTEM,
    ) -> None:
        """For a process this daemon has started: when its shim was reaped, and its pipes, held."""
        self._directory = directory
        self._clock = clock
        self._system = system
        self._task: asyncio.Task[None] | None = None
        self._shim_gone = shim_gone
        self._record: Record | None = None
        self._link: link.Link | None = None
        self._orphan: Orphan | None = None
        self._asked: dict[str, _Asked] = {}
        self._next_tag = 0
        self._is_stalled = False
        self._exit: Exit | None = None
        self._ended = asyncio.Event()
        self._changed = asyncio.Event()
        self._is_closed = False
        self._held: Held | None = None
        self._spare = pipes or {}
        self._spools: dict[str, int] = {}

    # --- what the port promises

    @property
    def process(self) -> str:
        """The process id."""
        return self._directory.process

    @property
    def pid(self) -> int | None:
        """The child's pid, once known."""
        return None if self._record is None else self._record.child

    @property
    def is_stalled(self) -> bool:
        """The spool cannot be written at the moment."""
        if self._orphan is not None:
            return self._orphan.supervisor.is_stalled
        return self._is_stalled and self._exit is None

    @property
    def is_supervised(self) -> bool:
        """Its shim cares for it, as far as is known."""
        return self._orphan is None

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it lives."""
        return self._exit

    def read(self, spool: Spool, offset: int, limit: int) -> bytes:
        """What the spool holds from `offset` on."""
        fd = self._spools.get(spool)
        if fd is None:
            if self._is_closed:
                raise ValueError("the handle is closed")
            path = self._directory.file(shim.SPOOLS[spool])
            try:
                fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                return b""
            self._spools[spool] = fd
        return os.pread(fd, limit, offset)

    async def wait_change(self, timeout_s: float) -> None:
        """Return when something may have changed since the last call, or after `timeout_s`.

        For one waiter at a time."""
        if not self._changed.is_set():
            timer = asyncio.get_running_loop().call_later(timeout_s, self._changed.set)
            try:  # a third of what asyncio.timeout costs, and it comes with every line of output
                await self._changed.wait()
            finally:
                timer.cancel()
        if self._exit is None:
            self._changed.clear()

    async def write(self, frame: str, data: bytes) -> bool:
        """Write `data` to the child's stdin once per frame id.

        Raises HiveError TOO_LARGE, or SHUTTING_DOWN when the handle is closed meanwhile (the frame may
        still be written; ask again)."""
        if len(data) > shim.MAX_FRAME_BYTES:
            raise HiveError("TOO_LARGE", details={"limit": shim.MAX_FRAME_BYTES})
        tag = quote(frame, safe="")
        asked = self._asked.get(tag)
        if asked is None:
            if self._exit is not None:
                return False
            line = f"frame {tag} {len(data)}\n".encode()
            asked = self._ask(tag, line, data, ("frame", tag, data))
        return await self._answer(asked)

    async def close_stdin(self, *, hang: bool) -> None:
        """End of input."""
        # our spare write end first: while we hold it the child cannot see the end
        self._drop_spare_stdin()
        await self._command("close", str(int(hang)), ("close", hang))

    async def set_deadline(self, seconds: float | None) -> None:
        """Replace the deadline. None lifts it, and the no-output limit until it is set again."""
        text = "-" if seconds is None else repr(float(seconds))
        await self._command("deadline", text, ("deadline", seconds))

    async def stop(self, mode: StopMode, reason: StopReason) -> None:
        """Begin the stop ladder. A shim that does not answer is killed and its work done here."""
        try:
            await self._command("stop", f"{mode} {reason}", ("stop", str(mode), str(reason)))
        except HiveError:
            if self._exit is not None or self._is_closed or mode is StopMode.INTERRUPT:
                raise
            if not self._kill_shim():
                raise
            await self._command("stop", f"{mode} {reason}", ("stop", str(mode), str(reason)))

    async def wait_exit(self) -> Exit:
        """Wait for the end. Raises HiveError SHUTTING_DOWN when the handle is closed before."""
        await self._ended.wait()
        if self._exit is None:
            raise HiveError("SHUTTING_DOWN", "the daemon has let go of the process")
        return self._exit

    async def aclose(self) -> None:
        """Let go of the process without touching it."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self.release()

    # --- requests

    def _ask(self, tag: str, line: bytes, data: bytes, command: tuple[Any, ...]) -> _Asked:
        if self._is_closed:
            raise HiveError("SHUTTING_DOWN", "the daemon has let go of the process")
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        asked = _Asked(line, data, done, command)
        self._asked[tag] = asked
        if self._orphan is not None:
            self._apply(tag, asked)
        elif self._link is not None:
            self._link.send(line, data)
        return asked

    async def _answer(self, asked: _Asked) -> bool:
        await asyncio.wait([asked.done])
        if asked.done.cancelled():
            raise HiveError("SHUTTING_DOWN", "the daemon has let go of the process")
        return asked.done.result()

    async def _command(self, verb: str, rest: str, command: tuple[Any, ...]) -> None:
        if self._exit is not None:
            return
        self._next_tag += 1
        tag = f"@{self._next_tag}"
        asked = self._ask(tag, f"{verb} {tag} {rest}\n".encode(), b"", command)
        try:
            async with asyncio.timeout(ACK_LIMIT_S):
                await self._answer(asked)
        except TimeoutError:
            self._asked.pop(tag, None)
            raise HiveError("UNAVAILABLE", f"the shim of {self.process} does not answer") from None

    def _settle(self, tag: str, *, is_done: bool) -> None:
        asked = self._asked.pop(tag, None)
        if asked is not None and not asked.done.done():
            asked.done.set_result(is_done)

    def _apply(self, tag: str, asked: _Asked) -> None:
        """Carry a request out here, in the lost shim's place."""
        assert self._orphan is not None
        supervisor, now = self._orphan.supervisor, self._clock.monotonic()
        match asked.command:
            case ("frame", str(frame), bytes(data)):

                def reply(done: bool) -> None:  # noqa: FBT001  the shim's callback has this shape
                    self._settle(tag, is_done=done)

                supervisor.stdin.add(frame, data, reply, first=False)
            case ("close", bool(hang)):
                supervisor.close_stdin(now, hang=hang)
                self._settle(tag, is_done=True)
            case ("deadline", seconds):
                supervisor.set_deadline(seconds, now)
                self._settle(tag, is_done=True)
            case ("stop", str(mode), str(reason)):
                supervisor.stop(mode, reason, now)
                self._settle(tag, is_done=True)
            case _:
                raise AssertionError(asked.command)
        self._orphan.poke()

    # --- life

    def on_line(self, words: list[str]) -> None:
        """Hear the shim."""
        match words:
            case ["ok", tag]:
                self._settle(tag, is_done=True)
            case ["no", tag]:
                self._settle(tag, is_done=False)
            case ["stall", flag]:
                self._is_stalled = flag == "1"
                self._changed.set()
            case ["stdin", "closed"]:
                self._drop_spare_stdin()
            case ["out" | "err", _]:
                self._changed.set()
            case _:
                pass  # a newer shim may say more

    async def attach(self) -> bool:
        """Connect to the shim; False when there is none. Raises HiveError for an unknown protocol."""
        try:
            connection = await link.connect(self._directory.path, self.on_line, self._system)
        except OSError:
            return False
        try:
            hello = await connection.hello()
        except ConnectionError:
            connection.close()
            return False
        except BaseException:
            connection.close()
            raise
        self._link = connection
        self._is_stalled = hello.is_stalled
        self._record = self._record or self._directory.read_record()
        if not self._spare:
            self._spare = self._directory.open_pipes(is_stdin_open=hello.is_stdin_open)
        elif not hello.is_stdin_open:
            self._drop_spare_stdin()
        if self._record is not None and self._held is None:
            self._held = self._system.hold(self._record.child, self._record.child_start)
        for asked in self._asked.values():
            connection.send(asked.line, asked.data)
        self._changed.set()
        return True

    def _drop_spare_stdin(self) -> None:
        fd = self._spare.pop("in", None)
        if fd is not None:
            os.close(fd)

    def follow(self, tasks: Nursery) -> None:
        """Follow the process to its end, as a task of its own."""
        self._task = tasks.start(self._live(), name=self.process)

    async def _live(self) -> None:
        while self._exit is None:
            if self._link is not None:
                await self._link.closed.wait()
                self._link = None
            try:
                if await self._reattach():
                    continue
                await self._conclude()
            except (
                OSError,
                HiveError,
            ):  # no descriptor left, disk full, lock just looked at: may pass
                log.warning(
                    "cannot take over from a lost shim yet",
                    extra={"process_id": self.process},
                    exc_info=True,
                )
                await asyncio.sleep(RECONNECT_S[-1])

    async def _reattach(self) -> bool:
        """True with a new connection; False when no shim lives."""
        for attempt in range(1 << 30):
            if self._directory.read_exit() is not None or not self._directory.is_locked():
                return False
            if await self.attach():
                return True
            await asyncio.sleep(RECONNECT_S[min(attempt, len(RECONNECT_S) - 1)])
        return False

    async def _conclude(self) -> None:
        """The shim is gone, or going: learn how it ended, or do the rest of its work."""
        if self._directory.read_exit() is not None:
            await self._wait_shim_gone()
        found = self._directory.read_exit()
        self._end(await self._take_over() if found is None else found)

    async def _wait_shim_gone(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(SHIM_END_S):
                if self._shim_gone is not None:
                    await self._shim_gone.wait()
                while self._directory.is_locked():  # noqa: ASYNC110  another process's lock: no event
                    await asyncio.sleep(0.002)

    async def _take_over(self) -> Exit:
        """Care for the child here until it has ended."""
        lock = self._directory.take_lock()
        try:
            found = self._directory.read_exit()
            if found is not None:
                return found
            record = self._record = self._record or self._directory.read_record()
            if record is None:
                return LOST
            if self._held is None:
                self._held = self._system.hold(record.child, record.child_start)
            if self._held is None and self._directory.read_fields(shim.SPEC) is None:
                return LOST  # half a directory, and nobody lives
            self._orphan = Orphan(
                self._directory,
                record,
                self._clock,
                held=self._held,
                stdin=self._spare.pop("in", None),
                on_change=self._changed.set,
                system=self._system,
            )
            for tag, asked in list(self._asked.items()):
                self._apply(tag, asked)
            fields = await self._orphan.run()
            self._directory.write_exit(fields)
            return rundir.parse_exit({key: str(value) for key, value in fields.items()})
        finally:
            self._orphan = None
            os.close(lock)

    def _kill_shim(self) -> bool:
        record = self._record
        if record is None:
            return False
        held = self._system.hold(record.shim, record.shim_start)
        if held is None:
            return False
        try:
            held.signal(signal.SIGKILL)
        finally:
            held.close()
        return True

    def finish(self, ended: Exit) -> None:
        """Make this the handle of a process that has ended before."""
        self._record = self._directory.read_record()
        self._end(ended)

    def _end(self, ended: Exit) -> None:
        self._exit = ended
        for tag, asked in list(self._asked.items()):
            self._settle(tag, is_done=asked.command[0] != "frame")
        self._close_fds()
        self._changed.set()
        self._ended.set()

    def _close_fds(self) -> None:
        for fd in self._spare.values():
            os.close(fd)
        if self._held is not None:
            self._held.close()
        self._spare, self._held = {}, None

    def release(self) -> None:
        """Give every descriptor back; the process goes on."""
        if self._is_closed:
            return
        self._is_closed = True
        self._ended.set()
        self._changed.set()
        if self._link is not None:
            self._link.close()
            self._link = None
        for asked in self._asked.values():
            asked.done.cancel()
        self._asked.clear()
        self._close_fds()
        for fd in self._spools.values():
            os.close(fd)
        self._spools = {}
