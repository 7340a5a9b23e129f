"""The writer is killed, at random moments and at named places: what it acknowledged is there."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hivectl.journal import reader
from hivectl.journal.writer import Journal, JournalLimits
from hivectl.kit.clock import SystemClock

WRITER = """
import os, sys
from pathlib import Path
from hivectl.journal.record import Draft, Source
from hivectl.journal.writer import Journal, JournalLimits
from hivectl.kit import failpoint
from hivectl.kit.clock import SystemClock

failpoint.configure(sys.argv[2])
limits = JournalLimits(segment_bytes=120_000, snapshot_bytes=20_000, sync_interval_s=0.01)
journal = Journal(Path(sys.argv[1]), clock=SystemClock(), limits=limits, boot_id="b")
log = journal.open("system")
for round in range(4000):
    n = log.last_seq
    size = 1 + round % 60
    log.append([
        Draft("t", b'{"n":%d,"pad":"%b"}' % (n + at + 1, b"x" * (at * 7 % 300)), n + at,
              src=Source("pr_1", "o", n + at + 1))
        for at in range(size)
    ])
    os.write(1, b"%d\\n" % log.last_seq)
"""

LIMITS = JournalLimits(segment_bytes=120_000, snapshot_bytes=20_000)
ROOT = Path(__file__).parents[3]


def start_writer(root: Path, failpoints: str = "") -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root), failpoints],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


START_S = 20.0


def drain(process: subprocess.Popen[bytes], seconds: float) -> int:
    """Read acknowledgements for a while, or until the writer ends; the last one."""
    assert process.stdout is not None
    fd = process.stdout.fileno()
    deadline = time.monotonic() + seconds
    text = b""
    while (left := deadline - time.monotonic()) > 0:
        if select.select([fd], [], [], left)[0]:
            data = os.read(fd, 65536)
            if not data:
                break
            text = (text + data)[-65536:]
    return last_number(text)


def drain_some(process: subprocess.Popen[bytes], seconds: float) -> int:
    """The same, counted from the first acknowledgement: however long the writer takes to start."""
    assert process.stdout is not None
    assert select.select([process.stdout.fileno()], [], [], START_S)[0], "the writer wrote nothing"
    return drain(process, seconds)


def last_number(text: bytes) -> int:
    numbers = text.split(b"\n")[:-1]
    return int(numbers[-1]) if numbers else 0


def check_log(root: Path, acknowledged: int) -> tuple[int, str, list[str]]:
    journal = Journal(root, clock=SystemClock(), limits=LIMITS, boot_id="b")
    log = journal.open("system")
    kinds = [notice.kind for notice in journal.notices]
    last = log.last_seq
    assert last >= acknowledged, "an acknowledged record is gone"
    assert log.source_end("pr_1", "o") == last
    seen = 0
    while records := reader.read_after(log, seen, 1000):
        for record in records:
            seen += 1
            assert record.seq == seen
            assert bytes(record.data).startswith(b'{"n":%d,' % seen)
    assert seen == last
    epoch = log.epoch
    journal._upkeep.close()
    log.abandon()
    journal._syncer.close()
    return last, epoch, kinds


def kill_rounds(root: Path, rounds: int) -> None:
    chance = random.Random(7)
    last, epochs = 0, set()
    for _ in range(rounds):
        process = start_writer(root)
        try:
            acknowledged = drain_some(process, chance.uniform(0.05, 0.4))
        finally:
            process.kill()
            rest = process.communicate()[0]
        acknowledged = max(acknowledged, last_number(rest), last)
        last, epoch, kinds = check_log(root, acknowledged)
        epochs.add(epoch)
        assert "epoch_changed" not in kinds
        assert "damaged" not in kinds
    assert len(epochs) == 1, "a crash of the writer alone loses no history"
    assert last > 100


def test_a_killed_writer_loses_nothing_it_acknowledged(tmp_path: Path) -> None:
    kill_rounds(tmp_path / "log", 5)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_writer_killed_a_hundred_times_loses_nothing(tmp_path: Path) -> None:
    kill_rounds(tmp_path / "log", 100)


@pytest.mark.parametrize(
    "place",
    [
        "log_write@40",
        "log_between_data_and_index@1",
        "log_between_data_and_index@57",
        "log_roll@1",
        "log_roll@3",
        "log_compress_before_rename@1",
        "log_compress_before_rename@2",
    ],
)
def test_a_writer_killed_at_a_named_place_loses_nothing(tmp_path: Path, place: str) -> None:
    root = tmp_path / "log"
    process = start_writer(root, f"{place}:kill")
    text, _ = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL, "the place was never reached"
    acknowledged = last_number(text)
    last, epoch, kinds = check_log(root, acknowledged)
    assert "epoch_changed" not in kinds
    process = start_writer(root)
    more = drain_some(process, 0.6)
    process.kill()
    more = max(more, last_number(process.communicate()[0]))
    assert more > last
    assert check_log(root, more)[1] == epoch


@pytest.mark.parametrize("place", ["log_write", "log_roll"])
def test_a_failpoint_error_refuses_the_append_and_keeps_the_log(tmp_path: Path, place: str) -> None:
    process = start_writer(tmp_path / "log", f"{place}@2:error=ENOSPC")
    text, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    last, _, kinds = check_log(tmp_path / "log", last_number(text))
    assert kinds == []
    assert last == last_number(text)


def test_an_index_that_cannot_be_written_fails_no_append(tmp_path: Path) -> None:
    process = start_writer(tmp_path / "log", "log_between_data_and_index:error=ENOSPC")
    acknowledged = drain_some(process, 0.6)
    process.kill()
    acknowledged = max(acknowledged, last_number(process.communicate()[0]))
    assert acknowledged > 0
    check_log(tmp_path / "log", acknowledged)
