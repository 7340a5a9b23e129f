"""Recordings of the real CLI (2.1.329, long values shortened), fed in every kind of pieces."""

import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from hivectl.agents import claude_events
from hivectl.agents.claude_stream import ClaudeConversation
from hivectl.logic import outcome
from hivectl.model.work import Cause, ExecutionState, Options
from hivectl.ports import (
    ErrorSeen,
    Exit,
    LimitSeen,
    MessageSeen,
    Partial,
    PermissionAsked,
    PermissionWithdrawn,
    ReplyNeeded,
    ResultSeen,
    RetrySeen,
    RunSpec,
    Seen,
    SessionSeen,
    StopReason,
    UsageSeen,
)

FILE = Path(__file__).parents[2] / "fixtures" / "claude" / "recordings.jsonl"


@dataclass(frozen=True)
class Recording:
    name: str
    exit_code: int | None
    signal: int | None
    lines: tuple[bytes, ...]

    @property
    def data(self) -> bytes:
        return b"".join(line + b"\n" for line in self.lines)


def load() -> dict[str, Recording]:
    found: dict[str, Recording] = {}
    rest = iter(FILE.read_bytes().splitlines())
    for head in rest:
        fields = json.loads(head)
        lines = tuple(next(rest) for _ in range(fields["lines"]))
        killed = 9 if fields["exit_code"] is None else None
        found[fields["scenario"]] = Recording(
            fields["scenario"], fields["exit_code"], killed, lines
        )
    return found


ALL = load()
SPEC = RunSpec(
    execution="x_1", prompt="hi", prompt_uuid="00000000-0000-4000-8000-000000000001",
    cwd=Path("/home/dev/project"), session="11111111-1111-4111-8111-111111111111", resume=False,
    options=Options(), trusted=True, slash_commands=False,
)  # fmt: skip


def read(data: bytes, cuts: list[int]) -> list[Seen]:
    conversation = ClaudeConversation(SPEC)
    seen: list[Seen] = []
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    for start, stop in pairwise(edges):
        seen += conversation.feed(data[start:stop], start)
    seen += conversation.flush()
    assert conversation.consumed == len(data)
    return seen


def told(seen: list[Seen]) -> list[Seen]:
    """Figures of a message summed: blocks that are read together are told together."""
    figures: dict[str, UsageSeen] = {}
    for fact in seen:
        if isinstance(fact, UsageSeen) and fact.message in figures:
            said_tokens = fact.said_tokens + figures[fact.message].said_tokens
            figures[fact.message] = replace(fact, said_tokens=said_tokens)
        elif isinstance(fact, UsageSeen):
            figures[fact.message] = fact
    return [*[fact for fact in seen if not isinstance(fact, UsageSeen)], *figures.values()]


def of(seen: list[Seen], kind: type[Any]) -> list[Any]:
    return [fact for fact in seen if isinstance(fact, kind)]


@pytest.mark.parametrize("name", ALL)
def test_every_line_is_kept_word_for_word_and_in_order(name: str) -> None:
    recording = ALL[name]
    seen = read(recording.data, [])
    lines = [fact for fact in seen if isinstance(fact, MessageSeen | Partial)]
    assert [line.raw for line in lines] == list(recording.lines)
    assert [line.end for line in lines][-1] == len(recording.data)
    assert all(line.is_json for line in lines if isinstance(line, MessageSeen))
    assert all(line.kind != "unknown" for line in lines if isinstance(line, MessageSeen))


@settings(max_examples=150, deadline=None)
@given(name=st.sampled_from(sorted(ALL)), cuts=st.lists(st.integers(0, 10**6), max_size=20))
def test_any_split_tells_the_same_facts(name: str, cuts: list[int]) -> None:
    data = ALL[name].data
    assert told(read(data, cuts)) == told(read(data, []))


def test_one_byte_at_a_time_tells_the_same_facts() -> None:
    data = ALL["permission-stdio-two"].data
    assert told(read(data, list(range(len(data))))) == told(read(data, []))


