"""Metric 5: one agent to one viewer, at 1000 and at 10,000 events a second; the same Python client for all.

    python -m benchmarks.bench_one_viewer [--seconds 3]

The client is websockets and json.loads. References: claude-code-ui, which starts the same stand-in for Claude by its
SDK; the obvious daemon. CPU is of the server alone; hivectl's shim stands beside it. See road.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import figures, home, native, road

RATES = (1_000, 10_000)


def main(argv: Sequence[str] | None = None) -> figures.Report:
    parser = figures.parser(__doc__)
    parser.add_argument("--seconds", type=float, help="of each round and rate (3; quick: 1)")
    options = figures.parse(parser, argv)
    seconds = options.given.seconds or (1.0 if options.is_quick else 3.0)
    report = figures.Report("one_viewer", "5. One agent to one viewer in Python")
    names = road.offered(road.HIVECTL, road.CODE_UI, road.OBVIOUS)
    with home.temporary() as root:
        programs = native.compile_into(root, "agent")
        for _ in range(options.rounds if programs else 0):
            for rate in RATES:
                work = road.Work(1, max(1, int(rate * seconds)), rate)
                for name in names:
                    with road.serve(name, programs["agent"]) as served:
                        seen = road.view(served, work)
                    at = f"{rate:,}/s, {name}"
                    report.add(f"{at}, p50", seen.p50_us, "us")
                    report.add(f"{at}, p99", seen.p99_us, "us")
                    report.add(f"{at}, CPU", seen.cpu_us, "us/event")
                    if seen.helpers_us:
                        report.add(f"{rate:,}/s, its shim, CPU", seen.helpers_us, "us/event")
    for rate in RATES:
        for name in (road.CODE_UI, road.OBVIOUS):
            for what in ("p50", "p99", "CPU"):
                ours = f"{rate:,}/s, {road.HIVECTL}, {what}"
                report.compare(ours, f"{rate:,}/s, {name}, {what}")
    report.note("Nothing was lost in any of them.")
    return figures.finish(report, options)


if __name__ == "__main__":
    main()
