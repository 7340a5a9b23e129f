"""What one prompt, project or user can use at most: row S31, with real processes.

Schedules are no part of this version; the rest of the row is here.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from hivectl.model.errors import HiveError
from hivectl.protocol.methods import METHODS, params_model
from tests.harness.daemon import Daemon, RpcError
from tests.harness.waiting import eventually

Make = Callable[..., Daemon]
DEAR = {"cost_usd": 0.6, "turns": 3}
"""Its first call costs more than it may; Claude looks after each."""


def test_s31_the_budget_reaches_claude_and_ends_the_run(make_daemon: Make) -> None:
    daemon = make_daemon().start()
    daemon.project()
    ended = daemon.run(DEAR, options={"max_budget_usd": 0.5})
    assert (ended["state"], ended["cause"]) == ("failed", "budget")
    assert "--max-budget-usd=0.5" in daemon.mock_starts()[-1]["argv"]


def test_s31_a_project_may_have_a_budget_for_each_of_its_prompts(make_daemon: Make) -> None:
    daemon = make_daemon().start()
    daemon.project(defaults={"max_budget_usd": 0.5})
    ended = daemon.run(DEAR)
    assert (ended["state"], ended["cause"]) == ("failed", "budget")


@pytest.mark.parametrize("usd", [0, -1, 1e-9, 1e12, float("nan"), float("inf"), "1", True])
def test_s31_what_is_no_budget_is_refused(usd: Any) -> None:
    from hivectl.logic.options import validate_options
    from hivectl.model.work import Options

    with pytest.raises(HiveError):
        validate_options(Options(max_budget_usd=usd))


@pytest.mark.parametrize("field", ["max_budget_usd", "max_total_tokens"])
def test_s31_the_protocol_takes_no_text_for_a_number(field: str) -> None:
    model = params_model(METHODS["execute"])
    with pytest.raises(ValueError, match=field):
        model.model_validate({"project": "web", "prompt": "x", "options": {field: "much"}})


def test_s31_the_wall_clock_ends_a_run(make_daemon: Make) -> None:
    daemon = make_daemon().start()
    daemon.project()
    ended = daemon.run({"hang": True}, options={"timeout_s": 1})
    assert (ended["state"], ended["cause"]) == ("timed_out", "timeout")


def test_s31_output_has_a_cap(make_daemon: Make) -> None:
    daemon = make_daemon(settings={"execution.max_output_bytes": 200_000}).start()
    daemon.project()
    ended = daemon.run({"events": 100_000, "bytes": 2000})
    assert (ended["state"], ended["cause"]) == ("failed", "output_limit")


@pytest.mark.parametrize(
    ("settings", "projects", "most"),
    [
        ({}, ["web"], 1),
        ({"execution.max_live": 2}, ["web", "b", "c", "d"], 2),
        ({"queue.max_per_user": 1}, ["web", "b", "c"], 1),
    ],
    ids=["of a project", "of all", "of a user"],
)
def test_s31_how_many_run_at_once_is_capped(
    make_daemon: Make, settings: dict[str, Any], projects: list[str], most: int
) -> None:
    daemon = make_daemon(settings=settings).start()
    for name in projects:
        daemon.project(name)
    started = [daemon.execute({"hang": 2}, name) for name in projects for _ in range(2)]
    eventually(lambda: len(_live(daemon)) == most, within_s=20, what="as many run as may")
    until = time.monotonic() + 3
    while time.monotonic() < until:
        assert len(_live(daemon)) <= most
        time.sleep(0.05)
    _kill_all(daemon, started)


def _live(daemon: Daemon) -> list[Any]:
    found = daemon.call("execution.list", states=["starting", "running", "waiting"])
    return list(found["items"])


def _kill_all(daemon: Daemon, started: list[str]) -> None:
    for execution in started:
        with suppress(RpcError):  # it has ended by itself
            daemon.call("kill", execution=execution, mode="kill")
