"""Limits, kills, the queue: what happens to executions while they run or wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from tests.harness import history
from tests.harness.daemon import Daemon, RpcError, mock
from tests.harness.waiting import eventually

Make = Callable[..., Daemon]
# --- time limits


def test_a_run_that_takes_too_long_is_timed_out(daemon: Daemon) -> None:
    ended = daemon.run({"events": 500, "delay_ms": 20}, options={"timeout_s": 0.6})
    assert (ended["state"], ended["cause"]) == ("timed_out", "timeout")
    assert 500 <= ended["duration_ms"] < 6000
    told = history.read(daemon, project="web").check()
    assert told.texts(ended["execution"]), "what it said before is kept"


def test_the_time_limit_holds_while_the_daemon_is_dead(daemon: Daemon) -> None:
    execution = daemon.execute({"hang": True}, options={"timeout_s": 1.0})
    daemon.wait_state(execution, "running")
    daemon.kill()
    eventually(lambda: not daemon.shims(), what="the shim ended it by itself")
    daemon.start()
    ended = daemon.wait(execution)
    assert (ended["state"], ended["cause"]) == ("timed_out", "timeout")


def test_a_run_that_says_nothing_is_ended_for_that(daemon: Daemon) -> None:
    ended = daemon.run({"hang": True}, options={"no_output_timeout_s": 0.6})
    assert (ended["state"], ended["cause"]) == ("timed_out", "no_output")


def test_a_run_that_keeps_talking_outlives_the_limit_on_silence(daemon: Daemon) -> None:
    ended = daemon.run({"events": 15, "delay_ms": 100}, options={"no_output_timeout_s": 0.9})
    assert ended["state"] == "completed"


def test_time_waiting_for_a_person_does_not_count(daemon: Daemon) -> None:
    execution = daemon.execute(
        {"steps": [{"permission": True}, {"text": "thanks"}]}, options={"timeout_s": 1.5}
    )
    approval = daemon.wait_approval(execution)
    asked = time.monotonic()
    eventually(lambda: time.monotonic() - asked > 2.5)
    assert daemon.get(execution)["state"] == "waiting"
    daemon.decide(approval)
    ended = daemon.wait(execution)
    assert (ended["state"], ended["result"]) == ("completed", "thanks")
    assert ended["waited_ms"] >= 2000


def test_the_limit_holds_again_after_the_answer(daemon: Daemon) -> None:
    execution = daemon.execute(
        {"steps": [{"permission": True}, {"events": 500, "delay_ms": 20}]},
        options={"timeout_s": 1.2},
    )
    daemon.decide(daemon.wait_approval(execution))
    ended = daemon.wait(execution)
    assert (ended["state"], ended["cause"]) == ("timed_out", "timeout")


def test_a_process_that_lives_on_after_its_result_is_ended_and_the_result_stands(
    daemon: Daemon,
) -> None:
    ended = daemon.run({"text": "the answer", "hang_after_result": True})
    assert (ended["state"], ended["cause"]) == ("completed", "hang_after_result")
    assert ended["result"] == "the answer"


# --- kills


def test_an_interrupt_ends_the_turn_politely(daemon: Daemon) -> None:
    execution = daemon.execute({"events": 500, "delay_ms": 20})
    eventually(lambda: history.read(daemon, project="web").texts(execution))
    killed = daemon.call("kill", execution=execution, mode="interrupt", reason="enough")
    ended = (
        killed["executions"][0] if killed["executions"][0]["ended_at"] else daemon.wait(execution)
    )
    assert (ended["state"], ended["cause"]) == ("cancelled", "killed")
    assert "enough" in ended["message"]
    assert ended["subtype"] == "error_during_execution", "Claude itself ended the turn"
    again = daemon.run("and on " + mock(memory=True))
    assert again["state"] == "completed", "the conversation is not broken"


@pytest.mark.parametrize("mode", ["terminate", "kill"])
def test_a_run_that_ignores_everything_is_gone_when_the_kill_returns(
    daemon: Daemon, mode: str
) -> None:
    execution = daemon.execute({"hang": True, "ignore_signals": "all"})
    pid = daemon.wait_state(execution, "running")["pid"]
    eventually(
        lambda: daemon.call("get_messages", project="web", types=["session.started"])["items"]
    )
    killed = daemon.call("kill", execution=execution, mode=mode)
    assert killed["executions"][0]["state"] == "cancelled"
    assert killed["survivors"] == 0
    assert not daemon.shims()
    assert not Path(f"/proc/{pid}").exists()


def test_a_kill_of_what_has_ended_says_so(daemon: Daemon) -> None:
    ended = daemon.run("hello")
    with pytest.raises(RpcError) as caught:
        daemon.call("kill", execution=ended["execution"])
    assert caught.value.code == "PROCESS_NOT_FOUND"
    assert caught.value.data["details"]["state"] == "completed"


def test_a_kill_survives_the_death_of_the_daemon(daemon: Daemon) -> None:
    execution = daemon.execute({"hang": True, "ignore_signals": "all"})
    daemon.wait_state(execution, "running")
    daemon.kill()
    daemon.start(failpoint="")
    daemon.call("kill", execution=execution, mode="kill")
    assert daemon.get(execution)["state"] == "cancelled"


def test_a_kill_of_a_project_takes_what_waits_first(daemon: Daemon) -> None:
    live = daemon.execute({"hang": True})
    waiting = [daemon.execute("later") for _ in range(3)]
    killed = daemon.call("kill", project="web", mode="kill")
    assert {e["execution"] for e in killed["executions"]} == {live, *waiting}
    assert {e["state"] for e in killed["executions"]} == {"cancelled"}
    assert len(daemon.mock_starts()) <= 1
    assert daemon.call("project.get", project="web")["state"] == "idle"


# --- the queue


def test_one_project_runs_one_prompt_at_a_time_in_order(daemon: Daemon) -> None:
    ids = [daemon.execute({"events": 5, "delay_ms": 5}) for _ in range(4)]
    places = [daemon.get(id_)["place"] for id_ in ids[1:]]
    assert places in ([1, 2, 3], [None, 1, 2], [None, None, 1]), places
    ended = [daemon.wait(id_) for id_ in ids]
    assert {e["state"] for e in ended} == {"completed"}
    for before, after in pairwise(ended):
        assert before["ended_at"] <= after["started_at"]
    assert len({e["session"] for e in ended}) == 1
    history.read(daemon, project="web").check()


def test_projects_run_beside_each_other_up_to_the_cap(make_daemon: Make) -> None:
    daemon = make_daemon(settings={"execution.max_live": 2}).start()
    runs = []
    for number in range(4):
        daemon.project(f"p{number}")
        runs.append(daemon.execute({"hang": True}, project=f"p{number}"))
    eventually(lambda: daemon.call("health")["executions"]["running"] == 2)
    assert daemon.call("health")["executions"]["pending"] == 2
    for execution in runs:
        daemon.call("kill", execution=execution, mode="kill")
    assert len(daemon.mock_starts()) <= 4


def test_a_pending_prompt_can_be_cancelled_and_never_starts(daemon: Daemon) -> None:
    live = daemon.execute({"hang": True})
    first, second = daemon.execute("first"), daemon.execute("second")
    assert (daemon.get(first)["place"], daemon.get(second)["place"]) == (1, 2)
    killed = daemon.call("kill", execution=first, reason="changed my mind")
    assert killed["executions"][0]["state"] == "cancelled"
    assert killed["executions"][0]["message"] == "changed my mind"
    assert daemon.get(second)["place"] == 1
    daemon.call("kill", execution=live, mode="kill")
    assert daemon.wait(second)["state"] == "completed"
    told = history.read(daemon, project="web").check()
    assert not [e for e in told.of(first) if e["data"].get("state") == "starting"]


def test_if_busy_fail_refuses_and_names_what_runs(daemon: Daemon) -> None:
    live = daemon.execute({"hang": True})
    with pytest.raises(RpcError) as caught:
        daemon.execute("not now", if_busy="fail")
    assert caught.value.code == "PROJECT_BUSY"
    assert caught.value.data["details"]["execution"] == live
    assert caught.value.data["retryable"]
    daemon.call("kill", execution=live, mode="kill")
    assert daemon.run("now", if_busy="fail")["state"] == "completed"


def test_a_prompt_of_high_priority_overtakes_those_that_wait(daemon: Daemon) -> None:
    live = daemon.execute({"hang": True})
    low = daemon.execute("low", priority="low")
    normal = daemon.execute("normal")
    high = daemon.execute("high", priority="high")
    assert [daemon.get(id_)["place"] for id_ in (high, normal, low)] == [1, 2, 3]
    daemon.call("kill", execution=live, mode="kill")
    ended = [daemon.wait(id_) for id_ in (high, normal, low)]
    starts = [e["started_at"] for e in ended]
    assert starts == sorted(starts)


def test_the_same_key_is_the_same_prompt_over_a_restart(daemon: Daemon) -> None:
    first = daemon.accept("hello", idempotency_key="k1")
    daemon.wait(first["execution"])
    daemon.restart()
    again = daemon.accept("hello", idempotency_key="k1")
    assert again["execution"] == first["execution"]
    assert again["replayed"]
    with pytest.raises(RpcError) as caught:
        daemon.accept("something else", idempotency_key="k1")
    assert caught.value.code == "IDEMPOTENCY_MISMATCH"
    assert len(daemon.mock_starts()) == 1


def test_the_queue_survives_a_kill_in_its_order(daemon: Daemon) -> None:
    live = daemon.execute({"hang": True})
    ids = [daemon.execute(f"number {n}") for n in range(5)]
    daemon.restart()
    assert [daemon.get(id_)["place"] for id_ in ids] == [1, 2, 3, 4, 5]
    daemon.call("kill", execution=live, mode="kill")
    starts = [daemon.wait(id_)["started_at"] for id_ in ids]
    assert starts == sorted(starts)


def test_a_wait_returns_at_the_end_and_not_before(daemon: Daemon) -> None:
    execution = daemon.execute({"events": 20, "delay_ms": 30})
    with pytest.raises(RpcError) as caught:
        daemon.call("execution.wait", execution=execution, timeout_s=0.05)
    assert caught.value.code == "WAIT_TIMEOUT"
    ended = daemon.call("execution.wait", execution=execution, timeout_s=20)
    assert ended["state"] == "completed"
    order = daemon.call("execution.wait", execution=ended["work_order"], timeout_s=1)
    assert order["execution"] == execution


# --- stopping the daemon


def test_a_stop_that_keeps_runs_lets_them_go_on(daemon: Daemon) -> None:
    execution = daemon.execute({"events": 100, "delay_ms": 15})
    eventually(lambda: history.read(daemon, project="web").texts(execution))
    assert daemon.stop("keep") == 0
    assert len(daemon.shims()) == 1
    daemon.start()
    assert daemon.wait(execution)["state"] == "completed"
    history.read(daemon, project="web").check().check_mock_events(execution, 100)


def test_a_stop_that_waits_lets_runs_end_and_keeps_the_queue(daemon: Daemon) -> None:
    execution = daemon.execute({"events": 40, "delay_ms": 15})
    queued = daemon.execute("after")
    eventually(lambda: history.read(daemon, project="web").texts(execution))
    assert daemon.stop("wait") == 0
    assert not daemon.shims()
    daemon.start()
    assert daemon.get(execution)["state"] == "completed"
    assert daemon.wait(queued)["state"] == "completed"


def test_a_stop_that_kills_ends_runs_and_says_why(daemon: Daemon) -> None:
    execution = daemon.execute({"hang": True, "ignore_signals": "all"})
    daemon.wait_state(execution, "running")
    assert daemon.stop("kill") == 0
    assert not daemon.shims()
    daemon.start()
    ended = daemon.get(execution)
    assert (ended["state"], ended["cause"]) == ("cancelled", "shutdown")
    history.read(daemon, project="web").check()
