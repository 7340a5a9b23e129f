"""Claude asks whether it may: a rule answers at once, or a person is asked, for a while or for ever."""

from __future__ import annotations

import os
from typing import Any

from hivectl.config import Settings
from hivectl.kit.clock import MICROSECOND
from hivectl.kit.ids import make_id
from hivectl.logic import expiry, policy, risk
from hivectl.logic.expiry import Timeouts
from hivectl.model.approval import Approval, ApprovalState
from hivectl.model.work import Execution
from hivectl.ports import PermissionAsked
from hivectl.store import people, projects, work, worktrees
from hivectl.store.database import Tx

PENDING_MAX = 200
"""Most requests of one execution that wait for a person; what it asks beyond is denied at once."""
TOO_MANY = f"{PENDING_MAX} requests of this execution wait for a person already."
DENIED_BY_DEFAULT = "No rule allows this, and approval.default is deny."


def timeouts_of(settings: Settings) -> Timeouts:
    """How long people have, as configured now."""
    return Timeouts(
        timeout_s=settings.seconds("approval.timeout_s"),
        on_timeout=settings["approval.on_timeout"],
        default=settings["approval.default"],
    )


def ask(
    tx: Tx, execution: Execution, item: PermissionAsked, *, default: str, timeouts: Timeouts
) -> Approval | None:
    """Store what Claude asks. Returns the approval when a rule has answered it already."""
    project = projects.find(tx, execution.project)
    where = worktrees.directory_of(tx, execution, project.path)
    place = policy.Place(project.id, where, os.path.realpath)
    rules = [policy_of(row) for row in people.policies(tx)]
    verdict = policy.decide(rules, item.tool, item.input, is_question=item.is_question, place=place)
    answer = _answer(verdict, item, default) or _one_too_many(tx, execution.id, item)
    rule = next((rule for rule in rules if rule.id == verdict.policy_id), None)
    ends = None
    if answer is None:
        ends = expiry.expiry(
            rule,
            item.tool,
            item.input,
            is_question=item.is_question,
            place=place,
            timeouts=timeouts,
        )
    danger = risk.assess(item.tool, item.input, place=place)
    approval = people.request(
        tx,
        Approval(
            id=make_id("a"),
            execution=execution.id,
            project=execution.project,
            request=item.request,
            kind="question" if item.is_question else "permission",
            tool=item.tool,
            input=item.input,
            description=item.description,
            suggestions=list(item.suggestions),
            state=ApprovalState.PENDING,
            version=1,
            decision=None,
            answer=None,
            message="",
            decided_by=None,
            is_delivered=False,
            created_us=tx.now_us,
            decided_us=None,
            rule=verdict.policy_id,
            expires_us=None if ends is None else tx.now_us + int(ends.after_s * MICROSECOND),
            on_timeout=None if ends is None else ends.decision,
            risk=danger.level,
            risk_reason=danger.reason,
            directory=where,
        ),
        is_for_people=answer is None,
    )
    if approval.state is not ApprovalState.PENDING:
        return None
    if answer is None:
        work.wait_for_person(tx, execution.id)
        return None
    by, said = answer
    return people.decide(
        tx,
        approval.id,
        version=None,
        decision="allow" if said["allow"] else "deny",
        answer=said,
        message=said.get("message", ""),
        by=by,
    )


def policy_of(row: dict[str, Any]) -> policy.Policy:
    """A rule as it is decided with."""
    return policy.Policy(
        id=row["id"],
        action=row["action"],
        tool=row["tool"],
        match=row["match"],
        project=row["project"],
        timeout_s=row["timeout_s"],
        on_timeout=row["on_timeout"],
    )


def _answer(
    verdict: policy.Verdict, item: PermissionAsked, default: str
) -> tuple[str, dict[str, Any]] | None:
    action: str = verdict.action
    by = f"policy:{verdict.policy_id}"
    if verdict.policy_id is None:
        action, by = default, "policy:default"
        if item.is_question and action == "allow":
            action = "ask"
    if action == "allow":
        return by, {"allow": True, "input": item.input}
    if action == "deny":
        message = (
            DENIED_BY_DEFAULT
            if verdict.policy_id is None
            else f"Denied by rule {verdict.policy_id}."
        )
        return by, {"allow": False, "message": message}
    return None


def _one_too_many(
    tx: Tx, execution: str, item: PermissionAsked
) -> tuple[str, dict[str, Any]] | None:
    # One that waits already may be read again after a restart: it goes on waiting.
    is_known = people.find_request(tx, execution, item.request) is not None
    if is_known or people.count_pending(tx, execution) < PENDING_MAX:
        return None
    return "policy:limit", {"allow": False, "message": TOO_MANY}


def expire(tx: Tx, approval: Approval) -> Approval:
    """Decide what nobody answered in time. Raises ALREADY_DECIDED where somebody just did."""
    assert approval.on_timeout is not None
    is_allowed = approval.on_timeout == "allow" and approval.kind != "question"
    message = expiry.sentence(approval.rule or "", is_allowed=is_allowed)
    said: dict[str, Any] = (
        {"allow": True, "input": approval.input}
        if is_allowed
        else {"allow": False, "message": message}
    )
    return people.decide(
        tx,
        approval.id,
        version=approval.version,
        decision="allow" if is_allowed else "deny",
        answer=said,
        message=message,
        by=f"policy:{approval.rule}" if approval.rule else "policy:timeout",
        timed_out=True,
    )
