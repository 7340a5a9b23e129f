"""The shim: one small process per agent process, which outlives the daemon and keeps every byte.

Run as `python -I -S -B shim.py RUN_DIR` by `hivectl.procs.host`, which also imports it for its formats
and its classes (a lost shim's work is gone on with by the daemon, with the same code). It imports the
standard library alone, and of that only what starts quickly.

It starts one child, moves the child's output into `out.spool` and `err.spool`, feeds its stdin, enforces
its limits, stops it, leaves no descendant behind and writes at last how it ended into `exit`. It knows
nothing of what the bytes mean.

Invariants: at most one child is ever started in a run directory (the lock is held from before the shim's
start until its death, and the child does not exec before `shim` is on the disk); a byte is either in a
pipe or in a spool; only unreaped direct children are signalled, so a pid cannot have been recycled.

FIFO or passed descriptors: stdin, stdout and stderr are FIFOs in the run directory. Both ways kept every
byte when the shim was killed under a living daemon. Only the FIFOs, opened read-write by the child, also
keep stdout from breaking when daemon and shim die together, and they need no descriptor passing: whoever
comes back opens them by path. The price: the end of output is no EOF (it is seen by reaping the child),
and a descendant that is kept after the end blocks once it has filled a pipe that nobody reads any more.
Stdin is opened read-only by the child, else it could never see the end of its input.

Wire (UNIX socket `sock` in the run directory, same user only): lines of text, answered in any order.
  from the shim  hello VERSION SHIM_PID CHILD_PID OUT ERR STALLED STDIN_OPEN
                 out N | err N | stall 0/1 | stdin closed | rung NAME | exit
                 ok TAG | no TAG
  to the shim    frame ID LENGTH (then LENGTH bytes) | close TAG HANG | deadline TAG SECONDS/-
                 stop TAG MODE REASON
"""
# No pathlib, contextlib or enum here: each costs more time to import than the shim's whole start.
# ruff: noqa: PTH104, PTH108, PTH110, PTH116, PTH120, PTH208, SIM105, FBT003, RUF005

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the signal module pulls in enum: 8 ms
import _socket
import errno
import fcntl
import os
import resource
import select
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:  # importing typing costs as much as all of the above
    from collections.abc import Callable
    from typing import NoReturn

VERSION = 1
LOCK, SHIM, SHIM_NEW, EXIT, EXIT_NEW = "lock", "shim", "shim.new", "exit", "exit.new"
SPEC, LAUNCH, STATE, FRAMES, SOCKET = "spec", "launch", "state", "frames", "sock"
FIFOS = {"in": "in.fifo", "out": "out.fifo", "err": "err.fifo"}
SPOOLS = {"out": "out.spool", "err": "err.spool"}
SHIM_LOG = "shim.log"
RESERVED = frozenset(
    [LOCK, SHIM, SHIM_NEW, EXIT, EXIT_NEW, SPEC, LAUNCH, STATE, FRAMES, SOCKET, SHIM_LOG]
    + [*FIFOS.values(), *SPOOLS.values()]
)
LOCK_FD = 3
"""Where the shim finds the lock its starter took for it."""

MAX_FRAME_BYTES = 16 << 20
MAX_QUEUE_BYTES = 64 << 20
MAX_LINE_BYTES = 8192
MAX_CLIENTS = 8
MAX_OUTBOX_BYTES = 1 << 20
PIPE_BYTES = 256 << 10
"""Size of the output pipes. Above 64 MiB of pipes the kernel shrinks every new pipe of the user."""
CHUNK_BYTES = 1 << 20
CHUNKS_A_TURN = 8
OUTPUT_GRACE_BYTES = 1 << 20
"""How far output may pass its limit while the child is asked to stop; then it is killed."""
EXIT_BYTES = 4096
STATE_BYTES = 512
FRAMES_BYTES = 16384
FRAMES_HEAD = 64
FRAMES_NONE = b"0 0 0".ljust(FRAMES_HEAD - 1) + b"\n"

RETRY_FULL_S = 0.25
"""Pause between two tries to write to a full disk."""
FULL_AT_END_S = 900.0
"""How long an ended child's last output waits for room on the disk."""
FULL_AT_KILL_S = 20.0
"""The same after a stop that somebody may be waiting for."""
DENIED_WAIT_S = 0.5
"""How long a sweep waits for children it may not signal."""
SWEEP_WAIT_S = 30.0
"""How long a sweep waits for killed children that do not die (stuck in the kernel)."""
SWEEP_SLICE_S = 0.05
MAX_POLL_MS = 1e9
"""What poll can take; a deadline further off is looked at again then."""
FAILPOINTS = ("shim_start", "shim_splice", "shim_exit")
SWEEP_POLL_S = 0.02
FULL_ERRORS = frozenset([errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG])
"""Errors of a spool's disk that may pass: wait, lose nothing."""

INTERRUPT, TERMINATE, KILL = "interrupt", "terminate", "kill"
RUNGS = ("interrupt", "close", "term", "sweep")


# --- formats -----------------------------------------------------------------------------------------


def pack(fields: dict[str, object]) -> bytes:
    """Lines `key value` and a last line `end`, by which a torn file is told from a whole one."""
    lines = [f"{key} {value}\n" for key, value in fields.items()]
    return ("".join(lines) + "end\n").encode("utf-8", "surrogateescape")


def unpack(data: bytes) -> dict[str, str]:
    """The fields that `pack` wrote. Raises ValueError when the end is missing."""
    fields: dict[str, str] = {}
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        if line == "end":
            return fields
        key, _, value = line.partition(" ")
        fields[key] = value
    raise ValueError("the file is not whole")


def pack_launch(argv: list[bytes], env: dict[bytes, bytes], cwd: bytes, umask: int) -> bytes:
    """What to execute; no part can hold a NUL."""
    parts = [str(umask).encode(), cwd, str(len(argv)).encode(), *argv]
    return b"\0".join(parts + [key + b"=" + value for key, value in env.items()])


