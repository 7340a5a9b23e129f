"""Work orders and executions: the two tables of states, the claim, idempotency, the end of it all."""

import pytest

from hivectl.kit.clock import FakeClock
from hivectl.kit.ids import make_id, make_uuid
from hivectl.model.errors import HiveError
from hivectl.model.project import Project, ProjectState
from hivectl.model.work import (
    EXECUTION_ENDS,
    EXECUTION_MOVES,
    ORDER_MOVES,
    Cause,
    ExecutionState,
    OrderState,
    Outcome,
)
from hivectl.store import lanes, projects, queue, work, workers
from hivectl.store.database import Database


def a_project(tx, name):
    """A registered project that needs no directory."""
    p = Project(
        id=make_id("p"), name=name, path=f"/srv/{name}", dev=1, ino=hash(name) % 1000, trust_hash=None, trust_broken=False,
        defaults={}, env={}, version=1, session=None, state=ProjectState.IDLE, error=None, executions=0, input_tokens=0,
        output_tokens=0, cost_usd=0.0, created_us=tx.now_us, activity_us=tx.now_us,
    )  # fmt: skip
    projects.insert(tx, p, limit=100, actor="user:t", request="r")
    return p


def a_wish(project, prompt="hi", **changes):
    """What `enqueue` is to accept."""
    fields = {
        "order": make_id("o"), "execution": make_id("x"), "project": project, "prompt": prompt, "prompt_uuid": make_uuid(),
        "message": {"kind": "prompt"}, "session": "current", "fork": False, "options": {}, "priority": "normal", "actor": "user:t",
        "request": "r", "key": None, "hash": prompt, "refuse_if_busy": False, "max_orders": 1000, "key_age_us": 86_400_000_000,
    } | changes  # fmt: skip
    return work.Wish(**fields)


class Bench:
    def __init__(self, db, clock):
        self.db, self.clock = db, clock

    async def project(self, name="web"):
        return await self.db.write(lambda tx: a_project(tx, name))

    async def enqueue(self, project, prompt="hi", **changes):
        wish = a_wish(project, prompt, **changes)
        self.clock.advance(0.001)
        return await self.db.write(lambda tx: work.enqueue(tx, wish))

    async def claim(self, max_live=10):
        caps = queue.Caps(max_live=max_live)
        claimed = await self.db.write(lambda tx: queue.claim(tx, caps, process=make_id("pr")))
        return claimed.execution if claimed is not None else None

    async def end(self, execution, state=ExecutionState.COMPLETED):
        return await self.db.write(
            lambda tx: work.end(tx, execution.id, Outcome(state=state, cause=Cause.OK))
        )

    async def events(self):
        return [row["type"] for row in await self.db.all("SELECT type FROM outbox ORDER BY id")]


@pytest.fixture
async def bench(tmp_path):
    clock = FakeClock()
    db = await Database.open(tmp_path / "hive.db", clock)
    await db.write(lambda tx: workers.sync_slots(tx, default=10))
    yield Bench(db, clock)
    await db.close()


def test_every_state_has_a_row_and_ends_are_ends():
    assert set(EXECUTION_MOVES) == set(ExecutionState)
    assert set(ORDER_MOVES) == set(OrderState)
    assert all(not EXECUTION_MOVES[state] for state in EXECUTION_ENDS)


async def test_a_lane_runs_one_execution_at_a_time_in_the_order_they_came(bench):
    project = await bench.project()
    first, _ = await bench.enqueue(project, "one")
    second, _ = await bench.enqueue(project, "two")
    claimed = await bench.claim()
    assert claimed.id == first.id
    assert await bench.claim() is None
    await bench.end(claimed)
    assert (await bench.claim()).id == second.id


async def test_the_global_cap_holds_over_projects(bench):
    for name in ("a", "b", "c"):
        await bench.enqueue(await bench.project(name))
    assert await bench.claim(max_live=2) is not None
    assert await bench.claim(max_live=2) is not None
    assert await bench.claim(max_live=2) is None


async def test_high_priority_goes_first_but_an_old_low_one_is_not_starved(bench):
    low, _ = await bench.enqueue(await bench.project("a"), priority="low")
    bench.clock.advance(3 * 3600)
    high, _ = await bench.enqueue(await bench.project("b"), priority="high")
    assert (await bench.claim()).id == low.id
    newer, _ = await bench.enqueue(await bench.project("c"), priority="low")
    assert (await bench.claim()).id == high.id
    assert (await bench.claim()).id == newer.id


