"""A long log in a moment: by the daemon's own writer, while no daemon has it."""

from __future__ import annotations

import asyncio

from hivectl import config
from hivectl.journal.limits import JournalLimits
from hivectl.journal.record import Draft, Source
from hivectl.journal.writer import Journal
from hivectl.kit import files
from hivectl.kit.clock import SystemClock
from tests.harness.daemon import Daemon

_RAW = b'{"kind":"assistant","direction":"out","text":"%b","raw":{"type":"assistant","n":%d}}'
_TEXT = b"The quick brown fox jumps over the lazy dog. "
_BATCH = 256


def fill_log(daemon: Daemon, stream: str, lines: int) -> None:
    """Append lines to a stream. The daemon must not run."""
    root = config.load(env=daemon.env).places.journal
    journal = Journal(
        root, clock=SystemClock(), limits=JournalLimits(ring_lines=0), boot_id=files.boot_id()
    )
    log = journal.open(stream)
    now_us = SystemClock().now_us()
    for start in range(0, lines, _BATCH):
        batch = [
            Draft(
                "message",
                _RAW % (_TEXT[: 5 + number % 40] * 2, number),
                now_us + number,
                "x_06gzrec3f2t0vm54gc0g",
                src=Source("pr_06gzrec3f2t0vm54gc0g", "o", number * 200),
            )
            for number in range(start, min(start + _BATCH, lines))
        ]
        log.append(batch)
    asyncio.run(journal.close())
