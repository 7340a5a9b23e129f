"""Workers outside in SQL: leases, fencing, caps, and what becomes of work whose worker is lost."""

import pytest

from hivectl.kit.clock import FakeClock
from hivectl.kit.ids import make_id, make_uuid
from hivectl.logic.retry import Backoff
from hivectl.model.errors import HiveError
from hivectl.model.project import Project, ProjectState
from hivectl.model.work import Cause, ExecutionState, OrderState, Outcome, Usage
from hivectl.store import leases, projects, queue, work, workers
from hivectl.store.attempts import Rules
from hivectl.store.database import Database
from hivectl.store.moves import find_order

ME = "user:t"
RULES = Rules(backoff=Backoff(base_s=1.0, max_s=10.0))
DONE = Outcome(state=ExecutionState.COMPLETED, cause=Cause.OK, result="done")


class Bench:
    def __init__(self, db, clock):
        self.db, self.clock = db, clock

    async def project(self, name="web"):
        p = Project(
            id=make_id("p"), name=name, path=f"/srv/{name}", dev=1, ino=hash(name) % 1000, trust_hash=None, trust_broken=False,
            defaults={}, env={}, version=1, session=None, state=ProjectState.IDLE, error=None, executions=0, input_tokens=0,
            output_tokens=0, cost_usd=0.0, created_us=self.clock.now_us(), activity_us=self.clock.now_us(),
        )  # fmt: skip
        await self.db.write(
            lambda tx: projects.insert(tx, p, limit=100, actor="user:t", request="r")
        )
        return p

    async def enqueue(self, project, prompt="hi", **changes):
        wish = {
            "order": make_id("o"), "execution": make_id("x"), "project": project, "prompt": prompt, "prompt_uuid": make_uuid(),
            "message": {"kind": "prompt"}, "session": "current", "fork": False, "options": {}, "priority": "normal", "actor": "user:t",
            "request": "r", "key": None, "hash": prompt, "refuse_if_busy": False, "max_orders": 1000, "key_age_us": 86_400_000_000,
            "pool": "external",
        } | changes  # fmt: skip
        self.clock.advance(0.001)
        execution, _ = await self.db.write(lambda tx: work.enqueue(tx, work.Wish(**wish)))
        return execution

    async def register(self, name="ada", pools=("external",), lease_s=30.0, limit=10, actor=ME):
        new = leases.Newcomer(
            name=name, pools=pools, lease_s=lease_s, actor=actor, request="r", limit=limit
        )
        worker, self.lost = await self.db.write(lambda tx: leases.register(tx, new, RULES))
        return worker

    async def give(self, *ids, **caps):
        caps = queue.Caps(**({"max_live": 10} | caps))
        return await self.db.write(lambda tx: leases.give(tx, ids, caps))

    async def claim(self, worker, **caps):
        return (await self.give(worker.id, **caps)).get(worker.id)

    async def local(self):
        caps = queue.Caps(max_live=10)
        claimed = await self.db.write(lambda tx: queue.claim(tx, caps, process=make_id("pr")))
        return claimed.execution if claimed is not None else None

    async def lapse(self, alive=(), grace=False):
        return await self.db.write(
            lambda tx: leases.lapse(tx, RULES, alive=list(alive), grace=grace)
        )

    async def renew(self, worker):
        return await self.db.write(lambda tx: leases.renew(tx, worker.id, actor=ME))

    async def beat(self, worker, timeout_s=60.0, **said):
        said = {"fault": None, "leaves": False} | said
        return await self.db.write(
            lambda tx: leases.beat(tx, worker.id, actor=ME, timeout_s=timeout_s, **said)
        )

    async def finish(self, worker, execution, outcome=DONE):
        return await self.db.write(
            lambda tx: leases.finish(tx, worker.id, execution.id, outcome, RULES, actor=ME)
        )

    async def post(self, execution, first, *texts, max_bytes=1000):
        messages = [({"kind": "assistant", "text": text}, len(text)) for text in texts]
        return await self.db.write(
            lambda tx: leases.post(tx, execution, first, messages, max_bytes=max_bytes)
        )

    async def find(self, execution):
        return await self.db.write(lambda tx: work.find(tx, execution.id))

    async def order(self, execution):
        return await self.db.write(lambda tx: find_order(tx, execution.order_id))

    async def attempts(self, execution):
        row = await self.db.one(
            "SELECT count(*) FROM executions WHERE order_id = ?", execution.order_id
        )
        return row[0]

    async def events(self, type_):
        return [
            row["data"]
            for row in await self.db.all("SELECT data FROM outbox WHERE type = ?", type_)
        ]


