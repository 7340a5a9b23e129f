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
CONTAIN = "--contain"
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
DUTY = 0.1
"""Most of a core that moving output may take: a child that writes line after line is then moved some lines at a time,"""
LONGEST_REST_S = 0.0005
"""and none of them waits longer than this for it."""
MAX_POLL_MS = 1e9
"""What poll can take; a deadline further off is looked at again then."""
FAILPOINTS = ("shim_start", "shim_splice", "shim_exit")
SWEEP_POLL_S = 0.02
NOTE_S = 1.0
"""How often descendants are written down where orphans do not come to the shim."""
ALONE_POLL_S = 0.1
"""How often it is looked there whether an ended child has left any."""
EMPTY_PASSES = 2
"""A sweep there is over after so many passes in a row that found nobody."""
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
    SYSTEM.sync(fd)
    os.rename(temporary, name)
    sync_dir(os.path.dirname(name) or ".")


def preallocate(name: str, size: int) -> int:
    """A new file whose room on the disk is certain."""
    fd = open_new(name)
    os.pwrite(fd, b"\n" * size, 0)
    SYSTEM.sync(fd)
    return fd


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


# --- systems -----------------------------------------------------------------------------------------

MARK = "HIVECTL_EXECUTION"
"""In the environment of everything an execution has started."""
_DEAD = frozenset(b"ZXx")


class Entry:
    """A line of the process table."""

    def __init__(
        self, parent: int, group: int, session: int, start: str, *, is_dead: bool, is_ours: bool
    ) -> None:
        self.parent = parent
        self.group = group
        self.session = session
        self.start = start
        """When it was started, in the system's own measure; with the pid it names one process for ever."""
        self.is_dead = is_dead
        """Ended, and kept for its parent's sake alone."""
        self.is_ours = is_ours
        """It belongs to our user, as far as the system tells without much ado."""


if TYPE_CHECKING:
    from typing import Any, Protocol

    class Watch(Protocol):
        """Something that becomes readable."""

        def fileno(self) -> int: ...
        def close(self) -> None: ...

    class Held(Protocol):
        """One very process, however its pid is used later."""

        fd: int | None
        """Readable when the process has ended; None: it must be asked now and then."""

        def has_ended(self) -> bool: ...
        def status(self) -> int | None: ...
        def signal(self, number: int) -> None: ...
        def signal_group(self, number: int) -> None: ...
        def close(self) -> None: ...

    class System(Protocol):
        """All in which systems differ for starting, watching and ending processes."""

        name: str
        can_splice: bool
        """The kernel moves bytes from a pipe to a file, and no death in between costs any."""
        inherits: bool
        """Orphans come to the nearest ancestor that asked for them: no descendant can be lost."""
        spawns_sessions: bool
        """A process can be started as the leader of a session."""

        def sync(self, fd: int) -> None: ...
        def boot_id(self) -> str: ...
        def become_heir(self) -> None: ...
        def widen(self, pipe: int) -> None: ...
        def go_first(self) -> None: ...
        def peer_uid(self, sock: _socket.socket) -> int: ...
        def reach(self, directory: int, path: str) -> str: ...
        def look(self, pid: int) -> Entry: ...
        def start_of(self, pid: int) -> str: ...
        def children(self, pid: int) -> list[int]: ...
        def pids(self) -> list[int]: ...
        def table(self) -> dict[int, Entry]: ...
        def environment(self, pid: int) -> list[bytes]: ...
        def arguments(self, pid: int) -> list[bytes]: ...
        def hold(self, pid: int, start: str) -> Held | None: ...
        def family(self, pid: int, mark: str) -> Family: ...


