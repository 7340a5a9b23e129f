"""Many approvals at once: shown, asked once, each decided in the version that was shown."""

import pytest

from hivectl.model.errors import HiveError
from tests.unit.cli.test_interactive import terminal

__all__ = ["terminal"]


@pytest.fixture
def many(script, kit):
    waiting = [
        kit.approval(id="a_low", risk="low", tool="Write", version=3),
        kit.approval(id="a_medium", risk="medium"),
        kit.approval(id="a_high", risk="high", risk_reason="git push: others see it"),
        kit.approval(id="a_asks", risk="low", kind="question", tool="AskUserQuestion"),
        kit.approval(id="a_plan", risk="medium", kind="question", tool="ExitPlanMode"),
    ]
    by_id = {item["id"]: item for item in waiting}

    def decide(params):
        if params["id"] == "a_gone":
            raise HiveError("ALREADY_DECIDED", "Approval a_gone is closed: deny by user:ann.")
        done = {"state": "decided", "decision": params["decision"], "decided_by": "user:me"}
        return {**by_id[params["id"]], **done}

    by_id["a_gone"] = kit.approval(id="a_gone")
    script.daemon.answers |= {
        "approval.list": lambda params: {"items": waiting, "next_cursor": None},
        "approval.get": lambda params: by_id[params["id"]],
        "approval.decide": decide,
    }
    return script


def sent(many):
    return [
        (params["id"], params["version"], params["decision"])
        for name, params in many.daemon.requests
        if name == "approval.decide"
    ]


def test_all_leaves_out_questions_plans_and_high_risk(hive, many):
    ran = hive("approve", "--all", "--yes")
    assert ran.code == 0
    assert sent(many) == [("a_low", 3, "allow"), ("a_medium", 1, "allow")]
    for why in ("a_high: risk high (git push", "a_asks: a question", "a_plan: a plan"):
        assert why in ran.err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["--risk", "low"], ["a_low"]),
        (["--risk", "high"], ["a_low", "a_medium", "a_high"]),
        (["--tool", "Wr*"], ["a_low"]),
    ],
)
def test_what_is_meant_is_narrowed(hive, many, words, meant):
    assert hive("approve", "--all", "-y", *words).code == 0
    assert [name for name, _, _ in sent(many)] == meant


def test_a_project_is_passed_on(hive, many):
    hive("approve", "--all", "-y", "-p", "web")
    assert many.daemon.wait_for("approval.list")["project"] == "web"


def test_deny_all_means_all(hive, many):
    assert hive("deny", "--all", "-y", "-m", "later").code == 0
    assert [name for name, _, _ in sent(many)] == [
        "a_low",
        "a_medium",
        "a_high",
        "a_asks",
        "a_plan",
    ]
    assert many.daemon.wait_for("approval.decide")["message"] == "later"


def test_high_risk_is_allowed_when_it_is_named(hive, many):
    assert hive("approve", "a_high", "a_low").code == 0
    assert [name for name, _, _ in sent(many)] == ["a_high", "a_low"]


def test_where_nobody_can_be_asked_nothing_is_decided(hive, many):
    ran = hive("approve", "--all")
    assert ran.code == 2
    assert "--yes" in ran.err
    assert sent(many) == []


def test_one_refusal_does_not_keep_the_others_from_being_decided(hive, many):
    ran = hive("approve", "a_gone", "a_low")
    assert ran.code == 6
    assert "closed: deny by user:ann" in ran.err
    assert "1 of 2 were not decided" in ran.err
    assert "allowed  a_low" in ran.out
    ran = hive("approve", "a_gone", "a_low", "--json")
    assert '"ALREADY_DECIDED"' in ran.out


@pytest.mark.parametrize(
    "words",
    [
        ["approve"], ["approve", "--all", "a_low"], ["approve", "a_low", "--risk", "low"], ["deny", "a_low", "--tool", "X"],
        ["approve", "--all", "--risk", "some"], ["approve", "a_low", "a_high", "--always"], ["approve", "--all", "-y", "--input", "{}"],
        ["deny", "--all", "-y", "--always"],
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(hive, many, words):
    assert hive(*words).code == 2
    assert sent(many) == []


@pytest.mark.parametrize(("answer", "count"), [("y\n", 2), ("n\n", 0), ("\n", 0)])
def test_on_a_terminal_the_list_is_shown_and_asked_about_once(terminal, many, answer, count):
    shell = terminal("approve", "--all")
    shell.expect("a_low")
    shell.expect("a_medium")
    shell.expect("allow these 2? [y/N]")
    shell.type(answer)
    assert shell.end() == 0
    assert len(sent(many)) == count


@pytest.mark.parametrize(("answer", "count"), [("y\n", 1), ("n\n", 0)])
def test_s16_always_shows_the_rule_and_asks_before_it_is_written(terminal, many, answer, count):
    shell = terminal("approve", "a_low", "--always")
    shell.expect("where command is rm -rf build")
    shell.expect("write this rule?")
    shell.type(answer)
    assert shell.end() == 0
    assert len(sent(many)) == count
    if count:
        assert many.daemon.wait_for("approval.decide")["remember"] is True


def test_a_call_of_which_no_rule_can_be_made_is_not_decided_by_always(hive, many):
    many.daemon.answers["policy.test"] = lambda params: {
        "remember": None,
        "remember_problem": "No.",
    }
    assert hive("approve", "a_low", "--always").code == 2
    assert sent(many) == []