async def test_the_same_key_and_request_answers_with_the_first_execution(bench):
    project = await bench.project()
    first, replayed = await bench.enqueue(project, "one", key="k")
    again, replayed_again = await bench.enqueue(project, "one", key="k")
    assert (replayed, replayed_again) == (False, True)
    assert again.id == first.id
    with pytest.raises(HiveError) as caught:
        await bench.enqueue(project, "another", key="k")
    assert caught.value.code == "IDEMPOTENCY_MISMATCH"
    bench.clock.advance(25 * 3600)
    late, replayed = await bench.enqueue(project, "one", key="k")
    assert not replayed
    assert late.id != first.id


async def test_a_full_queue_and_a_busy_project_refuse(bench):
    project = await bench.project()
    await bench.enqueue(project)
    with pytest.raises(HiveError, match="wait"):
        await bench.enqueue(project, max_orders=1)
    with pytest.raises(HiveError) as caught:
        await bench.enqueue(project, refuse_if_busy=True)
    assert caught.value.code == "PROJECT_BUSY"


async def test_killing_a_pending_execution_cancels_it_and_frees_its_place(bench):
    project = await bench.project()
    first, _ = await bench.enqueue(project, "one")
    second, _ = await bench.enqueue(project, "two")
    cancelled = await bench.db.write(
        lambda tx: work.want_stop(tx, first.id, mode="terminate", reason="user", by="user:t")
    )
    assert cancelled.state is ExecutionState.CANCELLED
    assert (await bench.claim()).id == second.id


@pytest.mark.parametrize("start", list(ExecutionState))
@pytest.mark.parametrize("to", list(ExecutionState))
async def test_only_moves_of_the_table_are_possible(bench, start, to):
    project = await bench.project()
    execution, _ = await bench.enqueue(project)
    await bench.db.write(
        lambda tx: tx.run("UPDATE executions SET state = ? WHERE id = ?", start, execution.id)
    )

    def step(tx):
        work.move(tx, work.find(tx, execution.id), to)

    if to in EXECUTION_MOVES[start]:
        await bench.db.write(step)
    else:
        with pytest.raises(HiveError) as caught:
            await bench.db.write(step)
        assert caught.value.code == "INVALID_STATE"
        assert caught.value.details["allowed"] == sorted(EXECUTION_MOVES[start])


async def test_the_end_frees_the_lane_counts_once_and_tells_in_order(bench):
    project = await bench.project()
    await bench.enqueue(project)
    claimed = await bench.claim()
    await bench.db.write(lambda tx: work.started(tx, claimed.id, pid=1))
    verdict = {
        "usage": {"turns": 1, "input_tokens": 5, "output_tokens": 7, "cost_usd": 0.5},
        "origin": "",
    }
    await bench.db.write(lambda tx: work.store_verdict(tx, claimed.id, verdict))
    await bench.end(claimed)
    await bench.end(claimed)  # a second end changes nothing
    found = await bench.db.write(lambda tx: projects.find(tx, project.id))
    assert (found.executions, found.input_tokens, found.cost_usd, found.state) == (
        1,
        5,
        0.5,
        ProjectState.IDLE,
    )
    events = await bench.events()
    assert (
        events.index("execution.created")
        < events.index("message")
        < events.index("execution.ended")
    )
    assert events.count("execution.ended") == 1
    assert events[-1] == "project.state"


async def test_a_project_that_executes_cannot_be_deleted(bench):
    project = await bench.project()
    await bench.enqueue(project)
    with pytest.raises(HiveError) as caught:
        await bench.db.write(lambda tx: projects.delete(tx, "web", actor="user:t", request="r"))
    assert caught.value.code == "PROJECT_BUSY"
    claimed = await bench.claim()
    await bench.end(claimed)
    await bench.db.write(lambda tx: projects.delete(tx, "web", actor="user:t", request="r"))
    with pytest.raises(HiveError):
        await bench.db.write(lambda tx: projects.find(tx, "web"))


async def test_a_restart_mends_lanes_that_disagree_with_their_orders(bench):
    project = await bench.project()
    execution, _ = await bench.enqueue(project)
    await bench.db.write(
        lambda tx: tx.run("UPDATE lanes SET busy = 1, head = NULL, head_rank = NULL")
    )
    assert await bench.claim() is None
    await bench.db.write(lanes.mend)
    assert (await bench.claim()).id == execution.id
