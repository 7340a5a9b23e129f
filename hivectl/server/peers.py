"""Who is at the other end of a connection: uid and pid of a local peer, and whether an execution made it.

A peer whose process, or any ancestor, carries HIVECTL_EXECUTION was started by Claude under one of our
shims: it must not approve its own work (S16). What cannot be told for sure of a local peer counts as an
execution; what was never a local process counts as a person with a token.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

UNKNOWN_EXECUTION = "unknown"
"""A local peer that vanished before it could be looked at."""

MARK = b"HIVECTL_EXECUTION="
_MAX_ANCESTORS = 256
_WALKS = 3
_SO_PEERPIDFD = 77
_UCRED = struct.Struct("3i")
_PROC = Path("/proc")

ExecutionOfPid = Callable[[int], str | None]
"""Tells the execution a process id belongs to when it is one of our shims or children."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One end of a connection. `uid` and `pid` are None for TCP."""

    label: str
    uid: int | None = None
    pid: int | None = None
    pidfd: int = -1
    host: str = ""
    port: int = 0
    local_port: int = 0

    @property
    def is_local_socket(self) -> bool:
        """Whether it came over the UNIX socket."""
        return self.uid is not None

    def close(self) -> None:
        """Let go of the process."""
        if self.pidfd >= 0:
            with suppress(OSError):
                os.close(self.pidfd)


def identify(sock: socket.socket) -> Peer:
    """The peer of a connected socket. Raises OSError when the kernel does not tell."""
    if sock.family == socket.AF_UNIX:
        pid, uid = _credentials(sock)
        return Peer(label=f"unix pid={pid} uid={uid}", uid=uid, pid=pid, pidfd=_pidfd(sock))
    name, here = sock.getpeername(), sock.getsockname()
    return Peer(label=f"tcp {name[0]}:{name[1]}", host=name[0], port=name[1], local_port=here[1])


def _credentials(sock: socket.socket) -> tuple[int, int]:
    if hasattr(socket, "SO_PEERCRED"):
        raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, _ = _UCRED.unpack(raw)
        return pid, uid
    # macOS: LOCAL_PEERPID and LOCAL_PEERCRED (struct xucred: version, uid, ...), level 0.
    (pid,) = struct.unpack("i", sock.getsockopt(0, 0x002, 4))
    _, uid = struct.unpack("2i", sock.getsockopt(0, 0x001, 76)[:8])
    return pid, uid


def _pidfd(sock: socket.socket) -> int:
    """A descriptor of the very process that connected, immune to reuse of its number; -1 without one."""
    if sys.platform != "linux":
        return -1
    try:
        return int(sock.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD))
    except OSError:
        return -1


def find_execution(peer: Peer, *, of_pid: ExecutionOfPid | None = None) -> str | None:
    """The execution a local peer descends from; None when it surely descends from none.

    A pid of 0 lies outside our pid namespace, where no child of ours can be. Reads /proc; elsewhere than
    Linux nothing can be told and None is returned.
    """
    if sys.platform != "linux" or not peer.pid:
        return None
    found = execution_of_process(peer.pid, of_pid=of_pid)
    if found is None and not _is_alive(peer):
        return UNKNOWN_EXECUTION
    return found


def _is_alive(peer: Peer) -> bool:
    if peer.pidfd < 0:
        return True
    # A pidfd is readable once its process has ended: then its number may have been somebody else's.
    readable, _, _ = select.select([peer.pidfd], [], [], 0) if peer.pidfd < 1024 else _poll(peer)
    return not readable


def _poll(peer: Peer) -> tuple[list[int], list[int], list[int]]:
    poller = select.poll()
    poller.register(peer.pidfd, select.POLLIN)
    return [fd for fd, _ in poller.poll(0)], [], []


def execution_of_process(pid: int, *, of_pid: ExecutionOfPid | None = None) -> str | None:
    """The execution `pid` or an ancestor belongs to; UNKNOWN_EXECUTION when the chain breaks off."""
    for _ in range(_WALKS):
        found = _walk(pid, of_pid)
        if found != UNKNOWN_EXECUTION:
            return found
    # A parent that ends in mid-walk hands its child to another one; it does not happen every time.
    return UNKNOWN_EXECUTION


def _walk(pid: int, of_pid: ExecutionOfPid | None) -> str | None:
    born_after = 1 << 63
    for _ in range(_MAX_ANCESTORS):
        if pid <= 0:
            return None
        if of_pid is not None and (known := of_pid(pid)) is not None:
            return known
        try:
            parent, born = _parent_and_birth(pid)
            mark = _mark(pid)
        except OSError:
            return UNKNOWN_EXECUTION
        if born > born_after:
            # Younger than its child: the number was reused while we looked.
            return UNKNOWN_EXECUTION
        if mark is not None:
            return mark
        pid, born_after = parent, born
    return UNKNOWN_EXECUTION


def _parent_and_birth(pid: int) -> tuple[int, int]:
    text = _read(_PROC / str(pid) / "stat")
    # The name, in parentheses, may hold anything; what follows the last one is numbers.
    fields = text[text.rindex(b")") + 2 :].split()
    return int(fields[1]), int(fields[19])


def _mark(pid: int) -> str | None:
    try:
        environ = _read(_PROC / str(pid) / "environ")
    except PermissionError:
        # Another user's process, such as root's login: no child of ours runs as somebody else,
        # short of sudo, and what ran before sudo is further up the chain.
        return None
    for variable in environ.split(b"\0"):
        if variable.startswith(MARK):
            return variable.removeprefix(MARK).decode("ascii", "replace") or UNKNOWN_EXECUTION
    return None


def _read(path: Path) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts = []
        while part := os.read(fd, 1 << 20):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(fd)


def find_tcp_peer_pid(peer: Peer) -> int | None:
    """The process behind a loopback TCP connection, if it is one of this user's here; None if not found.

    Walks /proc: tens of milliseconds, so for rare methods and off the event loop."""
    if sys.platform != "linux":
        return None
    inode = _tcp_inode(peer.port, peer.local_port)
    if inode is None:
        return None
    wanted = f"socket:[{inode}]"
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and _holds(entry / "fd", wanted):
            return int(entry.name)
    return None


def _tcp_inode(local_port: int, remote_port: int) -> int | None:
    local, remote = f":{local_port:04X}", f":{remote_port:04X}"
    for table in ("tcp", "tcp6"):
        try:
            lines = _read(_PROC / "net" / table).decode().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[1].endswith(local) and fields[2].endswith(remote) and fields[9] != "0":
                return int(fields[9])
    return None


def _holds(directory: Path, wanted: str) -> bool:
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            with suppress(OSError):
                if os.readlink(entry.path) == wanted:  # noqa: PTH115  a socket is no path
                    return True
    return False