@pytest.fixture
async def bench(tmp_path):
    clock = FakeClock()
    db = await Database.open(tmp_path / "hive.db", clock)
    await db.write(lambda tx: workers.sync_slots(tx, default=4))
    yield Bench(db, clock)
    await db.close()


async def refused(doing):
    with pytest.raises(HiveError) as caught:
        await doing
    return caught.value


async def test_two_workers_that_claim_at_once_get_different_orders(bench):
    first = await bench.enqueue(await bench.project("a"))
    second = await bench.enqueue(await bench.project("b"))
    ada, bob = await bench.register("ada"), await bench.register("bob")
    given = await bench.give(ada.id, bob.id)
    assert [given[ada.id].id, given[bob.id].id] == [first.id, second.id]
    assert given[ada.id].state is ExecutionState.RUNNING
    assert given[ada.id].process is None
    assert given[ada.id].worker == "ada"


async def test_one_runs_at_a_time_in_a_project_and_pool_beside_the_projects_own_runs(bench):
    project = await bench.project()
    ours = await bench.enqueue(project, pool="claude")
    outside = await bench.enqueue(project)
    await bench.enqueue(project)
    ada, bob = await bench.register("ada"), await bench.register("bob")
    assert (await bench.local()).id == ours.id
    assert (await bench.claim(ada)).id == outside.id
    assert await bench.claim(bob) is None


async def test_local_slots_leave_the_work_of_other_pools_alone(bench):
    await bench.enqueue(await bench.project())
    assert await bench.local() is None


async def test_the_best_of_all_its_pools_comes_first(bench):
    project = await bench.project()
    low = await bench.enqueue(project, pool="slow", priority="low")
    high = await bench.enqueue(project, pool="quick", priority="high")
    worker = await bench.register(pools=("slow", "quick"))
    assert (await bench.claim(worker)).id == high.id
    await bench.finish(worker, high)
    assert (await bench.claim(worker)).id == low.id


async def test_a_claim_whose_answer_was_lost_gives_the_same_again(bench):
    project = await bench.project()
    await bench.enqueue(project)
    await bench.enqueue(await bench.project("other"))
    worker = await bench.register()
    first = await bench.claim(worker)
    assert (await bench.claim(worker)).id == first.id


@pytest.mark.parametrize(
    "caps",
    [{"max_live": 1}, {"max_live": 10, "per_user": 1}, {"max_live": 10, "only_resume": True}],
    ids=["global", "per user", "draining"],
)
async def test_the_caps_of_the_queue_hold_for_workers_outside(bench, caps):
    for name in ("a", "b"):
        await bench.enqueue(await bench.project(name))
    ada, bob = await bench.register("ada"), await bench.register("bob")
    if not caps.get("only_resume"):
        assert await bench.claim(ada, **caps) is not None
    assert await bench.claim(bob, **caps) is None


async def test_a_pause_and_a_drained_worker_get_nothing(bench):
    project = await bench.project()
    await bench.enqueue(project)
    worker = await bench.register()
    await bench.db.write(lambda tx: queue.pause(tx, project.id, reason="", actor=ME, request="r"))
    assert await bench.claim(worker) is None
    await bench.db.write(lambda tx: queue.resume(tx, project.id, now=False, actor=ME, request="r"))
    await bench.beat(worker, leaves=True)
    assert await bench.claim(worker) is None
    await bench.db.write(
        lambda tx: workers.set_draining(tx, worker.name, is_draining=False, actor=ME)
    )
    assert await bench.claim(worker) is not None


