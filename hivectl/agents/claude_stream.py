"""Claude's side of one process: bytes in, facts out; decisions in, frames out. No I/O.

Fulfils `hivectl.ports.Conversation`. It knows one prompt: whoever drives it closes stdin after the
first ResultSeen without `origin`, and adds up the usage of all results, because finished background
work brings results of its own.

`initialize` is sent only where Claude may ask a person: it is what makes Claude talk to an MCP server of
ours. Everything else comes with `init` (session, model, version), permission requests arrive without
it, and its answer puts about 17 KB into the log of the execution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeGuard

from msgspec.structs import replace

from hivectl import __version__
from hivectl.agents import claude_events, claude_frames, claude_limits, claude_mcp
from hivectl.agents.claude_events import Event, mapping, text_of, whole, word
from hivectl.agents.lines import LINE_BYTES_MAX, Line, LineSplitter
from hivectl.logic.options import is_session_id
from hivectl.ports import (
    Answer,
    ErrorSeen,
    LimitSeen,
    MessageSeen,
    Partial,
    PermissionAsked,
    PermissionWithdrawn,
    QuestionAsked,
    QuestionWithdrawn,
    ReplyNeeded,
    ResultSeen,
    RetrySeen,
    RunSpec,
    Seen,
    SessionSeen,
    UsageSeen,
)

QUESTION_TOOLS = frozenset({"AskUserQuestion", "ExitPlanMode"})
REQUEST_ID_MAX = 200


class ClaudeConversation:
    """Reads one process's output and makes the frames for its input."""

    def __init__(
        self, spec: RunSpec, *, offset: int = 0, max_line_bytes: int = LINE_BYTES_MAX
    ) -> None:
        """A reader from `offset` of the spool on. Above 0 Claude is taken to have started already."""
        self._spec = spec
        self._lines = LineSplitter(
            offset, max_line_bytes=max_line_bytes, piece_bytes=min(1 << 20, max_line_bytes)
        )
        self.has_begun = False
        """Something was said that is no afterword of the turn before: Claude has heard of this one."""
        self._has_started = offset > 0
        self._session = spec.session if offset else ""
        self._model = ""
        self._version = ""
        self._total_usd = 0.0
        self._asked: dict[str, dict[str, Any]] = {}
        self._stated: tuple[Any, ...] = ()
        """What the message whose blocks are being read states of itself,"""
        self._figures: UsageSeen | None = None
        """the same as figures; None when it states none;"""
        self._said_tokens = 0
        """what of it was said since they were told,"""
        self._is_untold = False
        """and whether anything was read since."""
        self._readers: dict[str, Callable[[Event], Iterator[Seen]]] = {
            "system": self._system,
            "assistant": self._api_error,
            "result": self._result,
            "stream_event": self._stream_event,
            "control_request": self._control_request,
            "control_cancel_request": self._withdrawn,
            "rate_limit_event": self._limit,
        }

    # --- output ------------------------------------------------------------------------------------

    def feed(self, data: bytes, offset: int) -> list[Seen]:
        """Facts in the next bytes, which start at `offset`. Raises ValueError when bytes are missing."""
        return self._read(self._lines.feed(data, offset))

    def flush(self) -> list[Seen]:
        """What is left at the end of output: a last line without newline."""
        return self._read(self._lines.flush())

    @property
    def consumed(self) -> int:
        """Offset after the last whole line (or piece of an oversized one)."""
        return self._lines.consumed

    def _read(self, lines: Iterable[Line]) -> list[Seen]:
        seen: list[Seen] = []
        decode = claude_events.plain_decoder()
        for line in lines:
            raw = line.raw
            if line.piece:
                self.has_begun = True
                kept = MessageSeen("invalid", raw, line.end, is_json=False, subtype=line.piece)
                seen.append(kept)
                continue
            if not raw or raw == b"\r":
                continue
            try:
                event = decode(raw)
            except claude_events.NOT_PLAIN:
                self._read_odd(line, seen)
            else:
                self._read_event(line, event, seen, is_strict=True)
        self._tell_figures(seen)
        return seen

    def _read_odd(self, line: Line, seen: list[Seen]) -> None:
        """A line that is deep, escapes half a character, or is no JSON at all."""
        event = claude_events.decode(line.raw)
        if event is None:
            self.has_begun = True
            head = text_of(line.raw[: claude_events.TEXT_MAX].decode("utf-8", "replace"))
            seen.append(MessageSeen("invalid", line.raw, line.end, head, is_json=False))
        else:
            self._read_event(line, event, seen, is_strict=claude_events.is_strict(line.raw))

    def _read_event(self, line: Line, event: Event, seen: list[Seen], *, is_strict: bool) -> None:
        if not self.has_begun:
            self.has_begun = not claude_events.is_afterword(event)
        kind = claude_events.kind_of(event)
        if kind == "assistant":
            text, tokens = claude_events.said(event)
            self._count(event, tokens, seen)
        else:
            self._tell_figures(seen)
            text = claude_events.summary(event)
        raw = line.raw if line.raw[-1:] != b"\r" else line.raw.rstrip(b"\r")
        if kind == "stream_event":
            if is_strict:  # else it may be dropped, as any of them
                seen.append(Partial(raw, line.end))
        else:
            subtype = _subtype_of(event) if "subtype" in event or "request" in event else ""
            seen.append(MessageSeen(kind, raw, line.end, text, is_strict, subtype))
        is_named = kind == "system" or "new_conversation_id" in event
        if (is_named or event.get("session_id") != self._session) and (
            change := self._session_change(event)
        ) is not None:
            seen.append(change)
        if kind in self._readers and (kind != "assistant" or "error" in event):
            seen.extend(self._readers[kind](event))

    def _count(self, event: Event, tokens: int, seen: list[Seen]) -> None:
        """Blocks of one message that are read together are told as one."""
        message = event.get("message")
        if not isinstance(message, dict):
            return
        get = message.get
        stated = (get("id"), get("usage"), get("stop_reason"), get("model"))
        if stated != self._stated:
            self._tell_figures(seen)
            self._stated = stated
            self._figures = claude_events.message_usage(event)
        self._said_tokens += tokens
        self._is_untold = True

    def _tell_figures(self, seen: list[Seen]) -> None:
        """Tell what the message that was being read has stated, and what of it was said."""
        if self._is_untold and self._figures is not None:
            seen.append(replace(self._figures, said_tokens=self._said_tokens))
        self._said_tokens, self._is_untold = 0, False

    # --- facts -------------------------------------------------------------------------------------

    def _session_change(self, event: Event) -> SessionSeen | None:
        """The newest id wins; before `init` there is no session, only one that was asked for."""
        is_init = event.get("type") == "system" and event.get("subtype") == "init"
        session = event.get("new_conversation_id") or event.get("session_id")
        if session == self._session and not is_init:
            return None
        if not isinstance(session, str) or not is_session_id(session):
            return None
        if is_init:
            self._has_started = True
            self._model = text_of(event.get("model"))
            self._version = text_of(event.get("claude_code_version"))
        if is_init or (self._has_started and session != self._session):
            self._session = session
            return SessionSeen(session, self._model, self._version)
        return None

    def _system(self, event: Event) -> Iterator[Seen]:
        if event.get("subtype") == "api_retry":
            yield RetrySeen(
                attempt=claude_events.count(event.get("attempt")),
                max_retries=claude_events.count(event.get("max_retries")),
                delay_ms=claude_events.count(event.get("retry_delay_ms")),
                error=text_of(event.get("error")) or "unknown",
            )

    def _stream_event(self, event: Event) -> Iterator[Seen]:
        if (used := claude_events.stream_usage(event)) is not None:
            yield used

    def _api_error(self, event: Event) -> Iterator[Seen]:
        error = word(event.get("error"))
        if not error:
            return
        is_synthetic = mapping(event.get("message")).get("model") == "<synthetic>"
        if not (is_synthetic or event.get("is_api_error_message") is True):
            return
        text = claude_events.summary(event)
        is_limit = claude_limits.is_usage_limit(text)
        yield ErrorSeen(
            error=error,
            api_error=claude_limits.USAGE_LIMIT if is_limit else word(event.get("api_error")),
            status=whole(event.get("api_error_status")),
            text=text,
            resets_at=claude_limits.resets_at(event, text),
        )

    def _limit(self, event: Event) -> Iterator[Seen]:
        info = mapping(event.get("rate_limit_info"))
        yield LimitSeen(
            status=word(info.get("status"), "unknown"),
            kind=word(info.get("rateLimitType")),
            resets_at=claude_limits.unix_seconds(info.get("resetsAt")),
        )

    def _result(self, event: Event) -> Iterator[Seen]:
        turn = claude_events.usage_of(event, self._total_usd)
        self._total_usd = turn.total_usd
        self._asked.clear()
        result = event.get("result")
        denials = event.get("permission_denials")
        origin = event.get("origin")
        text = claude_events.clean(result) if isinstance(result, str) else ""
        is_error = event.get("is_error") is not False
        is_limit = is_error and claude_limits.is_usage_limit(text[: claude_events.TEXT_MAX])
        yield ResultSeen(
            subtype=word(event.get("subtype"), "unknown"),
            is_error=is_error,
            text=text,
            errors=claude_events.result_errors(event),
            terminal_reason=word(event.get("terminal_reason")),
            api_error=claude_limits.USAGE_LIMIT if is_limit else word(event.get("api_error")),
            api_error_status=whole(event.get("api_error_status")),
            structured=claude_events.clean(event.get("structured_output")),
            usage=turn.usage,
            models=turn.models,
            is_total=turn.is_total,
            permission_denials=len(denials) if isinstance(denials, list) else 0,
            origin=(word(mapping(origin).get("kind")) or "unknown") if origin else "",
            session=text_of(event.get("session_id")),
        )

    # --- the control protocol ----------------------------------------------------------------------

    def _control_request(self, event: Event) -> Iterator[Seen]:
        request_id = event.get("request_id")
        if not _is_request_id(request_id):
            return  # Without an id there is nothing to answer to.
        request = mapping(event.get("request"))
        match request.get("subtype"):
            case "can_use_tool":
                yield self._can_use_tool(request_id, request)
            case "hook_callback":
                yield ReplyNeeded(*claude_frames.no_opinion(request_id))
            case "mcp_message":
                yield from self._mcp_message(request_id, request)
            case other:
                text = f"Unsupported control request subtype: {text_of(other) or 'none'}"
                yield ReplyNeeded(*claude_frames.refuse(request_id, text))

    def _mcp_message(self, request_id: str, request: Event) -> Iterator[Seen]:
        message = request.get("message")
        if request.get("server_name") != claude_mcp.SERVER:
            yield ReplyNeeded(*claude_frames.no_server(request_id, message))
            return
        match claude_mcp.handle(message, version=__version__):
            case claude_mcp.Ask() as ask:
                yield QuestionAsked(
                    request=request_id,
                    rpc=ask.rpc,
                    text=ask.text,
                    choices=ask.choices,
                    is_multi=ask.is_multi,
                    context=ask.context,
                )
            case claude_mcp.Cancelled(rpc):
                yield QuestionWithdrawn(rpc)
                yield ReplyNeeded(*claude_frames.mcp(request_id, claude_mcp.acknowledged()))
            case dict() as answer:
                yield ReplyNeeded(*claude_frames.mcp(request_id, answer))

    def _can_use_tool(self, request_id: str, request: Event) -> Seen:
        tool, arguments = request.get("tool_name"), request.get("input")
        if not isinstance(tool, str) or not tool or not isinstance(arguments, dict):
            return ReplyNeeded(
                *claude_frames.refuse(request_id, "can_use_tool needs tool_name and input")
            )
        self._asked[request_id] = arguments
        suggestions = request.get("permission_suggestions")
        return PermissionAsked(
            request=request_id,
            tool=text_of(tool),
            input=claude_events.clean(arguments),
            description=text_of(request.get("description")),
            tool_use=text_of(request.get("tool_use_id")),
            suggestions=tuple(
                claude_events.clean(item)
                for item in (suggestions if isinstance(suggestions, list) else ())
                if isinstance(item, dict)
            ),
            is_question=tool in QUESTION_TOOLS or bool(request.get("requires_user_interaction")),
            agent=text_of(request.get("agent_id")),
            reason=text_of(request.get("decision_reason")),
        )

    def _withdrawn(self, event: Event) -> Iterator[Seen]:
        request_id = event.get("request_id")
        if _is_request_id(request_id):
            self._asked.pop(request_id, None)
            yield PermissionWithdrawn(request_id)

    # --- input -------------------------------------------------------------------------------------

    def opening(self) -> list[tuple[str, bytes]]:
        """The prompt. Without slash commands it is delivered as written: no commands, no `@file`."""
        spec = self._spec
        prompt = claude_frames.prompt(
            spec.prompt,
            spec.prompt_uuid,
            composed=not spec.slash_commands,
            follows=spec.follows,
        )
        # A process that has had a prompt before has been greeted with it.
        is_first = spec.ask_human and not spec.follows
        return [claude_frames.initialize(), prompt] if is_first else [prompt]

    def answer(self, request: str, answer: Answer) -> tuple[str, bytes]:
        """The frame of a decision. After a restart the asked input is unknown here: give it then."""
        return claude_frames.permission(request, answer, self._asked.get(request))

    def reply(self, request: str, rpc: str, text: str, *, is_error: bool) -> tuple[str, bytes]:
        """The frame of an answer to `ask_human`."""
        said = claude_mcp.answer(rpc, text, is_error=is_error)
        return claude_frames.mcp_answer(request, said)

    def interrupt(self) -> tuple[str, bytes]:
        """The frame that asks Claude to stop its turn."""
        return claude_frames.interrupt()


def _subtype_of(event: Event) -> str:
    return word(event.get("subtype")) or word(mapping(event.get("request")).get("subtype"))


def _is_request_id(value: Any) -> TypeGuard[str]:
    return (
        isinstance(value, str)
        and 0 < len(value) <= REQUEST_ID_MAX
        and value.isascii()
        and value.isprintable()
    )
