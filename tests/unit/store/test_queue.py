"""The queue: who is next, what holds whom back, what becomes of what failed, and what people do to it."""

import itertools

import pytest

from hivectl.kit.ids import make_id
from hivectl.logic.retry import Backoff
from hivectl.model.approval import Approval, ApprovalState
from hivectl.model.errors import HiveError
from hivectl.model.work import Cause, ExecutionState, Hold, OrderState, Outcome
from hivectl.store import attempts, lanes, moves, people, projects, queue, work, workers
from tests.unit.store.test_work import bench

__all__ = ["bench"]
HOUR_S = 3600


def asked(execution):
    """What Claude asks in an execution."""
    return Approval(
        id=make_id("a"), execution=execution.id, project=execution.project, request=make_id("q"), kind="permission",
        tool="Bash", input={"command": "ls"}, description="", suggestions=[], state=ApprovalState.PENDING, version=1,
        decision=None, answer=None, message="", decided_by=None, is_delivered=False, created_us=0, decided_us=None,
    )  # fmt: skip


RULES = attempts.Rules(backoff=Backoff(base_s=10, max_s=40))


async def order(bench, ref):
    return await bench.db.write(lambda tx: moves.find_order(tx, getattr(ref, "order_id", ref)))


async def claim(bench, **caps):
    caps = queue.Caps(**({"max_live": 10} | caps))

    def turn(tx):
        queue.release_due(tx)
        return queue.claim(tx, caps, process=make_id("pr"))

    return await bench.db.write(turn)


async def fail(bench, execution, cause=Cause.API_ERROR, *, rules=RULES, **fields):
    outcome = Outcome(state=ExecutionState.FAILED, cause=cause, message="it broke", **fields)
    return await bench.db.write(lambda tx: work.end(tx, execution.id, outcome, rules=rules))


async def ask(bench, execution):
    def change(tx):
        approval = people.request(tx, asked(execution))
        work.started(tx, execution.id, pid=1)
        work.wait_for_person(tx, execution.id)
        return approval

    return await bench.db.write(change)


async def answer(bench, approval):
    def change(tx):
        people.decide(
            tx, approval.id, version=None, decision="allow", answer={"allow": True}, message="", by="user:t"
        )  # fmt: skip
        return work.go_on(tx, approval.execution)

    return await bench.db.write(change)


# --- retries ---------------------------------------------------------------------------------------


async def test_a_failure_is_tried_again_with_growing_pauses_and_then_is_dead(bench):
    first, _ = await bench.enqueue(await bench.project(), retries=2)
    pauses = []
    for attempt in (1, 2):
        running = (await claim(bench)).execution
        assert running.attempt == attempt
        await fail(bench, running)
        held = await order(bench, first)
        assert (held.state, held.hold, held.retry_count) == (OrderState.QUEUED, Hold.RETRY, attempt)
        pauses.append((held.not_before_us - bench.clock.now_us()) / 1e6)
        assert await claim(bench) is None
        bench.clock.advance(pauses[-1] + 0.001)
    assert 10 <= pauses[0] <= 12.5
    assert 20 <= pauses[1] <= 25
    await fail(bench, (await claim(bench)).execution)
    dead = await order(bench, first)
    assert (dead.state, dead.message) == (OrderState.DEAD, "it broke")


async def test_each_attempt_is_an_execution_of_its_own_and_of_the_same_order(bench):
    first, _ = await bench.enqueue(await bench.project(), retries=1)
    await fail(bench, (await claim(bench)).execution)
    second = await bench.db.write(lambda tx: moves.find(tx, first.order_id))
    assert second.id != first.id
    assert (second.order_id, second.attempt, second.state) == (
        first.order_id,
        2,
        ExecutionState.PENDING,
    )


@pytest.mark.parametrize("cause", [Cause.AUTH, Cause.MAX_TURNS, Cause.BUDGET, Cause.OUTPUT_LIMIT])
async def test_what_another_attempt_cannot_mend_is_not_tried_again(bench, cause):
    first, _ = await bench.enqueue(await bench.project(), retries=5)
    await fail(bench, (await claim(bench)).execution, cause)
    assert (await order(bench, first)).state is OrderState.FAILED


async def test_what_a_person_stopped_is_not_tried_again(bench):
    first, _ = await bench.enqueue(await bench.project(), retries=5)
    running = (await claim(bench)).execution
    stopped = Outcome(state=ExecutionState.CANCELLED, cause=Cause.KILLED)
    await bench.db.write(lambda tx: work.end(tx, running.id, stopped, rules=RULES))
    assert (await order(bench, first)).state is OrderState.CANCELLED


