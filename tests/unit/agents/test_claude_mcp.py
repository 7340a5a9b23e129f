"""The server of ask_human: what Claude's messages get, and what becomes a question."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivectl.agents import claude_mcp
from hivectl.agents.claude_mcp import Ask, Cancelled
from hivectl.model.question import CHOICE_MAX, CHOICES_MAX, CONTEXT_MAX, TEXT_MAX


def handle(method: Any, id_: Any = 1, **params: Any) -> Any:
    message = {"jsonrpc": "2.0", "method": method, "params": params}
    if id_ is not None:
        message["id"] = id_
    return claude_mcp.handle(message, version="9")


def call(**arguments: Any) -> Any:
    return handle("tools/call", 7, name="ask_human", arguments=arguments)


def test_the_greeting_speaks_the_clients_version_of_the_protocol() -> None:
    said = handle("initialize", protocolVersion="2024-11-05")
    assert said["result"]["protocolVersion"] == "2024-11-05"
    assert said["result"]["serverInfo"] == {"name": "hivectl", "version": "9"}
    assert handle("initialize", protocolVersion=3)["result"]["protocolVersion"]


def test_one_tool_is_offered_with_a_closed_schema() -> None:
    (tool,) = handle("tools/list")["result"]["tools"]
    assert tool["name"] == "ask_human"
    assert tool["inputSchema"]["additionalProperties"] is False
    assert tool["_meta"] == {"anthropic/alwaysLoad": True}


def test_pings_are_answered_and_notifications_acknowledged() -> None:
    assert handle("ping", "a")["result"] == {}
    assert handle("notifications/initialized", None) == {"jsonrpc": "2.0", "result": {}}


@pytest.mark.parametrize("method", ["resources/list", None, 3, ["x"]])
def test_other_methods_do_not_exist(method: Any) -> None:
    assert handle(method)["error"]["code"] == -32601


def test_a_call_becomes_a_question() -> None:
    assert call(question=" Which? ", choices=["a", "b", "a"], multi=True, context="c") == Ask(
        rpc="7", text="Which?", choices=("a", "b"), is_multi=True, context="c"
    )
    assert call(question="Why?") == Ask(
        rpc="7", text="Why?", choices=(), is_multi=False, context=""
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"question": " "},
        {"question": 3},
        {"question": "x" * (TEXT_MAX + 1)},
        {"question": "x", "context": "x" * (CONTEXT_MAX + 1)},
        {"question": "x", "context": []},
        {"question": "x", "multi": "yes"},
        {"question": "x", "choices": "a"},
        {"question": "x", "choices": ["a"] * (CHOICES_MAX + 1)},
        {"question": "x", "choices": ["a" * (CHOICE_MAX + 1)]},
        {"question": "x", "choices": ["", "b"]},
    ],
)
def test_a_call_that_does_not_fit_is_told_to_the_model(arguments: dict[str, Any]) -> None:
    said = call(**arguments)
    assert said["result"]["isError"] is True
    assert said["id"] == 7


def test_another_tool_does_not_exist() -> None:
    assert handle("tools/call", name="rm")["error"]["code"] == -32602


def test_a_cancelled_call_is_named() -> None:
    assert handle("notifications/cancelled", None, requestId=7) == Cancelled("7")
    assert handle("notifications/cancelled", None, requestId=[7]) == claude_mcp.acknowledged()


def test_an_answer_names_the_call() -> None:
    assert claude_mcp.answer('"x"', "yes", is_error=False) == {
        "jsonrpc": "2.0", "id": "x", "result": {"content": [{"type": "text", "text": "yes"}]},
    }  # fmt: skip


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(
                st.sampled_from(["id", "method", "params", "name", "arguments"]), inner
            )
        ),
        max_leaves=9,
    )
)
def test_nothing_that_arrives_breaks_it(message: Any) -> None:
    said = claude_mcp.handle(message, version="9")
    if isinstance(said, dict):
        assert said["jsonrpc"] == "2.0"
        json.dumps(said)
