"""Rows 5 and 6: the shim is killed, alone and together with the daemon."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hivectl.kit import failpoint
from tests.harness import history, processes
from tests.harness.daemon import Daemon, mock
from tests.harness.soak import Report, full
from tests.harness.waiting import eventually

Make = Callable[..., Daemon]
SWEPT_S = 4.0
"""The promise is 2 s on an idle machine."""


def _texts_seen(daemon: Daemon, execution: str, count: int, project: str = "web") -> None:
    eventually(
        lambda: len(history.read(daemon, project=project).texts(execution)) >= count,
        what=f"{count} events",
    )


def test_a_run_goes_on_when_its_shim_is_killed(daemon: Daemon) -> None:
    execution = daemon.execute({"events": 300, "delay_ms": 3, "exit_code": 42})
    _texts_seen(daemon, execution, 20)
    daemon.shim_of(daemon.get(execution)).kill()
    ended = daemon.wait(execution)
    told = history.read(daemon, project="web").check()
    told.check_mock_events(execution, 300)
    assert ended["exit_code"] in (42, None)
    assert ended["state"] == "completed", "Claude gave its result"
    assert not [p for p in processes.belonging_to(daemon.root) if not p.is_daemon]


def test_answers_still_reach_a_run_whose_shim_was_killed(daemon: Daemon) -> None:
    execution = daemon.execute({"steps": [{"events": 5}, {"permission": True}, {"text": "thanks"}]})
    approval = daemon.wait_approval(execution)
    daemon.shim_of(daemon.get(execution)).kill()
    daemon.decide(approval)
    ended = daemon.wait(execution)
    assert (ended["state"], ended["result"]) == ("completed", "thanks")
    assert (
        Path(daemon.call("project.get", project="web")["path"]) / "mock-permission.txt"
    ).exists()


def test_a_run_without_its_shim_can_be_killed_with_all_it_started(daemon: Daemon) -> None:
    execution = daemon.execute({"spawn": ["plain", "deaf_setsid", "double_fork"], "hang": True})
    eventually(lambda: len(processes.belonging_to(daemon.root)) >= 6, what="the processes live")
    daemon.shim_of(daemon.get(execution)).kill()
    killed = daemon.call("kill", execution=execution, mode="kill")
    assert killed["executions"][0]["state"] == "cancelled"
    assert not [p for p in processes.belonging_to(daemon.root) if not p.is_daemon]


def test_a_shim_killed_without_a_result_never_counts_as_success(daemon: Daemon) -> None:
    execution = daemon.execute({"events": 30, "delay_ms": 5, "crash": "SIGKILL"})
    _texts_seen(daemon, execution, 3)
    daemon.shim_of(daemon.get(execution)).kill()
    ended = daemon.wait(execution)
    assert ended["state"] in ("failed", "lost")
    history.read(daemon, project="web").check().check_mock_events(execution, 30)


@pytest.mark.parametrize(
    ("name", "n"),
    [("shim_start", 1), ("shim_splice", 1), ("shim_splice", 5), ("shim_exit", 1)],
)
def test_a_shim_killed_at_a_named_place_starts_nothing_twice(
    make_daemon: Make, name: str, n: int
) -> None:
    daemon = make_daemon().start(f"{name}@{n}:kill")
    daemon.project()
    execution = daemon.execute({"events": 40, "delay_ms": 2})
    ended = daemon.wait(execution)
    told = history.read(daemon, project="web").check()
    starts = daemon.mock_starts()
    if name == "shim_start":
        assert (ended["state"], ended["cause"]) == ("failed", "spawn_failed")
        assert starts == []
    else:
        assert len(starts) == 1
        told.check_mock_events(execution, 40)
        assert ended["state"] == "completed"
    after = daemon.run("and another")
    assert after["state"] in ("completed", "failed")
    assert daemon.is_running()


def test_every_failpoint_of_the_shim_is_covered_here() -> None:
    assert set(failpoint.SHIM_NAMES) == {"shim_start", "shim_splice", "shim_exit"}


def _kill_both(daemon: Daemon, execution: str, *, child_too: bool) -> None:
    """SIGKILL to shim and daemon at one instant: the daemon is stopped first, so it cannot take over."""
    found = daemon.get(execution)
    assert daemon.process is not None
    shim, child = daemon.shim_of(found), processes.look(found["pid"])
    assert child is not None
    os.kill(daemon.process.pid, signal.SIGSTOP)
    shim.kill()
    if child_too:
        child.kill()
    daemon.kill()
    if child_too:  # as long as it is a zombie, its exit status can still be learnt
        eventually(lambda: processes.look(child.pid) is None, what="somebody reaps the child")


def test_a_run_that_lost_shim_and_daemon_is_taken_over_with_all_its_output(daemon: Daemon) -> None:
    execution = daemon.execute({"events": 300, "delay_ms": 3})
    _texts_seen(daemon, execution, 10)
    _kill_both(daemon, execution, child_too=False)
    daemon.start()
    ended = daemon.wait(execution)
    assert (ended["state"], ended["cause"]) == ("completed", "ok"), "its result came through"
    told = history.read(daemon, project="web").check()
    told.check_mock_events(execution, 300)
    assert len(daemon.mock_starts()) == 1


def test_all_killed_at_once_leave_a_lost_run_its_output_and_no_process(daemon: Daemon) -> None:
    execution = daemon.execute(
        {"spawn": ["plain", "deaf_setsid", "double_fork"], "events": 2000, "delay_ms": 5}
    )
    _texts_seen(daemon, execution, 10)
    _kill_both(daemon, execution, child_too=True)
    daemon.start()
    begun = time.monotonic()
    ended = daemon.wait(execution)
    assert (ended["state"], ended["cause"]) == ("lost", "shim_lost")
    assert not [p for p in processes.belonging_to(daemon.root) if not p.is_daemon]
    assert time.monotonic() - begun < SWEPT_S
    told = history.read(daemon, project="web").check()
    texts = told.texts(execution)
    assert 10 <= len(texts) < 2000
    assert texts == [f"event {i} of 2000" for i in range(1, len(texts) + 1)], "a prefix"
    assert daemon.run("next", session="new")["state"] == "completed", "the lane is free again"


def test_a_run_without_a_result_whose_exit_code_nobody_saw_is_lost(daemon: Daemon) -> None:
    execution = daemon.execute({"events": 5, "hang": 2, "steps": [{"crash": "SIGKILL"}]})
    eventually(lambda: daemon.get(execution)["state"] == "running")
    _kill_both(daemon, execution, child_too=False)
    daemon.start()
    ended = daemon.wait(execution)
    assert ended["state"] in ("lost", "failed"), "never a success"
    assert ended["cause"] in ("shim_lost", "killed")


def test_a_process_directory_that_was_deleted_by_half_is_cleared(daemon: Daemon) -> None:
    """As a daemon leaves it that was killed while it deleted the directory of an ended process."""
    execution = daemon.execute({"events": 5, "hang": True})
    process = daemon.wait_state(execution, "running")["process"]
    runs = daemon.home / "state" / "runs"
    for name in ("pr_halfdeleted", "pr_renamed.gone"):
        (runs / name).mkdir(mode=0o700)
        for file in ("shim", "state"):
            shutil.copy(runs / process / file, runs / name / file)
    daemon.call("kill", execution=execution, mode="kill")
    daemon.restart()
    eventually(lambda: not list(runs.iterdir()), what="no process directory left")
    assert daemon.run("and on")["state"] == "completed"
    assert "the watch over a process failed" not in daemon.log


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_fifty_shims_killed_lose_nothing(make_daemon: Make, report: Report) -> None:
    daemon = make_daemon().start()
    for number in range(full(50)):
        name = f"p{number}"
        daemon.project(name)
        execution = daemon.execute(mock(events=400, delay_ms=5, exit_code=42), project=name)
        _texts_seen(daemon, execution, 1 + number * 3, project=name)
        daemon.shim_of(daemon.get(execution)).kill()
        ended = daemon.wait(execution)
        assert ended["state"] == "completed", "Claude gave its result"
        assert ended["exit_code"] in (42, None)
        history.read(daemon, project=name).check().check_mock_events(execution, 400)
        report.count("shims killed")
        report.count("exit codes known", ended["exit_code"] == 42)
    assert not [p for p in processes.belonging_to(daemon.root) if not p.is_daemon]


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_twenty_times_all_killed_at_once_leave_a_prefix_and_no_process(
    make_daemon: Make, report: Report
) -> None:
    daemon = make_daemon().start()
    slowest = 0.0
    for number in range(full(20) * 2):
        name, child_too = f"p{number}", bool(number % 2)
        daemon.project(name)
        execution = daemon.execute(
            {"spawn": ["plain", "deaf_setsid"], "events": 600, "delay_ms": 5}, project=name
        )
        _texts_seen(daemon, execution, 10 + number, project=name)
        _kill_both(daemon, execution, child_too=child_too)
        daemon.start()
        begun = time.monotonic()
        ended = daemon.wait(execution)
        left = [p for p in processes.belonging_to(daemon.root) if not p.is_daemon]
        assert left == []
        told = history.read(daemon, project=name).check()
        if child_too:
            slowest = max(slowest, time.monotonic() - begun)
            texts = told.texts(execution)
            assert (ended["state"], ended["cause"]) == ("lost", "shim_lost")
            assert texts == [f"event {i} of 600" for i in range(1, len(texts) + 1)], "a prefix"
        else:
            assert ended["state"] == "completed"
            told.check_mock_events(execution, 600)
        report.count("with the child" if child_too else "without the child")
    report.figure("strays gone after", slowest, "s", most=2)