async def test_a_lost_run_without_retries_fails_and_an_idempotent_one_goes_once_more(bench):
    project = await bench.project()
    lost = Outcome(state=ExecutionState.LOST, cause=Cause.SHIM_LOST)
    plain, _ = await bench.enqueue(project)
    running = (await claim(bench)).execution
    await bench.db.write(lambda tx: work.end(tx, running.id, lost, rules=RULES))
    assert (await order(bench, plain)).state is OrderState.FAILED
    safe, _ = await bench.enqueue(project, is_idempotent=True)
    for expected in (OrderState.QUEUED, OrderState.DEAD):
        running = (await claim(bench)).execution
        await bench.db.write(lambda tx, id_=running.id: work.end(tx, id_, lost, rules=RULES))
        assert (await order(bench, safe)).state is expected
        bench.clock.advance(60)


async def test_a_dead_order_is_queued_again_by_a_person_with_all_its_retries(bench):
    first, _ = await bench.enqueue(await bench.project(), retries=1)
    for _ in range(2):
        await fail(bench, (await claim(bench)).execution)
        bench.clock.advance(60)
    assert (await order(bench, first)).state is OrderState.DEAD
    again = await bench.db.write(lambda tx: queue.retry(tx, first.order_id, actor="user:t"))
    assert (again.attempt, (await order(bench, first)).retry_count) == (3, 0)
    assert (await claim(bench)).execution.id == again.id


async def test_a_retry_that_waits_can_be_started_now(bench):
    first, _ = await bench.enqueue(await bench.project(), retries=1)
    await fail(bench, (await claim(bench)).execution)
    assert await claim(bench) is None
    await bench.db.write(lambda tx: queue.retry(tx, first.id, actor="user:t"))
    assert (await claim(bench)).execution.attempt == 2


async def test_what_is_done_or_runs_cannot_be_retried(bench):
    first, _ = await bench.enqueue(await bench.project())
    running = (await claim(bench)).execution
    with pytest.raises(HiveError, match="claimed"):
        await bench.db.write(lambda tx: queue.retry(tx, first.order_id, actor="user:t"))
    await bench.end(running)
    with pytest.raises(HiveError, match="completed"):
        await bench.db.write(lambda tx: queue.retry(tx, first.order_id, actor="user:t"))


async def test_a_retry_continues_the_conversation_claude_had_begun(bench):
    first, _ = await bench.enqueue(await bench.project(), retries=1, session="new")
    running = (await claim(bench)).execution

    def begin(tx):
        work.name_session(tx, running.id, "s-1", "opus")
        from hivectl.store import projects

        projects.see_session(
            tx, running.project, "s-1", model="opus", version="2", execution=running.id, resumed=False
        )  # fmt: skip

    await bench.db.write(begin)
    await fail(bench, running)
    assert (await order(bench, first)).session == "s-1"


# --- dependencies and times ------------------------------------------------------------------------


async def test_a_follower_starts_only_when_what_it_follows_is_completed(bench):
    first, _ = await bench.enqueue(await bench.project("a"))
    follower, _ = await bench.enqueue(await bench.project("b"), after=(first.order_id,))
    assert (await order(bench, follower)).hold is Hold.AFTER
    running = (await claim(bench)).execution
    assert await claim(bench) is None
    await bench.end(running)
    assert (await claim(bench)).execution.id == follower.id


async def test_a_chain_behind_a_failure_is_cancelled_whole_and_says_why(bench):
    project = await bench.project()
    chain = [(await bench.enqueue(project))[0]]
    for _ in range(50):
        chain.append((await bench.enqueue(project, after=(chain[-1].id,)))[0])
    await fail(bench, (await claim(bench)).execution)
    for earlier, later in itertools.pairwise(chain):
        found = await order(bench, later)
        assert found.state is OrderState.CANCELLED
        assert found.message.startswith(f"{earlier.order_id}, which it was to follow, is ")


async def test_after_any_goes_on_behind_a_failure(bench):
    project = await bench.project()
    first, _ = await bench.enqueue(project)
    follower, _ = await bench.enqueue(project, after_any=(first.order_id,))
    await fail(bench, (await claim(bench)).execution)
    assert (await claim(bench)).execution.id == follower.id


