"""Metric 11: what a daemon costs that has nothing to do: memory, CPU, wake-ups, and memory per idle viewer.

    python -m benchmarks.bench_idle [--viewers 100]

Beside it, watched during the same seconds: websockets' own server, and uvicorn with websockets under a Starlette
app. Each round starts all three anew, lets them settle, watches them, then connects the viewers by raw sockets
from this process. hivectl's viewers are authenticated and follow all streams; the others' only hold a connection.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import figures, home, viewers

SERVERS = Path(__file__).with_name("servers.py")
HIVECTL, WEBSOCKETS, UVICORN = "hivectl", "websockets", "uvicorn+websockets"
SETTLE_S = 1.5
"""Most; a shorter watch settles as long as it watches."""


def connect(name: str, path: Path) -> viewers.Viewer:
    if name != HIVECTL:
        return viewers.Viewer(path)
    viewer = viewers.log_in(path)
    viewers.ask(viewer, "subscribe", {"streams": ["*"], "since": "now"})
    return viewer


def measure(report: figures.Report, count: int, watch_s: float) -> None:
    """One round."""
    with ExitStack() as stack:
        root = stack.enter_context(home.temporary())
        settings = {"limits.connections": count + 20, "limits.unauthenticated": count + 20}
        daemon = stack.enter_context(home.daemon(root, settings))
        pids = {HIVECTL: daemon.spawn().pid}
        home.until(lambda: home.answers(daemon.socket, home.HEALTHZ), what="the daemon answers")
        report.add(f"{HIVECTL}, RSS at the start", home.rss_kb(pids[HIVECTL]) / 1024, "MB")
        daemon.project()  # the first request with parameters loads what checks them
        sockets = {HIVECTL: daemon.socket}
        for name, kind in ((WEBSOCKETS, "websockets"), (UVICORN, "uvicorn")):
            sockets[name] = root / f"{kind}.sock"
            argv = [sys.executable, str(SERVERS), kind, str(sockets[name])]
            pids[name] = stack.enter_context(home.child(argv)).pid
        for path in sockets.values():
            home.until(path.exists, what=f"{path} is there")
        time.sleep(min(SETTLE_S, watch_s))
        before = {name: (home.cpu_ms(pid), home.wakeups(pid)) for name, pid in pids.items()}
        start = time.perf_counter()
        time.sleep(watch_s)
        took = time.perf_counter() - start
        for name, pid in pids.items():
            cpu, woken = before[name]
            report.add(f"{name}, RSS", home.rss_kb(pid) / 1024, "MB")
            report.add(f"{name}, private memory", home.private_kb(pid) / 1024, "MB")
            report.add(f"{name}, CPU", (home.cpu_ms(pid) - cpu) / took * 60, "ms/min")
            report.add(f"{name}, wake-ups", (home.wakeups(pid) - woken) / took, "1/s")
        for name, path in sockets.items():
            first = connect(name, path)  # what the first one loads is no cost of each
            pid = pids[name]
            start_kb = home.private_kb(pid)
            peers = [connect(name, path) for _ in range(count)]
            time.sleep(0.3)
            report.add(f"{name}, a viewer", (home.private_kb(pid) - start_kb) / count, "KB")
            for peer in (first, *peers):
                peer.close()


def main(argv: Sequence[str] | None = None) -> figures.Report:
    parser = figures.parser(__doc__)
    parser.add_argument("--viewers", type=int, default=100)
    parser.add_argument("--seconds", type=float, help="how long to watch (5; quick: 2)")
    options = figures.parse(parser, argv)
    watch_s = options.given.seconds or (2.0 if options.is_quick else 5.0)
    report = figures.Report("idle", f"11. Idle, watched for {watch_s:g} s a round")
    for _ in range(options.rounds):
        measure(report, options.given.viewers, watch_s)
    report.compare(f"{HIVECTL}, RSS", f"{UVICORN}, RSS")
    report.compare(f"{HIVECTL}, a viewer", f"{WEBSOCKETS}, a viewer", "<= 0.6x")
    report.compare(f"{HIVECTL}, a viewer", f"{UVICORN}, a viewer")
    report.compare(f"{HIVECTL}, CPU", f"{UVICORN}, CPU")
    report.note(
        "Targets: RSS <= 44 MB (0.45 of claude-code-ui's 98), <= 1 wake-up/s, <= 15 ms CPU/min."
    )
    return figures.finish(report, options)


if __name__ == "__main__":
    main()
