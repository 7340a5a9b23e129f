"""In what the daemon's own work differs between Linux and macOS: one interface, chosen once.

What differs for the processes it runs (starting, watching, ending them) is `System` in `procs/shim.py`:
the shim stands alone. Nowhere else is it asked which system this is.
"""

from __future__ import annotations

import fcntl
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import socket


class System(Protocol):
    """What each system must offer."""

    name: str
    watches_trees: bool
    """File changes are told of whole trees, not of single directories."""

    def data_sync(self, fd: int) -> None:
        """Make a file's bytes durable."""

    def boot_id(self) -> str:
        """What changes with every boot of the machine; empty where it cannot be told."""

    def credentials(self, sock: socket.socket) -> tuple[int, int]:
        """(pid, uid) of the process that made a connection to a UNIX socket. Raises OSError."""

    def hold_peer(self, sock: socket.socket) -> int:
        """A descriptor of that very process, readable when it has ended; -1 without one."""

    def watch_names(self, directory: Path) -> int:
        """A descriptor that is readable when a name has left a directory; -1 without one."""


class Linux:
    """Sockets tell of their peers, inotify of names."""

    name = "linux"
    watches_trees = False
    _PEERPIDFD = 77
    _LEAVING = 0x40 | 0x200 | 0x400 | 0x800
    """IN_MOVED_FROM, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF."""

    def data_sync(self, fd: int) -> None:
        """The bytes and the size, not the times."""
        os.fdatasync(fd)

    def boot_id(self) -> str:
        """The kernel makes one at each boot."""
        try:
            return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        except OSError:
            return ""

    def credentials(self, sock: socket.socket) -> tuple[int, int]:
        """SO_PEERCRED (struct ucred: pid, uid, gid), as it was when the peer connected."""
        import socket  # noqa: PLC0415  not on every path of a cold start

        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return _integer(raw, 0), _integer(raw, 4)

    def hold_peer(self, sock: socket.socket) -> int:
        """SO_PEERPIDFD (Linux 6.5)."""
        import socket  # noqa: PLC0415  see above

        try:
            return int(sock.getsockopt(socket.SOL_SOCKET, self._PEERPIDFD))
        except OSError:
            return -1

    def watch_names(self, directory: Path) -> int:
        """inotify."""
        import ctypes  # noqa: PLC0415  see above

        libc = ctypes.CDLL(None, use_errno=True)
        fd = int(libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        if fd >= 0 and libc.inotify_add_watch(fd, os.fsencode(directory), self._LEAVING) < 0:
            os.close(fd)
            return -1
        return fd


class Darwin:
    """macOS. Written from its headers and tried with what they say, never on a Mac."""

    name = "darwin"
    watches_trees = True
    _FULLFSYNC = 51
    _SOL_LOCAL, _PEERCRED, _PEERPID = 0, 0x001, 0x002
    _XUCRED_BYTES = 76

    def data_sync(self, fd: int) -> None:
        """fsync alone leaves the bytes in the drive's cache."""
        fcntl.fcntl(fd, self._FULLFSYNC)

    def boot_id(self) -> str:
        """kern.bootsessionuuid."""
        import ctypes  # noqa: PLC0415  see above

        buffer, length = ctypes.create_string_buffer(64), ctypes.c_size_t(64)
        libc = ctypes.CDLL(None)
        name = b"kern.bootsessionuuid"
        failed = libc.sysctlbyname(name, buffer, ctypes.byref(length), None, ctypes.c_size_t(0))
        return "" if failed else buffer.value.decode()

    def credentials(self, sock: socket.socket) -> tuple[int, int]:
        """LOCAL_PEERPID, and LOCAL_PEERCRED (struct xucred: version, uid, ...)."""
        pid = _integer(sock.getsockopt(self._SOL_LOCAL, self._PEERPID, 4), 0)
        return pid, _integer(
            sock.getsockopt(self._SOL_LOCAL, self._PEERCRED, self._XUCRED_BYTES), 4
        )

    def hold_peer(self, sock: socket.socket) -> int:  # noqa: ARG002  there is nothing to hold it by
        """A pid may be another's by the time it is looked at."""
        return -1

    def watch_names(self, directory: Path) -> int:  # noqa: ARG002  see above
        """Looked at now and then instead."""
        return -1


def _integer(raw: bytes, at: int) -> int:
    return int.from_bytes(raw[at : at + 4], sys.byteorder, signed=True)


SYSTEM: System = Darwin() if sys.platform == "darwin" else Linux()