async def test_nothing_can_follow_what_has_failed_already(bench):
    project = await bench.project()
    first, _ = await bench.enqueue(project)
    await fail(bench, (await claim(bench)).execution)
    with pytest.raises(HiveError) as caught:
        await bench.enqueue(project, after=(first.order_id,))
    assert caught.value.code == "INVALID_STATE"
    with pytest.raises(HiveError) as caught:
        await bench.enqueue(project, after=("o_nowhere",))
    assert caught.value.code == "WORK_ORDER_NOT_FOUND"
    assert len(await bench.db.all("SELECT 1 FROM orders")) == 1


async def test_a_follower_of_something_done_waits_for_nothing(bench):
    project = await bench.project()
    first, _ = await bench.enqueue(project)
    await bench.end((await claim(bench)).execution)
    follower, _ = await bench.enqueue(project, after=(first.order_id,))
    assert (await order(bench, follower)).hold is None


async def test_not_before_holds_until_then_and_tells_when_to_look_again(bench):
    project = await bench.project()
    at_us = bench.clock.now_us() + HOUR_S * 1_000_000
    late, _ = await bench.enqueue(project, not_before_us=at_us)
    other, _ = await bench.enqueue(project)
    assert await bench.db.write(queue.release_due) == at_us
    running = (await claim(bench)).execution
    assert running.id == other.id, "a later order of the lane overtakes one that is held back"
    await bench.end(running)
    assert await claim(bench) is None
    bench.clock.advance(HOUR_S)
    assert (await claim(bench)).execution.id == late.id
    assert await bench.db.write(queue.release_due) is None


# --- usage limits ----------------------------------------------------------------------------------


async def limited(bench, running, *, in_s=HOUR_S, mode="park", most=5):
    now_s = bench.clock.now_us() // 1_000_000
    rules = attempts.Rules(on_usage_limit=mode, max_resumptions=most)
    return await fail(bench, running, Cause.USAGE_LIMIT, rules=rules, resets_at=now_s + in_s)


async def test_a_usage_limit_parks_the_account_until_it_ends_and_others_go_on(bench):
    a, b, c = [await bench.project(name) for name in "abc"]
    first, _ = await bench.enqueue(a, account="one")
    await limited(bench, (await claim(bench)).execution)
    same, _ = await bench.enqueue(b, account="one")
    other, _ = await bench.enqueue(c, account="two")
    assert (await claim(bench)).execution.id == other.id
    assert await claim(bench) is None
    bench.clock.advance(HOUR_S + 1)
    assert (await claim(bench)).execution.id == same.id
    held = await order(bench, first)
    assert (held.state, held.hold) == (OrderState.QUEUED, Hold.USAGE_LIMIT), "kept for a person"
    assert "usage_limit.cleared" in await bench.events()


async def test_resume_takes_the_interrupted_work_up_by_itself_but_not_for_ever(bench):
    first, _ = await bench.enqueue(await bench.project(), account="one")
    for _ in range(2):
        await limited(bench, (await claim(bench)).execution, mode="resume", most=2)
        assert await claim(bench) is None
        bench.clock.advance(HOUR_S + 1)
    await limited(bench, (await claim(bench)).execution, mode="resume", most=2)
    bench.clock.advance(HOUR_S + 1)
    assert await claim(bench) is None
    held = await order(bench, first)
    assert (held.hold, held.resumptions) == (Hold.USAGE_LIMIT, 2)
    assert "queue.max_resumptions" in held.message


async def test_an_order_may_wish_to_fail_and_then_nothing_is_parked(bench):
    first, _ = await bench.enqueue(await bench.project("a"), account="one", on_usage_limit="fail")
    await limited(bench, (await claim(bench)).execution)
    assert (await order(bench, first)).state is OrderState.FAILED
    other, _ = await bench.enqueue(await bench.project("b"), account="one")
    assert (await claim(bench)).execution.id == other.id


async def test_resume_now_does_not_wait_for_the_limit(bench):
    first, _ = await bench.enqueue(await bench.project(), account="one")
    await limited(bench, (await claim(bench)).execution)
    how = {"actor": "user:t", "request": "r"}
    assert await bench.db.write(lambda tx: queue.resume(tx, None, now=False, **how)) == (1, [])
    assert await claim(bench) is None, "without --now the limit itself still holds"
    await bench.db.write(lambda tx: queue.resume(tx, None, now=True, **how))
    assert (await claim(bench)).execution.order_id == first.order_id


