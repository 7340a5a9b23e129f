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
QUICK = {"execution.interrupt_s": 0.6, "execution.close_s": 0.3, "execution.term_s": 0.6}


@pytest.fixture
def quick(make_daemon: Make) -> Daemon:
    """A daemon whose stop ladder is short."""
    made = make_daemon(settings={**QUICK, "execution.hang_after_result_s": 0.5}).start()
    made.project()
    return made


# --- time limits


def test_a_run_that_takes_too_long_is_timed_out(quick: Daemon) -> None:
    ended = quick.run({"events": 500, "delay_ms": 20}, options={"timeout_s": 0.6})
    assert (ended["state"], ended["cause"]) == ("timed_out", "timeout")
    assert 500 <= ended["duration_ms"] < 6000
    told = history.read(quick, project="web").check()
    assert told.texts(ended["execution"]), "what it said before is kept"


def test_the_time_limit_holds_while_the_daemon_is_dead(quick: Daemon) -> None:
    execution = quick.execute({"hang": True}, options={"timeout_s": 1.0})
    quick.wait_state(execution, "running")
    quick.kill()
    eventually(lambda: not quick.shims(), what="the shim ended it by itself")
    quick.start()
    ended = quick.wait(execution)
    assert (ended["state"], ended["cause"]) == ("timed_out", "timeout")


def test_a_run_that_says_nothing_is_ended_for_that(quick: Daemon) -> None:
    ended = quick.run({"hang": True}, options={"no_output_timeout_s": 0.6})
    assert (ended["state"], ended["cause"]) == ("timed_out", "no_output")


def test_a_run_that_keeps_talking_outlives_the_limit_on_silence(quick: Daemon) -> None:
    ended = quick.run({"events": 15, "delay_ms": 100}, options={"no_output_timeout_s": 0.9})
    assert ended["state"] == "completed"


def test_time_waiting_for_a_person_does_not_count(quick: Daemon) -> None:
    execution = quick.execute(
        {"steps": [{"permission": True}, {"text": "thanks"}]}, options={"timeout_s": 1.5}
    )
    approval = quick.wait_approval(execution)
    asked = time.monotonic()
    eventually(lambda: time.monotonic() - asked > 2.5)
    assert quick.get(execution)["state"] == "waiting"
    quick.decide(approval)
    ended = quick.wait(execution)
    assert (ended["state"], ended["result"]) == ("completed", "thanks")
    assert ended["waited_ms"] >= 2000


def test_the_limit_holds_again_after_the_answer(quick: Daemon) -> None:
    execution = quick.execute(
        {"steps": [{"permission": True}, {"events": 500, "delay_ms": 20}]},
        options={"timeout_s": 1.2},
    )
    quick.decide(quick.wait_approval(execution))
    ended = quick.wait(execution)
    assert (ended["state"], ended["cause"]) == ("timed_out", "timeout")


def test_a_process_that_lives_on_after_its_result_is_ended_and_the_result_stands(
    quick: Daemon,
) -> None:
    ended = quick.run({"text": "the answer", "hang_after_result": True})
    assert (ended["state"], ended["cause"]) == ("completed", "hang_after_result")
    assert ended["result"] == "the answer"


# --- kills


def test_an_interrupt_ends_the_turn_politely(quick: Daemon) -> None:
    execution = quick.execute({"events": 500, "delay_ms": 20})
    eventually(lambda: history.read(quick, project="web").texts(execution))
    killed = quick.call("kill", execution=execution, mode="interrupt", reason="enough")
    ended = (
        killed["executions"][0] if killed["executions"][0]["ended_at"] else quick.wait(execution)
    )
    assert (ended["state"], ended["cause"]) == ("cancelled", "killed")
    assert "enough" in ended["message"]
    assert ended["subtype"] == "error_during_execution", "Claude itself ended the turn"
    again = quick.run("and on " + mock(memory=True))
    assert again["state"] == "completed", "the conversation is not broken"


