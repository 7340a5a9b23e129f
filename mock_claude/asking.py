"""Permission of one tool call: rules and modes first, then the host's hooks, then the host."""

from typing import NamedTuple

from mock_claude import catalog, permissions
from mock_claude.calls import Call, Outcome, unknown
from mock_claude.cli import Cli, Fatal, StreamClosed
from mock_claude.machine import Json

CLOSED = "AbortError: Tool permission stream closed before response received"


class DeniedAndStopped(Exception):
    """The host denied a call and wants the turn to end."""


class Verdict(NamedTuple):
    """What became of the question: the input to run with, or the outcome instead of running."""

    input: Json
    decision: Json
    refused: Outcome | None = None
    is_denial: bool = True


def seek(cli: Cli, call: Call) -> Verdict:
    """Find out whether a call may run. Raises DeniedAndStopped, Interrupted, Signalled, Fatal."""
    if call.name in catalog.INTERACTIVE and not _has_host(cli):
        why = f". {call.name} is disabled for this session, in subagents as well as here."
        return Verdict(call.input, {}, unknown(call.name, why), is_denial=False)
    known = [*cli.tools(), "Agent", "TodoWrite", "Glob", "Grep"]
    if call.name not in known:
        return Verdict(call.input, {}, unknown(call.name), is_denial=False)
    fields = {"tool_name": call.name, "tool_input": call.input, "tool_use_id": call.id}
    said = cli.hook("PreToolUse", fields, matcher=call.name).get("hookSpecificOutput") or {}
    if said.get("permissionDecision") == "deny":
        reason = said.get("permissionDecisionReason", "")
        text = f"PreToolUse:{call.name} hook error: {reason}"
        return _refuse(call, text, _rejection("hook", "hook"), "permission-rule")
    if said.get("permissionDecision") == "allow":
        changed = said.get("updatedInput") or call.input
        return Verdict(changed, _acceptance("hook", "hook"))
    return _by_rules(cli, call)


def _has_host(cli: Cli) -> bool:
    return cli.options.value("permission-prompt-tool") == "stdio"


def _by_rules(cli: Cli, call: Call) -> Verdict:
    rules = tuple(
        any(permissions.matches(rule, call.name, call.input, cli.cwd) for rule in cli.rules[side])
        for side in ("deny", "allow")
    )
    kind = permissions.kind_of(call.name, call.input, cli.cwd, cli.directories)
    verdict, reason = permissions.decide(call.name, kind, cli.mode, (rules[0], rules[1]))
    if call.name in catalog.INTERACTIVE:
        verdict = "ask"
    if call.name == "StructuredOutput":
        return Verdict(call.input, _acceptance("config", ""))
    if verdict == "allow":
        return Verdict(call.input, _acceptance("config", reason))
    if verdict == "deny" or cli.options.value("permission-prompts") == "none":
        return _deny_unasked(cli, call, reason)
    prompt_tool = cli.options.value("permission-prompt-tool")
    if prompt_tool.startswith("mcp__"):
        if prompt_tool not in [tool["full_name"] for tool in cli.mcp_tools]:
            raise Fatal(
                f"Error: MCP tool {prompt_tool} (passed via --permission-prompt-tool) not found"
            )
        return _ask_mcp(cli, call, prompt_tool)
    if prompt_tool != "stdio":
        return _deny_unasked(cli, call, "")
    if not cli.options.is_streaming_input:
        return _broken(call, "Stream closed")
    return _ask_host(cli, call)


def _deny_unasked(cli: Cli, call: Call, reason: str) -> Verdict:
    shown = permissions.normalise(call.name, call.input, cli.cwd)
    text = permissions.refusal_text(call.name, shown)
    if reason == "rule":
        text = f"Permission to use {call.name} has been denied."
    elif reason == "mode":
        text = f"Permission to use {call.name} has been denied because of the {cli.mode} mode."
    extra = {"decision_reason_type": reason} if reason else {}
    fields = {"tool_name": call.name, "tool_use_id": call.id, "message": text, **extra}
    cli.system("permission_denied", **fields)
    return _refuse(call, text, _rejection("config", reason), "user-rejected")


