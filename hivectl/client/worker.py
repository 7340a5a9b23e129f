"""A worker of your own: a program that carries work orders.

    class Counter(Worker):
        async def handle(self, job):
            await job.output("counting ...")
            return await job.ask("How far?", choices=["ten", "hundred"])

    Counter("counter", pools=["counting"]).main()

What `handle` returns completes the work order, what it raises fails it (`Permanent`: for good). The worker
registers, keeps its lease, lives through restarts of the daemon, hears of cancellations, and leaves when
it is told to stop.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hivectl.client.aio import Client
from hivectl.client.job import Job, Permanent, Unanswered
from hivectl.client.subscription import backoff_s
from hivectl.kit.aio import Nursery, finish
from hivectl.kit.clock import SystemClock
from hivectl.kit.ids import jitter
from hivectl.model.errors import HiveError

if TYPE_CHECKING:
    from hivectl.config import Settings

__all__ = ["Job", "Permanent", "Unanswered", "Worker"]

_log = logging.getLogger(__name__)

BEATS_A_LEASE = 3
MOST_BEAT_S = 5.0
"""A cancellation is heard within this time."""
PAUSE_MOST_S = 5.0
"""Longest pause between two attempts to reach the daemon."""
LEAVE_S = 30.0
"""How long somebody who leaves tries to say so, and to hand in a last result."""
MESSAGE_MAX = 4000
STOPPED = "The worker was stopped while it did this."


class Worker(ABC):
    """Derive from it, write `handle`, call `main()` or await `run()`."""

    def __init__(
        self,
        name: str,
        *,
        pools: Sequence[str] = ("external",),
        lease_s: float | None = None,
        wait_s: float = 30.0,
        settings: Settings | None = None,
    ) -> None:
        """`name` is this program's alone: who registers with it again takes over. `wait_s`: how long one
        claim waits (at most 60)."""
        self.name = name
        self.pools = list(pools)
        self._lease_s = lease_s
        self._wait_s = wait_s
        self._settings = settings
        self._client: Client | None = None
        self._id = ""
        self._beat_s = MOST_BEAT_S
        self._job: Job | None = None
        self._is_leaving = False
        self._leave_by = 0.0
        self._poked = asyncio.Event()
        self._clock = SystemClock()
        self._nursery = Nursery(lambda name, error: _log.error("%s failed", name, exc_info=error))

    @abstractmethod
    async def handle(self, job: Job) -> Any:
        """Do it. What is returned is the result: a text, or anything that is JSON, or None."""

    # --- life ---------------------------------------------------------------------------------------

    def main(self) -> None:
        """Run until SIGINT or SIGTERM; a second one stops also what is being done."""
        asyncio.run(self._run_until_signal())

    async def _run_until_signal(self) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def heard() -> None:
            if self._is_leaving:
                task.cancel()
            self.stop()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, heard)
        with suppress(asyncio.CancelledError):
            await self.run()

    def stop(self) -> None:
        """Take nothing new, finish what is being done, leave."""
        if not self._is_leaving:
            self._is_leaving = True
            self._leave_by = self._clock.monotonic() + LEAVE_S
        self._poked.set()

    async def run(self) -> None:
        """Register and work until `stop`. Raises HiveError when the daemon refuses the worker."""
        # What is repeated, and how long, is decided here: a client's own patience is for people.
        self._client = Client(
            self._settings, autostart=False, name=f"worker {self.name}", patience_s=0.0
        )
        try:
            await self._register()
            _ = self._nursery.start(self._beat(), name="heartbeats")
            while not self._is_leaving:
                job = await self._claim()
                if job is not None:
                    await self._carry(job)
            await self._leave()
        finally:
            await self._nursery.close(within_s=2.0)
            await finish(self._client.close(), within_s=5.0)

    async def _register(self) -> None:
        wish: dict[str, Any] = {"name": self.name, "pools": self.pools}
        if self._lease_s is not None:
            wish["lease_s"] = self._lease_s
        given = await self._ask("worker.register", **wish)
        self._id = given["worker"]
        self._beat_s = min(MOST_BEAT_S, given["lease_s"] / BEATS_A_LEASE)
        if given["lost"]:
            _log.warning("an earlier %s has lost %s", self.name, given["lost"])

    async def _register_again(self) -> None:
        """The daemon does not know us any more. Raises HiveError when that is because of another."""
        try:
            bearer = await self._ask("worker.get", worker=self.name)
        except HiveError as exc:
            if exc.code != "WORKER_NOT_FOUND":
                raise
        else:
            if bearer["status"] != "offline":
                raise HiveError(
                    "INVALID_STATE",
                    f"Another program works as {self.name} now.",
                    hint="Give each worker a name of its own.",
                )
        await self._register()

    async def _leave(self) -> None:
        with suppress(HiveError):
            await self._ask("worker.deregister", worker=self._id)

    # --- requests -----------------------------------------------------------------------------------

    async def _ask(self, method: str, /, *, once: bool = False, **params: Any) -> Any:
        """One request, repeated while the daemon is away (with `once` only until it may have arrived).

        Raises HiveError: the daemon's own, or what kept it away when the worker is to leave."""
        assert self._client is not None
        attempt = 0
        while True:
            try:
                return await self._client.request(method, params)
            except HiveError as exc:
                if not exc.kind.retryable or once or self._is_too_late():
                    raise
                _log.info("%s is tried again: %s", method, exc.message)
                pause_s = min(backoff_s(attempt, jitter()), PAUSE_MOST_S)
                await asyncio.sleep(max(pause_s, (exc.retry_after_ms or 0) / 1000))
                attempt += 1

    def _is_too_late(self) -> bool:
        return self._is_leaving and self._clock.monotonic() >= self._leave_by

    async def _claim(self) -> Job | None:
        """The next work order; None when there was none in time."""
        try:
            claimed = await self._ask(
                "queue.claim", once=True, worker=self._id, wait_s=self._wait_s
            )
        except HiveError as exc:
            if exc.code == "WORKER_NOT_FOUND":
                await self._register_again()
            elif exc.kind.retryable:
                _log.info("the daemon is away: %s", exc.message)
                with suppress(TimeoutError):
                    async with asyncio.timeout(PAUSE_MOST_S * jitter()):
                        await self._wait_for_stop()
            else:
                raise
            return None
        if claimed["job"] is None:
            return None
        return Job(claimed["job"], worker=self._id, asker=f"worker:{self.name}", ask=self._ask)

    async def _wait_for_stop(self) -> None:
        while not self._is_leaving:
            await self._poked.wait()

    # --- while it works -----------------------------------------------------------------------------

    async def _beat(self) -> None:
        """Say that we live, and hear what the daemon wants."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._beat_s):
                    await self._poked.wait()
            self._poked.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._beat_s * BEATS_A_LEASE):
                    await self._beat_once(self._job)

    async def _beat_once(self, job: Job | None) -> None:
        assert self._client is not None
        try:
            if self._is_leaving or job is None:
                said = {"worker": self._id, "leaves": self._is_leaving}
                heard = await self._client.request("worker.heartbeat", said)
            else:
                said = {"worker": self._id, "execution": job.execution}
                heard = await self._client.request("queue.heartbeat", said)
        except HiveError as exc:
            if exc.code == "LEASE_LOST" and job is not None:
                job.lose()
            return  # else the daemon is away: the next claim or result finds out
        if job is None:
            return
        if heard["execution"] != job.execution:
            job.lose()
        elif heard["cancel"]:
            job.cancel(heard["cancel_reason"])

    async def _carry(self, job: Job) -> None:
        """Do it and hand in the result."""
        task = self._nursery.start(self._try(job), name=job.execution)
        job.attach(task)
        self._job = job
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.cancel()
            await finish(self._hand_in(job, "queue.fail", {"message": STOPPED}), within_s=5.0)
            raise
        finally:
            self._job = None
        if task.cancelled():
            # It was cancelled before it began.
            method, said = "queue.fail", {"message": job.cancel_reason or STOPPED}
        else:
            method, said = task.result()
        await self._hand_in(job, method, said)

    async def _try(self, job: Job) -> tuple[str, dict[str, Any]]:
        """How it ends: the method that says so, and its parameters."""
        try:
            return "queue.complete", _result(await self.handle(job))
        except asyncio.CancelledError:
            return "queue.fail", {"message": job.cancel_reason or STOPPED}
        except Permanent as exc:
            return "queue.fail", {"message": _words(str(exc) or "Permanent"), "retryable": False}
        except Exception as exc:  # noqa: BLE001  one failed work order must not end the worker
            if not job.is_lost:
                _log.warning("%s failed", job.execution, exc_info=exc)
            return "queue.fail", {"message": _words(f"{type(exc).__name__}: {exc}")}

    async def _hand_in(self, job: Job, method: str, said: dict[str, Any]) -> None:
        if job.is_lost:
            _log.warning("%s was lost: what became of it is dropped", job.execution)
            return
        given: dict[str, Any] = {"worker": self._id, "execution": job.execution, **said}
        try:
            await self._ask(method, usage=job.usage, **given)
        except HiveError as exc:
            if exc.code == "LEASE_LOST":
                _log.warning("%s was lost: %s", job.execution, exc.message)
                return
            if method == "queue.fail" or exc.kind.retryable:
                _log.error("%s could not be handed in: %s", job.execution, exc.message)
                return
            # The result does not fit: that is how it ends, rather than with a worker that is stuck.
            await self._hand_in(job, "queue.fail", {"message": _words(exc.message)})


def _result(value: Any) -> dict[str, Any]:
    """A result for people, and for programs where it is more than a text. Raises TypeError for no JSON."""
    if value is None:
        return {}
    if isinstance(value, str):
        return {"result": value}
    return {"result": json.dumps(value, ensure_ascii=False), "structured": value}


def _words(text: str) -> str:
    return text[:MESSAGE_MAX]
