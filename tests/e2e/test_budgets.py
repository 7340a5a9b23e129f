"""Budgets and sums with real processes: who is stopped, what is told, and that nothing killed is free."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.harness import history
from tests.harness.daemon import Daemon, mock
from tests.harness.waiting import eventually

Make = Callable[..., Daemon]
CALL_USD = 0.0004
"""What the input of one of the mock's API calls costs."""
MANY_CALLS = {"turns": 400, "delay_ms": 20}


def _hive(daemon: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hivectl", *words],
        env=daemon.env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def _usage(daemon: Daemon, **params: Any) -> dict[str, Any]:
    found: dict[str, Any] = daemon.call("usage", **params)
    return found


def _allow(daemon: Daemon) -> None:
    daemon.call("policy.add", action="allow", tool="Bash")


def test_s31_claude_keeps_the_budget_of_an_execution_and_the_command_exits_with_9(
    daemon: Daemon,
) -> None:
    ran = _hive(daemon, "exec", "-p", "web", "--budget", "0.5", mock(cost_usd=0.6, turns=3))
    assert ran.returncode == 9, ran.stderr
    assert "failed (budget)" in ran.stderr
    assert "hivectl exec --budget" in ran.stderr
    found = _usage(daemon, by="execution")["items"][0]
    assert found["cost_usd"] >= 0.6


def test_s31_tokens_that_pass_the_budget_stop_the_run_in_the_middle_and_it_says_so(
    daemon: Daemon,
) -> None:
    _allow(daemon)
    ended = daemon.run(MANY_CALLS, options={"max_total_tokens": 1000})
    assert (ended["state"], ended["cause"]) == ("failed", "budget"), ended["message"]
    assert "tokens of 1,000 tokens" in ended["message"]
    assert "--max-tokens 2000" in ended["message"]
    told = history.read(daemon, project="web").check()
    # Figures are stored together: what leaps over both marks at once is only told to be over.
    assert len(told.of_type("budget.warning")) <= 1
    (exceeded,) = told.of_type("budget.exceeded")
    assert exceeded["data"]["message"] == ended["message"]
    assert not daemon.shims(), "every process is gone"


def test_a_project_whose_day_is_used_up_waits_and_says_until_when(daemon: Daemon) -> None:
    daemon.call("project.update", project="web", defaults={"budget_usd_per_day": 0.5})
    assert daemon.run({"cost_usd": 0.6})["state"] == "completed", "what is done is done"
    accepted = daemon.accept("next")
    (warning,) = accepted["warnings"]
    assert "Today's budget of project web is used up: $0.60 of $0.50" in warning
    assert "--default budget_usd_per_day=1`" in warning
    waiting = daemon.get(accepted["execution"])
    assert (waiting["state"], waiting["message"]) == ("pending", warning)
    (budget,) = _usage(daemon)["budgets"]
    assert budget["is_exceeded"]
    daemon.project("api")
    assert daemon.run("later, elsewhere", "api")["state"] == "completed"
    assert daemon.get(accepted["execution"])["state"] == "pending"
    daemon.call("project.update", project="web", defaults={"budget_usd_per_day": 5})
    assert daemon.wait(accepted["execution"])["state"] == "completed"


def test_s31_a_run_that_uses_up_the_day_of_its_project_is_stopped(daemon: Daemon) -> None:
    _allow(daemon)
    daemon.call("project.update", project="web", defaults={"budget_tokens_per_day": 1000})
    ended = daemon.run(MANY_CALLS)
    assert (ended["state"], ended["cause"]) == ("failed", "budget")
    assert "budget_tokens_per_day=2000" in ended["message"]


def test_minutes_are_kept_without_a_word_of_claude(make_daemon: Make) -> None:
    daemon = make_daemon(settings={"budget.user_minutes_per_day": 0.02}).start()
    daemon.project()
    ended = daemon.run({"hang": True})
    assert (ended["state"], ended["cause"]) == ("failed", "budget")
    assert "minutes of 0.02 minutes" in ended["message"]
    assert ended["duration_ms"] < 30_000


def test_a_claude_that_was_killed_is_not_free(make_daemon: Make) -> None:
    daemon = make_daemon().start()  # one that has not learnt the strange prices of other stories
    daemon.project()
    started = daemon.execute({"steps": [{"text": "word " * 200}, {"hang": "end"}]})
    running = eventually(
        lambda: (found := daemon.get(started))["cost_usd"] > 0 and found, within_s=20
    )
    assert running["cost_is_estimate"], "a running turn is shown with what it has come to"
    os.kill(running["pid"], signal.SIGKILL)
    ended = daemon.wait(started)
    assert (ended["state"], ended["cost_is_estimate"]) == ("failed", True)
    assert CALL_USD < ended["cost_usd"] < 0.02
    (row,) = _usage(daemon, by="execution", project="web")["items"]
    assert row["cost_usd"] == row["estimated_usd"] == pytest.approx(ended["cost_usd"], abs=1e-6)
    project = daemon.call("project.get", project="web")
    assert project["totals"]["cost_usd"] == pytest.approx(ended["cost_usd"], abs=1e-6)
    assert "~$" in _hive(daemon, "usage").stdout


@pytest.mark.parametrize("first", ["shim", "daemon"])
def test_a_run_whose_supervisors_died_too_is_not_free(make_daemon: Make, first: str) -> None:
    daemon = make_daemon().start()
    daemon.project()
    started = daemon.execute({"steps": [{"text": "word " * 200}, {"hang": "end"}]})
    running = eventually(
        lambda: (found := daemon.get(started))["cost_usd"] > 0 and found, within_s=20
    )
    if first == "daemon":
        daemon.kill()
    os.kill(daemon.shim_of(running).pid, signal.SIGKILL)
    os.kill(running["pid"], signal.SIGKILL)
    if first == "daemon":
        daemon.start()
    ended = daemon.wait(started)
    assert ended["state"] in {"lost", "failed"}
    assert ended["cost_is_estimate"]
    assert ended["cost_usd"] == pytest.approx(running["cost_usd"])
    assert _usage(daemon)["total"]["cost_usd"] == pytest.approx(ended["cost_usd"])


def test_daemons_that_are_killed_change_no_sum(daemon: Daemon) -> None:
    _allow(daemon)
    calm = daemon.run({"turns": 30, "delay_ms": 30, "seed": 7, "text": "x"})
    stormy = daemon.execute({"turns": 30, "delay_ms": 60, "seed": 7, "text": "x"})
    cost = 0.0

    def goes_on() -> bool:
        nonlocal cost
        found, before = daemon.get(stormy), cost
        cost = found["cost_usd"]
        return bool(cost > before or found["state"] == "completed")

    for _ in range(4):
        eventually(goes_on)
        daemon.restart()
    ended = daemon.wait(stormy)
    assert ended["state"] == "completed"
    names = ("input_tokens", "output_tokens", "turns")
    assert {n: ended["usage"][n] for n in names} == {n: calm["usage"][n] for n in names}
    assert ended["cost_usd"] == pytest.approx(calm["cost_usd"], abs=1e-6)
    rows = {row["key"]: row for row in _usage(daemon, by="execution")["items"]}
    assert rows[stormy]["cost_usd"] == pytest.approx(ended["cost_usd"], abs=1e-6)
    assert rows[stormy]["estimated_usd"] == 0


def test_sums_by_everything_agree(daemon: Daemon) -> None:
    before = _usage(daemon)["total"]
    daemon.run({"cost_usd": 0.25})
    daemon.run({"cost_usd": 0.5, "model": "claude-haiku-5-5"})
    totals = [_usage(daemon, by=by) for by in ("project", "user", "model", "day", "execution")]
    for found in totals:
        assert sum(item["cost_usd"] for item in found["items"]) == pytest.approx(
            found["total"]["cost_usd"], abs=1e-5
        )
        assert found["total"] == totals[0]["total"]
    grown = totals[0]["total"]
    assert grown["cost_usd"] - before["cost_usd"] == pytest.approx(0.75, abs=0.01)
    assert grown["runs"] - before["runs"] == 2
    assert len(_usage(daemon, by="execution", limit=1)["items"]) == 1
    assert _usage(daemon, since="2020-01-01", until="2020-01-02")["items"] == []
