"""A daemon of its own for a benchmark, and what can be read of any process from the kernel (Linux)."""

from __future__ import annotations

import compileall
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import psutil

import hivectl
from tests.harness.daemon import Daemon

T = TypeVar("T")
POLL_S = 0.001


@contextmanager
def temporary(prefix: str = "hb-", *, folder: Path | None = None) -> Iterator[Path]:
    """A directory with a short name, below that folder or where such things are put: sockets live in it."""
    root = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
    try:
        yield root
    finally:
        shutil.rmtree(root, ignore_errors=True)


@cache
def compiled() -> None:
    """Byte code of hivectl beside its source, as every installer leaves it; where PYTHONDONTWRITEBYTECODE is set,
    nobody else would make it, and each start would compile all of it again."""
    compileall.compile_dir(str(Path(hivectl.__file__).parent), quiet=1)


@contextmanager
def daemon(root: Path, settings: Mapping[str, Any] | None = None) -> Iterator[Daemon]:
    """Not started yet; ended with all its runs."""
    compiled()
    made = Daemon(root, settings={"daemon.log_level": "warning", **(settings or {})})
    try:
        yield made
    finally:
        made.close()


@contextmanager
def child(
    argv: list[str], env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is ended with the block."""
    process = subprocess.Popen(
        argv,
        env=dict(os.environ) | dict(env or {}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def until(ready: Callable[[], T], *, within_s: float = 30.0, what: str) -> T:
    """The first true value. Raises TimeoutError."""
    deadline = time.perf_counter() + within_s
    while not (found := ready()):
        if time.perf_counter() > deadline:
            raise TimeoutError(what)
        time.sleep(POLL_S)
    return found


def answers(path: Path, request: bytes) -> bool:
    """Whether an HTTP request to a UNIX socket is answered with 200."""
    with socket.socket(socket.AF_UNIX) as peer:
        try:
            peer.connect(str(path))
            peer.sendall(request)
            return peer.recv(200).startswith(b"HTTP/1.1 200")
        except OSError:
            return False


HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def wall_ms(
    argv: list[str], env: Mapping[str, str] | None = None, *, codes: tuple[int, ...] = (0,)
) -> float:
    """Milliseconds from start to end of a command."""
    start = time.perf_counter()
    done = subprocess.run(
        argv,
        env=dict(env) if env is not None else None,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=False,
    )
    took = (time.perf_counter() - start) * 1000
    if done.returncode not in codes:
        raise RuntimeError(f"{argv}: {done.returncode} {done.stderr[-500:]!r}")
    return took


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    return [pid, *(one.pid for one in psutil.Process(pid).children(recursive=True))]


def rss_kb(pid: int) -> int:
    """Resident memory, shared pages included."""
    return _status(Path(f"/proc/{pid}/status"))["VmRSS"]


def private_kb(pid: int) -> int:
    """Memory nobody shares with it."""
    found = _status(Path(f"/proc/{pid}/smaps_rollup"))
    return found["Private_Clean"] + found["Private_Dirty"]


def wakeups(pid: int) -> int:
    """Voluntary context switches of all its threads so far."""
    return sum(
        _status(task / "status")["voluntary_ctxt_switches"]
        for task in Path(f"/proc/{pid}/task").iterdir()
    )


def cpu_ms(pid: int) -> float:
    """CPU of all its threads so far."""
    return sum(
        int((task / "schedstat").read_text().split()[0]) / 1e6
        for task in Path(f"/proc/{pid}/task").iterdir()
    )


def _status(path: Path) -> dict[str, int]:
    found = {}
    for line in path.read_text().splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            found[name] = int(words[0])
    return found


PASS = [sys.executable, "-c", "pass"]
