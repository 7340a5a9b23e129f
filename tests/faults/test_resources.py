"""Rows 3, 16, 17, 20 and 21: many runs at a restart, many starts at once, few descriptors, no leaks."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.harness import history, processes
from tests.harness.daemon import Daemon, DaemonEnded, RpcError
from tests.harness.filling import fill_log
from tests.harness.soak import Report, full
from tests.harness.waiting import eventually

Make = Callable[..., Daemon]


# --- row 3: a restart with many live runs and a long log -------------------------------------------------


def _restart_with(make_daemon: Make, *, live: int, lines: int) -> tuple[float, float]:
    """Seconds until it listens, and until every run has its answer and has ended."""
    daemon = make_daemon(settings={"execution.max_live": live + 1}).start()
    big = daemon.project("big")
    daemon.run({"events": 1000, "bytes": 200}, project="big")
    daemon.stop("keep")
    fill_log(daemon, big["stream"], lines)
    daemon.start(within_s=60)
    runs = []
    for number in range(live):
        daemon.project(f"p{number}")
        runs.append(
            daemon.execute({"steps": [{"text": "up"}, {"permission": True}]}, project=f"p{number}")
        )
    for execution in runs:
        daemon.wait_state(execution, "waiting", within_s=120)
    daemon.kill()
    begun = time.monotonic()
    daemon.start()
    listening = time.monotonic() - begun
    approvals = daemon.call("approval.list", limit=1000)["items"]
    assert len(approvals) == live
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(daemon.decide, approvals))
    for execution in runs:
        assert daemon.wait(execution)["state"] == "completed"
    answered = time.monotonic() - begun
    assert len(daemon.mock_starts()) == live + 1
    newest = daemon.call("get_messages", project="big", limit=1)
    assert newest["last_seq"] >= lines + 1000, "nothing of the log is lost"
    return listening, answered


@pytest.mark.timeout(120)
def test_a_restart_attaches_to_all_live_runs(make_daemon: Make) -> None:
    _restart_with(make_daemon, live=12, lines=20_000)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_restart_attaches_to_fifty_live_runs_beside_ten_million_lines(
    make_daemon: Make, report: Report
) -> None:
    live, lines = 50, full(10_000_000, least=20_000)
    report.count("live runs", live)
    report.count("log lines", lines)
    listening, answered = _restart_with(make_daemon, live=live, lines=lines)
    report.figure("listening after", listening, "s", most=1)
    report.figure("all answered and ended after", answered, "s")


# --- row 16: twelve commands start the daemon at once ----------------------------------------------------

_ASK = """
import sys
from hivectl.client import SyncClient
with SyncClient(autostart=True) as hive:
    print(hive.call("health")["pid"])
