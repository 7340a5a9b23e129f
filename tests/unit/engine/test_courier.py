"""Who is told what and when: quiet hours, bundles, repeats, retries, the daily summary. Time stands still but for `advance`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from hivectl import config
from hivectl.engine import courier as couriers
from hivectl.engine.courier import Courier
from hivectl.kit.aio import Nursery
from hivectl.kit.clock import FakeClock
from hivectl.ports import Message, Undelivered
from hivectl.store import notifications
from hivectl.store.database import Database, Tx

ZONE = "Europe/Berlin"


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(ZONE)).timestamp() * 1_000_000)


SECRET = "ghp_" + "a1B2" * 9


class Post:
    """An outlet that keeps what it gets, and refuses while `refusals` last."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Message]] = []
        self.tries = 0
        self.refusals: list[Exception] = []
        self.gate: asyncio.Event | None = None

    async def send(self, url: str, message: Message, *, within_s: float) -> None:
        self.tries += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.refusals:
            raise self.refusals.pop(0)
        self.sent.append((url, message))

    @property
    def titles(self) -> list[str]:
        return [message.title for _, message in self.sent]


class Office:
    """A courier over a real database, looked at step by step."""

    def __init__(self, path: Path, db: Database, clock: FakeClock) -> None:
        self.path, self.db, self.clock = path, db, clock
        self.people, self.hooks = Post(), Post()
        self.failures: list[BaseException] = []
        self.nursery = Nursery(lambda _name, error: self.failures.append(error))
        self.set(**{"notify.targets": ["ntfy://topic"]})
        self.courier = Courier(
            settings=lambda: self.settings, clock=clock, db=db, nursery=self.nursery, people=self.people,
            webhooks=self.hooks,
        )  # fmt: skip

    def set(self, **flags: Any) -> None:
        self.flags = {**getattr(self, "flags", {}), **flags}
        env = {"HOME": str(self.path), "HIVECTL_HOME": str(self.path / "h")}
        self.settings = config.load(self.flags, env=env)

    async def happens(self, type_: str, data: dict[str, Any], stream: str = "project:p_1") -> None:
        """An event is committed, and leaves the outbox."""

        def commit(tx: Tx) -> None:
            tx.emit(stream, type_, data, execution="x_1")

        await self.db.write(commit)
        await self.trim()

    async def trim(self) -> None:
        def forget(tx: Tx) -> None:
            newest = tx.one("SELECT max(id) FROM outbox")
            assert newest is not None
            self.courier.derive(tx, newest[0] or 0)
            tx.run("DELETE FROM outbox")

        await self.db.write(forget)

    async def asks(self, id_: str = "a_1", tool: str = "Bash") -> None:
        data = {"id": id_, "kind": "permission", "tool": tool, "summary": f"{tool}: {SECRET} {id_}"}
        await self.happens("approval.requested", data)

    async def fails(self, order: str) -> None:
        await self.happens(
            "execution.ended", {"state": "failed", "cause": "api_error", "work_order": order}
        )

    async def look(self) -> float | None:
        """One look, and until what it sent has arrived."""
        wait_s = await self.courier._round()
        while self.courier._busy:
            await asyncio.sleep(0)
        return wait_s

    async def states(self) -> list[str]:
        return [
            row["state"]
            for row in await self.db.all("SELECT state FROM deliveries ORDER BY notification")
        ]


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    clock = FakeClock(wall_us=at("2026-01-10T12:00:00"))
    db = await Database.open(tmp_path / "hive.db", clock)
    made = Office(tmp_path, db, clock)
    yield made
    await made.nursery.close(within_s=1)
    await db.close()
    assert made.failures == []


async def test_what_needs_a_person_is_told_at_once_and_once(office: Office) -> None:
    await office.asks()
    assert await office.look() is None
    ((_, message),) = office.people.sent
    assert message.title == "p_1: Claude asks to use Bash"
    assert message.text == "Bash: [redacted] a_1\nhivectl approve a_1 | hivectl deny a_1"
    await office.trim()
    await office.look()
    assert len(office.people.sent) == 1
    assert await office.states() == ["sent"]


async def test_nothing_is_stored_where_nobody_is_to_be_told(office: Office) -> None:
    office.set(**{"notify.targets": []})
    await office.asks()
    assert await office.states() == []


async def test_kinds_that_were_not_asked_for_are_not_told(office: Office) -> None:
    office.set(**{"notify.events": ["failed"]})
    await office.asks()
    await office.happens("execution.ended", {"state": "completed", "work_order": "o_1"})
    assert await office.states() == []


async def test_what_comes_in_quick_succession_is_told_in_one_message(office: Office) -> None:
    await office.asks("a_1")
    await office.look()
    for number in range(2, 6):
        await office.asks(f"a_{number}")
        wait_s = await office.look()
    assert len(office.people.sent) == 1
    assert wait_s == pytest.approx(10)
    office.clock.advance(10)
    await office.look()
    assert office.people.titles[1:] == ["hivectl: 4 requests wait for you"]