class Unix:
    """What every system can do: read and write, ask again, know a process by its pid and start time.

    Below it stands what a process table is made of: `look`, `pids`, `environment`, `arguments`. Orphans
    go to the first process of the machine."""

    name = "unix"
    can_splice = False
    inherits = False
    spawns_sessions = False

    def sync(self, fd: int) -> None:
        """Make a file's bytes durable."""
        os.fsync(fd)

    def boot_id(self) -> str:
        """What changes with every boot; empty where it cannot be told."""
        return ""

    def become_heir(self) -> None:
        """Let every orphan below this process become its child, where that can be."""

    def widen(self, pipe: int) -> None:
        """Give a pipe more room, where that can be."""

    def go_first(self) -> None:
        """When memory runs out this process goes before others do, where that can be said."""

    def reach(self, directory: int, path: str) -> str:  # noqa: ARG002  some need the one, some the other
        """How a socket at `path`, in an open directory, is named, however long the path is."""
        return path

    if TYPE_CHECKING:

        def peer_uid(self, sock: _socket.socket) -> int:
            """The user at the other end of a UNIX socket; -1 when it cannot be told."""

        def look(self, pid: int) -> Entry:
            """A process as it is now. Raises ProcessLookupError."""

        def pids(self) -> list[int]:
            """Every process that can be seen."""

        def environment(self, pid: int) -> list[bytes]:
            """`NAME=value` items a process was started with. Raises OSError, PermissionError of another user's."""

        def arguments(self, pid: int) -> list[bytes]:
            """What a process was started as. Raises OSError."""

    def start_of(self, pid: int) -> str:
        """When a process was started; empty when there is none."""
        try:
            return self.look(pid).start
        except OSError:
            return ""

    def table(self) -> dict[int, Entry]:
        """All living processes."""
        found = {}
        for pid in self.pids():
            try:
                entry = self.look(pid)
            except OSError:
                continue
            if not entry.is_dead:
                found[pid] = entry
        return found

    def children(self, pid: int) -> list[int]:
        """The direct children of a process, zombies included."""
        found = []
        for other in self.pids():
            try:
                if self.look(other).parent == pid:
                    found.append(other)
            except OSError:
                continue
        return found

    def hold(self, pid: int, start: str) -> Held | None:
        """The very process that had this pid and start time; None when it is gone."""
        return Named(self, pid, start) if start and self.start_of(pid) == start else None

    def family(self, pid: int, mark: str) -> Family:
        """How the shim cares for its child."""
        return Clan(pid, mark)


class Named:
    """A process known by its pid and start time: both are looked at right before it is signalled."""

    def __init__(self, system: Unix, pid: int, start: str, watch: Watch | None = None) -> None:
        self._system = system
        self._pid = pid
        self._start = start
        self._watch = watch
        self.fd = None if watch is None else watch.fileno()
        self._status: int | None = None

    def has_ended(self) -> bool:
        """It is gone, or a zombie."""
        try:
            entry = self._system.look(self._pid)
        except OSError:
            return True
        return entry.is_dead or entry.start != self._start

    def status(self) -> int | None:
        """How it ended, when it was our child; None: not known."""
        if self._status is None:
            try:
                pid, status = os.waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:
                return None
            self._status = status if pid else None
        return self._status

    def signal(self, number: int) -> None:
        """Signal it. Raises ProcessLookupError when it is gone, PermissionError."""
        if self._status is not None or self._system.start_of(self._pid) != self._start:
            raise ProcessLookupError(self._pid)
        os.kill(self._pid, number)

    def signal_group(self, number: int) -> None:
        """Signal the group it leads, or it alone where it leads none. Raises OSError."""
        if self._status is None and self._system.look(self._pid).start == self._start:
            try:
                os.killpg(self._pid, number)
            except ProcessLookupError:  # it leads none
                self.signal(number)
            return
        self.signal(number)

    def close(self) -> None:
        """Let go."""
        if self._watch is not None:
            self._watch.close()
        self._watch = self.fd = None


class Procfs(Unix):
    """The process table as /proc shows it: Linux's own, and Darwin's ways where they are tried on Linux."""

    name = "procfs"

    def boot_id(self) -> str:
        """The kernel makes one at each boot."""
        try:
            return read_file("/proc/sys/kernel/random/boot_id").decode().strip()
        except OSError:
            return ""

    def peer_uid(self, sock: _socket.socket) -> int:
        """As it was when the peer connected."""
        credentials = sock.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        return int.from_bytes(credentials[4:8], sys.byteorder)

    def pids(self) -> list[int]:
        """Every process of this pid namespace."""
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]

    def look(self, pid: int) -> Entry:
        """From its stat file. The name in parentheses may hold anything; the rest is numbers."""
        try:
            stat = read_file(f"/proc/{pid}/stat")
        except FileNotFoundError:
            raise ProcessLookupError(errno.ESRCH, "no such process", pid) from None
        state, parent, group, session, *rest = stat.rpartition(b")")[2].split()
        return Entry(
            int(parent), int(group), int(session), rest[15].decode(), is_dead=state[0] in _DEAD, is_ours=True
        )  # fmt: skip

    def environment(self, pid: int) -> list[bytes]:
        """Empty for one that is dying."""
        return read_file(f"/proc/{pid}/environ").split(b"\0")

    def arguments(self, pid: int) -> list[bytes]:
        """Empty for one that is dying."""
        return read_file(f"/proc/{pid}/cmdline").split(b"\0")