"""


def _starts_at_once(daemon: Daemon) -> None:
    commands = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", _ASK],
            env=daemon.env,
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(12)
    ]
    said = [command.communicate(timeout=60) for command in commands]
    assert [command.returncode for command in commands] == [0] * 12, [err for _, err in said]
    pids = {out.strip() for out, _ in said}
    assert len(pids) == 1, "exactly one daemon"
    assert len([p for p in processes.belonging_to(daemon.root) if p.is_daemon]) == 1
    daemon.call("daemon.stop", runs="kill")
    eventually(lambda: not Path(f"/proc/{pids.pop()}").exists() if pids else True)
    eventually(lambda: not processes.belonging_to(daemon.root), what="the daemon has ended")


@pytest.mark.timeout(120)
def test_twelve_commands_at_once_start_one_daemon(make_daemon: Make) -> None:
    daemon = make_daemon(env={"HIVECTL_AUTOSTART": "1"})
    for _ in range(2):
        _starts_at_once(daemon)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_twelve_commands_at_once_a_hundred_times_start_one_daemon_each(
    make_daemon: Make, report: Report
) -> None:
    daemon = make_daemon(env={"HIVECTL_AUTOSTART": "1"})
    for _ in range(full(100)):
        _starts_at_once(daemon)
        report.count("rounds of 12")


# --- row 17: stale and foreign places --------------------------------------------------------------------


def test_a_stale_socket_and_a_stale_lock_are_in_nobodys_way(daemon: Daemon) -> None:
    daemon.kill()
    assert daemon.socket.exists()
    daemon.start()
    assert daemon.run("hello")["state"] == "completed"


def test_the_second_daemon_ends_with_75_and_names_the_first(daemon: Daemon) -> None:
    assert daemon.process is not None
    second = subprocess.run(
        [sys.executable, "-P", "-m", "hivectl.daemon", "run"],
        env=daemon.env,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert second.returncode == 75
    assert str(daemon.process.pid) in second.stderr
    assert daemon.call("ping")


def test_a_lock_held_by_a_stranger_is_told(make_daemon: Make) -> None:
    daemon = make_daemon()
    state = daemon.home / "state"
    state.mkdir(mode=0o700)
    with (state / "daemon.lock").open("w") as stranger:
        fcntl.flock(stranger, fcntl.LOCK_EX)
        with pytest.raises(DaemonEnded) as caught:
            daemon.start()
        assert caught.value.code == 75
        assert "daemon.lock" in caught.value.output
    daemon.start()


def test_a_living_socket_of_somebody_else_is_not_taken(make_daemon: Make) -> None:
    daemon = make_daemon()
    daemon.socket.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(daemon.socket))
        other.listen()
        with pytest.raises(DaemonEnded) as caught:
            daemon.start()
        assert caught.value.code > 0
        assert "Traceback" not in caught.value.output
        assert str(daemon.socket) in caught.value.output
    daemon.socket.unlink()
    daemon.start()


@pytest.mark.parametrize("what", ["open to others", "of another user", "a link"])
def test_a_state_directory_that_is_not_private_is_refused(make_daemon: Make, what: str) -> None:
    daemon = make_daemon()
    state = daemon.home / "state"
    if what == "a link":
        (daemon.root / "elsewhere").mkdir(mode=0o700)
        state.symlink_to(daemon.root / "elsewhere")
    else:
        state.mkdir(mode=0o700)
    if what == "open to others":
        state.chmod(0o777)
    if what == "of another user":
        if os.geteuid() != 0:
            pytest.skip("needs root to give a directory away")
        os.chown(state, 4321, 4321)
    with pytest.raises(DaemonEnded) as caught:
        daemon.start()
    assert caught.value.code == 2
    assert str(state) in caught.value.output
    assert "next:" in caught.value.output


# --- row 20: few descriptors ------------------------------------------------------------------------------


def _limited(daemon: Daemon, files: int) -> None:
    """Start the daemon with a hard limit on descriptors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    process = daemon.spawn()
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (files, files))
    daemon.wait_ready()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


@pytest.mark.timeout(120)
def test_few_descriptors_fail_or_delay_runs_and_never_the_daemon(make_daemon: Make) -> None:
    daemon = make_daemon(settings={"execution.max_live": 40})
    _limited(daemon, 256)
    runs = []
    for number in range(40):
        daemon.project(f"p{number}")
    for number in range(40):
        try:
            runs.append(daemon.execute({"events": 20, "delay_ms": 50}, project=f"p{number}"))
        except RpcError as error:
            assert error.data["retry_after_ms"], error  # noqa: PT017
    assert len(runs) > 20
    for execution in runs:
        assert daemon.wait(execution, within_s=60)["state"] == "completed", "it waited its turn"
    assert daemon.is_running()
    after = daemon.run("all is well again", project="p0")
    assert after["state"] == "completed"
    for number in range(40):
        history.read(daemon, project=f"p{number}").check()