def unpack_launch(data: bytes) -> tuple[list[bytes], dict[bytes, bytes], bytes, int]:
    """(argv, env, cwd, umask) as `pack_launch` wrote them."""
    umask, cwd, count, *rest = data.split(b"\0")
    argv, env = rest[: int(count)], rest[int(count) :]
    pairs = [item.partition(b"=") for item in env]
    return argv, {key: value for key, _, value in pairs}, cwd, int(umask)


def read_file(name: str) -> bytes:
    """The whole of a small file. Raises OSError."""
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def open_new(name: str) -> int:
    """A new private file, open for reading and writing."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, 0o600)


def sync(fd: int) -> None:
    """Make a file's bytes durable."""
    if sys.platform == "darwin":
        fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(fd)


def sync_dir(directory: str) -> None:
    """Make the names in a directory durable."""
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def publish(fd: int, temporary: str, name: str, data: bytes) -> None:
    """Give a written-to-the-disk file its name: it is seen whole or not at all. Raises OSError."""
    os.pwrite(fd, data, 0)
    sync(fd)
    os.rename(temporary, name)
    sync_dir(os.path.dirname(name) or ".")


def preallocate(name: str, size: int) -> int:
    """A new file whose room on the disk is certain."""
    fd = open_new(name)
    os.pwrite(fd, b"\n" * size, 0)
    sync(fd)
    return fd


def process_start(pid: int) -> str:
    """When a process was started, in the kernel's ticks; with the pid it names one process for ever.

    Empty when there is no such process (or no /proc)."""
    try:
        stat = read_file(f"/proc/{pid}/stat")
    except OSError:
        return ""
    return stat.rpartition(b")")[2].split()[19].decode()


def boot_id() -> str:
    """What changes with every boot; empty where it cannot be told."""
    try:
        return read_file("/proc/sys/kernel/random/boot_id").decode().strip()
    except OSError:
        return ""


# --- failpoints --------------------------------------------------------------------------------------

_strikes: dict[str, list[str]] = {}
_passages: dict[str, int] = {}


def configure_failpoints(text: str) -> None:
    """Set this process's failpoints from HIVECTL_FAILPOINT; the daemon has checked the text."""
    for item in text.split(","):
        target, _, what = item.strip().partition(":")
        name, _, count = target.partition("@")
        action, _, argument = what.partition("=")
        if name in FAILPOINTS:
            _strikes[name] = [action, argument, count]


def hit(name: str) -> None:
    """Pass a named place where a test may break the shim."""
    if name not in _strikes:
        return
    action, argument, count = _strikes[name]
    _passages[name] = _passages.get(name, 0) + 1
    if count and _passages[name] != int(count):
        return
    if action == "kill":
        os.kill(os.getpid(), _signal.SIGKILL)
    if action == "sleep":
        time.sleep(int(argument) / 1000)
    if action == "error":
        raise OSError(getattr(errno, argument), f"failpoint {name}")


# --- bytes -------------------------------------------------------------------------------------------


class Spool:
    """One output FIFO and the file its bytes are moved to.

    On Linux the kernel moves them (splice): killed at any moment, nothing is lost or doubled, and on a
    full disk the rest stays in the pipe. Elsewhere read and write, where a kill may cost one chunk.
    """

    def __init__(self, fifo: int, file: int) -> None:
        self.fifo = fifo
        self.file = file
        self.size = os.fstat(file).st_size
        self.is_full = False
        self._held = b""
        self._can_splice = hasattr(os, "splice")

    def move(self, limit: int) -> int:
        """Move at most `limit` bytes; 0 when the pipe is empty or (`is_full`) the disk is."""
        try:
            hit("shim_splice")
            moved = self._splice(limit) if self._can_splice else self._copy(limit)
        except BlockingIOError:
            self.is_full = False
            return 0
        except OSError as error:
            if error.errno in FULL_ERRORS:
                self.is_full = True
                return 0
            if error.errno == errno.EINVAL and self._can_splice:  # a file system that cannot
                self._can_splice = False
                return self.move(limit)
            raise
        self.is_full = False
        self.size += moved
        return moved

    def _splice(self, limit: int) -> int:
        flags = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE
        return os.splice(self.fifo, self.file, limit, offset_dst=self.size, flags=flags)

    def _copy(self, limit: int) -> int:
        if not self._held:
            self._held = os.read(self.fifo, min(limit, 65536))
        written = os.pwrite(self.file, self._held, self.size)
        self._held = self._held[written:]
        return written