class Linux(Procfs):
    """splice, pidfds and the subreaper: nothing is lost, nobody escapes, no pid is mistaken."""

    name = "linux"
    can_splice = True
    inherits = True
    spawns_sessions = True

    def sync(self, fd: int) -> None:
        """The bytes and the size, not the times."""
        os.fdatasync(fd)

    def become_heir(self) -> None:
        """The subreaper."""
        import ctypes  # noqa: PLC0415  2 ms that only Linux needs

        ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0)

    def widen(self, pipe: int) -> None:
        """F_SETPIPE_SZ."""
        try:
            fcntl.fcntl(pipe, 1031, PIPE_BYTES)
        except OSError:
            pass  # the user's pipes are used up; the usual size does as well

    def go_first(self) -> None:
        """Raising the score needs no rights."""
        try:
            score = int(read_file("/proc/self/oom_score_adj"))
            fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY)
            os.write(fd, str(min(1000, score + 500)).encode())
            os.close(fd)
        except OSError:
            pass  # no /proc

    def reach(self, directory: int, path: str) -> str:
        """By the descriptor: no path is too long."""
        return f"/proc/self/fd/{directory}/{path.rpartition('/')[2]}"

    def children(self, pid: int) -> list[int]:
        """The kernel's own list, where it keeps one."""
        try:
            found: list[int] = []
            for task in os.listdir(f"/proc/{pid}/task"):
                path = f"/proc/{pid}/task/{task}/children"
                found += [int(item) for item in read_file(path).split()]
        except OSError:  # no CONFIG_PROC_CHILDREN, or it has just ended
            return super().children(pid)
        return found

    def hold(self, pid: int, start: str) -> Held | None:
        """By a pidfd: from here on the pid may be recycled without harm."""
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            return None
        if start and self.start_of(pid) == start:
            return Pidfd(fd)
        os.close(fd)
        return None

    def family(self, pid: int, mark: str) -> Family:  # noqa: ARG002  nobody needs to be told by it
        """Every orphan comes to the shim."""
        return Family(pid)


