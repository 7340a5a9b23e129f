"""The account book: each message once, each turn as Claude states it, nothing free that was killed."""

import pytest

from hivectl.model.usage import Figures
from hivectl.model.work import Execution, ExecutionState, Usage
from hivectl.ports import ResultSeen, UsageSeen
from hivectl.store import projects, rows, usage, work
from tests.harness import money

OPUS = "claude-opus-5-5"


@pytest.fixture
async def bench(tmp_path):
    async with money.opened(tmp_path / "db") as made:
        yield made


def said(message="m1", **figures):
    return UsageSeen(message=message, **{"model": OPUS, "input_tokens": 100, **figures})


def result(*models, **fields):
    return ResultSeen(
        subtype="success", is_error=False, text="", usage=Usage(turns=1), models=models, **fields
    )


def figures(usd, input_=100, output=8, model=OPUS):
    return Figures(model=model, input_tokens=input_, output_tokens=output, cost_usd=usd)


async def apply(run, *items):
    """Each a line of its own."""
    start = run.logged
    for at, item in enumerate(items):
        run.logged = start + at + 1
        effects = [(run.logged, item)]
        await run.bench.db.write(
            lambda tx, e=effects: money.apply_effects(tx, run.id, e, default="ask")
        )


async def test_a_message_counts_once_however_often_its_figures_come(bench):
    run = await money.start(bench)
    await apply(run, said(output_tokens=1), said(output_tokens=1), said(output_tokens=1))
    await apply(run, said(output_tokens=90, is_final=True))
    (row,) = await bench.db.all("SELECT * FROM usage_open")
    assert (row["input_tokens"], row["output"]) == (100, 90)
    assert row["cost_usd"] == pytest.approx(100 * 4e-6 + 90 * 20e-6)


async def test_what_was_said_counts_where_the_final_count_never_came(bench):
    run = await money.start(bench)
    await apply(run, said(output_tokens=1, said_tokens=30), said(output_tokens=1, said_tokens=20))
    (part,) = await bench.db.write(lambda tx: usage.open_messages(tx, run.id))
    assert part.output_tokens == 50
    await apply(run, said(output_tokens=44, is_final=True))
    (part,) = await bench.db.write(lambda tx: usage.open_messages(tx, run.id))
    assert part.output_tokens == 44


async def test_a_result_replaces_the_messages_of_its_turn(bench):
    run = await money.start(bench)
    await apply(run, said(), result(figures(0.5), figures(0.1, model="claude-haiku-5-5")))
    assert await bench.db.all("SELECT * FROM usage_messages") == []
    assert [(key["key"], key["usd"]) for key in await run.spend("model")] == [
        ("claude-haiku-5-5", 0.1), (OPUS, 0.5),
    ]  # fmt: skip
    await apply(run, said("m2", output_tokens=5))
    ended = await run.end(ExecutionState.FAILED)
    (sums,) = await run.spend()
    assert ended.cost_is_estimate
    assert ended.cost_usd == pytest.approx(sums["usd"])
    assert 0 < sums["estimated"] < 0.5, "only what came after the result is worked out"


async def test_execution_project_and_session_agree_with_the_book(bench):
    run = await money.start(bench)
    await apply(run, said(output_tokens=300, is_final=True))
    ended = await run.end(ExecutionState.LOST)
    project = await bench.db.write(lambda tx: projects.find(tx, run.project.id))
    (sums,) = await run.spend()
    assert project.cost_usd == ended.cost_usd == pytest.approx(sums["usd"])
    assert (project.input_tokens, project.output_tokens) == (100, 300)
    again = await run.end(ExecutionState.LOST)
    assert again.cost_usd == ended.cost_usd
    assert len(await run.book()) == 1, "an end that is stored twice counts once"
    updates = [e for e in await bench.events() if e == "usage.updated"]
    assert len(updates) == 1, "the log tells of the estimate too"


async def test_the_price_of_a_model_is_learnt_from_claudes_own_figures(bench):
    run = await money.start(bench)
    await apply(run, result(figures(0.0112)))  # twenty times the list
    await apply(run, said("m2", output_tokens=8, is_final=True))
    (part,) = await bench.db.write(lambda tx: usage.open_messages(tx, run.id))
    assert part.cost_usd == pytest.approx(0.0112)


async def test_totals_of_a_process_are_compared_with_those_kept(bench):
    run = await money.start(bench)
    await apply(run, result(figures(0.5, 100, 10), is_total=True))
    await apply(run, result(figures(0.8, 150, 30), is_total=True))
    (sums,) = await run.spend()
    assert (sums["usd"], sums["tokens"]) == (pytest.approx(0.8), 180)
    await apply(run, result(figures(0.1, 10, 1), is_total=True))  # it began to count anew
    (sums,) = await run.spend()
    assert sums["usd"] == pytest.approx(0.9)


async def test_two_executions_in_one_process_share_its_totals(bench):
    first = await money.start(bench)
    await apply(first, result(figures(0.5), is_total=True))
    await first.end()
    second = await money.start(bench, first.project)
    process = (await bench.db.one("SELECT process FROM executions WHERE id = ?", first.id))[0]
    await bench.db.write(
        lambda tx: tx.run("UPDATE executions SET process = ? WHERE id = ?", process, second.id)
    )
    await apply(second, result(figures(0.7), is_total=True))
    ended = await second.end()
    assert ended.cost_usd == pytest.approx(0.2)


async def test_minutes_are_booked_at_the_end_and_waiting_is_none(bench):
    run = await money.start(bench)
    bench.clock.advance(60)
    await bench.db.write(lambda tx: work.wait_for_person(tx, run.id))
    bench.clock.advance(3600)
    await bench.db.write(lambda tx: work.go_on(tx, run.id))
    await bench.claim()  # it takes a slot again
    bench.clock.advance(30)
    await run.end()
    rows_ = await bench.db.all(
        "SELECT day, active_ms FROM spend WHERE source = 'time' ORDER BY day"
    )
    assert sum(row["active_ms"] for row in rows_) == 90_000


async def test_spend_stays_when_its_project_is_deleted(bench):
    run = await money.start(bench)
    await apply(run, result(figures(0.5)))
    await run.end()
    await bench.db.write(lambda tx: tx.run("DELETE FROM projects WHERE id = ?", run.project.id))
    used = await bench.db.write(lambda tx: usage.used(tx, usage.Scope.USER, "user:t"))
    assert used.usd == 0.5


async def test_a_running_turn_is_shown_with_what_it_has_come_to(bench):
    run = await money.start(bench)
    await apply(run, said(output_tokens=8, is_final=True))
    row = await bench.db.one(
        f"SELECT {rows.columns(Execution, 'e')}, {usage.OPEN_SQL} AS open FROM executions e"
    )
    shown = usage.with_open(rows.read(Execution, row), row["open"])
    assert (shown.usage["output_tokens"], shown.cost_is_estimate) == (8, True)
    assert shown.cost_usd == pytest.approx(0.00056)


async def test_what_is_too_old_is_forgotten(bench):
    run = await money.start(bench)
    await apply(run, result(figures(0.5), is_total=True))
    await bench.db.write(usage.forget)
    assert len(await bench.db.all("SELECT * FROM usage_totals")) == 1
    bench.clock.advance(31 * 86_400)
    await bench.db.write(usage.forget)
    assert await bench.db.all("SELECT * FROM usage_totals") == []
