"""Takes the exit status of the daemon's own children, and of orphans that come to it, so that no zombie stays.

Its children are the shims. Orphans come because the daemon is a subreaper: descendants of a lost shim,
and those an execution was allowed to leave behind. Children of other parts of the program (they share the
daemon's session and are waited for where they were started) are never touched.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import struct
import sys
from contextlib import suppress

from hivectl.procs import shim

STRAY_CHECK_S = 2.0
"""How long a zombie of nobody must have been seen before it is taken."""
POLL_S = 0.05
"""How often a child is looked at where there are no pidfds."""
_GET_INFO = 0xC040FF0B
_INFO_EXIT = 1 << 3
_INFO = struct.Struct("=QQ11Ii")


class Reaper:
    """Waits for child processes without threads and without SIGCHLD races."""

    def __init__(self) -> None:
        self._watched: dict[int, tuple[int | None, asyncio.Event]] = {}
        self._suspects: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._has_signal = False

    def open(self) -> None:
        """Become the heir of orphans. Must be called on the running loop."""
        shim.become_subreaper()
        with suppress(ValueError, RuntimeError, NotImplementedError):  # not the main thread
            asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._on_child)
            self._has_signal = True

    def watch(self, pid: int) -> asyncio.Event:
        """Reap this child when it ends; the event says that it was."""
        gone = asyncio.Event()
        fd: int | None = None
        if sys.platform == "linux":
            with suppress(OSError):
                fd = os.pidfd_open(pid)
        self._watched[pid] = (fd, gone)
        loop = asyncio.get_running_loop()
        if fd is None:
            loop.call_later(POLL_S, self._poll, pid)
        else:
            loop.add_reader(fd, self._take, pid)
        return gone

    def kill(self, pid: int) -> None:
        """SIGKILL to a watched child: not reaped yet, so the pid is its own."""
        if pid in self._watched:
            os.kill(pid, signal.SIGKILL)

    def _poll(self, pid: int) -> None:
        if pid in self._watched:
            self._take(pid)
        if pid in self._watched:
            asyncio.get_running_loop().call_later(POLL_S, self._poll, pid)

    def _take(self, pid: int) -> None:
        try:
            if not os.waitpid(pid, os.WNOHANG)[0]:
                return
        except ChildProcessError:
            pass  # somebody else was quicker
        fd, gone = self._watched.pop(pid)
        if fd is not None:
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)
        gone.set()

    def _on_child(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(STRAY_CHECK_S, self._take_strays)

    def _take_strays(self) -> None:
        self._timer = None
        zombies = {pid for pid in shim.list_children(os.getpid()) if self._is_stray(pid)}
        for pid in zombies & self._suspects:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._suspects = zombies - self._suspects
        if self._suspects:
            self._on_child()

    def _is_stray(self, pid: int) -> bool:
        try:
            stat = shim.read_file(f"/proc/{pid}/stat").rpartition(b")")[2].split()
        except OSError:
            return False
        return stat[0] == b"Z" and pid not in self._watched and int(stat[3]) != os.getsid(0)

    def close(self) -> None:
        """Stop waiting."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            self._timer.cancel()
        if self._has_signal:
            loop.remove_signal_handler(signal.SIGCHLD)
        for pid, (fd, _) in list(self._watched.items()):
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            if fd is not None:
                loop.remove_reader(fd)
                os.close(fd)
        self._watched.clear()


def read_status(pidfd: int) -> int | None:
    """The wait status of an ended process: by reaping it when it is our child, else from the kernel's
    record of one that was reaped by its parent (Linux 6.15). None: not known (yet)."""
    try:
        found = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        return _read_info(pidfd)
    if found is None:
        return None
    return found.si_status << 8 if found.si_code == os.CLD_EXITED else found.si_status


def _read_info(pidfd: int) -> int | None:
    buffer = bytearray(_INFO.size)
    struct.pack_into("=Q", buffer, 0, _INFO_EXIT)
    try:
        fcntl.ioctl(pidfd, _GET_INFO, buffer)
    except OSError:
        return None
    mask, *_, status = _INFO.unpack(buffer)
    return int(status) if mask & _INFO_EXIT else None
