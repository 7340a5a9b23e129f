"""Keep-alive over a real store, with a clock that the test sets."""

import asyncio

import pytest

from hivectl.kit.clock import FakeClock
from hivectl.model.session import SessionState
from hivectl.store import sessions
from hivectl.testing.processes import FakeMachine
from tests.unit.engine.test_runner import SESSION, Farm, asks, plain


async def found(farm):
    return await farm.db.write(lambda tx: sessions.find(tx, SESSION))


async def settled(farm, state):
    """The state, once the keep-alive has looked again."""
    farm.engine.keep_alive.alarm.wake()
    async with asyncio.timeout(20):
        while (await found(farm)).state is not state:
            await asyncio.sleep(0.01)


async def test_an_idle_conversation_ends_after_its_time_and_not_before(tmp_path):
    clock = FakeClock()
    async with Farm(tmp_path, FakeMachine(plain)).open(clock=clock) as farm:
        project = await farm.project()
        await farm.ended((await farm.submit(project)).id)
        clock.advance(1799)
        due_us = await farm.engine.keep_alive.look()
        assert due_us == clock.now_us() + 1_000_000
        assert (await found(farm)).state is SessionState.IDLE
        clock.advance(1)
        assert await farm.engine.keep_alive.look() is None
        ended = await found(farm)
        assert (ended.state, ended.end_reason) == (SessionState.ENDED, "idle")
        assert farm.kinds(project)[-1] == "session.ended"


async def test_one_that_is_used_again_and_again_ends_by_its_age_once_it_is_idle(tmp_path):
    clock = FakeClock()
    async with Farm(tmp_path, FakeMachine(plain)).open(clock=clock) as farm:
        project = await farm.project()
        for _ in range(3):
            await farm.ended((await farm.submit(project)).id)
            clock.advance(1300)
        assert await farm.engine.keep_alive.look() is None
        ended = await found(farm)
        assert (ended.state, ended.end_reason) == (SessionState.ENDED, "age")


async def test_an_active_conversation_never_ends(tmp_path):
    clock = FakeClock()
    async with Farm(tmp_path, FakeMachine(asks)).open(clock=clock) as farm:
        execution = await farm.submit(await farm.project())
        approval = await farm.waiting(execution.id)
        clock.advance(100_000)
        assert await farm.engine.keep_alive.look() is None
        assert (await found(farm)).state is SessionState.ACTIVE
        await farm.answer(approval)
        await farm.ended(execution.id)
        await settled(farm, SessionState.ENDED)  # older than an hour, and idle now


async def test_a_conversation_that_a_waiting_prompt_will_continue_is_held(tmp_path):
    clock = FakeClock()
    async with Farm(tmp_path, FakeMachine(plain)).open(clock=clock) as farm:
        project = await farm.project()
        await farm.ended((await farm.submit(project)).id)
        await farm.db.write(lambda tx: tx.run("UPDATE lanes SET paused = 1"))
        execution = await farm.submit(project)
        clock.advance(10_000)
        assert await farm.engine.keep_alive.look() is None
        assert (await found(farm)).state is SessionState.IDLE
        await farm.db.write(
            lambda tx: tx.run(
                "UPDATE executions SET state = 'cancelled' WHERE id = ?", execution.id
            )
        )
        await settled(farm, SessionState.ENDED)


async def test_what_expired_while_no_daemon_ran_ends_at_the_next_start(tmp_path):
    clock = FakeClock()
    farm = Farm(tmp_path, FakeMachine(plain))
    async with farm.open(clock=clock):
        await farm.ended((await farm.submit(await farm.project())).id)
    clock.advance(2000)
    async with farm.open(clock=clock):
        async with asyncio.timeout(20):
            while (await found(farm)).state is not SessionState.ENDED:
                await asyncio.sleep(0.01)


async def test_zero_means_for_ever(tmp_path):
    clock = FakeClock()
    never = {"session__idle_s": 0, "session__max_age_s": 0}
    async with Farm(tmp_path, FakeMachine(plain)).open(clock=clock, **never) as farm:
        await farm.ended((await farm.submit(await farm.project())).id)
        clock.advance(10**8)
        assert await farm.engine.keep_alive.look() is None
        assert (await found(farm)).state is SessionState.IDLE


@pytest.mark.parametrize(("on_expiry", "goes_on"), [("resume", True), ("fresh", False)])
async def test_the_next_prompt_resumes_or_begins_afresh_as_configured(tmp_path, on_expiry, goes_on):
    clock = FakeClock()
    machine = FakeMachine(plain)
    async with Farm(tmp_path, machine).open(clock=clock, session__on_expiry=on_expiry) as farm:
        project = await farm.project()
        await farm.ended((await farm.submit(project)).id)
        clock.advance(2000)
        await farm.engine.keep_alive.look()
        execution = await farm.ended((await farm.submit(project)).id)
        assert execution.resume is goes_on
        if goes_on:
            resumed = await found(farm)
            assert (resumed.state, resumed.end_reason) == (SessionState.IDLE, None)
            assert resumed.opened_us > resumed.created_us, "its age counts anew"
