"""Conversations in SQL: the keep-alive policy that ends them, with the events that tells.

A conversation is idle between its executions. It is held, and never ended, while a prompt that will
continue it is waiting or running.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hivectl.model.errors import HiveError
from hivectl.model.session import EndReason, Session, SessionState
from hivectl.store import rows
from hivectl.store.database import Database, Tx

COLUMNS = rows.columns(Session)
NEVER_US = 10**17
"""Longer than any conversation lives (3000 years), and far from what SQLite can add."""

HELD = (
    "EXISTS (SELECT 1 FROM executions e JOIN orders o ON o.id = e.order_id WHERE e.project = s.project"
    " AND e.state IN ('pending','starting','running','waiting')"
    " AND (o.session = s.id OR (o.session = 'current' AND s.id = (SELECT session FROM projects WHERE id = s.project))))"
)
DUE = "min(s.activity_us + ?, max(s.opened_us + ?, s.activity_us))"


class KeepAlive(msgspec.Struct, frozen=True):
    """How long an idle conversation is kept. Seconds; None = for ever."""

    idle_s: float | None
    max_age_s: float | None

    @property
    def limits_us(self) -> tuple[int, int]:
        """What `DUE` adds to the last activity and to the beginning."""
        return _us(self.idle_s), _us(self.max_age_s)


def _us(seconds: float | None) -> int:
    return NEVER_US if seconds is None else int(seconds * 1_000_000)


def find(tx: Tx, id_: str) -> Session:
    """A conversation. Raises SESSION_NOT_FOUND."""
    if (found := look(tx, id_)) is None:
        raise HiveError("SESSION_NOT_FOUND", f"There is no session {id_!r}.")
    return found


def look(tx: Tx, id_: str | None) -> Session | None:
    """A conversation, if there is one."""
    row = tx.one(f"SELECT {COLUMNS} FROM sessions WHERE id = ?", id_)
    return None if row is None else rows.read(Session, row)


async def next_due_us(db: Database, keep: KeepAlive) -> int | None:
    """When the next conversation is to be ended, as things stand; None when none is."""
    row = await db.one(
        f"SELECT min({DUE}) AS due FROM sessions s WHERE s.state = 'idle' AND NOT {HELD}",
        *keep.limits_us,
    )
    due: int | None = row["due"] if row is not None else None
    return None if due is None or due >= NEVER_US else due


def expire(tx: Tx, keep: KeepAlive, *, limit: int) -> list[str]:
    """End idle conversations whose time has come, oldest first, at most `limit`. Returns their ids."""
    found = tx.all(
        f"SELECT s.id AS id, s.activity_us + ? <= ? AS is_idle FROM sessions s WHERE s.state = 'idle' AND {DUE} <= ?"
        f" AND NOT {HELD} ORDER BY s.activity_us, s.id LIMIT ?",
        keep.limits_us[0], tx.now_us, *keep.limits_us, tx.now_us, limit,
    )  # fmt: skip
    for row in found:
        _end(tx, find(tx, row["id"]), EndReason.IDLE if row["is_idle"] else EndReason.AGE)
    return [row["id"] for row in found]


def end(tx: Tx, id_: str, *, actor: str, request: str) -> Session:
    """End a conversation by hand; one that has ended already stays as it is.

    Raises SESSION_NOT_FOUND, or SESSION_IN_USE while something executes in it."""
    session = find(tx, id_)
    live = tx.one(
        "SELECT id FROM executions WHERE session = ? AND state IN ('starting','running','waiting') LIMIT 1",
        id_,
    )
    if live is not None:
        raise HiveError(
            "SESSION_IN_USE",
            f"Execution {live['id']} is using session {id_}.",
            hint=f"Wait for it, or stop it: `hivectl kill {live['id']}`.",
            details={"execution": live["id"]},
        )
    if session.state is not SessionState.ENDED:
        _end(tx, session, EndReason.USER, actor=actor, request=request)
    return find(tx, id_)


def fork(
    tx: Tx, id_: str, *, new: str, key: str | None, key_age_us: int, actor: str, request: str
) -> str:
    """Make a copy of a conversation the project's current one; Claude makes it when its first prompt starts.

    Returns the copy's id: `new`, or that of the earlier request with the same key. Raises
    SESSION_NOT_FOUND, IDEMPOTENCY_MISMATCH."""
    source = find(tx, id_)
    if key is not None and (earlier := _forked(tx, actor, key, key_age_us)) is not None:
        if earlier["asked"] != source.id:
            raise HiveError(
                "IDEMPOTENCY_MISMATCH", f"The key {key!r} was used for a different request."
            )
        return str(earlier["id"])
    tx.run(
        "INSERT INTO sessions(id, project, state, model, created_us, activity_us, opened_us, forked_from, fork_asked, fork_actor,"
        " fork_key) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
        new, source.project, SessionState.FORKED, source.model, tx.now_us, tx.now_us, tx.now_us, source.origin, source.id,
        actor, key,
    )  # fmt: skip
    tx.run("UPDATE projects SET session = ? WHERE id = ?", new, source.project)
    data = {"session": new, "from": source.origin, "model": source.model}
    tx.emit(source.stream, "session.forked", data, session=new, actor=actor, request=request)
    return new


def _forked(tx: Tx, actor: str, key: str, age_us: int) -> Any:
    """What a key has led to; one that is too old is forgotten here."""
    row = tx.one(
        "SELECT id, fork_asked AS asked, created_us FROM sessions WHERE fork_actor = ? AND fork_key = ?",
        actor, key,
    )  # fmt: skip
    if row is not None and row["created_us"] < tx.now_us - age_us:
        tx.run("UPDATE sessions SET fork_key = NULL WHERE id = ?", row["id"])
        return None
    return row


def begin(tx: Tx, id_: str | None, execution: str) -> None:
    """Claude has this copy, though it never came to say so: the next prompt goes on in it."""
    tx.run(
        "UPDATE sessions SET last_execution = ?, state = CASE state WHEN 'forked' THEN 'idle' ELSE state END"
        " WHERE id = ? AND last_execution IS NULL",
        execution, id_,
    )  # fmt: skip


def _end(
    tx: Tx,
    session: Session,
    reason: EndReason,
    *,
    actor: str = "system",
    request: str | None = None,
) -> None:
    tx.run(
        "UPDATE sessions SET state = 'ended', ended_us = ?, end_reason = ? WHERE id = ?",
        tx.now_us,
        reason,
        session.id,
    )
    data = {"session": session.id, "reason": reason}
    tx.emit(session.stream, "session.ended", data, session=session.id, actor=actor, request=request)


def settle(tx: Tx, execution: str, current: str) -> None:
    """An execution went on in another conversation: the one it left is idle."""
    tx.run(
        "UPDATE sessions SET state = 'idle', activity_us = ? WHERE last_execution = ? AND id <> ? AND state = 'active'",
        tx.now_us, execution, current,
    )  # fmt: skip
