"""Frames made of what was just appended are those that would be read from the log."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hivectl.engine.bus import Bus
from hivectl.journal.record import Draft, Entry, Lines
from hivectl.journal.writer import Journal
from hivectl.kit.clock import SystemClock

STREAM = "project:p_1"
words = st.sampled_from(["message", "x_1", 'a "%b" word', "ü%", "\u2028"])
maybe = st.none() | words
datas = st.builds(lambda text: msgspec.json.encode({"raw": text}), st.text(max_size=300) | words)
times = st.integers(0, 2_000_000_000_000_000)
drafts = st.builds(Draft, words, datas, times, maybe, maybe, maybe, maybe, st.integers(0, 9))


@st.composite
def lines(draw: Any) -> Lines:
    data = draw(st.lists(datas, max_size=5))
    ends = list(range(1, len(data) + 1))
    return Lines(draw(words), draw(times), draw(maybe), draw(maybe), "pr_1", "o", data, ends)


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = Journal(tmp_path_factory.mktemp("bus") / "journal", clock=SystemClock(), boot_id="b")
    yield made
    made._close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.lists(drafts | lines(), max_size=4), max_size=5), st.lists(st.booleans()))
def test_what_is_appended_is_framed_as_it_is_read_from_the_log(
    journal: Journal, batches: list[list[Entry]], told: list[bool]
) -> None:
    """`told`: whether the bus is given what was appended, or has to read it."""
    bus = Bus(journal, SystemClock())
    start = bus.ensure(STREAM).last_seq
    bus.follow(STREAM)
    log = journal.open(STREAM)
    for number, entries in enumerate(batches):
        log.append(entries)
        is_told = told[number] if number < len(told) else True
        bus.notify(STREAM, entries if is_told else ())
    shown = bus.newest(STREAM, start, 10_000, 10**9)
    assert shown == bus.read_log(STREAM, start, 10_000, 10**9)
    assert [frame.seq for frame in shown] == list(range(start + 1, log.last_seq + 1))


def test_what_was_not_shown_for_a_while_is_read_before_what_comes_next(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal", clock=SystemClock(), boot_id="b")
    bus = Bus(journal, SystemClock())
    bus.ensure(STREAM)
    bus.follow(STREAM)
    log = journal.open(STREAM)
    log.append([Draft("message", b"{}", 1)])
    second: list[Entry] = [Draft("message", b"{}", 2)]
    log.append(second)
    bus.notify(STREAM, second)
    assert [frame.seq for frame in bus.newest(STREAM, 0, 10, 1000) or []] == [1, 2]
    journal._close()