class Stdin:
    """Frames on their way to the child, each written once per id whoever asks, in the order they came.

    `frames` (see `Frames`) remembers what was written, for whoever goes on when this process dies.
    """

    def __init__(self, fd: int | None, frames: Frames) -> None:
        self.fd = fd
        self._frames = frames
        self._queue: list[tuple[str, bytes, list[Callable[[bool], None]]]] = []
        self._queued_bytes = 0
        self._is_closing = False

    @property
    def is_open(self) -> bool:
        """The child may still be written to."""
        return self.fd is not None and not self._is_closing

    @property
    def is_waiting(self) -> bool:
        """There is something to write as soon as the pipe has room."""
        return self.fd is not None and self._next() is not None

    def add(self, frame: str, data: bytes, reply: Callable[[bool], None], *, first: bool) -> None:
        """Write `data`, then call `reply(True)`; `reply(False)` when that can no longer happen.

        `first`: before all that waits, though never into the middle of a frame."""
        if self._frames.is_done(frame):
            reply(True)
            return
        for queued, _, replies in self._queue:
            if queued == frame:
                replies.append(reply)
                return
        if not self.is_open or self._queued_bytes + len(data) > MAX_QUEUE_BYTES:
            reply(False)
            return
        self._queued_bytes += len(data)
        started = self._frames.begun is not None
        place = (1 if started else 0) if first else len(self._queue)
        self._queue.insert(place, (frame, data, [reply]))

    def _next(self) -> int | None:
        """Which frame to write now: the one that was begun, else the oldest."""
        begun = self._frames.begun
        if begun is None:
            return 0 if self._queue else None
        for place, (frame, _, _) in enumerate(self._queue):
            if frame == begun:
                return place
        return None

    def pump(self) -> bool:
        """Write what the pipe takes; whether anything went in."""
        is_moved = False
        while self.fd is not None and (place := self._next()) is not None:
            frame, data, replies = self._queue[place]
            offset = self._frames.begin(frame, len(data))
            try:
                written = os.write(self.fd, memoryview(data)[offset : offset + CHUNK_BYTES])
            except BlockingIOError:
                return is_moved
            except OSError as error:
                if error.errno != errno.EPIPE:
                    raise
                self.drop()
                return is_moved
            is_moved = True
            if self._frames.advance(written):
                del self._queue[place]
                self._queued_bytes -= len(data)
                for reply in replies:
                    reply(True)
        if self._is_closing and not self._queue:
            self.drop()
        return is_moved

    def close(self) -> None:
        """End of input after what is queued; nothing more is taken."""
        self._is_closing = True
        self.pump()

    def drop(self) -> None:
        """End of input now: what is queued is refused."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
        self._frames.end()
        self._is_closing = True
        queue, self._queue, self._queued_bytes = self._queue, [], 0
        for _, _, replies in queue:
            for reply in replies:
                reply(False)

    def detach(self) -> None:
        """Give the descriptor back without a word to anybody: another process may go on."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class Frames:
    """Which stdin frames were written, kept in a file: a head `INDEX WRITTEN CLOSED`, then `ID LENGTH` lines.

    A frame's line is written before its first byte, its progress after each write. Between the two lie
    microseconds; a kill just there makes whoever goes on write those bytes again.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._written: dict[str, int] = {}
        self._end = FRAMES_HEAD
        self.begun: str | None = None
        self._length = 0
        self._progress = 0
        self.is_closed = False
        self._load()

    def _load(self) -> None:
        data = os.pread(self._fd, 64 << 20, 0).partition(b"\0")[0]
        head, lines = data[:FRAMES_HEAD].split(), data[FRAMES_HEAD:].split(b"\n")
        if len(head) != 3:
            return
        index, written, closed = (int(part) for part in head)
        self.is_closed = bool(closed)
        for line in lines[:-1]:
            frame, _, length = line.decode().partition(" ")
            self._written[frame] = self._length = int(length)
            self._end += len(line) + 1
            self.begun = frame
        self._progress = written if index == len(self._written) else 0
        if self._progress >= self._length:
            self.begun = None

    def _save_head(self) -> None:
        head = f"{len(self._written)} {self._progress} {int(self.is_closed)}"
        os.pwrite(self._fd, head.ljust(FRAMES_HEAD - 1).encode() + b"\n", 0)

    def is_done(self, frame: str) -> bool:
        """The whole frame went into the pipe."""
        return frame in self._written and frame != self.begun

    def begin(self, frame: str, length: int) -> int:
        """Remember that `frame` is being written; how much of it was written already."""
        if self.begun != frame:
            line = f"{frame} {length}\n".encode()
            try:
                os.pwrite(self._fd, line, self._end)
            except OSError as error:  # beyond the preallocated part: remember it in memory alone
                if error.errno not in FULL_ERRORS:
                    raise
            self._end += len(line)
            self._written[frame] = self._length = length
            self.begun = frame
            self._progress = 0
        return self._progress

    def advance(self, written: int) -> bool:
        """`written` more bytes are in the pipe; True when that was the last of them."""
        self._progress += written
        self._save_head()
        if self._progress >= self._length:
            self.begun = None
        return self.begun is None

    def end(self) -> None:
        """Stdin is closed for good."""
        self.is_closed = True
        self._save_head()


# --- limits and the stop ladder ----------------------------------------------------------------------


class Limits:
    """What the starter set, in seconds and bytes; None means no limit."""

    def __init__(self, spec: dict[str, str]) -> None:
        def seconds(key: str) -> float | None:
            return None if spec.get(key, "-") == "-" else float(spec[key])

        self.deadline_s = seconds("deadline")
        self.no_output_s = seconds("no_output")
        self.hang_s = seconds("hang")
        self.linger_s = seconds("linger") or 0.0
        self.keep = spec.get("keep") == "1"
        self.max_output = None if spec.get("max_output", "-") == "-" else int(spec["max_output"])
        self.interrupt = bytes.fromhex(spec.get("interrupt", ""))
        self.rungs_s = tuple(float(spec[f"rung_{name}"]) for name in RUNGS[:3])


class Supervisor:
    """Cares for one child until it and its descendants are gone and the output is safe.

    Knows no event loop: its owner calls `turn` when something may have happened or `due` is reached.
    `body` is how the child is reaped and signalled: a `Family` in the shim; the daemon brings its own
    for a child whose shim was lost. Phases: run, linger, sweep, flush, done.
    """

    def __init__(
        self, limits: Limits, spools: dict[str, Spool], stdin: Stdin, body: Body, now: float
    ) -> None:
        self.limits = limits
        self.spools = spools
        self.stdin = stdin
        self.body = body
        self.phase = "run"
        self.reason: str | None = None
        self.rungs: list[str] = []
        self.is_unflushed = False
        self.deadline = None if limits.deadline_s is None else now + limits.deadline_s
        self.hang_at: float | None = None
        self.is_waiting = False
        """The deadline was lifted (a person is waited for): silence is no fault then."""
        self._rung: int | None = None
        self._rung_due = 0.0
        self._interrupted_at: float | None = None
        self._interrupts = 0
        self._active_at = now
        self._phase_due: float | None = None
        self._retry_at = 0.0
        self._turn_due: float | None = None
        self._is_kept = False

    # what is asked of it

    def set_deadline(self, seconds: float | None, now: float) -> None:
        """Replace the deadline, counted from now; None lifts it and the no-output limit with it."""
        self.deadline = None if seconds is None else now + seconds
        self.is_waiting = seconds is None
        self._active_at = now

    def close_stdin(self, now: float, *, hang: bool) -> None:
        """End of input after what is queued; with `hang` the child must be gone in time."""
        self.stdin.close()
        if hang and self.hang_at is None and self.limits.hang_s is not None:
            self.hang_at = now + self.limits.hang_s

    def stop(self, mode: str, reason: str, now: float) -> None:
        """Begin the stop ladder, or take it from where it is to `mode`."""
        if self.phase not in ("run", "linger"):
            return
        if mode == INTERRUPT:
            if self._rung is None and self.phase == "run":
                self._interrupt(now)
            return
        if self.phase == "linger":
            self._sweep(now)
            return
        self.reason = self.reason or reason
        if mode == KILL:
            self._sweep(now)
        elif self._rung is None:
            asked = self._interrupted_at
            if asked is not None and now - asked < self.limits.rungs_s[0]:
                self._rung, self._rung_due = 0, asked + self.limits.rungs_s[0]
            else:
                self._climb(now)

    def _interrupt(self, now: float) -> bool:
        if not self.limits.interrupt or not self.stdin.is_open:
            return False
        self._interrupted_at = now
        self._interrupts += 1
        self._note("interrupt")
        frame = f"@interrupt-{self._interrupts}"
        self.stdin.add(frame, self.limits.interrupt, lambda _: None, first=True)
        return True

    def _note(self, rung: str) -> None:
        if rung not in self.rungs:
            self.rungs.append(rung)

    def _climb(self, now: float) -> None:
        """Go to the next rung that can do anything."""
        while True:
            self._rung = 0 if self._rung is None else self._rung + 1
            if self._rung == 0 and self._interrupt(now):
                break
            if self._rung == 1 and self.stdin.fd is not None:
                self._note("close")
                self.stdin.drop()
                break
            if self._rung == 2:
                self._note("term")
                self.body.terminate()
                break
            if self._rung == 3:
                self._sweep(now)
                return
        self._rung_due = now + self.limits.rungs_s[self._rung]

    def _sweep(self, now: float) -> None:
        if not (self.body.is_ended and self.body.is_alone):
            self._note("sweep")
        self.stdin.drop()
        self.phase = "sweep"
        self._turn_due = now

    # what happens by itself

    def turn(self, now: float) -> None:
        """Do all that can be done now."""
        self.body.reap(now)
        if self.stdin.pump():
            self._active_at = now
        self._move(now)
        if self.phase == "run":
            self._turn_run(now)
        if self.phase == "linger":
            self._turn_linger(now)
        if self.phase == "sweep":
            self._turn_due = now + SWEEP_POLL_S
            if self.body.sweep(now):
                self._flush(now)
        if self.phase == "flush":
            self._turn_flush(now)

    def _move(self, now: float) -> int:
        if self.is_stalled and now < self._retry_at:
            return 0
        cap = self._cap()
        moved = 0
        for spool in self.spools.values():
            for _ in range(CHUNKS_A_TURN):
                room = CHUNK_BYTES if cap is None else min(CHUNK_BYTES, cap - self.output_bytes)
                if room <= 0 or not (count := spool.move(room)):
                    break
                moved += count
        if moved:
            self._active_at = now
        if self.is_stalled:
            self._retry_at = now + RETRY_FULL_S
            self._active_at = now
        return moved

    def _cap(self) -> int | None:
        """Output beyond this is left in the pipe; what an ended child left there is always taken."""
        if self.limits.max_output is None or self.phase in ("flush", "done"):
            return None
        return self.limits.max_output + OUTPUT_GRACE_BYTES

    @property
    def output_bytes(self) -> int:
        """All that was moved to the spools."""
        return sum(spool.size for spool in self.spools.values())

    @property
    def is_stalled(self) -> bool:
        """Output waits in its pipe because the disk is full."""
        return any(spool.is_full for spool in self.spools.values())

    def wants_output(self) -> bool:
        """Whether the owner should watch the FIFOs."""
        cap = self._cap()
        return not self.is_stalled and (cap is None or self.output_bytes < cap)

    def _turn_run(self, now: float) -> None:
        if self.body.is_ended:
            self.stdin.drop()
            if self._rung is not None:
                self._sweep(now)
                return
            self.phase = "linger"
            self._phase_due = now + self.limits.linger_s
            return
        cap = self._cap()
        if cap is not None and self.output_bytes >= cap:
            self.stop(KILL, "output_limit", now)
        elif self._rung is not None:
            if now >= self._rung_due:
                self._climb(now)
        elif broken := self._broken(now):
            self.stop(TERMINATE, broken, now)

    def _broken(self, now: float) -> str | None:
        """The limit that was passed."""
        if self.limits.max_output is not None and self.output_bytes > self.limits.max_output:
            return "output_limit"
        if self.deadline is not None and now >= self.deadline:
            return "timeout"
        if self.hang_at is not None and now >= self.hang_at:
            return "hang"
        silent = self._silent_at()
        return "no_output" if silent is not None and now >= silent else None

    def _silent_at(self) -> float | None:
        if self.limits.no_output_s is None or self.is_waiting or self.is_stalled:
            return None
        return self._active_at + self.limits.no_output_s

    def _turn_linger(self, now: float) -> None:
        if self.body.is_alone:
            self._flush(now)
        elif self._phase_due is not None and now >= self._phase_due:
            if self.limits.keep:
                self._is_kept = True
                self._flush(now)
            else:
                self._sweep(now)

    def _flush(self, now: float) -> None:
        self.phase = "flush"
        self._turn_due = None
        self._retry_at = now
        self._phase_due = now + (FULL_AT_END_S if self.reason is None else FULL_AT_KILL_S)

    def _turn_flush(self, now: float) -> None:
        if self._move(now) and not self._is_kept:
            self._turn_due = now  # there may be more; who was kept may write for ever
            return
        self._turn_due = None
        is_late = self._phase_due is not None and now >= self._phase_due
        if self.is_stalled and not is_late:
            return
        try:
            hit("shim_exit")
            for spool in self.spools.values():
                sync(spool.file)
        except OSError:
            if not is_late:
                self._retry_at = now + RETRY_FULL_S
                for spool in self.spools.values():
                    spool.is_full = True
                return
        self.is_unflushed = self.is_stalled
        self.phase = "done"

    def due(self) -> float | None:
        """When `turn` must be called at the latest; None when only events matter."""
        times: list[float | None] = []
        if self.is_stalled:
            times.append(self._retry_at)
        if self.phase == "run":
            if self._rung is not None:
                times.append(self._rung_due)
            else:
                times += [self.deadline, self.hang_at, self._silent_at()]
        elif self.phase == "linger":
            times.append(self._phase_due)
        else:
            times.append(self._turn_due)
            if self.phase == "flush":
                times.append(self._phase_due)
        known = [moment for moment in times if moment is not None]
        return min(known) if known else None

    # for whoever goes on when this process dies

    def state(self) -> dict[str, object]:
        """What cannot be learned from elsewhere; times are of the machine's monotonic clock."""
        return {
            "deadline": "-" if self.deadline is None else self.deadline,
            "hang_at": "-" if self.hang_at is None else self.hang_at,
            "waiting": int(self.is_waiting),
            "rung": "-" if self._rung is None else self._rung,
            "rung_due": self._rung_due,
            "interrupts": self._interrupts,
            "interrupted_at": "-" if self._interrupted_at is None else self._interrupted_at,
            "reason": self.reason or "-",
            "rungs": ",".join(self.rungs) or "-",
            "sweeping": int(self.phase == "sweep"),
        }

    def restore(self, state: dict[str, str]) -> None:
        """Go on where another left off."""

        def moment(key: str) -> float | None:
            return None if state[key] == "-" else float(state[key])

        self.deadline, self.hang_at = moment("deadline"), moment("hang_at")
        self.is_waiting = state["waiting"] == "1"
        self._rung = None if state["rung"] == "-" else int(state["rung"])
        self._rung_due = float(state["rung_due"])
        self._interrupts = int(state["interrupts"])
        self._interrupted_at = moment("interrupted_at")
        self.reason = None if state["reason"] == "-" else state["reason"]
        self.rungs = [] if state["rungs"] == "-" else state["rungs"].split(",")
        if state["sweeping"] == "1":
            self.phase = "sweep"

    def record(self) -> dict[str, object]:
        """What the exit file says. Only when `phase` is done."""
        status = self.body.status
        signalled = status is not None and os.WIFSIGNALED(status)
        exited = status is not None and os.WIFEXITED(status)
        return {
            "version": VERSION,
            "reason": self.reason or "exited",
            "code": os.WEXITSTATUS(status) if status is not None and exited else "-",
            "signal": os.WTERMSIG(status) if status is not None and signalled else "-",
            "out": self.spools["out"].size,
            "err": self.spools["err"].size,
            "unflushed": int(self.is_unflushed),
            "swept": self.body.swept,
            "denied": len(self.body.denied),
            "rungs": ",".join(self.rungs) or "-",
            "shim_lost": int(self.body.is_shim_lost),
        }


