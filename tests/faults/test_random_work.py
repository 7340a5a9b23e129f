"""Two hundred prompts with random cancels, kills, answers, retries and deaths of the daemon, against a model.

Nothing is lost, nothing runs twice without a retry on record, no cap is exceeded, low priority is not
starved, and everything ends.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.harness import history
from tests.harness.daemon import Daemon, RpcError, mock
from tests.harness.soak import Report, full
from tests.harness.waiting import eventually

Make = Callable[..., Daemon]
PROJECTS = ("a", "b", "c", "d")
SLOTS = 3
ASKING = {
    "steps": [
        {"permission": {"name": "Write", "input": {"file_path": "f", "content": "x"}}},
        {"text": "went on"},
    ]
}
PROMPTS: tuple[dict[str, Any], ...] = (
    {"text": "plain"},
    {"events": 3, "delay_ms": 40},
    {"error": "529", "retries": 0, "times": 1, "text": "second try"},
    {"crash": "SIGKILL", "times": 1, "text": "second try"},
    {"error": "400"},
    ASKING,
)
CODES = frozenset({"PROCESS_NOT_FOUND", "ALREADY_DECIDED", "INVALID_STATE", "VERSION_CONFLICT"})


class Night:
    """The model: what was accepted, and what was done to it."""

    def __init__(self, daemon: Daemon, seed: int) -> None:
        self.daemon = daemon
        self.rng = random.Random(seed)
        self.orders: dict[str, dict[str, Any]] = {}
        self.touched: set[str] = set()
        """Orders that somebody cancelled or killed."""
        self.number = 0

    def call(self, method: str, /, **params: Any) -> Any:
        """A request that may come too late, or meet a daemon that is just dying."""
        try:
            return self.daemon.call(method, **params)
        except RpcError as error:
            if error.code not in CODES and not error.data["retryable"]:
                raise
        except (OSError, http.client.HTTPException):
            return None
        return None

    def accept(self) -> None:
        directive = self.rng.choice(PROMPTS)
        self.number += 1
        params = {
            "project": self.rng.choice(PROJECTS),
            "prompt": mock(**directive),
            "priority": self.rng.choice(("high", "normal", "low")),
            "retries": self.rng.choice((0, 1, 2)),
            "idempotency_key": f"night-{self.number}",
        }
        accepted = self.daemon.keep_calling("execute", **params)
        self.orders[accepted["work_order"]] = {**params, "directive": directive}

    def some_order(self) -> str:
        return self.rng.choice(list(self.orders))

    def cancel(self) -> None:
        order = self.some_order()
        self.touched.add(order)
        self.call("queue.cancel", work_order=order)

    def kill(self) -> None:
        order = self.some_order()
        self.touched.add(order)
        self.call("kill", execution=order, mode=self.rng.choice(("terminate", "kill")))

    def answer(self) -> None:
        for approval in (self.call("approval.list") or {"items": []})["items"][:2]:
            decision = self.rng.choice(("allow", "allow", "deny"))
            self.call(
                "approval.decide", id=approval["id"], version=approval["version"], decision=decision
            )

    def move(self) -> None:
        self.call("queue.move", work_order=self.some_order(), to=self.rng.choice(("first", "last")))

    def die(self) -> None:
        self.daemon.kill()
        self.daemon.start()

    def check_caps(self) -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, RpcError):
            live = self.daemon.call("execution.list", states=["starting", "running", "waiting"])[
                "items"
            ]
            assert len({x["lane"] for x in live}) == len(live), live
            running = [x for x in live if x["state"] != "waiting"]
            assert len(running) <= SLOTS, running
            assert len({x["worker"] for x in running}) == len(running)

    def finish(self) -> None:
        def is_over() -> bool:
            self.answer()
            counts = self.daemon.keep_calling("queue.stats")["states"]
            return counts["queued"] + counts["claimed"] == 0

        eventually(is_over, within_s=150, what="everything ends")


def live_through(daemon: Daemon, *, prompts: int, seed: int) -> Night:
    night = Night(daemon, seed)
    acts = [night.cancel, night.kill, night.answer, night.answer, night.answer, night.move]
    deaths = {prompts // 5, prompts // 2, prompts - 10}
    for number in range(prompts):
        night.accept()
        if night.rng.random() < 0.5:
            night.rng.choice(acts)()
        if number % 10 == 0:
            night.check_caps()
        if number in deaths:
            night.die()
        if number % 25 == 24:
            time.sleep(0.5)  # let some of it happen meanwhile: real processes, no clock of ours
    night.finish()
    return night


def check(night: Night) -> None:
    daemon = night.daemon
    known = {}
    cursor = None
    while True:
        page = daemon.call(
            "queue.list",
            states=["queued", "claimed", "completed", "failed", "cancelled", "dead"],
            limit=500,
            **({"cursor": cursor} if cursor else {}),
        )
        known.update({order["work_order"]: order for order in page["items"]})
        if (cursor := page["next_cursor"]) is None:
            break
    assert set(known) == set(night.orders), "nothing is lost and nothing is made twice"
    starts: dict[str, int] = {}
    for project in PROJECTS:
        told = history.read(daemon, project=project).check()
        for event in told.of_type("execution.state"):
            if event["data"]["state"] == "starting":
                starts[event["execution"]] = starts.get(event["execution"], 0) + 1
    assert all(count == 1 for count in starts.values()), "no execution starts twice"
    for id_, order in known.items():
        given = night.orders[id_]
        assert order["attempt"] == 1 + order["retry_count"], (order, given)
        assert order["retry_count"] <= given["retries"]
        if id_ in night.touched:
            continue
        fails = given["directive"].get("error") == "400"
        troubled = "times" in given["directive"]
        if not fails and (not troubled or given["retries"]):
            assert order["state"] == "completed", (order, given)


SETTINGS = {
    "worker.slots": SLOTS,
    "queue.retry_base_s": 0.05,
    "execution.interrupt_s": 0.3,
    "execution.close_s": 0.2,
    "execution.term_s": 0.3,
}


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_two_hundred_random_prompts_lose_nothing_and_run_once(make_daemon: Make) -> None:
    daemon = make_daemon(settings=SETTINGS).start()
    for name in PROJECTS:
        daemon.project(name)
    check(live_through(daemon, prompts=200, seed=20261128))


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(full(20)))
def test_many_nights_of_random_prompts(make_daemon: Make, report: Report, seed: int) -> None:
    daemon = make_daemon(settings=SETTINGS).start()
    for name in PROJECTS:
        daemon.project(name)
    check(live_through(daemon, prompts=300, seed=seed))
    report.count("prompts", 300)
