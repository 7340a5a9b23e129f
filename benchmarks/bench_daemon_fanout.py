"""The whole daemon: one run printing flat out, many viewers, one of them stalled.

    python -m benchmarks.bench_daemon_fanout [--viewers 100] [--events 3000]

hivectl is the whole daemon: the mock under its shim, spool, log, and the real WebSocket server; each viewer follows the
project. The reference gets the same lines from the mock by a pipe, numbers them and sends them by
`websockets.broadcast`: no log, no replay, no authentication. The viewers are one process for both; a round counts only
if each reading viewer got every number.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import figures, home

ROOT = Path(__file__).resolve().parents[1]
SERVERS = Path(__file__).with_name("servers.py")
FLAGS = ["--output-format", "stream-json", "--verbose"]


def watch(
    kind: str, path: Path, counts: tuple[int, int], stream: str, end: str, act: Callable[[], object]
) -> Any:
    """Seat the viewers, act, and return what they saw."""
    readers, stalled = counts
    argv = [
        sys.executable,
        "-m",
        "benchmarks.audience",
        kind,
        str(path),
        str(readers),
        str(stalled),
        stream,
        end,
    ]
    audience = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE)
    assert audience.stdout is not None
    try:
        assert audience.stdout.readline() == b"ready\n"
        act()
        return json.loads(audience.stdout.readline())
    finally:
        audience.stdout.close()
        audience.kill()
        audience.wait()


def note(report: figures.Report, name: str, seen: Any, pid: int, before: tuple[float, int]) -> None:
    events = seen["events"]
    first, last = seen["seqs"][0]
    if (
        any(count != last - first + 1 for count in events)
        or len(set(map(tuple, seen["seqs"]))) != 1
    ):
        raise RuntimeError(f"{name}: something was lost: {seen}")
    deliveries, took = sum(events), seen["last_s"] - seen["first_s"]
    cpu, private = before
    report.add(f"{name}, deliveries", deliveries / took, "1/s")
    report.add(f"{name}, CPU", (home.cpu_ms(pid) - cpu) * 1000 / deliveries, "us/delivery")
    report.add(f"{name}, growth", (home.private_kb(pid) - private) / 1024, "MB")


def ours(report: figures.Report, counts: tuple[int, int], prompt: str) -> None:
    limit = sum(counts) + 20
    settings = {"limits.connections": limit, "limits.unauthenticated": limit}
    with home.temporary() as root, home.daemon(root, settings) as daemon:
        daemon.start()
        stream = f"project:{daemon.project()['id']}"
        daemon.run('mock: {"events": 5}')
        assert daemon.process is not None
        pid = daemon.process.pid
        before: list[tuple[float, int]] = []

        def act() -> None:
            before.append((home.cpu_ms(pid), home.private_kb(pid)))
            daemon.execute(prompt)

        end = '"execution.ended"'
        seen = watch("hivectl", daemon.socket, counts, stream, end, act)
        note(report, "hivectl", seen, pid, before[0])


def reference(report: figures.Report, counts: tuple[int, int], prompt: str) -> None:
    with home.temporary() as root:
        path = root / "broadcast.sock"
        source, sink = os.pipe()
        argv = [sys.executable, str(SERVERS), "broadcast", str(path)]
        server = subprocess.Popen(argv, stdin=source)
        os.close(source)
        before: list[tuple[float, int]] = []

        def act() -> None:
            before.append((home.cpu_ms(server.pid), home.private_kb(server.pid)))
            env = {**os.environ, "HOME": str(root), "CLAUDE_CONFIG_DIR": str(root / "c")}
            subprocess.run(
                [sys.executable, "-m", "mock_claude", "-p", prompt, *FLAGS],
                cwd=root,
                env={**env, "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                check=True,
            )
            os.close(sink)

        try:
            home.until(path.exists, what="the reference listens")
            time.sleep(0.1)
            seen = watch("broadcast", path, counts, "", '"the":"end"', act)
            note(report, "websockets", seen, server.pid, before[0])
        finally:
            server.kill()
            server.wait()


def main(argv: Sequence[str] | None = None) -> figures.Report:
    parser = figures.parser(__doc__)
    parser.add_argument("--viewers", type=int, default=100)
    parser.add_argument("--events", type=int, help="lines of the run (3000; quick: 1000)")
    options = figures.parse(parser, argv)
    events = options.given.events or (1_000 if options.is_quick else 3_000)
    counts = (options.given.viewers - 1, 1)
    prompt = f'mock: {{"events": {events}, "bytes": 300}}'
    title = (
        f"Fan-out of the whole daemon: {counts[0]} viewers that read, 1 stalled, {events:,} events"
    )
    report = figures.Report("daemon_fanout", title)
    for _ in range(options.rounds):
        ours(report, counts, prompt)
        reference(report, counts, prompt)
    report.compare("hivectl, deliveries", "websockets, deliveries")
    report.compare("hivectl, CPU", "websockets, CPU")
    report.note(
        "CPU is of the whole server process: hivectl's contains reading, parsing and the log."
    )
    return figures.finish(report, options)


if __name__ == "__main__":
    main()
