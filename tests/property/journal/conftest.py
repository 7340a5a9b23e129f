from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hivectl.journal import reader
from hivectl.journal.record import Draft
from hivectl.journal.writer import Journal, JournalLimits, StreamLog
from hivectl.kit.clock import FakeClock


class Shelf:
    """Journals on one directory, opened and dropped as a daemon that is killed would do it."""

    def __init__(self, root: Path, **limits: int) -> None:
        self.root = root
        self.limits = JournalLimits(**{"snapshot_bytes": 40_000, "ring_lines": 16, **limits})
        self.clock = FakeClock()
        self.boot = "boot-1"
        self._open: list[tuple[Journal, StreamLog]] = []

    def open(self, root: Path | None = None) -> StreamLog:
        journal = Journal(
            root or self.root, clock=self.clock, limits=self.limits, boot_id=self.boot
        )
        log = journal.open("project:p_1")
        self._open.append((journal, log))
        return log

    def journal_of(self, log: StreamLog) -> Journal:
        return next(journal for journal, other in self._open if other is log)

    def drop(self) -> None:
        """Let go of everything as SIGKILL would: nothing more is written."""
        for journal, log in self._open:
            journal._upkeep.close()
            log.abandon()
            journal._syncer.close()
        self._open.clear()

    def close(self) -> None:
        for journal, _ in self._open:
            journal._close()
        self._open.clear()


def text_draft(number: int, length: int, *, ob: int = 0) -> Draft:
    data = json.dumps({"n": number, "text": "wörd " * (length // 5)}, ensure_ascii=False)
    return Draft(type="message", data=data.encode(), ts=1_000_000 + number, execution="x_1", ob=ob)


def all_lines(log: StreamLog) -> list[bytes]:
    found: list[bytes] = []
    after = 0
    while some := reader.lines_after(log, after, 1000):
        found += some
        after = reader.record.seq_of(some[-1])
    return found


@pytest.fixture
def make_shelf(tmp_path: Path) -> Iterator[Callable[..., Shelf]]:
    made: list[Shelf] = []

    def make(**limits: int) -> Shelf:
        made.append(Shelf(tmp_path / f"log-{len(made)}", **limits))
        return made[-1]

    yield make
    for shelf in made:
        shelf.drop()
        shutil.rmtree(shelf.root, ignore_errors=True)


@pytest.fixture
def draft_of() -> Callable[..., Draft]:
    return text_draft


@pytest.fixture
def lines_of() -> Callable[[StreamLog], list[bytes]]:
    return all_lines
