"""What people and programs are told, and how far each telling got."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class DeliveryState(StrEnum):
    """PENDING is to be sent; HELD waits for the end of the quiet hours; MOOT was answered before it was told."""

    PENDING = "pending"
    HELD = "held"
    SENT = "sent"
    FAILED = "failed"
    MOOT = "moot"


DELIVERY_MOVES: dict[DeliveryState, frozenset[DeliveryState]] = {
    DeliveryState.PENDING: frozenset(
        {DeliveryState.HELD, DeliveryState.SENT, DeliveryState.FAILED, DeliveryState.MOOT}
    ),
    DeliveryState.HELD: frozenset(
        {DeliveryState.PENDING, DeliveryState.SENT, DeliveryState.FAILED, DeliveryState.MOOT}
    ),
    DeliveryState.SENT: frozenset(),
    DeliveryState.FAILED: frozenset(),
    DeliveryState.MOOT: frozenset(),
}


class NoticeKind(msgspec.Struct, frozen=True):
    """One row of NOTICE_KINDS. `one` and `many` (with `{n}`) head a message that bundles several."""

    meaning: str
    one: str
    many: str
    is_default: bool = True
    needs_person: bool = False


# A table is read by its columns.
# fmt: off
NOTICE_KINDS: dict[str, NoticeKind] = {
    "approval": NoticeKind("Claude asks for permission.", "1 request waits for you", "{n} requests wait for you", needs_person=True),
    "question": NoticeKind("Claude or a worker asks a question.", "1 question waits for you", "{n} questions wait for you", needs_person=True),
    "failed": NoticeKind("An execution failed, timed out or was lost, and is not tried again.", "1 execution failed", "{n} executions failed"),
    "dead": NoticeKind("A work order failed at its last try.", "1 work order gave up", "{n} work orders gave up"),
    "usage_limit": NoticeKind("Claude's usage limit was reached.", "a usage limit was reached", "{n} usage limits were reached"),
    "budget": NoticeKind("A budget is used up, or nearly.", "1 budget", "{n} budgets"),
    "notice": NoticeKind("The daemon has something to say about itself.", "1 notice", "{n} notices"),
    "completed": NoticeKind("An execution completed.", "1 execution completed", "{n} executions completed", is_default=False),
    "cancelled": NoticeKind("An execution was cancelled.", "1 execution was cancelled", "{n} executions were cancelled", is_default=False),
}
# fmt: on

SUMMARY = "summary"
"""The kind of the daily summary: told when `summary.at` is set, whatever `notify.events` says."""
EVENT = "event"
"""The kind of what webhooks get."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """What is told, ready for people: one line each, without controls or secrets."""

    kind: str
    key: str
    """The same key is the same thing: told once within `notify.dedupe_s`."""
    title: str
    text: str
    hint: str = ""
    """The command that answers it."""
    subject: str | None = None
    """The id of what is asked."""


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """One message as stored. `payload` is what a webhook gets, None for people."""

    id: str
    kind: str
    dedupe: str
    project: str | None
    execution: str | None
    subject: str | None
    title: str
    text: str
    hint: str
    payload: str | None
    repeats: int
    created_us: int


class Target(msgspec.Struct, frozen=True):
    """Where messages go. `key` names it in the database, `label` for people; neither tells the secret in `url`."""

    key: str
    label: str
    url: str
    is_webhook: bool