def _ask_host(cli: Cli, call: Call) -> Verdict:
    cli.state("requires_action")
    request = _request(cli, call)
    try:
        reply = cli.ask(request)
    except StreamClosed:
        return _broken(call, CLOSED)
    cli.state("running")
    if reply.get("subtype") == "error":
        return _broken(call, f"Error: {reply.get('error', '')}")
    return judge(cli, call, reply.get("response"))


def _request(cli: Cli, call: Call) -> Json:
    shown = permissions.normalise(call.name, call.input, cli.cwd)
    request: Json = {
        "subtype": "can_use_tool",
        "tool_name": call.name,
        "display_name": call.name,
        "input": shown,
    }
    if call.name in catalog.INTERACTIVE:
        return {**request, "tool_use_id": call.id, "requires_user_interaction": True}
    if "file_path" in shown:
        request["description"] = str(shown["file_path"]).rsplit("/", 1)[-1]
    elif "description" in shown:
        request["description"] = shown["description"]
    suggested = permissions.suggestions(call.name, shown, cli.cwd)
    request["permission_suggestions"] = suggested
    blocked = permissions.blocked_path(call.name, shown, cli.cwd)
    if blocked:
        request["blocked_path"] = blocked
    return {**request, "tool_use_id": call.id}


def judge(cli: Cli, call: Call, answer: object) -> Verdict:
    """Apply a host's answer. Raises DeniedAndStopped."""
    if not isinstance(answer, dict):
        answer = {}
    if answer.get("behavior") == "allow":
        apply_updates(cli, answer.get("updatedPermissions") or [])
        changed = answer.get("updatedInput")
        return Verdict(changed or call.input, _acceptance("user_temporary", ""))
    message = answer.get("message")
    if answer.get("behavior") != "deny" or not isinstance(message, str):
        return _broken(call, "Error: invalid permission result")
    if answer.get("interrupt"):
        raise DeniedAndStopped
    return _refuse(call, message, _rejection("user_reject", ""), "permission-rule")


def apply_updates(cli: Cli, updates: list[Json]) -> None:
    """Apply accepted suggestions to the session, and to the project's files if they say so."""
    from mock_claude import project

    for update in updates:
        kind = update.get("type")
        if kind == "setMode":
            cli.mode = str(update.get("mode", cli.mode))
            cli.system("status", status=None, permissionMode=cli.mode)
        elif kind == "addDirectories":
            cli.directories += update.get("directories", [])
        elif kind == "addRules":
            texts = [project.rule_text(rule) for rule in update.get("rules", [])]
            cli.rules.setdefault(str(update.get("behavior")), []).extend(texts)
        if update.get("destination") == "localSettings":
            project.store_rules(cli, update)


def _ask_mcp(cli: Cli, call: Call, tool: str) -> Verdict:
    from mock_claude import mcp

    asked = {"tool_name": call.name, "input": call.input, "tool_use_id": call.id}
    return judge(cli, call, mcp.call_for_json(cli, tool, asked))


def _broken(call: Call, why: str) -> Verdict:
    text = f"Tool permission request failed: {why}"
    return _refuse(call, text, _rejection("config", "other"), "permission-rule")


def _refuse(call: Call, text: str, decision: Json, kind: str) -> Verdict:
    meta = {"non_execution_kind": kind, "permission_decision": decision}
    outcome = Outcome(text, f"Error: {text}", is_error=True, meta=meta)
    return Verdict(call.input, decision, outcome)


def _acceptance(source: str, reason: str) -> Json:
    return {"decision": "accept", "source": source, **({"reason_type": reason} if reason else {})}


def _rejection(source: str, reason: str) -> Json:
    return {"decision": "reject", "source": source, **({"reason_type": reason} if reason else {})}
