"""Metric 10: from the start of the daemon's process to its first answered request.

    python -m benchmarks.bench_start [--runs 5]

Beside it in every round: a Starlette hello under uvicorn, `python -c pass`, and a FastAPI hello under uvicorn and
claude-code-ui where they are installed.
All are asked for a GET until it is answered with 200, on a UNIX socket where they have one. `fresh home`: the daemon makes its database and token;
`again`: it finds them, as after a stop.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks import figures, home, references, road

SERVERS = Path(__file__).with_name("servers.py")
FASTAPI = "FastAPI hello"


def daemon_ms(*, is_again: bool) -> float:
    with home.temporary() as root, home.daemon(root) as daemon:
        if is_again:
            daemon.start()
            daemon.stop()
        start = time.perf_counter()
        daemon.spawn()
        home.until(lambda: home.answers(daemon.socket, home.HEALTHZ), what="the daemon answers")
        return (time.perf_counter() - start) * 1000


def hello_ms(python: Path, kind: str) -> float:
    with home.temporary() as root:
        path = root / "hello.sock"
        start = time.perf_counter()
        with home.child([str(python), str(SERVERS), kind, str(path)]):
            home.until(lambda: home.answers(path, home.HEALTHZ), what="hello answers")
            return (time.perf_counter() - start) * 1000


def code_ui_ms() -> float:
    with home.temporary() as root:
        start = time.perf_counter()
        with road.code_ui_process(root, Path("no-agent")):
            return (time.perf_counter() - start) * 1000


def main(argv: Sequence[str] | None = None) -> figures.Report:
    parser = figures.parser(__doc__)
    parser.add_argument(
        "--runs", type=int, help="starts a round, of which the median counts (3; quick: 1)"
    )
    options = figures.parse(parser, argv)
    runs = options.given.runs or (1 if options.is_quick else 3)
    report = figures.Report("start", "10. Cold start to the first answered request")
    starts: dict[str, Callable[[], float]] = {
        "hivectl, fresh home": partial(daemon_ms, is_again=False),
        "hivectl, again": partial(daemon_ms, is_again=True),
        "Starlette hello, uvicorn": partial(hello_ms, Path(sys.executable), "hello"),
        "python -c pass": partial(home.wall_ms, home.PASS),
    }
    if python := references.find(references.FASTAPI):
        starts[FASTAPI] = partial(hello_ms, python, "fastapi")
        packages = references.parts(python, "fastapi", "uvicorn", "httptools", "uvloop")
        report.note(f"{FASTAPI} is served with: {packages}.")
    if references.find(references.CLAUDE_CODE_UI):
        starts[road.CODE_UI] = code_ui_ms
    for _ in range(options.rounds):
        for name, start in starts.items():
            report.add(name, statistics.median(start() for _ in range(runs)), "ms")
    report.compare("hivectl, again", "Starlette hello, uvicorn")
    for name in (FASTAPI, road.CODE_UI):
        report.compare("hivectl, again", name, "<= 0.65x")
    report.compare("hivectl, fresh home", "Starlette hello, uvicorn")
    report.note("Target: at most 250 ms.")
    return figures.finish(report, options)


if __name__ == "__main__":
    main()