class Pidfd:
    """A process by a descriptor of it (Linux)."""

    GET_INFO, INFO_EXIT, INFO_BYTES = 0xC040FF0B, 1 << 3, 64
    WHOLE_GROUP = 4

    def __init__(self, fd: int) -> None:
        self.fd: int | None = fd

    def has_ended(self) -> bool:
        """Its descriptor is readable then."""
        poll = select.poll()
        poll.register(self._open, select.POLLIN)
        return bool(poll.poll(0))

    @property
    def _open(self) -> int:
        if self.fd is None:
            raise ProcessLookupError(errno.ESRCH, "it was let go")
        return self.fd

    def status(self) -> int | None:
        """By reaping it when it is our child, else from the kernel's record of one that was reaped by its
        parent (Linux 6.15). None: not known (yet)."""
        try:
            found = os.waitid(os.P_PIDFD, self._open, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return self._recorded()
        if found is None:
            return None
        return found.si_status << 8 if found.si_code == os.CLD_EXITED else found.si_status

    def _recorded(self) -> int | None:
        info = bytearray(self.INFO_EXIT.to_bytes(8, sys.byteorder).ljust(self.INFO_BYTES, b"\0"))
        try:
            fcntl.ioctl(self._open, self.GET_INFO, info)
        except OSError:
            return None
        if not int.from_bytes(info[:8], sys.byteorder) & self.INFO_EXIT:
            return None
        return int.from_bytes(info[60:64], sys.byteorder, signed=True)

    def signal(self, number: int) -> None:
        """Signal it. Raises OSError."""
        _signal.pidfd_send_signal(self._open, number)

    def signal_group(self, number: int) -> None:
        """Signal the group it leads. Raises OSError."""
        try:
            _signal.pidfd_send_signal(self._open, number, None, self.WHOLE_GROUP)
        except OSError:  # before Linux 6.9 only the process itself can be named safely
            self.signal(number)

    def close(self) -> None:
        """Let go."""
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None


class Darwin(Unix):
    """macOS: libproc, sysctl and kqueue. Written from their headers and tried on Linux with a pretended
    `kernel`, never on a Mac; what it does beside them is what `Procfs` does in the tests of both."""

    name = "darwin"
    FULLFSYNC = 51
    PROCARGS_BYTES = 1 << 20
    BSDINFO_BYTES = 136
    ZOMBIE = 5

    def __init__(self, kernel: Libc | None = None) -> None:
        self._kernel = kernel or Libc()

    def sync(self, fd: int) -> None:
        """fsync alone leaves the bytes in the drive's cache."""
        fcntl.fcntl(fd, self.FULLFSYNC)

    def boot_id(self) -> str:
        """kern.bootsessionuuid."""
        return self._kernel.sysctl_by_name(b"kern.bootsessionuuid", 64).rstrip(b"\0").decode()

    def peer_uid(self, sock: _socket.socket) -> int:
        """getpeereid."""
        return self._kernel.peer_uid(sock.fileno())

    def pids(self) -> list[int]:
        """proc_listallpids."""
        return [pid for pid in self._kernel.all_pids() if pid > 0]

    def look(self, pid: int) -> Entry:
        """PROC_PIDTBSDINFO (struct proc_bsdinfo); the session is asked for apart, as the struct has none."""
        info = self._kernel.bsdinfo(pid, self.BSDINFO_BYTES)
        if len(info) < self.BSDINFO_BYTES:
            raise ProcessLookupError(errno.ESRCH, "no such process", pid)
        status, parent, uid, group = (_word(info, at) for at in (4, 16, 20, 100))
        seconds, micros = (int.from_bytes(info[at : at + 8], sys.byteorder) for at in (120, 128))
        try:
            session = os.getsid(pid)
        except OSError:
            session = 0
        return Entry(
            parent, group, session, f"{seconds}.{micros:06}", is_dead=status == self.ZOMBIE, is_ours=uid == os.getuid()
        )  # fmt: skip

    def environment(self, pid: int) -> list[bytes]:
        """KERN_PROCARGS2; hidden for protected programs, and then empty."""
        try:
            return parse_procargs(self._kernel.procargs(pid, self.PROCARGS_BYTES))[1]
        except OSError:  # one number for many reasons
            if self.look(pid).is_ours:
                raise
            raise PermissionError(errno.EPERM, "another user's process", pid) from None

    def arguments(self, pid: int) -> list[bytes]:
        """KERN_PROCARGS2 too."""
        return parse_procargs(self._kernel.procargs(pid, self.PROCARGS_BYTES))[0]

    def hold(self, pid: int, start: str) -> Held | None:
        """With a kqueue that tells of its end (NOTE_EXIT), which is set before its start is looked at."""
        watch = self._kernel.watch_exit(pid)
        if start and self.start_of(pid) == start:
            return Named(self, pid, start, watch)
        if watch is not None:
            watch.close()
        return None


def _word(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], sys.byteorder)


def parse_procargs(data: bytes) -> tuple[list[bytes], list[bytes]]:
    """(arguments, environment) out of what KERN_PROCARGS2 gives: argc, the path, both, each ended by a NUL."""
    if len(data) < 4:
        return [], []
    count = _word(data, 0)
    _, _, rest = data[4:].partition(b"\0")
    items = rest.lstrip(b"\0").split(b"\0")
    return items[:count], items[count:]


