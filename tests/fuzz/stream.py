"""The reader of Claude's output: any bytes, in any pieces, never raise, tell the same and lose nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hivectl.agents import claude_events
from hivectl.agents.claude_stream import ClaudeConversation
from hivectl.agents.lines import OVERSIZED, LineSplitter
from hivectl.model.work import Options
from hivectl.ports import Answer, MessageSeen, Partial, PermissionAsked, ReplyNeeded, RunSpec, Seen

SPEC = RunSpec(
    execution="x_1", prompt="hi", prompt_uuid="00000000-0000-4000-8000-000000000001",
    cwd=Path("/home/dev/project"), session="11111111-1111-4111-8111-111111111111", resume=False,
    options=Options(), trusted=True, slash_commands=False, ask_human=True,
)  # fmt: skip


def stream(data: bytes) -> None:
    """The first two bytes say how it is cut and how long a line may be; the rest is what Claude wrote."""
    if len(data) < 2:
        return
    step, longest, data = 1 + data[0] % 64, (1 << 20, 32, 200)[data[1] % 3], data[2:]
    _check_lines(data, step, longest)
    whole = _read(data, len(data) or 1, longest)
    assert _read(data, step, longest) == whole
    for fact in whole:
        if isinstance(fact, MessageSeen) and fact.is_json:
            assert isinstance(json.loads(fact.raw), dict)
            json.dumps(fact.text, ensure_ascii=False).encode()
        elif isinstance(fact, ReplyNeeded):
            _check_frame(fact.data)
    for line in data.split(b"\n"):
        if claude_events.decode(line) is not None and claude_events.is_strict(line):
            json.loads(line)


def _read(data: bytes, step: int, longest: int) -> list[Seen]:
    conversation = ClaudeConversation(SPEC, max_line_bytes=longest)
    seen: list[Seen] = []
    for start in range(0, len(data), step):
        seen += conversation.feed(data[start : start + step], start)
    seen += conversation.flush()
    assert conversation.consumed == len(data)
    for asked in [fact for fact in seen if isinstance(fact, PermissionAsked)]:
        _check_frame(conversation.answer(asked.request, Answer(allow=True))[1])
    kept = [fact.raw for fact in seen if isinstance(fact, MessageSeen | Partial)]
    assert b"".join(kept).replace(b"\r", b"") == data.replace(b"\n", b"").replace(b"\r", b"")
    return seen


def _check_frame(frame: bytes) -> None:
    assert frame.endswith(b"\n")
    assert frame.count(b"\n") == 1
    assert isinstance(_strict(frame), dict)


def _strict(frame: bytes) -> Any:
    return json.loads(frame.decode())


def _check_lines(data: bytes, step: int, longest: int) -> None:
    splitter = LineSplitter(0, max_line_bytes=longest, piece_bytes=min(longest, 16))
    found = bytearray()
    for start in range(0, len(data), step):
        for line in splitter.feed(data[start : start + step], start):
            assert len(line.raw) <= longest
            found += line.raw if line.piece == OVERSIZED else line.raw + b"\n"
            assert line.end == len(found)
    for line in splitter.flush():
        found += line.raw
    assert bytes(found) == data
