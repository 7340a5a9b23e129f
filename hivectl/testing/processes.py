"""A machine in memory: processes that are coroutines, and a host that starts and finds them.

It keeps the promises of `hivectl.ports.ProcessHost` as the real one does (both pass the same suite), on
the event loop's time, so that a test on a virtual clock waits for nothing. A daemon's restart is a second
`FakeHost` of the same `FakeMachine`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from hivectl.model.errors import HiveError
from hivectl.ports import Exit, Launch, Spool, StopMode, StopReason

SIGTERM, SIGKILL = 15, 9


class FakeChild:
    """What a script sees of the process it plays."""

    def __init__(self, process: FakeProcess) -> None:
        self._process = process
        self.launch: Launch = process.launch
        self.ignores_term = False
        """Set by a script that is deaf to SIGTERM."""

    async def read(self) -> bytes | None:
        """The next frame of stdin, whole; None at the end of input."""
        process = self._process
        while not process.frames and not process.is_stdin_closed:
            process.input.clear()
            await process.input.wait()
        return process.frames.pop(0) if process.frames else None

    def emit(self, data: bytes, spool: Spool = "out") -> None:
        """Write output."""
        self._process.emit(data, spool)

    def leave_behind(self, count: int = 1) -> None:
        """Start descendants that outlive the child."""
        self._process.descendants += count


Script = Callable[[FakeChild], Awaitable[int | None]]
"""Plays one process; returns its exit code (None is 0)."""


@dataclass(eq=False)
class FakeProcess:
    """One process of the machine; tests may look and break."""

    name: str
    pid: int
    launch: Launch
    machine: FakeMachine
    spools: dict[Spool, bytearray] = field(
        default_factory=lambda: {"out": bytearray(), "err": bytearray()}
    )
    frames: list[bytes] = field(default_factory=list)
    written: dict[str, bytes] = field(default_factory=dict)
    """Every frame that was written, by its id: each once."""
    is_stdin_closed: bool = False
    is_stalled: bool = False
    descendants: int = 0
    deadline_s: float | None = None
    """What is left of the deadline when it was last set."""
    exit: Exit | None = None
    reason: StopReason = StopReason.EXITED
    rungs: list[str] = field(default_factory=list)
    input: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    watchers: set[asyncio.Event] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._child = FakeChild(self)
        self._task: asyncio.Task[int | None] | None = None
        self._signal: int | None = None
        self._ladder: asyncio.TimerHandle | None = None
        self._is_climbing = False

    def begin(self, script: Script) -> None:
        """Run the script."""
        self._task = self._loop.create_task(self._run(script), name=self.name)
        self._task.add_done_callback(self._main_ended)
        self.set_deadline(self.launch.deadline_s, is_first=True)
        self._arm("no_output", self.launch.no_output_s, StopReason.NO_OUTPUT)

    async def _run(self, script: Script) -> int | None:
        return await script(self._child)

    def _arm(self, name: str, seconds: float | None, reason: StopReason) -> None:
        if (old := self._timers.pop(name, None)) is not None:
            old.cancel()
        if seconds is not None and self.exit is None:
            call = self._loop.call_later(seconds, self.stop, StopMode.TERMINATE, reason)
            self._timers[name] = call

    def emit(self, data: bytes, spool: Spool) -> None:
        """Output of the child."""
        self.spools[spool] += data
        self._arm("no_output", self.launch.no_output_s, StopReason.NO_OUTPUT)
        self.changed()
        limit = self.launch.max_output_bytes
        if limit is not None and sum(map(len, self.spools.values())) > limit:
            self.stop(StopMode.TERMINATE, StopReason.OUTPUT_LIMIT)

    def changed(self) -> None:
        """Wake whoever waits."""
        for event in self.watchers:
            event.set()

    def write(self, frame: str, data: bytes) -> bool:
        """A frame for stdin, once per id."""
        if frame in self.written:
            return True
        if self.is_stdin_closed or self.exit is not None:
            return False
        self.written[frame] = data
        self._put(data)
        return True

    def _put(self, data: bytes) -> None:
        self.frames.append(data)
        self.input.set()
        self._arm("no_output", self.launch.no_output_s, StopReason.NO_OUTPUT)

    def close_stdin(self, *, hang: bool) -> None:
        """End of input."""
        self.is_stdin_closed = True
        self.input.set()
        if hang and "hang" not in self._timers:
            self._arm("hang", self.launch.hang_s, StopReason.HANG)

    def set_deadline(self, seconds: float | None, *, is_first: bool = False) -> None:
        """Replace the deadline; None lifts it, and the no-output limit with it."""
        self.deadline_s = seconds
        self._arm("deadline", seconds, StopReason.TIMEOUT)
        silence = None if seconds is None and not is_first else self.launch.no_output_s
        self._arm("no_output", silence, StopReason.NO_OUTPUT)

    def stop(self, mode: StopMode, reason: StopReason) -> None:
        """Begin the stop ladder, or go on from where it is."""
        if self.exit is not None:
            return
        if mode is StopMode.INTERRUPT:
            if not self._is_climbing:
                self._interrupt()
            return
        if not self._is_climbing:
            self.reason = reason
        if mode is StopMode.KILL:
            self._is_climbing = True
            self._sweep()
        elif not self._is_climbing:
            self._is_climbing = True
            self._climb(0)

    def _interrupt(self) -> bool:
        if not self.launch.interrupt_frame or self.is_stdin_closed:
            return False
        self._note("interrupt")
        self._put(self.launch.interrupt_frame)
        return True

    def _note(self, rung: str) -> None:
        if rung not in self.rungs:
            self.rungs.append(rung)

    def _climb(self, rung: int) -> None:
        times = self.machine.rungs_s
        if rung == 0 and ("interrupt" in self.rungs or self._interrupt()):
            pass
        elif rung <= 1 and not self.is_stdin_closed:
            rung = 1
            self._note("close")
            self.close_stdin(hang=False)
        elif rung <= 2:
            rung = 2
            self._note("term")
            if not self._child.ignores_term:
                self._kill(SIGTERM)
        else:
            self._sweep()
            return
        self._ladder = self._loop.call_later(times[rung], self._climb, rung + 1)

    def _sweep(self) -> None:
        if self.exit is None and self._task is not None:
            self._note("sweep")
            self._kill(SIGKILL)

    def _kill(self, number: int) -> None:
        if self._task is not None and not self._task.done():
            self._signal = number
            self._task.cancel()

    def _main_ended(self, task: asyncio.Task[int | None]) -> None:
        if self.machine.is_off:
            return
        keeps = self.launch.keep_descendants and not self._is_climbing
        swept = 0 if keeps else self.descendants
        if swept:
            self._note("sweep")
        code = None if task.cancelled() else (1 if task.exception() else task.result() or 0)
        linger = self.launch.linger_s if self.descendants and not self._is_climbing else 0.0
        self._loop.call_later(linger, self._finish, code, swept)

    def _finish(self, code: int | None, swept: int) -> None:
        for timer in [*self._timers.values(), *([self._ladder] if self._ladder else [])]:
            timer.cancel()
        self.descendants -= swept
        self._end(
            Exit(
                reason=self.reason,
                code=code,
                signal=self._signal if code is None else None,
                out_bytes=len(self.spools["out"]),
                err_bytes=len(self.spools["err"]),
                swept=swept,
                rungs=tuple(self.rungs),
            )
        )

    def _end(self, ended: Exit) -> None:
        self.exit = ended
        self.is_stdin_closed = True
        self.ended.set()
        self.changed()

    def lose(self, *, rebooted: bool = False) -> None:
        """Play the loss of the shim and the child together: no exit code is known."""
        self._kill(SIGKILL)
        for timer in [*self._timers.values(), *([self._ladder] if self._ladder else [])]:
            timer.cancel()
        if self._task is not None:
            self._task.remove_done_callback(self._main_ended)
        sizes = len(self.spools["out"]), len(self.spools["err"])
        self._end(
            Exit(
                reason=StopReason.EXITED,
                out_bytes=sizes[0],
                err_bytes=sizes[1],
                shim_lost=True,
                host_rebooted=rebooted,
            )
        )

    async def vanish(self) -> None:
        """End the script without a word: the test is over."""
        self._kill(SIGKILL)
        if self._task is not None:
            with suppress(asyncio.CancelledError, Exception):
                await self._task


class FakeMachine:
    """Holds processes while daemons come and go."""

    def __init__(
        self, script: Script, *, rungs_s: tuple[float, float, float] = (5.0, 2.0, 5.0)
    ) -> None:
        """`script` plays every process that is started; it may look at `child.launch`."""
        self.script = script
        self.rungs_s = rungs_s
        self.processes: dict[str, FakeProcess] = {}
        self.failures: list[HiveError] = []
        """Raised by the next starts, one each."""
        self.starts: list[str] = []
        self.is_off = False
        self._next_pid = 1000

    def start(self, name: str, launch: Launch) -> FakeProcess:
        """Start one process, at most once per name."""
        if self.failures:
            raise self.failures.pop(0)
        if name in self.processes:
            raise HiveError("INVALID_STATE", f"process {name} was started before")
        self._next_pid += 1
        process = FakeProcess(name, self._next_pid, launch, self)
        self.processes[name] = process
        self.starts.append(name)
        process.begin(self.script)
        return process

    async def switch_off(self) -> None:
        """End every script; for the end of a test."""
        self.is_off = True
        for process in self.processes.values():
            await process.vanish()


class FakeHandle:
    """One process seen from one daemon."""

    def __init__(self, process: FakeProcess) -> None:
        self._process = process
        self._changed = asyncio.Event()
        self._changed.set()
        self._is_closed = False
        process.watchers.add(self._changed)

    @property
    def process(self) -> str:
        """The process id."""
        return self._process.name

    @property
    def pid(self) -> int | None:
        """A made-up pid."""
        return self._process.pid

    @property
    def is_stalled(self) -> bool:
        """As the test has set it."""
        return self._process.is_stalled

    @property
    def is_supervised(self) -> bool:
        """Always: there is no shim to be lost."""
        return True

    def read(self, spool: Spool, offset: int, limit: int) -> bytes:
        """What was written so far."""
        return bytes(self._process.spools[spool][offset : offset + limit])

    async def wait_change(self, timeout_s: float) -> None:
        """Return when something may have changed."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        if self._process.exit is None:
            self._changed.clear()

    async def write(self, frame: str, data: bytes) -> bool:
        """Once per frame id."""
        await asyncio.sleep(0)
        self._check_open()
        return self._process.write(frame, data)

    async def close_stdin(self, *, hang: bool) -> None:
        """End of input."""
        await asyncio.sleep(0)
        self._check_open()
        self._process.close_stdin(hang=hang)

    async def set_deadline(self, seconds: float | None) -> None:
        """Replace the deadline."""
        await asyncio.sleep(0)
        self._check_open()
        self._process.set_deadline(seconds)

    async def stop(self, mode: StopMode, reason: StopReason) -> None:
        """Begin the stop ladder."""
        await asyncio.sleep(0)
        self._check_open()
        self._process.stop(mode, reason)

    def _check_open(self) -> None:
        if self._is_closed:
            raise HiveError("SHUTTING_DOWN", "the daemon has let go of the process")

    @property
    def exit(self) -> Exit | None:
        """How it ended."""
        return self._process.exit

    async def wait_exit(self) -> Exit:
        """Wait for the end."""
        await self._process.ended.wait()
        assert self._process.exit is not None
        return self._process.exit

    async def aclose(self) -> None:
        """Let go."""
        self.release()

    def release(self) -> None:
        """Hear of no more changes."""
        self._is_closed = True
        self._process.watchers.discard(self._changed)


