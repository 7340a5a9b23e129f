"""Facts about this process and its machine, measured when asked: nothing here wakes an idle daemon."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sqlite3
from pathlib import Path
from typing import Any

from hivectl.config import Places
from hivectl.kit.clock import Clock, SystemClock

_LAG_PROBE_S = 0.002
"""Timers of the loop are exact to a millisecond."""
_SHORTEST_CPU_S = 0.01


class Machine:
    """Measures cheaply: a call costs microseconds, except `disk`, which walks directories."""

    def __init__(self, places: Places, *, clock: Clock | None = None) -> None:
        """CPU time is counted from now on."""
        self._places = places
        self._clock = clock or SystemClock()
        self._started = self._clock.monotonic()
        self._last = (self._started, self._cpu_s())
        self._process: Any = None

    @property
    def node(self) -> str:
        """This machine's name."""
        return socket.gethostname()

    @property
    def uptime_s(self) -> float:
        """Seconds since the daemon started."""
        return self._clock.monotonic() - self._started

    @property
    def sqlite_version(self) -> str:
        """The linked SQLite."""
        return sqlite3.sqlite_version

    def cpu_percent(self) -> float:
        """This process's share of one core since the previous call (since the start, the first time)."""
        now, used = self._clock.monotonic(), self._cpu_s()
        before, used_before = self._last
        if now - before < _SHORTEST_CPU_S:
            return 0.0
        self._last = (now, used)
        return round(100 * (used - used_before) / (now - before), 1)

    @staticmethod
    def _cpu_s() -> float:
        times = os.times()
        return times.user + times.system

    def rss_bytes(self) -> int:
        """Resident memory of this process."""
        return int(self._own_process().memory_info().rss)

    def fds(self) -> int:
        """Open descriptors of this process."""
        return int(self._own_process().num_fds())

    def threads(self) -> int:
        """Threads of this process."""
        return int(self._own_process().num_threads())

    def _own_process(self) -> Any:
        if self._process is None:
            import psutil  # noqa: PLC0415  not on the path of a cold start

            self._process = psutil.Process()
        return self._process

    async def loop_lag_ms(self) -> float:
        """How much later than asked the event loop runs a timer now. Takes about 2 ms."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        await asyncio.sleep(_LAG_PROBE_S)
        return round(max(0.0, loop.time() - asked - _LAG_PROBE_S) * 1000, 2)

    def disk(self) -> dict[str, Any]:
        """What the disk of the state directory has left and what hivectl uses of it, in bytes.

        Walks the log and run directories: call it in a thread.
        """
        places = self._places
        whole = shutil.disk_usage(_existing(places.state))
        used = {
            "log_bytes": tree_bytes(places.journal),
            "database_bytes": sum(
                _size(places.database.with_name(places.database.name + end))
                for end in ("", "-wal", "-shm")
            ),
            "runs_bytes": tree_bytes(places.runs),
            "daemon_log_bytes": sum(
                _size(path) for path in places.state.glob(places.daemon_log.name + "*")
            ),
        }
        return {
            "path": str(places.state),
            "total_bytes": whole.total,
            "free_bytes": whole.free,
            **used,
            "used_bytes": sum(used.values()),
        }


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _size(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except OSError:
        return 0


def tree_bytes(root: Path) -> int:
    """What the files below `root` take on the disk; those that vanish meanwhile count nothing."""
    total = 0
    pending = [root]
    while pending:
        try:
            entries = list(os.scandir(pending.pop()))
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                pending.append(Path(entry.path))
            else:
                total += _size(Path(entry.path))
    return total
