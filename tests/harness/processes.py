"""Who still lives: processes that belong to one test, found by directory, environment or arguments."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.harness.waiting import eventually


@dataclass(frozen=True)
class Process:
    """A living process; `start` tells it from a later one with the same pid."""

    pid: int
    start: str
    state: str
    ppid: int
    argv: tuple[str, ...]

    @property
    def is_shim(self) -> bool:
        return any(part.endswith("/procs/shim.py") for part in self.argv)

    @property
    def is_mock(self) -> bool:
        return any("mock_claude" in part for part in self.argv)

    @property
    def is_daemon(self) -> bool:
        return "hivectl.daemon" in self.argv

    def is_alive(self) -> bool:
        found = look(self.pid)
        return found is not None and found.start == self.start and found.state != "Z"

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Signal it, unless it is gone or its pid means another one now."""
        with suppress(ProcessLookupError):
            fd = os.pidfd_open(self.pid)
            try:
                if self.is_alive():
                    signal.pidfd_send_signal(fd, number)
            finally:
                os.close(fd)


def look(pid: int) -> Process | None:
    """One process, zombies included."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        argv = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()
    words = tuple(part.decode(errors="replace") for part in argv.split(b"\0") if part)
    return Process(pid, fields[19], fields[0], int(fields[1]), words)


def belonging_to(root: Path) -> list[Process]:
    """Every living process with `root` in its directory, arguments or environment, but ourselves."""
    mark = os.fsencode(root)
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid() and _is_marked(entry, mark):
            process = look(int(entry.name))
            if process is not None and process.state != "Z":
                found.append(process)
    return found


def _is_marked(entry: Path, mark: bytes) -> bool:
    try:
        if os.fsencode((entry / "cwd").readlink()).startswith(mark):
            return True
        return mark in (entry / "cmdline").read_bytes() or mark in (entry / "environ").read_bytes()
    except OSError:
        return False


def kill_all(root: Path) -> list[Process]:
    """Kill what belongs to `root` until nothing does; returns who was met first."""
    first = belonging_to(root)
    deadline = time.monotonic() + 10

    def is_empty() -> bool:
        left = belonging_to(root)
        for process in left:
            process.kill()
        return not left

    if first:
        eventually(is_empty, within_s=max(0.1, deadline - time.monotonic()), what="no process left")
    return first
