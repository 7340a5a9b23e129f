"""Questions for people, in one shape for Claude's own, those of ask_human and those of workers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hivectl.cli import asking, views
from hivectl.cli.sanitize import one_line, reveal
from hivectl.model.errors import HiveError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hivectl.cli.screen import Screen
    from hivectl.client.aio import Client

Item = Mapping[str, Any]
_TEXT_SHOWN = 4000


def as_row(question: Item) -> dict[str, Any]:
    """A question as a row of the inbox, beside approvals: with the fields their tables read."""
    source = {"ask_user_question": "AskUserQuestion"}.get(question["source"], question["source"])
    return {
        **question,
        "kind": "question",
        "tool": source,
        "summary": question["text"],
        "project_name": question.get("project_name") or "-",
        "input": {},
        "decision": {"answered": "deny" if question["declined"] else "allow"}.get(
            str(question["state"])
        ),
        "decided_by": question.get("answered_by"),
    }


def from_event(data: Item) -> dict[str, Any]:
    """The shape of `question.get` from the data of a `question.*` event."""
    choices = [{"label": label, "description": ""} for label in data.get("choices") or []]
    only = {"question": data["text"], "header": "", "choices": choices, "multi": data.get("multi")}
    source = "ask_human" if data.get("claude_request") else "worker"
    return {"source": source, "declined": False, **data, "questions": [only]}


def show(screen: Screen, question: Item) -> None:
    """What is asked, whole, on stderr; control characters as visible escapes."""
    who = "Claude asks" if question["source"] != "worker" else f"{question['asker']} asks"
    about = question.get("project_name") or ""
    screen.note(("ask", f"? {who}"), ("dim", f"  {question['id']}  {about}"))
    if question.get("context"):
        screen.note(("", "  " + _shown(question["context"]).replace("\n", "\n  ")))
    if question.get("expires_at"):
        screen.note(("dim", f"  waits until {question['expires_at']}"))


def _shown(text: str) -> str:
    text = reveal(str(text))
    if len(text) <= _TEXT_SHOWN:
        return text
    return f"{text[:_TEXT_SHOWN]}… ({len(text):,} characters; all with `hivectl answer ID --json`)"


def _options(asked: Item) -> list[Mapping[str, Any]]:
    return [choice for choice in asked.get("choices") or [] if isinstance(choice, Mapping)]


async def ask(screen: Screen, question: Item) -> dict[str, Any] | None:
    """The answer as parameters of `question.answer`, or None when nobody answers."""
    show(screen, question)
    answers: dict[str, str] = {}
    for asked in question["questions"]:
        options = _options(asked)
        screen.note(("bold", f"  {_shown(asked['question'])}"))
        show_choices(screen, options)
        answer = await asking.ask_choice(screen, options, may_many=asked.get("multi") is True)
        if answer is None:
            return None
        answers[str(asked["question"])] = answer
    return {"answers": answers}


def show_choices(screen: Screen, options: Sequence[Item]) -> None:
    """The choices with their numbers."""
    for number, option in enumerate(options, 1):
        note = f"  {reveal(str(option['description']))}" if option.get("description") else ""
        label = reveal(str(option.get("label", "")))
        screen.note(("bold", f"  {number}. {label}"), ("dim", note))


def given(
    question: Item, *, text: str, choices: Sequence[str], answers: Sequence[str], decline: bool
) -> dict[str, Any] | None:
    """The answer a command line gives, as parameters of `question.answer`; None where it gives none.

    Raises HiveError INVALID_PARAMS for one that does not fit."""
    if decline:
        return {"decline": True, "text": text}
    if answers:
        if text or choices:
            raise HiveError("INVALID_PARAMS", "Give either --answer, or a text and choices.")
        return {"answers": _by_question(question, answers)}
    if not text and not choices:
        return None
    if len(question["questions"]) > 1:
        raise HiveError(
            "INVALID_PARAMS",
            f"{question['id']} asks {len(question['questions'])} questions.",
            hint="Answer each, in their order, with --answer.",
        )
    wanted = [int(choice) if choice.isdigit() else choice for choice in choices]
    return {"text": text, **({"choices": wanted} if wanted else {})}


def _by_question(question: Item, answers: Sequence[str]) -> dict[str, str]:
    asked = question["questions"]
    texts = [str(item["question"]) for item in asked]
    found: dict[str, str] = {}
    for number, item in enumerate(answers):
        named = next((text for text in texts if item.startswith(f"{text}=")), None)
        if named is not None:
            found[named] = item[len(named) + 1 :]
        elif number < len(asked):
            options, may_many = _options(asked[number]), bool(asked[number].get("multi"))
            if stray := asking.stray_numbers(item, options, may_many=may_many):
                whole = f"{texts[number]}={item}"
                raise HiveError(
                    "INVALID_PARAMS",
                    f"There is no choice {', '.join(stray)}.",
                    hint=f"To send it as your own words: --answer {whole!r}.",
                )
            found[texts[number]] = asking.chosen(item, options, may_many=may_many)
        else:
            raise HiveError(
                "INVALID_PARAMS", f"There are {len(texts)} questions, not {len(answers)}."
            )
    return found


def answered(question: Item) -> str:
    """One line: what was answered."""
    if question["declined"]:
        return f"declined  {question['id']}  {one_line(question.get('answer') or '')}".rstrip()
    return f"answered  {question['id']}  {one_line(question.get('answer') or '')}"


async def send(client: Client, question: Item, answer: Mapping[str, Any]) -> Item:
    """Answer the version that was looked at."""
    done: Item = await client.call(
        "question.answer", id=question["id"], version=question["version"], **answer
    )
    return done


def since(question: Item, now_s: float) -> str:
    """How long it waits."""
    return views.ago(question["created_at"], now_s)
