"""The official Python SDK drives the mock as if it were Claude Code."""

import asyncio
import json
import stat
import sys
from pathlib import Path

import pytest

import mock_claude

sdk = pytest.importorskip("claude_agent_sdk", reason="the Claude Agent SDK is not installed")

pytestmark = [pytest.mark.sdk, pytest.mark.filterwarnings("ignore")]
LIMIT_S = 20


@pytest.fixture
def options(desk, tmp_path):
    """Make options that point the SDK to the mock."""
    root = Path(mock_claude.__file__).resolve().parent.parent
    script = tmp_path / "claude"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -m mock_claude "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    env = {"HOME": str(desk.home), "PYTHONPATH": str(root), "IS_SANDBOX": "1"}

    def make(**more):
        return sdk.ClaudeAgentOptions(cli_path=str(script), cwd=str(desk.cwd), env=env, **more)

    return make


def run(coroutine):
    """Run on a loop of its own, within the limit."""

    async def limited():
        async with asyncio.timeout(LIMIT_S):
            return await coroutine

    return asyncio.run(limited())


async def ask(prompt, options):
    """All messages of one query."""
    return [message async for message in sdk.query(prompt=prompt, options=options)]


def result_of(messages):
    return next(message for message in messages if isinstance(message, sdk.ResultMessage))


def test_query_gets_the_answer(options):
    messages = run(ask('mock: {"events": 2, "text": "the end"}', options()))
    assert [type(message).__name__ for message in messages if "State" not in str(message)] == [
        "SystemMessage",
        "AssistantMessage",
        "AssistantMessage",
        "ResultMessage",
    ]
    assert result_of(messages).result == "the end"
    assert result_of(messages).total_cost_usd > 0


def test_a_client_talks_over_several_turns(options):
    async def talk():
        results = []
        async with sdk.ClaudeSDKClient(options=options()) as client:
            for text in ("My name is Ada", 'mock: {"memory": true}'):
                await client.query(text)
                results.append(result_of([m async for m in client.receive_response()]))
        return results

    first, second = run(talk())
    assert first.session_id == second.session_id
    assert second.result == "I remember 1 earlier prompts:\n1. My name is Ada"


def test_interrupt_ends_the_turn_and_the_client_goes_on(options):
    async def talk():
        async with sdk.ClaudeSDKClient(options=options()) as client:
            await client.query('mock: {"hang": "stream", "text": "one two three four"}')
            messages = client.receive_messages()
            async for message in messages:
                if isinstance(message, sdk.SystemMessage) and message.subtype == "init":
                    break
            await client.interrupt()
            stopped = result_of([m async for m in client.receive_response()])
            await client.query('mock: {"text": "still here"}')
            return stopped, result_of([m async for m in client.receive_response()])

    stopped, after = run(talk())
    assert (stopped.subtype, stopped.is_error) == ("error_during_execution", True)
    assert after.result == "still here"


@pytest.mark.parametrize("is_allowed", [True, False])
def test_can_use_tool_decides(options, desk, is_allowed):
    asked = []

    async def decide(name, given, _context):
        asked.append((name, given["file_path"]))
        if is_allowed:
            return sdk.PermissionResultAllow(updated_input={**given, "content": "changed"})
        return sdk.PermissionResultDeny(message="not today")

    async def talk():
        async with sdk.ClaudeSDKClient(options=options(can_use_tool=decide)) as client:
            await client.query('mock: {"permission": true}')
            return result_of([m async for m in client.receive_response()])

    result = run(talk())
    path = desk.cwd / "mock-permission.txt"
    assert asked == [("Write", str(path))]
    assert path.exists() == is_allowed
    assert bool(result.permission_denials) == (not is_allowed)
    if is_allowed:
        assert path.read_text() == "changed"


def test_resume_continues_and_fork_branches(options):
    first = result_of(run(ask("My name is Ada", options())))
    memory = 'mock: {"memory": true}'
    resumed = result_of(run(ask(memory, options(resume=first.session_id))))
    forked = result_of(run(ask(memory, options(resume=first.session_id, fork_session=True))))
    assert resumed.session_id == first.session_id
    assert forked.session_id != first.session_id
    assert "1. My name is Ada" in resumed.result
    assert "1. My name is Ada" in forked.result
    assert resumed.total_cost_usd > first.total_cost_usd


def test_a_tool_of_the_sdk_is_called(options):
    @sdk.tool("add", "Add two numbers", {"a": int, "b": int})
    async def add(arguments):
        return {"content": [{"type": "text", "text": str(arguments["a"] + arguments["b"])}]}

    server = sdk.create_sdk_mcp_server("calc", tools=[add])
    made = options(mcp_servers={"calc": server}, allowed_tools=["mcp__calc__add"])
    call = 'mock: {"tool": {"name": "mcp__calc__add", "input": {"a": 1, "b": 2}}}'

    async def talk():
        async with sdk.ClaudeSDKClient(options=made) as client:
            await client.query(call)
            return [m async for m in client.receive_response()]

    blocks = [
        block
        for message in run(talk())
        if isinstance(message, sdk.UserMessage)
        for block in message.content
    ]
    assert [block.content for block in blocks] == [[{"type": "text", "text": "3"}]]


def test_a_hook_of_the_sdk_can_deny(options):
    async def refuse(_given, _id, _context):
        said = {"permissionDecision": "deny", "permissionDecisionReason": "policy says no"}
        return {"hookSpecificOutput": {"hookEventName": "PreToolUse", **said}}

    matcher = sdk.HookMatcher(matcher="Bash", hooks=[refuse])

    async def talk():
        made = options(hooks={"PreToolUse": [matcher]})
        async with sdk.ClaudeSDKClient(options=made) as client:
            call = {"name": "Bash", "input": {"command": "echo hi"}}
            await client.query(f"mock: {json.dumps({'tool': call})}")
            return result_of([m async for m in client.receive_response()])

    assert [denial["tool_name"] for denial in run(talk()).permission_denials] == ["Bash"]


def test_an_api_error_reaches_the_caller(options):
    with pytest.raises(Exception, match=r"500|exit code|error"):
        run(ask('mock: {"error": "500", "retries": 0}', options()))
