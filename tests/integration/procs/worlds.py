"""Two machines with the same child on each: the real one, and the one in memory."""

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hivectl.kit import ids
from hivectl.kit.clock import SystemClock
from hivectl.ports import Handle, Launch, ProcessHost
from hivectl.procs import shim
from hivectl.procs.host import LocalHost
from hivectl.procs.rundir import StopTimes
from hivectl.testing.processes import FakeChild, FakeHost, FakeMachine

CHILD = str(Path(__file__).with_name("child.py"))
PYTHON = (sys.executable, "-I", "-S")
RUNGS = StopTimes(interrupt_s=0.5, close_s=0.3, term_s=0.3)


async def eventually(check: Callable[[], Any], within_s: float = 10.0) -> Any:
    """The first true value of `check`, which must come in time."""
    until = time.monotonic() + within_s
    while not (value := check()):
        assert time.monotonic() < until, "it did not happen in time"
        await asyncio.sleep(0.005)
    return value


async def output(handle: Handle, want: int | bytes, within_s: float = 10.0) -> bytes:
    """Output until it has `want` bytes, or contains them."""

    def enough() -> bytes | None:
        data = handle.read("out", 0, 1 << 30)
        done = len(data) >= want if isinstance(want, int) else want in data
        return data if done else None

    found: bytes = await eventually(enough, within_s)
    return found


def launch(*argv: str, cwd: Path | None = None, **limits: Any) -> Launch:
    """A launch on the real machine; python code when the first word is `-c`."""
    limits.setdefault("mark", ids.make_id("x"))
    program = (*PYTHON, *argv) if argv[0] in ("-c", CHILD) else argv
    env = {"PATH": os.environ["PATH"], **limits.pop("env", {})}
    return Launch(argv=program, env=env, cwd=cwd or Path("/"), **limits)


GET_HEIR, SET_HEIR = 37, 36
"""PR_GET_CHILD_SUBREAPER and its counterpart."""


def is_heir() -> bool:
    """Whether orphans come to this process."""
    if sys.platform != "linux":
        return False
    found = ctypes.c_int()
    assert ctypes.CDLL(None).prctl(GET_HEIR, ctypes.byref(found), 0, 0, 0) == 0
    return bool(found.value)


def be_heir(wanted: bool) -> None:
    """Become a subreaper, or be none any more: a host by Linux's ways makes its process one for good."""
    if sys.platform == "linux":
        assert ctypes.CDLL(None).prctl(SET_HEIR, int(wanted), 0, 0, 0) == 0


class LocalWorld:
    """The real machine, by Linux's own ways or (`procfs`) by those of macOS, where nobody inherits orphans."""

    is_real = True

    def __init__(self, runs: Path, system: str = shim.SYSTEM.name) -> None:
        self.runs = runs
        self.system = shim.SYSTEMS[system]()
        self._was_heir = is_heir()
        be_heir(self.system.inherits)
        self.host: ProcessHost = self._make_host()
        self.marks: list[str] = []

    def _make_host(self) -> LocalHost:
        return LocalHost(self.runs, clock=SystemClock(), times=RUNGS, system=self.system)

    def launch(self, *flags: str, **limits: Any) -> Launch:
        made = launch(CHILD, *flags, **limits)
        self.marks.append(made.mark)
        return made

    async def restart(self) -> None:
        await self.host.close()
        self.host = self._make_host()

    async def end(self) -> None:
        await self.host.close()
        sweep_runs(self.runs)
        be_heir(self._was_heir)


class FakeWorld:
    """The machine in memory."""

    is_real = False

    def __init__(self) -> None:
        rungs = (RUNGS.interrupt_s, RUNGS.close_s, RUNGS.term_s)
        self.machine = FakeMachine(echo, rungs_s=rungs)
        self.host: ProcessHost = FakeHost(self.machine)

    def launch(self, *flags: str, **limits: Any) -> Launch:
        limits.setdefault("mark", "x_fake")
        return Launch(argv=("echo", *flags), env={}, cwd=Path("/"), **limits)

    async def restart(self) -> None:
        await self.host.close()
        self.host = FakeHost(self.machine)

    async def end(self) -> None:
        await self.host.close()
        await self.machine.switch_off()


World = LocalWorld | FakeWorld


async def echo(child: FakeChild) -> int:
    """What child.py does."""
    child.ignores_term = "deaf" in child.launch.argv
    child.emit(b"ready\n")
    while (frame := await child.read()) is not None:
        for line in frame.splitlines():
            verb, _, rest = line.partition(b" ")
            if verb == b"quit":
                return int(rest)
            if verb == b"spam":
                child.emit(b"x" * int(rest))
            elif verb == b"err":
                child.emit(rest + b"\n", "err")
            elif verb == b"leave":
                child.leave_behind()
                child.emit(b"left\n")
            else:
                child.emit(b"got " + line[:100] + b" %d\n" % len(line))
    while "stays" in child.launch.argv:
        await asyncio.sleep(3600)
    return 0


def record(runs: Path, process: str) -> dict[str, str]:
    """What the shim of a process put on record."""
    return shim.unpack((runs / process / shim.SHIM).read_bytes())


def sweep_runs(runs: Path) -> None:
    """Kill what a failed test may have left: our own shims' children and shims, each checked by start time."""
    for entry in runs.iterdir() if runs.exists() else ():
        with contextlib.suppress(OSError, ValueError):
            found = record(runs, entry.name)
            for who in ("shim", "child"):
                pid = int(found[who])
                if shim.SYSTEM.start_of(pid) == found[f"{who}_start"]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


def living(mark: str) -> list[int]:
    """Processes that carry the mark and live (a zombie has no environment any more)."""
    from hivectl.procs import trees

    return sorted(trees.find_marked(mark))
