"""Budgets in the store: what is blocked and until when, who is told, what must end."""

import time

import pytest

from hivectl.kit.clock import parse_time_us
from hivectl.logic import days
from hivectl.model.usage import Budgets, Kind
from hivectl.model.work import ExecutionState, Usage
from hivectl.ports import ResultSeen, UsageSeen
from hivectl.store import budgets, usage, work
from tests.harness import money

ACTOR = "user:t"


@pytest.fixture(params=["UTC", "Europe/Berlin", "America/New_York"])
def zone(request, monkeypatch):
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.delenv("TZ")
    time.tzset()


@pytest.fixture
async def bench(tmp_path):
    async with money.opened(tmp_path / "db") as made:
        yield made


async def spend(run, usd, tokens=100):
    item = ResultSeen(
        subtype="success", is_error=False, text="", usage=Usage(input_tokens=tokens, cost_usd=usd)
    )
    return await give(run, item)


async def say(run, message="m", **figures):
    return await give(run, UsageSeen(message=message, model="claude-opus-5-5", **figures))


async def give(run, item):
    run.logged += 10
    effects = [(run.logged, item)]
    return await run.bench.db.write(
        lambda tx: money.apply_effects(tx, run.id, effects, default="ask", budgets=run.budgets)
    )


async def blocked(run):
    return await run.bench.db.write(lambda tx: usage.is_blocked(tx, run.project.id, ACTOR))


async def review(run):
    return await run.bench.db.write(lambda tx: budgets.review(tx, run.budgets))


async def budget_events(run):
    return [name for name in await run.bench.events() if name.startswith("budget.")]


async def test_a_run_that_passes_its_own_budget_is_stopped_and_told_why(bench):
    run = await money.start(bench, options={"max_total_tokens": 1000})
    applied = await say(run, input_tokens=850)
    assert not applied.is_stopped
    applied = await say(run, "m2", input_tokens=200)
    assert applied.is_stopped
    stored = applied.execution
    assert (stored.stop_reason, stored.stop_by) == ("budget", "system")
    assert "1,050 tokens of 1,000 tokens" in stored.stop_note
    assert "--max-tokens 2000" in stored.stop_note
    assert await budget_events(run) == ["budget.warning", "budget.exceeded"]
    assert await blocked(run) is None, "the next prompt has a budget of its own"


async def test_money_of_messages_counts_before_claude_states_it(bench):
    run = await money.start(bench, options={"max_budget_usd": 0.01})
    assert not (await say(run, input_tokens=1000)).is_stopped
    assert (await say(run, "m2", input_tokens=2000)).is_stopped


async def test_a_run_that_has_its_verdict_is_not_stopped_but_the_next_waits(bench):
    run = await money.start(bench)
    run.budgets = Budgets(project={Kind.USD: 1.0})
    applied = await spend(run, 1.5)
    assert not applied.is_stopped
    assert "project web" in await blocked(run)
    await run.end()
    await bench.enqueue(run.project, "next")
    assert await bench.claim() is None


async def test_a_user_with_nothing_left_is_held_back_in_every_project(bench):
    run = await money.start(bench)
    run.budgets = Budgets(user={Kind.TOKENS: 50})
    await spend(run, 0.1)
    await run.end()
    other = await bench.project("other")
    await bench.enqueue(other, "theirs", actor="user:else")
    await bench.enqueue(run.project, "mine")
    claimed = await bench.claim()
    assert claimed.actor == "user:else"
    assert await bench.claim() is None
    assert ACTOR in await blocked(run)


async def test_a_user_with_nothing_left_holds_nobody_else_back(bench):
    run = await money.start(bench)
    run.budgets = Budgets(user={Kind.TOKENS: 50})
    await spend(run, 0.1)
    await run.end()
    for at in range(3):
        await bench.enqueue(run.project, f"mine {at}")
    behind, _ = await bench.enqueue(run.project, "theirs", actor="user:else")
    claimed = await bench.claim()
    assert claimed.id == behind.id
    assert await bench.claim() is None, "one of a project at a time, and the rest is blocked"
    await bench.end(claimed)
    bench.clock.advance(2 * 86_400)
    assert (await bench.claim()).actor == ACTOR, "the place in the queue was kept"


