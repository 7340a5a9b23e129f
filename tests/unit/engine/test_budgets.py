"""The clock of the budgets: what it stops, what it lets start, and that it survives a failure."""

import asyncio

import pytest

from hivectl import config
from hivectl.engine import budgets as clocks
from hivectl.engine.budgets import BudgetClock, budgets_of
from hivectl.model.errors import HiveError
from hivectl.model.usage import Kind
from hivectl.model.work import Usage
from hivectl.ports import ResultSeen, StopMode, StopReason
from tests.harness import money


@pytest.fixture
async def bench(tmp_path):
    async with money.opened(tmp_path / "db") as made:
        yield made


class Watch:
    """A clock over a store, with what it did."""

    def __init__(self, bench, tmp_path, **flags):
        self.stopped, self.woken = [], 0
        self.flags, self.path = flags, tmp_path
        self.clock = BudgetClock(bench.db, self.settings, stop=self.stop, wake=self.wake)

    def settings(self):
        given = {name.replace("__", "."): value for name, value in self.flags.items()}
        return config.load(given, env={"HIVECTL_HOME": str(self.path)})

    async def stop(self, id_, mode, reason):
        self.stopped.append((id_, mode, reason))

    def wake(self):
        self.woken += 1


async def test_a_run_whose_minutes_are_used_up_is_stopped_once(bench, tmp_path):
    run = await money.start(bench)
    watch = Watch(bench, tmp_path, budget__user_minutes_per_day=10.0)
    await watch.clock.look()
    assert watch.stopped == []
    bench.clock.advance(11 * 60)
    await watch.clock.look()
    await watch.clock.look()
    assert watch.stopped == [(run.id, StopMode.TERMINATE, StopReason.BUDGET)]


async def test_the_queue_is_told_when_a_budget_begins_anew(bench, tmp_path):
    run = await money.start(bench)
    watch = Watch(bench, tmp_path, budget__project_usd_per_day=1.0)
    run.budgets = budgets_of(watch.settings())
    result = ResultSeen(subtype="success", is_error=False, text="", usage=Usage(cost_usd=1.0))
    await run.bench.db.write(
        lambda tx: money.apply_effects(
            tx, run.id, [(1, result)], default="ask", budgets=run.budgets
        )
    )
    await run.end()
    await watch.clock.look()
    assert watch.woken == 0
    bench.clock.advance(86_400 + 3600)
    await watch.clock.look()
    assert watch.woken == 1
    watch.flags.clear()
    await watch.clock.look()
    assert watch.woken == 1


async def test_a_failure_is_logged_and_it_looks_again(bench, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(clocks, "LOOK_S", 0.01)
    watch = Watch(bench, tmp_path)
    looks = []

    async def look():
        looks.append(1)
        raise HiveError("STORAGE_FULL")

    monkeypatch.setattr(watch.clock, "look", look)
    task = asyncio.create_task(watch.clock.run())
    while len(looks) < 3:
        await asyncio.sleep(0.01)
    task.cancel()
    assert "cannot look at the budgets" in caplog.text


async def test_where_nothing_runs_or_waits_it_sleeps_until_it_is_stirred(
    bench, tmp_path, monkeypatch
):
    monkeypatch.setattr(clocks, "LOOK_S", 0)
    watch = Watch(bench, tmp_path)
    looks = asyncio.Queue()
    look = watch.clock.look

    async def counted():
        may_pass = await look()
        looks.put_nowait(may_pass)
        return may_pass

    monkeypatch.setattr(watch.clock, "look", counted)
    task = asyncio.create_task(watch.clock.run())
    assert await looks.get() is False
    for _ in range(100):
        await asyncio.sleep(0)
    assert looks.empty()
    watch.clock.stir()
    assert await looks.get() is False
    task.cancel()


def test_settings_become_budgets(tmp_path):
    flags = {"budget.project_usd_per_day": "2.5", "budget.user_tokens_per_day": "1000"}
    found = budgets_of(config.load(flags, env={"HIVECTL_HOME": str(tmp_path)}))
    assert (found.project, found.user) == ({Kind.USD: 2.5}, {Kind.TOKENS: 1000.0})


def test_a_wrong_price_is_refused_by_name(tmp_path):
    with pytest.raises(HiveError, match=r"usage\.prices.*is no price"):
        config.load({"usage.prices": {"opus": "cheap"}}, env={"HIVECTL_HOME": str(tmp_path)})
