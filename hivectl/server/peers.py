"""Who is at the other end of a connection: uid and pid of a local peer, and whether an execution made it.

A peer whose process, or any ancestor, carries HIVECTL_EXECUTION was started by Claude under one of our
shims: it must not approve its own work (S16). What cannot be told for sure of a local peer counts as an
execution; what was never a local process counts as a person with a token.
"""

from __future__ import annotations

import os
import select
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import msgspec

from hivectl.kit.system import SYSTEM

UNKNOWN_EXECUTION = "unknown"
"""A local peer that vanished before it could be looked at."""

MARK = b"HIVECTL_EXECUTION="
_MAX_ANCESTORS = 256
_WALKS = 3
_PROC = Path("/proc")

ExecutionOfPid = Callable[[int], str | None]
"""Tells the execution a process id belongs to when it is one of our shims or children."""


class Kinship(Protocol):
    """A process as the system's table shows it."""

    @property
    def parent(self) -> int: ...
    @property
    def start(self) -> str: ...
    @property
    def is_dead(self) -> bool: ...


class Kin(Protocol):
    """Who descends from whom on this machine. Each raises OSError for a process that is gone or hides."""

    def look(self, pid: int) -> Kinship: ...
    def environment(self, pid: int) -> list[bytes]: ...


class Ancestry(msgspec.Struct, frozen=True, kw_only=True):
    """What a peer's origin is told by."""

    kin: Kin
    of_pid: ExecutionOfPid | None = None


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """One end of a connection. `uid` and `pid` are None for TCP."""

    label: str
    uid: int | None = None
    pid: int | None = None
    pidfd: int = -1
    host: str = ""
    port: int = 0
    local_host: str = ""
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
        pid, uid = SYSTEM.credentials(sock)
        pidfd = SYSTEM.hold_peer(sock)
        return Peer(label=f"unix pid={pid} uid={uid}", uid=uid, pid=pid, pidfd=pidfd)
    name, here = sock.getpeername(), sock.getsockname()
    return Peer(
        label=f"tcp {name[0]}:{name[1]}",
        host=name[0],
        port=name[1],
        local_host=here[0],
        local_port=here[1],
    )


def find_execution(peer: Peer, ancestry: Ancestry) -> str | None:
    """The execution a local peer descends from; None when it surely descends from none.

    A pid of 0 lies outside our pid namespace, where no child of ours can be."""
    if not peer.pid:
        return None
    found = execution_of_process(peer.pid, ancestry)
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


def execution_of_process(pid: int, ancestry: Ancestry) -> str | None:
    """The execution `pid` or an ancestor belongs to; UNKNOWN_EXECUTION when the chain breaks off."""
    for _ in range(_WALKS):
        found = _walk(pid, ancestry)
        if found != UNKNOWN_EXECUTION:
            return found
    # A parent that ends in mid-walk hands its child to another one; it does not happen every time.
    return UNKNOWN_EXECUTION


def _walk(pid: int, ancestry: Ancestry) -> str | None:
    born_after = float("inf")
    for _ in range(_MAX_ANCESTORS):
        if pid <= 0:
            return None
        if ancestry.of_pid is not None and (known := ancestry.of_pid(pid)) is not None:
            return known
        try:
            parent, born = _parent_and_birth(pid, ancestry.kin)
            mark = _mark(pid, ancestry.kin)
            if parent <= 0 and _parent_and_birth(pid, ancestry.kin) != (parent, born):
                return UNKNOWN_EXECUTION
        except OSError:
            return UNKNOWN_EXECUTION
        if born > born_after:
            # Younger than its child: the number was reused while we looked.
            return UNKNOWN_EXECUTION
        if mark is not None:
            return mark
        pid, born_after = parent, born
    return UNKNOWN_EXECUTION


def _parent_and_birth(pid: int, kin: Kin) -> tuple[int, float]:
    """Raises ProcessLookupError for one that is dying: it shows no environment any more, and at last the
    parent 0, as if nobody here had started it."""
    entry = kin.look(pid)
    if entry.is_dead:
        raise ProcessLookupError(pid)
    return entry.parent, float(entry.start)


