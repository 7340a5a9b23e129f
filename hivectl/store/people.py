"""Approvals and policies in SQL, and the audit chain."""

from __future__ import annotations

from typing import Any

from hivectl.kit.clock import format_us, parse_time_us
from hivectl.model.approval import APPROVAL_MOVES, Approval, ApprovalState
from hivectl.model.errors import HiveError
from hivectl.store import audit as chain
from hivectl.store import rows, threads
from hivectl.store.database import Tx

COLUMNS = rows.columns(Approval)


def find(tx: Tx, id_: str) -> Approval:
    """An approval. Raises APPROVAL_NOT_FOUND."""
    row = tx.one(f"SELECT {COLUMNS} FROM approvals WHERE id = ?", id_)
    if row is None:
        raise HiveError("APPROVAL_NOT_FOUND", f"There is no approval {id_!r}.", details={"id": id_})
    return rows.read(Approval, row)


def find_request(tx: Tx, execution: str, request: str) -> Approval | None:
    """The approval of Claude's own request id."""
    row = tx.one(
        f"SELECT {COLUMNS} FROM approvals WHERE execution = ? AND request = ?", execution, request
    )
    return rows.read(Approval, row) if row is not None else None


def of_execution(tx: Tx, execution: str, state: ApprovalState) -> list[Approval]:
    """An execution's approvals in a state, oldest first."""
    found = tx.all(
        f"SELECT {COLUMNS} FROM approvals WHERE execution = ? AND state = ? ORDER BY id",
        execution,
        state,
    )
    return [rows.read(Approval, row) for row in found]


def describe(approval: Approval) -> dict[str, Any]:
    """An approval as events and results show it."""
    return {
        "id": approval.id,
        "version": approval.version,
        "state": approval.state,
        "kind": approval.kind,
        "execution": approval.execution,
        "project": approval.project,
        "tool": approval.tool,
        "input": approval.input,
        "description": approval.description,
        "summary": approval.summary,
        "suggestions": approval.suggestions,
        "claude_request": approval.request,
        "decision": approval.decision,
        "decided_by": approval.decided_by,
        "message": approval.message,
        "changed_input": approval.changed_input,
        "answers": approval.answers,
        "created_at": format_us(approval.created_us),
        "decided_at": format_us(approval.decided_us) if approval.decided_us else None,
        "rule": approval.rule,
        "expires_at": format_us(approval.expires_us) if approval.expires_us else None,
        "on_timeout": approval.on_timeout,
        "timed_out": approval.timed_out,
        "risk": approval.risk,
        "risk_reason": approval.risk_reason,
        "directory": approval.directory,
    }


def count_pending(tx: Tx, execution: str) -> int:
    """How many requests of an execution wait for a person."""
    found = tx.one(
        "SELECT count(*) FROM approvals WHERE execution = ? AND state = 'pending'", execution
    )
    assert found is not None
    return int(found[0])


def request(tx: Tx, approval: Approval, *, is_for_people: bool = True) -> Approval:
    """Store what Claude asks; the same request again is the one stored before.

    What a rule answers in the same breath is announced with its answer only: nobody is to be asked."""
    known = find_request(tx, approval.execution, approval.request)
    if known is not None:
        return known
    tx.run(
        "INSERT INTO approvals(id, execution, project, request, kind, tool, input, description, suggestions, state, created_us,"
        " rule, expires_us, on_timeout, risk, risk_reason, directory) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        approval.id, approval.execution, approval.project, approval.request, approval.kind, approval.tool,
        rows.dump(approval.input), approval.description, rows.dump(approval.suggestions), ApprovalState.PENDING, tx.now_us,
        approval.rule, approval.expires_us, approval.on_timeout, approval.risk, approval.risk_reason, approval.directory,
    )  # fmt: skip
    stored = find(tx, approval.id)
    if is_for_people:
        stream = f"project:{stored.project}"
        tx.emit(stream, "approval.requested", describe(stored), execution=stored.execution)
        threads.follow(tx, stored)
    return stored


