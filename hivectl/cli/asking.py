"""Ask the person at the terminal: one line at a time, without stopping the event loop.

A pending question can be taken back at any moment (it was answered elsewhere): the read is only a
readiness callback on the terminal's descriptor, nothing is left behind in a thread.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hivectl.cli.difference import difference
from hivectl.cli.sanitize import reveal
from hivectl.model.errors import HiveError

if TYPE_CHECKING:
    from hivectl.cli.screen import Screen
    from hivectl.config import Settings

_LINE_BYTES = 65536
_INPUT_CHARS = 4000
PLAN_TOOL = "ExitPlanMode"


async def read_line() -> str | None:
    """One line typed at the terminal; None at end of input."""
    loop = asyncio.get_running_loop()
    fd = sys.stdin.fileno()
    ready: asyncio.Future[None] = loop.create_future()

    def wake() -> None:
        if not ready.done():
            ready.set_result(None)

    loop.add_reader(fd, wake)
    try:
        await ready
    finally:
        loop.remove_reader(fd)
    data = os.read(fd, _LINE_BYTES)
    return data.decode(errors="replace").rstrip("\r\n") if data else None


def editor_command(settings: Settings) -> list[str]:
    """VISUAL, else EDITOR, else vi."""
    import shlex

    env = settings.environment
    return shlex.split(env.get("VISUAL") or env.get("EDITOR") or "vi")


async def edit_text(settings: Settings, text: str, *, suffix: str) -> str:
    """What the person leaves in the editor. Raises HiveError INVALID_PARAMS when the editor fails."""
    argv = editor_command(settings)
    with tempfile.TemporaryDirectory(prefix="hivectl-") as folder:
        path = Path(folder) / f"edit{suffix}"
        path.write_text(text, encoding="utf-8")
        try:
            done = await asyncio.to_thread(subprocess.run, [*argv, str(path)], check=False)
        except OSError as exc:
            raise HiveError(
                "INVALID_PARAMS",
                f"The editor {argv[0]} cannot be started: {exc.strerror}.",
                hint="Set EDITOR to one that is installed.",
            ) from exc
        if done.returncode != 0:
            raise HiveError("INVALID_PARAMS", f"The editor ended with code {done.returncode}.")
        return path.read_text(encoding="utf-8")


def is_plan(approval: Mapping[str, Any]) -> bool:
    """Whether it is a plan: allowed or denied like a permission, with nothing to answer."""
    return approval.get("tool") == PLAN_TOOL


def needs_answers(approval: Mapping[str, Any]) -> bool:
    """Whether Claude asks something that yes or no does not answer."""
    return approval.get("kind") == "question" and not is_plan(approval)


def show_plan(screen: Screen, approval: Mapping[str, Any]) -> None:
    """Claude's plan with its lines, on stderr."""
    screen.note(
        ("ask", "? Claude has a plan"),
        ("dim", f"  {approval['id']}  {approval.get('project_name', '')}"),
    )
    plan = (approval.get("input") or {}).get("plan")
    if not isinstance(plan, str) or not plan.strip():
        screen.note(("dim", f"  read it with: hivectl logs {approval.get('execution', '')}"))
        return
    screen.note(("", "  " + reveal(plan.strip()).replace("\n", "\n  ")))


def show_request(screen: Screen, approval: Mapping[str, Any], *, is_here: bool = True) -> None:
    """What Claude wants, whole, on stderr; control characters as visible escapes."""
    if is_plan(approval):
        show_plan(screen, approval)
        return
    screen.note(
        ("ask", f"? Claude wants to use {approval['tool']}"),
        ("dim", f"  {approval['id']}  {approval.get('project_name', '')}"),
    )
    if approval.get("description"):
        screen.note(("", f"  {reveal(str(approval['description']))}"))
    if approval.get("risk"):
        style = {"low": "good", "high": "bad"}.get(str(approval["risk"]), "warn")
        reason = f", {reveal(str(approval.get('risk_reason') or ''))}"
        screen.note((style, f"  risk: {approval['risk']}"), ("dim", reason))
    diff = difference(
        str(approval["tool"]), approval.get("input") or {}, str(approval.get("directory") or ""), is_here=is_here
    )  # fmt: skip
    if diff is not None:
        screen.note(("dim", "  file: "), ("", reveal(diff.path)), ("dim", f"  {diff.note}"))
        for style, line in diff.lines:
            screen.note((style, f"  {line}"))
        return
    for name, value in (approval.get("input") or {}).items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        shown = reveal(text)
        if len(shown) > _INPUT_CHARS:
            shown = f"{shown[:_INPUT_CHARS]}… ({len(text):,} characters; all with `hivectl inbox --json`)"
        indented = shown.replace("\n", "\n    ")
        screen.note(("dim", f"  {reveal(name)}: "), ("", indented))


