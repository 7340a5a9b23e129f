"""Goes on with a child whose shim was lost, inside the daemon, with the shim's own code.

It moves output from the FIFOs to the spools, writes stdin, enforces limits, climbs the stop ladder and
sweeps by the environment mark. The exit code comes from waiting for the child when it is ours, else from
the kernel, else it stays unknown: then the end is lost, never a success.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from hivectl.kit.clock import Clock
from hivectl.procs import shim, trees
from hivectl.procs.rundir import Record, RunDir
from hivectl.procs.shim import SYSTEM

if TYPE_CHECKING:
    from hivectl.procs.shim import Held, System

CODE_WAIT_S = 2.0
"""How long to wait for the parent of an ended child to reap it; before that there is no exit code."""
EMPTY_PASSES = 2
"""A sweep is over after so many passes in a row that found nobody."""
SWEEP_LIMIT_S = 10.0
ASK_S = 0.2
"""How often a child is looked at where nothing tells of its end."""


class Strays:
    """The child and its marked descendants, seen from outside: a `Body` for the supervisor."""

    is_shim_lost = True

    def __init__(
        self, record: Record, mark: str, held: Held | None, system: System = SYSTEM
    ) -> None:
        self._record = record
        self._mark = mark
        self._held = held
        self._system = system
        self.status: int | None = None
        self.is_ended = held is None
        self.is_alone = False
        self.swept = 0
        self._killed: set[trees.Named] = set()
        self.denied: set[int] = set()
        self._gone_at: float | None = None
        self._began: float | None = None
        self._empty = 0

    @property
    def look_s(self) -> float | None:
        """Only where nothing tells of the child's end."""
        is_told = self._held is None or self._held.fd is not None or self.is_ended
        return None if is_told else ASK_S

    def reap(self, now: float) -> None:
        """Learn the exit status once the child has ended, then whether it was the last."""
        if not self.is_ended and self._held is not None:
            self._ask_status(now, self._held)
        if self.is_ended and self._began is None and not self.is_alone:
            self.is_alone = not trees.find_marked(self._mark, self._system)

    def _ask_status(self, now: float, held: Held) -> None:
        if not held.has_ended():
            return
        self._gone_at = now if self._gone_at is None else self._gone_at
        self.status = held.status()
        self.is_ended = self.status is not None or now - self._gone_at >= CODE_WAIT_S

    @property
    def is_status_awaited(self) -> bool:
        """The child has ended but its status is not known yet."""
        return self._gone_at is not None and not self.is_ended

    def terminate(self) -> None:
        """SIGTERM to the child's group, or to the child alone when it leads none."""
        if self._held is not None and self._gone_at is None:
            with suppress(OSError):
                self._held.signal_group(signal.SIGTERM)

    def sweep(self, now: float) -> bool:
        """One pass; True when two in a row found nobody, or no more can be done."""
        self._began = now if self._began is None else self._began
        below = set()
        if self._held is not None and not self.is_ended and self._gone_at is None:
            below = trees.find_below(self._record.child, self._system)
            with suppress(OSError):
                self._held.signal(signal.SIGKILL)
        found = trees.find_marked(self._mark, self._system) - {self._record.child}
        killed, denied = trees.kill_all(found, self._mark, below=below, system=self._system)
        self._killed |= killed
        self.swept = len(self._killed)
        self.denied = {pid for pid, _ in denied}
        self._empty = 0 if killed else self._empty + 1
        if now - self._began >= SWEEP_LIMIT_S:
            return True
        return self.is_ended and self._empty >= EMPTY_PASSES


