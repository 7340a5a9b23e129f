"""A database that was lost: what comes back from the log, and what one damaged stream may not take along."""

import msgspec

from hivectl.engine.rebuild import rebuild
from hivectl.kit.clock import SystemClock
from hivectl.kit.ids import make_id, make_uuid
from hivectl.model.project import Trust
from hivectl.store import leases, projects, work
from hivectl.store import sessions as session_table
from hivectl.store.attempts import Rules
from hivectl.store.database import Database
from hivectl.testing.processes import FakeMachine
from tests.unit.engine.test_runner import SESSION, Farm, plain
from tests.unit.engine.test_warm import talks


def wished(project, **changes):
    wish = {
        "order": make_id("o"), "execution": make_id("x"), "project": project, "prompt": "hi", "prompt_uuid": make_uuid(),
        "message": {"kind": "prompt", "raw": {"uuid": "u", "message": {"content": "hi"}}}, "session": "current", "fork": False,
        "options": {}, "priority": "normal", "actor": "u", "request": "r", "key": None, "hash": "", "refuse_if_busy": False,
        "max_orders": 9, "key_age_us": 1,
    }  # fmt: skip
    return work.Wish(**{**wish, **changes})


BOOK = (
    "SELECT day, execution, actor, input_tokens, output_tokens, cost_usd, active_ms, source FROM spend"
    " ORDER BY execution, source, input_tokens"
)


async def ran(farm, project):
    return await farm.ended((await farm.engine.submit(wished(project))).execution.id)


async def rebuilt(farm, path):
    db = await Database.open(path / "new.db", SystemClock())
    try:
        told = await rebuild(db, farm.journal)
        found = await db.all("SELECT * FROM projects ORDER BY name")
        executions = await db.all("SELECT * FROM executions ORDER BY id")
        sessions = await db.all("SELECT * FROM sessions")
        orders = await db.all("SELECT * FROM orders ORDER BY id")
        book = await db.all(BOOK)
    finally:
        await db.close()
    return told, found, executions, sessions, orders, book


async def test_totals_and_times_are_counted_again(tmp_path):
    async with Farm(tmp_path, FakeMachine(plain)).open() as farm:
        project = await farm.project()
        for _ in range(2):
            before = await ran(farm, project)
        was = await farm.db.write(lambda tx: projects.find(tx, project.id))
        book = await farm.db.all(BOOK)
        _, found, executions, sessions, _, told = await rebuilt(farm, tmp_path)
    assert [tuple(row) for row in told] == [tuple(row) for row in book]
    assert sum(row["cost_usd"] for row in book) == was.cost_usd > 0
    for name in ("executions", "input_tokens", "output_tokens", "cost_usd", "session"):
        assert found[0][name] == getattr(was, name), name
    assert was.executions == 2
    assert (sessions[0]["id"], sessions[0]["executions"]) == (SESSION, 2)
    assert executions[-1]["started_us"] == before.started_us


async def test_a_conversation_that_had_ended_comes_back_as_ended(tmp_path):
    async with Farm(tmp_path, FakeMachine(plain)).open() as farm:
        await ran(farm, await farm.project())
        await farm.db.write(lambda tx: session_table.end(tx, SESSION, actor="user:t", request="r"))
        _, _, _, [session], *_ = await rebuilt(farm, tmp_path)
        assert (session["state"], session["end_reason"]) == ("ended", "user")
        assert session["ended_us"] >= session["opened_us"] > 0


async def test_a_copy_comes_back_as_the_current_conversation_that_nobody_has_begun(tmp_path):
    async with Farm(tmp_path, FakeMachine(plain)).open() as farm:
        await ran(farm, await farm.project())
        new = make_uuid()
        await farm.db.write(
            lambda tx: session_table.fork(
                tx, SESSION, new=new, key=None, key_age_us=1, actor="user:t", request="r"
            )
        )
        _, [project], _, sessions, *_ = await rebuilt(farm, tmp_path)
        copy = next(row for row in sessions if row["id"] == new)
        assert project["session"] == new
        assert (copy["state"], copy["forked_from"]) == ("forked", SESSION)
        assert copy["last_execution"] is None