class Libc:
    """The calls of macOS that Python has no name for, each with bytes in and out: the part that a test pretends."""

    def __init__(self) -> None:
        import ctypes  # noqa: PLC0415  only macOS needs it

        self._c = ctypes
        self._libc = ctypes.CDLL(None, use_errno=True)

    def sysctl_by_name(self, name: bytes, size: int) -> bytes:
        """A value; empty where there is none."""
        buffer, length = self._c.create_string_buffer(size), self._c.c_size_t(size)
        failed = self._libc.sysctlbyname(
            name, buffer, self._c.byref(length), None, self._c.c_size_t(0)
        )
        return b"" if failed else bytes(buffer.raw[: length.value])

    def procargs(self, pid: int, size: int) -> bytes:
        """sysctl {CTL_KERN, KERN_PROCARGS2, pid}. Raises OSError, EINVAL also for another user's."""
        name = (self._c.c_int * 3)(1, 49, pid)
        buffer, length = self._c.create_string_buffer(size), self._c.c_size_t(size)
        if self._libc.sysctl(name, 3, buffer, self._c.byref(length), None, self._c.c_size_t(0)):
            number = self._c.get_errno()
            raise OSError(number, os.strerror(number))
        return bytes(buffer.raw[: length.value])

    def all_pids(self) -> list[int]:
        """proc_listallpids answers with their number."""
        buffer = (self._c.c_int * 16384)()
        count = self._libc.proc_listallpids(buffer, self._c.sizeof(buffer))
        return list(buffer[: max(count, 0)])

    def bsdinfo(self, pid: int, size: int) -> bytes:
        """proc_pidinfo(PROC_PIDTBSDINFO); what it has written."""
        buffer = self._c.create_string_buffer(size)
        count = self._libc.proc_pidinfo(pid, 3, self._c.c_uint64(0), buffer, size)
        return bytes(buffer.raw[: max(count, 0)])

    def peer_uid(self, fd: int) -> int:
        """getpeereid; -1 when it fails."""
        uid, gid = self._c.c_uint32(), self._c.c_uint32()
        failed = self._libc.getpeereid(fd, self._c.byref(uid), self._c.byref(gid))
        return -1 if failed else int(uid.value)

    def watch_exit(self, pid: int) -> Watch | None:
        """What is readable when a process ends; None when it has ended."""
        kqueue: Any = getattr(select, "kqueue")()  # noqa: B009  a name that only macOS has
        # EVFILT_PROC, EV_ADD | EV_ONESHOT, NOTE_EXIT
        event = getattr(select, "kevent")(pid, filter=-5, flags=0x11, fflags=0x80000000)  # noqa: B009
        try:
            kqueue.control([event], 0)
        except OSError:
            kqueue.close()
            return None
        watch: Watch = kqueue
        return watch


SYSTEMS = {"linux": Linux, "darwin": Darwin, "procfs": Procfs}
SYSTEM: System = SYSTEMS.get(sys.platform, Linux)()
"""What everything here goes through, chosen once."""


def use_system(name: str) -> None:
    """Take another system than the usual one: a shim does as whoever starts it."""
    global SYSTEM  # noqa: PLW0603  at the start, before anything was done
    if name and name != SYSTEM.name:
        SYSTEM = SYSTEMS[name]()


def has_mark(pid: int, mark: str) -> bool:
    """Whether a process was started with HIVECTL_EXECUTION=`mark`."""
    try:
        return f"{MARK}={mark}".encode() in SYSTEM.environment(pid)
    except OSError:
        return False


# --- bytes -------------------------------------------------------------------------------------------


class Spool:
    """One output FIFO and the file its bytes are moved to.

    On Linux the kernel moves them (splice): killed at any moment, nothing is lost or doubled, and on a
    full disk the rest stays in the pipe. Elsewhere read and write, where a kill may cost one chunk.
    """

    def __init__(self, fifo: int, file: int, system: System | None = None) -> None:
        self.fifo = fifo
        self.file = file
        self.size = os.fstat(file).st_size
        self.is_full = False
        self._held = b""
        self._can_splice = (system or SYSTEM).can_splice

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
        self._looked_at = now
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
        self._looked_at = now
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

    def relay(self, now: float) -> bool:
        """Move output, which is all there is to do as long as the child runs and keeps its limits.

        False: perhaps not, `turn` must look."""
        return bool(
            self._move(now)
            and self.phase == "run"
            and self._rung is None
            and not self.is_stalled
            and (self.limits.max_output is None or self.output_bytes <= self.limits.max_output)
        )

    def _move(self, now: float) -> int:
        if self.is_stalled and now < self._retry_at:
            return 0
        cap = self._cap()
        moved = 0
        for spool in self.spools.values():
            for _ in range(CHUNKS_A_TURN):
                room = CHUNK_BYTES if cap is None else min(CHUNK_BYTES, cap - self.output_bytes)
                count = spool.move(room) if room > 0 else 0
                moved += count
                if count < room or not count:  # that was all; if more came, poll says so
                    break
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
                SYSTEM.sync(spool.file)
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
        if self.body.look_s is not None:
            times.append(self._looked_at + self.body.look_s)
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

    class Body(Protocol):
        """How a child is reaped, signalled and swept."""

        @property
        def look_s(
            self,
        ) -> float | None: ...  # how often it is to be asked though nothing seems to happen

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

    @property
    def look_s(self) -> float | None:
        """Never: it hears of every end."""
        return None

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
        for pid in SYSTEM.children(os.getpid()):
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