class FakeHost:
    """The `ProcessHost` of a `FakeMachine`."""

    def __init__(self, machine: FakeMachine) -> None:
        self.machine = machine
        self._handles: list[FakeHandle] = []

    async def start(self, process: str, launch: Launch) -> FakeHandle:
        """Start the machine's script."""
        await asyncio.sleep(0)
        return self._handle(self.machine.start(process, launch))

    async def adopt(self, process: str) -> FakeHandle | None:
        """Find what another host of this machine has started."""
        await asyncio.sleep(0)
        found = self.machine.processes.get(process)
        return None if found is None else self._handle(found)

    def _handle(self, process: FakeProcess) -> FakeHandle:
        handle = FakeHandle(process)
        self._handles.append(handle)
        return handle

    def remove(self, process: str) -> None:
        """Forget an ended process."""
        found = self.machine.processes.get(process)
        if found is not None and found.exit is None:
            raise HiveError("INVALID_STATE", f"process {process} still runs")
        self.machine.processes.pop(process, None)

    def contain(self, argv: Sequence[str]) -> list[str]:
        """Real programs run as they are."""
        return list(argv)

    def list_processes(self) -> list[str]:
        """All that are not removed."""
        return sorted(self.machine.processes)

    async def close(self) -> None:
        """Let go of everything; the scripts go on."""
        for handle in self._handles:
            handle.release()
        await asyncio.sleep(0)
