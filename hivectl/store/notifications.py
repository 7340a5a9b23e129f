"""Notifications in SQL: made from the outbox before its rows go, picked for sending, and settled.

Making them in the transaction that forgets the events is what makes them exactly one a fact: after a
crash either the events are still in the outbox, or their notifications are here. Sending is at least once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from hivectl.kit.clock import MICROSECOND, format_us
from hivectl.kit.ids import make_id
from hivectl.logic import notices
from hivectl.model.notification import (
    EVENT,
    NOTICE_KINDS,
    DeliveryState,
    Notice,
    Notification,
    Target,
)
from hivectl.store import rows
from hivectl.store.database import Tx

_log = logging.getLogger(__name__)

COLUMNS = rows.columns(Notification)
MAX_OPEN = 1000
"""Most deliveries of a target that are not settled; what comes then is not told to it any more."""
MAX_KEPT = 10_000
MANY = 500
"""After so many events at once the table is cut to MAX_KEPT at once, not within the hour."""
KEPT_US = 30 * 86400 * MICROSECOND
PAYLOAD_BYTES = 64 * 1024
"""A larger payload of a webhook says only what it is about."""
PICKED = 100
"""Most messages that go into one bundle."""
_OPEN = "('pending', 'held')"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is told, and to whom."""

    targets: Sequence[Target]
    kinds: frozenset[str]
    """Kinds of NOTICE_KINDS that people hear of."""
    webhook_types: frozenset[str]
    """Types of events that webhooks get."""
    same_us: int
    """The same thing is told once in so long."""

    @property
    def people(self) -> list[Target]:
        """Targets for people."""
        return [target for target in self.targets if not target.is_webhook]

    @property
    def webhooks(self) -> list[Target]:
        """Targets for programs."""
        return [target for target in self.targets if target.is_webhook]

    @property
    def types(self) -> frozenset[str]:
        """All types of events that need a look."""
        people = notices.TELLING if self.people and self.kinds else frozenset()
        return people | (self.webhook_types if self.webhooks else frozenset())


# --- making ----------------------------------------------------------------------------------------


def derive(tx: Tx, upto: int, plan: Plan) -> int:
    """Make the notifications of the outbox's events up to the id `upto`. Returns how many deliveries wait."""
    types = plan.types
    if not types:
        return 0
    marks = ",".join("?" * len(types))
    found = tx.all(
        f"SELECT * FROM outbox WHERE id <= ? AND type IN ({marks}) ORDER BY id", upto, *types
    )
    waiting = 0
    for row in found:
        try:
            waiting += _derive_one(tx, row, plan)
        except (ValueError, TypeError, KeyError, AttributeError):
            # An event of a shape nobody foresaw must neither take others with it nor stay in the outbox.
            _log.exception("no notification can be made", extra={"type": row["type"]})
    if len(found) > MANY:
        forget(tx)
    return waiting


def _derive_one(tx: Tx, row: Any, plan: Plan) -> int:
    data: dict[str, Any] = msgspec.json.decode(row["data"])
    stream: str = row["stream"]
    project = stream.removeprefix("project:") if stream.startswith("project:") else None
    made = 0
    if plan.webhooks and row["type"] in plan.webhook_types:
        made += _add_event(tx, row, data, project, plan)
    if not plan.people:
        return made
    if row["type"] in notices.ANSWERED:
        answered(tx, str(data.get("id", "")))
        return made
    name = _project_name(tx, project)
    notice = notices.notice_of(row["type"], data, project=name, execution=row["execution"])
    if notice is None or notice.kind not in plan.kinds:
        return made
    return made + add(
        tx, notice, plan.people, project=project, execution=row["execution"], same_us=plan.same_us
    )


def _project_name(tx: Tx, project: str | None) -> str:
    if project is None:
        return ""
    row = tx.one("SELECT name FROM projects WHERE id = ?", project)
    return str(row["name"]) if row is not None else project


