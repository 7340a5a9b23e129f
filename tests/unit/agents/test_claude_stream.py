"""Claude's output as facts, line by line."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from hivectl.agents.claude_stream import ClaudeConversation
from hivectl.model.usage import Figures
from hivectl.model.work import Options, Usage
from hivectl.ports import (
    Answer,
    ErrorSeen,
    LimitSeen,
    MessageSeen,
    Partial,
    PermissionAsked,
    PermissionWithdrawn,
    ReplyNeeded,
    ResultSeen,
    RetrySeen,
    RunSpec,
    Seen,
    SessionSeen,
    UsageSeen,
)

ONE = "11111111-1111-4111-8111-111111111111"
TWO = "22222222-2222-4222-8222-222222222222"
SPEC = RunSpec(
    execution="x_1",
    prompt="/clear @secret",
    prompt_uuid="00000000-0000-4000-8000-000000000001",
    cwd=Path("/home/dev/project"),
    session=ONE,
    resume=False,
    options=Options(),
    trusted=True,
    slash_commands=False,
)
INIT = {
    "type": "system",
    "subtype": "init",
    "session_id": ONE,
    "model": "claude-opus-5-5",
    "claude_code_version": "2.1.329",
}


def line(event: Any) -> bytes:
    return json.dumps(event).encode() + b"\n"


def facts(conversation: ClaudeConversation, *events: Any) -> list[Seen]:
    """What follows from each event, without the messages themselves."""
    data = b"".join(map(line, events))
    seen = conversation.feed(data, conversation.consumed)
    return [fact for fact in seen if not isinstance(fact, MessageSeen)]


def fresh(*events: Any) -> list[Seen]:
    return facts(ClaudeConversation(SPEC), *events)


def test_a_line_is_kept_word_for_word_with_its_place_and_kind() -> None:
    raw = b'{ "type":"never_heard_of","subtype":"x","v":"\\u00e4" }'
    conversation = ClaudeConversation(SPEC)
    assert conversation.feed(raw + b"\r\n", 0) == [
        MessageSeen("never_heard_of", raw, len(raw) + 2, subtype="x")
    ]
    assert conversation.consumed == len(raw) + 2


@pytest.mark.parametrize("raw", [b"garbage", b"\xff\xfe", b"[1]", b'{"a":NaN}', b'{"type":'])
def test_what_is_no_json_object_is_kept_as_bytes(raw: bytes) -> None:
    (seen,) = ClaudeConversation(SPEC).feed(raw + b"\n", 0)
    assert isinstance(seen, MessageSeen)
    assert (seen.kind, seen.raw, seen.is_json) == ("invalid", raw, False)
    assert seen.text == raw.decode("utf-8", "replace")


def test_blank_lines_say_nothing_but_are_counted() -> None:
    conversation = ClaudeConversation(SPEC)
    assert conversation.feed(b"\n\r\n\n", 0) == []
    assert conversation.consumed == 4


def test_the_last_line_without_newline_comes_with_the_flush() -> None:
    conversation = ClaudeConversation(SPEC)
    assert conversation.feed(b'{"type":"a"}', 0) == []
    assert conversation.consumed == 0
    assert conversation.flush() == [MessageSeen("a", b'{"type":"a"}', 12)]
    assert conversation.consumed == 12


def test_an_oversized_line_comes_in_pieces_and_the_next_one_is_read() -> None:
    conversation = ClaudeConversation(SPEC, max_line_bytes=16)
    seen = conversation.feed(b'{"type":"' + b"x" * 30 + b'"}\n{"type":"a"}\n', 0)
    kinds = [(s.kind, s.subtype, s.is_json) for s in seen if isinstance(s, MessageSeen)]
    assert kinds == [
        ("invalid", "oversized", False),
        ("invalid", "oversized", False),
        ("invalid", "oversized_end", False),
        ("a", "", True),
    ]
    pieces = [s.raw for s in seen if isinstance(s, MessageSeen) and not s.is_json]
    assert b"".join(pieces) == b'{"type":"' + b"x" * 30 + b'"}'


def test_a_token_delta_is_shown_and_not_kept() -> None:
    raw = b'{"type":"stream_event","event":{"type":"message_stop"}}'
    assert ClaudeConversation(SPEC).feed(raw + b"\n", 0) == [Partial(raw, len(raw) + 1)]


def test_control_requests_have_the_subtype_of_their_request() -> None:
    event = {"type": "control_request", "request_id": "r", "request": {"subtype": "can_use_tool"}}
    seen = ClaudeConversation(SPEC).feed(line(event), 0)[0]
    assert isinstance(seen, MessageSeen)
    assert seen.subtype == "can_use_tool"


# --- sessions ----------------------------------------------------------------------------------------


def test_the_session_is_named_by_init_and_not_before() -> None:
    hook = {"type": "system", "subtype": "hook_started", "session_id": TWO}
    assert fresh(hook, INIT) == [SessionSeen(ONE, "claude-opus-5-5", "2.1.329")]


def test_each_turn_has_its_init() -> None:
    assert fresh(INIT, INIT) == [SessionSeen(ONE, "claude-opus-5-5", "2.1.329")] * 2


def test_the_newest_session_id_wins() -> None:
    reset = {"type": "conversation_reset", "session_id": ONE, "new_conversation_id": TWO}
    later = {"type": "assistant", "session_id": TWO, "message": {}}
    back = {"type": "user", "session_id": ONE, "message": {}}
    seen = fresh(INIT, reset, later, later, back)
    assert [s.session for s in seen if isinstance(s, SessionSeen)] == [ONE, TWO, ONE]


def test_a_refused_start_names_no_session() -> None:
    result = {
        "type": "result",
        "subtype": "error_during_execution",
        "is_error": True,
        "session_id": TWO,
    }
    assert not any(isinstance(s, SessionSeen) for s in fresh(result))


@pytest.mark.parametrize("session", [None, 5, "", "latest", "../x", ONE.upper() + "x"])
def test_what_is_no_uuid_is_no_session(session: object) -> None:
    assert fresh({**INIT, "session_id": session}) == []


def test_a_reader_that_starts_in_the_middle_knows_the_session_it_was_given() -> None:
    conversation = ClaudeConversation(SPEC, offset=500)
    event = {"type": "user", "message": {}}
    assert facts(conversation, {**event, "session_id": ONE}) == []
    assert facts(conversation, {**event, "session_id": TWO}) == [SessionSeen(TWO, "", "")]


# --- permissions -------------------------------------------------------------------------------------


def ask(request_id: Any = "r1", **fields: Any) -> dict[str, Any]:
    request = {"subtype": "can_use_tool", "tool_name": "Bash", "input": {"command": "ls"}}
    return {"type": "control_request", "request_id": request_id, "request": {**request, **fields}}


def test_a_permission_request_has_all_its_fields() -> None:
    asked = ask(
        description="List", tool_use_id="toolu_1", agent_id="a1", decision_reason="why",
        permission_suggestions=[{"type": "setMode"}, "no object"],
    )  # fmt: skip
    assert fresh(asked) == [
        PermissionAsked(
            request="r1", tool="Bash", input={"command": "ls"}, description="List",
            tool_use="toolu_1", suggestions=({"type": "setMode"},), agent="a1", reason="why",
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_name": "AskUserQuestion"},
        {"tool_name": "ExitPlanMode"},
        {"requires_user_interaction": True},
    ],
)
def test_questions_are_marked(fields: dict[str, Any]) -> None:
    (seen,) = fresh(ask(**fields))
    assert isinstance(seen, PermissionAsked)
    assert seen.is_question


def test_an_allowed_call_runs_with_the_very_input_that_was_asked() -> None:
    conversation = ClaudeConversation(SPEC)
    (seen,) = facts(conversation, ask(input={"command": "echo \ud800"}))
    assert isinstance(seen, PermissionAsked)
    assert seen.input == {"command": "echo \ufffd"}
    name, data = conversation.answer("r1", Answer(allow=True))
    assert name == "answer:r1"
    sent = json.loads(data)["response"]["response"]
    assert sent["updatedInput"] == {"command": "echo \ud800"}
    assert conversation.answer("r1", Answer(allow=True)) == (name, data)


def test_after_a_restart_the_answer_carries_the_input_it_is_given() -> None:
    _, data = ClaudeConversation(SPEC, offset=9).answer("r1", Answer(allow=True, input={"a": 1}))
    assert json.loads(data)["response"]["response"] == {
        "behavior": "allow",
        "updatedInput": {"a": 1},
    }


def test_a_withdrawn_request_is_forgotten() -> None:
    conversation = ClaudeConversation(SPEC)
    seen = facts(conversation, ask(), {"type": "control_cancel_request", "request_id": "r1"})
    assert seen[1] == PermissionWithdrawn("r1")
    assert b"updatedInput" not in conversation.answer("r1", Answer(allow=True))[1]


@pytest.mark.parametrize("fields", [{"tool_name": None}, {"tool_name": ""}, {"input": "ls"}])
def test_a_permission_request_nobody_could_judge_is_refused(fields: dict[str, Any]) -> None:
    (seen,) = fresh(ask(**fields))
    assert isinstance(seen, ReplyNeeded)
    assert json.loads(seen.data)["response"]["subtype"] == "error"


@pytest.mark.parametrize("request_id", [None, 5, "", "x" * 300, "a\nb", "ä"])
def test_a_request_without_a_usable_id_cannot_be_answered(request_id: object) -> None:
    assert fresh(ask(request_id)) == []
    assert fresh({"type": "control_cancel_request", "request_id": request_id}) == []


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        ({"subtype": "hook_callback", "callback_id": "h"}, "success"),
        ({"subtype": "mcp_message", "message": {"id": 1}}, "success"),
        ({"subtype": "never_heard_of"}, "error"),
        (None, "error"),
    ],
)
def test_every_other_request_gets_the_answer_the_protocol_demands(request_: Any, kind: str) -> None:
    (seen,) = fresh({"type": "control_request", "request_id": "r9", "request": request_})
    assert isinstance(seen, ReplyNeeded)
    assert seen.frame == "reply:r9"
    response = json.loads(seen.data)["response"]
    assert (response["subtype"], response["request_id"]) == (kind, "r9")


# --- results and errors ------------------------------------------------------------------------------

RESULT = {
    "type": "result",
    "subtype": "success",
    "is_error": False,
    "result": "Done \ud800.",
    "session_id": ONE,
    "terminal_reason": "completed",
    "structured_output": {"a": "\udfff"},
    "permission_denials": [{}, {}],
    "total_cost_usd": 0.5,
    "num_turns": 2,
}


def test_a_result_has_all_its_fields() -> None:
    assert fresh(RESULT) == [
        ResultSeen(
            subtype="success", is_error=False, text="Done \ufffd.", terminal_reason="completed",
            structured={"a": "\ufffd"}, usage=Usage(turns=2, cost_usd=0.5), permission_denials=2,
            session=ONE, models=(Figures(cost_usd=0.5),), is_total=True,
        )
    ]  # fmt: skip


def test_a_result_is_an_error_unless_it_says_it_is_none() -> None:
    for event in ({**RESULT, "is_error": True}, {**RESULT, "is_error": None}, {"type": "result"}):
        (seen,) = fresh(event)
        assert isinstance(seen, ResultSeen)
        assert seen.is_error


def test_a_turn_that_was_not_ours_is_marked_and_costs_what_it_added() -> None:
    background = {**RESULT, "total_cost_usd": 0.75, "origin": {"kind": "task-notification"}}
    strange = {**RESULT, "total_cost_usd": 0.75, "origin": "?"}
    seen = [s for s in fresh(RESULT, background, strange) if isinstance(s, ResultSeen)]
    assert [s.origin for s in seen] == ["", "task-notification", "unknown"]
    assert [s.usage.cost_usd for s in seen] == [0.5, 0.25, 0.0]


def test_a_long_answer_is_whole() -> None:
    (seen,) = fresh({**RESULT, "result": "x" * 300_000})
    assert isinstance(seen, ResultSeen)
    assert len(seen.text) == 300_000


def synthetic(text: str, **fields: Any) -> dict[str, Any]:
    message = {"model": "<synthetic>", "content": [{"type": "text", "text": text}]}
    return {"type": "assistant", "message": message, "timestamp": "2026-11-21T01:00:00Z", **fields}


def test_an_api_error_is_named() -> None:
    event = synthetic("API Error: 500", error="server_error", api_error_status=500)
    assert fresh(event) == [ErrorSeen(error="server_error", status=500, text="API Error: 500")]


def test_a_usage_limit_is_known_by_its_text_too() -> None:
    text = "You've hit your 5-hour limit · resets 2:23am (UTC)"
    (seen,) = fresh(synthetic(text, error="rate_limit"))
    assert isinstance(seen, ErrorSeen)
    assert (seen.api_error, seen.resets_at) == ("usage_limit_reached", 1795227780)
    (result,) = fresh({**RESULT, "is_error": True, "result": text})
    assert isinstance(result, ResultSeen)
    assert result.api_error == "usage_limit_reached"


def test_an_answer_that_speaks_of_a_limit_is_none() -> None:
    (result,) = fresh({**RESULT, "result": "You've hit your 5-hour limit"})
    assert isinstance(result, ResultSeen)
    assert result.api_error == ""


@pytest.mark.parametrize(
    "event",
    [
        synthetic("No response requested."),
        synthetic("x", error=5),
        {"type": "assistant", "error": "server_error", "message": {"model": "claude"}},
    ],
)
def test_what_is_no_api_error_is_not_taken_for_one(event: dict[str, Any]) -> None:
    assert fresh(event) == []


def test_limits_and_retries_are_facts() -> None:
    limit = {"status": "rejected", "rateLimitType": "five_hour", "resetsAt": 1795229363}
    retry = {"attempt": 3, "max_retries": 10, "retry_delay_ms": 500, "error": "overloaded"}
    assert fresh(
        {"type": "rate_limit_event", "rate_limit_info": limit},
        {"type": "rate_limit_event"},
        {"type": "system", "subtype": "api_retry", **retry},
        {"type": "system", "subtype": "api_retry"},
    ) == [
        LimitSeen(status="rejected", kind="five_hour", resets_at=1795229363),
        LimitSeen(status="unknown"),
        RetrySeen(attempt=3, max_retries=10, delay_ms=500, error="overloaded"),
        RetrySeen(attempt=0, max_retries=0, delay_ms=0, error="unknown"),
    ]


# --- input -------------------------------------------------------------------------------------------


def test_s23_the_prompt_is_delivered_as_written_unless_commands_are_allowed() -> None:
    ((name, data),) = ClaudeConversation(SPEC).opening()
    message = json.loads(data)
    assert name == "prompt"
    assert message["message"]["content"] == "/clear @secret"
    assert message["uuid"] == SPEC.prompt_uuid
    assert message["client_composed"] is True
    ((_, data),) = ClaudeConversation(replace(SPEC, slash_commands=True)).opening()
    assert "client_composed" not in json.loads(data)


def test_opening_and_interrupt_repeat_to_the_byte() -> None:
    one, two = ClaudeConversation(SPEC), ClaudeConversation(SPEC, offset=77)
    assert one.opening() == two.opening()
    assert one.interrupt() == two.interrupt()


def block(text: str, message: str = "msg_1", tokens: int = 5) -> dict[str, Any]:
    content = [{"type": "text", "text": text}] if text else []
    usage = {"input_tokens": tokens, "output_tokens": 1}
    said = {"id": message, "model": "opus", "content": content, "usage": usage}
    return {"type": "assistant", "session_id": ONE, "message": said}


def figures(seen: list[Seen]) -> list[tuple[str, int, int]]:
    return [
        (fact.message, fact.input_tokens, fact.said_tokens)
        for fact in seen
        if isinstance(fact, UsageSeen)
    ]


def test_blocks_of_a_message_that_are_read_together_are_counted_together() -> None:
    conversation = ClaudeConversation(SPEC)
    together = facts(conversation, block("a" * 20), block("b" * 20), block("c", "msg_2"))
    assert figures(together) == [("msg_1", 5, 20), ("msg_2", 5, 6)]
    assert figures(facts(conversation, block("d", "msg_2"))) == [("msg_2", 5, 6)]
    assert figures(facts(conversation, {"type": "user"})) == []


def test_figures_are_told_also_where_nothing_was_said_and_before_the_result() -> None:
    result = {"type": "result", "subtype": "success", "is_error": False}
    seen = fresh(block(""), block("a", tokens=7), result)
    assert figures(seen) == [("msg_1", 5, 0), ("msg_1", 7, 6)]
    assert isinstance(seen[-1], ResultSeen)
