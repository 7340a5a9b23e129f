"""Append, roll, crash, reopen, reboot, read: in any order, the journal agrees with a list."""

from __future__ import annotations

import shutil
import tempfile
from bisect import bisect_left
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from hivectl.journal import reader, scan
from hivectl.journal.record import Draft, Source
from hivectl.journal.writer import Journal, JournalLimits, StreamLog
from hivectl.kit.clock import FakeClock

TYPES = ["message", "execution.state", "execution.ended", "stderr"]
drafts = st.lists(
    st.tuples(
        st.sampled_from(TYPES),
        st.integers(0, 1500),
        st.integers(-2000, 5000),
        st.sampled_from(["x_1", "x_2", None]),
        st.booleans(),
    ),
    min_size=1,
    max_size=12,
)


class JournalMachine(RuleBasedStateMachine):
    @initialize(
        segment_bytes=st.sampled_from([3_000, 20_000, 10**6]),
        snapshot_bytes=st.sampled_from([500, 10_000]),
        ring_lines=st.sampled_from([0, 4, 1000]),
    )
    def start(self, segment_bytes: int, snapshot_bytes: int, ring_lines: int) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="hivectl-journal-"))
        self.limits = JournalLimits(
            segment_bytes=segment_bytes,
            snapshot_bytes=snapshot_bytes,
            ring_lines=ring_lines,
            segment_lines=60,
            segment_age_s=3600,
            sync_interval_s=1000,
        )
        self.clock = FakeClock()
        self.boot = 1
        self.model: list[tuple[str, int, bytes, str | None]] = []
        self.ends: dict[str, int] = {}
        self.outbox = 0
        self.ts = 10**6
        self.epochs = 1
        self.open()
        self.epoch = self.log.epoch

    def open(self) -> None:
        self.journal = Journal(
            self.root, clock=self.clock, limits=self.limits, boot_id=str(self.boot)
        )
        self.log: StreamLog = self.journal.open("project:p_1")

    def let_go(self) -> None:
        self.journal._upkeep.close()
        self.log.abandon()
        self.journal._syncer.close()

    @rule(batch=drafts)
    def append(self, batch: list[tuple[str, int, int, str | None, bool]]) -> None:
        made = []
        for kind, length, step, execution, has_source in batch:
            self.ts += step
            data = b'{"n":%d,"text":"%b"}' % (len(self.model) + 1, b"m" * length)
            src = None
            if has_source:
                self.ends["pr_1"] = self.ends.get("pr_1", 0) + length + 1
                src = Source("pr_1", "o", self.ends["pr_1"])
            else:
                self.outbox += 1
            made.append(
                Draft(kind, data, self.ts, execution, src=src, ob=0 if has_source else self.outbox)
            )
            self.model.append((kind, self.ts, data, execution))
        assert self.log.append(made) == len(self.model) - len(made) + 1

    @rule()
    def sync(self) -> None:
        self.log.sync_files()

    @rule()
    def crash(self) -> None:
        self.let_go()
        self.open()
        assert self.log.epoch == self.epoch

    @rule(part=st.binary(min_size=1, max_size=40))
    def crash_in_the_middle_of_a_line(self, part: bytes) -> None:
        self.let_go()
        newest = max((self.root / "project.p_1").glob("*.jsonl"))
        with newest.open("ab") as file:
            file.write(b'{"seq":%d,' % (len(self.model) + 1) + part.replace(b"\n", b""))
        self.open()
        assert self.log.epoch == self.epoch
        assert self.journal.notices[0].kind == "torn"

    @rule()
    def power_loss(self) -> None:
        self.log.append([Draft("marker", b"{}", self.ts)])
        self.model.append(("marker", self.ts, b"{}", None))
        self.let_go()
        self.boot += 1
        self.open()
        assert self.log.epoch != self.epoch
        self.epoch = self.log.epoch

    @rule(reboots=st.booleans())
    def close_in_order(self, reboots: bool) -> None:
        self.journal._close()
        self.boot += reboots
        self.open()
        assert self.log.epoch == self.epoch

    @rule()
    def a_day_passes(self) -> None:
        self.clock.advance(86400)

    @rule()
    def upkeep_finishes(self) -> None:
        self.journal._upkeep.settle()
        assert len(list(self.log.directory.glob("*.jsonl"))) == 1

    @precondition(lambda self: self.ends)
    @rule()
    def forget(self) -> None:
        self.log.forget_source("pr_1")
        self.ends.clear()
        self.log.append([Draft("marker", b"{}", self.ts)])
        self.model.append(("marker", self.ts, b"{}", None))
        self.journal._close()
        self.open()

    @rule(after=st.integers(-5, 300), limit=st.integers(1, 50), max_bytes=st.integers(1, 9000))
    def page_forward(self, after: int, limit: int, max_bytes: int) -> None:
        page = reader.read_after(self.log, after, limit, max_bytes=max_bytes)
        self.check_page(page, first=max(after, 0) + 1)
        assert len(page) <= limit
        assert bool(page) == (max(after, 0) < len(self.model))

    @rule(before=st.integers(-5, 300), limit=st.integers(1, 50), max_bytes=st.integers(1, 9000))
    def page_backward(self, before: int, limit: int, max_bytes: int) -> None:
        page = reader.read_before(self.log, before, limit, max_bytes=max_bytes)
        last = min(before - 1, len(self.model))
        self.check_page(page, first=last - len(page) + 1)
        assert len(page) <= limit
        assert bool(page) == (last > 0)
        down = reader.read_before(self.log, before, limit, max_bytes=max_bytes, descending=True)
        assert down == page[::-1] or [r.seq for r in down] == [r.seq for r in page[::-1]]

    def check_page(self, page: list[Any], first: int) -> None:
        for seq, record in enumerate(page, first):
            kind, ts, data, execution = self.model[seq - 1]
            assert (record.seq, record.type, record.ts) == (seq, kind, ts)
            assert (bytes(record.data), record.execution) == (data, execution)

    @rule(offset=st.integers(-3000, 60_000))
    def find_time(self, offset: int) -> None:
        wanted = 10**6 + offset
        expected = next((at for at, row in enumerate(self.model, 1) if row[1] >= wanted), None)
        assert reader.find_time(self.log, wanted) == (expected or len(self.model) + 1)

    @rule(kind=st.sampled_from([*TYPES, "execution.*"]), backward=st.booleans())
    def filter(self, kind: str, backward: bool) -> None:
        wanted = [
            seq
            for seq, row in enumerate(self.model, 1)
            if (row[0].startswith("execution.") if kind == "execution.*" else row[0] == kind)
            and row[3] == "x_1"
        ]
        match = scan.Filter(types=(kind,), execution="x_1")
        found: list[int] = []
        position = len(self.model) + 1 if backward else 0
        for _ in range(200):
            where = {"before": position} if backward else {"after": position}
            page = scan.scan(self.log, match=match, limit=3, budget_lines=70, **where)
            found += [record.seq for record in page.records]
            position = page.position
            if page.is_end:
                break
        assert found == (wanted[::-1] if backward else wanted)

    @invariant()
    def the_head_is_known(self) -> None:
        if not hasattr(self, "log"):
            return
        assert self.log.last_seq == len(self.model)
        assert self.log.first_seq == 1
        assert self.log.source_end("pr_1", "o") == self.ends.get("pr_1", 0)
        assert self.log.last_outbox == self.outbox
        last = reader.read_one(self.log, len(self.model))
        assert (last is None) == (not self.model)
        firsts = list(self.log.view.segments)
        assert firsts == sorted(set(firsts))
        assert bisect_left(firsts, len(self.model) + 2) == len(firsts)

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.let_go()
            shutil.rmtree(self.root, ignore_errors=True)


class TestJournalAgreesWithAList(JournalMachine.TestCase):
    settings = settings(
        max_examples=40,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
        database=None,
    )
