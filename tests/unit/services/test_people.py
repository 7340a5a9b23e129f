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
