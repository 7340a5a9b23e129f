"""The clock of an execution: it stands while a person thinks, and nobody's setting of the time moves it."""

from types import SimpleNamespace

import pytest

from hivectl.engine.deadline import Deadline
from hivectl.kit.clock import MICROSECOND, FakeClock
from hivectl.model.work import ExecutionState

LIMIT_S = 60.0
HOUR_US = 3600 * MICROSECOND


class Shim:
    """What it was told last."""

    def __init__(self):
        self.told = []

    async def set_deadline(self, seconds):
        self.told.append(None if seconds is None else round(seconds, 3))


class House:
    """A live execution that was started just now."""

    def __init__(self):
        self.clock = FakeClock()
        self.shim = Shim()
        self.world = SimpleNamespace(clock=self.clock)
        self.handle = self.shim
        self.begun_us = self.clock.now_us()
        self.deadline = Deadline(self)

    async def insist(self, ask):
        await ask()

    def execution(self, state, *, waited_s=0.0, waiting_since_us=None):
        return SimpleNamespace(
            state=state,
            options={"timeout_s": LIMIT_S},
            started_us=self.begun_us,
            created_us=self.begun_us,
            waited_us=int(waited_s * MICROSECOND),
            waiting_since_us=waiting_since_us,
        )


@pytest.mark.parametrize("leap_us", [0, HOUR_US, -HOUR_US])
async def test_time_is_what_passed_whatever_the_clock_on_the_wall_says(leap_us):
    house = House()
    house.clock.advance(10)
    await house.deadline.tend(house.execution(ExecutionState.WAITING))
    house.clock.wall_us += leap_us
    house.clock.advance(500)
    await house.deadline.tend(house.execution(ExecutionState.RUNNING))
    house.clock.advance(5)
    await house.deadline.tend(house.execution(ExecutionState.WAITING))
    await house.deadline.tend(house.execution(ExecutionState.RUNNING))
    assert house.shim.told == [None, LIMIT_S - 10, None, LIMIT_S - 15]


async def test_one_that_is_taken_over_has_used_what_is_stored():
    house = House()
    house.clock.advance(30)
    await house.deadline.adopt(house.execution(ExecutionState.RUNNING, waited_s=20))
    house.clock.advance(5)
    house.clock.wall_us += HOUR_US
    await house.deadline.tend(house.execution(ExecutionState.WAITING))
    await house.deadline.tend(house.execution(ExecutionState.RUNNING))
    assert house.shim.told == [LIMIT_S - 10, None, LIMIT_S - 15]


async def test_one_that_is_taken_over_while_it_waits_has_not_used_its_wait():
    house = House()
    house.clock.advance(10)
    since_us = house.clock.now_us()
    house.clock.advance(1000)
    waiting = house.execution(ExecutionState.WAITING, waiting_since_us=since_us)
    await house.deadline.adopt(waiting)
    house.clock.advance(1000)
    await house.deadline.tend(house.execution(ExecutionState.RUNNING))
    assert house.shim.told == [None, LIMIT_S - 10]


async def test_a_limit_that_is_over_is_kept_at_once():
    house = House()
    house.clock.advance(LIMIT_S + 1)
    await house.deadline.adopt(house.execution(ExecutionState.RUNNING))
    assert house.shim.told == [0.1]
