"""How long a person has, and what silence means: it never says more than a rule would."""

from __future__ import annotations

from typing import Any

import pytest

from hivectl.logic.expiry import (
    LEAST_S,
    MOST_S,
    NO_TIMEOUTS,
    Expiry,
    Timeouts,
    expiry,
    sentence,
    settle,
)
from hivectl.logic.policy import Place, Policy
from hivectl.model.errors import HiveError

PLACE = Place("p_1", "/srv/web")
RULE = Policy(id="po_1", action="ask", tool="Bash", match={"command": "git *"}, timeout_s=60, on_timeout="allow")  # fmt: skip
ASK = Policy(id="po_2", action="ask", tool="Bash")
CONFIGURED = Timeouts(timeout_s=300, on_timeout="deny")


def ends(
    rule: Policy | None, command: str = "git log", *, timeouts: Timeouts = NO_TIMEOUTS, tool: str = "Bash", question: bool = False
) -> Expiry | None:  # fmt: skip
    return expiry(
        rule, tool, {"command": command}, is_question=question, place=PLACE, timeouts=timeouts
    )


def test_without_a_word_it_waits_for_ever() -> None:
    assert ends(None) is None
    assert ends(ASK) is None


def test_what_is_configured_counts_where_the_rule_says_nothing() -> None:
    assert ends(None, timeouts=CONFIGURED) == Expiry(300, "deny")
    assert ends(ASK, timeouts=CONFIGURED) == Expiry(300, "deny")
    assert ends(None, timeouts=Timeouts(300, "wait")) is None


@pytest.mark.parametrize(
    ("default", "wanted"), [("ask", None), ("deny", "deny"), ("allow", "allow")]
)
def test_default_means_what_happens_without_a_rule(default: Any, wanted: str | None) -> None:
    found = ends(ASK, timeouts=Timeouts(300, "default", default))
    assert (found.decision if found else None) == wanted


def test_the_rules_own_words_win() -> None:
    patient = Policy(id="po_3", action="ask", tool="*", on_timeout="wait")
    assert ends(patient, timeouts=CONFIGURED) is None
    assert ends(RULE, timeouts=CONFIGURED) == Expiry(60, "allow")


@pytest.mark.parametrize("tool", ["AskUserQuestion", "ExitPlanMode", "Other"])
def test_silence_never_answers_a_question(tool: str) -> None:
    rule = Policy(id="po_4", action="ask", tool="*", timeout_s=60, on_timeout="allow")
    assert ends(rule, tool=tool, question=True) is None
    if tool != "Other":
        assert ends(rule, tool=tool) is None
    allow = Timeouts(60, "default", "allow")
    assert ends(None, tool=tool, question=True, timeouts=allow) is None
    deny = Policy(id="po_5", action="ask", tool="*", timeout_s=60, on_timeout="deny")
    assert ends(deny, tool=tool, question=True) == Expiry(60, "deny")


@pytest.mark.parametrize(
    "command", ["git log; rm -rf /", "sudo git log", "/usr/bin/git log", "git log $(rm -rf /)"]
)
def test_s16_silence_allows_only_what_an_allow_rule_with_the_same_words_would(command: str) -> None:
    assert ends(RULE, command) is None, "the rule asks about it, and it waits for a person"


def test_a_time_alone_means_to_deny_after_it() -> None:
    assert settle("ask", 60, None) == (60, "deny")
    assert settle("ask", None, None) == (None, None)
    assert settle("ask", None, "wait") == (None, "wait")
    assert settle("ask", 60, "wait") == (None, "wait")
    assert settle("ask", 60, "allow") == (60, "allow")


@pytest.mark.parametrize(
    ("action", "timeout_s", "on_timeout", "pointer"),
    [
        ("allow", 60, None, "timeout_s"), ("deny", None, "wait", "timeout_s"), ("ask", None, "deny", "timeout_s"),
        ("ask", 60, "maybe", "on_timeout"), ("ask", LEAST_S / 2, "deny", "timeout_s"), ("ask", MOST_S + 1, None, "timeout_s"),
        ("ask", -1, "deny", "timeout_s"), ("ask", float("nan"), "deny", "timeout_s"),
    ],
)  # fmt: skip
def test_a_time_out_that_makes_no_sense_is_refused_by_its_field(
    action: str, timeout_s: float | None, on_timeout: str | None, pointer: str
) -> None:
    with pytest.raises(HiveError) as caught:
        settle(action, timeout_s, on_timeout)
    assert pointer in str(caught.value.details["errors"])


def test_what_is_told_names_the_rule() -> None:
    assert sentence("po_1", is_allowed=False) == "Nobody answered in time; denied by rule po_1."
    assert "approval.on_timeout" in sentence("", is_allowed=True)
