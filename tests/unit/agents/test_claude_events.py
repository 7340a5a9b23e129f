"""Single lines: strict JSON or not, kinds, short texts, figures."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivectl.agents import claude_events
from hivectl.model.work import Usage


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"plain text",
        b"[1]",
        b'"text"',
        b"null",
        b'{"a":1} x',
        b'{"a":1',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":1e999}',
        b'{"a":01}',
        b'{"a":"\xff"}',
        b'{"a":"\xed\xa0\x80"}',
        b'{"a":"\x01"}',
        b'{"a":"\\x"}',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":"\\ud800","b":NaN}',
        b'{"a":"\\ud800","b":1e999}',
        b'{"a":"\\ud800","b":"\xff"}',
        b'{"a":"\\ud800"',
        b'["\\ud800"]',
        b'{"a":' + b"1" * 5000 + b"}",
        b'{"a":' + b"[" * 300 + b"]" * 300 + b"}",
        b'{"a":' + b'{"b":' * 300 + b"1" + b"}" * 301,
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"s":"\\ud800","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b"[" * 100_000,
    ],
)
def test_what_a_strict_parser_may_refuse_is_no_event(raw: bytes) -> None:
    assert claude_events.decode(raw) is None


@pytest.mark.parametrize(
    "raw",
    [
        b"{}",
        b'{"a":1}\r',
        b' {"a" : "\xc3\xa4\xe2\x80\xa8"} ',
        b'{"a":"half \\ud800 pair"}',
        b'{"a":"\\ude00 1.5","n":1.5}',
        b'{"a":"' + b"{[" * 500 + b'"}',
        b'{"a":' + b"[" * 190 + b"]" * 190 + b"}",
        b'{"a":[' + b"[]," * 500 + b"{}]}",
        b'{"a":123456789012345678901234567890}',
    ],
)
def test_strict_json_objects_are_events_also_with_half_a_surrogate_pair(raw: bytes) -> None:
    assert claude_events.decode(raw) == json.loads(raw)


@given(st.binary(max_size=60))
def test_whatever_is_taken_as_an_event_is_json_for_python_too(raw: bytes) -> None:
    event = claude_events.decode(b'{"a":"' + raw + b'"}')
    if event is not None:
        assert json.loads(b'{"a":"' + raw + b'"}') == event


def test_kinds_of_our_own_cannot_be_forged() -> None:
    for kind in ("prompt", "stderr", "invalid", "x y", "a" * 65, "", None, 7):
        assert claude_events.kind_of({"type": kind}) == "unknown"
    assert claude_events.kind_of({"type": "tool_progress"}) == "tool_progress"


def message(*blocks: object) -> dict[str, object]:
    return {"type": "assistant", "message": {"content": list(blocks)}}


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (message({"type": "text", "text": "Hello"}), "Hello"),
        (message({"type": "thinking", "thinking": "Hm"}), "Hm"),
        (message({"type": "tool_use", "name": "Bash", "input": {"command": "echo\n hi"}}), "Bash: echo hi"),
        (message({"type": "tool_use", "name": "mcp__x__add", "input": {"n": 1, "s": "two"}}), "mcp__x__add: two"),
        (message({"type": "tool_use", "name": "TaskStop", "input": {}}), "TaskStop"),
        (message({"type": "tool_use", "name": 5, "input": 6}), "a tool"),
        (message({"type": "tool_result", "content": "done"}), "done"),
        (message({"type": "tool_result", "content": [{"type": "text", "text": "a"}, 5, {"text": "b"}]}), "a\nb"),
        (message({"type": "tool_result"}), ""),
        (message({"type": "redacted_thinking"}, "no block"), ""),
        ({"type": "user", "message": {"content": "as text"}}, "as text"),
        ({"type": "user", "message": 5}, ""),
        ({"type": "system", "subtype": "init", "model": "m", "claude_code_version": "2"}, "m (2)"),
        (
            {"type": "system", "subtype": "api_retry", "attempt": 3, "max_retries": 10, "error": "overloaded"},
            "Claude retries, 3 of 10: overloaded",
        ),
        (
            {"type": "system", "subtype": "permission_denied", "tool_name": "Write", "message": "no"},
            "Write denied: no",
        ),
        ({"type": "system", "subtype": "status", "status": "compacting"}, "compacting"),
        ({"type": "system", "subtype": "task_started", "description": "d"}, "d"),
        ({"type": "system"}, ""),
        ({"type": "result", "result": "Done."}, "Done."),
        ({"type": "result", "errors": ["a", 5, "b"]}, "a; b"),
        ({"type": "result"}, ""),
        (
            {"type": "control_request", "request": {"subtype": "can_use_tool", "tool_name": "Read", "input": {"file_path": "/x"}}},
            "Read: /x",
        ),
        ({"type": "control_request", "request": {"subtype": "hook_callback"}}, "hook_callback"),
        ({"type": "rate_limit_event", "rate_limit_info": {"status": "rejected", "rateLimitType": "five_hour"}}, "five_hour rejected"),
        ({"type": "tool_progress", "tool_name": "Bash"}, "Bash"),
        ({"type": "never_heard_of"}, ""),
    ],
)  # fmt: skip
def test_a_line_has_a_short_text(event: dict[str, object], text: str) -> None:
    assert claude_events.summary(event) == text


def test_the_short_text_is_bounded_and_can_be_written_as_utf8() -> None:
    text = claude_events.summary(message({"type": "text", "text": "\ud800" + "x" * 9000}))
    assert len(text) == claude_events.TEXT_MAX
    assert text.encode().startswith("\ufffd".encode())


def test_json_is_cleaned_of_half_characters_in_names_too() -> None:
    assert claude_events.clean({"\ud800": ["\udfff", 1, None, True]}) == {
        "\ufffd": ["\ufffd", 1, None, True]
    }


def test_figures_of_a_wrong_type_count_nothing() -> None:
    for wrong in (None, True, "5", float("nan"), float("inf"), [], -3):
        assert claude_events.count(wrong) == 0
        assert claude_events.money(wrong) == 0.0
    assert claude_events.count(10**30) == 2**53
    assert claude_events.count(4.0) == 4
    assert claude_events.whole("5") is None


RESULT = {
    "num_turns": 2,
    "duration_ms": 120,
    "total_cost_usd": 5.0,
    "usage": {
        "input_tokens": 1,
        "output_tokens": 2,
        "cache_read_input_tokens": 3,
        "cache_creation_input_tokens": 4,
    },
}


def test_the_delta_of_claude_wins_over_totals_which_go_on_over_resumes() -> None:
    models = {
        "a": {"inputTokens": 10, "outputTokens": 20, "costUSD": 0.25},
        "b": {"cacheReadInputTokens": 7, "cacheCreationInputTokens": 8, "costUSD": 0.5},
        "c": "no object",
    }
    turn = claude_events.usage_of({**RESULT, "model_usage_since_last_result": models}, 1.0)
    assert turn.total_usd == 5.0
    assert turn.usage == Usage(
        turns=2, duration_ms=120, input_tokens=10, output_tokens=20,
        cache_read_tokens=7, cache_creation_tokens=8, cost_usd=0.75,
    )  # fmt: skip


def test_without_a_delta_the_total_of_the_process_counts_less_what_was_seen() -> None:
    usage = claude_events.usage_of(RESULT, 3.5).usage
    assert usage.cost_usd == 1.5
    assert (usage.input_tokens, usage.output_tokens) == (1, 2)
    assert (usage.cache_read_tokens, usage.cache_creation_tokens) == (3, 4)
    assert claude_events.usage_of(RESULT, 9.0).usage.cost_usd == 0.0


def test_errors_of_a_result_that_are_no_list_are_none() -> None:
    assert claude_events.result_errors({"errors": "text"}) == ()


def test_only_half_a_surrogate_pair_cannot_stand_in_the_log_as_json() -> None:
    assert claude_events.is_strict(rb'{"a":"\ud83d\ude00 \u00e4"}')
    assert not claude_events.is_strict(rb'{"a":"\ud83d"}')


@pytest.mark.parametrize(
    "raw",
    [
        b"[1]",
        b'"text"',
        b'{"a":1e999}',
        b'{"a":' + b"1" * 5000 + b"}",
        b'{"a":"\xff"}',
        b'{"\xed\xa0\x80":1}',
        rb'{"a":"\ud800"}',
        b'{"a":"\x01"}',
        b'{"a":NaN}',
        b'{"a":[' + b"[" * claude_events.LEVELS + b"]" * claude_events.LEVELS + b"]}",
    ],
)
def test_what_is_odd_does_not_go_the_quick_way(raw):
    with pytest.raises(claude_events.NOT_PLAIN):
        claude_events.plain_decoder()(raw)


@pytest.mark.parametrize(
    "blocks",
    [
        [{"type": "text", "text": "plain"}],
        [{"type": "text", "text": "x" * (claude_events.TEXT_MAX + 1)}],
        [{"type": "text", "text": "\u00fc" * 9}],
        [{"type": "text", "text": 7}],
        [{"type": "text"}],
        [{"type": "thinking", "thinking": "hm", "text": "not this"}],
        [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        [],
        "t",
        {"a": 1},
        None,
    ],
)
def test_the_short_way_to_what_was_said_tells_the_same(blocks):
    event = {"type": "assistant", "message": {"content": blocks}}
    text, tokens = claude_events.said(event)
    assert text == claude_events.summary(event)
    size = sum(map(claude_events._said_bytes, claude_events._blocks(event)))
    assert tokens == -(-size // claude_events.BYTES_OF_TOKEN)
