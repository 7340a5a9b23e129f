"""Figures of messages: stored in a moment, with whatever must be exact, and never twice nor lost by a crash."""

import asyncio

import pytest

from hivectl.engine import tally as tallies
from hivectl.engine.tally import FIGURES_MAX, FIGURES_S, REREAD_BYTES, Tally
from hivectl.kit.clock import FakeClock
from hivectl.ports import UsageSeen
from hivectl.testing.processes import FakeMachine
from tests.unit.engine.test_runner import INIT, Farm, line, said

SEEN = UsageSeen(message="msg_1", input_tokens=1)


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def tally(clock):
    return Tally(clock)


def test_figures_wait_for_a_moment_counted_from_the_first_of_them(tally, clock):
    tally.add(10, SEEN)
    assert not tally.is_due(10)
    assert tally.patience_s(60.0) == FIGURES_S
    clock.advance(FIGURES_S / 2)
    tally.add(20, SEEN)
    assert tally.patience_s(60.0) == FIGURES_S / 2
    clock.advance(FIGURES_S / 2)
    assert tally.is_due(20)
    assert tally.take() == [(10, SEEN), (20, SEEN)]
    assert tally.is_empty
    assert not tally.is_due(20)
    assert tally.patience_s(60.0) == 60.0


def test_many_figures_do_not_wait(tally):
    for end in range(FIGURES_MAX):
        assert not tally.is_due(end)
        tally.add(end + 1, SEEN)
    assert tally.is_due(FIGURES_MAX)


def test_what_a_restart_has_to_read_again_is_bounded(tally):
    tally.stored = 100
    assert not tally.is_due(100 + REREAD_BYTES)
    assert tally.is_due(101 + REREAD_BYTES)


def test_what_is_stored_is_not_counted_again(tally):
    tally.stored = 100
    tally.add(100, SEEN)
    assert tally.is_empty
    tally.add(101, SEEN)
    assert not tally.is_empty


# --- in a run, and across daemons -------------------------------------------------------------------


def counted(message, tokens):
    event = said("some words")
    event["message"] |= {"id": message, "usage": {"input_tokens": tokens, "output_tokens": 1}}
    return line(event)


class Talker:
    """A process that says what it is told, and then dies without a result."""

    def __init__(self):
        self.begin, self.more, self.end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def __call__(self, child):
        await child.read()
        child.emit(line(INIT))  # it names the session, which is stored at once
        await self.begin.wait()
        child.emit(counted("msg_1", 100) + counted("msg_1", 100))
        await self.more.wait()
        child.emit(counted("msg_1", 100) + counted("msg_2", 7))
        await self.end.wait()
        return 1


async def logged(farm, project, messages):
    async with asyncio.timeout(20):
        while farm.kinds(project).count("message") < messages:
            await asyncio.sleep(0.01)


async def stored(farm):
    found = await farm.db.all("SELECT message, input_tokens, said_tokens FROM usage_messages")
    return {row["message"]: (row["input_tokens"], row["said_tokens"]) for row in found}


async def test_figures_are_stored_soon_without_anything_else_happening(tmp_path):
    talker = Talker()
    async with Farm(tmp_path, FakeMachine(talker)).open() as farm:
        await farm.submit(await farm.project())
        talker.begin.set()
        async with asyncio.timeout(20):
            while "msg_1" not in await stored(farm):
                await asyncio.sleep(0.01)


async def test_figures_that_a_crash_kept_from_the_store_are_counted_once(tmp_path, monkeypatch):
    monkeypatch.setattr(tallies, "FIGURES_S", 1e9)  # no moment is as long as this one
    talker = Talker()
    farm = Farm(tmp_path, FakeMachine(talker))
    async with farm.open():
        project = await farm.project()
        execution = await farm.submit(project)
        await logged(farm, project, 2)
        talker.begin.set()
        await logged(farm, project, 4)  # prompt, init, two of the message
        assert await stored(farm) == {}
    async with farm.open():
        async with asyncio.timeout(20):
            while not await stored(farm):
                await asyncio.sleep(0.01)
        once = (await stored(farm))["msg_1"]
        talker.more.set()
        await logged(farm, project, 6)
    async with farm.open():
        async with asyncio.timeout(20):
            while "msg_2" not in await stored(farm):
                await asyncio.sleep(0.01)
        assert (await stored(farm))["msg_1"] == (100, once[1] * 3 // 2)
        talker.end.set()
        ended = await farm.ended(execution.id)
        assert ended.usage["input_tokens"] == 107
        assert farm.kinds(project).count("message") == 6


async def test_a_run_that_dies_has_all_its_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(tallies, "FIGURES_S", 1e9)
    talker = Talker()
    for event in (talker.begin, talker.more, talker.end):
        event.set()
    async with Farm(tmp_path, FakeMachine(talker)).open() as farm:
        ended = await farm.ended((await farm.submit(await farm.project())).id)
        assert ended.usage["input_tokens"] == 107