class Clan(Family):
    """The shim's child where orphans go to somebody else: its descendants are written down while their parents
    live, and known by their start time, their group and session, and the execution's mark.

    Not complete: who leaves its parents, its session and its environment within NOTE_S of its birth is
    not found. Between the look at a start time and the signal lie microseconds."""

    def __init__(self, pid: int, mark: str) -> None:
        super().__init__(pid)
        self._mark = mark
        self._known: dict[int, Entry] = {}
        self._noted_at: float | None = None
        self._left_at: float | None = None
        """When it was last looked who has outlived the child."""
        self._is_childless = False
        self._empty = 0

    @property
    def look_s(self) -> float | None:
        """Seldom while the child lives, often when it has ended."""
        return ALONE_POLL_S if self.is_ended else NOTE_S

    def reap(self, now: float) -> None:
        """Take exit statuses; now and then, look who is there."""
        if not self._is_childless:
            if self._noted_at is None or now - self._noted_at >= NOTE_S:
                self._note(
                    now
                )  # before its end is known: afterwards its children are somebody else's
            super().reap(now)
            self._is_childless, self.is_alone = self.is_alone, False
        if self.is_ended and self._began is None and not self.is_alone:
            if self._left_at is None or now - self._left_at >= ALONE_POLL_S:
                self._left_at = now
                self._note(now)
            self.is_alone = self._is_childless and not self._known

    def _note(self, now: float) -> None:
        self._noted_at = now
        self._known = self._find()

    def _find(self) -> dict[int, Entry]:
        """The living descendants that can be told, by pid; those we may not signal left out."""
        table = SYSTEM.table()
        known = {
            pid: entry
            for pid, entry in self._known.items()
            if pid in table and table[pid].start == entry.start
        }
        # While somebody lives that was seen in it, the session's number is nobody else's.
        holds = not self.is_ended or any(table[pid].session == self.pid for pid in known)
        for pid, entry in table.items():
            if pid != self.pid and pid not in known:
                is_near = holds and self.pid in (entry.session, entry.group)
                if is_near or (entry.is_ours and has_mark(pid, self._mark)):
                    known[pid] = entry
        todo = [*known, self.pid] if not self.is_ended else [*known]
        by_parent: dict[int, list[int]] = {}
        for pid, entry in table.items():
            by_parent.setdefault(entry.parent, []).append(pid)
        while todo:
            for pid in by_parent.get(todo.pop(), []):
                if pid not in known and pid != self.pid:
                    known[pid] = table[pid]
                    todo.append(pid)
        known.pop(os.getpid(), None)
        return {pid: entry for pid, entry in known.items() if pid not in self.denied}

    def sweep(self, now: float) -> bool:
        """Kill whoever is found until two passes in a row find nobody; True then, or when no more can be done."""
        self._began = now if self._began is None else self._began
        until = time.monotonic() + SWEEP_SLICE_S
        while True:
            self._note(now)
            fresh = self._kill_known()
            self.reap(now)
            self._empty = 0 if self._known or not self._is_childless else self._empty + 1
            if self._empty >= EMPTY_PASSES:
                self.is_alone = True
                return True
            if now - self._began >= SWEEP_WAIT_S:
                self.denied |= self._known.keys()
                return True
            if not fresh or time.monotonic() > until:
                return False

    def _kill_known(self) -> int:
        fresh = 0
        if not self.is_ended:
            os.kill(self.pid, _signal.SIGKILL)  # not reaped: nobody else's number
        for pid, entry in self._known.items():
            try:
                if SYSTEM.start_of(pid) == entry.start:
                    os.kill(pid, _signal.SIGKILL)
            except PermissionError:
                self.denied.add(pid)
                continue
            except ProcessLookupError:
                continue
            if pid not in self._signalled:
                self._signalled.add(pid)
                fresh += 1
                self.swept += 1
        return fresh


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
        self._fifos = frozenset([spool.fifo for spool in supervisor.spools.values()])
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
        self._announce_sizes()

    def _announce_sizes(self) -> bool:
        """Whether everybody took it."""
        are_quick = True
        for client in self.clients.values():
            for name, spool in self.supervisor.spools.items():
                if client.told[name] != spool.size and not client.outbox:
                    client.told[name] = spool.size
                    client.say(f"{name} {spool.size}")
            are_quick = are_quick and not client.outbox and not client.is_gone
        return are_quick

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
        for fd, _ in self._relay():
            if fd == self._wake:
                os.read(fd, 4096)
            elif fd == self.listener.fileno():
                self._accept()
            elif fd in self.clients:
                client = self.clients[fd]
                client.send()
                client.receive()
                self._obey(client)

    def _relay(self) -> list[tuple[int, int]]:
        """Move output until something else happens, which is returned, or is due."""
        due = self.supervisor.due()
        while True:
            began = time.monotonic()
            events = self._poll.poll(_poll_ms(due, began))
            if not events or any(fd not in self._fifos for fd, _ in events):
                return events
            began = time.monotonic()
            is_well = self.supervisor.relay(began) and self._announce_sizes()
            now = time.monotonic()
            if not is_well or (due is not None and now >= due):
                return []
            time.sleep(min((now - began) * (1 / DUTY - 1), LONGEST_REST_S))

    def _accept(self) -> None:
        try:
            fd, _ = self.listener._accept()  # type: ignore[attr-defined]  # accept is in the slow module
        except OSError:
            return
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, fd)
        sock.setblocking(False)
        if len(self.clients) >= MAX_CLIENTS or SYSTEM.peer_uid(sock) != os.getuid():
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


