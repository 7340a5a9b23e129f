"""Metric 12: pages of 100 by number out of a long log, from the store and over HTTP; and appending to the log.

    python -m benchmarks.bench_journal [--lines 10000000] [--append-lines 100000] [--dir DIR]

Pages are at random places and come from the log's files (nothing of it is in memory), which were rolled and compressed
as in real use. References read one plain file of the same lines: by iterating it, at places spread evenly over it, and
by binary search. `over HTTP` is the real daemon: get_messages by POST /rpc with the token, one connection that stays, one
request after the other; the client is a raw socket in this process, and its share is part of what is measured.
Appending: CPU of the thread that appends, a line.
10,000,000 lines want 7 GB of disk while it runs (--dir says where), and --lines makes them fewer.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import appending, figures, home, long_log
from benchmarks.long_log import PAGE, LongLog
from hivectl.journal import reader

STORE, HTTP = "page, store", "page, over HTTP"
ITERATING, SEARCHING = "page, iterating the file", "page, binary search"
DECODED = "page, store, decoded"
NEWEST, NEWEST_ITERATING = "newest page, store", "newest page, iterating the file"
PAGES, SLOW_PAGES = 300, 5
"""How many of them a round."""


def taken_ms(work: Callable[[int], Sequence[object]], places: Sequence[int]) -> list[float]:
    taken = []
    for after in places:
        start = time.perf_counter()
        page = work(after)
        taken.append((time.perf_counter() - start) * 1000)
        assert len(page) == PAGE, (after, len(page))
    return taken


def over_http_ms(client: long_log.Client, places: Sequence[int]) -> list[float]:
    """What came is looked at afterwards."""
    bodies, taken = [], []
    with client.connected() as peer:
        client.page(peer, 0)
        for after in places:
            start = time.perf_counter()
            bodies.append(client.page(peer, after))
            taken.append((time.perf_counter() - start) * 1000)
    for after, body in zip(places, bodies, strict=True):
        assert long_log.numbers_of(body) == list(range(after + 1, after + PAGE + 1)), after
    return taken


def add(report: figures.Report, name: str, taken: Sequence[float]) -> None:
    """What half of them take at most, and how many of such one gets in a second, one after the other."""
    middle = statistics.median(taken)
    report.add(name, 1000 / middle, "pages/s")
    report.add(f"{name}, p50", middle, "ms")


def measure_pages(report: figures.Report, long: LongLog, chance: random.Random) -> None:
    """One round."""
    log, plain, last = long.log, long.plain, long.lines - PAGE
    places = [chance.randint(0, last) for _ in range(PAGES)]
    spread = [last * (2 * number + 1) // (2 * SLOW_PAGES) for number in range(SLOW_PAGES)]
    add(report, STORE, taken_ms(lambda after: reader.lines_after(log, after, PAGE), places))
    before = home.cpu_ms(long.pid)
    over_http = over_http_ms(long.client, places)
    report.add(f"{HTTP}, CPU of the daemon", (home.cpu_ms(long.pid) - before) / PAGES, "ms/page")
    add(report, HTTP, over_http)
    report.add(f"{HTTP}, p99", statistics.quantiles(over_http, n=100)[-1], "ms")
    add(report, SEARCHING, taken_ms(lambda after: long_log.by_binary_search(plain, after), places))
    add(report, ITERATING, taken_ms(lambda after: long_log.by_iterating(plain, after), spread))
    add(report, DECODED, taken_ms(lambda after: reader.read_after(log, after, PAGE), places))
    add(report, NEWEST, taken_ms(lambda after: reader.lines_after(log, after, PAGE), [last] * PAGE))
    add(
        report,
        NEWEST_ITERATING,
        taken_ms(lambda after: long_log.by_iterating(plain, after), [last]),
    )


def bench_pages(report: figures.Report, root: Path, lines: int, rounds: int) -> None:
    start = time.perf_counter()
    with long_log.made(root, lines) as long:
        plain_mb, log_mb = long.plain.stat().st_size / 1e6, long.log.disk_bytes / 1e6
        figures.say(
            f"{lines:,} lines in {len(long.log.view.segments)} segments, made in"
            f" {time.perf_counter() - start:.0f} s; {plain_mb:.0f} MB plain, {log_mb:.0f} MB as a log"
        )
        chance = random.Random(1)
        for _ in range(rounds):
            measure_pages(report, long, chance)


def bench_appending(report: figures.Report, root: Path, lines: int, rounds: int) -> None:
    journal, log = long_log.open_log(root / "append", "project:p_bench")
    for _ in range(rounds):
        appending.measure(report, log, root, lines)
    asyncio.run(journal.close())


def main(argv: Sequence[str] | None = None) -> figures.Report:
    parser = figures.parser(__doc__)
    parser.add_argument("--lines", type=int, help="of the long log (10000000; quick: 200000)")
    parser.add_argument("--append-lines", type=int, help="a round (100000; quick: 20000)")
    parser.add_argument("--dir", type=Path, help="where the logs are made; else a temporary place")
    options = figures.parse(parser, argv)
    given, is_quick = options.given, options.is_quick
    lines = given.lines or (200_000 if is_quick else 10_000_000)
    append_lines = given.append_lines or (20_000 if is_quick else 100_000)
    title = f"12. Pages of {PAGE} out of a log of {lines:,} lines, and appending"
    report = figures.Report("journal", title)
    with home.temporary(folder=given.dir) as root:
        bench_appending(report, root, append_lines, options.rounds)
    with home.temporary(folder=given.dir) as root:
        bench_pages(report, root, lines, options.rounds)
    report.compare(STORE, ITERATING, ">= 5000x of 10,000,000 lines")
    report.compare(STORE, SEARCHING)
    report.compare(HTTP, ITERATING, ">= 1000x of 10,000,000 lines")
    report.compare(DECODED, ITERATING)
    report.compare(NEWEST, NEWEST_ITERATING)
    for name in (appending.BATCHED, appending.READ):
        report.compare(name, appending.FLUSHED)
        report.compare(name, appending.ENCODED)
    report.compare(appending.PIPED, appending.READLINE)
    report.note("Targets: over HTTP p50 <= 1 ms; append <= 0.5 us of CPU a line.")
    report.note(
        "Iterating takes as long as the file is: its ratios count at 10,000,000 lines only."
    )
    report.note(
        "The client over HTTP is a raw socket, one request at a time; its cost is included."
    )
    return figures.finish(report, options)


if __name__ == "__main__":
    main()