class Orphan:
    """Cares for one child in a lost shim's place until `run` returns."""

    def __init__(
        self,
        directory: RunDir,
        record: Record,
        clock: Clock,
        *,
        held: Held | None,
        stdin: int | None,
        on_change: Callable[[], None],
        system: System = SYSTEM,
    ) -> None:
        """`held`: the child, None when it is gone. `stdin`: a write end that was open all the time; without
        one the child has seen the end of its input; it is closed here, the child let go by the caller.
        Raises OSError."""
        spec = directory.read_fields(shim.SPEC) or {}
        self._directory = directory
        self._clock = clock
        self._held = held
        self._system = system
        self._on_change = on_change
        self._wake = asyncio.Event()
        self._watched: set[int] = set()
        self._writing: int | None = None
        self._fds: list[int] = []
        self.body = Strays(record, spec.get("mark", ""), held, system)
        try:
            spools = {name: self._open_spool(name) for name in shim.SPOOLS}
            frames = shim.Frames(self._open(directory.file(shim.FRAMES), os.O_RDWR))
            pipe = shim.Stdin(stdin, frames)
            limits = shim.Limits(spec)
            self.supervisor = shim.Supervisor(limits, spools, pipe, self.body, clock.monotonic())
            if (state := directory.read_fields(shim.STATE)) is not None:
                self.supervisor.restore(state)
        except BaseException:
            for fd in [*self._fds, *([] if stdin is None else [stdin])]:
                os.close(fd)
            raise
        if frames.is_closed:
            pipe.drop()

    def _open(self, path: os.PathLike[str], flags: int) -> int:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_CREAT, 0o600)
        self._fds.append(fd)
        return fd

    def _open_spool(self, name: str) -> shim.Spool:
        path = self._directory.file(shim.FIFOS[name])
        if not path.exists():
            os.mkfifo(path, 0o600)
        fifo = self._open(path, os.O_RDWR | os.O_NONBLOCK)
        file = self._open(self._directory.file(shim.SPOOLS[name]), os.O_RDWR)
        return shim.Spool(fifo, file, self._system)

    def poke(self) -> None:
        """Something was asked of the supervisor."""
        self._wake.set()

    async def run(self) -> dict[str, object]:
        """To the end of the child and its descendants; what its exit file is to say."""
        try:
            while True:
                sizes = (self.supervisor.output_bytes, self.supervisor.is_stalled)
                self._wake.clear()
                self.supervisor.turn(self._clock.monotonic())
                if sizes != (self.supervisor.output_bytes, self.supervisor.is_stalled):
                    self._on_change()
                if self.supervisor.phase == "done":
                    return self.supervisor.record()
                self._watch()
                await self._wait()
        finally:
            self.close()

    async def _wait(self) -> None:
        due = self.supervisor.due()
        if self.body.is_status_awaited:
            due = self._clock.monotonic() + shim.SWEEP_POLL_S
        timeout = None if due is None else max(0.0, due - self._clock.monotonic())
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._wake.wait()

    def _watch(self) -> None:
        loop = asyncio.get_running_loop()
        supervisor = self.supervisor
        wanted: set[int] = set()
        if supervisor.wants_output():
            wanted = {spool.fifo for spool in supervisor.spools.values()}
        child = None if self._held is None else self._held.fd
        if child is not None and not self.body.is_ended and not self.body.is_status_awaited:
            wanted.add(child)
        for fd in self._watched - wanted:
            loop.remove_reader(fd)
        for fd in wanted:
            loop.add_reader(fd, self._readable, fd)
        self._watched = wanted
        writing = supervisor.stdin.fd if supervisor.stdin.is_waiting else None
        if self._writing is not None and writing != self._writing:
            loop.remove_writer(self._writing)
        if writing is not None:
            loop.add_writer(writing, self._writable, writing)
        self._writing = writing

    def _readable(self, fd: int) -> None:
        # taken off until the next turn, which the event loop may run a little later
        asyncio.get_running_loop().remove_reader(fd)
        self._watched.discard(fd)
        self._wake.set()

    def _writable(self, fd: int) -> None:
        asyncio.get_running_loop().remove_writer(fd)
        self._writing = None
        self._wake.set()

    def close(self) -> None:
        """Let go; what is in the pipes stays there as long as somebody else holds them."""
        loop = asyncio.get_running_loop()
        for fd in self._watched:
            loop.remove_reader(fd)
        if self._writing is not None:
            loop.remove_writer(self._writing)
        self._watched, self._writing = set(), None
        self.supervisor.stdin.detach()
        for fd in self._fds:
            os.close(fd)
        self._fds = []