@pytest.mark.parametrize("mode", ["terminate", "kill"])
def test_a_run_that_ignores_everything_is_gone_when_the_kill_returns(
    quick: Daemon, mode: str
) -> None:
    execution = quick.execute({"hang": True, "ignore_signals": "all"})
    pid = quick.wait_state(execution, "running")["pid"]
    eventually(
        lambda: quick.call("get_messages", project="web", types=["session.started"])["items"]
    )
    killed = quick.call("kill", execution=execution, mode=mode)
    assert killed["executions"][0]["state"] == "cancelled"
    assert killed["survivors"] == 0
    assert not quick.shims()
    assert not Path(f"/proc/{pid}").exists()


def test_a_kill_of_what_has_ended_says_so(quick: Daemon) -> None:
    ended = quick.run("hello")
    with pytest.raises(RpcError) as caught:
        quick.call("kill", execution=ended["execution"])
    assert caught.value.code == "PROCESS_NOT_FOUND"
    assert caught.value.data["details"]["state"] == "completed"


def test_a_kill_survives_the_death_of_the_daemon(quick: Daemon) -> None:
    execution = quick.execute({"hang": True, "ignore_signals": "all"})
    quick.wait_state(execution, "running")
    quick.kill()
    quick.start(failpoint="")
    quick.call("kill", execution=execution, mode="kill")
    assert quick.get(execution)["state"] == "cancelled"


def test_a_kill_of_a_project_takes_what_waits_first(quick: Daemon) -> None:
    live = quick.execute({"hang": True})
    waiting = [quick.execute("later") for _ in range(3)]
    killed = quick.call("kill", project="web", mode="kill")
    assert {e["execution"] for e in killed["executions"]} == {live, *waiting}
    assert {e["state"] for e in killed["executions"]} == {"cancelled"}
    assert len(quick.mock_starts()) <= 1
    assert quick.call("project.get", project="web")["state"] == "idle"


# --- the queue


def test_one_project_runs_one_prompt_at_a_time_in_order(quick: Daemon) -> None:
    ids = [quick.execute({"events": 5, "delay_ms": 5}) for _ in range(4)]
    places = [quick.get(id_)["place"] for id_ in ids[1:]]
    assert places in ([1, 2, 3], [None, 1, 2], [None, None, 1]), places
    ended = [quick.wait(id_) for id_ in ids]
    assert {e["state"] for e in ended} == {"completed"}
    for before, after in pairwise(ended):
        assert before["ended_at"] <= after["started_at"]
    assert len({e["session"] for e in ended}) == 1
    history.read(quick, project="web").check()


def test_projects_run_beside_each_other_up_to_the_cap(make_daemon: Make) -> None:
    daemon = make_daemon(settings={**QUICK, "execution.max_live": 2}).start()
    runs = []
    for number in range(4):
        daemon.project(f"p{number}")
        runs.append(daemon.execute({"hang": True}, project=f"p{number}"))
    eventually(lambda: daemon.call("health")["executions"]["running"] == 2)
    assert daemon.call("health")["executions"]["pending"] == 2
    for execution in runs:
        daemon.call("kill", execution=execution, mode="kill")
    assert len(daemon.mock_starts()) <= 4


def test_a_pending_prompt_can_be_cancelled_and_never_starts(quick: Daemon) -> None:
    live = quick.execute({"hang": True})
    first, second = quick.execute("first"), quick.execute("second")
    assert (quick.get(first)["place"], quick.get(second)["place"]) == (1, 2)
    killed = quick.call("kill", execution=first, reason="changed my mind")
    assert killed["executions"][0]["state"] == "cancelled"
    assert killed["executions"][0]["message"] == "changed my mind"
    assert quick.get(second)["place"] == 1
    quick.call("kill", execution=live, mode="kill")
    assert quick.wait(second)["state"] == "completed"
    told = history.read(quick, project="web").check()
    assert not [e for e in told.of(first) if e["data"].get("state") == "starting"]


