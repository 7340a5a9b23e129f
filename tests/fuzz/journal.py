"""A log that anything happened to: it opens, and shows a prefix of what was written, once and for all."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from hivectl.journal import reader, record
from hivectl.journal.record import Draft
from hivectl.journal.writer import Journal, JournalLimits, StreamLog
from hivectl.kit.clock import FakeClock

_STREAM = "project:p_1"
_LINES = 60
_OPERATIONS = 6


@dataclass(frozen=True)
class _Written:
    root: Path
    folder: Path
    lines: list[bytes]
    epoch: str


_made: list[_Written] = []


def clean_up() -> None:
    """Remove what was written."""
    while _made:
        shutil.rmtree(_made.pop().root, ignore_errors=True)


def _open(root: Path) -> tuple[Journal, StreamLog]:
    limits = JournalLimits(snapshot_bytes=4000, ring_lines=4, segment_lines=40)
    journal = Journal(root, clock=FakeClock(), limits=limits, boot_id="boot-1")
    return journal, journal.open(_STREAM)


def _drop(journal: Journal, log: StreamLog) -> None:
    journal._upkeep.close()
    log.abandon()
    journal._syncer.close()


def _lines(log: StreamLog) -> list[bytes]:
    found: list[bytes] = []
    after = 0
    while some := reader.lines_after(log, after, 1000):
        found += some
        after = record.seq_of(some[-1])
    return [
        line for line in found if record.is_record(line)
    ]  # as every reader leaves out what is none


def _written() -> _Written:
    """A log of two segments, made once a process."""
    if not _made:
        base = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())
        root = Path(tempfile.mkdtemp(prefix="hivectl-fuzz-", dir=base))
        journal, log = _open(root / "log")
        for number in range(_LINES):
            text = b'{"n":%d,"text":"%b"}' % (number, b"w\xc3\xb6rd " * (number % 40))
            log.append([Draft("message", text, 1_000_000 + number, execution="x_1", ob=number + 1)])
        lines, epoch = _lines(log), log.epoch
        _drop(journal, log)
        _made.append(_Written(root, root / "log" / "project.p_1", lines, epoch))
    return _made[0]


def journal(data: bytes) -> None:
    """The first byte says which files are damaged, the rest is a list of edits."""
    if len(data) < 2:
        return
    written = _written()
    root = written.root / f"case-{os.getpid()}"
    shutil.rmtree(root, ignore_errors=True)
    shutil.copytree(written.root / "log", root)
    folder = root / written.folder.name
    newest = max(folder.glob("*.jsonl"))
    index = newest.with_suffix(".idx")
    which = data[0] % 3
    if which != 1:
        newest.write_bytes(_damage(newest.read_bytes(), data[1:]))
    if which != 0:
        index.write_bytes(_damage(index.read_bytes(), data[1:]))
    if data[0] & 0x80:
        index.unlink(missing_ok=True)
        which = 2 if which != 1 else 1
    # No disk takes bytes out of the middle or puts some there, and what shortens the last block leaves its
    # checksum useless. Of several damages in one block one may hide behind another: the checksum of a block with
    # an unreadable line counts for nothing, or what was synced before it would be lost with it.
    is_plain = len(data) < 13 and data[1] % 6 in {0, 1, 4}
    is_exact = which == 1 or (which == 0 and is_plain)
    _check(root, written, is_exact=is_exact, is_whole=which == 1)


def _damage(content: bytes, data: bytes) -> bytes:
    """Edits of six bytes: what, where (2), how much, a value, from where."""
    found = bytearray(content)
    for at in range(0, min(len(data), 6 * _OPERATIONS) - 5, 6):
        kind, high, low, size, value, source = data[at : at + 6]
        place = (high << 8 | low) % (len(found) + 1)
        if kind % 6 == 0:
            del found[place:]
        elif kind % 6 == 1:
            found[place : place + size] = bytes([value]) * size
        elif kind % 6 == 2:
            found[place:place] = found[source * 8 : source * 8 + size * 4]
        elif kind % 6 == 3:
            del found[place : place + size]
        elif kind % 6 == 4 and place < len(found):
            found[place] ^= value or 1
        else:
            found[place:place] = data[at + 6 :]
    return bytes(found)


def _check(root: Path, written: _Written, *, is_exact: bool, is_whole: bool) -> None:
    opened, log = _open(root)
    try:
        found, last, epoch = _lines(log), log.last_seq, log.epoch
        numbers = [record.seq_of(line) for line in found]
        assert numbers == sorted(set(numbers))
        assert all(number <= last for number in numbers)
        if is_exact:
            assert found == written.lines[:last], "no prefix of what was written"
            assert last == len(written.lines) or epoch != written.epoch, (
                "a loss without a new epoch"
            )
        if is_whole:
            assert found == written.lines, "a damaged index cost lines"
        assert log.append([Draft("after", b"{}", 5)]) == last + 1
    finally:
        _drop(opened, log)
    opened, log = _open(root)
    try:
        assert (log.epoch, log.last_seq) == (epoch, last + 1)
        if is_exact:
            assert _lines(log)[:-1] == found
    finally:
        _drop(opened, log)
