"""Rows 7 and 8: no descendant outlives a kill, and none stays behind a run that ended by itself."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from mock_claude.trees import TREES
from tests.harness import processes
from tests.harness.daemon import Daemon
from tests.harness.processes import Process
from tests.harness.soak import Report, full
from tests.harness.waiting import eventually

Make = Callable[..., Daemon]


def _of_runs(daemon: Daemon) -> list[Process]:
    """What belongs to executions: not the daemon, not shims."""
    return [p for p in processes.belonging_to(daemon.root) if not p.is_daemon and not p.is_shim]


def _kill_all_trees(daemon: Daemon, mode: str) -> list[float]:
    """Every tree in a project of its own, all at once; the seconds each kill took."""
    runs = {}
    for name in TREES:
        daemon.project(name.replace("_", "-"))
        runs[name] = daemon.execute(
            {"spawn": name, "steps": [{"text": "spawned"}, {"hang": "stream", "text": "and on"}]},
            project=name.replace("_", "-"),
            session="new",
        )
    for name, execution in runs.items():
        eventually(
            lambda id_=execution: daemon.call(  # type: ignore[misc]
                "get_messages",
                project=daemon.get(id_)["project"],
                grep="spawned",
                types=["message"],
            )["items"][1:],
            within_s=30,
            what=f"{name} is spawned",
        )
    times = []
    for name, execution in runs.items():
        begun = time.monotonic()
        killed = daemon.call("kill", execution=execution, mode=mode)
        times.append(time.monotonic() - begun)
        assert killed["survivors"] == 0, name
        assert killed["executions"][0]["state"] == "cancelled", name
    left = _of_runs(daemon)
    assert left == []
    return times


@pytest.fixture
def quick(make_daemon: Make) -> Daemon:
    """A daemon with a short stop ladder and room for every tree at once."""
    settings = {
        "execution.max_live": 20,
        "execution.interrupt_s": 0.5,
        "execution.close_s": 0.3,
        "execution.term_s": 0.5,
    }
    return make_daemon(settings=settings).start()


def test_a_forced_kill_leaves_none_of_the_hostile_trees(quick: Daemon) -> None:
    times = _kill_all_trees(quick, "kill")
    print(f"slowest kill {max(times):.2f} s")


def test_a_patient_kill_leaves_none_of_the_hostile_trees(quick: Daemon) -> None:
    _kill_all_trees(quick, "terminate")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_hundred_rounds_of_hostile_trees_leave_nobody(quick: Daemon, report: Report) -> None:
    times = []
    for _ in range(full(100)):
        times += _kill_all_trees(quick, "kill")
        report.count("kills", len(TREES))
        for name in TREES:
            quick.call("project.delete", project=name.replace("_", "-"), purge=True)
    times.sort()
    report.figure("kill p99", times[len(times) * 99 // 100] * 1000, "ms", most=500)
    report.figure("slowest kill", times[-1] * 1000, "ms")


def test_s28_a_bash_command_in_a_session_of_its_own_dies_with_its_run(daemon: Daemon) -> None:
    rule = daemon.call("policy.add", action="allow", tool="Bash")
    assert rule["action"] == "allow"
    command = f"sleep 97 & echo {daemon.root} > /dev/null; sleep 98"
    execution = daemon.execute({"tool": {"name": "Bash", "input": {"command": command}}})
    eventually(lambda: [p for p in _of_runs(daemon) if p.argv == ("sleep", "98")])
    killed = daemon.call("kill", execution=execution, mode="kill")
    assert killed["survivors"] == 0
    assert _of_runs(daemon) == []


@pytest.mark.parametrize("name", ["mcp", "double_fork", "deaf_setsid"])
def test_what_a_run_leaves_behind_is_gone_after_the_linger(daemon: Daemon, name: str) -> None:
    execution = daemon.execute({"spawn": name, "text": "done"})
    ended = daemon.wait(execution)
    assert ended["state"] == "completed"
    eventually(lambda: not _of_runs(daemon), within_s=0.5 + 1.0 + 2.0)
    end = daemon.call("get_messages", project="web", types=["execution.ended"])["items"][-1]
    assert end["data"]["swept"] >= 1


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_what_thirty_runs_leave_behind_is_gone_in_time(daemon: Daemon, report: Report) -> None:
    slowest = 0.0
    for number in range(full(30)):
        name = ("mcp", "double_fork", "deaf_setsid")[number % 3]
        execution = daemon.execute({"spawn": name, "text": "done", "hang": 0.5})
        child = eventually(lambda id_=execution: daemon.get(id_)["pid"])  # type: ignore[misc]
        eventually(lambda pid=child: processes.look(pid) is None)  # type: ignore[misc]
        begun = time.monotonic()
        eventually(lambda: not _of_runs(daemon))
        slowest = max(slowest, time.monotonic() - begun)
        assert daemon.wait(execution)["state"] == "completed"
        report.count("runs")
    report.figure("children gone after", slowest, "s", most=0.5 + 1)


def test_a_project_may_keep_what_its_runs_leave_behind(daemon: Daemon) -> None:
    daemon.call("project.update", project="web", defaults={"keep_descendants": True})
    assert daemon.run({"spawn": "double_fork", "text": "done"})["state"] == "completed"
    left = _of_runs(daemon)
    assert len(left) == 1
    left[0].kill()
    eventually(lambda: not _of_runs(daemon))


def test_children_that_hold_the_output_open_do_not_keep_a_run_from_ending(daemon: Daemon) -> None:
    ended = daemon.run({"spawn": {"name": "deaf_setsid", "hold": True}, "text": "done"})
    assert ended["state"] == "completed"
    assert _of_runs(daemon) == []
