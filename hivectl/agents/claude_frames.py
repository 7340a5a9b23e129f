"""Every frame hivectl writes to Claude's stdin, and the id each one has.

Ids repeat with their content, so a frame may be handed over again after a crash: the shim writes it
once, and Claude runs a message with a known uuid once. All frames are ASCII JSON on one line.
"""

from __future__ import annotations

import json
from typing import Any

from hivectl.ports import Answer

Frame = tuple[str, bytes]

INTERRUPT_ID = "hivectl-interrupt"
INITIALIZE_ID = "hivectl-initialize"
DENIED = "The user denied this tool call."


def _line(frame: dict[str, Any]) -> bytes:
    return json.dumps(frame, separators=(",", ":")).encode() + b"\n"


def _success(request: str, response: dict[str, Any]) -> bytes:
    return _line(
        {
            "type": "control_response",
            "response": {"subtype": "success", "request_id": request, "response": response},
        }
    )


def _error(request: str, text: str) -> bytes:
    return _line(
        {
            "type": "control_response",
            "response": {"subtype": "error", "request_id": request, "error": text},
        }
    )


def prompt(text: str, uuid: str, *, composed: bool, follows: bool = False) -> Frame:
    """The user's message. `composed`: neither slash commands nor `@file` are looked for in it.

    `follows`: not the first of its process. The first one's frame has a plain name, which daemons of
    older versions gave it too."""
    message: dict[str, Any] = {
        "type": "user",
        "message": {"role": "user", "content": text},
        "parent_tool_use_id": None,
        "session_id": "",
        "uuid": uuid,
    }
    if composed:
        message["client_composed"] = True
    return f"prompt:{uuid}" if follows else "prompt", _line(message)


def interrupt() -> Frame:
    """Stop the turn; a no-op while Claude is idle."""
    return "interrupt", _line(
        {
            "type": "control_request",
            "request_id": INTERRUPT_ID,
            "request": {"subtype": "interrupt"},
        }
    )


def permission(request: str, answer: Answer, asked: dict[str, Any] | None) -> Frame:
    """A decision. An allowed call runs with the answer's input, else with the one that was `asked`.

    Older versions insist on `updatedInput`, so it is always sent when it is known; an empty one means
    "unchanged" to Claude.
    """
    response: dict[str, Any]
    if answer.allow:
        response = {"behavior": "allow"}
        given = asked if answer.input is None else answer.input
        if given is not None:
            response["updatedInput"] = given
    else:
        response = {"behavior": "deny", "message": answer.message or DENIED}
        if answer.interrupt:
            response["interrupt"] = True
    return f"answer:{request}", _success(request, response)


def refuse(request: str, text: str) -> Frame:
    """An error in answer to a control request."""
    return f"reply:{request}", _error(request, text)


def no_opinion(request: str) -> Frame:
    """A hook's answer that changes nothing."""
    return f"reply:{request}", _success(request, {})


def initialize() -> Frame:
    """The first frame where Claude is to use an MCP server of ours. It starts no turn."""
    return "initialize", _line(
        {
            "type": "control_request",
            "request_id": INITIALIZE_ID,
            "request": {"subtype": "initialize", "hooks": None},
        }
    )


def mcp(request: str, rpc: dict[str, Any]) -> Frame:
    """The JSON-RPC answer to a message for an MCP server of ours."""
    return f"reply:{request}", _success(request, {"mcp_response": rpc})


def mcp_answer(request: str, rpc: dict[str, Any]) -> Frame:
    """The same, where a person answered: written again after a crash, as other answers are."""
    return f"answer:{request}", _success(request, {"mcp_response": rpc})


def no_server(request: str, message: Any) -> Frame:
    """The answer to a JSON-RPC message for an MCP server that does not live here."""
    rpc: dict[str, Any]
    if isinstance(message, dict) and message.get("id") is not None:
        error = {"code": -32601, "message": "hivectl offers no such MCP server"}
        rpc = {"jsonrpc": "2.0", "id": message["id"], "error": error}
    else:
        rpc = {"jsonrpc": "2.0", "result": {}}
    return mcp(request, rpc)
