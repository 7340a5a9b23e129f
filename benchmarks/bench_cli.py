"""Metric 9: wall time of the hot commands, each a process of its own: ps, health, exec --detach, kill.

    python -m benchmarks.bench_cli [--runs 10]

Against a running daemon, by the installed `hivectl`. Beside them in every round: `python -c pass`, and a hello of
Typer. `exec --detach` queues behind a run that hangs; `kill` takes one that waits out of the queue.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import figures, home
from tests.harness.daemon import Daemon

TYPER = [
    sys.executable,
    "-c",
    "import typer\ndef main(name: str = 'you') -> None:\n    print('hello', name)\ntyper.run(main)",
]


def command() -> list[str]:
    """The script that was installed beside this interpreter, else the module."""
    script = Path(sys.executable).with_name("hivectl")
    return [str(script)] if script.exists() else [sys.executable, "-m", "hivectl"]


def measure(daemon: Daemon, report: figures.Report, runs: int) -> None:
    """One round; the commands alternate within it, too."""
    hivectl, env = command(), {**daemon.env, "HIVECTL_AUTOSTART": "0"}
    found: dict[str, list[float]] = {}
    for _ in range(runs):
        waiting = daemon.execute("behind")
        for name, argv in {
            "hivectl ps": [*hivectl, "ps"],
            "python -c pass": home.PASS,
            "hivectl health": [*hivectl, "health"],
            "hivectl exec --detach": [*hivectl, "exec", "-p", "web", "--detach", "behind"],
            "Typer hello": TYPER,
            "hivectl kill": [*hivectl, "kill", waiting],
        }.items():
            found.setdefault(name, []).append(home.wall_ms(argv, env))
    for name, taken in found.items():
        report.add(name, statistics.median(taken), "ms")


def main(argv: Sequence[str] | None = None) -> figures.Report:
    parser = figures.parser(__doc__)
    parser.add_argument(
        "--runs", type=int, help="runs a round, of which the median counts (10; quick: 3)"
    )
    options = figures.parse(parser, argv)
    runs = options.given.runs or (3 if options.is_quick else 10)
    report = figures.Report("cli", "9. Hot commands, wall time of the process")
    with home.temporary() as root, home.daemon(root) as daemon:
        daemon.start()
        daemon.project()
        daemon.wait_state(daemon.execute({"hang": True}), "running")
        for _ in range(options.rounds):
            measure(daemon, report, runs)
    for name in ("ps", "health", "exec --detach", "kill"):
        report.compare(f"hivectl {name}", "python -c pass", "<= 2.5x")
    for name in ("ps", "health", "exec --detach", "kill"):
        report.compare(f"hivectl {name}", "Typer hello", "<= 0.25x")
    return figures.finish(report, options)


if __name__ == "__main__":
    main()
