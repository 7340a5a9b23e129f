"""A small disk for one test: a tmpfs in a user and mount namespace of its own, no rights needed."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness.waiting import eventually

_HOLD = 'mount -t tmpfs -o "size=$2,mode=700" small "$1" && echo ready && exec sleep 3600'


class SmallDisk:
    """`path` is where the processes see it that are started with `enter` in front; `view` is where we do."""

    def __init__(self, path: Path, size: str) -> None:
        self.path = path
        path.mkdir(mode=0o700)
        if shutil.which("unshare") is None or shutil.which("nsenter") is None:
            pytest.skip("needs unshare and nsenter")
        # argument and environment of the holder must not name the test's directory: it is no stray
        self._holder = subprocess.Popen(
            ["unshare", "-Urm", "sh", "-c", _HOLD, "sh", str(path), size],
            env={"PATH": os.environ["PATH"]},
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self._holder.stdout is not None
        with self._holder.stdout as said:
            if said.readline() != b"ready\n":
                self._holder.wait(10)
                pytest.skip("no unprivileged user and mount namespaces here")
        target = str(self._holder.pid)
        self.enter = ["nsenter", "-t", target, "-U", "-m", "--preserve-credentials", "--"]
        self.view = Path(f"/proc/{target}/root{path}")
        eventually(lambda: b"sleep" in Path(f"/proc/{target}/cmdline").read_bytes())

    def close(self) -> None:
        """Let go of it, and of all that is on it."""
        self._holder.kill()
        self._holder.wait(10)

    @property
    def free_bytes(self) -> int:
        found = os.statvfs(self.view)
        return found.f_bavail * found.f_frsize

    def fill(self, *, leave: int = 0) -> None:
        """Use up all but `leave` bytes, while others write too."""
        page = os.sysconf("SC_PAGESIZE")
        with (self.view / "filler").open("ab", buffering=0) as file:
            while (wanted := self.free_bytes - leave) >= page:
                # somebody may have been quicker: then there is less to be had
                with suppress(OSError):
                    os.posix_fallocate(file.fileno(), file.seek(0, 2), wanted // page * page)

    def empty(self) -> None:
        """Give it all back."""
        (self.view / "filler").unlink(missing_ok=True)
