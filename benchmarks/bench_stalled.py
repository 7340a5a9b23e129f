"""Metric 14: what five viewers of 25 that stop reading cost the others, and what they find when they read on.

    python -m benchmarks.bench_stalled [--events 50000]

20 viewers read and 5 do not, events of 2 KB, flat out; `healthy share` is what those that read got of what was
published. hivectl also runs without the five (its own reference for the throughput), and at the end its five read
on: some where they are, some by connecting anew and resuming. All of them must have every event.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import fanning, figures, home, native
from benchmarks.fanning import FASTAPI, HIVECTL, NATS, WEBSOCKETS, Load

ALONE = "hivectl, none stalled"
SIZE = 2000
READERS, STALLED = 20, 5
SLOWER = {WEBSOCKETS: 2}


def measure(
    report: figures.Report, names: list[str], programs: Mapping[str, Path], events: int
) -> None:
    """One round."""
    for name in names:
        stalled = 0 if name == ALONE else STALLED
        few = max(1, events // SLOWER.get(name, 1))
        load = Load(READERS, few, size=SIZE, stalled=stalled)
        is_ours = name in {ALONE, HIVECTL}
        tell = fanning.tell_all if is_ours else fanning.tell
        told = tell(HIVECTL if is_ours else name, programs, load, late=name == HIVECTL)
        share = told.seen["deliveries"] / (READERS * few) * 100
        report.add(f"{name}, healthy share", share, "%")
        report.add(f"{name}, deliveries", told.rate, "1/s")
        report.add(f"{name}, growth", told.growth_mb, "MB")
        if told.late is not None:
            share = told.late["seen"] / (STALLED * few) * 100
            report.add(f"{name}, had by the stalled in the end", share, "%")


def main(argv: Sequence[str] | None = None) -> figures.Report:
    parser = figures.parser(__doc__)
    parser.add_argument("--events", type=int, help="50000; quick: 10000")
    options = figures.parse(parser, argv)
    events = options.given.events or (10_000 if options.is_quick else 50_000)
    report = figures.Report("stalled", f"14. {STALLED} stalled viewers of {READERS + STALLED}")
    with home.temporary() as root:
        programs = native.compile_into(root, "crowd")
        names = fanning.offered((ALONE, HIVECTL, NATS, WEBSOCKETS, FASTAPI)) if programs else []
        for _ in range(options.rounds):
            measure(report, names, programs, events)
    report.compare(f"{HIVECTL}, deliveries", f"{ALONE}, deliveries", ">= 0.9x")
    for name in (NATS, WEBSOCKETS):
        report.compare(f"{HIVECTL}, deliveries", f"{name}, deliveries")
        report.compare(f"{HIVECTL}, growth", f"{name}, growth")
    report.note("Targets: healthy share 100 %, growth <= 16 MB, the stalled have 100 % in the end.")
    report.note("A side that delivers nothing for ten seconds is given up: its rate contains them.")
    return figures.finish(report, options)


if __name__ == "__main__":
    main()
