"""Approvals and the rules that answer for a person."""

from __future__ import annotations

import asyncio
import os
from types import SimpleNamespace
from typing import Any

import msgspec

from hivectl.engine.permission import policy_of, timeouts_of
from hivectl.kit.ids import make_id
from hivectl.logic import expiry, explaining, policy, risk
from hivectl.model.access import Caller
from hivectl.model.approval import Approval, ApprovalState
from hivectl.model.errors import HiveError
from hivectl.services.house import Handler, House, page_cursor
from hivectl.services.projects import Projects
from hivectl.services.views import approval_view
from hivectl.store import people, rows
from hivectl.store.database import Tx


class People:
    """Answers `approval.*` and `policy.*`."""

    def __init__(self, house: House, projects: Projects) -> None:
        """Over the rooms below, beside the projects."""
        self._h = house
        self._projects = projects

    def bindings(self) -> dict[str, Handler]:
        """Method name to handler."""
        return {
            "approval.list": self.list,
            "approval.get": self.get,
            "approval.decide": self.decide,
            "policy.list": self.policies,
            "policy.add": self.add_policy,
            "policy.remove": self.remove_policy,
            "policy.test": self.test_policy,
        }

    async def list(self, caller: Caller, p: Any) -> dict[str, Any]:
        """A page, oldest first."""
        project = (await self._projects.find(p.project)).id if p.project else None
        state = None if p.state == "all" else p.state
        found = await self._h.db.all(
            f"{_APPROVALS} WHERE (? IS NULL OR a.state = ?) AND (? IS NULL OR a.project = ?) AND (? IS NULL OR a.execution = ?)"
            " AND a.id > ? ORDER BY a.id LIMIT ?",
            state, state, project, project, p.execution, p.execution, p.cursor or "", p.limit,
        )  # fmt: skip
        items = [_view(row) for row in found]
        return {"items": items, "next_cursor": page_cursor(items, p.limit, "id")}

    async def get(self, caller: Caller, p: Any) -> dict[str, Any]:
        """One approval."""
        row = await self._h.db.one(f"{_APPROVALS} WHERE a.id = ?", p.id)
        if row is None:
            raise HiveError(
                "APPROVAL_NOT_FOUND", f"There is no approval {p.id!r}.", details={"id": p.id}
            )
        return _view(row)

    async def decide(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Answer; the first answer wins."""
        approval = await self._h.db.write(lambda tx: people.find(tx, p.id))
        answer = _answer(approval, p)

        def change(tx: Tx) -> Approval:
            decided = people.decide(
                tx, p.id, version=p.version, decision=p.decision, answer=answer, message=p.message,
                by=caller.actor, request_id=caller.request,
            )  # fmt: skip
            if p.remember:
                # What was allowed is remembered, not what was asked for: the input may have been mended.
                is_mended = p.decision == "allow" and p.input is not None
                draft = policy.remember(decided.tool, p.input if is_mended else decided.input)
                rule = {
                    "id": make_id("po"), "action": p.decision, "tool": draft.tool, "match": dict(draft.match),
                    "project": decided.project, "note": f"remembered from {decided.id}",
                }  # fmt: skip
                # Behind the rule that asked it would never have its turn.
                people.add_policy(
                    tx,
                    rule,
                    first=False,
                    before=decided.rule,
                    by=caller.actor,
                    request_id=caller.request,
                )
            return decided

        decided = await self._h.engine.decide(change)
        return await self.get(caller, SimpleNamespace(id=decided.id))

    async def decide_as(self, caller: Caller, id_: str, **given: Any) -> None:
        """Decide on behalf of another method, by the rules of this one."""
        wanted = {
            "id": id_, "input": None, "answers": None, "message": "", "interrupt": False, "remember": False, **given,
        }  # fmt: skip
        await self.decide(caller, SimpleNamespace(**wanted))

    async def policies(self, caller: Caller, p: Any) -> dict[str, Any]:
        """All rules."""
        found = await self._h.db.all(
            f"SELECT {people.POLICY_COLUMNS} FROM policies ORDER BY position, id"
        )
        items = [people.policy_row(row) for row in found]
        return {"items": items, "default": self._h.settings().text("approval.default")}

    async def add_policy(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Add a rule."""
        project = (await self._projects.find(p.project)).id if p.project else None
        timeout_s, on_timeout = expiry.settle(p.action, p.timeout_s, p.on_timeout)
        rule = {
            "id": make_id("po"),
            "action": p.action,
            "tool": p.tool,
            "match": dict(p.match),
            "project": project,
            "note": p.note,
            "timeout_s": timeout_s,
            "on_timeout": on_timeout,
        }
        policy.validate_policy(
            policy.Policy(
                id=rule["id"], action=p.action, tool=p.tool, match=rule["match"], project=project
            )
        )
        return await self._h.db.write(
            lambda tx: people.add_policy(
                tx, rule, first=p.first, by=caller.actor, request_id=caller.request
            )
        )

    async def test_policy(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Which rule would decide, and why; what `remember` would write."""
        call = await self._call_of(p)
        found = await self._h.db.all(
            f"SELECT {people.POLICY_COLUMNS} FROM policies ORDER BY position, id"
        )
        given = [people.policy_row(row) for row in found]
        return await asyncio.to_thread(_test, given, call, timeouts_of(self._h.settings()))

    async def _call_of(self, p: Any) -> _Call:
        if p.approval is not None:
            asked = await self._h.db.write(lambda tx: people.find(tx, p.approval))
            place = policy.Place(asked.project, asked.directory or "/", os.path.realpath)
            given = asked.input if p.input is None else p.input
            return _Call(asked.tool, given, place, is_question=asked.kind == "question")
        if p.tool is None:
            raise _unfit("tool", "name a tool, or an approval")
        project = await self._projects.find(p.project) if p.project else None
        place = policy.Place(
            project.id if project else "", project.path if project else "/", os.path.realpath
        )
        return _Call(p.tool, p.input or {}, place, is_question=p.tool in policy.QUESTIONS)

    async def remove_policy(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Remove a rule."""
        await self._h.db.write(
            lambda tx: people.remove_policy(tx, p.id, by=caller.actor, request_id=caller.request)
        )
        return {"id": p.id}


class _Call(msgspec.Struct, frozen=True):
    """A call of a tool, as the rules look at it."""

    tool: str
    input: dict[str, Any]
    place: policy.Place
    is_question: bool


def _test(rules: list[dict[str, Any]], call: _Call, timeouts: expiry.Timeouts) -> dict[str, Any]:
    """In a thread: links are followed on the disk, for up to a thousand rules."""
    told = explaining.explain(
        [policy_of(rule) for rule in rules], call.tool, call.input, is_question=call.is_question, place=call.place
    )  # fmt: skip
    position = len(told.passed) if told.rule is not None else None
    rule = rules[position] if position is not None else None
    action = str(rule["action"]) if rule else timeouts.default
    if rule is None and call.is_question and action == "allow":
        action = "ask"
    ends = None
    if action == "ask":
        ends = expiry.expiry(
            told.rule, call.tool, call.input, is_question=call.is_question, place=call.place, timeouts=timeouts
        )  # fmt: skip
    danger = risk.assess(call.tool, call.input, place=call.place)
    return {
        "action": action,
        "rule": rule,
        "position": None if position is None else position + 1,
        "reason": told.reason if rule else f"{told.reason} approval.default is {timeouts.default}.",
        "timeout_s": ends.after_s if ends else None,
        "on_timeout": ends.decision if ends else None,
        "passed": [{"rule": rule.id, "why": why} for rule, why in told.passed],
        "risk": danger.level,
        "risk_reason": danger.reason,
        **_remembered(call),
    }


def _remembered(call: _Call) -> dict[str, Any]:
    """What `remember` would write for the call, or why it would not."""
    if call.is_question:
        return {"remember": None, "remember_problem": "No rule can answer a question."}
    try:
        draft = policy.remember(call.tool, call.input)
    except HiveError as exc:
        return {"remember": None, "remember_problem": exc.message}
    return {"remember": {"tool": draft.tool, "match": dict(draft.match)}, "remember_problem": ""}


_APPROVALS = (
    f"SELECT {rows.columns(Approval, 'a')}, p.name AS name, e.session AS session FROM approvals a"
    " JOIN projects p ON p.id = a.project JOIN executions e ON e.id = a.execution"
)


def _view(row: Any) -> dict[str, Any]:
    return approval_view(rows.read(Approval, row), project_name=row["name"], session=row["session"])


def _answer(approval: Approval, p: Any) -> dict[str, Any]:
    """What Claude is to hear. Raises INVALID_PARAMS for an answer that does not fit what was asked."""
    if approval.state is not ApprovalState.PENDING:
        return {"allow": False}  # never heard: the store refuses the decision, and says who decided
    if p.decision == "deny":
        return {
            "allow": False,
            "message": p.message or "The user denied this.",
            "interrupt": p.interrupt,
        }
    if p.interrupt:
        raise _unfit("interrupt", "goes with deny only")
    if p.remember and approval.kind == "question":
        raise _unfit("remember", "no rule can answer a question")
    if p.answers is not None:
        return {
            "allow": True,
            "input": {**approval.input, "answers": _checked_answers(approval, p.answers)},
        }
    if approval.tool == "AskUserQuestion" and p.input is None:
        raise _unfit("answers", "a question needs answers, or deny it with a message")
    return {"allow": True, "input": p.input if p.input is not None else approval.input}


def _checked_answers(approval: Approval, answers: dict[str, str]) -> dict[str, str]:
    asked = [q.get("question") for q in approval.input.get("questions", []) if isinstance(q, dict)]
    if not asked:
        raise _unfit("answers", f"{approval.tool} asks no question")
    unknown = [text for text in answers if text not in asked]
    if unknown:
        raise _unfit("answers", f"{unknown[0]!r} was not asked; asked: {asked}")
    missing = [text for text in asked if text not in answers]
    if missing:
        raise _unfit("answers", f"{missing[0]!r} has no answer")
    return answers


def _unfit(name: str, why: str) -> HiveError:
    return HiveError(
        "INVALID_PARAMS",
        f"{name}: {why}.",
        details={"errors": [{"pointer": f"/{name}", "message": why}]},
    )