async def test_without_retries_what_a_silent_worker_carried_is_lost_and_failed(bench):
    execution = await bench.enqueue(await bench.project())
    worker = await bench.register()
    await bench.claim(worker)
    bench.clock.advance(29.9)
    assert (await bench.lapse())[0] == []
    bench.clock.advance(0.2)
    lapsed, following = await bench.lapse()
    assert [one.name for one in lapsed] == ["ada"]
    assert following is None
    ended = await bench.find(execution)
    assert (ended.state, ended.cause) == (ExecutionState.LOST, Cause.LEASE)
    assert (await bench.order(execution)).state is OrderState.FAILED
    assert await bench.attempts(execution) == 1
    assert b'"offline"' in (await bench.events("worker.state"))[-1]


@pytest.mark.parametrize("wish", [{"retries": 3}, {"is_idempotent": True}], ids=["retries", "idempotent"])  # fmt: skip
async def test_it_is_queued_again_once_and_only_once(bench, wish):
    execution = await bench.enqueue(await bench.project(), **wish)
    worker = await bench.register()
    await bench.claim(worker)
    bench.clock.advance(31)
    await bench.lapse()
    await bench.lapse()
    assert (await bench.order(execution)).state is OrderState.QUEUED
    assert await bench.attempts(execution) == 2


async def test_idempotent_work_is_not_tried_for_ever(bench):
    execution = await bench.enqueue(await bench.project(), is_idempotent=True)
    worker = await bench.register()
    for _ in range(2):
        bench.clock.advance(5)
        await bench.db.write(queue.release_due)
        await bench.renew(worker)
        assert await bench.claim(worker) is not None
        bench.clock.advance(31)
        await bench.lapse()
    assert (await bench.order(execution)).state is OrderState.DEAD


async def test_a_late_finisher_is_refused_and_its_result_dropped(bench):
    execution = await bench.enqueue(await bench.project(), retries=1)
    late, quick = await bench.register("late"), await bench.register("quick")
    await bench.claim(late)
    bench.clock.advance(31)
    await bench.renew(quick)
    await bench.lapse()
    error = await refused(bench.finish(late, execution))
    assert error.code == "LEASE_LOST"
    assert error.details["state"] == "lost"
    bench.clock.advance(5)
    await bench.db.write(queue.release_due)
    second = await bench.claim(quick)
    assert second.attempt == 2
    assert (await refused(bench.finish(late, second))).code == "LEASE_LOST"
    assert (await bench.finish(quick, second)).state is ExecutionState.COMPLETED
    assert (await bench.find(execution)).result is None


async def test_a_finish_that_is_said_again_changes_nothing(bench):
    execution = await bench.enqueue(await bench.project())
    worker = await bench.register()
    await bench.claim(worker)
    await bench.finish(worker, execution)
    again = await bench.finish(
        worker, execution, Outcome(state=ExecutionState.FAILED, cause=Cause.CLAUDE_ERROR)
    )
    assert (again.state, again.result) == (ExecutionState.COMPLETED, "done")
    assert len(await bench.events("execution.ended")) == 1


async def test_a_worker_that_starts_anew_takes_over_its_name_and_has_lost_its_work(bench):
    execution = await bench.enqueue(await bench.project(), retries=1)
    before = await bench.register()
    await bench.claim(before)
    after = await bench.register()
    assert bench.lost == execution.id
    assert after.id != before.id
    assert (await bench.find(execution)).cause == Cause.LEASE
    assert (await refused(bench.finish(before, execution))).code == "LEASE_LOST"
    assert (await refused(bench.renew(before))).code == "WORKER_NOT_FOUND"


async def test_the_name_of_another_or_of_a_slot_is_refused(bench):
    await bench.register("ada")
    assert (await refused(bench.register("ada", actor="user:eve"))).code == "FORBIDDEN"
    assert (await refused(bench.register("slot-1"))).code == "INVALID_PARAMS"
    assert (await refused(bench.register("slot-900"))).code == "INVALID_PARAMS"


