"""Metric 3: how old an event is when it reaches a viewer: 100 viewers, 200 events a second.

    python -m benchmarks.bench_broadcast [--viewers 100] [--events 1000]

The sides and the viewers are those of `fanout`. An event's age is taken from the moment it is made in the server (nats:
in the publisher) to the moment a viewer has read it; all viewers are one process, so the last of them wait for it, too.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks import fanning, figures, home, native
from benchmarks.fanning import C_LOOP, FASTAPI, HIVECTL, NATS, WEBSOCKETS, Load

RATE = 200


def main(argv: Sequence[str] | None = None) -> figures.Report:
    parser = figures.parser(__doc__)
    parser.add_argument("--viewers", type=int, default=100)
    parser.add_argument("--events", type=int, help="1000; quick: 200")
    options = figures.parse(parser, argv)
    events = options.given.events or (200 if options.is_quick else 1000)
    load = Load(options.given.viewers, events, RATE)
    title = f"3. Age of an event at {load.viewers} viewers, {RATE} events/s"
    report = figures.Report("broadcast", title)
    with home.temporary() as root:
        programs = native.compile_into(root, "crowd", "write_loop")
        names = fanning.offered((HIVECTL, C_LOOP, NATS, WEBSOCKETS, FASTAPI)) if programs else []
        for _ in range(options.rounds):
            for name in names:
                told = fanning.tell_all(name, programs, load)
                report.add(f"{name}, p50", told.seen["p50_us"] / 1000, "ms")
                report.add(f"{name}, p99", told.seen["p99_us"] / 1000, "ms")
                report.add(f"{name}, CPU", told.cpu_us, "us/delivery")
    report.compare(f"{HIVECTL}, p50", f"{C_LOOP}, p50", "<= 1.3x")
    report.compare(f"{HIVECTL}, p99", f"{C_LOOP}, p99", "<= 1.4x")
    report.compare(f"{HIVECTL}, p50", f"{NATS}, p50")
    report.compare(f"{HIVECTL}, p99", f"{NATS}, p99", "<= 1.0x")
    report.compare(f"{HIVECTL}, CPU", f"{C_LOOP}, CPU")
    return figures.finish(report, options)


if __name__ == "__main__":
    main()