def add(
    tx: Tx,
    notice: Notice,
    targets: Sequence[Target],
    *,
    project: str | None = None,
    execution: str | None = None,
    same_us: int = 0,
) -> int:
    """Store a notice for people, unless the same was told a short time ago. Returns how many deliveries wait."""
    same = tx.one(
        "SELECT id FROM notifications WHERE dedupe = ? AND payload IS NULL AND created_us > ? ORDER BY created_us DESC LIMIT 1",
        notice.key, tx.now_us - same_us,
    )  # fmt: skip
    if same is not None:
        tx.run("UPDATE notifications SET repeats = repeats + 1 WHERE id = ?", same["id"])
        return 0
    message = Notification(
        id=make_id("n"), kind=notice.kind, dedupe=notice.key, project=project, execution=execution,
        subject=notice.subject, title=notice.title, text=notice.text, hint=notice.hint, payload=None,
        repeats=0, created_us=tx.now_us,
    )  # fmt: skip
    return _store(tx, message, targets)


def _add_event(tx: Tx, row: Any, data: dict[str, Any], project: str | None, plan: Plan) -> int:
    id_ = make_id("n")
    envelope = {
        "id": id_,
        "type": row["type"],
        "timestamp": format_us(row["ts"]),
        "project": project,
        "project_name": _project_name(tx, project) or None,
        "execution": row["execution"],
        "session": row["session"],
        "actor": row["actor"],
    }
    told = notices.bounded(data)
    body = rows.dump({**envelope, "data": told})
    if len(body) > PAYLOAD_BYTES:
        short = {name: told[name] for name in ("id", "state", "kind") if name in told}
        body = rows.dump({**envelope, "data": short, "is_truncated": True})
    message = Notification(
        id=id_, kind=EVENT, dedupe=f"event:{row['id']}", project=project, execution=row["execution"],
        subject=None, title=row["type"], text="", hint="", payload=body, repeats=0, created_us=tx.now_us,
    )  # fmt: skip
    return _store(tx, message, plan.webhooks)


def _store(tx: Tx, message: Notification, targets: Sequence[Target]) -> int:
    names = COLUMNS.split(", ")
    tx.run(
        f"INSERT INTO notifications({COLUMNS}) VALUES ({','.join('?' * len(names))})",
        *(getattr(message, name) for name in names),
    )
    waiting = 0
    for target in targets:
        is_full = _open_count(tx, target.key) >= MAX_OPEN
        state = DeliveryState.FAILED if is_full else DeliveryState.PENDING
        error = f"{MAX_OPEN} messages wait for this target already" if is_full else ""
        tx.run(
            "INSERT INTO deliveries(notification, target, label, kind, state, next_us, error) VALUES (?,?,?,?,?,?,?)",
            message.id, target.key, target.label, message.kind, state, tx.now_us, error,
        )  # fmt: skip
        waiting += not is_full
    return waiting


def _open_count(tx: Tx, target: str) -> int:
    row = tx.one(f"SELECT count(*) FROM deliveries WHERE target = ? AND state IN {_OPEN}", target)
    return int(row[0]) if row is not None else 0


def answered(tx: Tx, subject: str) -> None:
    """Nobody needs to be told of this question any more."""
    tx.run(
        f"UPDATE deliveries SET state = 'moot' WHERE state IN {_OPEN} AND notification IN"
        " (SELECT id FROM notifications WHERE subject = ?)",
        subject,
    )


def has_key(tx: Tx, key: str) -> bool:
    """Whether something was told under this key, however long ago."""
    return tx.one("SELECT 1 FROM notifications WHERE dedupe = ? LIMIT 1", key) is not None


# --- sending ---------------------------------------------------------------------------------------


class Batch(msgspec.Struct, frozen=True):
    """What goes to one target as one message."""

    target: Target
    items: tuple[Notification, ...]
    attempt: int
    is_digest: bool = False