if TYPE_CHECKING:
    from typing import Protocol

    class Body(Protocol):
        """How a child is reaped, signalled and swept."""

        status: int | None
        is_ended: bool
        is_alone: bool
        is_shim_lost: bool
        swept: int
        denied: set[int]

        def reap(self, now: float) -> None: ...
        def terminate(self) -> None: ...
        def sweep(self, now: float) -> bool: ...


# --- the shim's own --------------------------------------------------------------------------------


def become_subreaper() -> None:
    """Every orphan below this process becomes its child (Linux; nothing elsewhere)."""
    if sys.platform == "linux":
        import ctypes  # noqa: PLC0415  2 ms that only Linux needs

        ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0)


def list_children(pid: int) -> list[int]:
    """The direct children of a process, zombies included."""
    if sys.platform == "darwin":
        import ctypes  # noqa: PLC0415  only macOS needs it

        buffer = (ctypes.c_int * 4096)()
        count = ctypes.CDLL("libproc.dylib").proc_listchildpids(pid, buffer, 4096 * 4)
        return list(buffer[: max(count, 0)])
    try:
        found: list[int] = []
        for task in os.listdir(f"/proc/{pid}/task"):
            found += [int(item) for item in read_file(f"/proc/{pid}/task/{task}/children").split()]
    except OSError:  # no CONFIG_PROC_CHILDREN, or it has just ended
        return _scan_children(pid)
    return found