async def test_an_execution_on_a_warm_process_comes_back_with_that_process(tmp_path):
    async with Farm(tmp_path, FakeMachine(talks)).open(session__warm=True) as farm:
        project = await farm.project()
        first, second = await ran(farm, project), await ran(farm, project)
        assert first.process == second.process
        _, _, executions, *_ = await rebuilt(farm, tmp_path)
    assert [row["process"] for row in executions] == [first.process] * 2


async def test_a_project_whose_first_events_retention_took_comes_back_by_its_registration(tmp_path):
    farm = Farm(tmp_path, FakeMachine(plain))
    async with farm.open():
        project = await farm.project()
        await ran(farm, project)
        farm.journal.open(project.stream)._roll()
        ended = await ran(farm, project)
        assert farm.journal.prune(project.stream, most_bytes=1, most_age_s=None, is_trial=False)
    async with farm.open():
        _, found, executions, *_ = await rebuilt(farm, tmp_path)
    assert (found[0]["name"], found[0]["path"]) == ("web", project.path)
    assert [row["id"] for row in executions] == [ended.id]


async def test_one_stream_that_cannot_be_restored_is_told_and_the_others_come_back(tmp_path):
    async with Farm(tmp_path, FakeMachine(plain)).open() as farm:
        good = await farm.project()
        twin = msgspec.structs.replace(good, id=make_id("p"))
        await farm.db.write(
            lambda tx: tx.emit(twin.stream, "project.created", projects.brief(twin))
        )
        broken = make_id("p")
        await farm.db.write(lambda tx: tx.emit(f"project:{broken}", "project.created", {"id": "x"}))
        told, found, *_ = await rebuilt(farm, tmp_path)
    assert [row["name"] for row in found] == ["web"]
    assert sum("project:" in text for text in told.not_restored) == 2


async def test_trust_given_at_the_registration_and_a_fork_that_waits_come_back(tmp_path):
    async with Farm(tmp_path, FakeMachine(plain)).open() as farm:
        farm.engine.is_draining = True
        project = await farm.project()
        await farm.db.write(
            lambda tx: projects.update(
                tx, project.id, {"trust_hash": "h"}, version=None, actor="u", request="r"
            )
        )
        wish = wished(project, session=SESSION, fork=True)
        await farm.db.write(lambda tx: work.enqueue(tx, wish))
        changed = await farm.db.write(lambda tx: projects.find(tx, project.id))
        _, found, _, _, orders, _ = await rebuilt(farm, tmp_path)
    assert (changed.trust, found[0]["trust_hash"]) == (Trust.TRUSTED, "h")
    assert (orders[0]["fork"], orders[0]["session"]) == (1, SESSION)


async def test_work_for_workers_outside_comes_back_in_its_pool_and_carried_by_nobody(tmp_path):
    async with Farm(tmp_path, FakeMachine(plain)).open() as farm:
        project = await farm.project()
        outside = farm.engine.outside
        new = leases.Newcomer(
            name="ada", pools=("words",), lease_s=30.0, actor="u", request="r", limit=1
        )
        worker, _ = await outside.register(new)
        wish = wished(project, pool="words", is_idempotent=True, retries=0)
        await farm.engine.submit(wish)
        assert (await outside.claim(worker.id, actor="u", wait_s=2)) is not None
        _, _, [execution], _, [order], _ = await rebuilt(farm, tmp_path)
        assert (execution["state"], execution["process"]) == ("running", None)
        assert (order["pool"], order["lane"]) == ("words", f"{project.id}@words")
        assert order["is_idempotent"] == 1
        db = await Database.open(tmp_path / "new.db", SystemClock())
        try:
            await db.write(lambda tx: leases.lapse(tx, Rules(), alive=[], grace=True))
            ended = await db.write(lambda tx: work.find(tx, wish.execution))
            again = await db.write(lambda tx: work.find_order(tx, wish.order))
        finally:
            await db.close()
        assert (ended.state, ended.cause) == ("lost", "lease")
        assert (again.state, again.attempt) == ("queued", 2)