class Picked(msgspec.Struct, frozen=True):
    """What is to be sent now, and when to look again (None: when something new comes)."""

    batches: list[Batch]
    next_us: int | None


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How to pick: the clock's part of it."""

    quiet_until_us: int | None
    """The end of the quiet hours that are now; None outside of them."""
    passes: frozenset[str]
    """Kinds that are told also in quiet hours."""
    bundle_us: int
    """Messages of one kind to one target come at least so far apart; what comes between goes together."""


def pick(tx: Tx, targets: Mapping[str, Target], rules: Rules, *, busy: frozenset[str]) -> Picked:
    """Hold, release and choose what is due, at most one message for each target that is not busy.

    The attempt is counted here, before it is made: a crash in the middle costs one, never more."""
    _drop_unknown(tx, targets)
    if rules.quiet_until_us is not None:
        _hold(tx, targets, rules)
    batches = []
    for target in targets.values():
        if target.key not in busy and (batch := _choose(tx, target, rules)) is not None:
            batches.append(batch)
            for item in batch.items:
                tx.run(
                    "UPDATE deliveries SET attempts = attempts + 1 WHERE notification = ? AND target = ?",
                    item.id, target.key,
                )  # fmt: skip
    taken = busy | {batch.target.key for batch in batches}
    return Picked(batches, _next_us(tx, rules, taken))


def _drop_unknown(tx: Tx, targets: Mapping[str, Target]) -> None:
    marks = ",".join("?" * len(targets))
    tx.run(
        f"UPDATE deliveries SET state = 'failed', error = 'this target is no longer configured'"
        f" WHERE state IN {_OPEN} AND target NOT IN ({marks})",
        *targets,
    )


def _hold(tx: Tx, targets: Mapping[str, Target], rules: Rules) -> None:
    marks = ",".join("?" * len(rules.passes))
    people = [target.key for target in targets.values() if not target.is_webhook]
    places = ",".join("?" * len(people))
    tx.run(
        f"UPDATE deliveries SET state = 'held' WHERE state = 'pending' AND kind NOT IN ({marks}) AND target IN ({places})",
        *rules.passes, *people,
    )  # fmt: skip


def _choose(tx: Tx, target: Target, rules: Rules) -> Batch | None:
    is_quiet = rules.quiet_until_us is not None
    if not is_quiet and (batch := _digest(tx, target)) is not None:
        return batch
    due = tx.all(
        "SELECT kind, min(next_us) AS at FROM deliveries WHERE state = 'pending' AND target = ? AND next_us <= ?"
        " GROUP BY kind ORDER BY at",
        target.key, tx.now_us,
    )  # fmt: skip
    for row in due:
        kind = row["kind"]
        if target.is_webhook:
            return _batch(tx, target, "d.kind = ? AND d.next_us <= ?", kind, tx.now_us, most=1)
        if not _is_too_soon(tx, target, kind, rules):
            return _batch(tx, target, "d.kind = ? AND d.next_us <= ?", kind, tx.now_us)
    return None


def _digest(tx: Tx, target: Target) -> Batch | None:
    """All that was held for a target, with what is due beside it, as one message."""
    held = tx.one(
        "SELECT 1 FROM deliveries WHERE state = 'held' AND target = ? AND next_us <= ? LIMIT 1",
        target.key,
        tx.now_us,
    )
    if held is None:
        return None
    return _batch(tx, target, "d.next_us <= ?", tx.now_us, is_digest=True, most=MAX_OPEN)


def _is_too_soon(tx: Tx, target: Target, kind: str, rules: Rules) -> bool:
    """Whether the last message of the kind is so near that this one waits; it is put off then."""
    last = tx.one(
        "SELECT max(sent_us) FROM deliveries WHERE target = ? AND kind = ? AND state = 'sent'",
        target.key,
        kind,
    )
    if last is None or last[0] is None or tx.now_us >= last[0] + rules.bundle_us:
        return False
    tx.run(
        "UPDATE deliveries SET next_us = ? WHERE state = 'pending' AND target = ? AND kind = ? AND next_us <= ?",
        last[0] + rules.bundle_us, target.key, kind, tx.now_us,
    )  # fmt: skip
    return True


