"""Answers: what fits what was asked, and what is remembered."""

import json

import pytest

from hivectl.model.approval import Approval, ApprovalState
from hivectl.model.errors import HiveError
from hivectl.protocol.params import ApprovalDecide
from hivectl.services.people import _answer
from tests.unit.engine.test_runner import INIT, line, verdict

QUESTION = {"questions": [{"question": "Which?", "options": []}, {"question": "When?"}]}


def asked(tool="Bash", kind="permission", input_=None, state=ApprovalState.PENDING):
    return Approval(
        id="a_1", execution="x_1", project="p_1", request="q", kind=kind, tool=tool, input=input_ or {"command": "ls"}, description="",
        suggestions=[], state=state, version=1, decision=None, answer=None, message="", decided_by=None, is_delivered=False,
        created_us=1, decided_us=None,
    )  # fmt: skip


def answer(approval, **given):
    return _answer(approval, ApprovalDecide(id="a_1", version=1, **given))


def test_what_claude_hears_of_each_decision():
    assert answer(asked(), decision="allow") == {"allow": True, "input": {"command": "ls"}}
    assert answer(asked(), decision="allow", input={"command": "pwd"})["input"] == {
        "command": "pwd"
    }
    denied = answer(asked(), decision="deny", message="no", interrupt=True)
    assert denied == {"allow": False, "message": "no", "interrupt": True}
    assert answer(asked(), decision="deny")["message"]


QUESTIONS = {"tool": "AskUserQuestion", "kind": "question", "input_": QUESTION}


def test_answers_are_given_beside_what_was_asked():
    said = answer(asked(**QUESTIONS), decision="allow", answers={"Which?": "a", "When?": "now"})
    assert said["input"] == {**QUESTION, "answers": {"Which?": "a", "When?": "now"}}


