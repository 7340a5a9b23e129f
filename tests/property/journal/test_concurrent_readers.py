"""Readers in threads beside a writer that rolls, compresses and removes: no gap, no repeat, no error."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from typing import Any

from hivectl.journal import reader, scan
from hivectl.journal.record import Draft, Record


class Follower(threading.Thread):
    """Reads on from where it was; also pages backward and scans, at random."""

    def __init__(self, log: Any, seed: int, is_over: threading.Event) -> None:
        super().__init__(daemon=True)
        self.log = log
        self.chance = random.Random(seed)
        self.is_over = is_over
        self.position = 0
        self.pages = 0
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self.is_over.is_set() or self.position < self.log.last_seq:
                self.step()
        except BaseException as exc:  # noqa: BLE001  told to the test
            self.error = exc

    def step(self) -> None:
        kind = self.chance.random()
        if kind < 0.7:
            oldest = self.log.first_seq
            page = reader.read_after(self.log, self.position, self.chance.randint(1, 300))
            self.check(page)
            if page:
                if page[0].seq != self.position + 1:
                    assert self.position + 1 < self.log.first_seq, (
                        "a gap that retention did not make"
                    )
                    assert page[0].seq >= oldest
                self.position = page[-1].seq
        elif kind < 0.9:
            before = self.chance.randint(1, self.log.last_seq + 1)
            page = reader.read_before(self.log, before, 50)
            self.check(page)
            assert not page or page[-1].seq == before - 1 or before <= self.log.first_seq
        else:
            start = max(self.log.first_seq, self.log.last_seq - 400)
            found = scan.scan(self.log, match=scan.Filter(types=("even",)), limit=20, after=start)
            assert all(record.seq % 2 == 0 for record in found.records)
            reader.find_time(self.log, start * 10)
        self.pages += 1

    def check(self, page: list[Record]) -> None:
        for record, following in itertools.pairwise(page):
            assert following.seq == record.seq + 1
        for record in page:
            assert bytes(record.data).startswith(b'{"n":%d,' % record.seq)


def test_readers_follow_a_log_that_rolls_compresses_and_forgets(
    make_shelf: Callable[..., Any],
) -> None:
    shelf = make_shelf(
        segment_bytes=60_000, retention_bytes=150_000, ring_lines=64, snapshot_bytes=10_000
    )
    log = shelf.open()
    is_over = threading.Event()
    log.append([Draft("odd", b'{"n":1,"t":0}', 10)])
    followers = [Follower(log, seed, is_over) for seed in range(3)]
    for follower in followers:
        follower.start()
    chance = random.Random(3)
    for _ in range(700):
        first = log.last_seq + 1
        log.append(
            [
                Draft(
                    "even" if seq % 2 == 0 else "odd",
                    b'{"n":%d,"t":"%b"}' % (seq, b"z" * chance.randint(0, 200)),
                    seq * 10,
                )
                for seq in range(first, first + chance.randint(1, 60))
            ]
        )
    is_over.set()
    for follower in followers:
        follower.join(30)
        assert not follower.is_alive(), "a reader never reached the end"
        if follower.error is not None:
            raise follower.error
        assert follower.position == log.last_seq
        assert follower.pages > 20
    journal = shelf.journal_of(log)
    journal._upkeep.settle()
    assert log.first_seq > 1
    names = sorted(path.name for path in log.directory.iterdir())
    assert any(name.endswith(".zst") for name in names), (
        names,
        log.view,
        log.sizes,
        journal.notices,
    )
    assert log.disk_bytes < 220_000
    assert not list(journal.notices)
