"""Warm sessions with real processes: used again, closed, killed at every moment."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import QUICK
from tests.harness import history
from tests.harness.daemon import Daemon, mock
from tests.harness.waiting import eventually


@pytest.fixture
def warm(tmp_path: Any) -> Iterator[Daemon]:
    """A daemon that keeps Claude alive between prompts."""
    made = Daemon(tmp_path, settings={**QUICK, "session.warm": True})
    made.start()
    made.project()
    yield made
    made.close()


def session(daemon: Daemon, id_: str) -> dict[str, Any]:
    found: dict[str, Any] = daemon.call("session.get", session=id_)
    return found


def parked_pid(daemon: Daemon, ended: dict[str, Any]) -> int:
    """The pid of the process that waits in a conversation."""
    eventually(lambda: session(daemon, ended["session"])["is_warm"])
    pid = ended["pid"]
    assert isinstance(pid, int)
    os.kill(pid, 0)
    return pid


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def ended(daemon: Daemon) -> None:
    """Everything is told once, and each execution has one end."""
    told = history.read(daemon, project="web").check()
    ends = [event["execution"] for event in told.of_type("execution.ended")]
    assert sorted(ends) == sorted(e["execution"] for e in told.of_type("execution.created"))


def test_one_process_carries_a_whole_conversation(warm: Daemon) -> None:
    runs = [warm.run("My name is Ada " + mock(text="Hello Ada"))]
    runs += [warm.run(f"What did I say? {n} " + mock(memory=True)) for n in range(4)]
    assert {run["state"] for run in runs} == {"completed"}
    assert {run["session"] for run in runs} == {runs[0]["session"]}
    assert len({run["process"] for run in runs}) == 1
    assert len({run["pid"] for run in runs}) == 1
    assert all("My name is Ada" in run["result"] for run in runs[1:])
    assert len(warm.mock_starts()) == 1
    assert all(run["usage"]["turns"] == 1 for run in runs)
    assert all(0 < run["cost_usd"] < 3 * runs[0]["cost_usd"] for run in runs), "each its own share"
    ended(warm)
    pid = parked_pid(warm, runs[-1])
    shown = session(warm, runs[0]["session"])
    assert (shown["process"], shown["executions"]) == (runs[0]["process"], 5)
    assert shown["expires_at"]
    warm.call("session.end", session=runs[0]["session"])
    eventually(lambda: not is_alive(pid))


def test_a_question_is_asked_and_answered_on_a_warm_process(warm: Daemon) -> None:
    warm.run("hello")
    id_ = warm.execute({"tool": {"name": "Write", "input": {"file_path": "a.txt", "content": "x"}}})
    approval = warm.wait_approval(id_)
    warm.call("approval.decide", id=approval["id"], version=approval["version"], decision="allow")
    assert warm.wait(id_)["state"] == "completed"
    assert len(warm.mock_starts()) == 1


def test_another_model_gets_a_process_of_its_own(warm: Daemon) -> None:
    first = warm.run("My name is Ada")
    pid = parked_pid(warm, first)
    second = warm.run("Who? " + mock(memory=True), options={"model": "haiku"})
    assert "Ada" in second["result"]
    assert not is_alive(pid)
    assert len(warm.mock_starts()) == 2


def test_a_stopped_daemon_leaves_no_warm_process(warm: Daemon) -> None:
    pid = parked_pid(warm, warm.run("hello"))
    warm.stop(runs="keep")
    assert not is_alive(pid)
    warm.start()
    assert warm.run("again")["state"] == "completed"
    ended(warm)


def test_what_waits_when_the_daemon_is_killed_is_swept_at_the_next_start(warm: Daemon) -> None:
    first = warm.run("My name is Ada")
    pid = parked_pid(warm, first)
    warm.restart()
    second = warm.run("Who? " + mock(memory=True))
    assert "Ada" in second["result"]
    eventually(lambda: not is_alive(pid))
    ended(warm)


def test_a_run_on_a_warm_process_survives_the_daemon(warm: Daemon) -> None:
    first = warm.run("My name is Ada")
    id_ = warm.execute("Who? " + mock(memory=True, delay_ms=1500))
    warm.wait_state(id_, "running")
    eventually(
        lambda: any(e["type"] == "message" for e in history.read(warm, project="web").of(id_)),
        what="the process has the prompt",
    )
    assert warm.get(id_)["state"] == "running"
    warm.restart()
    second = warm.wait(id_)
    assert (second["state"], second["process"]) == ("completed", first["process"])
    assert len(warm.mock_starts()) == 1
    ended(warm)
    assert warm.run("again")["state"] == "completed"


@pytest.mark.parametrize(
    "failpoint", ["taken_over@1:kill", "parked@2:kill", "end_after_commit@2:kill"]
)
def test_a_daemon_killed_between_two_prompts_loses_and_repeats_nothing(
    warm: Daemon, failpoint: str
) -> None:
    warm.kill()
    warm.start(failpoint=failpoint)
    warm.run("My name is Ada")
    id_ = warm.execute("Who? " + mock(memory=True))
    warm.wait_end()
    warm.start()
    second = warm.wait(id_)
    assert second["state"] == "completed"
    assert "Ada" in second["result"]
    ended(warm)
    third = warm.run("And now? " + mock(memory=True))
    assert third["result"].count("Who?") <= 1
    assert third["state"] == "completed"


def test_a_warm_process_that_is_killed_costs_nothing(warm: Daemon) -> None:
    first = warm.run("My name is Ada")
    os.kill(parked_pid(warm, first), signal.SIGKILL)
    eventually(lambda: not session(warm, first["session"])["is_warm"])
    second = warm.run("Who? " + mock(memory=True))
    assert (second["state"], "Ada" in second["result"]) == ("completed", True)
    ended(warm)


def test_a_warm_process_whose_shim_was_lost_gives_way_to_one_that_has_a_shim(warm: Daemon) -> None:
    first = warm.run("My name is Ada")
    pid = parked_pid(warm, first)
    os.kill(warm.shim_of(first).pid, signal.SIGKILL)
    time.sleep(0.5)  # its daemon has noticed by then; nothing that can be asked for tells it
    second = warm.run("Who? " + mock(memory=True))
    assert (second["state"], "Ada" in second["result"]) == ("completed", True)
    assert not is_alive(pid)
    ended(warm)


def test_a_prompt_given_to_a_process_that_dies_just_then_is_executed_by_another(
    warm: Daemon,
) -> None:
    for number in range(4):
        os.kill(parked_pid(warm, warm.run(f"number {number}")), signal.SIGKILL)
        # at once: whether it met the dying process or none is a matter of microseconds
        found = warm.run("again " + mock(memory=True))
        assert (found["state"], found["result"].count(f"number {number}")) == ("completed", 1)
    ended(warm)


def test_a_warm_process_that_is_frozen_is_killed_before_another_takes_its_conversation(
    warm: Daemon,
) -> None:
    pid = parked_pid(warm, warm.run("My name is Ada"))
    os.kill(pid, signal.SIGSTOP)
    second = warm.run("Who? " + mock(memory=True), options={"model": "haiku"})
    assert (second["state"], "Ada" in second["result"]) == ("completed", True)
    assert not is_alive(pid)
    ended(warm)


def test_a_killed_execution_takes_its_warm_process_along(warm: Daemon) -> None:
    pid = parked_pid(warm, warm.run("hello"))
    id_ = warm.execute({"hang": 60})
    warm.wait_state(id_, "running")
    [killed] = warm.call("kill", execution=id_)["executions"]
    assert killed["state"] == "cancelled"
    assert not is_alive(pid)
    assert warm.run("again")["state"] == "completed"
    ended(warm)


def test_an_execution_on_a_warm_process_has_its_own_time(warm: Daemon) -> None:
    warm.run("hello", options={"timeout_s": 30})
    late = warm.run({"hang": 60}, options={"timeout_s": 0.5})
    assert (late["state"], late["cause"]) == ("timed_out", "timeout")
    first = warm.run("hello", options={"timeout_s": 1.5})
    time.sleep(2)  # longer than that one's limit: it does not count while the process waits
    second = warm.run("again", options={"timeout_s": 30})
    assert second["process"] == first["process"]


LATE = """
import http.client, json, socket, sys, time
time.sleep(float(sys.argv[2]))
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[1])
c = http.client.HTTPConnection("localhost")
c.sock = s
ask = {"jsonrpc": "2.0", "id": 1, "method": "policy.add", "params": {"action": "allow", "tool": "Write"}}
c.request("POST", "/rpc", json.dumps(ask), {"Content-Type": "application/json"})
print(json.loads(c.getresponse().read())["error"]["data"]["code"])
"""


@pytest.mark.parametrize("later", [0.8, 0.0])
def test_s16_what_a_warm_process_left_behind_may_not_approve(warm: Daemon, later: float) -> None:
    warm.call("policy.add", action="allow", tool="Bash")
    warm.run(
        "hello"
    )  # it is the second prompt whose tool asks: at once, or when the process waits again
    (warm.root / "late.py").write_text(LATE)
    script = f"{sys.executable} -I -S {warm.root}/late.py {warm.socket} {later}"
    told = warm.root / "told"
    command = (
        f"env -i setsid sh -c '{script} > {told}.new; mv {told}.new {told}' > /dev/null 2>&1 &"
    )
    run = warm.run({"tool": {"name": "Bash", "input": {"command": command}}})
    assert (run["state"], len(warm.mock_starts())) == ("completed", 1)
    eventually(told.exists)
    assert told.read_text() == "SELF_APPROVAL_DENIED\n"


def test_what_a_warm_process_starts_is_marked(warm: Daemon) -> None:
    first = warm.run("hello")
    pid = parked_pid(warm, first)
    marked = f"HIVECTL_EXECUTION={first['execution']}".encode()
    assert marked in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")


def test_each_prompt_of_a_warm_process_is_counted_for_itself(warm: Daemon) -> None:
    runs = [warm.run({"cost_usd": usd, "text": "x"}) for usd in (0.25, 0.5, 0.125)]
    assert len(warm.mock_starts()) == 1
    rows = warm.call("usage", by="execution")["items"]
    assert {row["key"]: row["cost_usd"] for row in rows} == {
        run["execution"]: run["cost_usd"] for run in runs
    }
    for run, usd in zip(runs, (0.25, 0.5, 0.125), strict=True):
        assert abs(run["cost_usd"] - usd) < 0.01
        assert not run["cost_is_estimate"]


def test_a_budget_of_a_prompt_is_not_shared_with_the_next(warm: Daemon) -> None:
    dear = {"cost_usd": 0.3, "text": "x"}
    for _ in range(3):
        assert warm.run(dear, options={"max_budget_usd": 0.5})["state"] == "completed"
    assert len(warm.mock_starts()) == 3
