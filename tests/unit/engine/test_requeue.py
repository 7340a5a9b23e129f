"""The queue of a lost database: what was held, paused, parked or given up is so again, and starts no sooner."""

import pytest

from hivectl.engine.rebuild import rebuild
from hivectl.kit.clock import SystemClock
from hivectl.kit.ids import make_id
from hivectl.logic.retry import Backoff
from hivectl.model.work import Cause, ExecutionState, Outcome
from hivectl.store import attempts, lanes, projects, queue, work, workers
from hivectl.store.database import Database
from hivectl.testing.processes import FakeMachine
from tests.unit.engine.test_rebuild import wished
from tests.unit.engine.test_runner import Farm, plain

HOUR_US = 3_600_000_000
HOW = {"actor": "user:t", "request": "r"}
ORDERS = (
    "SELECT id, state, hold, not_before_us, retry_count, retries, resumptions, account, on_usage_limit, message, attempt"
    " FROM orders ORDER BY id"
)
CAPS = queue.Caps(max_live=10)


class Night:
    """A queue that is driven by hand."""

    def __init__(self, farm, path):
        self.farm, self.path, self.db = farm, path, farm.db

    async def enqueue(self, project, **changes):
        wish = wished(project, max_orders=99, **changes)
        execution, _ = await self.db.write(lambda tx: work.enqueue(tx, wish))
        return execution

    async def do(self, change):
        return await self.db.write(change)

    async def claim(self, db=None):
        claimed = await (db or self.db).write(
            lambda tx: (queue.release_due(tx), queue.claim(tx, CAPS, process=make_id("pr")))[1]
        )
        return claimed and claimed.execution

    async def fail(self, cause=Cause.API_ERROR, **fields):
        execution = await self.claim()
        outcome = Outcome(state=ExecutionState.FAILED, cause=cause, message="it broke", **fields)
        rules = attempts.Rules(backoff=Backoff(base_s=600, max_s=900))
        return await self.do(lambda tx: work.end(tx, execution.id, outcome, rules=rules))

    async def lose(self, *tables):
        """What `tables` hold after a rebuild, and whether anything may be claimed then."""
        db = await Database.open(self.path / "new.db", SystemClock())
        try:
            await rebuild(db, self.farm.journal)
            await db.write(lambda tx: (workers.sync_slots(tx, default=3), lanes.mend(tx)))
            found = [[tuple(row) for row in await db.all(sql)] for sql in tables]
            first = await self.claim(db)
        finally:
            await db.close()
        was = [[tuple(row) for row in await self.db.all(sql)] for sql in tables]
        return was, found, first


@pytest.fixture
async def night(tmp_path):
    async with Farm(tmp_path, FakeMachine(plain)).open() as farm:
        farm.engine.is_draining = True
        yield Night(farm, tmp_path)


async def test_a_retry_that_waits_has_used_up_what_it_had_and_waits_on(night):
    await night.enqueue(await night.farm.project(), retries=3)
    await night.fail()
    was, found, first = await night.lose(ORDERS)
    assert found == was
    assert first is None


async def test_what_was_dead_is_dead_and_says_why(night):
    project = await night.farm.project()
    await night.enqueue(project, retries=1)
    await night.fail()
    order = await night.do(lambda tx: tx.one("SELECT id FROM orders"))
    await night.do(lambda tx: queue.retry(tx, order["id"], actor="user:t"))
    ended = await night.fail()
    was, found, _ = await night.lose("SELECT id, state, retry_count, message FROM orders")
    assert found == was
    assert found[0][0][1] == "dead", ended


async def test_what_a_person_let_go_is_not_held_again(night):
    await night.enqueue(await night.farm.project(), account="one")
    await night.fail(Cause.USAGE_LIMIT)
    await night.do(lambda tx: queue.resume(tx, None, now=True, **HOW))
    was, found, first = await night.lose(ORDERS)
    assert found == was
    assert first is not None


async def test_a_follower_with_a_time_waits_for_that_time_too(night):
    project = await night.farm.project()
    at_us = SystemClock().now_us() + HOUR_US
    first = await night.enqueue(project)
    await night.enqueue(project, after=(first.id,), not_before_us=at_us)
    running = await night.claim()
    done = Outcome(state=ExecutionState.COMPLETED, cause=Cause.OK)
    await night.do(lambda tx: work.end(tx, running.id, done))
    was, found, claimed = await night.lose(ORDERS)
    assert found == was
    assert found[0][1][2] == "not_before"
    assert claimed is None


async def test_a_parked_account_stays_parked_and_its_order_keeps_its_wish(night):
    project = await night.farm.project()
    await night.enqueue(project, account="one", on_usage_limit="resume")
    await night.fail(Cause.USAGE_LIMIT)
    await night.enqueue(project, account="one")
    was, found, first = await night.lose(ORDERS, "SELECT * FROM parked_accounts")
    assert found == was
    assert first is None


@pytest.mark.parametrize("is_all", [True, False])
async def test_what_was_paused_stays_paused(night, is_all):
    project = await night.farm.project()
    await night.enqueue(project)
    scope = None if is_all else project.id
    await night.do(lambda tx: queue.pause(tx, scope, reason="the night", **HOW))
    was, found, first = await night.lose("SELECT * FROM pauses")
    assert found == was
    assert first is None
    await night.do(lambda tx: queue.resume(tx, scope, now=False, **HOW))


async def test_what_was_resumed_is_not_paused_and_a_deleted_project_pauses_nothing(night):
    project = await night.farm.project()
    await night.do(lambda tx: queue.pause(tx, None, reason="", **HOW))
    await night.do(lambda tx: queue.resume(tx, None, now=False, **HOW))
    await night.do(lambda tx: queue.pause(tx, project.id, reason="", **HOW))
    await night.do(lambda tx: projects.delete(tx, project.id, **HOW))
    _, found, _ = await night.lose("SELECT * FROM pauses")
    assert found == [[]]


@pytest.mark.parametrize(("counts", "expected"), [((0,), 0), ((2, None), 3)])
async def test_as_many_workers_as_a_person_wanted(night, counts, expected):
    for count in counts:
        await night.do(lambda tx, n=count: workers.scale(tx, n, default=7, actor="user:t"))
    _, found, _ = await night.lose("SELECT count(*) FROM workers")
    assert found == [[(expected,)]]