def test_if_busy_fail_refuses_and_names_what_runs(quick: Daemon) -> None:
    live = quick.execute({"hang": True})
    with pytest.raises(RpcError) as caught:
        quick.execute("not now", if_busy="fail")
    assert caught.value.code == "PROJECT_BUSY"
    assert caught.value.data["details"]["execution"] == live
    assert caught.value.data["retryable"]
    quick.call("kill", execution=live, mode="kill")
    assert quick.run("now", if_busy="fail")["state"] == "completed"


def test_a_prompt_of_high_priority_overtakes_those_that_wait(quick: Daemon) -> None:
    live = quick.execute({"hang": True})
    low = quick.execute("low", priority="low")
    normal = quick.execute("normal")
    high = quick.execute("high", priority="high")
    assert [quick.get(id_)["place"] for id_ in (high, normal, low)] == [1, 2, 3]
    quick.call("kill", execution=live, mode="kill")
    ended = [quick.wait(id_) for id_ in (high, normal, low)]
    starts = [e["started_at"] for e in ended]
    assert starts == sorted(starts)


def test_the_same_key_is_the_same_prompt_over_a_restart(quick: Daemon) -> None:
    first = quick.accept("hello", idempotency_key="k1")
    quick.wait(first["execution"])
    quick.restart()
    again = quick.accept("hello", idempotency_key="k1")
    assert again["execution"] == first["execution"]
    assert again["replayed"]
    with pytest.raises(RpcError) as caught:
        quick.accept("something else", idempotency_key="k1")
    assert caught.value.code == "IDEMPOTENCY_MISMATCH"
    assert len(quick.mock_starts()) == 1


def test_the_queue_survives_a_kill_in_its_order(quick: Daemon) -> None:
    live = quick.execute({"hang": True})
    ids = [quick.execute(f"number {n}") for n in range(5)]
    quick.restart()
    assert [quick.get(id_)["place"] for id_ in ids] == [1, 2, 3, 4, 5]
    quick.call("kill", execution=live, mode="kill")
    starts = [quick.wait(id_)["started_at"] for id_ in ids]
    assert starts == sorted(starts)


def test_a_wait_returns_at_the_end_and_not_before(quick: Daemon) -> None:
    execution = quick.execute({"events": 20, "delay_ms": 30})
    with pytest.raises(RpcError) as caught:
        quick.call("execution.wait", execution=execution, timeout_s=0.05)
    assert caught.value.code == "WAIT_TIMEOUT"
    ended = quick.call("execution.wait", execution=execution, timeout_s=20)
    assert ended["state"] == "completed"
    order = quick.call("execution.wait", execution=ended["work_order"], timeout_s=1)
    assert order["execution"] == execution


# --- stopping the daemon


def test_a_stop_that_keeps_runs_lets_them_go_on(quick: Daemon) -> None:
    execution = quick.execute({"events": 100, "delay_ms": 15})
    eventually(lambda: history.read(quick, project="web").texts(execution))
    assert quick.stop("keep") == 0
    assert len(quick.shims()) == 1
    quick.start()
    assert quick.wait(execution)["state"] == "completed"
    history.read(quick, project="web").check().check_mock_events(execution, 100)


def test_a_stop_that_waits_lets_runs_end_and_keeps_the_queue(quick: Daemon) -> None:
    execution = quick.execute({"events": 40, "delay_ms": 15})
    queued = quick.execute("after")
    eventually(lambda: history.read(quick, project="web").texts(execution))
    assert quick.stop("wait") == 0
    assert not quick.shims()
    quick.start()
    assert quick.get(execution)["state"] == "completed"
    assert quick.wait(queued)["state"] == "completed"


def test_a_stop_that_kills_ends_runs_and_says_why(quick: Daemon) -> None:
    execution = quick.execute({"hang": True, "ignore_signals": "all"})
    quick.wait_state(execution, "running")
    assert quick.stop("kill") == 0
    assert not quick.shims()
    quick.start()
    ended = quick.get(execution)
    assert (ended["state"], ended["cause"]) == ("cancelled", "shutdown")
    history.read(quick, project="web").check()