def _scan_children(pid: int) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            stat = read_file(f"/proc/{name}/stat")
        except OSError:
            continue
        if int(stat.rpartition(b")")[2].split()[1]) == pid:
            found.append(int(name))
    return found


class Family:
    """The shim's child and, because the shim is a subreaper, whatever is left of its descendants.

    Complete: every orphan comes to us; when waitpid answers ECHILD nobody is left. Safe: a child we have
    not reaped keeps its pid and its group id.
    """

    is_shim_lost = False

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.status: int | None = None
        self.is_ended = False
        self.is_alone = False
        self.swept = 0
        self.denied: set[int] = set()
        self._signalled: set[int] = set()
        self._began: float | None = None
        self._denied_since: float | None = None

    def reap(self, now: float) -> None:  # noqa: ARG002  as the daemon's body has it
        """Take the exit status of whoever ended."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self.is_alone = True
                return
            if not pid:
                return
            if pid == self.pid:
                self.status = status
                self.is_ended = True
            self._signalled.discard(pid)
            self.denied.discard(pid)

    def terminate(self) -> None:
        """SIGTERM to the child's group."""
        if self.is_ended:
            return
        try:
            os.killpg(self.pid, _signal.SIGTERM)
        except PermissionError:  # somebody else's process is in the group: at least our child
            os.kill(self.pid, _signal.SIGTERM)

    def sweep(self, now: float) -> bool:
        """Kill direct children until none is left; True when that is so, or no more can be done."""
        self._began = now if self._began is None else self._began
        until = time.monotonic() + SWEEP_SLICE_S
        while True:
            self.reap(now)
            if self.is_alone:
                return True
            fresh, rest = self._kill_children()
            if not rest and self.denied and not fresh:
                self._denied_since = now if self._denied_since is None else self._denied_since
                return now - self._denied_since >= DENIED_WAIT_S
            if now - self._began >= SWEEP_WAIT_S:
                self.denied |= self._signalled
                return True
            if not fresh or time.monotonic() > until:
                return False

    def _kill_children(self) -> tuple[int, int]:
        """(newly killed, children that were killed and are still there)."""
        fresh = rest = 0
        for pid in list_children(os.getpid()):
            if pid in self.denied:
                continue
            rest += 1
            try:
                os.kill(pid, _signal.SIGKILL)
            except PermissionError:
                self.denied.add(pid)
                rest -= 1
                continue
            if pid not in self._signalled:
                self._signalled.add(pid)
                fresh += 1
                self.swept += pid != self.pid
        return fresh, rest