def _poll_ms(due: float | None, now: float) -> float | None:
    if due is None:
        return None
    return min((due - now) * 1000 + 1, MAX_POLL_MS) if due > now else 0.0


def wake_on_child() -> int:
    """A descriptor that becomes readable when a child ends."""
    wake_r, wake_w = os.pipe()
    os.set_blocking(wake_r, False)
    os.set_blocking(wake_w, False)
    _signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
    _signal.signal(_signal.SIGCHLD, lambda *_: None)
    return wake_r


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
    SYSTEM.widen(ours["out"])
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
        SYSTEM.go_first()
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
        "boot": SYSTEM.boot_id(),
        "shim": os.getpid(),
        "shim_start": SYSTEM.start_of(os.getpid()),
        "child": pid,
        "child_start": SYSTEM.start_of(pid),
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
    use_system(spec.get("system", ""))
    SYSTEM.become_heir()
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
    family = SYSTEM.family(pid, spec.get("mark", ""))
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


def contain(argv: list[str]) -> NoReturn:
    """Run a program, end whatever it leaves behind, and end as it did.

    While it runs, orphans come to this process: by its command line others know what they descend from.
    SIGTERM ends all of it at once. Only where orphans can be had."""
    SYSTEM.become_heir()
    pid = os.fork()
    if not pid:
        try:
            os.execv(argv[0], argv)  # noqa: S606  what S21 wants
        except OSError:
            os._exit(127)
    _signal.signal(
        _signal.SIGTERM, lambda *_: os.kill(pid, _signal.SIGKILL)
    )  # not reaped before we return
    _, status = os.waitpid(pid, 0)
    _signal.signal(_signal.SIGTERM, _signal.SIG_IGN)
    family = Family(pid)
    while not family.sweep(time.monotonic()):
        time.sleep(SWEEP_POLL_S)
    os._exit(os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status))


if __name__ == "__main__":
    if sys.argv[1] == CONTAIN:
        contain(sys.argv[3:])
    main(sys.argv[1])
