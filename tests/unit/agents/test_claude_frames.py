"""What is written to Claude: one ASCII line per frame, ids that repeat."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hivectl.agents import claude_frames
from hivectl.ports import Answer


def body(frame: tuple[str, bytes]) -> dict[str, Any]:
    name, data = frame
    assert name
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    assert data.isascii()
    parsed: dict[str, Any] = json.loads(data)
    return parsed


def response(frame: tuple[str, bytes]) -> Any:
    parsed = body(frame)
    assert parsed["type"] == "control_response"
    return parsed["response"]


@given(st.text(st.characters(codec=None), max_size=200))
def test_any_prompt_becomes_one_line_and_comes_back_whole(text: str) -> None:
    message = body(claude_frames.prompt(text, "u", composed=True))
    assert message["message"] == {"role": "user", "content": text}


def test_a_prompt_carries_its_uuid_and_whether_it_is_to_be_taken_as_written() -> None:
    frame = claude_frames.prompt("/clear", "u-1", composed=True)
    assert frame == claude_frames.prompt("/clear", "u-1", composed=True)
    message = body(frame)
    assert frame[0] == "prompt"
    assert (message["uuid"], message["client_composed"]) == ("u-1", True)
    assert "client_composed" not in body(claude_frames.prompt("/clear", "u-1", composed=False))


def test_the_interrupt_is_a_control_request() -> None:
    name, data = claude_frames.interrupt()
    assert (name, json.loads(data)["request"]) == ("interrupt", {"subtype": "interrupt"})


def test_allowing_sends_the_changed_input_else_the_one_that_was_asked() -> None:
    asked = {"command": "ls \ud800"}
    changed = {"command": "pwd"}
    for answer, known, expected in (
        (Answer(allow=True), asked, {"behavior": "allow", "updatedInput": asked}),
        (Answer(allow=True, input=changed), asked, {"behavior": "allow", "updatedInput": changed}),
        (Answer(allow=True), None, {"behavior": "allow"}),
    ):
        frame = claude_frames.permission("r1", answer, known)
        assert frame[0] == "answer:r1"
        assert response(frame) == {"subtype": "success", "request_id": "r1", "response": expected}


def test_a_denial_always_has_a_message() -> None:
    sent = response(claude_frames.permission("r1", Answer(allow=False), {"a": 1}))["response"]
    assert sent == {"behavior": "deny", "message": claude_frames.DENIED}
    answer = Answer(allow=False, message="not now", interrupt=True)
    sent = response(claude_frames.permission("r1", answer, None))["response"]
    assert sent == {"behavior": "deny", "message": "not now", "interrupt": True}


def test_hooks_get_no_opinion_and_unknown_requests_an_error() -> None:
    assert response(claude_frames.no_opinion("h"))["response"] == {}
    error = response(claude_frames.refuse("u", "no such thing"))
    assert error == {"subtype": "error", "request_id": "u", "error": "no such thing"}


def test_mcp_requests_get_an_rpc_error_and_notifications_an_acknowledgement() -> None:
    sent = response(
        claude_frames.no_server("m", {"jsonrpc": "2.0", "id": 0, "method": "initialize"})
    )
    rpc = sent["response"]["mcp_response"]
    assert (rpc["id"], rpc["error"]["code"]) == (0, -32601)
    for message in ({"method": "notifications/initialized"}, "no object", None):
        sent = response(claude_frames.no_server("m", message))
        assert sent["response"]["mcp_response"] == {"jsonrpc": "2.0", "result": {}}
