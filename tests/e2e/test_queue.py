"""The queue with real processes: several workers, waiting, retries, limits, pauses, and the death of the daemon."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.harness import history
from tests.harness.daemon import Daemon, RpcError
from tests.harness.waiting import eventually

Make = Callable[..., Daemon]
ASKS = {
    "steps": [
        {"permission": {"name": "Write", "input": {"file_path": "a", "content": "x"}}},
        {"text": "went on"},
    ]
}
HANGS = {"steps": [{"text": "busy"}, {"hang": "end"}]}


def described(daemon: Daemon, ref: str) -> dict[str, Any]:
    return dict(daemon.call("queue.describe", work_order=ref))


def order_state(daemon: Daemon, ref: str) -> str:
    return str(described(daemon, ref)["order"]["state"])


@pytest.fixture
def one_slot(make_daemon: Make) -> Daemon:
    daemon = make_daemon(settings={"worker.slots": 1, "queue.retry_base_s": 0.05}).start()
    for name in ("web", "api", "docs"):
        daemon.project(name)
    return daemon


def test_three_workers_carry_three_prompts_at_once_and_each_its_own(make_daemon: Make) -> None:
    daemon = make_daemon(settings={"worker.slots": 3}).start()
    for name in ("a", "b", "c"):
        daemon.project(name)
    runs = {
        name: daemon.execute({"events": 3, "delay_ms": 300, "text": f"from {name}"}, name)
        for name in ("a", "b", "c")
    }
    eventually(lambda: [w["status"] for w in daemon.call("worker.list")["items"]] == ["busy"] * 3)
    carried = {w["execution"]: w["name"] for w in daemon.call("worker.list")["items"]}
    assert sorted(carried.values()) == ["slot-1", "slot-2", "slot-3"]
    assert set(carried) == set(runs.values())
    for name, execution in runs.items():
        ended = daemon.wait(execution)
        assert (ended["result"], ended["worker"]) == (f"from {name}", carried[execution])


def test_with_one_worker_a_run_that_asks_does_not_stop_the_queue(one_slot: Daemon) -> None:
    asking = one_slot.execute(ASKS, "web")
    approval = one_slot.wait_approval(asking)
    assert one_slot.run({"text": "second"}, "api")["result"] == "second"
    one_slot.decide(approval)
    assert one_slot.wait(asking)["result"] == "went on"
    history.read(one_slot, project="web").check()


def test_an_answered_run_waits_for_the_worker_and_then_hears_its_answer(one_slot: Daemon) -> None:
    asking = one_slot.execute(ASKS, "web")
    approval = one_slot.wait_approval(asking)
    busy = one_slot.execute(HANGS, "api")
    one_slot.wait_state(busy, "running")
    one_slot.decide(approval)
    assert one_slot.get(asking)["state"] == "waiting"
    assert "as soon as a worker is free" in described(one_slot, asking)["reasons"][0]
    one_slot.call("kill", execution=busy, mode="kill")
    assert one_slot.wait(asking)["result"] == "went on"


def test_it_is_asked_the_daemon_dies_a_second_client_answers_and_the_run_goes_on(
    one_slot: Daemon,
) -> None:
    asking = one_slot.execute(ASKS, "web")
    approval = one_slot.wait_approval(asking)
    one_slot.kill()
    one_slot.start()
    assert one_slot.run({"text": "meanwhile"}, "api")["result"] == "meanwhile"
    one_slot.decide(approval)
    one_slot.restart()
    assert one_slot.wait(asking)["result"] == "went on"
    history.read(one_slot, project="web").check()


def test_two_people_answer_at_once_and_one_is_told_who_was_first(one_slot: Daemon) -> None:
    approval = one_slot.wait_approval(one_slot.execute(ASKS, "web"))
    outcomes: list[str] = []
    first: list[str] = []

    def decide(decision: str) -> None:
        try:
            outcomes.append(one_slot.decide(approval, decision)["decision"])
        except RpcError as error:
            outcomes.append(error.code)
            first.append(error.data["details"]["decided_by"])

    both = [threading.Thread(target=decide, args=(word,)) for word in ("allow", "deny")]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert "ALREADY_DECIDED" in outcomes
    assert first[0].startswith("user:")
    assert len({*outcomes} - {"ALREADY_DECIDED"}) == 1


def test_a_failure_is_tried_again_in_the_same_conversation_and_wait_follows_it(
    one_slot: Daemon,
) -> None:
    accepted = one_slot.accept(
        {"error": "529", "retries": 0, "times": 2, "text": "at last"}, retries=3
    )
    ended = one_slot.wait(accepted["work_order"])
    assert (ended["state"], ended["result"], ended["attempt"]) == ("completed", "at last", 3)
    attempts = described(one_slot, accepted["work_order"])["attempts"]
    assert [a["state"] for a in attempts] == ["completed", "failed", "failed"]
    assert len({a["session"] for a in attempts}) == 1
    told = history.read(one_slot, project="web").check()
    retried = [e for e in told.of_type("work_order.state") if e["data"].get("hold") == "retry"]
    assert [e["data"]["cause"] for e in retried] == ["api_error"] * 2
    first = one_slot.get(accepted["execution"])
    assert first["state"] == "failed", "an execution's id does not follow retries"


def test_used_up_retries_end_in_the_dead_letter_box_and_a_person_can_take_them_out(
    one_slot: Daemon,
) -> None:
    accepted = one_slot.accept(
        {"error": "500", "retries": 0, "times": 2, "text": "fine"}, retries=1
    )
    one_slot.wait(accepted["work_order"])
    assert order_state(one_slot, accepted["work_order"]) == "dead"
    assert [o["work_order"] for o in one_slot.call("queue.list", states=["dead"])["items"]] == [
        accepted["work_order"]
    ]
    one_slot.call("queue.retry", work_order=accepted["work_order"])
    assert one_slot.wait(accepted["work_order"])["result"] == "fine"


def test_a_killed_claude_is_tried_again_over_a_death_of_the_daemon(one_slot: Daemon) -> None:
    accepted = one_slot.accept({"text": "second try", "crash": "SIGKILL", "times": 1}, retries=1)
    eventually(lambda: one_slot.get(accepted["work_order"])["attempt"] == 2)
    one_slot.restart()
    assert one_slot.wait(accepted["work_order"])["result"] == "second try"


def test_a_usage_limit_parks_the_work_says_until_when_and_it_resumes_by_wish(
    one_slot: Daemon,
) -> None:
    directive = {"limit": True, "resets_in_s": 3, "times": 1, "text": "after the limit"}
    accepted = one_slot.accept(directive, on_usage_limit="resume")
    eventually(lambda: one_slot.call("queue.stats")["parked"])
    parked = one_slot.call("queue.stats")["parked"][0]
    assert parked["is_known"]
    said = described(one_slot, accepted["work_order"])
    assert said["order"]["hold"] == "usage_limit"
    assert any("usage limit" in reason for reason in said["reasons"])
    assert said["until"] is not None
    other = one_slot.execute({"text": "waited too"}, "api")
    assert any("usage limit" in reason for reason in described(one_slot, other)["reasons"])
    one_slot.restart()
    ended = one_slot.wait(accepted["work_order"])
    assert (ended["result"], ended["attempt"]) == ("after the limit", 2)
    assert one_slot.wait(other)["result"] == "waited too"


def test_a_parked_order_waits_for_a_person_by_default_and_resume_now_takes_it_up(
    one_slot: Daemon,
) -> None:
    accepted = one_slot.accept({"limit": True, "resets_in_s": 7200, "times": 1, "text": "later"})
    eventually(lambda: order_state(one_slot, accepted["work_order"]) == "queued")
    done = one_slot.call("queue.resume", now=True)
    assert (done["orders"], len(done["accounts"])) == (1, 1)
    assert one_slot.wait(accepted["work_order"])["result"] == "later"


def test_a_parked_order_can_be_cancelled(one_slot: Daemon) -> None:
    accepted = one_slot.accept({"limit": True, "resets_in_s": 7200})
    eventually(lambda: order_state(one_slot, accepted["work_order"]) == "queued")
    assert one_slot.call("queue.cancel", work_order=accepted["work_order"])["state"] == "cancelled"
    assert one_slot.wait(accepted["work_order"])["state"] == "cancelled"


def test_what_follows_starts_after_it_and_not_when_it_failed(one_slot: Daemon) -> None:
    first = one_slot.accept({"events": 1, "delay_ms": 200, "text": "first"}, "web")
    second = one_slot.accept({"text": "second"}, "api", after=[first["work_order"]])
    one_slot.wait(second["execution"])
    started = [one_slot.get(x["execution"]) for x in (first, second)]
    assert started[0]["ended_at"] <= started[1]["started_at"]
    broken = one_slot.accept({"error": "400"}, "web")
    never = one_slot.accept({"text": "never"}, "api", after=[broken["execution"]])
    ended = one_slot.wait(never["execution"])
    assert (ended["state"], ended["started_at"]) == ("cancelled", None)
    assert broken["work_order"] in ended["message"]


def test_a_pause_holds_over_a_restart_and_is_explained(one_slot: Daemon) -> None:
    one_slot.call("queue.pause", project="web", reason="release")
    held = one_slot.accept({"text": "released"})
    assert one_slot.run({"text": "others go"}, "api")["result"] == "others go"
    one_slot.restart()
    said = described(one_slot, held["work_order"])["reasons"]
    assert "Project web was paused by user:" in said[0]
    assert "release" in said[0]
    one_slot.call("queue.resume", project="web")
    assert one_slot.wait(held["execution"])["result"] == "released"


def test_scaling_lasts_over_a_restart_and_drained_workers_take_nothing(one_slot: Daemon) -> None:
    assert len(one_slot.call("worker.scale", slots=3)["items"]) == 3
    one_slot.restart()
    assert len(one_slot.call("worker.list")["items"]) == 3
    one_slot.call("worker.drain")
    waiting = one_slot.accept({"text": "x"})
    assert "3 drained" in described(one_slot, waiting["work_order"])["reasons"][0]
    one_slot.call("worker.resume", worker="slot-2")
    assert one_slot.wait(waiting["execution"])["worker"] == "slot-2"