async def test_work_stopped_by_a_limit_can_be_cancelled(bench):
    first, _ = await bench.enqueue(await bench.project(), account="one")
    await limited(bench, (await claim(bench)).execution, mode="resume")
    await bench.db.write(lambda tx: queue.cancel(tx, first.order_id, message="", actor="user:t"))
    bench.clock.advance(2 * HOUR_S)
    assert await claim(bench) is None


async def test_a_limit_without_a_time_is_looked_at_again(bench):
    await bench.enqueue(await bench.project("a"), account="one")
    await fail(bench, (await claim(bench)).execution, Cause.USAGE_LIMIT)
    parked = await bench.db.one("SELECT until_us, is_known FROM parked_accounts")
    assert parked["until_us"] - bench.clock.now_us() == HOUR_S * 1_000_000
    assert not parked["is_known"]


async def test_what_claude_says_of_a_limit_counts_more_than_what_was_guessed(bench):
    await bench.enqueue(await bench.project("a"), account="one")
    await bench.enqueue(await bench.project("b"), account="one")
    await bench.enqueue(await bench.project("c"), account="one")
    first, second, third = [(await claim(bench)).execution for _ in range(3)]
    await fail(bench, first, Cause.USAGE_LIMIT)
    for execution, minutes, expected in ((second, 10, 10), (third, None, 10)):
        resets = minutes and bench.clock.now_us() // 1_000_000 + minutes * 60
        await fail(bench, execution, Cause.USAGE_LIMIT, resets_at=resets)
        parked = await bench.db.one("SELECT until_us, is_known FROM parked_accounts")
        assert round((parked["until_us"] - bench.clock.now_us()) / 60_000_000) == expected
        assert parked["is_known"]


# --- waiting gives the slot back -------------------------------------------------------------------


async def test_with_one_slot_a_second_run_starts_while_the_first_waits_for_a_person(bench):
    await bench.db.write(lambda tx: workers.scale(tx, 1, default=10, actor="user:t"))
    a, b = await bench.project("a"), await bench.project("b")
    first, _ = await bench.enqueue(a)
    second, _ = await bench.enqueue(b)
    running = (await claim(bench)).execution
    assert await claim(bench) is None
    approval = await ask(bench, running)
    assert (await claim(bench)).execution.id == second.id
    waiting = await answer(bench, approval)
    assert waiting.state is ExecutionState.WAITING, "answered, and no slot is free"
    assert await claim(bench) is None
    await bench.end(await bench.db.write(lambda tx: moves.find(tx, second.id)))
    resumed = await claim(bench)
    assert (resumed.execution.id, resumed.is_resumed) == (first.id, True)
    assert resumed.execution.state is ExecutionState.RUNNING


async def test_an_answered_run_goes_before_what_was_queued_meanwhile_but_not_before_a_higher_priority(
    bench,
):
    await bench.db.write(lambda tx: workers.scale(tx, 1, default=10, actor="user:t"))
    names = iter("abcde")
    await bench.enqueue(await bench.project(next(names)))
    approval = await ask(bench, (await claim(bench)).execution)
    blocking, _ = await bench.enqueue(await bench.project(next(names)))
    blocker = (await claim(bench)).execution
    high, _ = await bench.enqueue(await bench.project(next(names)), priority="high")
    normal, _ = await bench.enqueue(await bench.project(next(names)))
    await answer(bench, approval)
    ids = []
    for _ in range(3):
        await bench.end(blocker)
        blocker = (await claim(bench)).execution
        ids.append(blocker.id)
    assert ids == [high.id, approval.execution, normal.id]
    assert blocking.id not in ids


async def test_its_lane_stays_taken_while_it_waits(bench):
    project = await bench.project()
    await bench.enqueue(project)
    await bench.enqueue(project)
    await ask(bench, (await claim(bench)).execution)
    assert await claim(bench) is None


async def test_too_many_that_wait_for_people_stop_new_ones_but_never_the_answered(bench):
    approval = None
    for name in "ab":
        await bench.enqueue(await bench.project(name))
        approval = await ask(bench, (await claim(bench)).execution)
    await bench.enqueue(await bench.project("c"))
    assert await claim(bench, max_waiting=2) is None
    await answer(bench, approval)
    assert (await claim(bench, max_waiting=2)).is_resumed


async def test_a_drain_resumes_the_answered_and_starts_nothing(bench):
    await bench.enqueue(await bench.project("a"))
    approval = await ask(bench, (await claim(bench)).execution)
    await bench.enqueue(await bench.project("b"))
    assert await claim(bench, only_resume=True) is None
    await answer(bench, approval)
    assert (await claim(bench, only_resume=True)).is_resumed


