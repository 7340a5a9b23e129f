"""One line of Claude's output, taken apart: strict JSON or not, its kind, its short text, its figures.

Pure functions over decoded lines. Every field may be missing or of a wrong type: a reader that trusts
one is a bug. What is taken out is bounded and free of half characters; the raw line is kept elsewhere.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from functools import cache
from itertools import islice
from typing import Any, NoReturn

import msgspec

from hivectl.model.usage import Figures
from hivectl.model.work import Usage
from hivectl.ports import UsageSeen

TEXT_MAX = 2000
"""Characters of the short text of a line."""
DEPTH_MAX = 200
"""Deeper JSON is kept as bytes: readers of the log (Python's own among them) fail on it."""

LEVELS = 8
"""What Claude writes nests no deeper, but for what a tool was given."""
NOT_PLAIN = (msgspec.DecodeError, UnicodeDecodeError)

_decoder = msgspec.json.Decoder()
_WORD = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SURROGATE_ESCAPE = re.compile(rb"\\u[dD][89a-fA-F]")
ID_MAX = 200
"""Characters of an id; what is longer is cut."""
BYTES_OF_TOKEN = 4
"""About so many bytes of JSON make a token: for messages whose own count never comes."""
BLOCK_BYTES = 20
"""What a block takes beside what it says."""
SYNTHETIC = "<synthetic>"
"""The model of messages that Claude Code itself wrote."""
_RESERVED = frozenset({"prompt", "stderr", "invalid"})
"""Kinds of records that hivectl itself writes: a line of Claude's may not pass for one."""

Event = dict[str, Any]


@cache
def plain_decoder() -> Callable[[bytes], Event]:
    """Decodes an object that nests at most LEVELS deep; raises NOT_PLAIN for everything else.

    The depth is part of the type, so nothing has to be counted, and every string and number is decoded,
    so what it takes every strict parser takes. (A typed decoder that skips what is not looked at is not
    strict: numbers out of range and bytes that are no UTF-8 pass it.)"""
    scalar = str | int | float | bool | None
    value: Any = scalar
    for _ in range(LEVELS - 1):
        value = scalar | dict[str, value] | list[value]
    return msgspec.json.Decoder(dict[str, value]).decode


def decode(raw: bytes) -> Event | None:
    """The object of a line, or None when the line is not one that every strict JSON parser takes."""
    try:
        value = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = _decode_surrogates(raw)
    if not isinstance(value, dict):
        return None
    # Brackets inside strings are counted too: only few lines have to be walked.
    if raw.count(b"{") + raw.count(b"[") > DEPTH_MAX and _is_deep(value):
        return None
    return value


def _decode_surrogates(raw: bytes) -> Any:
    """JSON that escapes half a surrogate pair: legal in the grammar, and Claude writes it."""
    if not _SURROGATE_ESCAPE.search(raw):
        return None
    try:
        return json.loads(raw.decode(), parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return None


def is_strict(raw: bytes) -> bool:
    """Whether the log can hold a decodable line as it is: half a surrogate pair is refused by strict readers,
    and a record that holds one could not be read again."""
    if not _SURROGATE_ESCAPE.search(raw):
        return True
    try:
        _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("a number out of range")
    return number


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(DEPTH_MAX):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def word(value: Any, default: str = "") -> str:
    """A name as Claude uses them for types; `default` for anything else."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else default


def text_of(value: Any) -> str:
    """A bounded string without half characters; empty for anything else."""
    return _whole_characters(value[:TEXT_MAX]) if isinstance(value, str) else ""


def _whole_characters(text: str) -> str:
    if text.isascii():
        return text
    try:
        text.encode()  # ten times as quick as looking for halves
    except UnicodeEncodeError:
        return _SURROGATE.sub("\ufffd", text)
    return text


def clean(value: Any) -> Any:
    """A JSON value without half characters, so that it can be stored and sent as UTF-8."""
    match value:
        case str():
            return _whole_characters(value)
        case dict():
            return {clean(name): clean(item) for name, item in value.items()}
        case list():
            return [clean(item) for item in value]
        case _:
            return value


def whole(value: Any, default: int | None = None) -> int | None:
    """An integer, also one written as a float; `default` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return default
    return int(value)


def count(value: Any) -> int:
    """A count: never negative, 0 when it is none, within what a database holds."""
    if type(value) is int and 0 <= value <= 2**53:  # what it nearly always is
        return value
    return min(max(whole(value, 0) or 0, 0), 2**53)


def money(value: Any) -> float:
    """US dollars; 0 when it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return 0.0
    return max(float(value), 0.0)


def mapping(value: Any) -> dict[str, Any]:
    """The object, or an empty one."""
    return value if isinstance(value, dict) else {}


def kind_of(event: Event) -> str:
    """What a record of this line is called."""
    kind = event.get("type")
    if type(kind) is str and kind in _TEXTS:
        return kind
    kind = word(kind, "unknown")
    return "unknown" if kind in _RESERVED else kind


def is_afterword(event: Event) -> bool:
    """Whether this may come behind the result of a turn (as measured), and so begins none."""
    kind, subtype = event.get("type"), event.get("subtype")
    if kind == "command_lifecycle":
        return event.get("state") in ("completed", "cancelled")
    if kind != "system" or not isinstance(subtype, str):
        return kind == "rate_limit_event"
    if subtype == "session_state_changed":
        return event.get("state") == "idle"
    return subtype.startswith("task_") or subtype == "background_tasks_changed"


# --- usage -----------------------------------------------------------------------------------------


class TurnUsage(msgspec.Struct, frozen=True):
    """What a result says was used; `total_usd` is the running total of the process, for deltas."""

    usage: Usage
    total_usd: float
    models: tuple[Figures, ...] = ()
    is_total: bool = False
    """`models` are running totals of the process: this version states nothing else."""


def usage_of(event: Event, seen_usd: float) -> TurnUsage:
    """What this turn used. `seen_usd` is the total at the last result of the same process.

    Where Claude reports the delta itself it is taken, because totals go on over resumes; versions
    without it start each process at 0.
    """
    total = money(event.get("total_cost_usd"))
    delta = event.get("model_usage_since_last_result")
    fields = {
        "turns": count(event.get("num_turns")),
        "duration_ms": count(event.get("duration_ms")),
    }
    if isinstance(delta, dict):
        models = [mapping(model) for model in delta.values()]
        by_model = figures_by_model(delta)
        usage = Usage(
            **fields,
            input_tokens=sum(count(m.get("inputTokens")) for m in models),
            output_tokens=sum(count(m.get("outputTokens")) for m in models),
            cache_read_tokens=sum(count(m.get("cacheReadInputTokens")) for m in models),
            cache_creation_tokens=sum(count(m.get("cacheCreationInputTokens")) for m in models),
            cost_usd=sum(money(m.get("costUSD")) for m in models),
        )
    else:
        totals = mapping(event.get("modelUsage"))
        by_model = figures_by_model(totals) or (Figures(cost_usd=total),)
        tokens = mapping(event.get("usage"))
        usage = Usage(
            **fields,
            input_tokens=count(tokens.get("input_tokens")),
            output_tokens=count(tokens.get("output_tokens")),
            cache_read_tokens=count(tokens.get("cache_read_input_tokens")),
            cache_creation_tokens=count(tokens.get("cache_creation_input_tokens")),
            cost_usd=max(total - seen_usd, 0.0),
        )
    return TurnUsage(usage, total, by_model, not isinstance(delta, dict))


def figures_by_model(value: Event) -> tuple[Figures, ...]:
    """The entries of a `modelUsage`."""
    return tuple(
        Figures(
            model=text_of(name)[:ID_MAX],
            input_tokens=count(model.get("inputTokens")),
            output_tokens=count(model.get("outputTokens")),
            cache_read_tokens=count(model.get("cacheReadInputTokens")),
            cache_creation_tokens=count(model.get("cacheCreationInputTokens")),
            cost_usd=money(model.get("costUSD")),
        )
        for name, model in ((name, mapping(entry)) for name, entry in islice(value.items(), 100))
    )


def message_usage(event: Event) -> UsageSeen | None:
    """The figures that come with a block of an answer; None where there are none.

    Their `output_tokens` is what the stream began with, so what the block says is measured beside it."""
    message = mapping(event.get("message"))
    tokens, model, id_ = message.get("usage"), message.get("model"), text_of(message.get("id"))
    if not id_ or model == SYNTHETIC or not isinstance(tokens, dict):
        return None
    return UsageSeen(
        message=id_[:ID_MAX],
        model=text_of(model)[:ID_MAX],
        is_final=isinstance(message.get("stop_reason"), str),
        input_tokens=count(tokens.get("input_tokens")),
        output_tokens=count(tokens.get("output_tokens")),
        cache_read_tokens=count(tokens.get("cache_read_input_tokens")),
        cache_creation_tokens=count(tokens.get("cache_creation_input_tokens")),
    )


def stream_usage(event: Event) -> UsageSeen | None:
    """The final figures of a message that was streamed; None for all other pieces."""
    piece = mapping(event.get("event"))
    tokens, id_ = piece.get("usage"), text_of(event.get("api_message_id"))[:ID_MAX]
    if piece.get("type") != "message_delta" or not id_ or not isinstance(tokens, dict):
        return None
    return UsageSeen(
        message=id_,
        is_final=True,
        input_tokens=count(tokens.get("input_tokens")),
        output_tokens=count(tokens.get("output_tokens")),
        cache_read_tokens=count(tokens.get("cache_read_input_tokens")),
        cache_creation_tokens=count(tokens.get("cache_creation_input_tokens")),
    )


def _said_bytes(block: Event) -> int:
    """What was written to say this; a signature is not."""
    kind = block.get("type")
    if kind in ("text", "thinking"):
        text = block.get(kind)
        if not isinstance(text, str):
            return 0
        return BLOCK_BYTES + (len(text) if text.isascii() else len(text.encode("utf-8", "replace")))
    try:
        return BLOCK_BYTES + len(msgspec.json.encode(block))
    except (UnicodeEncodeError, RecursionError):
        return BLOCK_BYTES


# --- the short text of a line ----------------------------------------------------------------------

_MAIN_FIELD = {
    "Agent": "description",
    "Bash": "command",
    "Edit": "file_path",
    "Glob": "pattern",
    "Grep": "pattern",
    "MultiEdit": "file_path",
    "NotebookEdit": "notebook_path",
    "Read": "file_path",
    "Skill": "skill",
    "Task": "description",
    "ToolSearch": "query",
    "WebFetch": "url",
    "WebSearch": "query",
    "Write": "file_path",
}


def tool_line(name: Any, arguments: Any) -> str:
    """A tool call on one line: `Bash: echo hi`."""
    fields = mapping(arguments)
    main = fields.get(_MAIN_FIELD.get(name, "") if isinstance(name, str) else "")
    if not isinstance(main, str):
        main = next((value for value in fields.values() if isinstance(value, str)), "")
    head = " ".join(main[:TEXT_MAX].split())
    return text_of(f"{text_of(name) or 'a tool'}: {head}" if head else text_of(name) or "a tool")


def _blocks(event: Event) -> list[Event]:
    content = mapping(event.get("message")).get("content")
    if isinstance(content, list):
        return [block for block in content[:50] if isinstance(block, dict)]
    return [{"type": "text", "text": content}] if isinstance(content, str) else []


def _block_text(block: Event) -> str:
    match block.get("type"):
        case "text":
            return text_of(block.get("text"))
        case "thinking":
            return text_of(block.get("thinking"))
        case "tool_use":
            return tool_line(block.get("name"), block.get("input"))
        case "tool_result":
            content = block.get("content")
            if isinstance(content, list):
                parts = (mapping(part).get("text") for part in islice(content, 50))
                return text_of("\n".join(text_of(part) for part in parts if part))
            return text_of(content)
        case _:
            return ""


def said(event: Event) -> tuple[str, int]:
    """Of an answer: its short text, and about how many tokens it took to say it."""
    try:
        (block,) = event["message"]["content"]
        text = block["text"]
        if block["type"] == "text" and text.isascii() and len(text) <= TEXT_MAX:
            return text, -(-(BLOCK_BYTES + len(text)) // BYTES_OF_TOKEN)  # as most are
    except (KeyError, TypeError, ValueError, AttributeError):
        pass  # any other message
    size = sum(map(_said_bytes, _blocks(event)))
    return text_of(_message_text(event)), -(-size // BYTES_OF_TOKEN)


def _message_text(event: Event) -> str:
    return "\n".join([text for block in _blocks(event) if (text := _block_text(block))])


def result_errors(event: Event) -> tuple[str, ...]:
    """The `errors` of a result."""
    errors = event.get("errors")
    if not isinstance(errors, list):
        return ()
    return tuple(text_of(error) for error in islice(errors, 20) if isinstance(error, str))


def _result_text(event: Event) -> str:
    return text_of(event.get("result")) or text_of("; ".join(result_errors(event)))


def _system_text(event: Event) -> str:
    match event.get("subtype"):
        case "init":
            return f"{text_of(event.get('model'))} ({text_of(event.get('claude_code_version'))})"
        case "api_retry":
            attempt, most = count(event.get("attempt")), count(event.get("max_retries"))
            return f"Claude retries, {attempt} of {most}: {text_of(event.get('error'))}"
        case "permission_denied":
            return f"{text_of(event.get('tool_name'))} denied: {text_of(event.get('message'))}"
        case _:
            fields = ("status", "content", "summary", "description", "title", "state", "output")
            return next(filter(None, (text_of(event.get(field)) for field in fields)), "")


def _control_text(event: Event) -> str:
    request = mapping(event.get("request"))
    if request.get("subtype") == "can_use_tool":
        return tool_line(request.get("tool_name"), request.get("input"))
    return text_of(request.get("subtype"))


def _limit_text(event: Event) -> str:
    info = mapping(event.get("rate_limit_info"))
    return " ".join(filter(None, (text_of(info.get("rateLimitType")), text_of(info.get("status")))))


_TEXTS: dict[str, Callable[[Event], str]] = {
    "assistant": _message_text,
    "user": _message_text,
    "system": _system_text,
    "result": _result_text,
    "control_request": _control_text,
    "rate_limit_event": _limit_text,
    "tool_progress": lambda event: text_of(event.get("tool_name")),
}


def summary(event: Event) -> str:
    """What a person reads of this line: at most TEXT_MAX characters, still hostile text."""
    describe = _TEXTS.get(kind_of(event))
    return text_of(describe(event)) if describe else ""
