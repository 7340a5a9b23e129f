"""A conversation's second prompt, cold against warm: from `execute` to Claude's first event at a viewer.

    python -m benchmarks.bench_warm [--runs 6]

Two projects of one daemon, of which one keeps Claude alive between prompts; their runs alternate. Claude is the
mock, which starts in a twentieth of the real one's time: what a warm session saves with the real Claude
is about that much more, and the last row adds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from benchmarks import figures, home
from benchmarks.bench_first_event import PROMPT, view_runs

CLAUDE_START_MS = 500.0
"""From the start of the real Claude Code (2.1.329) to its first line, where the mock takes about 27."""


def main(argv: Sequence[str] | None = None) -> figures.Report:
    parser = figures.parser(__doc__)
    parser.add_argument(
        "--runs", type=int, help="runs a round, of which the median counts (8; quick: 3)"
    )
    options = figures.parse(parser, argv)
    runs = options.given.runs or (3 if options.is_quick else 8)
    report = figures.Report("warm", "The second prompt of a conversation, cold and warm")
    with home.temporary() as root, home.daemon(root) as daemon:
        daemon.start()
        daemon.project("cold")
        daemon.project("warm", defaults={"warm": True})
        for project in ("cold", "warm"):
            daemon.run(PROMPT, project)
        for _ in range(options.rounds):
            for project in ("cold", "warm"):
                found = asyncio.run(view_runs(daemon, runs, project))
                for name in ("first event", "ended"):
                    report.add(f"{project}, {name}", found[name], "ms")
            cold = report.series["cold, first event"][-1]
            report.add("cold with the real start", cold + CLAUDE_START_MS, "ms")
    report.compare("warm, first event", "cold, first event")
    report.compare("warm, first event", "cold with the real start", "<= 0.1x")
    report.compare("warm, ended", "cold, ended")
    return figures.finish(report, options)


if __name__ == "__main__":
    main()
