"""Events as lines for people. Pure: an event in, styled lines out; sanitising is the screen's work.

One `Transcript` follows one or several executions and remembers just enough to print each thing once:
the names of tool calls, and what of an answer was already shown piece by piece.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hivectl.cli import views
from hivectl.cli.table import shorten, width_of
from hivectl.cli.telling import WHOLE, compact, tell

_MAIN_FIELD = {
    "Bash": "command",
    "Read": "file_path",
    "Write": "file_path",
    "Edit": "file_path",
    "MultiEdit": "file_path",
    "NotebookEdit": "notebook_path",
    "Glob": "pattern",
    "Grep": "pattern",
    "WebFetch": "url",
    "WebSearch": "query",
    "Task": "description",
    "Agent": "description",
    "Skill": "skill",
    "ExitPlanMode": "plan",
}
_SUMMARY_CHARS = 400
_SESSION_CHARS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line for people. `is_answer`: a part of what Claude says, so a result; `is_single`: cut to one line."""

    pieces: tuple[tuple[str, str], ...]
    is_answer: bool = False
    is_single: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What the line at the bottom should say; empty = nothing special."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of an answer that is being written."""

    text: str


Shown = Line | Progress | Piece


def line(*pieces: tuple[str, str], is_answer: bool = False, is_single: bool = False) -> Line:
    """A Line."""
    return Line(pieces=pieces, is_answer=is_answer, is_single=is_single)


@dataclass(slots=True, kw_only=True)
class Transcript:
    """See the module. `verbose` adds what is usually left out: thinking, tool results, state changes."""

    verbose: int = 0
    has_prompts: bool = True
    """Whether prompts are shown: in logs and tail, not while one's own prompt runs."""
    has_ends: bool = True
    """Whether the end is shown; where a footer follows it is not."""
    _tools: dict[str, str] = field(default_factory=dict)
    _streamed: str = ""

    def feed(self, event: Mapping[str, Any]) -> list[Shown]:
        """What to show for one event. Types that nobody knows are shown by name."""
        data = event.get("data") or {}
        match str(event.get("type")):
            case "message":
                return self._message(data)
            case "partial":
                return self._partial(data)
            case "execution.state":
                return self._state(data)
            case "execution.ended":
                return [ended(data, verbose=self.verbose)] if self.has_ends else []
            case kind:
                # While one's own prompt runs, what its project does is no news.
                verbose = self.verbose if self.has_prompts else 0
                return [
                    Line(pieces=pieces, is_single=kind not in WHOLE)
                    for pieces in tell(kind, data, verbose=verbose)
                ]

    def _state(self, data: Mapping[str, Any]) -> list[Shown]:
        state = str(data.get("state", ""))
        if retrying := data.get("retrying"):
            return [Progress(text=f"Claude retries, {retrying}")]
        if data.get("stalled"):
            return [line(("warn", "stalled  "), ("", f"{data['stalled']}: it goes on by itself"))]
        shown: list[Shown] = [Progress(text="")]
        if self.verbose:
            shown.append(line(("dim", f"state    {state}")))
        return shown

    def _message(self, data: Mapping[str, Any]) -> list[Shown]:
        raw = data.get("raw")
        kind = str(data.get("kind", ""))
        if kind == "prompt":
            text = str(data.get("text") or "")
            return [line(("prompt", "> "), ("bold", text))] if self.has_prompts else []
        if kind == "invalid":
            return [
                line(("dim", "not JSON  "), ("dim", str(data.get("text") or "")), is_single=True)
            ]
        if not isinstance(raw, Mapping):
            text = str(data.get("text") or "")
            size = data.get("size")
            note = f" [{views.size(size)}, read it with `hivectl logs --raw`]" if size else ""
            return [line(("", text), ("dim", note), is_answer=kind == "assistant")] if text else []
        match kind:
            case "assistant":
                return self._assistant(raw)
            case "user":
                return self._user(raw)
            case "system":
                return self._system(raw)
            case _:
                return []

    def _assistant(self, raw: Mapping[str, Any]) -> list[Shown]:
        shown: list[Shown] = []
        indent = "  " if raw.get("parent_tool_use_id") else ""
        for block in _blocks(raw):
            match block.get("type"):
                case "text":
                    shown += self._text(str(block.get("text", "")), indent)
                case "tool_use":
                    name = str(block.get("name", "tool"))
                    self._tools[str(block.get("id"))] = name
                    given = _mapping(block.get("input"))
                    if name == "ExitPlanMode" and str(given.get("plan") or "").strip():
                        shown += _plan(str(given["plan"]), indent)
                        continue
                    what = summary(name, given)
                    shown.append(
                        line(("tool", f"{indent}● {name}"), ("", f"  {what}"), is_single=True)
                    )
                case "thinking" if self.verbose:
                    thought = str(block.get("thinking", "")).strip()
                    if thought:
                        shown.append(line(("thinking", f"{indent}{thought}")))
                case _:
                    continue
        return shown

    def _text(self, text: str, indent: str) -> list[Shown]:
        streamed, self._streamed = self._streamed, ""
        if streamed and text.startswith(streamed):
            return [Piece(text=text[len(streamed) :] + "\n")]
        if streamed:
            return [Piece(text="\n"), line(("", indent + text), is_answer=True)]
        return [line(("", indent + text), is_answer=True)] if text.strip() else []

    def _partial(self, data: Mapping[str, Any]) -> list[Shown]:
        raw = _mapping(data.get("raw"))
        event = _mapping(raw.get("event"))
        if raw.get("parent_tool_use_id") or event.get("type") != "content_block_delta":
            return []
        delta = _mapping(event.get("delta"))
        if delta.get("type") != "text_delta":
            return []
        text = str(delta.get("text", ""))
        self._streamed += text
        return [Piece(text=text)] if text else []

    def _user(self, raw: Mapping[str, Any]) -> list[Shown]:
        shown: list[Shown] = []
        for block in _blocks(raw):
            if block.get("type") != "tool_result":
                continue
            name = self._tools.pop(str(block.get("tool_use_id")), "tool")
            text = _result_text(block.get("content"))
            if block.get("is_error"):
                shown.append(line(("bad", f"  ✗ {name} failed"), ("", f"  {text}"), is_single=True))
            elif self.verbose and text:
                shown.append(line(("dim", f"  ⎿ {text}"), is_single=True))
        return shown

    def _system(self, raw: Mapping[str, Any]) -> list[Shown]:
        match raw.get("subtype"):
            case "api_retry":
                total, error = raw.get("max_retries"), raw.get("error") or "the API failed"
                text = f"Claude retries, {raw.get('attempt')} of {total} ({error})"
                return [Progress(text=text)]
            case "init":
                if self.verbose:
                    return [line(("dim", f"session  {raw.get('session_id')}  {raw.get('model')}"))]
                return [Progress(text="")]
            case "model_fallback":
                models = f"{raw.get('original_model')} → {raw.get('fallback_model')}"
                return [line(("warn", "model   "), ("", f" {models} (overloaded)"))]
            case "permission_denied":
                text = f"{raw.get('tool_name')} was denied: {raw.get('message', '')}"
                return [line(("warn", f"  ✗ {text}"), is_single=True)]
            case "compact_boundary":
                return [line(("dim", "the conversation was compacted"))]
            case _:
                return []


