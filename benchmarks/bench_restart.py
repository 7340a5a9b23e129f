"""Restart with live executions: the daemon is killed in the middle and started again.

    python -m benchmarks.bench_restart [--executions 50] [--lines 1000000]

The executions are runs of the mock that said something and then hang, one per project; the log of one more project
holds the lines. `listening` is the first answered request; `all attached` is when the daemon reads the output of
every execution again (its open files, seen from outside). Beside it in every round: the same daemon's start in an
empty home.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks import figures, home
from hivectl import config
from hivectl.journal.limits import JournalLimits
from hivectl.journal.record import Draft, Source
from hivectl.journal.writer import Journal
from hivectl.kit import files
from hivectl.kit.clock import SystemClock
from tests.harness.daemon import Daemon

RAW = b'{"kind":"assistant","direction":"out","text":"%b","raw":{"type":"assistant","n":%d}}'
TEXT = b"The quick brown fox jumps over the lazy dog. "
BATCH = 256


def fill_log(root: Path, stream: str, lines: int) -> None:
    """Append lines to a stream while no daemon has it."""
    journal = Journal(
        root, clock=SystemClock(), limits=JournalLimits(ring_lines=0), boot_id=files.boot_id()
    )
    log = journal.open(stream)
    now_us = SystemClock().now_us()
    for start in range(0, lines, BATCH):
        batch = [
            Draft(
                "message",
                RAW % (TEXT[: 5 + number % 40] * 2, number),
                now_us + number,
                "x_06gzrec3f2t0vm54gc0g",
                src=Source("pr_06gzrec3f2t0vm54gc0g", "o", number * 200),
            )
            for number in range(start, min(start + BATCH, lines))
        ]
        log.append(batch)
    asyncio.run(journal.close())


def attached(daemon: Daemon) -> int:
    """How many runs' output the daemon has open."""
    assert daemon.process is not None
    runs = set()
    folder = f"/proc/{daemon.process.pid}/fd"
    with suppress(FileNotFoundError):
        for link in Path(folder).iterdir():
            with suppress(FileNotFoundError):
                target = link.readlink()
                if target.name.startswith("out") and target.parent.name.startswith("pr_"):
                    runs.add(target.parent.name)
    return len(runs)


def restart(daemon: Daemon, executions: int) -> tuple[float, float]:
    """Milliseconds from exec to listening and to all attached."""
    daemon.kill()
    start = time.perf_counter()
    daemon.spawn()
    home.until(lambda: home.answers(daemon.socket, home.HEALTHZ), what="it listens")
    listening = time.perf_counter() - start
    home.until(lambda: attached(daemon) == executions, what="all are attached")
    return listening * 1000, (time.perf_counter() - start) * 1000


def empty_start() -> float:
    with home.temporary() as root, home.daemon(root) as daemon:
        start = time.perf_counter()
        daemon.spawn()
        home.until(lambda: home.answers(daemon.socket, home.HEALTHZ), what="it listens")
        return (time.perf_counter() - start) * 1000


def start_executions(daemon: Daemon, count: int) -> None:
    begun = [
        daemon.execute({"events": 20, "hang": "end"}, daemon.project(f"p{number}")["id"])
        for number in range(count)
    ]
    for execution in begun:
        daemon.wait_state(execution, "running", within_s=60)


def main(argv: Sequence[str] | None = None) -> figures.Report:
    parser = figures.parser(__doc__)
    parser.add_argument("--executions", type=int, help="live ones (50; quick: 10)")
    parser.add_argument("--lines", type=int, help="lines of the log (1000000; quick: 100000)")
    parser.add_argument("--dir", type=Path, help="where the home is made")
    options = figures.parse(parser, argv)
    executions = options.given.executions or (10 if options.is_quick else 50)
    lines = options.given.lines or (100_000 if options.is_quick else 1_000_000)
    report = figures.Report(
        "restart",
        f"Restart after kill -9 with {executions} live executions and {lines:,} log lines",
    )
    settings = {"execution.max_live": executions, "projects.max": executions + 10}
    folder = options.given.dir
    with home.temporary(folder=folder) as root, home.daemon(root, settings) as daemon:
        daemon.start()
        project = daemon.project("long")["id"]
        daemon.stop("keep")
        start = time.perf_counter()
        fill_log(config.load(env=daemon.env).places.journal, f"project:{project}", lines)
        figures.say(f"{lines:,} lines written in {time.perf_counter() - start:.0f} s")
        daemon.start(within_s=60)
        start_executions(daemon, executions)
        for _ in range(options.rounds):
            listening, all_attached = restart(daemon, executions)
            report.add("listening", listening, "ms")
            report.add("all attached", all_attached, "ms")
            report.add("listening, empty home", empty_start(), "ms")
        newest = daemon.call("get_messages", project=project, limit=1)
        assert newest["last_seq"] >= lines, newest
    report.compare("listening", "listening, empty home")
    report.compare("all attached", "listening, empty home")
    report.note("Targets: listening < 1000 ms, all attached < 2000 ms.")
    return figures.finish(report, options)


if __name__ == "__main__":
    main()
