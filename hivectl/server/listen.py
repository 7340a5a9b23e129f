"""The listening sockets: made private from the first byte, put in place without a gap, watched.

The UNIX socket is bound under a private name and renamed into place, so that a client meets either the
old daemon or the new one; when somebody removes it, it is bound again.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from hivectl.kit.files import ensure_private_dir
from hivectl.kit.system import SYSTEM
from hivectl.model.errors import HiveError
from hivectl.server.security import TcpAddress

_log = logging.getLogger(__name__)

BACKLOG = 512
_MOST_PATH_BYTES = 100
"""The kernel's limit is 108 (104 on macOS), with room for the private name."""

_POLL_S = 10.0
_REBIND_AGAIN_S = 1.0


def bind_unix(path: Path) -> socket.socket:
    """A listening socket of mode 0600 at `path`, in a directory of mode 0700.

    What stands there is replaced only when it is our own socket and nobody answers. Raises HiveError
    CONFIG_INVALID (a link, a file, another user's, a path too long) or UNAVAILABLE (another daemon
    answers there)."""
    try:
        ensure_private_dir(path.parent)
    except OSError as exc:
        raise _refused(path, str(exc)) from exc
    private = path.with_name(f".{path.name[:8]}.{os.getpid()}")
    if len(os.fsencode(private)) > _MOST_PATH_BYTES:
        raise HiveError(
            "CONFIG_INVALID",
            f"the socket's path is too long: {path}",
            hint="Set HIVECTL_HOME or XDG_RUNTIME_DIR to a shorter path.",
            details={"path": str(path)},
        )
    _check_place(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.settimeout(0)
        with suppress(FileNotFoundError):
            private.unlink()
        listener.bind(os.fspath(private))
        private.chmod(0o600)
        listener.listen(BACKLOG)
        private.rename(path)
    except BaseException:
        listener.close()
        with suppress(OSError):
            private.unlink()
        raise
    return listener


def _check_place(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise _refused(path, "what stands there is no socket")
    if found.st_uid != os.getuid():
        raise _refused(path, "it belongs to another user")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except OSError as exc:
            # A full backlog is an answer too.
            if exc.errno not in {errno.EAGAIN, errno.ETIMEDOUT}:
                return
    raise HiveError(
        "UNAVAILABLE",
        f"Another daemon answers at {path}.",
        hint="`hivectl daemon status` shows it; `hivectl daemon stop` ends it.",
    )


def _refused(path: Path, why: str) -> HiveError:
    return HiveError(
        "CONFIG_INVALID",
        f"the socket {path} cannot be made: {why}",
        hint="Look at what stands there and remove it.",
        details={"path": str(path), "why": why},
    )


def identity(path: Path) -> tuple[int, int] | None:
    """What tells one socket from another at the same path; None when nothing is there."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def bind_tcp(address: TcpAddress) -> socket.socket:
    """A listening socket. Raises OSError (EADDRINUSE when it is taken)."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # The protocol is named because asyncio sets TCP_NODELAY only where it is: without it the second of two
    # small messages waits 40 ms for the peer's acknowledgement of the first.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.settimeout(0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind((address.host, address.port))
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    return listener


class Watch:
    """Tells when the socket at a path is no longer ours: by inotify, elsewhere by a look now and then."""

    def __init__(self, path: Path, on_gone: Callable[[], None]) -> None:
        self._path = path
        self._on_gone = on_gone
        self._mine = identity(path)
        self._loop = asyncio.get_running_loop()
        self._fd = SYSTEM.watch_names(path.parent)
        self._timer: asyncio.TimerHandle | None = None
        if self._fd >= 0:
            self._loop.add_reader(self._fd, self._on_event)
        else:
            self._timer = self._loop.call_later(_POLL_S, self._poll)

    @property
    def is_in_place(self) -> bool:
        """Whether our socket still stands at the path."""
        return self._mine is not None and identity(self._path) == self._mine

    def close(self) -> None:
        """Watch no more."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_event(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._fd, 65536)
        if not self.is_in_place:
            self._on_gone()

    def _poll(self) -> None:
        self._timer = self._loop.call_later(_POLL_S, self._poll)
        if not self.is_in_place:
            self._on_gone()