def _plan(text: str, indent: str) -> list[Shown]:
    """A plan with its lines: it is there to be read."""
    rows = [f"{indent}  {row}" for row in text.strip().splitlines()]
    return [line(("tool", f"{indent}● ExitPlanMode"), is_single=True), line(("", "\n".join(rows)))]


def summary(tool: str, given: Mapping[str, Any]) -> str:
    """A tool call in a few words: the field that matters, else its input."""
    questions = given.get("questions")
    if tool == "AskUserQuestion" and isinstance(questions, list):
        asked = [str(q.get("question", "")) for q in questions if isinstance(q, Mapping)]
        return " / ".join(asked)[:_SUMMARY_CHARS]
    main = given.get(_MAIN_FIELD.get(tool, ""))
    text = main if isinstance(main, str) else compact(given)
    return text[:_SUMMARY_CHARS]


def ended(item: Mapping[str, Any], *, verbose: int = 0, width: int | None = None) -> Line:
    """How an execution ended, with what it took: a footer.

    The session by its first characters, whole when `verbose`; not at all where it would not fit `width`.
    """
    state, cause = str(item.get("state")), item.get("cause")
    word = state.replace("_", " ")
    if cause and cause != "ok":
        word += f" ({cause})"
    style = {"completed": "good", "failed": "bad", "lost": "bad"}.get(state, "warn")
    mark = {"completed": "✓"}.get(state, "✗")
    pieces: list[tuple[str, str]] = [(style, f"{mark} {word}")]
    message = item.get("message")
    if message and state != "completed":
        pieces.append(("", f": {message}"))
    figures = _figures(item)
    if session := str(item.get("session") or ""):
        shown = f"session {session if verbose else session[:_SESSION_CHARS]}"
        taken = sum(width_of(text) for _, text in pieces) + sum(len(part) + 3 for part in figures)
        if verbose or width is None or taken + len(shown) + 3 <= width:
            figures.append(shown)
    pieces.append(("dim", "".join(f" · {part}" for part in figures)))
    return Line(pieces=tuple(pieces))


def _figures(item: Mapping[str, Any]) -> list[str]:
    from hivectl.kit.clock import format_duration

    usage = item.get("usage") or {}
    parts = []
    took_ms = item.get("duration_ms") or usage.get("duration_ms")
    if took_ms is not None:
        parts.append(format_duration(took_ms / 1000))
    if turns := usage.get("turns"):
        parts.append(f"{turns} turn{'s' if turns != 1 else ''}")
    sent = sum(usage.get(f"{name}_tokens", 0) for name in ("input", "cache_read", "cache_creation"))
    if sent or usage.get("output_tokens"):
        parts.append(f"{sent:,} in, {usage.get('output_tokens', 0):,} out")
    if cost := item.get("cost_usd"):
        rough = item.get("cost_is_estimate")
        parts.append(f"{views.money(cost, is_rough=rough)} (estimate)")
    return parts


def _mapping(value: Any) -> Mapping[str, Any]:
    """What should be an object: a worker, or a Claude gone wrong, may have said anything."""
    return value if isinstance(value, Mapping) else {}


def _blocks(raw: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    message = raw.get("message")
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    if not isinstance(content, list):
        return []
    return [block for block in content if isinstance(block, Mapping)]


def _result_text(content: Any) -> str:
    if isinstance(content, list):
        parts = [str(b.get("text", "")) for b in content if isinstance(b, Mapping)]
        content = "\n".join(parts)
    text = str(content or "").strip()
    first, _, rest = text.partition("\n")
    more = f" (+{rest.count(chr(10)) + 1} lines)" if rest else ""
    return shorten(first, 200) + more
