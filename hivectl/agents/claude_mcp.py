"""The MCP server that hivectl is to Claude: one tool, `ask_human`. Messages in, answers or a question out.

It lives in this process and is reached over the control protocol: no port, no token, no process. Pure:
who asked, what is stored and when a person answers is not known here.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from hivectl.agents.claude_events import clean
from hivectl.model.question import CHOICE_MAX, CHOICES_MAX, CONTEXT_MAX, TEXT_MAX

SERVER = "hivectl"
TOOL = "ask_human"
FULL_NAME = f"mcp__{SERVER}__{TOOL}"
CONFIG_FILE = "mcp.json"
PROTOCOL = "2025-06-18"
RPC_ID_MAX = 200

CALL_LIMIT_MS = 24 * 86_400_000
"""How long Claude may wait for an answer: just below what its timers can hold (2³¹ ms)."""
ENVIRONMENT = {
    "MCP_TOOL_TIMEOUT": str(CALL_LIMIT_MS),
    "CLAUDE_CODE_MCP_AUTO_BACKGROUND_MS": "0",
}
"""Claude gives up a call after 28 hours, and since 2.1.212 may go on without it after two minutes; a
person may sleep or be away for longer. What the user's own configuration says of them wins."""

_DESCRIPTION = """\
Ask the person you work for, and wait for the answer. Use it when you cannot go on without a decision, \
a fact or a preference that only a person can give: not for what you can find out yourself, and not to \
report progress. Waiting may take long. Put everything the person needs into the question: they may not \
have followed your work."""

TOOLS = [
    {
        "name": TOOL,
        "title": "Ask a human",
        "description": _DESCRIPTION,
        "inputSchema": {
            "type": "object",
            "properties": {
                "question": {
                    "type": "string",
                    "description": "What you want to know, as one clear question.",
                    "maxLength": TEXT_MAX,
                },
                "choices": {
                    "type": "array",
                    "items": {"type": "string", "maxLength": CHOICE_MAX},
                    "maxItems": CHOICES_MAX,
                    "description": "Answers to choose from; the person may use other words all the same.",
                },
                "multi": {
                    "type": "boolean",
                    "description": "Whether several choices may be taken.",
                },
                "context": {
                    "type": "string",
                    "description": "What the person should know to answer: what you did, found, and would do.",
                    "maxLength": CONTEXT_MAX,
                },
            },
            "required": ["question"],
            "additionalProperties": False,
        },
        "annotations": {"readOnlyHint": True, "openWorldHint": False},
        # Not behind Claude's search for tools: nobody looks for what he does not know of.
        "_meta": {"anthropic/alwaysLoad": True},
    }
]


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A call of ask_human. `rpc` is the JSON-RPC id as JSON."""

    rpc: str
    text: str
    choices: tuple[str, ...]
    is_multi: bool
    context: str


class Cancelled(msgspec.Struct, frozen=True):
    """Claude no longer waits for the call with this JSON-RPC id."""

    rpc: str


def config_bytes() -> bytes:
    """What `--mcp-config` names."""
    return json.dumps({"mcpServers": {SERVER: {"type": "sdk", "name": SERVER}}}).encode()


def handle(message: Any, *, version: str) -> dict[str, Any] | Ask | Cancelled:
    """The JSON-RPC answer to a message, or what a person has to answer."""
    if not isinstance(message, dict):
        message = {}
    method, id_ = message.get("method"), message.get("id")
    given = message.get("params")
    params: dict[str, Any] = given if isinstance(given, dict) else {}
    if id_ is None:
        if method == "notifications/cancelled" and is_rpc_id(params.get("requestId")):
            return Cancelled(json.dumps(params["requestId"]))
        return acknowledged()
    if not is_rpc_id(id_):
        return _error(None, -32600, "The id of a request is a short text or a whole number.")
    if method == "tools/call":
        return _call(id_, params)
    answers = {
        "initialize": _greeting(params, version),
        "ping": {},
        "tools/list": {"tools": TOOLS},
    }
    found = answers.get(method) if isinstance(method, str) else None
    if found is None:
        return _error(id_, -32601, f"There is no method {str(method)[:100]}.")
    return result(id_, found)


def is_rpc_id(value: Any) -> bool:
    """Whether it can be the id of a request."""
    if isinstance(value, str):
        return len(value) <= RPC_ID_MAX
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53


def result(id_: Any, value: dict[str, Any]) -> dict[str, Any]:
    """A JSON-RPC result."""
    return {"jsonrpc": "2.0", "id": id_, "result": value}


def acknowledged() -> dict[str, Any]:
    """The answer to what wants none."""
    return {"jsonrpc": "2.0", "result": {}}


def answer(rpc: str, text: str, *, is_error: bool) -> dict[str, Any]:
    """What the call with this id (as JSON) returns."""
    said: dict[str, Any] = {"content": [{"type": "text", "text": text}]}
    if is_error:
        said["isError"] = True
    return result(json.loads(rpc), said)


def _error(id_: Any, code: int, text: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id_, "error": {"code": code, "message": text}}


def _greeting(params: dict[str, Any], version: str) -> dict[str, Any]:
    wanted = params.get("protocolVersion")
    return {
        "protocolVersion": wanted if isinstance(wanted, str) and len(wanted) < 40 else PROTOCOL,
        "capabilities": {"tools": {}},
        "serverInfo": {"name": SERVER, "version": version},
    }


def _call(id_: Any, params: dict[str, Any]) -> dict[str, Any] | Ask:
    if params.get("name") != TOOL:
        return _error(id_, -32602, f"There is no tool {str(params.get('name'))[:100]}.")
    given = params.get("arguments")
    if not isinstance(given, dict):
        given = {}
    if wrong := _fault(given):
        # For the model to read and mend, not for the program.
        return answer(json.dumps(id_), wrong, is_error=True)
    return Ask(
        rpc=json.dumps(id_),
        text=clean(given["question"]).strip(),
        choices=tuple(
            dict.fromkeys(clean(choice).strip() for choice in given.get("choices") or [])
        ),
        is_multi=bool(given.get("multi")),
        context=clean(given.get("context") or ""),
    )


def _fault(given: dict[str, Any]) -> str:
    question, choices, context = (given.get(name) for name in ("question", "choices", "context"))
    if not isinstance(question, str) or not question.strip():
        return "`question` must be a text: what you want to know."
    if len(question) > TEXT_MAX:
        return f"`question` may have {TEXT_MAX} characters; put the rest into `context`."
    if not isinstance(given.get("multi", False), bool | None):
        return "`multi` must be true or false."
    if context is not None and (not isinstance(context, str) or len(context) > CONTEXT_MAX):
        return f"`context` must be a text of at most {CONTEXT_MAX} characters."
    if choices is None:
        return ""
    if not isinstance(choices, list) or len(choices) > CHOICES_MAX:
        return f"`choices` must be a list of at most {CHOICES_MAX} texts."
    if not all(isinstance(c, str) and c.strip() and len(c) <= CHOICE_MAX for c in choices):
        return f"Each of `choices` must be a text of at most {CHOICE_MAX} characters."
    return ""
