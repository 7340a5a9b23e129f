"""Metric 6: flat out, ten agents to the log to ten viewers, nothing lost.

    python -m benchmarks.bench_flat_out [--agents 10] [--viewers 10] [--events 40000] [--lone 20000]

The rate is that of what has arrived everywhere: from the making of the first event to the last viewer's last one.
References: the obvious daemon; the TypeScript Agent SDK in its own process, with one agent, no log and no viewer. Then
one agent and one viewer in Python, who cannot keep up: hivectl, the obvious daemon, and claude-code-ui. See road.py.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import figures, home, native, references, road

SDK_READER = Path(__file__).with_name("sdk_reader.mjs")
SDK = "TypeScript SDK"
LONE = "one Python viewer"


def sdk_rate(package: Path, agent: Path, work: road.Work) -> float:
    """Events a second by `query()` of the SDK. Raises RuntimeError when one was lost."""
    argv = ["node", str(SDK_READER), str(package), str(agent), work.prompt(0, 0)]
    told = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=120).stdout
    found = json.loads(told)
    if found["broken"] or found["events"] != work.total:
        raise RuntimeError(f"{SDK}: something was lost: {found}")
    return float(found["events"] / found["took_s"])


def measure(
    report: figures.Report,
    programs: Mapping[str, Path],
    work: road.Work,
    lone: road.Work,
    count: int,
) -> None:
    """One round."""
    agent = programs["agent"]
    for name in (road.HIVECTL, road.OBVIOUS):
        with road.serve(name, agent, work.agents) as served:
            seen = road.watch(served, programs, work, count)
        report.add(name, seen.rate, "events/s")
        report.add(f"{name}, CPU", seen.cpu_us, "us/event")
        if seen.helpers_us:
            report.add("hivectl's shims, CPU", seen.helpers_us, "us/event")
    if package := references.find(references.TS_SDK):
        report.add(SDK, sdk_rate(package, agent, lone), "events/s")
    for name in road.offered(road.HIVECTL, road.OBVIOUS, road.CODE_UI):
        with road.serve(name, agent) as served:
            seen = road.view(served, lone)
        report.add(f"{name}, {LONE}", seen.rate, "events/s")
        report.add(f"{name}, {LONE}, p50", seen.p50_us / 1000, "ms")


def main(argv: Sequence[str] | None = None) -> figures.Report:
    parser = figures.parser(__doc__)
    parser.add_argument("--agents", type=int, default=10)
    parser.add_argument("--viewers", type=int, default=10)
    parser.add_argument("--events", type=int, help="events a round (40000; quick: 10000)")
    parser.add_argument("--lone", type=int, help="those for one viewer (20000; quick: 5000)")
    options = figures.parse(parser, argv)
    given = options.given
    events = given.events or (10_000 if options.is_quick else 40_000)
    work = road.Work(given.agents, events)
    lone = road.Work(1, given.lone or (5_000 if options.is_quick else 20_000))
    title = f"6. Flat out: {work.agents} agents, {events:,} events, {given.viewers} viewers"
    report = figures.Report("flat_out", title)
    with home.temporary() as root:
        programs = native.compile_into(root, "agent", "crowd")
        for _ in range(options.rounds if programs else 0):
            measure(report, programs, work, lone, given.viewers)
    report.compare(road.HIVECTL, SDK)
    report.compare(road.HIVECTL, road.OBVIOUS)
    report.compare(f"{road.HIVECTL}, CPU", f"{road.OBVIOUS}, CPU")
    for name in (road.CODE_UI, road.OBVIOUS):
        report.compare(f"{road.HIVECTL}, {LONE}", f"{name}, {LONE}")
    report.note("Nothing was lost: every viewer, the one in Python too, got every event.")
    return figures.finish(report, options)


if __name__ == "__main__":
    main()