async def test_another_kind_does_not_wait_for_it(office: Office) -> None:
    await office.asks()
    await office.look()
    await office.fails("o_1")
    await office.look()
    assert len(office.people.sent) == 2


async def test_the_same_thing_is_told_once_in_its_time(office: Office) -> None:
    limit = {"kind": "five_hour", "resets_at": 5}
    for _ in range(3):
        await office.happens("usage_limit.hit", limit)
        await office.look()
        office.clock.advance(60)
    assert len(office.people.sent) == 1
    row = await office.db.one("SELECT repeats FROM notifications")
    assert row is not None
    assert row[0] == 2
    office.clock.advance(300)
    await office.happens("usage_limit.hit", limit)
    await office.look()
    assert len(office.people.sent) == 2


async def test_quiet_hours_end_with_one_message(office: Office) -> None:
    office.set(**{"notify.quiet_hours": f"22:00-07:00 {ZONE}"})
    office.clock.wall_us = at("2026-01-10T23:30:00")
    await office.asks("a_1")
    await office.asks("a_2", "Write")
    await office.fails("o_1")
    await office.fails("o_2")
    wait_s = await office.look()
    assert office.people.sent == []
    assert set(await office.states()) == {"held"}
    assert wait_s == couriers.RECHECK_S
    await office.happens("approval.decided", {"id": "a_1"})
    office.clock.wall_us = at("2026-01-11T07:00:00")
    await office.look()
    assert office.people.titles == [
        "In the quiet hours: 1 request waits for you, 2 executions failed"
    ]
    assert sorted(await office.states()) == ["moot", "sent", "sent", "sent"]


async def test_what_is_urgent_may_pass_quiet_hours(office: Office) -> None:
    office.set(**{"notify.quiet_hours": f"22:00-07:00 {ZONE}", "notify.quiet_urgent": True})
    office.clock.wall_us = at("2026-01-10T23:30:00")
    await office.asks()
    await office.fails("o_1")
    await office.look()
    assert office.people.titles == ["p_1: Claude asks to use Bash"]
    assert sorted(await office.states()) == ["held", "sent"]


async def test_webhooks_know_no_quiet_hours(office: Office) -> None:
    office.set(
        **{
            "notify.targets": [],
            "webhook.urls": ["http://h/1"],
            "notify.quiet_hours": f"22:00-07:00 {ZONE}",
        }
    )
    office.clock.wall_us = at("2026-01-10T23:30:00")
    await office.asks()
    await office.look()
    body = json.loads(office.hooks.sent[0][1].payload)
    assert body["type"] == "approval.requested"
    assert body["data"]["summary"] == "Bash: [redacted] a_1"
    assert body["id"] == office.hooks.sent[0][1].id


async def test_webhooks_come_one_by_one_in_order(office: Office) -> None:
    office.set(**{"notify.targets": [], "webhook.urls": ["http://h/1", "http://h/2"]})
    for number in range(3):
        await office.asks(f"a_{number}")
    for _ in range(3):
        await office.look()
    for url in ("http://h/1", "http://h/2"):
        told = [json.loads(m.payload)["data"]["id"] for to, m in office.hooks.sent if to == url]
        assert told == ["a_0", "a_1", "a_2"]


async def test_a_payload_that_is_too_large_says_only_what_it_is_about(office: Office) -> None:
    office.set(**{"notify.targets": [], "webhook.urls": ["http://h/1"]})
    big = {f"k{n}": "y" * 5000 for n in range(90)}
    await office.happens("approval.requested", {"id": "a_1", "input": big})
    await office.look()
    payload = office.hooks.sent[0][1].payload
    assert len(payload) < notifications.PAYLOAD_BYTES
    assert json.loads(payload)["is_truncated"] is True
    assert json.loads(payload)["data"] == {"id": "a_1"}


async def test_what_does_not_arrive_is_tried_again_at_growing_distances(office: Office) -> None:
    office.people.refusals = [Undelivered("no way")] * 3
    await office.asks()
    waits = []
    for _ in range(3):
        await office.look()
        waits.append(await office.look())
        assert "no way" in office.courier.problems()[0]
        office.clock.advance((waits[-1] or 0) + 0.1)
    assert [5 <= waits[0] <= 6.5, 10 <= waits[1] <= 13, 20 <= waits[2] <= 26] == [True, True, True]
    await office.look()
    assert len(office.people.sent) == 1
    assert office.courier.problems() == []
    row = await office.db.one("SELECT attempts, state FROM deliveries")
    assert row is not None
    assert tuple(row) == (4, "sent")


async def test_it_is_given_up_after_its_time_and_that_is_told(office: Office) -> None:
    office.set(**{"notify.retry_for_s": 60})
    office.people.refusals = [Undelivered("no way")] * 2
    await office.asks()
    await office.look()
    office.clock.advance(61)
    await office.look()
    assert await office.states() == ["failed"]
    row = await office.db.one("SELECT data FROM outbox WHERE type = 'system.notice'")
    assert row is not None
    assert "could not be delivered" in json.loads(row["data"])["message"]
    await office.trim()
    assert await office.look() is None
    assert office.people.tries == 2


