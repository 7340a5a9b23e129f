"""Metric 4: ten agents, 1000 events a second in all, a hundred viewers, over the whole road.

    python -m benchmarks.bench_agents [--agents 10] [--viewers 100] [--rate 1000] [--events 5000]

From an agent's `write()` to a viewer's `read()`: hivectl's shim, spool, daemon, log and WebSocket; the obvious daemon's
pipe, log and WebSocket. See road.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import figures, home, native, road


def main(argv: Sequence[str] | None = None) -> figures.Report:
    parser = figures.parser(__doc__)
    parser.add_argument("--agents", type=int, default=10)
    parser.add_argument("--viewers", type=int, default=100)
    parser.add_argument("--rate", type=int, default=1000, help="events a second, all agents")
    parser.add_argument("--events", type=int, help="events a round (5000; quick: 2000)")
    options = figures.parse(parser, argv)
    given = options.given
    events = given.events or (2_000 if options.is_quick else 5_000)
    work = road.Work(given.agents, events, given.rate)
    title = f"4. {work.agents} agents, {work.rate:,} events/s in all, to {given.viewers} viewers"
    report = figures.Report("agents", title)
    with home.temporary() as root:
        programs = native.compile_into(root, "agent", "crowd")
        for _ in range(options.rounds if programs else 0):
            for name in (road.HIVECTL, road.OBVIOUS):
                with road.serve(name, programs["agent"], work.agents) as served:
                    seen = road.watch(served, programs, work, given.viewers)
                report.add(f"{name}, p50", seen.p50_us / 1000, "ms")
                report.add(f"{name}, p99", seen.p99_us / 1000, "ms")
                report.add(f"{name}, CPU", seen.cpu_us, "us/event")
                if seen.helpers_us:
                    report.add("hivectl's shims, CPU", seen.helpers_us, "us/event")
    for what in ("p50", "p99", "CPU"):
        report.compare(f"{road.HIVECTL}, {what}", f"{road.OBVIOUS}, {what}")
    report.note(
        "Every viewer got every event of every agent; a round where one did not would fail."
    )
    return figures.finish(report, options)


if __name__ == "__main__":
    main()
