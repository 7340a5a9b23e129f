"""Questions to people, from wherever they come, in one shape."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from hivectl.engine.effects import patience_for
from hivectl.engine.questions import patience_of
from hivectl.kit.clock import format_us
from hivectl.logic.redact import excerpt
from hivectl.model.access import Caller
from hivectl.model.approval import Approval
from hivectl.model.errors import HiveError
from hivectl.model.question import OnTimeout, Patience, Question, QuestionState, spoken
from hivectl.model.work import EXECUTION_ENDS
from hivectl.services.house import Handler, House, page_cursor
from hivectl.services.people import People
from hivectl.services.projects import Projects
from hivectl.services.views import time_or_none
from hivectl.store import chats, leases, projects, questions, rows, work
from hivectl.store.database import Tx

CLAUDES_OWN = "AskUserQuestion"
_APPROVAL_STATES = {"pending": "pending", "answered": "decided", "withdrawn": "withdrawn"}


class Questions:
    """Answers `question.*`."""

    def __init__(self, house: House, projects: Projects, people: People) -> None:
        """Over the rooms below; Claude's own questions are answered as the approvals they are."""
        self._h = house
        self._projects = projects
        self._people = people

    def bindings(self) -> dict[str, Handler]:
        """Method name to handler."""
        return {
            "question.list": self.list,
            "question.get": self.get,
            "question.wait": self.wait,
            "question.answer": self.answer,
            "question.ask": self.ask,
        }

    async def list(self, caller: Caller, p: Any) -> dict[str, Any]:
        """A page, oldest first, of both kinds."""
        project = (await self._projects.find(p.project)).id if p.project else None
        state = None if p.state == "all" else p.state
        approval_state = None if state is None else _APPROVAL_STATES.get(state, "none")
        after = p.cursor.partition("_")[2] if p.cursor else ""
        found = await self._h.db.all(
            "SELECT id FROM (SELECT id FROM questions WHERE (?1 IS NULL OR state = ?1) AND (?2 IS NULL OR project = ?2)"
            " AND (?3 IS NULL OR execution = ?3) UNION ALL SELECT id FROM approvals WHERE ?4 AND tool = ?5"
            " AND (?6 IS NULL OR state = ?6) AND (?2 IS NULL OR project = ?2) AND (?3 IS NULL OR execution = ?3))"
            " WHERE substr(id, 3) > ?7 ORDER BY substr(id, 3) LIMIT ?8",
            state, project, p.execution, int(p.claude), CLAUDES_OWN, approval_state, after, p.limit,
        )  # fmt: skip
        ids = [row["id"] for row in found]
        views = await self._views(ids)
        # One that went with its project in between is left out; the cursor is of the last that was found.
        items = [views[id_] for id_ in ids if id_ in views]
        cursor = page_cursor([{"id": id_} for id_ in ids], p.limit, "id")
        return {"items": items, "next_cursor": cursor}

    async def _views(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        now = self._h.clock.now_us()
        views: dict[str, dict[str, Any]] = {}
        for select, prefix in ((_QUESTIONS, "q"), (_APPROVALS, "a")):
            wanted = [id_ for id_ in ids if id_.startswith(f"{prefix}_")]
            marks = ",".join("?" for _ in wanted)
            for row in await self._h.db.all(f"{select} WHERE {prefix}.id IN ({marks})", *wanted):
                view = question_view if prefix == "q" else claudes_view
                views[row["id"]] = view(row, now)
        return views

    async def view(self, id_: str) -> dict[str, Any]:
        """A question as the wire shows it. Raises QUESTION_NOT_FOUND."""
        views = await self._views([id_])
        if id_ not in views or views[id_]["kind"] != "question":
            raise not_found(id_)
        return views[id_]

    async def get(self, caller: Caller, p: Any) -> dict[str, Any]:
        """One question."""
        return await self.view(p.id)

    async def wait(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Return when it no longer waits."""
        await self._h.engine.questions.wait(p.id, p.timeout_s)
        return await self.view(p.id)

    async def reply(self, caller: Caller, id_: str, text: str) -> None:
        """Answer in the words of a message."""
        given = SimpleNamespace(
            id=id_, version=None, text=text, choices=None, answers=None, decline=False
        )
        await self.answer(caller, given)

    async def answer(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Answer; the first answer wins."""
        if p.id.startswith("a_"):
            await self._answer_claudes(caller, p)
        else:
            asked = await self._h.db.write(lambda tx: questions.find(tx, p.id))
            said = check_answer(asked, p)

            def change(tx: Tx) -> Question:
                return questions.answer(
                    tx, p.id, said, version=p.version, by=caller.actor, request_id=caller.request
                )

            await self._h.engine.answer(change)
        return await self.view(p.id)

    async def _answer_claudes(self, caller: Caller, p: Any) -> None:
        asked = await self.view(p.id)
        version = p.version if p.version is not None else asked["version"]
        if p.decline:
            await self._people.decide_as(
                caller, p.id, version=version, decision="deny", message=p.text
            )
            return
        answers = p.answers
        if answers is None:
            if len(asked["questions"]) > 1:
                names = [item["question"] for item in asked["questions"]]
                raise _unfit("answers", f"there are {len(names)} questions: {names}")
            if not asked["questions"]:
                raise _unfit("answers", "Claude asks nothing that can be answered; decline it")
            only = asked["questions"][0]
            labels = [choice["label"] for choice in only["choices"]]
            said = _said(p, labels, multi=only["multi"])
            answers = {only["question"]: spoken(said)}
        await self._people.decide_as(
            caller, p.id, version=version, decision="allow", answers=answers
        )

    async def ask(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Store a question; whoever asks may wait for its answer with `question.wait`."""
        execution = caller.execution or p.execution
        if caller.execution is not None and p.execution not in (None, caller.execution):
            raise HiveError("FORBIDDEN", "An execution asks for itself only.")
        project = (await self._projects.find(p.project)).id if p.project else None
        general = patience_of(self._h.settings())

        def change(tx: Tx) -> Question:
            asker = caller.actor
            if p.worker is not None:
                worker, _ = leases.carried(tx, p.worker, p.execution, actor=caller.actor)
                asker = worker.actor_name
            if execution is not None:
                chat = chats.of_execution(tx, _asking(tx, execution))
                if caller.execution is not None:
                    asker = f"execution:{chat.execution}"
            else:
                chat = chats.of_owner(tx, caller.actor, project)
            patience = general
            if chat.project is not None:
                patience = patience_for(general, projects.find(tx, chat.project).defaults)
            wish = questions.Wish(
                asker=asker,
                text=p.text.strip(),
                choices=tuple(dict.fromkeys(p.choices)),
                multi=p.multi,
                context=p.context,
                execution=chat.execution,
                patience=_patience(patience, p),
                request_id=caller.request,
            )
            asked = questions.ask(tx, wish, chat)
            if p.worker is not None:
                work.wait_for_person(tx, p.execution)
            return asked

        if not p.text.strip():
            raise _unfit("text", "it holds only white space")
        asked = await self._h.db.write(change)
        return await self.view(asked.id)


def _asking(tx: Tx, ref: str) -> str:
    """The live execution that asks: the one of this id, or the one its process carries by now (what a warm
    process started bears the mark of its first). Raises INVALID_STATE when it has ended."""
    execution = work.find(tx, ref)
    if execution.state in EXECUTION_ENDS:
        live = tx.one(
            "SELECT id FROM executions WHERE process = ? AND state IN ('starting','running','waiting')",
            execution.process,
        )
        if live is None:
            raise HiveError(
                "INVALID_STATE",
                f"Execution {execution.id} has ended ({execution.state}): nobody would hear the answer.",
                details={"execution": execution.id, "state": execution.state},
            )
        return str(live["id"])
    return execution.id


def _patience(general: Patience, p: Any) -> Patience:
    return Patience(
        general.timeout_s if p.timeout_s is None else p.timeout_s,
        general.on_timeout if p.on_timeout is None else OnTimeout(p.on_timeout),
    )


def check_answer(asked: Question, p: Any) -> dict[str, Any]:
    """The answer as stored. Raises INVALID_PARAMS for one that does not fit what was asked."""
    if p.answers is not None:
        unknown = [text for text in p.answers if text != asked.text]
        if unknown or not p.answers:
            raise _unfit("answers", f"asked was {asked.text[:200]!r}")
        if p.text or p.choices:
            raise _unfit("answers", "give either answers, or text and choices")
        return {"text": p.answers[asked.text], "choices": [], "declined": False}
    if p.decline:
        if p.choices:
            raise _unfit("choices", "a question that is declined has no choice")
        return {"text": p.text, "choices": [], "declined": True}
    return _said(p, asked.choices, multi=asked.multi)


def _said(p: Any, labels: list[str], *, multi: bool) -> dict[str, Any]:
    chosen = [_label(choice, labels) for choice in p.choices or []]
    if len(chosen) > 1 and not multi:
        raise _unfit("choices", "one choice only")
    if not chosen and not p.text.strip():
        raise _unfit("text", "an answer needs words or a choice")
    return {"text": p.text, "choices": list(dict.fromkeys(chosen)), "declined": False}


def _label(choice: int | str, labels: list[str]) -> str:
    if isinstance(choice, int):
        if not 1 <= choice <= len(labels):
            raise _unfit("choices", f"there is no choice {choice}; there are {len(labels)}")
        return labels[choice - 1]
    if choice not in labels:
        raise _unfit(
            "choices", f"{excerpt(choice, 200)!r} is no choice; give your own words as text"
        )
    return choice


def _unfit(name: str, why: str) -> HiveError:
    return HiveError(
        "INVALID_PARAMS",
        f"{name}: {why}.",
        details={"errors": [{"pointer": f"/{name}", "message": why}]},
    )


def not_found(id_: str) -> HiveError:
    """QUESTION_NOT_FOUND."""
    return HiveError("QUESTION_NOT_FOUND", f"There is no question {id_!r}.", details={"id": id_})


# --- views ---------------------------------------------------------------------------------------------

_QUESTIONS = (
    f"SELECT {rows.columns(Question, 'q')}, p.name AS name, e.session AS session FROM questions q"
    " LEFT JOIN projects p ON p.id = q.project LEFT JOIN executions e ON e.id = q.execution"
)
_APPROVALS = (
    f"SELECT {rows.columns(Approval, 'a')}, p.name AS name, e.session AS session, c.id AS thread, m.id AS message_id"
    " FROM approvals a JOIN projects p ON p.id = a.project JOIN executions e ON e.id = a.execution"
    " LEFT JOIN chats c ON c.execution = a.execution LEFT JOIN chat_messages m ON m.question = a.id AND m.type = 'request'"
)


def question_view(row: Any, now_us: int) -> dict[str, Any]:
    """A question of ask_human or of a worker."""
    question = rows.read(Question, row)
    answer = spoken(question.answer) if question.answer else None
    choices = [{"label": label, "description": ""} for label in question.choices]
    return {
        "id": question.id,
        "version": question.version,
        "state": question.state,
        "kind": "question",
        "source": "worker" if question.request is None else "ask_human",
        "asker": question.asker,
        "execution": question.execution,
        "project": question.project,
        "project_name": row["name"],
        "session": row["session"],
        "thread": question.thread,
        "message_id": question.message_id,
        "text": question.text,
        "choices": question.choices,
        "multi": question.multi,
        "context": question.context,
        "questions": [
            {"question": question.text, "header": "", "choices": choices, "multi": question.multi}
        ],
        "answer": answer,
        "answers": None if answer is None else {question.text: answer},
        "declined": question.is_declined,
        "answered_by": question.answered_by,
        "reason": question.reason,
        "on_timeout": question.on_timeout,
        "expires_at": time_or_none(question.expires_us),
        "created_at": format_us(question.created_us),
        "answered_at": time_or_none(question.answered_us),
        "waited_ms": max(0, (question.answered_us or now_us) - question.created_us) // 1000,
    }


def claudes_view(row: Any, now_us: int) -> dict[str, Any]:
    """An approval that is a question, in the same shape."""
    approval = rows.read(Approval, row)
    asked = claudes_questions(approval)
    answers = approval.answers
    state = "answered" if approval.state == "decided" else approval.state
    is_declined = approval.decision == "deny"
    only = asked[0] if len(asked) == 1 else None
    return {
        "id": approval.id,
        "version": approval.version,
        "state": QuestionState(state),
        "kind": "question" if approval.tool == CLAUDES_OWN else approval.kind,
        "source": "ask_user_question",
        "asker": f"execution:{approval.execution}",
        "execution": approval.execution,
        "project": approval.project,
        "project_name": row["name"],
        "session": row["session"],
        "thread": row["thread"],
        "message_id": row["message_id"],
        "text": " / ".join(item["question"] for item in asked) or approval.summary,
        "choices": [choice["label"] for choice in only["choices"]] if only else [],
        "multi": only["multi"] if only else False,
        "context": "",
        "questions": asked,
        "answer": approval.message if is_declined else _joined(answers),
        "answers": answers,
        "declined": is_declined,
        "answered_by": approval.decided_by,
        "reason": "",
        "on_timeout": OnTimeout.WAIT,
        "expires_at": None,
        "created_at": format_us(approval.created_us),
        "answered_at": time_or_none(approval.decided_us),
        "waited_ms": max(0, (approval.decided_us or now_us) - approval.created_us) // 1000,
    }


def _joined(answers: dict[str, str] | None) -> str | None:
    return None if answers is None else " / ".join(str(answer) for answer in answers.values())


def claudes_questions(approval: Approval) -> list[dict[str, Any]]:
    """What Claude asks with its own tool; whatever does not look like a question is left out."""
    found = approval.input.get("questions")
    return [
        {
            "question": str(item.get("question", "")),
            "header": str(item.get("header", "")),
            "choices": [
                {"label": str(o.get("label", "")), "description": str(o.get("description", ""))}
                for o in item.get("options") or []
                if isinstance(o, dict)
            ],
            "multi": item.get("multiSelect") is True,
        }
        for item in (found if isinstance(found, list) else [])
        if isinstance(item, dict)
    ]
