"""Decide an approval from the command line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hivectl.cli import asking, views
from hivectl.cli.sanitize import one_line
from hivectl.cli.session import Session
from hivectl.model.errors import HiveError

if TYPE_CHECKING:
    from hivectl.client.aio import Client


async def decide(
    client: Client, found: Mapping[str, Any], decision: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Send the decision for the version that was looked at."""
    done: Mapping[str, Any] = await client.call(
        "approval.decide", id=found["id"], version=found["version"], **decision
    )
    return done


async def allow(
    hive: Session, found: Mapping[str, Any], *, given: str | None, edit: bool, answers: list[str]
) -> dict[str, Any]:
    """The parameters that allow it. Raises HiveError INVALID_PARAMS for input or answers that do not fit."""
    decision: dict[str, Any] = {"decision": "allow"}
    if asking.needs_answers(found) and not (given or edit):
        decision["answers"] = await _answers(hive, found, answers)
        return decision
    if answers:
        raise HiveError(
            "INVALID_PARAMS",
            f"{found['id']} is {'a plan' if asking.is_plan(found) else 'no question'}: --answer does not fit it.",
            hint=f"Say yes with `hivectl approve {found['id']}`, or no with `hivectl deny {found['id']}`.",
        )
    if edit:
        before = json.dumps(found["input"], indent=2, ensure_ascii=False)
        given = await asking.edit_text(hive.settings, before + "\n", suffix=".json")
    if given is not None:
        decision["input"] = json_object(given)
    return decision


def json_object(text: str) -> dict[str, Any]:
    """An input given as text. Raises HiveError INVALID_PARAMS."""
    try:
        value = json.loads(text)
    except ValueError as exc:
        raise HiveError("INVALID_PARAMS", f"The input is not JSON: {exc}.") from exc
    if not isinstance(value, dict):
        raise HiveError("INVALID_PARAMS", "The input must be a JSON object.")
    return value


async def _answers(hive: Session, found: Mapping[str, Any], given: list[str]) -> dict[str, str]:
    questions = asking.questions_of(found)
    if not given:
        if not hive.screen.is_interactive:
            raise HiveError(
                "INVALID_PARAMS",
                f"{found['id']} is a question and needs an answer.",
                hint='Give it with --answer "…"; `hivectl inbox --json` shows the choices.',
            )
        decision = await asking.ask_question(hive.screen, found)
        if decision is None:
            raise HiveError("INVALID_PARAMS", "No answer was given.")
        answered: dict[str, str] = decision["answers"]
        return answered
    texts = [str(question.get("question", "")) for question in questions]
    answers: dict[str, str] = {}
    for number, item in enumerate(given):
        name = next((text for text in texts if item.startswith(f"{text}=")), None)
        if name is not None:
            answers[name] = item[len(name) + 1 :]
        elif number < len(texts):
            answers[texts[number]] = _answer(item, questions[number], texts)
        else:
            raise HiveError(
                "INVALID_PARAMS", f"There are {len(texts)} questions, not {len(given)}."
            )
    return answers


def _answer(item: str, question: Mapping[str, Any], texts: list[str]) -> str:
    """A choice or words for one question. Raises HiveError INVALID_PARAMS for what looks mistaken."""
    options = [o for o in question.get("options") or [] if isinstance(o, Mapping)]
    may_many = bool(question.get("multiSelect"))
    whole = f"{question.get('question')}={item}"
    own_words = f"To send it as your own words: --answer {whole!r}."
    if stray := asking.stray_numbers(item, options, may_many=may_many):
        raise HiveError("INVALID_PARAMS", f"There is no choice {', '.join(stray)}.", hint=own_words)
    answer = asking.chosen(item, options, may_many=may_many)
    name, mark, _ = item.partition("=")
    if mark and answer not in {str(option.get("label")) for option in options}:
        asked = "; ".join(texts)
        raise HiveError(
            "INVALID_PARAMS",
            f"There is no question {name!r}; asked: {asked}",
            hint=own_words,
        )
    return answer


def print_decided(
    hive: Session, done: list[Mapping[str, Any]], *, has_interrupted: bool = False
) -> None:
    """What was decided, and what Claude hears instead of what it wanted."""
    match hive.options.output:
        case "json" | "yaml":
            hive.print_document(done[0] if len(done) == 1 else {"items": done})
        case "name":
            hive.screen.result("\n".join(str(item["id"]) for item in done))
        case _:
            for item in done:
                word = "allowed" if item["decision"] == "allow" else "denied"
                what = one_line(f"{item['tool']}  {views.what(item)}").strip()
                end = f"; {item['execution']} was told to stop" if has_interrupted else ""
                hive.screen.result(f"{word}  {item['id']}  {what}{end}")
                for text in views.instead(item):
                    hive.screen.result(f"  {one_line(text)}")
