"""Tells people and programs what happened: from the store's rows to the outlets, and back how it went.

Rows are made by the publisher's trim, in the transaction that forgets the events (see
`store.notifications`); here they are picked, sent and settled. Nothing here is on the path of a run, one
message at a time goes to each target, and every message has a deadline.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

import msgspec

from hivectl.config import Settings
from hivectl.engine.audience import Audience
from hivectl.kit.aio import Nursery
from hivectl.kit.clock import MICROSECOND, Clock
from hivectl.kit.daytime import parse_daytime, parse_window
from hivectl.kit.ids import jitter
from hivectl.logic.notices import compose
from hivectl.logic.retry import Backoff
from hivectl.model.errors import HiveError
from hivectl.model.notification import SUMMARY, Notice, Target
from hivectl.ports import Message, Outlet, Undelivered
from hivectl.store import notifications
from hivectl.store.database import Database, Tx
from hivectl.store.notifications import Batch, Picked, Rules

_log = logging.getLogger(__name__)

BACKOFF = Backoff(base_s=5.0, max_s=3600.0)
STORAGE_RETRY_S = 5.0
RECHECK_S = 300.0
"""Longest sleep while something waits for a time of the day: the machine may sleep, its clock may be set."""
SUMMARY_LATE_S = 6 * 3600.0
"""A summary whose time passed while the daemon was down is told at the start, up to this late."""
FORGET_S = 3600.0


class Failing(msgspec.Struct, frozen=True):
    """A target that did not take its last message."""

    label: str
    why: str
    since_us: int


class Courier:
    """One for the daemon. `run` is its only task of length; each message under way has one of its own."""

    def __init__(
        self,
        *,
        settings: Callable[[], Settings],
        clock: Clock,
        db: Database,
        nursery: Nursery,
        people: Outlet,
        webhooks: Outlet,
    ) -> None:
        """Nothing is sent before `run`."""
        self._settings = settings
        self._clock = clock
        self._db = db
        self._nursery = nursery
        self._outlets: Mapping[bool, Outlet] = {False: people, True: webhooks}
        self._audience = Audience(settings)
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._busy: set[str] = set()
        self._forgot_at = -FORGET_S
        self.failing: dict[str, Failing] = {}
        """Targets whose last message did not arrive, by key."""
        self.summarise: Callable[[int, int], Awaitable[tuple[str, str]]] | None = None
        """Makes title and text of the summary between two moments; set once the services exist."""

    # --- called by others ----------------------------------------------------------------------------

    def derive(self, tx: Tx, upto: int) -> None:
        """Make notifications of what leaves the outbox; runs in the store's thread, before it leaves."""
        if notifications.derive(tx, upto, self._audience.plan()):
            self._loop.call_soon_threadsafe(self._news.set)

    def wake(self) -> None:
        """Settings changed."""
        self._news.set()

    def targets(self) -> list[Target]:
        """All configured targets."""
        return self._audience.targets()

    def problems(self) -> list[str]:
        """What `health` tells."""
        return [
            f"{item.label} does not take notifications: {item.why}"
            for item in self.failing.values()
        ]

    async def test(self, message: Callable[[Target], Message]) -> list[dict[str, Any]]:
        """Send a message to every target now, past the queue and the quiet hours; how it went for each."""
        found: dict[str, dict[str, Any]] = {}
        async with asyncio.TaskGroup() as group:
            for target in self.targets():
                _ = group.create_task(self._test_one(target, message(target), found))
        return [found[target.key] for target in self.targets() if target.key in found]

    async def _test_one(
        self, target: Target, message: Message, found: dict[str, dict[str, Any]]
    ) -> None:
        begun = self._clock.monotonic()
        why = ""
        try:
            await self._send(target, message)
            self.failing.pop(target.key, None)
        except Undelivered as exc:
            why = str(exc)
        took_ms = int((self._clock.monotonic() - begun) * 1000)
        found[target.key] = {
            "target": target.label,
            "is_sent": not why,
            "error": why,
            "duration_ms": took_ms,
        }

    # --- the loop ------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Send what is due, for ever."""
        while True:
            self._news.clear()
            try:
                wait_s = await self._round()
            except HiveError as exc:
                _log.warning("notifications wait", extra={"code": exc.code, "error": exc.message})
                wait_s = STORAGE_RETRY_S
            try:
                async with asyncio.timeout(wait_s):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _round(self) -> float | None:
        """One look: what is due is on its way afterwards. Returns how long to sleep; None = until news."""
        await self._tell_summary()
        targets = {target.key: target for target in self.targets()}
        rules, busy = self._rules(), frozenset(self._busy)
        picked: Picked = await self._db.write(
            lambda tx: notifications.pick(tx, targets, rules, busy=busy)
        )
        for batch in picked.batches:
            self._busy.add(batch.target.key)
            _ = self._nursery.start(
                self._deliver(batch), name=f"notification to {batch.target.label}"
            )
        await self._forget()
        return self._sleep_s(picked)

    def _sleep_s(self, picked: Picked) -> float | None:
        moments = [] if picked.next_us is None else [picked.next_us]
        if (at := self._settings().text("summary.at")) and self._audience.people():
            moments.append(parse_daytime(at).next_us(self._clock.now_us()))
        if not moments:
            return None
        left = (min(moments) - self._clock.now_us()) / MICROSECOND
        return min(max(left, 0.05), RECHECK_S)

    def _rules(self) -> Rules:
        settings = self._settings()
        quiet = settings.text("notify.quiet_hours")
        until = parse_window(quiet).end_us(self._clock.now_us()) if quiet else None
        passes = notifications.kinds_that_pass(is_urgent_told=settings.flag("notify.quiet_urgent"))
        bundle_us = int(settings.seconds("notify.bundle_s") * MICROSECOND)
        return Rules(quiet_until_us=until, passes=passes, bundle_us=bundle_us)

    async def _forget(self) -> None:
        if self._clock.monotonic() - self._forgot_at >= FORGET_S:
            self._forgot_at = self._clock.monotonic()
            await self._db.write(notifications.forget)

    # --- one message ---------------------------------------------------------------------------------

    async def _deliver(self, batch: Batch) -> None:
        try:
            try:
                await self._send(batch.target, _message(batch))
            except Undelivered as exc:
                await self._failed(batch, exc)
            else:
                self.failing.pop(batch.target.key, None)
                await self._insist(lambda tx: notifications.sent(tx, batch))
        finally:
            self._busy.discard(batch.target.key)
            self._news.set()

    async def _send(self, target: Target, message: Message) -> None:
        within_s = self._settings().seconds("notify.timeout_s")
        outlet = self._outlets[target.is_webhook]
        try:
            await outlet.send(target.url, message, within_s=within_s)
        except OSError as exc:
            raise Undelivered(f"{type(exc).__name__}: {exc.strerror or exc}") from exc

    async def _failed(self, batch: Batch, exc: Undelivered) -> None:
        target, why, now = batch.target, str(exc), self._clock.now_us()
        known = self.failing.get(target.key)
        self.failing[target.key] = Failing(target.label, why, known.since_us if known else now)
        _log.warning(
            "notification not delivered",
            extra={"target": target.label, "attempt": batch.attempt, "error": why},
        )
        key = "webhook.retry_for_s" if target.is_webhook else "notify.retry_for_s"
        keep_s = 0.0 if exc.is_final else self._settings().seconds(key)
        wait_s = BACKOFF.delay_s(batch.attempt, jitter())

        def settle(tx: Tx) -> None:
            lost = notifications.unsent(
                tx, batch, why,
                next_us=tx.now_us + int(wait_s * MICROSECOND), give_up_us=tx.now_us - int(keep_s * MICROSECOND),
            )  # fmt: skip
            if lost:
                notifications.tell_failure(tx, target.label, why, lost)

        await self._insist(settle)

    async def _insist(self, change: Callable[[Tx], None]) -> None:
        """Store how it went, also while the disk is full: else it would be sent again and again."""
        while True:
            try:
                return await self._db.write(change)
            except HiveError as exc:
                if exc.code not in ("STORAGE_FULL", "STORAGE_ERROR", "RESOURCE_LIMIT"):
                    raise
                await asyncio.sleep(STORAGE_RETRY_S)

    # --- the daily summary ---------------------------------------------------------------------------

    async def _tell_summary(self) -> None:
        at = self._settings().text("summary.at")
        people = self._audience.people()
        if not at or not people or self.summarise is None:
            return
        daytime = parse_daytime(at)
        now = self._clock.now_us()
        due = daytime.last_us(now)
        key = f"summary:{due}"
        if now - due > SUMMARY_LATE_S * MICROSECOND:
            return
        if await self._db.write(lambda tx: notifications.has_key(tx, key)):
            return
        title, text = await self.summarise(daytime.last_us(due - 1), now)
        notice = Notice(kind=SUMMARY, key=key, title=title, text=text, hint="hivectl summary")
        add = partial(notifications.add, notice=notice, targets=people, same_us=now)
        await self._db.write(add)


def _message(batch: Batch) -> Message:
    first = batch.items[0]
    if batch.target.is_webhook:
        return Message(first.id, first.title, "", first.payload or "{}")
    title, text = compose(batch.items, is_digest=batch.is_digest)
    return Message(first.id, title, text)
