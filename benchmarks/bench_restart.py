"""Restart with live executions: the daemon is killed in the middle and started again.

    python -m benchmarks.bench_restart [--executions 50] [--lines 10000000]

The executions are runs of the mock that said something and then hang, one per project; the log of one more project
holds the lines. `listening` is the first answered request; `all attached` is when the daemon reads the output of
every execution again (its open files, seen from outside). Beside it in every round: the same daemon's start in an
empty home.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from benchmarks import figures, home
from tests.harness.daemon import Daemon
from tests.harness.filling import fill_log


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
    parser.add_argument("--lines", type=int, help="lines of the log (10000000; quick: 100000)")
    parser.add_argument("--dir", type=Path, help="where the home is made")
    options = figures.parse(parser, argv)
    executions = options.given.executions or (10 if options.is_quick else 50)
    lines = options.given.lines or (100_000 if options.is_quick else 10_000_000)
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
        fill_log(daemon, f"project:{project}", lines)
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
