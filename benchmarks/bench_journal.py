"""The journal against what one would write first: pages out of a long log, and appending to it.

    python benchmarks/bench_journal.py [--lines 10000000] [--rounds 5] [--json FILE]

Rounds are interleaved: within each, ours and every reference run one after the other, and the ratio is
taken pair by pair; shown are the median of the ratios with the smallest and the largest. Reading: pages of
100 at random places, through the files only (the in-memory ring is never hit); the log is rolled and its
ended segments are compressed, as in real use. References read one plain file of the same lines.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import msgspec

from hivectl.journal import reader, record
from hivectl.journal.record import Draft, Lines, Source
from hivectl.journal.stream import StreamLog
from hivectl.journal.writer import Journal, JournalLimits
from hivectl.kit import files
from hivectl.kit.clock import SystemClock

PAGE = 100
BATCH = 64
RAW = (
    b'{"type":"assistant","message":{"id":"msg_01","role":"assistant","content":[{"type":"text",'
    b'"text":"%b"}]},"session_id":"0b0c8f6e-7b6f-4a6c-9a52-2f5cbb2a1f11"}'
)
TEXT = b"The quick brown fox jumps over the lazy dog. "


@dataclass
class Comparison:
    """Ours and one reference over all rounds; lower figures are better."""

    metric: str
    ours: str
    reference: str
    unit: str
    our_figures: list[float] = field(default_factory=list)
    reference_figures: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        """How many times quicker ours is, round by round."""
        pairs = zip(self.our_figures, self.reference_figures, strict=True)
        return [reference / ours for ours, reference in pairs]

    def render(self) -> str:
        ratios = self.ratios
        return (
            f"{self.metric}: {self.ours} {statistics.median(self.our_figures):.4g} {self.unit},"
            f" {self.reference} {statistics.median(self.reference_figures):.4g} {self.unit}:"
            f" {statistics.median(ratios):.1f}x quicker ({min(ratios):.1f} to {max(ratios):.1f})"
        )


def raw_line(number: int) -> bytes:
    return RAW % (TEXT[: 5 + number % 40] * 2)


def drafts(first: int, count: int) -> list[Draft]:
    return [
        Draft(
            "message",
            raw_line(number),
            1_700_000_000_000_000 + number,
            "x_06gzrec3f2t0vm54gc0g",
            src=Source("pr_06gzrec3f2t0vm54gc0g", "o", number * 200),
        )
        for number in range(first, first + count)
    ]


def open_log(root: Path) -> tuple[Journal, StreamLog]:
    limits = JournalLimits(ring_lines=0)
    journal = Journal(root, clock=SystemClock(), limits=limits, boot_id=files.boot_id())
    return journal, journal.open("project:p_bench")


# --- pages ----------------------------------------------------------------------------------------


def build(root: Path, lines: int) -> tuple[Journal, StreamLog, Path]:
    """The log, and one plain file with the same lines."""
    journal, log = open_log(root / "log")
    plain = root / "plain.jsonl"
    with plain.open("wb") as out:
        log.on_append = lambda _log, _first, new: out.write(b"\n".join(new) + b"\n") and None
        number = 1
        while number <= lines:
            count = min(256, lines + 1 - number)
            log.append(drafts(number, count))
            number += count
    log.on_append = None
    asyncio.run(journal.settle())
    return journal, log, plain


def page_of_journal(log: StreamLog, after: int) -> list[bytes]:
    return reader.lines_after(log, after, PAGE)


def page_of_records(log: StreamLog, after: int) -> list[record.Record]:
    return reader.read_after(log, after, PAGE)


def page_by_iterating(plain: Path, after: int) -> list[bytes]:
    found: list[bytes] = []
    with plain.open("rb") as source:
        for number, line in enumerate(source, 1):
            if number > after:
                found.append(line)
                if len(found) == PAGE:
                    break
    return found


def page_by_binary_search(plain: Path, after: int) -> list[bytes]:
    with plain.open("rb") as source:
        low, high = 0, source.seek(0, os.SEEK_END)
        while high - low > 4096:
            middle = (low + high) // 2
            source.seek(middle)
            source.readline()
            if record.seq_of(source.readline()) > after:
                high = middle
            else:
                low = middle
        source.seek(low)
        if low:
            source.readline()
        found: list[bytes] = []
        for line in source:
            if record.seq_of(line) > after:
                found.append(line)
                if len(found) == PAGE:
                    break
        return found


def median_ms(work: Callable[[int], list[object]], places: list[int]) -> float:
    taken = []
    for after in places:
        start = time.perf_counter()
        page = work(after)
        taken.append((time.perf_counter() - start) * 1000)
        assert len(page) == PAGE, (after, len(page))
    return statistics.median(taken)


def bench_pages(root: Path, lines: int, rounds: int) -> Iterator[Comparison]:
    start = time.perf_counter()
    journal, log, plain = build(root, lines)
    asyncio.run(journal.close())
    journal, log = open_log(root / "log")  # opened anew: nothing of it is in memory
    plain_size, log_size = plain.stat().st_size / 1e6, log.disk_bytes / 1e6
    print(
        f"{lines:,} lines in {len(log.view.segments)} segments, built in"
        f" {time.perf_counter() - start:.0f} s; {plain_size:.0f} MB plain, {log_size:.0f} MB on disk",
        file=sys.stderr,
    )
    iterating = Comparison(f"page of {PAGE} of {lines:,}, p50", "journal", "iterating", "ms")
    searching = Comparison(f"page of {PAGE} of {lines:,}, p50", "journal", "binary search", "ms")
    decoded = Comparison(f"page of {PAGE} decoded, p50", "journal", "iterating", "ms")
    newest = Comparison(f"newest {PAGE} from disk, p50", "journal", "iterating", "ms")
    chance = random.Random(1)
    for _ in range(rounds):
        places = [chance.randint(0, lines - PAGE) for _ in range(300)]
        ours = median_ms(lambda after: [*page_of_journal(log, after)], places)
        records = median_ms(lambda after: [*page_of_records(log, after)], places)
        tail = median_ms(lambda after: [*page_of_journal(log, after)], [lines - PAGE] * 100)
        search = median_ms(lambda after: [*page_by_binary_search(plain, after)], places)
        slow = median_ms(lambda after: [*page_by_iterating(plain, after)], places[:7])
        slowest = median_ms(lambda after: [*page_by_iterating(plain, after)], [lines - PAGE])
        for comparison, mine, other in (
            (iterating, ours, slow),
            (searching, ours, search),
            (decoded, records, slow),
            (newest, tail, slowest),
        ):
            comparison.our_figures.append(mine)
            comparison.reference_figures.append(other)
    asyncio.run(journal.close())
    reopen = time.perf_counter()
    journal, log = open_log(root / "log")
    print(f"opened again in {(time.perf_counter() - reopen) * 1000:.1f} ms", file=sys.stderr)
    asyncio.run(journal.close())
    yield from (iterating, searching, decoded, newest)


# --- appending ------------------------------------------------------------------------------------


def cpu_us(work: Callable[[], None], lines: int) -> float:
    start = time.thread_time()
    work()
    return (time.thread_time() - start) / lines * 1e6


def append_batches(log: StreamLog, raw: list[bytes]) -> None:
    """As the daemon does with what it reads: the lines of one look at a spool are one batch."""
    for at in range(0, len(raw), BATCH):
        some = raw[at : at + BATCH]
        log.append([read_together(some, list(range(at, at + len(some))))])


def read_together(data: list[bytes], ends: list[int]) -> Lines:
    process, execution = "pr_06gzrec3f2t0vm54gc0g", "x_06gzrec3f2t0vm54gc0g"
    return Lines("message", 17, execution, None, process, "o", data, ends)


def write_and_flush(path: Path, raw: list[bytes]) -> None:
    with path.open("w") as out:
        for number, data in enumerate(raw):
            out.write(f'{{"seq":{number},"ts":17,"type":"message","data":{data.decode()}}}\n')
            out.flush()


def decode_encode_write_flush(path: Path, raw: list[bytes]) -> None:
    with path.open("w") as out:
        for number, data in enumerate(raw):
            line = {"seq": number, "ts": 17, "type": "message", "data": json.loads(data)}
            out.write(json.dumps(line) + "\n")
            out.flush()


class Head(msgspec.Struct):
    """What an agent reader has to know of each line."""

    type: str


def ingest(log: StreamLog, source: int) -> int:
    """Pipe, split, parse, envelope, log: chunk by chunk."""
    decoder = msgspec.json.Decoder(Head)
    rest = b""
    offset = lines = 0
    while chunk := os.read(source, 256 * 1024):
        *whole, rest = (rest + chunk).split(b"\n")
        ends = []
        for line in whole:
            decoder.decode(line)
            offset += len(line) + 1
            ends.append(offset)
        log.append([read_together(whole, ends)])
        lines += len(whole)
    return lines


def ingest_readline(path: Path, source: int) -> int:
    lines = 0
    with os.fdopen(os.dup(source)) as pipe, path.open("w") as out:
        for lines, text in enumerate(pipe, 1):
            line = {"seq": lines, "ts": 17, "type": "message", "data": json.loads(text)}
            out.write(json.dumps(line) + "\n")
            out.flush()
    return lines


def through_pipe(path: Path, work: Callable[[int], int]) -> float:
    """Microseconds of wall time a line."""
    feeder = subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE)
    assert feeder.stdout is not None
    start = time.perf_counter()
    lines = work(feeder.stdout.fileno())
    taken = time.perf_counter() - start
    feeder.stdout.close()
    feeder.wait()
    return taken / lines * 1e6


def bench_append(root: Path, lines: int, rounds: int) -> Iterator[Comparison]:
    raw = [raw_line(number) for number in range(lines)]
    spool = root / "spool"
    spool.write_bytes(b"\n".join(raw) + b"\n")
    flushed = Comparison("append, CPU a line", "journal, batches of 64", "write+flush", "us")
    encoded = Comparison("append, CPU a line", "journal, batches of 64", "json+write+flush", "us")
    piped = Comparison("ingest from a pipe, a line", "journal", "readline+json+flush", "us")
    journal, log = open_log(root / "append")
    for _ in range(rounds):
        ours = cpu_us(lambda: append_batches(log, raw), lines)
        flushed.our_figures.append(ours)
        flushed.reference_figures.append(
            cpu_us(lambda: write_and_flush(root / "flushed", raw), lines)
        )
        encoded.our_figures.append(ours)
        encoded.reference_figures.append(
            cpu_us(lambda: decode_encode_write_flush(root / "encoded", raw), lines)
        )
        piped.our_figures.append(through_pipe(spool, lambda fd: ingest(log, fd)))
        piped.reference_figures.append(
            through_pipe(spool, lambda fd: ingest_readline(root / "piped", fd))
        )
    asyncio.run(journal.close())
    yield from (flushed, encoded, piped)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--lines", type=int, default=1_000_000, help="lines of the long log")
    parser.add_argument("--append-lines", type=int, default=100_000, help="lines per append round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument(
        "--dir", type=Path, help="where the logs are made; default: a temporary place"
    )
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="hivectl-bench-", dir=options.dir))
    found: list[Comparison] = []
    try:
        for comparison in (
            *bench_append(root, options.append_lines, options.rounds),
            *bench_pages(root, options.lines, options.rounds),
        ):
            print(comparison.render(), flush=True)
            found.append(comparison)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    if options.json is not None:
        machine = {"python": platform.python_version(), "cores": os.cpu_count()}
        results = [{**asdict(item), "ratios": item.ratios} for item in found]
        options.json.write_text(json.dumps({"machine": machine, "results": results}, indent=1))


if __name__ == "__main__":
    main()
