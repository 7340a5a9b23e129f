"""Workers outside, while the daemon lives: who waits for work, and whose lease ends when.

What each carries is stored; kept here are only the open claims, at most one a worker, and the alarm of the
leases. Claims are not polled: the queue wakes them, and one transaction serves all of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

from hivectl.engine import capacity
from hivectl.engine.alarm import Alarm
from hivectl.engine.live import World
from hivectl.kit.clock import MICROSECOND
from hivectl.model.errors import HiveError
from hivectl.model.work import Execution, Outcome
from hivectl.model.worker import Worker
from hivectl.ports import StopMode, StopReason
from hivectl.store import leases, work
from hivectl.store.database import Tx

_log = logging.getLogger(__name__)

RETRY_S = 0.5
"""How soon a look that the store refused is repeated."""
LEAP_S = 2.0
"""When the wall clock went so much further than time did, the machine slept or its clock was set: nobody
could be heard meanwhile, and nobody is taken for lost because of it."""
MARGIN_US = 2000
"""Added to the end of a lease: timers may be a little early."""


class Outside:
    """Serves the claims of workers outside, and watches their leases."""

    def __init__(
        self, world: World, *, wake: Callable[[], None], is_draining: Callable[[], bool]
    ) -> None:
        """`wake` tells the queue that a lane has become free."""
        self._w = world
        self._wake_queue = wake
        self._is_draining = is_draining
        self._waiting: dict[str, asyncio.Future[Execution | None]] = {}
        self._turn = asyncio.Lock()
        """Held while work is given out: an open claim that ends meanwhile must take what it was given."""
        self._woken = asyncio.Event()
        self._seen: tuple[int, float] | None = None
        self.alarm = Alarm(world.clock, self._look)

    # --- claims -------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something may be claimable now."""
        if self._waiting:
            self._woken.set()

    async def serve(self) -> None:
        """Give out work whenever there may be some, for ever."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            try:
                await self._give()
            except HiveError as exc:
                _log.error("cannot claim", extra={"code": exc.code, "error": exc.message})
                await asyncio.sleep(RETRY_S)
                self._woken.set()

    async def claim(self, worker: str, *, actor: str, wait_s: float) -> Execution | None:
        """What the worker is to do next, within `wait_s`; what it carries, if it carries something.

        A newer claim of the same worker ends this one. Raises WORKER_NOT_FOUND, FORBIDDEN, DRAINING."""
        await self.renew(worker, actor=actor)
        self._refuse_if_draining()
        mine: asyncio.Future[Execution | None] = asyncio.get_running_loop().create_future()
        self.dismiss(worker)
        self._waiting[worker] = mine
        try:
            await self._give()
            async with asyncio.timeout(wait_s):
                return await asyncio.shield(mine)
        except TimeoutError:
            async with self._turn:
                return mine.result() if mine.done() else None
        finally:
            if self._waiting.get(worker) is mine:
                del self._waiting[worker]

    def _refuse_if_draining(self) -> None:
        if self._is_draining():
            raise HiveError("DRAINING", retry_after_ms=3000)

    async def _give(self) -> None:
        async with self._turn:
            if not self._waiting or self._is_draining():
                return
            caps = capacity.caps(self._w.settings(), only_resume=False)
            given = await self._w.db.write(partial(leases.give, ids=list(self._waiting), caps=caps))
            for worker, execution in given.items():
                waiter = self._waiting.get(worker)
                if waiter is not None and not waiter.done():
                    waiter.set_result(execution)

    def dismiss(self, worker: str) -> None:
        """The worker's open claim ends with nothing."""
        waiter = self._waiting.pop(worker, None)
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def close(self) -> None:
        """Every open claim ends."""
        for worker in list(self._waiting):
            self.dismiss(worker)

    # --- leases -------------------------------------------------------------------------------------

    async def register(self, new: leases.Newcomer) -> tuple[Worker, str | None]:
        """A worker comes; the execution an earlier one of its name carried has ended."""
        rules = capacity.rules(self._w.settings())
        worker, lost = await self._w.db.write(lambda tx: leases.register(tx, new, rules))
        self.alarm.wake()
        self._wake_queue()
        return worker, lost

    async def deregister(self, id_: str, *, actor: str, request: str) -> tuple[Worker, str | None]:
        """A worker goes."""
        rules = capacity.rules(self._w.settings())
        self.dismiss(id_)
        gone = await self._w.db.write(
            lambda tx: leases.deregister(tx, id_, rules, actor=actor, request=request)
        )
        self._wake_queue()
        return gone

    async def renew(self, id_: str, *, actor: str) -> Worker:
        """It was heard of."""

        def change(tx: Tx) -> tuple[Worker, bool]:
            was_offline = leases.find(tx, id_, actor=actor).is_offline
            return leases.renew(tx, id_, actor=actor), was_offline

        worker, was_offline = await self._w.db.write(change)
        if was_offline:
            self.alarm.wake()
        return worker

    async def beat(
        self, id_: str, *, actor: str, fault: str | None, leaves: bool
    ) -> tuple[Worker, Execution | None]:
        """A heartbeat. Who leaves waits for work no longer."""
        timeout_s = self._w.settings().seconds("execution.timeout_s")

        def change(tx: Tx) -> tuple[bool, tuple[Worker, Execution | None]]:
            was_offline = leases.find(tx, id_, actor=actor).is_offline
            return was_offline, leases.beat(
                tx, id_, actor=actor, fault=fault, leaves=leaves, timeout_s=timeout_s
            )

        was_offline, heard = await self._w.db.write(change)
        if was_offline:
            self.alarm.wake()
        if leaves:
            async with self._turn:
                self.dismiss(id_)
        return heard

    async def _look(self) -> int | None:
        """End what was lost with a worker; when the next lease ends."""
        rules = capacity.rules(self._w.settings())
        change = partial(
            leases.lapse, rules=rules, alive=list(self._waiting), grace=self._is_grace()
        )
        try:
            lapsed, next_us = await self._w.db.write(change)
        except HiveError as exc:
            _log.error("cannot look at leases", extra={"code": exc.code, "error": exc.message})
            self._seen = None  # nor could a heartbeat be stored
            return self._w.clock.now_us() + int(RETRY_S * MICROSECOND)
        self._seen = self._now()
        for worker in lapsed:
            _log.warning(
                "worker is silent", extra={"worker": worker.name, "carried": worker.execution}
            )
        if lapsed:
            self._wake_queue()
        return None if next_us is None else next_us + MARGIN_US

    def _now(self) -> tuple[int, float]:
        return self._w.clock.now_us(), self._w.clock.monotonic()

    def _is_grace(self) -> bool:
        """The first look after a start, or after one that the store refused, and after a leap of the clock."""
        if self._seen is None:
            return True
        wall_us, elapsed_s = self._now()
        went_s = (wall_us - self._seen[0]) / MICROSECOND
        return went_s - (elapsed_s - self._seen[1]) > LEAP_S

    # --- work ---------------------------------------------------------------------------------------

    async def finish(
        self, worker: str, execution: str, outcome: Outcome, *, actor: str
    ) -> Execution:
        """The worker says how it ended. Raises LEASE_LOST."""
        rules = capacity.rules(self._w.settings())
        ended = await self._w.db.write(
            lambda tx: leases.finish(tx, worker, execution, outcome, rules, actor=actor)
        )
        self._wake_queue()
        return ended

    async def stop_now(self, execution: str) -> None:
        """End it at once; its worker hears of it when it next says something."""
        rules = capacity.rules(self._w.settings())
        await self._w.db.write(lambda tx: leases.stop_now(tx, execution, rules))
        self._wake_queue()

    async def ask_all(self, *, note: str) -> None:
        """Every worker outside is to stop: it hears so from the next daemon."""

        def change(tx: Tx) -> None:
            for execution in work.live(tx):
                if execution.is_outside:
                    work.want_stop(
                        tx, execution.id, mode=StopMode.TERMINATE, reason=StopReason.SHUTDOWN, by="system", note=note
                    )  # fmt: skip

        await self._w.db.write(change)
