"""Why a rule decides a call, or does not: the same decision as the real one, with words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivectl.logic.explaining import Explained, explain
from hivectl.logic.policy import Place, Policy, decide

PLACE = Place("p_1", "/srv/web")


def rule(action: Any, tool: str = "Bash", project: str | None = None, **match: str) -> Policy:
    return Policy(id=f"po_{action}_{tool}", action=action, tool=tool, match=match, project=project)


def told(rules: list[Policy], tool: str, *, question: bool = False, **input_: Any) -> Explained:
    return explain(rules, tool, input_, is_question=question, place=PLACE)


@pytest.mark.parametrize(
    ("passed", "input_", "why"),
    [
        (rule("deny", project="p_2"), {"command": "ls"}, "it is for another project"),
        (rule("deny", "Write"), {"command": "ls"}, "it is for the tool Write"),
        (rule("allow", command="git *"), {"command": "ls"}, "command does not match git *"),
        (rule("allow", command="git *"), {"command": "git log; ls"}, "a character with a meaning to the shell"),
        (rule("allow", path="*"), {"command": "ls"}, "the call has no path"),
        (rule("allow"), {"command": "ls", "dangerouslyDisableSandbox": True}, "sets dangerouslyDisableSandbox"),
    ],
)  # fmt: skip
def test_a_rule_that_does_not_match_says_on_what(
    passed: Policy, input_: dict[str, Any], why: str
) -> None:
    found = told([passed, rule("ask", "*")], "Bash", **input_)
    assert found.rule is not None
    assert found.rule.tool == "*"
    (((_, reason)),) = found.passed
    assert why in reason


def test_no_allow_rule_answers_a_question() -> None:
    found = told([rule("allow", "*")], "AskUserQuestion")
    assert found.rule is None
    assert "question" in found.passed[0][1]


def test_without_rules_that_is_the_reason() -> None:
    assert told([], "Bash").reason == "There are no rules."
    assert told([rule("deny", "Write")], "Bash").reason == "No rule matches."


def test_the_rule_that_decides_says_what_matched() -> None:
    found = told([rule("deny", command="rm *")], "Bash", command="ls; rm x")
    assert found.reason == "The tool is Bash and command matches rm *, in every project."


_ACTION = st.sampled_from(["allow", "deny", "ask"])
_PATTERN = st.sampled_from(["*", "git *", "rm *", "src/**", "[", "\\"])
_RULES = st.builds(
    lambda action, tool, project, match: Policy(id="po", action=action, tool=tool, project=project, match=match),
    _ACTION, st.sampled_from(["*", "Bash", "Write", "["]), st.sampled_from([None, "p_1", "p_2"]),
    st.dictionaries(st.sampled_from(["command", "file_path", "other"]), _PATTERN, max_size=2),
)  # fmt: skip
_INPUT = st.dictionaries(
    st.sampled_from(["command", "file_path", "dangerouslyDisableSandbox"]),
    st.sampled_from(["git log", "rm x; ls", "src/a", "", True, ["git x"]]),
)


@given(st.lists(_RULES, max_size=5), st.sampled_from(["Bash", "Write", "ExitPlanMode"]), _INPUT)
def test_what_is_told_is_what_happens(rules: list[Policy], tool: str, input_: Any) -> None:
    named = [Policy(**{**_fields(item), "id": f"po_{n}"}) for n, item in enumerate(rules)]
    verdict = decide(named, tool, input_, is_question=False, place=PLACE)
    found = explain(named, tool, input_, is_question=False, place=PLACE)
    assert (found.rule.id if found.rule else None) == verdict.policy_id
    assert all(reason for _, reason in found.passed)


def _fields(item: Policy) -> dict[str, Any]:
    return {name: getattr(item, name) for name in ("action", "tool", "match", "project")}
