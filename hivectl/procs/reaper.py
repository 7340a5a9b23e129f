"""Takes the exit status of the daemon's own children, and of orphans that come to it, so that no zombie stays.

Its children are the shims. Orphans come because the daemon is a subreaper: descendants of a lost shim,
and those an execution was allowed to leave behind. Children of other parts of the program (they share the
daemon's session and are waited for where they were started) are never touched.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

from hivectl.procs.shim import SYSTEM

if TYPE_CHECKING:
    from hivectl.procs.shim import Held, System

STRAY_CHECK_S = 2.0
"""How long a zombie of nobody must have been seen before it is taken."""
POLL_S = 0.05
"""How often a child is looked at where nothing tells of its end."""


class Reaper:
    """Waits for child processes without threads and without SIGCHLD races."""

    def __init__(self, system: System = SYSTEM) -> None:
        self._system = system
        self._watched: dict[int, tuple[Held | None, asyncio.Event]] = {}
        self._suspects: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._has_signal = False

    def open(self) -> None:
        """Become the heir of orphans. Must be called on the running loop."""
        self._system.become_heir()
        with suppress(ValueError, RuntimeError, NotImplementedError):  # not the main thread
            asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._on_child)
            self._has_signal = True

    def watch(self, pid: int) -> asyncio.Event:
        """Reap this child when it ends; the event says that it was."""
        gone = asyncio.Event()
        held = self._system.hold(pid, self._system.start_of(pid))
        self._watched[pid] = (held, gone)
        loop = asyncio.get_running_loop()
        if held is None or held.fd is None:
            loop.call_later(POLL_S, self._poll, pid)
        else:
            loop.add_reader(held.fd, self._take, pid)
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
        held, gone = self._watched.pop(pid)
        _let_go(held)
        gone.set()

    def _on_child(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(STRAY_CHECK_S, self._take_strays)

    def _take_strays(self) -> None:
        self._timer = None
        zombies = {pid for pid in self._system.children(os.getpid()) if self._is_stray(pid)}
        for pid in zombies & self._suspects:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        self._suspects = zombies - self._suspects
        if self._suspects:
            self._on_child()

    def _is_stray(self, pid: int) -> bool:
        try:
            entry = self._system.look(pid)
        except OSError:
            return False
        return entry.is_dead and pid not in self._watched and entry.session != os.getsid(0)

    def close(self) -> None:
        """Stop waiting."""
        if self._timer is not None:
            self._timer.cancel()
        if self._has_signal:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGCHLD)
        for pid, (held, _) in list(self._watched.items()):
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            _let_go(held)
        self._watched.clear()


def _let_go(held: Held | None) -> None:
    if held is not None:
        if held.fd is not None:
            asyncio.get_running_loop().remove_reader(held.fd)
        held.close()