@settings(max_examples=100, deadline=None)
@given(name=st.sampled_from(sorted(ALL)), at=st.integers(0, 10**6))
def test_a_reader_that_takes_over_at_a_line_adds_what_the_first_one_had_not_seen(
    name: str, at: int
) -> None:
    """Offsets come from the log: the end of some line. Sessions may be named again, nothing else."""
    data = ALL[name].data
    first = ClaudeConversation(SPEC)
    before = first.feed(data[: at % (len(data) + 1)], 0)
    start = first.consumed
    second = ClaudeConversation(SPEC, offset=start)
    after = second.feed(data[start:], start)

    def lasting(facts: list[Seen]) -> list[Seen]:
        return told([fact for fact in facts if not isinstance(fact, SessionSeen)])

    assert lasting(before + after) == lasting(read(data, []))


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(sorted(ALL)),
    damage=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=8),
)
def test_damaged_bytes_never_break_the_reader_nor_lose_a_line(
    name: str, damage: list[tuple[int, int]]
) -> None:
    data = bytearray(ALL[name].data)
    for place, value in damage:
        data[place % len(data)] = value
    seen = read(bytes(data), [])
    kept = [fact for fact in seen if isinstance(fact, MessageSeen | Partial)]
    lines = [line for line in bytes(data).split(b"\n") if line not in {b"", b"\r"}]
    assert [line.raw.rstrip(b"\r") for line in kept] == [line.rstrip(b"\r") for line in lines]
    for line in kept:
        if not isinstance(line, MessageSeen) or line.is_json:
            json.loads(line.raw)


@settings(max_examples=300, deadline=None)
@given(
    name=st.sampled_from(sorted(ALL)),
    at=st.integers(0, 10**6),
    damage=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3),
)
def test_the_quick_decoder_takes_nothing_that_the_strict_one_refuses_or_reads_otherwise(
    name: str, at: int, damage: list[tuple[int, int]]
) -> None:
    lines = ALL[name].lines
    raw = bytearray(lines[at % len(lines)])
    for place, value in damage:
        raw[place % len(raw)] = value
    try:
        event = claude_events.plain_decoder()(bytes(raw))
    except claude_events.NOT_PLAIN:
        return
    assert event == claude_events.decode(bytes(raw))
    assert claude_events.is_strict(bytes(raw))


@pytest.mark.parametrize("name", [name for name in ALL if not name.startswith("ask-user-question")])
def test_what_claude_writes_goes_the_quick_way(name: str) -> None:
    for raw in ALL[name].lines:
        claude_events.plain_decoder()(raw)


S = ExecutionState
C = Cause

# Scenario: (sessions, permissions, withdrawn, replies, results of ours, results in all, retries).
FACTS: dict[str, tuple[int, int, int, int, int, int, int]] = {
    "stream-json-text": (1, 0, 0, 0, 1, 1, 0),
    "permission-stdio-allow": (1, 1, 0, 0, 1, 1, 0),
    "permission-stdio-two": (1, 2, 0, 0, 1, 1, 0),
    "permission-stdio-interrupted": (1, 1, 1, 0, 1, 1, 0),
    "permission-stdio-eof": (1, 1, 0, 0, 1, 1, 0),
    "ask-user-question-stdio": (1, 1, 0, 0, 1, 1, 0),
    "exit-plan-mode-stdio": (1, 1, 0, 0, 1, 1, 0),
    "hooks-callbacks": (1, 0, 0, 3, 1, 1, 0),
    "input-multi-turn": (3, 0, 0, 0, 3, 3, 0),
    "input-queued": (2, 0, 0, 0, 2, 2, 0),
    "background-bash": (2, 0, 0, 0, 1, 2, 0),
    "subagent-background": (2, 0, 0, 0, 1, 2, 0),
    "api-401": (1, 0, 0, 0, 1, 1, 2),
    "api-529-recovered": (1, 0, 0, 0, 1, 1, 2),
    "session-resume-unknown": (0, 0, 0, 0, 1, 1, 0),
    "sigint-api": (1, 0, 0, 0, 0, 0, 0),
}


@pytest.mark.parametrize("name", FACTS)
def test_a_recording_tells_these_facts(name: str) -> None:
    seen = read(ALL[name].data, [])
    results = of(seen, ResultSeen)
    assert FACTS[name] == (
        len(of(seen, SessionSeen)),
        len(of(seen, PermissionAsked)),
        len(of(seen, PermissionWithdrawn)),
        len(of(seen, ReplyNeeded)),
        len([result for result in results if not result.origin]),
        len(results),
        len(of(seen, RetrySeen)),
    )