async def ask_permission(
    screen: Screen,
    settings: Settings,
    approval: Mapping[str, Any],
    *,
    may_remember: Callable[[], Awaitable[bool]],
    is_here: bool = True,
) -> dict[str, Any] | None:
    """The decision as parameters of `approval.decide`, or None when nobody answers.

    `may_remember` shows the rule that `always` would write, and asks."""
    show_request(screen, approval, is_here=is_here)
    may_always = not is_plan(approval)  # no rule can agree to a plan
    choices = "[y]es  [n]o  [e]dit first" + ("  [a]lways" if may_always else "")
    while True:
        screen.prompt(f"  allow? {choices}: ")
        answer = await read_line()
        if answer is None:
            return None
        match answer.strip().lower():
            case "y" | "yes":
                return {"decision": "allow"}
            case "a" | "always" if may_always:
                if await may_remember():
                    return {"decision": "allow", "remember": True}
            case "n" | "no":
                screen.prompt("  reason for Claude (Enter for none): ")
                return {"decision": "deny", "message": (await read_line()) or ""}
            case "e" | "edit":
                changed = await _edit_input(screen, settings, approval)
                if changed is not None:
                    return {"decision": "allow", "input": changed}
            case _:
                screen.note(("dim", f"  type y, n{', e or a' if may_always else ' or e'}"))


async def _edit_input(
    screen: Screen, settings: Settings, approval: Mapping[str, Any]
) -> dict[str, Any] | None:
    before = json.dumps(approval.get("input") or {}, indent=2, ensure_ascii=False)
    try:
        after = json.loads(await edit_text(settings, before + "\n", suffix=".json"))
    except (ValueError, HiveError) as exc:
        screen.note(("warn", f"  not usable: {exc}"))
        return None
    if not isinstance(after, dict):
        screen.note(("warn", "  the input must be a JSON object"))
        return None
    return after


async def ask_question(screen: Screen, approval: Mapping[str, Any]) -> dict[str, Any] | None:
    """Answers to Claude's questions as parameters of `approval.decide`, or None when nobody answers."""
    answers: dict[str, str] = {}
    for question in questions_of(approval):
        text = str(question.get("question", ""))
        options = [
            option for option in question.get("options") or [] if isinstance(option, Mapping)
        ]
        screen.note(("ask", f"? {reveal(text)}"), ("dim", f"  {approval['id']}"))
        for number, option in enumerate(options, 1):
            note = f"  {reveal(str(option['description']))}" if option.get("description") else ""
            screen.note(
                ("bold", f"  {number}. {reveal(str(option.get('label', '')))}"), ("dim", note)
            )
        answer = await ask_choice(screen, options, may_many=question.get("multiSelect") is True)
        if answer is None:
            return None
        answers[text] = answer
    return {"decision": "allow", "answers": answers}


async def ask_choice(
    screen: Screen, options: list[Mapping[str, Any]], *, may_many: bool
) -> str | None:
    """A choice or the person's own words; a number that is no choice only when they say so."""
    many = " (several: 1,3)" if may_many else ""
    while True:
        screen.prompt(f"  number{many} or your own words: " if options else "  your answer: ")
        typed = await read_line()
        if typed is None:
            return None
        if not typed.strip():
            continue
        stray = stray_numbers(typed, options, may_many=may_many)
        if stray:
            screen.prompt(
                f"  there is no choice {', '.join(stray)}; send it as your own words? [y/N] "
            )
            if (await read_line() or "").strip().lower() not in {"y", "yes"}:
                continue
        return chosen(typed, options, may_many=may_many)


def questions_of(approval: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Claude's questions, with their choices."""
    found = (approval.get("input") or {}).get("questions")
    if isinstance(found, list) and found:
        return [item for item in found if isinstance(item, Mapping)]
    return [{"question": approval.get("summary") or approval.get("description") or ""}]


def stray_numbers(typed: str, options: list[Mapping[str, Any]], *, may_many: bool) -> list[str]:
    """Numbers that are no choice and no label, where there are choices."""
    labels = {str(option.get("label", "")) for option in options}
    parts = [part.strip() for part in typed.split(",")] if may_many else [typed.strip()]
    return [
        part
        for part in parts
        if options and part.isdigit() and not 1 <= int(part) <= len(options) and part not in labels
    ]


def chosen(typed: str, options: list[Mapping[str, Any]], *, may_many: bool) -> str:
    """The label of a number, labels of several, or the words themselves."""
    parts = [part.strip() for part in typed.split(",")] if may_many else [typed.strip()]
    labels = []
    for part in parts:
        if part.isdigit() and 1 <= int(part) <= len(options):
            labels.append(str(options[int(part) - 1].get("label", part)))
        else:
            labels.append(part)
    return ", ".join(labels)
