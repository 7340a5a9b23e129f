"""Open claims of workers outside, and their leases while time passes: nothing is polled, nobody is forgotten."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from hivectl.kit.clock import FakeClock
from hivectl.model.errors import HiveError
from hivectl.model.work import Cause, ExecutionState, Outcome
from hivectl.ports import StopMode
from hivectl.store import leases, queue, work
from hivectl.testing.processes import FakeMachine
from tests.unit.engine.test_runner import Farm, plain
from tests.unit.store.test_leases import Bench

ME = "user:t"
DONE = Outcome(state=ExecutionState.COMPLETED, cause=Cause.OK, result="done")


class Yard(Bench):
    """A bench of the store with an engine that runs."""

    def __init__(self, farm, clock):
        super().__init__(farm.db, clock)
        self.engine, self.outside = farm.engine, farm.engine.outside

    async def register(self, name="ada", lease_s=30.0, pools=("external",)):
        new = leases.Newcomer(
            name=name, pools=pools, lease_s=lease_s, actor=ME, request="r", limit=10
        )
        worker, self.lost = await self.outside.register(new)
        return worker

    async def enqueue(self, project, prompt="hi", **changes):
        execution = await super().enqueue(project, prompt, **changes)
        self.engine.wake()
        return execution

    def claiming(self, worker, wait_s=5.0):
        return asyncio.ensure_future(self.outside.claim(worker.id, actor=ME, wait_s=wait_s))

    async def is_waiting(self, worker):
        async with asyncio.timeout(5):
            while worker.id not in self.outside._waiting:
                await asyncio.sleep(0.005)
            await asyncio.sleep(0.02)


@pytest.fixture
def yard(tmp_path):
    @asynccontextmanager
    async def opened(**flags):
        clock = FakeClock()
        farm = Farm(tmp_path, FakeMachine(plain))
        async with farm.open(clock=clock, **flags):
            yield Yard(farm, clock)

    return opened


async def test_a_claim_is_answered_as_soon_as_there_is_work(yard):
    async with yard() as y:
        worker = await y.register()
        claim = y.claiming(worker)
        await y.is_waiting(worker)
        execution = await y.enqueue(await y.project())
        assert (await claim).id == execution.id


async def test_a_claim_is_answered_when_a_lane_a_pause_or_a_drained_worker_is_free_again(yard):
    async with yard() as y:
        project = await y.project()
        first, second = await y.enqueue(project), await y.enqueue(project)
        ada, bob = await y.register("ada"), await y.register("bob")
        assert (await y.claiming(ada)).id == first.id
        claim = y.claiming(bob)
        await y.is_waiting(bob)
        await y.outside.finish(ada.id, first.id, DONE, actor=ME)
        assert (await claim).id == second.id


async def test_without_work_a_claim_ends_with_nothing_after_its_time(yard):
    async with yard() as y:
        worker = await y.register()
        assert await y.claiming(worker, wait_s=0.05) is None
        assert await y.claiming(worker, wait_s=0) is None
        assert y.outside._waiting == {}


async def test_a_newer_claim_of_a_worker_ends_its_older_one(yard):
    async with yard() as y:
        worker = await y.register()
        older = y.claiming(worker)
        await y.is_waiting(worker)
        newer = y.claiming(worker)
        assert await older is None
        execution = await y.enqueue(await y.project())
        assert (await newer).id == execution.id


async def test_a_claim_that_was_given_up_takes_nothing(yard):
    async with yard() as y:
        worker = await y.register()
        claim = y.claiming(worker)
        await y.is_waiting(worker)
        claim.cancel()
        await asyncio.wait([claim])
        execution = await y.enqueue(await y.project())
        assert (await y.claiming(worker, wait_s=1)).id == execution.id


async def test_whoever_leaves_waits_no_longer_and_gets_nothing(yard):
    async with yard() as y:
        worker = await y.register()
        claim = y.claiming(worker)
        await y.is_waiting(worker)
        await y.outside.beat(worker.id, actor=ME, fault=None, leaves=True)
        assert await claim is None
        await y.enqueue(await y.project())
        assert await y.claiming(worker, wait_s=0.05) is None


async def test_a_daemon_that_stops_ends_open_claims_and_refuses_new_ones(yard):
    async with yard() as y:
        worker = await y.register()
        claim = y.claiming(worker)
        await y.is_waiting(worker)
        await y.engine.stop(runs="keep", timeout_s=1)
        assert await claim is None
        with pytest.raises(HiveError) as caught:
            await y.claiming(worker)
        assert caught.value.code == "DRAINING"


async def test_stopping_with_runs_killed_leaves_the_wish_for_the_next_daemon(yard):
    async with yard() as y:
        execution = await y.enqueue(await y.project())
        worker = await y.register()
        await y.claiming(worker)
        await y.engine.stop(runs="kill", timeout_s=1)
        stored = await y.find(execution)
        assert (stored.state, stored.stop_reason) == (ExecutionState.RUNNING, "shutdown")


async def test_a_kill_waits_until_the_worker_has_ended_it(yard):
    async with yard() as y:
        execution = await y.enqueue(await y.project())
        worker = await y.register()
        await y.claiming(worker)
        kill = asyncio.ensure_future(
            y.engine.kill([execution.id], mode=StopMode.TERMINATE, by=ME, note="enough")
        )
        async with asyncio.timeout(5):
            while True:
                _, carried = await y.outside.beat(worker.id, actor=ME, fault=None, leaves=False)
                if carried.stop_mode:
                    break
        assert not kill.done()
        await y.outside.finish(worker.id, execution.id, DONE, actor=ME)
        (killed,) = await kill
        assert (killed.state, killed.message) == (ExecutionState.CANCELLED, "enough")


async def test_a_kill_of_one_that_does_not_answer_gives_up_and_says_so(yard):
    flags = {
        "execution__interrupt_s": 0.02,
        "execution__close_s": 0.02,
        "execution__term_s": 0.02,
    }
    async with yard(**flags) as y:
        execution = await y.enqueue(await y.project())
        worker = await y.register()
        await y.claiming(worker)
        (left,) = await y.engine.kill([execution.id], mode=StopMode.INTERRUPT, by=ME, note="please")
        assert left.state is ExecutionState.RUNNING
        (ended,) = await y.engine.kill([execution.id], mode=StopMode.KILL, by=ME, note="now")
        assert ended.state is ExecutionState.CANCELLED


async def test_leases_lapse_in_their_time_and_what_was_carried_is_told(yard):
    async with yard() as y:
        project = await y.project()
        execution = await y.enqueue(project, retries=1)
        worker = await y.register()
        await y.claiming(worker)
        y.clock.advance(31)
        y.outside.alarm.wake()
        ended = await y.engine.wait(execution.id, timeout_s=5, or_waiting=False)
        assert (ended.state, ended.cause) == (ExecutionState.LOST, Cause.LEASE)
        with pytest.raises(HiveError) as caught:
            await y.outside.finish(worker.id, execution.id, DONE, actor=ME)
        assert caught.value.code == "LEASE_LOST"


async def test_a_machine_that_slept_has_lost_no_worker(yard):
    async with yard() as y:
        execution = await y.enqueue(await y.project())
        worker = await y.register()
        await y.claiming(worker)
        y.clock.wall_us += 3_600_000_000  # the wall clock went on, time did not
        y.outside.alarm.wake()
        await asyncio.sleep(0.1)
        ended = await y.outside.finish(worker.id, execution.id, DONE, actor=ME)
        assert ended.state is ExecutionState.COMPLETED


async def test_work_outside_outlives_the_daemon_and_leases_begin_anew(yard):
    async with yard() as y:
        execution = await y.enqueue(await y.project())
        worker = await y.register()
        await y.claiming(worker)
        clock = y.clock
    async with yard() as y:
        y.clock.wall_us = clock.wall_us + 600_000_000
        y.outside.alarm.wake()
        await asyncio.sleep(0.1)
        assert (await y.find(execution)).state is ExecutionState.RUNNING
        assert y.engine.runners == {}
        ended = await y.outside.finish(worker.id, execution.id, DONE, actor=ME)
        assert ended.result == "done"


async def test_local_workers_never_take_up_what_an_answered_worker_outside_carries(yard):
    async with yard() as y:
        execution = await y.enqueue(await y.project())
        worker = await y.register()
        await y.claiming(worker)
        await y.db.write(lambda tx: work.wait_for_person(tx, execution.id))
        await y.db.write(lambda tx: work.go_on(tx, execution.id))
        caps = queue.Caps(max_live=10)
        assert await y.db.write(lambda tx: queue.claim(tx, caps, process="pr_1")) is None
        found = await y.find(execution)
        assert (found.state, found.worker) == (ExecutionState.RUNNING, "ada")


async def test_a_store_that_refuses_for_a_while_costs_nobody_its_lease(yard):
    async with yard() as y:
        execution = await y.enqueue(await y.project())
        worker = await y.register()
        await y.claiming(worker)
        y.clock.advance(31)
        y.outside._seen = None  # as a look leaves it that the store refused
        y.outside.alarm.wake()
        await asyncio.sleep(0.1)
        assert (await y.find(execution)).state is ExecutionState.RUNNING
