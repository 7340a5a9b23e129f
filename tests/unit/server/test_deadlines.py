"""One timer wakes everyone in time, and only whom it must."""

from __future__ import annotations

import asyncio
import math

import pytest

from hivectl.server.deadlines import TICK_S, Deadlines

pytestmark = pytest.mark.looptime


class LoopClock:
    def now_us(self) -> int:
        return int(self.monotonic() * 1_000_000)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


class Sleeper:
    """Wants to be woken again `every_s`, or never."""

    def __init__(self, every_s: float = math.inf) -> None:
        self.every_s = every_s
        self.woken: list[float] = []

    def tick(self, now: float) -> float:
        self.woken.append(round(now, 3))
        return now + self.every_s


async def test_each_is_woken_when_it_is_due_and_not_with_the_others() -> None:
    deadlines = Deadlines(LoopClock())
    often, once, never = Sleeper(10), Sleeper(), Sleeper()
    deadlines.wake(often, 10)
    deadlines.wake(once, 25)
    deadlines.wake(never, math.inf)
    await asyncio.sleep(41)
    assert (often.woken, once.woken, never.woken) == ([10, 20, 30, 40], [25], [])


async def test_an_earlier_deadline_counts_and_a_later_one_changes_nothing() -> None:
    deadlines = Deadlines(LoopClock())
    one = Sleeper()
    deadlines.wake(one, 30)
    deadlines.wake(one, 5)
    deadlines.wake(one, 60)
    await asyncio.sleep(100)
    assert one.woken == [5]


async def test_what_is_overdue_again_and_again_does_not_spin() -> None:
    deadlines = Deadlines(LoopClock())
    one = Sleeper(0)
    deadlines.wake(one, 1)
    await asyncio.sleep(2)
    assert len(one.woken) <= 1 / TICK_S + 1


async def test_without_anyone_there_is_no_timer() -> None:
    deadlines = Deadlines(LoopClock())
    one = Sleeper()
    deadlines.wake(one, 5)
    deadlines.remove(one)
    assert deadlines._timer is None
    await asyncio.sleep(10)
    assert one.woken == []