def decide(
    tx: Tx,
    id_: str,
    *,
    version: int | None,
    decision: str,
    answer: dict[str, Any],
    message: str,
    by: str,
    request_id: str = "",
    timed_out: bool = False,
) -> Approval:
    """Answer a pending approval. Raises ALREADY_DECIDED (saying who) or VERSION_CONFLICT."""
    approval = find(tx, id_)
    if ApprovalState.DECIDED not in APPROVAL_MOVES[approval.state]:
        how = (
            f"{approval.decision} by {approval.decided_by}" if approval.decided_by else "withdrawn"
        )
        raise HiveError(
            "ALREADY_DECIDED",
            f"Approval {id_} is closed: {how}.",
            details={
                "state": approval.state,
                "decision": approval.decision,
                "decided_by": approval.decided_by,
            },
        )
    if version is not None and version != approval.version:
        raise HiveError(
            "VERSION_CONFLICT",
            f"Approval {id_} is at version {approval.version}.",
            details={"version": approval.version},
        )
    tx.run(
        "UPDATE approvals SET state = ?, version = version + 1, decision = ?, answer = ?, message = ?, decided_by = ?, decided_us = ?,"
        " timed_out = ? WHERE id = ? AND state = ?",
        ApprovalState.DECIDED, decision, rows.dump(answer), message, by, tx.now_us, timed_out, id_, ApprovalState.PENDING,
    )  # fmt: skip
    decided = find(tx, id_)
    stream = f"project:{decided.project}"
    tx.emit(
        stream,
        "approval.decided",
        describe(decided),
        execution=decided.execution,
        actor=by,
        request=request_id or None,
    )
    threads.follow(tx, decided)
    return decided


def withdraw(tx: Tx, id_: str) -> Approval:
    """Nobody needs to answer any more; one that was decided stays so."""
    approval = find(tx, id_)
    if ApprovalState.WITHDRAWN in APPROVAL_MOVES[approval.state]:
        tx.run(
            "UPDATE approvals SET state = ?, version = version + 1, decided_us = ? WHERE id = ?",
            ApprovalState.WITHDRAWN, tx.now_us, id_,
        )  # fmt: skip
        approval = find(tx, id_)
        tx.emit(
            f"project:{approval.project}",
            "approval.expired",
            describe(approval),
            execution=approval.execution,
        )
        threads.follow(tx, approval)
    return approval


NEXT_EXPIRY = "SELECT min(expires_us) AS due_us FROM approvals WHERE state = 'pending' AND expires_us IS NOT NULL"


def expired(tx: Tx, *, limit: int) -> list[Approval]:
    """Pending ones whose time is over, the longest overdue first."""
    found = tx.all(
        f"SELECT {COLUMNS} FROM approvals WHERE state = 'pending' AND expires_us <= ? ORDER BY expires_us, id LIMIT ?",
        tx.now_us, limit,
    )  # fmt: skip
    return [rows.read(Approval, row) for row in found]


def delivered(tx: Tx, id_: str) -> None:
    """Claude has the answer."""
    tx.run("UPDATE approvals SET is_delivered = 1 WHERE id = ?", id_)


def undelivered(tx: Tx, execution: str) -> list[Approval]:
    """Answers that Claude may not have heard yet."""
    return [a for a in of_execution(tx, execution, ApprovalState.DECIDED) if not a.is_delivered]


def restore(tx: Tx, told: dict[str, Any]) -> None:
    """An approval again from its event, after the database was lost: one that waits, or one that is decided,
    which Claude may not have heard. Written again, it is heard once."""
    expires, is_decided = told.get("expires_at"), told["state"] == ApprovalState.DECIDED
    if tx.one("SELECT 1 FROM executions WHERE id = ?", told["execution"]) is None:
        return  # what asked could not be restored: nobody would hear the answer
    tx.run(
        "INSERT INTO approvals(id, execution, project, request, kind, tool, input, description, suggestions, state, version,"
        " created_us, rule, expires_us, on_timeout, risk, risk_reason, directory, decision, answer, message, decided_by, decided_us)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        told["id"], told["execution"], told["project"], told["claude_request"], told["kind"], told["tool"],
        rows.dump(told["input"]), told["description"], rows.dump(told["suggestions"]), told["state"], told["version"],
        tx.now_us, told.get("rule"), parse_time_us(expires) if expires else None, told.get("on_timeout"),
        told.get("risk", "medium"), told.get("risk_reason", ""), told.get("directory", ""), told["decision"],
        rows.dump(_heard(told)) if is_decided else None, told["message"], told["decided_by"],
        tx.now_us if is_decided else None,
    )  # fmt: skip