async def test_what_will_never_be_taken_is_given_up_at_once(office: Office) -> None:
    office.people.refusals = [Undelivered("gone", is_final=True)]
    await office.asks()
    await office.look()
    assert await office.states() == ["failed"]


async def test_one_target_that_fails_does_not_hold_up_the_other(office: Office) -> None:
    office.set(**{"webhook.urls": ["http://h/1"]})
    office.hooks.refusals = [Undelivered("500")] * 5
    await office.asks()
    await office.look()
    assert len(office.people.sent) == 1
    await office.look()
    assert len(office.people.sent) == 1


async def test_what_was_answered_before_it_was_told_is_not_told(office: Office) -> None:
    await office.asks()
    await office.happens("approval.expired", {"id": "a_1"})
    await office.look()
    assert office.people.sent == []
    assert await office.states() == ["moot"]


async def test_a_target_that_is_no_longer_configured_gets_nothing(office: Office) -> None:
    await office.asks()
    office.set(**{"notify.targets": ["ntfy://other"]})
    await office.look()
    assert office.people.sent == []
    assert await office.states() == ["failed"]


async def test_more_than_a_target_can_hold_is_refused_and_counted(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifications, "MAX_OPEN", 3)
    for number in range(5):
        await office.fails(f"o_{number}")
    assert sorted(await office.states()) == ["failed"] * 2 + ["pending"] * 3


async def test_a_message_under_way_is_not_sent_a_second_time(office: Office) -> None:
    office.people.gate = asyncio.Event()
    await office.asks()
    await office.courier._round()
    await office.courier._round()
    await asyncio.sleep(0)
    assert office.people.tries == 1
    office.people.gate.set()
    await office.look()
    assert office.people.tries == 1


async def test_a_message_under_way_at_a_crash_is_sent_again(office: Office) -> None:
    office.people.gate = asyncio.Event()
    await office.asks()
    await office.courier._round()
    await asyncio.sleep(0)
    again = Office(office.path, office.db, office.clock)
    await again.look()
    assert len(again.people.sent) == 1
    await again.nursery.close(within_s=1)


async def test_the_summary_comes_once_a_day(office: Office) -> None:
    asked: list[tuple[int, int]] = []

    async def summarise(since_us: int, until_us: int) -> tuple[str, str]:
        asked.append((since_us, until_us))
        return "hivectl since 07:00: 3 done", "web: 3 done"

    office.courier.summarise = summarise
    office.set(**{"summary.at": f"07:00 {ZONE}"})
    office.clock.wall_us = at("2026-01-11T06:59:00")
    assert await office.look() == pytest.approx(60)
    office.clock.advance(61)
    await office.look()
    await office.look()
    assert office.people.titles == ["hivectl since 07:00: 3 done"]
    assert office.people.sent[0][1].text == "web: 3 done\nhivectl summary"
    assert asked == [(at("2026-01-10T07:00:00"), office.clock.wall_us)]
    office.clock.advance(86400)
    await office.look()
    assert len(office.people.sent) == 2


async def test_a_summary_that_was_missed_comes_late_but_not_the_next_evening(
    office: Office,
) -> None:
    async def summarise(_since_us: int, _until_us: int) -> tuple[str, str]:
        return "t", "x"

    office.courier.summarise = summarise
    office.set(**{"summary.at": f"07:00 {ZONE}"})
    office.clock.wall_us = at("2026-01-11T18:00:00")
    await office.look()
    assert office.people.sent == []
    office.clock.wall_us = at("2026-01-12T09:00:00")
    await office.look()
    assert len(office.people.sent) == 1


async def test_old_rows_go(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifications, "MAX_KEPT", 2)
    for number in range(5):
        await office.fails(f"o_{number}")
    await office.db.write(notifications.forget)
    assert len(await office.states()) == 2
    office.clock.advance(31 * 86400)
    await office.db.write(notifications.forget)
    assert await office.states() == []


async def test_an_event_of_an_unforeseen_shape_takes_no_other_with_it(office: Office) -> None:
    def commit(tx: Tx) -> None:
        tx.emit("project:p_1", "execution.ended", ["no", "object"])  # type: ignore[arg-type]
        tx.emit("project:p_1", "execution.ended", {})
        tx.emit("project:p_1", "approval.requested", {"id": "a_1", "input": 5, "summary": {}})

    await office.db.write(commit)
    await office.trim()
    assert await office.db.all("SELECT 1 FROM outbox") == []
    assert await office.states() == ["pending"]


async def test_a_test_says_how_it_went_at_each_target(office: Office) -> None:
    office.set(**{"webhook.urls": ["http://host.example/secret"]})
    office.hooks.refusals = [Undelivered("it answered 404")]
    found = await office.courier.test(lambda _target: Message("n_1", "t", "x"))
    assert [(item["target"], item["is_sent"], item["error"]) for item in found] == [
        ("ntfy #1", True, ""),
        ("webhook #1 host.example", False, "it answered 404"),
    ]
