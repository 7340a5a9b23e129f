"""The daemon's life as a process: lock, readiness, signals, reload, bounded stop, places."""

import contextlib
import json
import os
import resource
import select
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

from hivectl.daemon import lifecycle
from hivectl.kit import files

TINY = Path(__file__).with_name("tiny_daemon.py")
Start = Callable[..., subprocess.Popen[str]]


def until(condition: Callable[[], bool], what: str, within_s: float = 15.0) -> None:
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

        def begin(*, ready: bool = True, **variables: str) -> subprocess.Popen[str]:
            clean = {
                k: v for k, v in os.environ.items() if not k.startswith(("HIVECTL_", "NOTIFY_"))
            }
            process = stack.enter_context(
                subprocess.Popen(
                    [sys.executable, str(TINY)],
                    env=clean | {"HIVECTL_HOME": str(home)} | variables,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.kill)
            if ready:
                until(lambda: is_announced(home, process), "the runtime file")
            return process

        yield begin


def is_announced(home: Path, process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None, process.communicate()
    try:
        return bool(json.loads((home / "run/daemon.json").read_text())["pid"] == process.pid)
    except (FileNotFoundError, ValueError):
        return False


def log_of(home: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (home / "state/daemon.log").read_text().splitlines()]


def ready_entry(home: Path, process: subprocess.Popen[str]) -> dict[str, object]:
    def entries() -> list[dict[str, object]]:
        return [e for e in log_of(home) if e["msg"] == "ready" and e["pid"] == process.pid]

    until(lambda: bool(entries()), "the ready entry")
    return entries()[0]


def test_runtime_file_tells_who_runs_and_goes_with_the_daemon(home: Path, start: Start) -> None:
    process = start()
    document = json.loads((home / "run/daemon.json").read_text())
    assert document["pid"] == process.pid
    assert document["tcp"] == "127.0.0.1:1"
    assert document["protocol"] == 1
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (0, "")
    assert out == "stop runs=keep timeout_s=20.0\n"
    assert not (home / "run/daemon.json").exists()
    assert not files.is_locked(home / "state/daemon.lock")


def test_sigint_stops_gracefully_too(start: Start) -> None:
    process = start()
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 0


def test_s08_second_daemon_is_refused_with_the_pid_of_the_first(start: Start) -> None:
    first = start()
    second = start(ready=False)
    out, _ = second.communicate(timeout=10)
    assert (second.returncode, out) == (75, f"held by {first.pid}\n")
    assert first.poll() is None


def test_s08_lock_of_a_killed_daemon_is_free_again(home: Path, start: Start) -> None:
    first = start()
    first.kill()
    first.wait()
    assert ready_entry(home, start())["was_unclean"] is True


def test_clean_stop_is_not_called_unclean(home: Path, start: Start) -> None:
    first = start()
    first.terminate()
    assert first.wait(10) == 0
    assert ready_entry(home, start())["was_unclean"] is False


def test_s33_everything_the_daemon_makes_is_private_under_a_loose_umask(
    home: Path, start: Start
) -> None:
    old = os.umask(0)
    try:
        start()
    finally:
        os.umask(old)
    for path in home.rglob("*"):
        found = path.lstat()
        wanted = 0o700 if stat.S_ISDIR(found.st_mode) else 0o600
        assert stat.S_IMODE(found.st_mode) == wanted, path


def test_descriptor_limit_is_raised(start: Start) -> None:
    process = start()
    soft, hard = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    assert soft == min(hard, 65536)


def test_stop_asked_by_the_app_carries_its_runs(start: Start) -> None:
    process = start(ready=False, TINY_ASKS_STOP="kill")
    out, _ = process.communicate(timeout=10)
    assert (process.returncode, out) == (0, "stop runs=kill timeout_s=20.0\n")


def test_waiting_stop_has_no_limit_and_a_signal_turns_it_into_keep(start: Start) -> None:
    process = start(TINY_ASKS_STOP="wait", TINY_STOP_HANGS_FOR="wait")
    assert process.stdout is not None
    assert process.stdout.readline() == "stop runs=wait timeout_s=None\n"
    process.terminate()
    out, _ = process.communicate(timeout=10)
    assert (process.returncode, out) == (0, "stop runs=keep timeout_s=20.0\n")


def test_second_signal_ends_a_hanging_stop_at_once(home: Path, start: Start) -> None:
    process = start(TINY_STOP_HANGS_FOR="keep")
    process.terminate()
    assert process.stdout is not None
    process.stdout.readline()
    began = time.monotonic()
    process.terminate()
    assert process.wait(10) == 130
    assert time.monotonic() - began < 2
    assert not (home / "run/daemon.json").exists()


@pytest.mark.slow
def test_hanging_stop_ends_at_its_limit(home: Path, start: Start) -> None:
    process = start(TINY_STOP_HANGS_FOR="keep", HIVECTL_DAEMON_STOP_TIMEOUT_S="1")
    process.terminate()
    assert process.wait(10) == 125
    assert "the stop came to no end in its time" in [entry["msg"] for entry in log_of(home)]


def test_signal_during_a_long_start_stops_it(start: Start, home: Path) -> None:
    process = start(ready=False, TINY_START_S="60")
    until((home / "state/token").exists, "the start")
    # The token exists before the handlers do; a signal before them ends the process by itself.
    until(lambda: handles_sigterm(process.pid), "signal handlers")
    process.terminate()
    out, _ = process.communicate(timeout=10)
    assert (process.returncode, out) == (0, "stop runs=keep timeout_s=20.0\n")


def handles_sigterm(pid: int) -> bool:
    caught = next(
        line.split()[1]
        for line in Path(f"/proc/{pid}/status").read_text().splitlines()
        if line.startswith("SigCgt")
    )
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def test_failing_start_ends_with_its_error_and_releases_everything(
    home: Path, start: Start
) -> None:
    process = start(ready=False, TINY_START_FAILS="1")
    out, err = process.communicate(timeout=10)
    assert process.returncode == 1
    assert out == "stop runs=keep timeout_s=1.0\n"
    assert "RuntimeError: cannot start" in err
    assert "RuntimeError: cannot start" in str(log_of(home)[-1]["traceback"])
    assert not files.is_locked(home / "state/daemon.lock")


def test_daemon_that_cannot_go_on_exits_with_an_error(home: Path, start: Start) -> None:
    process = start(ready=False, TINY_FAILS="commit failed")
    assert process.wait(10) == 125
    assert "commit failed" in [entry.get("reason") for entry in log_of(home)]


def test_sighup_takes_reloadable_settings_and_names_the_others(home: Path, start: Start) -> None:
    process = start()
    (home / "config.toml").write_text("[execution]\nmax_live = 9\n[limits]\nconnections = 7\n")
    process.send_signal(signal.SIGHUP)
    assert process.stdout is not None
    assert process.stdout.readline() == "reload max_live=9\n"
    until(lambda: any(e.get("keys") == ["limits.connections"] for e in log_of(home)), "the warning")


def test_sighup_with_a_wrong_file_keeps_the_old_settings(home: Path, start: Start) -> None:
    process = start()
    (home / "config.toml").write_text("[execution]\nmax_live = 0\n")
    process.send_signal(signal.SIGHUP)
    until(lambda: any("refused" in str(e["msg"]) for e in log_of(home)), "the refusal")
    process.terminate()
    out, _ = process.communicate(timeout=10)
    assert out == "stop runs=keep timeout_s=20.0\n"


def test_sigabrt_leaves_the_traces_of_all_threads(home: Path, start: Start) -> None:
    process = start()
    process.send_signal(signal.SIGABRT)
    assert process.wait(10) == -signal.SIGABRT
    assert "Fatal Python error: Aborted" in (home / "state/daemon.trace").read_text()


def test_unknown_variable_is_warned_about(home: Path, start: Start) -> None:
    start(HIVECTL_NO_SUCH_THING="1")
    assert any("HIVECTL_NO_SUCH_THING" in str(entry.get("warning")) for entry in log_of(home))


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        yield receiver


def heard(manager: socket.socket, word: str, within_s: float = 10.0) -> list[str]:
    """All messages up to the first one that starts a line with `word`."""
    messages: list[str] = []
    deadline = time.monotonic() + within_s
    while not any(line.startswith(word) for text in messages for line in text.splitlines()):
        left = deadline - time.monotonic()
        assert left > 0, messages
        if select.select([manager], [], [], left)[0]:
            messages.append(manager.recv(4096).decode())
    return messages


def test_service_manager_hears_ready_alive_reload_and_stop(
    home: Path, start: Start, manager: socket.socket
) -> None:
    process = start(NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC="200000")
    assert "STATUS=0 live" in heard(manager, "READY=1")[-1]
    heard(manager, "WATCHDOG=1")
    heard(manager, "WATCHDOG=1")
    process.send_signal(signal.SIGHUP)
    heard(manager, "RELOADING=1")
    heard(manager, "READY=1")
    process.terminate()
    heard(manager, "STOPPING=1")
    assert process.wait(10) == 0


def test_stuck_writer_thread_sends_no_sign_of_life(start: Start, manager: socket.socket) -> None:
    start(NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC="100000", TINY_STUCK="1")
    heard(manager, "READY=1")
    assert not select.select([manager], [], [], 0.5)[0]


def test_watchdog_of_another_process_is_not_ours(start: Start, manager: socket.socket) -> None:
    start(NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC="100000", WATCHDOG_PID="1")
    heard(manager, "READY=1")
    assert not select.select([manager], [], [], 0.5)[0]


def test_twelve_starts_at_once_make_exactly_one_daemon(home: Path, start: Start) -> None:
    processes = [start(ready=False) for _ in range(12)]
    until(lambda: sum(p.poll() is None for p in processes) == 1, "eleven refusals", 30)
    (survivor,) = [p for p in processes if p.poll() is None]
    until(lambda: is_announced(home, survivor), "the survivor's file")
    assert {p.returncode for p in processes if p is not survivor} == {lifecycle.EXIT_LOCK_HELD}