def _heard(told: dict[str, Any]) -> dict[str, Any]:
    if told["decision"] != "allow":
        return {"allow": False, "message": told["message"] or "The user denied this."}
    said = told.get("changed_input") or told["input"]
    if answers := told.get("answers"):
        said = {**said, "answers": answers}
    return {"allow": True, "input": said}


# --- policies ------------------------------------------------------------------------------------------

POLICY_COLUMNS = "id, position, action, tool, match, project, note, created_by, created_us, timeout_s, on_timeout"
MAX_POLICIES = 1000


def policies(tx: Tx) -> list[dict[str, Any]]:
    """All rules in the order they are tried."""
    found = tx.all(f"SELECT {POLICY_COLUMNS} FROM policies ORDER BY position, id")
    return [policy_row(row) for row in found]


def policy_row(row: Any) -> dict[str, Any]:
    """A rule as results show it."""
    import msgspec  # noqa: PLC0415  one use

    return {
        "id": row["id"],
        "position": row["position"],
        "action": row["action"],
        "tool": row["tool"],
        "match": msgspec.json.decode(row["match"]),
        "project": row["project"],
        "note": row["note"],
        "created_by": row["created_by"],
        "created_at": format_us(row["created_us"]),
        "timeout_s": row["timeout_s"],
        "on_timeout": row["on_timeout"],
    }


def add_policy(
    tx: Tx,
    policy: dict[str, Any],
    *,
    first: bool,
    by: str,
    request_id: str,
    before: str | None = None,
) -> dict[str, Any]:
    """Add a rule at the end, before all others, or right before one (at the end where that is gone).
    Raises RESOURCE_LIMIT."""
    edge = tx.one("SELECT min(position), max(position), count(*) FROM policies")
    assert edge is not None
    if edge[2] >= MAX_POLICIES:
        raise HiveError(
            "RESOURCE_LIMIT",
            f"There are {MAX_POLICIES} rules, the most allowed.",
            details={"limit": MAX_POLICIES},
        )
    position = (edge[0] or 0) - 1 if first else (edge[1] or 0) + 1
    if before is not None and (row := tx.one("SELECT position FROM policies WHERE id = ?", before)):
        position = row["position"]
        tx.run("UPDATE policies SET position = position + 1 WHERE position >= ?", position)
    tx.run(
        "INSERT INTO policies(id, position, action, tool, match, project, note, created_by, created_us, timeout_s,"
        " on_timeout) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
        policy["id"], position, policy["action"], policy["tool"], rows.dump(policy["match"]), policy["project"],
        policy["note"], by, tx.now_us, policy.get("timeout_s"), policy.get("on_timeout"),
    )  # fmt: skip
    row = tx.one(f"SELECT {POLICY_COLUMNS} FROM policies WHERE id = ?", policy["id"])
    added = policy_row(row)
    tx.emit(
        "system",
        "policy.changed",
        {"action": "added", "policy": added},
        actor=by,
        request=request_id,
    )
    return added


def remove_policy(tx: Tx, id_: str, *, by: str, request_id: str) -> None:
    """Remove a rule. Raises POLICY_NOT_FOUND."""
    row = tx.one(f"SELECT {POLICY_COLUMNS} FROM policies WHERE id = ?", id_)
    if row is None:
        raise HiveError("POLICY_NOT_FOUND", f"There is no policy {id_!r}.")
    tx.run("DELETE FROM policies WHERE id = ?", id_)
    tx.emit(
        "system",
        "policy.changed",
        {"action": "removed", "policy": policy_row(row)},
        actor=by,
        request=request_id,
    )


# --- audit ---------------------------------------------------------------------------------------------


def audit(tx: Tx, entry: dict[str, Any]) -> None:
    """Append to the chain."""
    last = tx.one("SELECT hash FROM audit ORDER BY id DESC LIMIT 1")
    body = rows.dump(entry)
    chained = chain.link(last["hash"] if last else chain.GENESIS, tx.now_us, body)
    tx.run("INSERT INTO audit(at_us, body, hash) VALUES (?,?,?)", tx.now_us, body, chained)
    tx.emit(
        "system",
        "audit.entry",
        entry,
        actor=str(entry.get("actor", "")),
        request=str(entry.get("request", "")) or None,
    )