async def test_whoever_has_been_offline_for_the_longest_makes_room_for_one_more_than_allowed(bench):
    old = await bench.register("old", limit=2)
    await bench.register("new", limit=2, lease_s=90)
    error = await refused(bench.register("more", limit=2))
    assert (error.code, error.details["limit"]) == ("RESOURCE_LIMIT", "worker.max_external")
    bench.clock.advance(31)
    await bench.lapse()
    await bench.register("more", limit=2)
    assert (await refused(bench.renew(old))).code == "WORKER_NOT_FOUND"


async def test_after_a_start_or_a_leap_of_the_clock_every_lease_begins_anew(bench):
    execution = await bench.enqueue(await bench.project())
    worker = await bench.register()
    await bench.claim(worker)
    bench.clock.advance(3600)
    lapsed, following = await bench.lapse(grace=True)
    assert lapsed == []
    assert following == bench.clock.now_us() + 30_000_000
    assert (await bench.finish(worker, execution)).state is ExecutionState.COMPLETED


async def test_work_whose_worker_went_with_a_lost_database_is_lost(bench):
    execution = await bench.enqueue(await bench.project(), retries=1)
    worker = await bench.register()
    await bench.claim(worker)
    await bench.db.write(lambda tx: tx.run("DELETE FROM workers WHERE id = ?", worker.id))
    await bench.lapse(grace=True)
    assert (await bench.find(execution)).state is ExecutionState.LOST
    assert (await bench.order(execution)).state is OrderState.QUEUED


async def test_a_worker_on_an_open_claim_is_alive(bench):
    worker = await bench.register()
    bench.clock.advance(31)
    assert (await bench.lapse(alive=[worker.id]))[0] == []


async def test_one_that_was_offline_and_is_heard_of_again_is_online_with_nothing(bench):
    await bench.enqueue(await bench.project())
    worker = await bench.register()
    await bench.claim(worker)
    bench.clock.advance(31)
    await bench.lapse()
    renewed = await bench.renew(worker)
    assert (renewed.is_offline, renewed.execution) == (False, None)
    assert b'"idle"' in (await bench.events("worker.state"))[-1]


async def test_what_outlives_its_time_is_to_be_stopped_and_ends_as_timed_out(bench):
    execution = await bench.enqueue(await bench.project())
    worker = await bench.register()
    await bench.claim(worker)
    bench.clock.advance(20)
    assert (await bench.beat(worker))[1].stop_mode is None
    for _ in range(2):
        bench.clock.advance(25)
        _, carried = await bench.beat(worker)
    assert carried.stop_mode == "terminate"
    ended = await bench.finish(worker, execution)
    assert (ended.state, ended.result) == (ExecutionState.TIMED_OUT, "done")


async def test_what_was_to_be_stopped_is_cancelled_however_its_worker_ends_it(bench):
    executions = [await bench.enqueue(await bench.project(name), retries=2) for name in "abc"]
    ada, bob, eve = [await bench.register(name) for name in ("ada", "bob", "eve")]
    await bench.give(ada.id, bob.id, eve.id)
    for execution in executions:
        await bench.db.write(
            lambda tx, id_=execution.id: work.want_stop(
                tx, id_, mode="terminate", reason="user", by=ME, note="No more."
            )
        )
    await bench.finish(ada, executions[0])
    await bench.finish(
        bob, executions[1], Outcome(state=ExecutionState.FAILED, cause=Cause.CLAUDE_ERROR)
    )
    bench.clock.advance(31)
    await bench.lapse()
    for execution in executions:
        ended = await bench.find(execution)
        assert (ended.state, ended.message) == (ExecutionState.CANCELLED, "No more.")
        assert (await bench.order(execution)).state is OrderState.CANCELLED


async def test_a_failure_that_is_final_is_not_tried_again(bench):
    execution = await bench.enqueue(await bench.project(), retries=5)
    worker = await bench.register()
    await bench.claim(worker)
    outcome = Outcome(
        state=ExecutionState.FAILED, cause=Cause.CLAUDE_ERROR, message="no such file", is_final=True
    )
    await bench.finish(worker, execution, outcome)
    assert (await bench.order(execution)).state is OrderState.FAILED
    assert await bench.attempts(execution) == 1