def _batch(
    tx: Tx, target: Target, where: str, *args: Any, is_digest: bool = False, most: int = PICKED
) -> Batch | None:
    found = tx.all(
        f"SELECT {rows.columns(Notification, 'n')}, d.attempts AS attempts FROM deliveries d JOIN notifications n ON n.id = d.notification"
        f" WHERE d.state IN {_OPEN} AND d.target = ? AND {where} ORDER BY n.id LIMIT ?",
        target.key, *args, most,
    )  # fmt: skip
    if not found:
        return None
    items = tuple(rows.read(Notification, row) for row in found)
    attempt = max(row["attempts"] for row in found) + 1
    return Batch(target, items, attempt, is_digest)


def _next_us(tx: Tx, rules: Rules, taken: frozenset[str]) -> int | None:
    marks = ",".join("?" * len(taken))
    row = tx.one(
        f"SELECT min(next_us) FROM deliveries WHERE state = 'pending' AND target NOT IN ({marks})",
        *taken,
    )
    moments = [row[0]] if row is not None and row[0] is not None else []
    held = tx.one(
        f"SELECT min(next_us) FROM deliveries WHERE state = 'held' AND target NOT IN ({marks})",
        *taken,
    )
    if held is not None and held[0] is not None:
        moments.append(max(rules.quiet_until_us or 0, held[0]))
    return min(moments, default=None)


def sent(tx: Tx, batch: Batch) -> None:
    """The target has it."""
    for item in batch.items:
        _settle(tx, batch, item, "state = 'sent', error = '', sent_us = ?", tx.now_us)


def unsent(tx: Tx, batch: Batch, error: str, *, next_us: int, give_up_us: int) -> int:
    """The target did not take it: tried again at `next_us`, but nothing that was made before `give_up_us`.

    Returns how many messages were given up."""
    lost = 0
    for item in batch.items:
        if item.created_us <= give_up_us:
            lost += _settle(tx, batch, item, "state = 'failed', error = ?", error)
        else:
            _settle(tx, batch, item, "next_us = ?, error = ?", next_us, error)
    return lost


def _settle(tx: Tx, batch: Batch, item: Notification, change: str, *args: Any) -> int:
    """Only what is still open is changed: it may have been answered meanwhile."""
    return tx.run(
        f"UPDATE deliveries SET {change} WHERE notification = ? AND target = ? AND state IN {_OPEN}",
        *args, item.id, batch.target.key,
    )  # fmt: skip


def tell_failure(tx: Tx, label: str, error: str, count: int) -> None:
    """Say in the log that messages were given up; it is not told by notification itself."""
    data = {
        "code": notices.OWN_CODE,
        "message": f"{count} notifications to {label} could not be delivered and were given up: {error}",
        "hint": "`hivectl notify test` tries all targets now; `hivectl notify list` shows what was not told.",
    }
    tx.emit("system", "system.notice", data, actor="system")


def forget(tx: Tx) -> None:
    """Drop what is old, and the oldest of too many."""
    old = tx.now_us - KEPT_US
    if tx.one("SELECT 1 FROM notifications WHERE created_us < ? LIMIT 1", old) is not None:
        tx.run("DELETE FROM notifications WHERE created_us < ?", old)
    edge = tx.one("SELECT id FROM notifications ORDER BY id DESC LIMIT 1 OFFSET ?", MAX_KEPT)
    if edge is not None:
        tx.run("DELETE FROM notifications WHERE id <= ?", edge["id"])


def kinds_that_pass(*, is_urgent_told: bool) -> frozenset[str]:
    """What is told in quiet hours."""
    return frozenset(
        name for name, kind in NOTICE_KINDS.items() if kind.needs_person and is_urgent_told
    )