# How the first result of ours and the exit code are judged, when nobody stopped anything.
JUDGED: dict[str, tuple[ExecutionState, Cause]] = {
    "stream-json-text": (S.COMPLETED, C.OK),
    "sdk-style": (S.COMPLETED, C.OK),
    "permission-denied-headless": (S.COMPLETED, C.OK),
    "permission-stdio-deny": (S.COMPLETED, C.OK),
    "background-bash": (S.COMPLETED, C.OK),
    "sigterm-background": (S.COMPLETED, C.OK),
    "slash-clear": (S.COMPLETED, C.OK),
    "model-fallback": (S.COMPLETED, C.OK),
    "usage-warning": (S.COMPLETED, C.OK),
    "json-schema": (S.COMPLETED, C.OK),
    "json-schema-failed": (S.FAILED, C.CLAUDE_ERROR),
    "api-400": (S.FAILED, C.API_ERROR),
    "api-401": (S.FAILED, C.AUTH),
    "api-no-credentials": (S.FAILED, C.AUTH),
    "api-404-model": (S.FAILED, C.API_ERROR),
    "api-429-exhausted": (S.FAILED, C.API_ERROR),
    "api-500-exhausted": (S.FAILED, C.API_ERROR),
    "api-connection-refused": (S.FAILED, C.API_ERROR),
    "api-credit": (S.FAILED, C.API_ERROR),
    "api-prompt-too-long": (S.FAILED, C.PROMPT_TOO_LONG),
    "usage-limit": (S.FAILED, C.USAGE_LIMIT),
    "max-turns": (S.FAILED, C.MAX_TURNS),
    "max-budget": (S.FAILED, C.BUDGET),
    "session-resume-unknown": (S.FAILED, C.CLAUDE_ERROR),
    "sigint-tool": (S.FAILED, C.CLAUDE_ERROR),
    "sigint-api": (S.FAILED, C.BAD_OUTPUT),
    "sigterm-tool": (S.FAILED, C.KILLED),
    "sigkill-tool": (S.FAILED, C.KILLED),
}


def judge(name: str, *, stopped: str | None = None) -> Any:
    recording = ALL[name]
    seen = read(recording.data, [])
    limits = of(seen, LimitSeen)
    return outcome.judge(
        ended=Exit(reason=StopReason.EXITED, code=recording.exit_code, signal=recording.signal),
        result=next((result for result in of(seen, ResultSeen) if not result.origin), None),
        errors=of(seen, ErrorSeen),
        limit=limits[-1] if limits else None,
        stopped=stopped,
    )


@pytest.mark.parametrize("name", JUDGED)
def test_a_recording_ends_so(name: str) -> None:
    end = judge(name)
    assert (end.state, end.cause) == JUDGED[name]
    assert bool(end.message) or end.cause is C.OK


@pytest.mark.parametrize(
    "name", ["interrupt-tool", "sigint-tool", "sigint-api", "sigterm-tool", "sigkill-tool"]
)
def test_a_recording_that_somebody_stopped_is_cancelled(name: str) -> None:
    end = judge(name, stopped=StopReason.USER)
    assert (end.state, end.cause) == (S.CANCELLED, C.KILLED)


def test_the_reset_time_of_a_usage_limit_is_kept() -> None:
    assert judge("usage-limit").resets_at == 1795229363


def test_a_resumed_run_costs_what_it_added_and_not_the_running_total() -> None:
    for name, cost in (("session-resume", 0.00056), ("session-resume.2", 0.00056), ("session-resume.4", 0.00058)):  # fmt: skip
        (result,) = of(read(ALL[name].data, []), ResultSeen)
        assert result.usage.cost_usd == pytest.approx(cost)


def test_turns_of_one_process_add_up_to_its_total() -> None:
    results = of(read(ALL["input-multi-turn"].data, []), ResultSeen)
    assert sum(result.usage.cost_usd for result in results) == pytest.approx(0.00174)


def test_clearing_names_the_newest_session() -> None:
    *_, last = of(read(ALL["slash-clear"].data, []), SessionSeen)
    assert last.session.startswith("aa01d6d5")


def test_partial_messages_are_not_kept() -> None:
    seen = read(ALL["partial-messages"].data, [])
    assert len(of(seen, Partial)) > 10
    assert not [s for s in of(seen, MessageSeen) if s.kind == "stream_event"]


def test_questions_are_told_from_permissions() -> None:
    for name, expected in (
        ("ask-user-question-stdio", True),
        ("exit-plan-mode-stdio", True),
        ("permission-stdio-allow", False),
    ):
        (asked,) = of(read(ALL[name].data, []), PermissionAsked)
        assert asked.is_question is expected
