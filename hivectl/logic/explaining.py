"""Which rule would decide a call, and in words why each rule before it would not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from hivectl.logic import glob
from hivectl.logic.policy import QUESTIONS, RISKY_FIELDS, Place, Policy, covers


class Explained(msgspec.Struct, frozen=True):
    """`rule` None: none matches. `passed`: each rule that was tried before it, and why it does not match."""

    rule: Policy | None
    reason: str
    passed: list[tuple[Policy, str]]


def explain(
    rules: Sequence[Policy],
    tool: str,
    input_: Mapping[str, Any],
    *,
    is_question: bool,
    place: Place,
) -> Explained:
    """The same decision as `policy.decide`, with its reasons."""
    passed: list[tuple[Policy, str]] = []
    for rule in rules:
        why_not = miss(rule, tool, input_, is_question=is_question, place=place)
        if why_not is None:
            return Explained(rule, _reason(rule), passed)
        passed.append((rule, why_not))
    return Explained(None, "No rule matches." if rules else "There are no rules.", passed)


def miss(
    rule: Policy, tool: str, input_: Mapping[str, Any], *, is_question: bool, place: Place
) -> str | None:
    """Why a rule does not decide the call; None when it does."""
    if rule.project not in {None, place.id}:
        return "it is for another project"
    if rule.action == "allow" and (is_question or tool in QUESTIONS):
        return "no allow rule can answer a question"
    return None if covers(rule, tool, input_, place) else _unlike(rule, tool, input_, place)


def _unlike(rule: Policy, tool: str, input_: Mapping[str, Any], place: Place) -> str:
    """What in tool or input a rule that does not cover the call stumbles over."""
    try:
        if not glob.matches(glob.parse(rule.tool), tool):
            return f"it is for the tool {rule.tool}"
    except ValueError:
        return "its tool cannot be read"
    risky = next((name for name in sorted(RISKY_FIELDS) if input_.get(name)), None)
    if rule.action == "allow" and risky is not None and risky not in rule.match:
        return f"the call sets {risky}, which the rule does not name"
    for name, pattern in rule.match.items():
        if name not in input_:
            return f"the call has no {name}"
        if not covers(replace(rule, match={name: pattern}), tool, input_, place):
            return f"{name} does not match {pattern}{_hint(rule, name, input_[name])}"
    return "it does not match"


def _hint(rule: Policy, name: str, value: Any) -> str:
    if rule.action != "allow":
        return ""
    if name == "command" and isinstance(value, str) and set(value) & set(";&|<>$`(){}\\#\n"):
        return "; no wild card of an allow rule stands for a character with a meaning to the shell"
    return ""


def _reason(rule: Policy) -> str:
    where = "every project" if rule.project is None else "this project"
    fields = " and ".join(f"{name} matches {pattern}" for name, pattern in rule.match.items())
    return f"The tool is {rule.tool}{f' and {fields}' if fields else ''}, in {where}."