def test_many_idle_connections_beyond_the_limit_leave_room_for_work(make_daemon: Make) -> None:
    daemon = make_daemon()
    _limited(daemon, 256)
    daemon.project()
    held = []
    try:
        for _ in range(300):
            one = socket.socket(socket.AF_UNIX)
            held.append(one)
            one.settimeout(1)
            try:
                one.connect(str(daemon.socket))
            except OSError:
                break
        assert daemon.is_running()
    finally:
        for one in held:
            one.close()
    ended = eventually(lambda: daemon.run("still here"))
    assert ended["state"] == "completed"


@pytest.mark.parametrize("error", ["EMFILE", "ENOMEM", "EAGAIN"])
def test_a_machine_that_cannot_start_processes_fails_or_delays_the_run(
    make_daemon: Make, error: str
) -> None:
    daemon = make_daemon().start(f"run_dir_made@1:error={error}")
    daemon.project()
    ended = daemon.run("hello")
    assert (ended["state"] == "completed") or (ended["cause"], bool(ended["message"])) == (
        "spawn_failed",
        True,
    ), ended
    assert daemon.is_running()
    assert daemon.run("all is well again")["state"] == "completed"
    history.read(daemon, project="web").check()


# --- row 21: nothing leaks --------------------------------------------------------------------------------


def _facts(pid: int) -> dict[str, int]:
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    children = [p for p in map(processes.look, _all_pids()) if p is not None and p.ppid == pid]
    return {
        "fds": sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
        "threads": int(fields["Threads"]),
        "zombies": sum(child.state == "Z" for child in children),
        "children": len(children),
        "rss_kb": int(fields["VmRSS"].split()[0]),
    }


def _all_pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _short_runs(daemon: Daemon, count: int, parallel: int) -> None:
    def run(number: int) -> str:
        ended = daemon.run({"text": "ok"}, project=f"p{number % parallel}", session="new")
        return str(ended["state"])

    with ThreadPoolExecutor(parallel) as pool:
        states = set(pool.map(run, range(count)))
    assert states == {"completed"}


def _leaks(make_daemon: Make, *, runs: int) -> float:
    """MiB of memory that so many runs left behind, after a fifth as many before them."""
    daemon = make_daemon(settings={"execution.max_live": 4}).start()
    for number in range(4):
        daemon.project(f"p{number}")
    _short_runs(daemon, max(24, runs // 5), 4)  # what keeps the newest (rings, caches) is full then
    assert daemon.process is not None
    pid = daemon.process.pid
    eventually(lambda: not daemon.shims())
    time.sleep(1.2)  # what is done a second after the last event has been done
    before = _facts(pid)
    _short_runs(daemon, runs, 4)
    eventually(lambda: not daemon.shims())

    def is_back() -> bool:
        now = _facts(pid)
        names = ("fds", "threads", "zombies", "children")
        return all(now[name] <= before[name] + (name == "threads") * 8 for name in names)

    eventually(is_back, what=f"back to {before}")
    after = _facts(pid)
    print(f"{runs} runs: {before} -> {after}")
    assert after["zombies"] == 0
    assert list((daemon.home / "state" / "runs").iterdir()) == []
    assert daemon.process.poll() is None
    return (after["rss_kb"] - before["rss_kb"]) / 1024


@pytest.mark.timeout(180)
def test_two_hundred_short_runs_leak_nothing(make_daemon: Make) -> None:
    assert _leaks(make_daemon, runs=200) < 12


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_ten_thousand_short_runs_leak_nothing(make_daemon: Make, report: Report) -> None:
    runs = full(10_000)
    report.count("runs", runs)
    report.figure("memory grew by", _leaks(make_daemon, runs=runs), "MB", most=5)


def test_a_graceful_stop_by_signal_leaves_the_socket_gone_and_exit_code_zero(
    daemon: Daemon,
) -> None:
    daemon.run("hello")
    assert daemon.process is not None
    daemon.process.send_signal(signal.SIGTERM)
    assert daemon.wait_end() == 0
    assert not daemon.socket.exists()
    assert not (daemon.home / "run" / "daemon.json").exists()
    last = json.loads(daemon.log.splitlines()[-1])
    assert last["msg"] == "stopped"
