"""Answers to the host's control requests, one function per subtype, in one table."""

import os
from collections.abc import Callable

from mock_claude import VERSION, catalog, machine
from mock_claude.cli import Cli
from mock_claude.machine import Json


def handle(cli: Cli, item: Json) -> None:
    """Answer a control request, at any moment."""
    request = item.get("request") or {}
    subtype = str(request.get("subtype"))
    answer = HANDLERS.get(subtype)
    if answer is None:
        text = f"Unsupported control request subtype: {subtype}"
        refuse(cli, item, text, code="unsupported_request")
        return
    answer(cli, item, request)


def respond(cli: Cli, item: Json, response: Json | None, **beside: object) -> None:
    """Send a success; `beside` goes next to `response`."""
    body: Json = {"subtype": "success", "request_id": item.get("request_id")}
    if response is not None:
        body["response"] = response
    cli.emit({"type": "control_response", "response": {**body, **beside}})


def refuse(cli: Cli, item: Json, error: str, *, code: str = "") -> None:
    """Send an error."""
    body: Json = {"subtype": "error", "request_id": item.get("request_id"), "error": error}
    if code:
        body["error_code"] = code
    cli.emit({"type": "control_response", "response": body})


def _initialize(cli: Cli, item: Json, request: Json) -> None:
    cli.hooks = request.get("hooks") or {}
    if request.get("forwardSubagentText"):
        cli.options.values.setdefault("forward-subagent-text", [])
    if cli.is_turn_running or not cli.has_host_servers:
        answer_initialize(cli, item)
    else:  # servers that live in the host are asked first, which takes answers
        cli.deferred.append(item)


def answer_initialize(cli: Cli, item: Json) -> None:
    """The answer to `initialize`; it starts no turn and prints no init."""
    source = "ANTHROPIC_API_KEY" if machine.env("ANTHROPIC_API_KEY") else "none"
    commands = [
        {"name": name, "description": f"The {name} command.", "argumentHint": "", "builtin": True}
        for name in catalog.COMMANDS
    ]
    response = {
        "commands": commands,
        "agents": [{"name": name, "description": f"{name} agent."} for name in catalog.AGENTS],
        "output_style": "default",
        "available_output_styles": catalog.OUTPUT_STYLES,
        "user_output_styles_dir": os.path.join(machine.config_dir(), "output-styles"),
        "models": catalog.model_choices(),
        "account": {"tokenSource": "none", "apiKeySource": source, "apiProvider": "firstParty"},
        "pid": os.getpid(),
        "claude_code_version": VERSION,
        "current_permission_mode": cli.mode,
        "hook_on_failure_supported": True,
        "hooks_when_unanswered_kept": 0,
        "other_hook_ask_outranks_host": True,
        "feedback_mode": {"kind": "disabled"},
        "analytics_disabled": True,
        "remote_control_auto_enable": False,
        "remote_control_auto_connect_default": False,
        "remote_control_available": False,
        "remote_control_auto_on_by_default": False,
        "ide_rc_auto_enable_gate": False,
        "fast_mode_state": "off",
        "fast_mode_disabled_reason": "sdk_opt_in_required",
        **({"hooks_applied": True} if cli.hooks else {}),
        "session_state": "running" if cli.is_turn_running else "idle",
        "capabilities": catalog.INITIALIZE_CAPABILITIES,
    }
    respond(cli, item, response, pending_permission_requests=[], pending_user_dialog_requests=[])


def _interrupt(cli: Cli, item: Json, _request: Json) -> None:
    if cli.interrupt_is_ignored:
        return
    if cli.is_turn_running:
        cli.cancel_pending()
        cli.is_interrupted = True
    queued = [message.uuid for message in cli.queue if message.uuid]
    respond(cli, item, {"still_queued": queued})


def _set_permission_mode(cli: Cli, item: Json, request: Json) -> None:
    mode = str(request.get("mode"))
    if mode not in catalog.MODES:
        choices = ", ".join(catalog.MODES)
        text = f"Cannot set permission mode: must be one of {choices}"
        refuse(cli, item, text, code="invalid_mode")
        return
    cli.mode = mode
    respond(cli, item, {"mode": mode})
    cli.system("status", status=None, permissionMode=mode)


def _set_model(cli: Cli, item: Json, request: Json) -> None:
    cli.model = catalog.resolve_model(str(request.get("model") or "default"))
    respond(cli, item, {"model": cli.model})
    if cli.turn_count:
        text = f"<local-command-stdout>Set model to {cli.model}</local-command-stdout>"
        cli.emit(
            {
                "type": "user",
                "message": {"role": "user", "content": text},
                "session_id": cli.session.id,
                "parent_tool_use_id": None,
                "uuid": cli.ids.uuid(),
                "timestamp": machine.iso(),
                "isReplay": True,
            }
        )


def _mcp_status(cli: Cli, item: Json, _request: Json) -> None:
    respond(cli, item, {"mcpServers": cli.mcp_servers})


def _context_usage(cli: Cli, item: Json, _request: Json) -> None:
    used = 100 * (1 + len(cli.session.prompts))
    categories = [
        {"name": "System prompt", "tokens": 2502, "color": "promptBorder"},
        {"name": "Messages", "tokens": used, "color": "purple"},
    ]
    total = 2502 + used
    respond(
        cli,
        item,
        {
            "categories": categories,
            "totalTokens": total,
            "maxTokens": 1_000_000,
            "rawMaxTokens": 1_000_000,
            "percentage": round(total / 10_000),
            "model": cli.model,
            "memoryFiles": [],
            "mcpTools": [],
            "agents": [],
            "gridRows": [],
            "isAutoCompactEnabled": True,
            "apiUsage": None,
        },
    )


def _settings(cli: Cli, item: Json, _request: Json) -> None:
    respond(cli, item, {"effective": cli.settings, "sources": []})


def _cancel_message(cli: Cli, item: Json, request: Json) -> None:
    uuid = str(request.get("message_uuid") or "")
    found = [message for message in cli.queue if uuid and message.uuid == uuid]
    for message in found:
        cli.queue.remove(message)
    respond(cli, item, {"cancelled": bool(found), "message_uuid": uuid})
    if found:
        cli.lifecycle(uuid, "cancelled")


def _stop_task(cli: Cli, item: Json, request: Json) -> None:
    task = next((t for t in cli.background if t.id == request.get("task_id")), None)
    if task is None:
        refuse(cli, item, f"No task found with ID: {request.get('task_id')}")
        return
    task.stop(cli)
    respond(cli, item, {})


def _rewind(cli: Cli, item: Json, _request: Json) -> None:
    refuse(cli, item, "File rewinding is not enabled.")


def _acknowledge(cli: Cli, item: Json, _request: Json) -> None:
    respond(cli, item, None)


HANDLERS: dict[str, Callable[[Cli, Json, Json], None]] = {
    "initialize": _initialize,
    "interrupt": _interrupt,
    "set_permission_mode": _set_permission_mode,
    "set_model": _set_model,
    "set_max_thinking_tokens": _acknowledge,
    "mcp_status": _mcp_status,
    "mcp_reconnect": _acknowledge,
    "mcp_toggle": _acknowledge,
    "get_context_usage": _context_usage,
    "get_settings": _settings,
    "cancel_async_message": _cancel_message,
    "stop_task": _stop_task,
    "rewind_files": _rewind,
}
