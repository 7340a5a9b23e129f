"""Zombies of strangers, when the daemon is process 1 of a container and every orphan becomes its child.

Our own children are reaped by whoever started them, at once. A zombie that nobody has reaped after a
grace period is therefore an orphan; it is reaped by its pid, never by a wait for "any child", which
would steal the exit codes others wait for. Nothing runs unless a child died (SIGCHLD).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

_log = logging.getLogger(__name__)

GRACE_S = 5.0


class Reaper:
    """Reaps forgotten children of this process; used only where it is process 1."""

    def __init__(self, *, grace_s: float = GRACE_S, proc: Path = Path("/proc")) -> None:
        """A zombie is left to its owner for `grace_s` seconds."""
        self._grace_s = grace_s
        self._proc = proc
        self._timer: asyncio.TimerHandle | None = None
        self._suspects: set[tuple[int, str]] = set()
        self.reaped = 0

    def start(self) -> None:
        """Look whenever a child dies, from now on."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._child_died)
        self._child_died()

    def stop(self) -> None:
        """Look no more."""
        asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _child_died(self) -> None:
        if self._timer is None:
            self._suspects = self._zombies()
            self._timer = asyncio.get_running_loop().call_later(self._grace_s, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._zombies()
        for pid, _ in now & self._suspects:
            try:
                if os.waitpid(pid, os.WNOHANG)[0] == pid:
                    self.reaped += 1
            except ChildProcessError:
                continue
        fresh = now - self._suspects
        self._suspects = set()
        if fresh:
            self._child_died()
        _log.debug("orphans reaped", extra={"total": self.reaped})

    def _zombies(self) -> set[tuple[int, str]]:
        """(pid, start time) of our dead children that nobody has waited for."""
        ours = str(os.getpid())
        found = set()
        for stat in self._proc.glob("[0-9]*/stat"):
            try:
                # The name in brackets may hold anything, so the fields are counted from its end.
                fields = stat.read_text(errors="replace").rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] == "Z" and fields[1] == ours:
                found.add((int(stat.parent.name), fields[19]))
        return found
