"""Finding processes that are nobody's children any more, and signalling them without mistaking one.

Needed only when a shim was lost: it alone, as their subreaper, sees all of a child's descendants. What
is found here carries the execution's mark in its environment or descends from the child by parent links;
a process that both left its parents and cleared its environment is not found.

On Linux through /proc and pidfds. On macOS (no /proc, no pidfd, no subreaper) through libproc and
KERN_PROCARGS2, with the start time checked again just before the signal.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from hivectl.procs import shim

MARK = "HIVECTL_EXECUTION"


def list_pids() -> list[int]:
    """Every process that can be seen."""
    if sys.platform == "darwin":
        libproc = ctypes.CDLL("libproc.dylib")
        buffer = (ctypes.c_int * 16384)()
        count = libproc.proc_listallpids(buffer, ctypes.sizeof(buffer))
        return [pid for pid in buffer[: max(count, 0)] if pid > 0]
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208  no Path wanted


def read_environment(pid: int) -> list[bytes]:
    """`NAME=value` items a process was started with; empty when it is gone or not ours to read."""
    if sys.platform == "darwin":
        return _read_procargs(pid)
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _read_procargs(pid: int) -> list[bytes]:
    """KERN_PROCARGS2: argc, the path, the arguments, the environment, each ended by a NUL."""
    libc = ctypes.CDLL(None, use_errno=True)
    name = (ctypes.c_int * 3)(1, 49, pid)  # CTL_KERN, KERN_PROCARGS2
    size = ctypes.c_size_t(1 << 20)
    buffer = ctypes.create_string_buffer(size.value)
    if libc.sysctl(name, 3, buffer, ctypes.byref(size), None, ctypes.c_size_t(0)):
        return []
    return parse_procargs(buffer.raw[: size.value])


def parse_procargs(data: bytes) -> list[bytes]:
    """The environment out of what KERN_PROCARGS2 gives."""
    if len(data) < 4:
        return []
    count = int.from_bytes(data[:4], sys.byteorder)
    _, _, rest = data[4:].partition(b"\0")
    return rest.lstrip(b"\0").split(b"\0")[count:]


def has_mark(pid: int, mark: str) -> bool:
    """Whether a process was started with HIVECTL_EXECUTION=`mark`."""
    return f"{MARK}={mark}".encode() in read_environment(pid)


def find_marked(mark: str) -> set[int]:
    """Living processes that carry the mark, this one never."""
    return {pid for pid in list_pids() if pid != os.getpid() and has_mark(pid, mark)}


def find_below(pid: int) -> set[int]:
    """Descendants by parent links, as they stand at this moment."""
    found: set[int] = set()
    todo = [pid]
    while todo:
        for child in shim.list_children(todo.pop()):
            if child not in found:
                found.add(child)
                todo.append(child)
    return found


def is_alive(pid: int, started: str) -> bool:
    """Whether the very process that had this pid and start time is still there (perhaps as a zombie)."""
    if sys.platform != "linux":
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, 0)
            return True
        return False
    return bool(started) and shim.process_start(pid) == started


def open_process(pid: int, started: str) -> int | None:
    """A pidfd of that very process: from here on its pid may be recycled without harm.

    None when it is gone, or where there are no pidfds."""
    if sys.platform != "linux":
        return None
    try:
        fd = os.pidfd_open(pid)
    except OSError:
        return None
    if is_alive(pid, started):
        return fd
    os.close(fd)
    return None


Named = tuple[int, str]
"""A pid and its start time: one process for ever."""


def kill_all(
    pids: Iterable[int], mark: str, *, below: Iterable[int] = ()
) -> tuple[set[Named], set[Named]]:
    """SIGKILL to each of `pids` that still carries the mark and each of `below` that is still the same.

    Returns who was signalled and who belongs to another user."""
    killed: set[Named] = set()
    denied: set[Named] = set()
    trusted = set(below)
    for pid in {*pids, *trusted}:
        started = shim.process_start(pid)
        fd = open_process(pid, started)
        if fd is None and sys.platform == "linux":
            continue
        try:
            if pid not in trusted and not has_mark(pid, mark):
                continue
            if fd is not None:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            else:
                os.kill(pid, signal.SIGKILL)
            killed.add((pid, started))
        except PermissionError:
            denied.add((pid, started))
        except ProcessLookupError:
            pass
        finally:
            if fd is not None:
                os.close(fd)
    return killed, denied