def _mark(pid: int, kin: Kin) -> str | None:
    try:
        environ = kin.environment(pid)
    except PermissionError:
        # Another user's process, such as root's login: no child of ours runs as somebody else,
        # short of sudo, and what ran before sudo is further up the chain.
        return None
    for variable in environ:
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


def find_tcp_execution(peer: Peer, ancestry: Ancestry) -> str | None:
    """The execution a TCP peer descends from, when it is a process of this machine; None when it surely
    descends from none.

    A connection whose other end is here and whose process cannot be told (it is gone already, or it
    hides) counts as an execution. Walks /proc: tens of milliseconds, so for rare methods and off the
    event loop. Where there is no /proc (macOS) nothing can be told and None is returned.
    """
    if not (_PROC / "net").exists() or not _is_of_this_machine(peer.host):
        return None
    inode, uid = _tcp_inode(peer)
    if inode == 0:
        # Who sends and leaves at once is not there any more when it is looked for.
        return UNKNOWN_EXECUTION
    holders, hidden = _holders(inode)
    if uid != os.getuid():
        # Another user's process, such as a proxy or sshd: no child of ours runs as somebody else.
        return None
    suspects = holders or hidden
    if not suspects or (not holders and _tcp_inode(peer)[0] != inode):
        # Nobody holds it, or who did has left while we looked: it need not be one of those that hide.
        return UNKNOWN_EXECUTION
    # A process may hide its descriptors from us (PR_SET_DUMPABLE), as sshd does: then each one of this
    # user that hides may be the one.
    found = (execution_of_process(pid, ancestry) for pid in suspects)
    return next((execution for execution in found if execution is not None), None)


def _is_of_this_machine(host: str) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
    return True


def _tcp_inode(peer: Peer) -> tuple[int, int]:
    """Inode and uid of the peer's own end; inode 0 when no process holds it any more."""
    near, far = (peer.host, peer.port), (peer.local_host, peer.local_port)
    wanted = (_address(*near), _address(*far))
    for table in ("tcp", "tcp6"):
        try:
            lines = _read(_PROC / "net" / table).decode().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if (_listed(fields[1]), _listed(fields[2])) == wanted:
                return int(fields[9]), int(fields[7])
    return 0, 0


def _address(host: str, port: int) -> tuple[bytes, int]:
    # All of it is compared: another loopback address may use the same port.
    return _unmapped(
        socket.inet_pton(socket.AF_INET6 if ":" in host else socket.AF_INET, host)
    ), port


def _listed(text: str) -> tuple[bytes, int]:
    """An address as /proc/net/tcp writes it: words of 32 bits in the machine's order."""
    digits, _, port = text.partition(":")
    words = [int(digits[at : at + 8], 16) for at in range(0, len(digits), 8)]
    return _unmapped(b"".join(word.to_bytes(4, sys.byteorder) for word in words)), int(port, 16)


def _unmapped(address: bytes) -> bytes:
    mapped = bytes(10) + b"\xff\xff"
    return address.removeprefix(mapped) if len(address) == 16 else address


def _holders(inode: int) -> tuple[list[int], list[int]]:
    """Processes that hold a socket, and those of this user that do not show what they hold."""
    wanted, ours = f"socket:[{inode}]", os.getuid()
    holders: list[int] = []
    hidden: list[int] = []
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if _holds(entry / "fd", wanted):
                holders.append(int(entry.name))
        except PermissionError:
            with suppress(OSError):
                if _uid(entry) == ours:
                    hidden.append(int(entry.name))
        except OSError:
            continue
    return holders, hidden


def _uid(entry: Path) -> int:
    """The real user; the owner of the directory is root's where a process hides."""
    for line in _read(entry / "status").splitlines():
        if line.startswith(b"Uid:"):
            return int(line.split()[1])
    return -1


def _holds(directory: Path, wanted: str) -> bool:
    with os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                if os.readlink(entry.path) == wanted:  # noqa: PTH115  a socket is no path
                    return True
    return False
