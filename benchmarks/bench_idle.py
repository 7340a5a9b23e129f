"""Metric 11: what a daemon costs that has nothing to do: memory, CPU, wake-ups, and memory per idle viewer.

    python -m benchmarks.bench_idle [--viewers 100]

Beside it, watched during the same seconds: websockets' own server, uvicorn with websockets under a Starlette
app, and claude-code-ui where it is installed. Each round starts all of them anew, lets them settle, watches them, then
connects the viewers by raw sockets from this process (claude-code-ui, which listens on TCP, has none). hivectl's
viewers are authenticated and follow all streams; the others' only hold a connection. What is watched is the process
with all its children.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks import figures, home, references, road, viewers

SERVERS = Path(__file__).with_name("servers.py")
HIVECTL, WEBSOCKETS, UVICORN = "hivectl", "websockets", "uvicorn+websockets"
SETTLE_S = 1.5
"""Most; a shorter watch settles as long as it watches."""


@dataclass(frozen=True)
class Used:
    """What a process and its children use, and have used so far."""

    rss_kb: int
    """What they share counts for each."""
    private_kb: int
    cpu_ms: float
    wakeups: int
    processes: int


def used(pid: int) -> Used:
    pids = home.tree(pid)
    return Used(
        sum(map(home.rss_kb, pids)),
        sum(map(home.private_kb, pids)),
        sum(map(home.cpu_ms, pids)),
        sum(map(home.wakeups, pids)),
        len(pids),
    )


def connect(name: str, path: Path) -> viewers.Viewer:
    if name != HIVECTL:
        return viewers.Viewer(path)
    viewer = viewers.log_in(path)
    viewers.ask(viewer, "subscribe", {"streams": ["*"], "since": "now"})
    return viewer


def measure(report: figures.Report, count: int, watch_s: float, *, has_code_ui: bool) -> None:
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
        if has_code_ui:
            its_home = stack.enter_context(home.temporary())
            made = stack.enter_context(road.code_ui_process(its_home, Path("no-agent")))
            pids[road.CODE_UI] = made[0]
        time.sleep(min(SETTLE_S, watch_s))
        watch(report, pids, watch_s)
        for name, path in sockets.items():
            pid = pids[name]
            report.add(f"{name}, a viewer", viewer_kb(name, path, pid, count), "KB")


def watch(report: figures.Report, pids: dict[str, int], watch_s: float) -> None:
    before = {name: used(pid) for name, pid in pids.items()}
    start = time.perf_counter()
    time.sleep(watch_s)
    took = time.perf_counter() - start
    for name, pid in pids.items():
        was, now = before[name], used(pid)
        report.add(f"{name}, RSS", now.rss_kb / 1024, "MB")
        report.add(f"{name}, private memory", now.private_kb / 1024, "MB")
        report.add(f"{name}, CPU", (now.cpu_ms - was.cpu_ms) / took * 60, "ms/min")
        report.add(f"{name}, wake-ups", (now.wakeups - was.wakeups) / took, "1/s")
        report.note(f"{name}: {now.processes} process{'es' if now.processes > 1 else ''}.")


def viewer_kb(name: str, path: Path, pid: int, count: int) -> float:
    """Private memory of the server, each viewer."""
    first = connect(name, path)  # what the first one loads is no cost of each
    start_kb = home.private_kb(pid)
    peers = [connect(name, path) for _ in range(count)]
    time.sleep(0.3)
    found = (home.private_kb(pid) - start_kb) / count
    for peer in (first, *peers):
        peer.close()
    return found


def main(argv: Sequence[str] | None = None) -> figures.Report:
    parser = figures.parser(__doc__)
    parser.add_argument("--viewers", type=int, default=100)
    parser.add_argument("--seconds", type=float, help="how long to watch (5; quick: 2)")
    options = figures.parse(parser, argv)
    watch_s = options.given.seconds or (2.0 if options.is_quick else 5.0)
    report = figures.Report("idle", f"11. Idle, watched for {watch_s:g} s a round")
    has_code_ui = references.find(references.CLAUDE_CODE_UI) is not None
    for _ in range(options.rounds):
        measure(report, options.given.viewers, watch_s, has_code_ui=has_code_ui)
    report.compare(f"{HIVECTL}, RSS", f"{road.CODE_UI}, RSS", "<= 0.45x")
    report.compare(f"{HIVECTL}, private memory", f"{road.CODE_UI}, private memory")
    report.compare(f"{HIVECTL}, RSS", f"{UVICORN}, RSS")
    report.compare(f"{HIVECTL}, a viewer", f"{WEBSOCKETS}, a viewer", "<= 0.6x")
    report.compare(f"{HIVECTL}, a viewer", f"{UVICORN}, a viewer")
    report.compare(f"{HIVECTL}, CPU", f"{UVICORN}, CPU")
    report.note("Targets: <= 1 wake-up/s, <= 15 ms CPU/min.")
    report.note("Of each side its process and all below it are counted, added up, as told above.")
    return figures.finish(report, options)


if __name__ == "__main__":
    main()
