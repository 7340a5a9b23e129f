from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from hivectl.journal.disk import Disk
from hivectl.journal.record import Draft
from hivectl.journal.writer import Journal, JournalLimits
from hivectl.kit.clock import FakeClock


def make_drafts(first: int, count: int, *, size: int = 100, **more: Any) -> list[Draft]:
    """Records whose ts is a thousand times their number."""
    return [
        Draft("message", b'{"n":%d,"pad":"%b"}' % (n, b"p" * size), n * 1000, **more)
        for n in range(first, first + count)
    ]


@pytest.fixture
def drafts() -> Callable[..., list[Draft]]:
    return make_drafts


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def make_journal(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Callable[..., Journal]]:
    made: list[Journal] = []

    def make(*, boot: str = "boot-1", disk: Disk | None = None, **limits: Any) -> Journal:
        limits.setdefault("sync_interval_s", 1000)
        journal = Journal(
            tmp_path / "log",
            clock=clock,
            limits=JournalLimits(**limits),
            boot_id=boot,
            disk=disk,
        )
        made.append(journal)
        return journal

    yield make
    for journal in made:
        await journal.close()


@pytest.fixture
def crash() -> Callable[[Journal], None]:
    """Let go of a journal as SIGKILL would: nothing more is written."""

    def let_go(journal: Journal) -> None:
        journal._upkeep.close()
        for log in journal._logs.values():
            log.abandon()
        journal._logs.clear()
        journal._syncer.close()

    return let_go
