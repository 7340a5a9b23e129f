"""Approvals nobody answers, with a clock that the test sets."""

import asyncio

import pytest

from hivectl.kit.clock import FakeClock
from hivectl.kit.ids import make_id
from hivectl.model.approval import ApprovalState
from hivectl.store import people
from hivectl.testing.processes import FakeMachine
from tests.unit.engine.test_runner import Farm, asks

TIMED = {"approval__timeout_s": 600}


async def found(farm, id_):
    return await farm.db.write(lambda tx: people.find(tx, id_))


async def add_rule(farm, **rule):
    row = {
        "id": make_id("po"),
        "action": "ask",
        "tool": "Write",
        "match": {},
        "project": None,
        "note": "",
        **rule,
    }
    return await farm.db.write(
        lambda tx: people.add_policy(tx, row, first=False, by="user:t", request_id="r")
    )  # fmt: skip


async def settled(farm, id_):
    """The approval, once it is not pending any more."""
    async with asyncio.timeout(20):
        while (approval := await found(farm, id_)).state is ApprovalState.PENDING:
            await asyncio.sleep(0.01)
    return approval


async def test_it_is_denied_after_its_time_and_not_before(tmp_path):
    clock = FakeClock()
    async with Farm(tmp_path, FakeMachine(asks)).open(clock=clock, **TIMED) as farm:
        project = await farm.project()
        execution = await farm.submit(project)
        approval = await farm.waiting(execution.id)
        assert approval.expires_us == approval.created_us + 600_000_000
        clock.advance(599)
        assert await farm.engine.expiring.look() == approval.expires_us
        assert (await found(farm, approval.id)).state is ApprovalState.PENDING
        clock.advance(1)
        assert await farm.engine.expiring.look() is None
        decided = await found(farm, approval.id)
        assert (decided.decision, decided.decided_by) == ("deny", "policy:timeout")
        assert decided.timed_out
        assert "Nobody answered in time" in decided.message
        assert (await farm.ended(execution.id)).result == "deny", "Claude heard it"
        assert "approval.decided" in farm.kinds(project)


@pytest.mark.parametrize(("on_timeout", "heard"), [("deny", "deny"), ("allow", "allow")])
async def test_a_rule_decides_by_its_own_name(tmp_path, on_timeout, heard):
    clock = FakeClock()
    async with Farm(tmp_path, FakeMachine(asks)).open(clock=clock) as farm:
        rule = await add_rule(farm, timeout_s=60, on_timeout=on_timeout)
        execution = await farm.submit(await farm.project())
        approval = await farm.waiting(execution.id)
        assert (approval.rule, approval.on_timeout) == (rule["id"], on_timeout)
        clock.advance(60)
        farm.engine.expiring.alarm.wake()
        decided = await settled(farm, approval.id)
        assert decided.decided_by == f"policy:{rule['id']}"
        assert (await farm.ended(execution.id)).result == heard


async def test_a_rule_that_waits_waits_whatever_is_configured(tmp_path):
    clock = FakeClock()
    async with Farm(tmp_path, FakeMachine(asks)).open(clock=clock, **TIMED) as farm:
        await add_rule(farm, on_timeout="wait")
        approval = await farm.waiting((await farm.submit(await farm.project())).id)
        clock.advance(10**7)
        assert await farm.engine.expiring.look() is None
        assert (await found(farm, approval.id)).state is ApprovalState.PENDING


async def test_what_ran_out_while_no_daemon_ran_is_decided_at_the_next_start(tmp_path):
    clock, farm = FakeClock(), Farm(tmp_path, FakeMachine(asks))
    async with farm.open(clock=clock, **TIMED):
        execution = await farm.submit(await farm.project())
        approval = await farm.waiting(execution.id)
    clock.advance(601)
    async with farm.open(
        clock=clock
    ):  # what was promised when it asked counts, not what is configured now
        assert (await settled(farm, approval.id)).timed_out
        assert (await farm.ended(execution.id)).result == "deny"


async def test_an_answer_before_its_time_counts(tmp_path):
    clock = FakeClock()
    async with Farm(tmp_path, FakeMachine(asks)).open(clock=clock, **TIMED) as farm:
        execution = await farm.submit(await farm.project())
        approval = await farm.waiting(execution.id)
        await farm.answer(approval)
        clock.advance(10_000)
        assert await farm.engine.expiring.look() is None
        decided = await found(farm, approval.id)
        assert (decided.decision, decided.timed_out) == ("allow", False)
        assert (await farm.ended(execution.id)).result == "allow"


async def test_somebody_answers_in_the_moment_its_time_is_over(tmp_path):
    clock = FakeClock()
    async with Farm(tmp_path, FakeMachine(asks)).open(clock=clock, **TIMED) as farm:
        execution = await farm.submit(await farm.project())
        approval = await farm.waiting(execution.id)
        clock.advance(600)
        await farm.db.write(
            lambda tx: people.decide(
                tx, approval.id, version=1, decision="allow", answer={"allow": True}, message="", by="user:t"
            )
        )  # fmt: skip
        await farm.engine.expiring._expire(approval)
        assert (await found(farm, approval.id)).decided_by == "user:t"


async def test_many_at_once_are_all_decided(tmp_path, monkeypatch):
    monkeypatch.setattr("hivectl.engine.expiring.BATCH", 2)
    clock, count = FakeClock(), 5
    async with Farm(tmp_path, FakeMachine(asks)).open(clock=clock, **TIMED) as farm:
        execution = await farm.submit(await farm.project())
        approval = await farm.waiting(execution.id)

        def more(tx):
            for n in range(count):
                tx.run(
                    "INSERT INTO approvals(id, execution, project, request, kind, tool, input, description, suggestions,"
                    " state, created_us, expires_us, on_timeout)"
                    " SELECT ?, execution, project, ?, kind, tool, input, description, suggestions, state, created_us,"
                    " expires_us, on_timeout FROM approvals WHERE id = ?",
                    f"a_more{n}", f"r{n}", approval.id,
                )  # fmt: skip

        await farm.db.write(more)
        clock.advance(600)
        assert await farm.engine.expiring.look() is None
        pending = await farm.db.all("SELECT id FROM approvals WHERE state = 'pending'")
        assert not pending
