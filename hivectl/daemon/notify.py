"""What a service manager and its child tell each other: sd_notify, the watchdog, handed-over sockets.

Without a service manager every call does nothing. Messages are single datagrams and never block.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
from collections.abc import Mapping

_log = logging.getLogger(__name__)
_FIRST_FD = 3


class Notifier:
    """Sends states to the manager named by NOTIFY_SOCKET."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Nothing is opened until something is sent."""
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_s = _watchdog_s(environment)

    @property
    def watchdog_s(self) -> float | None:
        """The manager restarts us after this many seconds without `alive`; None when it does not watch."""
        return self._watchdog_s if self._address else None

    def ready(self, status: str) -> None:
        """Recovered and listening."""
        self._send(f"READY=1\nSTATUS={_line(status)}\nMAINPID={os.getpid()}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={_line(text)}")

    def alive(self, status: str) -> None:
        """The loop and the writer thread both answered just now."""
        self._send(f"WATCHDOG=1\nSTATUS={_line(status)}")

    def reloading(self, monotonic_us: int) -> None:
        """The settings are being read again; `ready` follows."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={monotonic_us}")

    def stopping(self, text: str) -> None:
        """The graceful stop has begun."""
        self._send(f"STOPPING=1\nSTATUS={_line(text)}")

    def extend(self, seconds: float) -> None:
        """Ask for so much more time before the manager loses patience with a start or stop."""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.settimeout(0)
                sender.sendto(message.encode(), self._address)
        except OSError as exc:
            _log.debug("service manager not reached", extra={"error": str(exc)})


def _line(text: str) -> str:
    return " ".join(text.split())


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    micros = environment.get("WATCHDOG_USEC", "")
    pid = environment.get("WATCHDOG_PID", "")
    # Inherited from a service that started us: its watchdog is not ours.
    if not micros.isdigit() or int(micros) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(micros) / 1_000_000


def handed_over_fds(environment: Mapping[str, str]) -> tuple[int, ...]:
    """Listening descriptors of a socket unit (LISTEN_FDS), made close-on-exec; empty when there are none."""
    count = environment.get("LISTEN_FDS", "")
    if environment.get("LISTEN_PID") != str(os.getpid()) or not count.isdigit():
        return ()
    found = tuple(range(_FIRST_FD, _FIRST_FD + int(count)))
    for fd in found:
        fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    return found