class Client:
    """One connection of a daemon."""

    def __init__(self, sock: _socket.socket) -> None:
        self.sock = sock
        self.inbox = bytearray()
        self.outbox = bytearray()
        self.told: dict[str, int] = {}
        self.want: tuple[str, int] | None = None
        self.is_gone = False

    def say(self, line: str) -> None:
        """Send a line, or keep it until there is room."""
        self.outbox += line.encode() + b"\n"
        self.send()

    def send(self) -> None:
        """Send what is kept."""
        try:
            while self.outbox:
                del self.outbox[: self.sock.send(self.outbox)]
        except BlockingIOError:
            self.is_gone = self.is_gone or len(self.outbox) > MAX_OUTBOX_BYTES
        except OSError:
            self.is_gone = True

    def receive(self) -> None:
        """Take what has come."""
        try:
            while True:
                part = self.sock.recv(1 << 18)
                if not part:
                    self.is_gone = True
                    return
                self.inbox += part
                if len(self.inbox) > MAX_FRAME_BYTES:
                    return
        except BlockingIOError:
            pass
        except OSError:
            self.is_gone = True


class Server:
    """The shim's event loop: its child, its clients, its timers. Wakes for nothing else."""

    def __init__(
        self,
        supervisor: Supervisor,
        family: Family,
        listener: _socket.socket,
        wake: int,
        state: int,
    ) -> None:
        self.supervisor = supervisor
        self.family = family
        self.listener = listener
        self.clients: dict[int, Client] = {}
        self._poll = select.poll()
        self._watched: dict[int, int] = {}
        self._wake = wake
        self._told: dict[str, object] = {}
        self._state_fd = state
        self._state = b""

    def run(self) -> None:
        """Until the child and its descendants are gone and the spools are safe."""
        while True:
            self.supervisor.turn(time.monotonic())
            self._save()
            self._announce()
            if self.supervisor.phase == "done":
                return
            self._watch()
            self._wait()

    def _save(self) -> None:
        state = pack(self.supervisor.state()).ljust(STATE_BYTES, b"\n")
        if state != self._state:
            self._state = state
            try:
                os.pwrite(self._state_fd, state, 0)
            except OSError as error:
                if error.errno not in FULL_ERRORS:
                    raise

    def _announce(self) -> None:
        """Tell what changed. Sizes are hints: only the newest matters, and only to who keeps up."""
        supervisor = self.supervisor
        facts: dict[str, object] = {
            "stall": int(supervisor.is_stalled),
            "stdin": "open" if supervisor.stdin.fd is not None else "closed",
            "rung": supervisor.rungs[-1] if supervisor.rungs else "-",
        }
        for key, value in facts.items():
            if self._told.get(key, value) != value:
                for client in self.clients.values():
                    client.say(f"{key} {value}")
            self._told[key] = value
        for client in self.clients.values():
            for name, spool in supervisor.spools.items():
                if client.told[name] != spool.size and not client.outbox:
                    client.told[name] = spool.size
                    client.say(f"{name} {spool.size}")

    def _watch(self) -> None:
        supervisor = self.supervisor
        wanted = {self._wake: select.POLLIN, self.listener.fileno(): select.POLLIN}
        if supervisor.wants_output():
            for spool in supervisor.spools.values():
                wanted[spool.fifo] = select.POLLIN
        if supervisor.stdin.fd is not None and supervisor.stdin.is_waiting:
            wanted[supervisor.stdin.fd] = select.POLLOUT
        for fd, client in list(self.clients.items()):
            if client.is_gone:
                client.sock.close()
                del self.clients[fd]
            else:
                wanted[fd] = select.POLLIN | (select.POLLOUT if client.outbox else 0)
        for fd in self._watched.keys() - wanted.keys():
            self._poll.unregister(fd)
        for fd, events in wanted.items():
            if self._watched.get(fd) != events:
                self._poll.register(fd, events)
        self._watched = wanted

    def _wait(self) -> None:
        due = self.supervisor.due()
        timeout_ms = None
        if due is not None:
            left = due - time.monotonic()
            timeout_ms = min(left * 1000 + 1, MAX_POLL_MS) if left > 0 else 0.0
        for fd, _ in self._poll.poll(timeout_ms):
            if fd == self._wake:
                os.read(fd, 4096)
            elif fd == self.listener.fileno():
                self._accept()
            elif fd in self.clients:
                client = self.clients[fd]
                client.send()
                client.receive()
                self._obey(client)

    def _accept(self) -> None:
        try:
            fd, _ = self.listener._accept()  # type: ignore[attr-defined]  # accept is in the slow module
        except OSError:
            return
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
        sock.setblocking(False)
        if len(self.clients) >= MAX_CLIENTS or peer_uid(sock) != os.getuid():
            sock.close()
            return
        client = Client(sock)
        supervisor = self.supervisor
        out, err = (supervisor.spools[name].size for name in ("out", "err"))
        client.told = {"out": out, "err": err}
        self.clients[fd] = client
        client.say(
            f"hello {VERSION} {os.getpid()} {self.family.pid} {out} {err} "
            f"{int(supervisor.is_stalled)} {int(supervisor.stdin.fd is not None)}"
        )

    def _obey(self, client: Client) -> None:
        """Carry out the whole requests a client has sent so far."""
        while not client.is_gone:
            if client.want is not None:
                frame, length = client.want
                if len(client.inbox) < length:
                    return
                data = bytes(memoryview(client.inbox)[:length])
                del client.inbox[:length]
                client.want = None
                self.supervisor.stdin.add(frame, data, self._reply(client, frame), first=False)
                continue
            end = client.inbox.find(b"\n", 0, MAX_LINE_BYTES)
            if end < 0:
                client.is_gone = len(client.inbox) >= MAX_LINE_BYTES
                return
            words = client.inbox[:end].decode("ascii", "replace").split(" ")
            del client.inbox[: end + 1]
            try:
                self._command(client, words)
            except (ValueError, IndexError):
                client.is_gone = True

    def _command(self, client: Client, words: list[str]) -> None:
        now = time.monotonic()
        verb, tag = words[0], words[1]
        if verb == "frame":
            client.want = (tag, int(words[2]))
            client.is_gone = not 0 <= client.want[1] <= MAX_FRAME_BYTES
            return
        if verb == "close":
            self.supervisor.close_stdin(now, hang=words[2] == "1")
        elif verb == "deadline":
            self.supervisor.set_deadline(None if words[2] == "-" else float(words[2]), now)
        elif verb == "stop":
            self.supervisor.stop(words[2], words[3], now)
        else:
            client.say(f"no {tag}")
            return
        self._save()
        client.say(f"ok {tag}")

    def _reply(self, client: Client, frame: str) -> Callable[[bool], None]:
        return lambda done: client.say(f"{'ok' if done else 'no'} {frame}")

    def farewell(self) -> None:
        """Nobody can connect any more; whoever is connected knows why."""
        for client in self.clients.values():
            client.say("exit")


