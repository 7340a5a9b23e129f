"""An alarm on virtual time: it rings when it should, and sleeps between."""

import asyncio

import pytest

from hivectl.engine.alarm import MICROSECOND, Alarm
from hivectl.kit.aio import Nursery

pytestmark = pytest.mark.looptime


class LoopClock:
    """The wall clock of a loop whose time is virtual."""

    def now_us(self):
        return int(self.monotonic() * MICROSECOND)

    def monotonic(self):
        return asyncio.get_running_loop().time()


class Rings:
    """What is due, and when it rang."""

    def __init__(self, *due_s):
        self.clock = LoopClock()
        self.due_s = list(due_s)
        self.at = []
        self.alarm = Alarm(self.clock, self.ring)
        self.nursery = Nursery(lambda name, error: None)

    async def ring(self):
        now = self.clock.monotonic()
        self.at.append(round(now, 3))
        self.due_s = [due for due in self.due_s if due > now]
        return int(min(self.due_s) * MICROSECOND) if self.due_s else None

    async def __aenter__(self):
        self.nursery.start(self.alarm.run(), name="alarm")
        return self

    async def __aexit__(self, *_):
        await self.nursery.close(within_s=1)


async def test_it_rings_at_once_and_at_each_stored_time_and_never_between():
    async with Rings(1800, 3600) as rings:
        await asyncio.sleep(10_000)
    assert rings.at == [0, 1800, 3600]


async def test_with_nothing_to_come_it_sleeps_until_it_is_woken():
    async with Rings() as rings:
        await asyncio.sleep(100_000)
        assert rings.at == [0]
        rings.due_s.append(100_500)
        rings.alarm.wake()
        await asyncio.sleep(1_000)
    assert rings.at == [0, 100_000, 100_500]


async def test_what_becomes_due_sooner_is_not_slept_through():
    async with Rings(1800) as rings:
        await asyncio.sleep(5)
        rings.due_s.append(60)
        rings.alarm.wake()
        await asyncio.sleep(100)
    assert rings.at == [0, 5, 60]
