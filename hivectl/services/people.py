"""Approvals and the rules that answer for a person."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hivectl.kit.ids import make_id
from hivectl.logic import policy
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
                people.add_policy(tx, rule, first=False, by=caller.actor, request_id=caller.request)
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
        rule = {
            "id": make_id("po"),
            "action": p.action,
            "tool": p.tool,
            "match": dict(p.match),
            "project": project,
            "note": p.note,
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

    async def remove_policy(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Remove a rule."""
        await self._h.db.write(
            lambda tx: people.remove_policy(tx, p.id, by=caller.actor, request_id=caller.request)
        )
        return {"id": p.id}


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