def wake_on_child() -> int:
    """A descriptor that becomes readable when a child ends."""
    wake_r, wake_w = os.pipe()
    os.set_blocking(wake_r, False)
    os.set_blocking(wake_w, False)
    _signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
    _signal.signal(_signal.SIGCHLD, lambda *_: None)
    return wake_r


def peer_uid(sock: _socket.socket) -> int:
    """The user at the other end of a UNIX socket; -1 when it cannot be told."""
    if hasattr(_socket, "SO_PEERCRED"):
        credentials = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        return int.from_bytes(credentials[4:8], sys.byteorder)
    import ctypes  # noqa: PLC0415  only macOS needs it

    uid, gid = ctypes.c_uint32(), ctypes.c_uint32()
    failed = ctypes.CDLL(None).getpeereid(sock.fileno(), ctypes.byref(uid), ctypes.byref(gid))
    return -1 if failed else uid.value


class StartFailed(Exception):  # noqa: N818  it names an outcome
    """The child was not started; `args` are the stage and the errno."""


def take_lock() -> None:
    """Hold the run directory's lock until death, by the descriptor our starter locked for us."""
    try:
        mine, named = os.fstat(LOCK_FD), os.stat(LOCK)
        is_given = (mine.st_dev, mine.st_ino) == (named.st_dev, named.st_ino)
    except OSError:
        is_given = False
    if not is_given:
        own = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        if own != LOCK_FD:
            os.dup2(own, LOCK_FD)
            os.close(own)
    os.set_inheritable(LOCK_FD, False)
    fcntl.flock(LOCK_FD, fcntl.LOCK_EX | fcntl.LOCK_NB)


def set_signals() -> None:
    """Nothing but SIGKILL ends the shim before its work is done."""
    for name in (
        "SIGHUP",
        "SIGINT",
        "SIGTERM",
        "SIGPIPE",
        "SIGQUIT",
        "SIGTTOU",
        "SIGTTIN",
        "SIGTSTP",
    ):
        _signal.signal(getattr(_signal, name), _signal.SIG_IGN)


def open_fifos() -> tuple[dict[str, int], list[int]]:
    """(our ends, the child's stdin, stdout, stderr). Ours never block; the child's do."""
    for name in FIFOS.values():
        if not os.path.exists(name):  # the daemon has made them, to hold them from the start
            os.mkfifo(name, 0o600)
    ours, theirs = {}, []
    for key, name in FIFOS.items():
        first = os.open(name, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        if key == "in":
            theirs.append(os.open(name, os.O_RDONLY | os.O_CLOEXEC))
            ours[key] = os.open(name, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.close(first)
        else:
            theirs.append(os.open(name, os.O_RDWR | os.O_CLOEXEC))
            ours[key] = first
    if sys.platform == "linux":
        try:
            fcntl.fcntl(ours["out"], 1031, PIPE_BYTES)  # F_SETPIPE_SZ
        except OSError:
            pass  # the user's pipes are used up; the usual size does as well
    return ours, theirs


def run_child(launch: bytes, stdio: list[int], go: int, report: int) -> NoReturn:
    """The child's side of the fork: wait for the word, then become the program."""
    stage = "setup"
    try:
        os.close(LOCK_FD)
        argv, env, cwd, umask = unpack_launch(launch)
        os.setsid()
        for number, fd in enumerate(stdio):
            os.dup2(fd, number)
        raise_oom_score()
        for number in range(1, 32):
            if number not in (_signal.SIGKILL, _signal.SIGSTOP):
                _signal.signal(number, _signal.SIG_DFL)
        hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))  # a core dump would hold secrets
        os.umask(umask)
        stage = "chdir"
        os.chdir(cwd)
        if os.read(go, 1) != b"g":  # the shim died before it had put us on record
            os._exit(127)
        stage = "exec"
        os.execvpe(argv[0], argv, env)  # noqa: S606  what S21 wants
    except OSError as error:
        os.write(report, f"{stage} {error.errno}".encode())
    except BaseException:  # noqa: BLE001  whatever it was, this process must not go on as a shim
        os.write(report, f"{stage} {errno.EINVAL}".encode())
    os._exit(127)


