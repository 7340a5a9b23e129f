"""The real daemon, put together by compose, as a process: start, stop, places, service manager, container."""

import contextlib
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

Start = Callable[..., subprocess.Popen[str]]
RUN = [sys.executable, "-m", "hivectl.daemon", "run"]


def until(condition: Callable[[], bool], what: str, within_s: float = 20.0) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.01)


@pytest.fixture
def home() -> Iterator[Path]:
    """Short, whatever the test is called: a socket's path has a limit."""
    with tempfile.TemporaryDirectory(prefix="hv") as place:
        yield Path(place) / "h"


@pytest.fixture
def start(home: Path) -> Iterator[Start]:
    with contextlib.ExitStack() as stack:

        def begin(
            *flags: str, ready: bool = True, argv: list[str] | None = None, **variables: str
        ) -> subprocess.Popen[str]:
            clean = {
                k: v for k, v in os.environ.items() if not k.startswith(("HIVECTL_", "NOTIFY_"))
            }
            process = stack.enter_context(
                subprocess.Popen(
                    [*(argv or RUN), *flags],
                    env=clean
                    | {"HIVECTL_HOME": str(home), "HIVECTL_CLAUDE_BIN": "mock"}
                    | variables,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            if ready:
                until(lambda: is_ready(home, process), "the daemon is ready")
            return process

        yield begin


def is_ready(home: Path, process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None, process.communicate()
    try:
        return bool(json.loads((home / "run/daemon.json").read_text())["pid"])
    except (FileNotFoundError, ValueError):
        return False


def get(path: str, where: str | tuple[str, int]) -> str:
    """The status line of a plain HTTP request."""
    family = socket.AF_UNIX if isinstance(where, str) else socket.AF_INET
    with socket.socket(family) as client:
        client.settimeout(5)
        client.connect(where)
        host = "localhost" if isinstance(where, str) else f"127.0.0.1:{where[1]}"
        client.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        return client.makefile("rb").readline().decode().strip()


def stop(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(15)


def tcp_of(home: Path) -> tuple[str, int]:
    host, _, port = json.loads((home / "run/daemon.json").read_text())["tcp"].rpartition(":")
    return host, int(port)


def test_daemon_answers_on_both_listeners_and_leaves_nothing(home: Path, start: Start) -> None:
    process = start()
    assert get("/readyz", str(home / "run/api.sock")) == "HTTP/1.1 200 OK"
    assert get("/healthz", tcp_of(home)) == "HTTP/1.1 200 OK"
    assert stop(process) == 0
    assert process.communicate() == ("", "")
    assert list((home / "run").iterdir()) == []


def test_daemon_that_was_killed_starts_again_over_its_stale_socket(
    home: Path, start: Start
) -> None:
    first = start()
    first.kill()
    first.wait()
    (home / "run/daemon.json").unlink()
    start()
    assert get("/healthz", str(home / "run/api.sock")) == "HTTP/1.1 200 OK"


def test_s33_all_places_are_private_after_a_life(home: Path, start: Start) -> None:
    old = os.umask(0)
    try:
        process = start()
    finally:
        os.umask(old)
    for path in [home, *home.rglob("*")]:
        found = path.lstat()
        mode = stat.S_IMODE(found.st_mode)
        assert mode & 0o077 == 0, (path, oct(mode))
    assert stop(process) == 0


def test_s10_token_is_in_no_log_and_no_runtime_file(home: Path, start: Start) -> None:
    process = start("--foreground-log", "json", "--set", "daemon.log_level=debug")
    token = (home / "state/token").read_text().strip()
    get("/healthz", tcp_of(home))
    runtime = (home / "run/daemon.json").read_text()
    assert stop(process) == 0
    out, err = process.communicate()
    assert token not in (home / "state/daemon.log").read_text() + runtime + out + err
    assert token.encode() not in b"".join(
        path.read_bytes() for path in home.rglob("*") if path.is_file() and path.name != "token"
    )


@pytest.mark.parametrize("kind", ["file", "link"])
def test_s07_stranger_in_the_sockets_place_refuses_the_start(
    home: Path, start: Start, kind: str
) -> None:
    (home / "run").mkdir(parents=True, mode=0o700)
    place = home / "run/api.sock"
    if kind == "file":
        place.write_text("precious")
    else:
        place.symlink_to(home / "elsewhere")
    process = start(ready=False)
    _, err = process.communicate(timeout=20)
    assert process.returncode not in {0, None}
    assert "api.sock" in err
    assert place.is_symlink() or place.read_text() == "precious"


def test_configured_port_that_is_taken_refuses_the_start(home: Path, start: Start) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start("--set", f"listen.tcp=127.0.0.1:{port}", ready=False)
        _, err = process.communicate(timeout=20)
    assert process.returncode not in {0, None}
    assert str(port) in err
    assert "next:" in err


def test_tcp_can_be_switched_off(home: Path, start: Start) -> None:
    start("--set", "listen.tcp=off")
    assert json.loads((home / "run/daemon.json").read_text())["tcp"] is None


def test_socket_unit_hands_its_listener_over(home: Path, start: Start, tmp_path: Path) -> None:
    (home / "run").mkdir(parents=True, mode=0o700)
    program = """
import os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
os.dup2(listener.fileno(), 3)
os.set_inheritable(3, True)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.executable, [sys.executable, "-m", "hivectl.daemon", "run"])
"""
    path = str(home / "run/api.sock")
    start(argv=[sys.executable, "-c", program, path])
    assert get("/healthz", path) == "HTTP/1.1 200 OK"


def context_switches(pid: int) -> int:
    return sum(
        int(line.split()[1])
        for task in Path(f"/proc/{pid}/task").iterdir()
        for line in (task / "status").read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches")
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="counts context switches in /proc")
def test_idle_daemon_does_not_wake_up(start: Start) -> None:
    process = start()
    # What the start left to do (syncs, first deadlines) has a moment to end.
    last, deadline = -1, time.monotonic() + 10
    while (now := context_switches(process.pid)) != last and time.monotonic() < deadline:
        last = now
        time.sleep(1)
    before = context_switches(process.pid)
    time.sleep(4)  # the measured span itself
    assert context_switches(process.pid) - before <= 4


@pytest.mark.skipif(shutil.which("unshare") is None, reason="needs unshare")
def test_daemon_works_as_process_1_of_a_container(home: Path, start: Start) -> None:
    unshare = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc"]
    probe = subprocess.run([*unshare, "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("no unprivileged namespaces here")
    process = start(argv=[*unshare, "--kill-child=KILL", *RUN])
    assert json.loads((home / "run/daemon.json").read_text())["pid"] == 1
    assert get("/healthz", str(home / "run/api.sock")) == "HTTP/1.1 200 OK"
    (inner,) = children(process.pid)
    os.kill(inner, signal.SIGTERM)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert [json.loads(line)["msg"] for line in err.splitlines()][-1] == "stopped"


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_second_daemon_says_who_is_first(home: Path, start: Start) -> None:
    first = start()
    second = start(ready=False)
    _, err = second.communicate(timeout=20)
    assert second.returncode == 75
    assert f"pid {first.pid}" in err
    assert first.poll() is None
