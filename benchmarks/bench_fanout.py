"""Metrics 1 and 2: one event to 100 and to 1000 viewers, flat out; and what it takes to connect one.

    python -m benchmarks.bench_fanout [--viewers 100,1000] [--events N]

Messages of 300 bytes by TCP on loopback, every one counted by the same C viewers. hivectl is its own journal, publisher,
bus, hub and WebSocket server in one process with what makes the events: each one is logged before it is shown
(benchmarks/broadcasters.py says what is not in it). `daemon_fanout` measures the whole daemon.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import fanning, figures, home, native
from benchmarks.fanning import C_LOOP, FASTAPI, HIVECTL, NATS, WEBSOCKETS, Load

SLOWER = {C_LOOP: 5, WEBSOCKETS: 10, FASTAPI: 10}
"""What needs so many times longer is told so many times fewer."""
TARGETS = {
    100: {NATS: ">= 1.5x", C_LOOP: ">= 6x", WEBSOCKETS: ">= 10x"},
    1000: {NATS: ">= 1.0x"},
}


def measure(
    report: figures.Report, names: list[str], programs: Mapping[str, Path], load: Load
) -> None:
    """One round of one number of viewers."""
    for name in names:
        few = Load(load.viewers, max(1, load.events // SLOWER.get(name, 1)))
        told = fanning.tell_all(name, programs, few)
        series = f"{name}, {load.viewers} viewers"
        report.add(f"{series}, deliveries", told.rate, "1/s")
        report.add(f"{series}, CPU", told.cpu_us, "us/delivery")
        report.add(f"{series}, age p50", told.seen["p50_us"] / 1000, "ms")
        report.add(f"{series}, connect p50", told.seated["connect_p50_us"] / 1000, "ms")
        report.add(f"{series}, connect p99", told.seated["connect_p99_us"] / 1000, "ms")
        report.add(
            f"{series}, connected and following p50", told.seated["seated_p50_us"] / 1000, "ms"
        )
        report.add(
            f"{series}, connected and following p99", told.seated["seated_p99_us"] / 1000, "ms"
        )
        report.add(f"{series}, memory of a viewer", told.viewer_kb, "KB")


def compare(report: figures.Report, names: list[str], viewers: int) -> None:
    for name in names[1:]:
        ours, theirs = f"{HIVECTL}, {viewers} viewers", f"{name}, {viewers} viewers"
        target = TARGETS.get(viewers, {}).get(name, "")
        report.compare(f"{ours}, deliveries", f"{theirs}, deliveries", target)
        target = "<= 0.3x" if (viewers, name) == (1000, NATS) else ""
        report.compare(f"{ours}, CPU", f"{theirs}, CPU", target)
        if name == WEBSOCKETS:
            report.compare(f"{ours}, memory of a viewer", f"{theirs}, memory of a viewer")


def main(argv: Sequence[str] | None = None) -> figures.Report:
    parser = figures.parser(__doc__)
    parser.add_argument("--viewers", default="100,1000")
    parser.add_argument(
        "--events", type=int, help="deliveries aimed at, a viewer (100: 50000; quick: a tenth)"
    )
    options = figures.parse(parser, argv)
    report = figures.Report("fanout", "1 and 2. Fan-out of messages of 300 bytes, flat out")
    with home.temporary() as root:
        programs = native.compile_into(root, "crowd", "write_loop")
        names = fanning.offered((HIVECTL, NATS, C_LOOP, WEBSOCKETS, FASTAPI)) if programs else []
        for viewers in map(int, options.given.viewers.split(",")):
            events = options.given.events or 5_000_000 // viewers // (10 if options.is_quick else 1)
            for _ in range(options.rounds):
                measure(report, names, programs, Load(viewers, events))
            compare(report, names, viewers)
    report.note("Targets of connecting: p50 <= 0.5 ms, p99 <= 2 ms at 1000 viewers.")
    return figures.finish(report, options)


if __name__ == "__main__":
    main()