def raise_oom_score() -> None:
    """When memory runs out the child goes before the shim does. Raising it needs no rights."""
    try:
        score = int(read_file("/proc/self/oom_score_adj"))
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
        os.write(fd, str(min(1000, score + 500)).encode())
        os.close(fd)
    except OSError:
        pass  # not Linux, or no /proc


def start_child(launch: bytes, stdio: list[int]) -> int:
    """Fork, put the child on record, let it go. Raises StartFailed with nothing left behind."""
    go_r, go_w = os.pipe()
    report_r, report_w = os.pipe()
    record = open_new(SHIM_NEW)
    hit("shim_start")
    pid = os.fork()
    if not pid:
        os.close(go_w)
        os.close(report_r)
        run_child(launch, stdio, go_r, report_w)
    os.close(go_r)
    os.close(report_w)
    fields: dict[str, object] = {
        "version": VERSION,
        "boot": boot_id(),
        "shim": os.getpid(),
        "shim_start": process_start(os.getpid()),
        "child": pid,
        "child_start": process_start(pid),
    }
    try:
        publish(record, SHIM_NEW, SHIM, pack(fields))
    except OSError:
        os.close(go_w)  # without the word it ends by itself
        os.waitpid(pid, 0)
        raise
    os.close(record)
    try:
        os.write(go_w, b"g")
    except OSError:
        pass  # it failed before and says so below
    os.close(go_w)
    trouble = os.read(report_r, 100)
    os.close(report_r)
    if trouble:
        os.waitpid(pid, 0)
        stage, _, code = trouble.decode().partition(" ")
        raise StartFailed(stage, int(code))
    return pid


def listen() -> _socket.socket:
    """The socket, private from its first moment. Bound by a bare name: no path is too long."""
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    listener.setblocking(False)
    old = os.umask(0o177)
    listener.bind(SOCKET)
    os.umask(old)
    listener.listen(8)
    return listener


def start() -> tuple[Server, int]:
    """All that can fail, in an order that leaves nothing alive when it does."""
    spec = unpack(read_file(SPEC))
    launch = read_file(LAUNCH)
    listener = listen()
    exit_fd = preallocate(EXIT_NEW, EXIT_BYTES)
    frames_fd = open_new(FRAMES)
    os.pwrite(frames_fd, FRAMES_NONE.ljust(FRAMES_BYTES, b"\0"), 0)
    state_fd = preallocate(STATE, STATE_BYTES)
    wake = wake_on_child()
    ours, theirs = open_fifos()
    now = time.monotonic()
    spools = {key: Spool(ours[key], open_new(name)) for key, name in SPOOLS.items()}
    pid = start_child(launch, theirs)
    for fd in theirs:
        os.close(fd)
    os.unlink(LAUNCH)  # the environment may hold secrets: it stays no longer than needed
    family = Family(pid)
    stdin = Stdin(ours["in"], Frames(frames_fd))
    supervisor = Supervisor(Limits(spec), spools, stdin, family, now)
    return Server(supervisor, family, listener, wake, state_fd), exit_fd


def report(line: str) -> None:
    """Tell our starter, if it still lives, how the start went; it hears the end of file too."""
    try:
        os.write(1, line.encode() + b"\n")
    except OSError:
        pass
    null = os.open("/dev/null", os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)


def fail(stage: str, code: int) -> NoReturn:
    """Nothing was started: say so, and take the record back."""
    try:
        os.unlink(SHIM)
    except OSError:
        pass  # it had not come so far
    report(f"fail {stage} {code}")
    os._exit(1)


def finish(server: Server, exit_fd: int) -> None:
    """The last thing: how it ended, whole or not at all, even on a full disk."""
    data = pack(server.supervisor.record()).ljust(EXIT_BYTES, b"\n")
    until = time.monotonic() + FULL_AT_KILL_S
    while True:
        try:
            publish(exit_fd, EXIT_NEW, EXIT, data)
            break
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(RETRY_FULL_S)
    for name in (SOCKET, *FIFOS.values()):
        os.unlink(name)
    server.farewell()


def main(run_dir: str) -> None:
    """Start the child in `run_dir` and care for it to its end."""
    os.umask(0o077)
    os.chdir(run_dir)
    take_lock()
    os.closerange(LOCK_FD + 1, 1 << 16)
    if os.path.exists(SHIM) or os.path.exists(EXIT):
        sys.stderr.write("a child was started here before\n")
        os._exit(3)
    configure_failpoints(os.environ.get("HIVECTL_FAILPOINT", ""))
    if os.getsid(0) != os.getpid():
        os.setsid()
    set_signals()
    become_subreaper()
    try:
        server, exit_fd = start()
    except StartFailed as error:
        fail(error.args[0], error.args[1])
    except OSError as error:
        fail("setup", error.errno or 0)
    report(f"ok {server.family.pid}")
    server.run()
    finish(server, exit_fd)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