async def test_messages_said_again_are_in_the_log_once_and_gaps_are_refused(bench):
    execution = await bench.enqueue(await bench.project())
    worker = await bench.register()
    running = await bench.claim(worker)
    assert await bench.post(running, 0, "one", "two") == (2, False)
    assert await bench.post(running, 1, "two", "three") == (3, False)
    assert await bench.post(running, 0, "one") == (3, False)
    error = await refused(bench.post(running, 5, "six"))
    assert (error.code, error.details) == ("INVALID_STATE", {"next": 3})
    said = [data for data in await bench.events("message") if b'"text"' in data]
    assert len(said) == 3
    assert (await bench.post(execution, 3, "x" * 990))[1] is True


async def test_waiting_for_a_person_keeps_the_worker_and_frees_its_place(bench):
    execution = await bench.enqueue(await bench.project("a"))
    other = await bench.enqueue(await bench.project("b"))
    ada, bob = await bench.register("ada"), await bench.register("bob")
    await bench.claim(ada)
    assert await bench.claim(bob, max_live=1) is None
    await bench.db.write(lambda tx: work.wait_for_person(tx, execution.id))
    assert (await bench.renew(ada)).execution == execution.id
    assert (await bench.claim(bob, max_live=1)).id == other.id
    bench.clock.advance(10)
    went_on = await bench.db.write(lambda tx: work.go_on(tx, execution.id))
    assert (went_on.state, went_on.wants_slot) == (ExecutionState.RUNNING, None)
    assert went_on.waited_us == 10_000_000
    assert went_on.worker == "ada"


async def test_a_start_keeps_what_workers_outside_carry_also_while_it_waits(bench):
    execution = await bench.enqueue(await bench.project())
    worker = await bench.register()
    await bench.claim(worker)
    await bench.db.write(lambda tx: work.wait_for_person(tx, execution.id))
    await bench.db.write(lambda tx: workers.mend(tx, default=4))
    assert (await bench.renew(worker)).execution == execution.id


async def test_what_it_used_is_in_the_book(bench):
    project = await bench.project()
    execution = await bench.enqueue(project)
    worker = await bench.register()
    await bench.claim(worker)
    used = Usage(input_tokens=10, output_tokens=5, cost_usd=0.25)
    outcome = Outcome(state=ExecutionState.COMPLETED, cause=Cause.OK, usage=used)
    ended = await bench.finish(worker, execution, outcome)
    assert (ended.usage["input_tokens"], ended.cost_usd) == (10, 0.25)
    row = await bench.db.one(
        "SELECT total(cost_usd) AS usd FROM spend WHERE project = ?", project.id
    )
    assert row["usd"] == 0.25


async def test_one_that_leaves_has_lost_what_it_carried(bench):
    execution = await bench.enqueue(await bench.project())
    worker = await bench.register()
    await bench.claim(worker)
    gone, lost = await bench.db.write(
        lambda tx: leases.deregister(tx, worker.id, RULES, actor=ME, request="r")
    )
    assert (gone.name, lost) == ("ada", execution.id)
    assert (await bench.find(execution)).state is ExecutionState.LOST


async def test_a_fault_is_told_and_taken_back(bench):
    worker = await bench.register()
    assert (await bench.beat(worker, fault="no disk"))[0].fault == "no disk"
    assert b'"error"' in (await bench.events("worker.state"))[-1]
    assert (await bench.beat(worker, fault=""))[0].fault is None


async def test_how_many_serve_a_pool(bench):
    await bench.enqueue(await bench.project())
    await bench.register("ada")
    bob = await bench.register("bob")
    await bench.claim(bob)
    assert await bench.db.write(lambda tx: leases.serving(tx, "external")) == (2, 1)
    assert await bench.db.write(lambda tx: leases.serving(tx, "other")) == (0, 0)


async def test_a_worker_whose_project_was_deleted_is_free(bench):
    execution = await bench.enqueue(await bench.project())
    worker = await bench.register()
    await bench.claim(worker)
    await bench.db.write(lambda tx: tx.run("DELETE FROM executions WHERE id = ?", execution.id))
    assert (await bench.renew(worker)).execution is None
    assert (await refused(bench.finish(worker, execution))).code == "LEASE_LOST"