# --- caps, pauses, places --------------------------------------------------------------------------


async def test_one_user_never_runs_more_than_the_cap_and_others_pass(bench):
    for name in "ab":
        await bench.enqueue(await bench.project(name), actor="user:greedy")
    modest, _ = await bench.enqueue(await bench.project("c"), actor="user:modest")
    assert (await claim(bench, per_user=1)).execution.actor == "user:greedy"
    assert (await claim(bench, per_user=1)).execution.id == modest.id
    assert await claim(bench, per_user=1) is None


async def test_a_user_at_his_cap_holds_nobody_back_in_the_same_project(bench):
    a, b = await bench.project("a"), await bench.project("b")
    await bench.enqueue(a, actor="user:greedy")
    await bench.enqueue(b, actor="user:greedy")
    modest, _ = await bench.enqueue(b, actor="user:modest")
    assert (await claim(bench, per_user=1)).execution.actor == "user:greedy"
    assert (await claim(bench, per_user=1)).execution.id == modest.id


async def test_a_paused_project_starts_nothing_and_others_do(bench):
    a, b = await bench.project("a"), await bench.project("b")
    how = {"actor": "user:t", "request": "r"}
    await bench.db.write(lambda tx: queue.pause(tx, a.id, reason="lunch", **how))
    mine, _ = await bench.enqueue(a)
    other, _ = await bench.enqueue(b)
    assert (await claim(bench)).execution.id == other.id
    assert await claim(bench) is None
    await bench.db.write(lambda tx: queue.resume(tx, a.id, now=False, **how))
    assert (await claim(bench)).execution.id == mine.id


async def test_a_paused_queue_starts_nothing_and_lets_the_answered_go_on(bench):
    await bench.enqueue(await bench.project("a"))
    approval = await ask(bench, (await claim(bench)).execution)
    await bench.enqueue(await bench.project("b"))
    how = {"actor": "user:t", "request": "r"}
    await bench.db.write(lambda tx: queue.pause(tx, None, reason="", **how))
    assert await claim(bench) is None
    await answer(bench, approval)
    assert (await claim(bench)).is_resumed


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"to": "first"}, "c a b"),
        ({"to": "last"}, "a b c"),
        ({"before": "b"}, "a c b"),
        ({"priority": "high"}, "c a b"),
    ],
)
async def test_a_moved_order_has_another_place(bench, where, expected):
    orders = {name: (await bench.enqueue(await bench.project(name)))[0] for name in "abc"}
    where = {
        name: orders[value].order_id if name == "before" else value for name, value in where.items()
    }
    given = {"to": None, "before": None, "priority": None} | where
    await bench.db.write(
        lambda tx: queue.relocate(tx, orders["c"].order_id, actor="user:t", request="r", **given)
    )
    names = {execution.id: name for name, execution in orders.items()}
    assert " ".join([names[(await claim(bench)).execution.id] for _ in range(3)]) == expected


async def test_clear_cancels_all_that_waits_and_touches_nothing_that_runs(bench):
    a, b = await bench.project("a"), await bench.project("b")
    for _ in range(3):
        await bench.enqueue(a)
    kept, _ = await bench.enqueue(b)
    running = (await claim(bench)).execution
    assert await bench.db.write(lambda tx: queue.clear(tx, a.id, actor="user:t", message="x")) == 2
    assert (await bench.db.write(lambda tx: moves.find(tx, running.id))).state == "starting"
    assert (await claim(bench)).execution.id == kept.id


@pytest.mark.parametrize("moves_of", ["cb db", "cb db eb", "eb db cb", "ca da ea", "db cb ad"])
async def test_right_before_is_right_before_whatever_was_moved_there_already(bench, moves_of):
    orders = {name: (await bench.enqueue(await bench.project(name)))[0] for name in "abcde"}
    expected = list("abcde")
    for what, other in moves_of.split():
        expected.remove(what)
        expected.insert(expected.index(other), what)
        await bench.db.write(
            lambda tx, what=what, other=other: queue.relocate(
                tx, orders[what].id, to=None, before=orders[other].id, priority=None, actor="user:t", request="r"
            )
        )  # fmt: skip
    names = {execution.id: name for name, execution in orders.items()}
    assert [names[(await claim(bench)).execution.id] for _ in orders] == expected


async def test_before_itself_is_where_it_is(bench):
    first, _ = await bench.enqueue(await bench.project("a"))
    was = await order(bench, first)
    same = {"to": None, "before": first.id, "priority": None, "actor": "user:t", "request": "r"}
    await bench.db.write(lambda tx: queue.relocate(tx, first.id, **same))
    assert (await order(bench, first)).rank == was.rank