async def test_the_block_ends_with_the_day_and_the_work_starts(bench, zone):
    run = await money.start(bench)
    run.budgets = Budgets(project={Kind.USD: 1.0})
    await spend(run, 1.0)
    await run.end()
    await bench.enqueue(run.project, "next")
    until = days.end_of_us(bench.clock.now_us())
    bench.clock.advance((until - bench.clock.now_us()) / 1e6 - 1)
    await review(run)
    assert await bench.claim() is None
    bench.clock.advance(1)
    assert await blocked(run) is None, "also before anybody looks"
    assert await review(run) == []
    assert await bench.db.all("SELECT * FROM budget_blocks") == []
    assert await bench.claim() is not None
    assert await budget_events(run) == ["budget.exceeded"]


@pytest.mark.parametrize(
    ("moment", "hours"), [("2026-03-29T01:30:00+01:00", 22), ("2026-10-25T01:30:00+02:00", 24)]
)
async def test_the_days_of_summer_times_change_have_their_own_length(
    tmp_path, monkeypatch, moment, hours
):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        async with money.opened(tmp_path / "db") as bench:
            bench.clock.wall_us = parse_time_us(moment)
            run = await money.start(bench)
            run.budgets = Budgets(project={Kind.USD: 1.0})
            await spend(run, 1.0)
            passed = 0
            while await blocked(run) is not None:
                bench.clock.advance(3600)
                passed += 1
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
    assert passed == hours


async def test_raising_the_limit_lets_the_work_start(bench):
    run = await money.start(bench)
    run.budgets = Budgets(project={Kind.USD: 1.0})
    await spend(run, 1.0)
    run.budgets = Budgets(project={Kind.USD: 2.0})
    await review(run)
    assert await blocked(run) is None
    assert await bench.db.one(budgets.ANY_SQL) is None, "nothing left to look at"


async def test_minutes_run_out_without_a_word(bench):
    run = await money.start(bench)
    run.budgets = Budgets(project={Kind.MINUTES: 10})
    bench.clock.wall_us = days.start_of_us(days.day_of(bench.clock.wall_us)) + 12 * 3_600_000_000
    await bench.db.write(
        lambda tx: tx.run("UPDATE executions SET started_us = ?", bench.clock.now_us())
    )
    bench.clock.advance(9 * 60)
    assert await review(run) == []
    bench.clock.advance(61)
    (over,) = await review(run)
    assert over.execution == run.id
    assert "minutes of 10.0 minutes" in over.sentence
    assert await budget_events(run) == ["budget.warning", "budget.exceeded"]


async def test_a_run_that_waits_for_a_person_uses_no_minutes_and_is_left(bench):
    run = await money.start(bench)
    run.budgets = Budgets(user={Kind.MINUTES: 10})
    await bench.db.write(lambda tx: work.wait_for_person(tx, run.id))
    bench.clock.advance(3600)
    assert await review(run) == []


async def test_a_warning_comes_once_a_day(bench):
    run = await money.start(bench)
    run.budgets = Budgets(project={Kind.USD: 1.0})
    for _ in range(3):
        await spend(run, 0.29)
        await review(run)
    await spend(run, 0.01)
    assert await budget_events(run) == ["budget.warning"]


async def test_where_budgets_stand_is_told(bench):
    run = await money.start(bench)
    run.budgets = Budgets(project={Kind.USD: 1.0}, user={Kind.TOKENS: 1000})
    await spend(run, 0.25)
    found = await bench.db.write(
        lambda tx: budgets.status(tx, run.budgets, projects_=[run.project.id], users=[ACTOR])
    )
    assert [(item["scope"], item["kind"], item["used"], item["limit"]) for item in found] == [
        ("project", "usd", 0.25, 1.0), ("user", "tokens", 100, 1000),
    ]  # fmt: skip


async def test_a_stop_by_somebody_stands_before_the_budgets(bench):
    run = await money.start(bench, options={"max_total_tokens": 10})
    await bench.db.write(
        lambda tx: work.want_stop(tx, run.id, mode="terminate", reason="user", by="user:t")
    )
    applied = await say(run, input_tokens=100)
    assert not applied.is_stopped
    assert applied.execution.stop_reason == "user"
    assert (await run.end(ExecutionState.CANCELLED)).cost_usd > 0