@pytest.mark.parametrize(
    ("approval", "given", "pointer"),
    [
        (asked(), {"interrupt": True}, "/interrupt"),
        (asked(), {"answers": {"Which?": "a"}}, "/answers"),
        (asked(**QUESTIONS), {}, "/answers"),
        (asked(**QUESTIONS), {"answers": {"Which?": "a"}}, "/answers"),
        (asked(**QUESTIONS), {"answers": {"Who?": "a"}}, "/answers"),
        (
            asked(**QUESTIONS),
            {"answers": {"Which?": "a", "When?": "b"}, "remember": True},
            "/remember",
        ),
        (asked("ExitPlanMode", "question"), {"remember": True}, "/remember"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_by_its_field(approval, given, pointer):
    with pytest.raises(HiveError) as caught:
        answer(approval, decision="allow", **given)
    assert caught.value.details["errors"][0]["pointer"] == pointer


async def test_the_first_of_two_answers_wins_and_the_second_hears_who_gave_it(desk, tmp_path):
    async def asks(child):
        await child.read()
        request = {"subtype": "can_use_tool", "tool_name": "Write", "input": {"file_path": "x"}}
        asked = {"type": "control_request", "request_id": "q1", "request": request}
        child.emit(line(INIT) + line(asked))
        while (frame := await child.read()) is not None:
            reply = json.loads(frame)
            if reply["type"] == "control_response":
                child.emit(line(verdict(reply["response"]["response"]["behavior"])))
        return 0

    (tmp_path / "web").mkdir()
    async with desk(asks) as d:
        await d.call("project.create", path=str(tmp_path / "web"))
        accepted = await d.call("execute", project="web", prompt="hi")
        waiting = await d.call("execution.wait", execution=accepted["execution"], or_waiting=True)
        (approval,) = waiting["waiting_for"]
        first = await d.call(
            "approval.decide", id=approval, version=1, decision="deny", remember=True
        )
        assert (first["decision"], first["decided_by"]) == ("deny", "user:t")
        with pytest.raises(HiveError) as caught:
            await d.call("approval.decide", id=approval, version=1, decision="allow")
        assert caught.value.code == "ALREADY_DECIDED"
        assert caught.value.details["decided_by"] == "user:t"
        ended = await d.call("execution.wait", execution=accepted["execution"])
        assert ended["result"] == "deny"
        assert [rule["action"] for rule in (await d.call("policy.list"))["items"]] == ["deny"]


async def test_policy_test_names_the_rule_its_place_and_what_each_before_it_lacked(desk, tmp_path):
    (tmp_path / "web").mkdir()
    async with desk() as d:
        await d.call("project.create", path=str(tmp_path / "web"))
        first = await d.call("policy.add", action="allow", tool="Bash", match={"command": "git *"})
        second = await d.call("policy.add", action="ask", tool="Bash", timeout_s=60)
        assert (second["timeout_s"], second["on_timeout"]) == (60.0, "deny")
        told = await d.call(
            "policy.test", project="web", tool="Bash", input={"command": "git log; git push"}
        )
        assert (told["action"], told["position"]) == ("ask", 2)
        assert told["rule"]["id"] == second["id"]
        assert [item["rule"] for item in told["passed"]] == [first["id"]]
        assert (told["timeout_s"], told["on_timeout"]) == (60.0, "deny")
        assert told["risk"] == "high"
        assert told["remember"] == {"tool": "Bash", "match": {"command": "git log; git push"}}
        plain = await d.call("policy.test", project="web", tool="Bash", input={"command": "git x"})
        assert (plain["action"], plain["position"], plain["timeout_s"]) == ("allow", 1, None)
        none = await d.call("policy.test", tool="Write", input={"file_path": "x"})
        assert (none["action"], none["rule"]) == ("ask", None)
        assert "approval.default is ask" in none["reason"]
        plan = await d.call("policy.test", tool="ExitPlanMode", input={"plan": "x"})
        assert plan["remember"] is None
        assert plan["remember_problem"]


async def test_a_rule_with_a_time_out_that_makes_no_sense_is_refused(desk):
    async with desk() as d:
        with pytest.raises(HiveError) as caught:
            await d.call("policy.add", action="allow", tool="Bash", timeout_s=60)
        assert caught.value.code == "INVALID_PARAMS"


@pytest.mark.parametrize(
    ("tool", "input_", "others"),
    [
        ("Bash", {"command": "rm *"}, [{"command": "rm x"}, {"command": "rm *; ls"}, {"command": "rm * "}]),
        ("Write", {"file_path": "a/b.txt"}, [{"file_path": "a/c.txt"}, {"file_path": "a/../a/b.txt"}]),
        ("Odd", {"x": 1, "y": "*"}, [{"x": 1, "y": "z"}, {"x": 2, "y": "*"}]),
    ],
)  # fmt: skip
async def test_s16_what_always_writes_covers_no_more_than_the_rule_that_was_shown(
    desk, tool, input_, others
):
    async with desk() as d:
        shown = (await d.call("policy.test", tool=tool, input=input_))["remember"]
        await d.call("policy.add", action="allow", tool=shown["tool"], match=shown["match"])
        assert (await d.call("policy.test", tool=tool, input=input_))["action"] == "allow"
        for other in others:
            assert (await d.call("policy.test", tool=tool, input=other))["action"] == "ask", other


async def test_a_remembered_rule_has_its_turn_before_the_one_that_asked(desk, tmp_path):
    async def asks(child):
        await child.read()
        request = {"subtype": "can_use_tool", "tool_name": "Write", "input": {"file_path": "x"}}
        child.emit(
            line(INIT) + line({"type": "control_request", "request_id": "q1", "request": request})
        )
        while (frame := await child.read()) is not None:
            if json.loads(frame)["type"] == "control_response":
                child.emit(line(verdict("heard")))
        return 0

    (tmp_path / "web").mkdir()
    async with desk(asks) as d:
        await d.call("project.create", path=str(tmp_path / "web"))
        deny = await d.call("policy.add", action="deny", tool="Write", match={"file_path": "no*"})
        ask = await d.call("policy.add", action="ask", tool="Write")
        last = await d.call("policy.add", action="deny", tool="*")
        accepted = await d.call("execute", project="web", prompt="hi")
        waiting = await d.call("execution.wait", execution=accepted["execution"], or_waiting=True)
        (approval,) = waiting["waiting_for"]
        await d.call("approval.decide", id=approval, version=1, decision="allow", remember=True)
        order = [rule["id"] for rule in (await d.call("policy.list"))["items"]]
        assert (order[0], order[2:]) == (deny["id"], [ask["id"], last["id"]])
        told = await d.call("policy.test", project="web", tool="Write", input={"file_path": "x"})
        assert (told["action"], told["position"]) == ("allow", 2)
        await d.call("execution.wait", execution=accepted["execution"])