async def test_clear_counts_a_chain_whole_and_takes_it_in_batches(bench, monkeypatch):
    monkeypatch.setattr(queue, "CLEAR_BATCH", 3)
    project, last = await bench.project(), ()
    for _ in range(10):
        execution, _ = await bench.enqueue(project, after=last)
        last = (execution.order_id,)

    def clear(tx):
        return queue.clear(tx, None, actor="user:t", message="cleared")

    assert [await bench.db.write(clear) for _ in range(5)] == [3, 3, 3, 1, 0]
    found = await bench.db.all("SELECT DISTINCT state, message FROM orders")
    assert [tuple(row) for row in found] == [("cancelled", "cleared")]


async def test_the_pause_of_a_deleted_project_goes_with_it(bench):
    project = await bench.project()
    how = {"actor": "user:t", "request": "r"}
    await bench.db.write(lambda tx: queue.pause(tx, project.id, reason="", **how))
    await bench.db.write(lambda tx: projects.delete(tx, project.id, **how))
    assert await bench.db.all("SELECT * FROM pauses") == []


async def test_an_order_that_runs_cannot_be_cancelled_in_the_queue(bench):
    first, _ = await bench.enqueue(await bench.project())
    await claim(bench)
    with pytest.raises(HiveError) as caught:
        await bench.db.write(lambda tx: queue.cancel(tx, first.id, message="", actor="user:t"))
    assert "hivectl kill" in caught.value.hint


# --- slots -----------------------------------------------------------------------------------------


async def test_fewer_slots_let_what_runs_end_and_start_nothing_beyond(bench):
    for name in "abc":
        await bench.enqueue(await bench.project(name))
    running = [(await claim(bench)).execution for _ in range(2)]
    await bench.db.write(lambda tx: workers.scale(tx, 1, default=10, actor="user:t"))
    assert await claim(bench) is None
    await bench.end(running[1])
    assert await claim(bench) is None
    await bench.end(running[0])
    assert await claim(bench) is not None
    assert len(await bench.db.all("SELECT 1 FROM workers")) == 1


async def test_a_drained_slot_takes_nothing_until_it_is_resumed(bench):
    await bench.db.write(lambda tx: workers.scale(tx, 1, default=10, actor="user:t"))
    await bench.enqueue(await bench.project())
    await bench.db.write(lambda tx: workers.set_draining(tx, "slot-1", is_draining=True, actor="u"))
    assert await claim(bench) is None
    await bench.db.write(lambda tx: workers.set_draining(tx, None, is_draining=False, actor="u"))
    assert await claim(bench) is not None


async def test_after_a_restart_every_run_has_a_slot_even_with_fewer_of_them(bench):
    for name in "abc":
        await bench.enqueue(await bench.project(name))
    for _ in range(3):
        await claim(bench)
    await bench.db.write(lambda tx: tx.run("DELETE FROM workers"))
    await bench.db.write(lambda tx: workers.mend(tx, default=1))
    carried = await bench.db.all("SELECT execution FROM workers WHERE execution IS NOT NULL")
    assert len({row["execution"] for row in carried}) == 3
    assert await claim(bench) is None


async def test_a_start_mends_lanes_whose_head_is_wrong(bench):
    first, _ = await bench.enqueue(await bench.project())
    await bench.db.write(lambda tx: tx.run("UPDATE lanes SET head = NULL, busy = 1"))
    assert await claim(bench) is None
    await bench.db.write(lanes.mend)
    assert (await claim(bench)).execution.id == first.id


async def test_a_start_looks_at_what_lives_and_not_at_all_that_ever_ran(bench):
    await bench.enqueue(await bench.project())
    await claim(bench)
    said = []

    def begin(tx):
        tx.conn.set_trace_callback(said.append)
        try:
            lanes.mend(tx)
            workers.mend(tx, default=10)
            work.live(tx)
        finally:
            tx.conn.set_trace_callback(None)
        return [
            (row["detail"], sql)
            for sql in said
            for row in tx.all(f"EXPLAIN QUERY PLAN {sql}")
            if "executions" in sql
        ]

    plans = await bench.db.write(begin)
    assert not [
        plan for plan in plans if "sqlite_autoindex_executions" in plan[0] and "SCAN" in plan[0]
    ]
    assert any("executions_live_project" in detail for detail, _ in plans)
