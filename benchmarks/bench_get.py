"""A small GET over HTTP: how many a second one process answers, and what each costs it.

    python -m benchmarks.bench_get [--requests 30000] [--connections 16]

The daemon's /healthz, which answers `ok`, beside FastAPI on uvicorn with the same answer and with a small JSON object
of its own making, and beside Starlette on uvicorn with that object by msgspec. uvicorn takes httptools and uvloop where
`make bench-refs` installed them; the note tells. The load is get.c, the same for all: connections that stay, over TCP on
loopback, one request at a time on each. CPU is that of the server.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import figures, home, native, references, talking

SERVERS = Path(__file__).with_name("servers.py")
HIVECTL, FASTAPI = "hivectl", "FastAPI"
FASTAPI_JSON, STARLETTE = "FastAPI, JSON", "Starlette+msgspec, JSON"
SERVED_WITH = ("fastapi", "starlette", "uvicorn", "httptools", "uvloop", "msgspec")
PATIENCE_S = 120


@dataclass(frozen=True)
class Side:
    """What is asked for, and of whom: a kind of servers.py, or the daemon when there is none."""

    path: str = "/healthz"
    kind: str = ""
    python: Path = Path(sys.executable)


@contextmanager
def serving(side: Side) -> Iterator[tuple[int, int]]:
    """A server that answers; its pid and port."""
    with home.temporary() as root:
        if not side.kind:
            with home.daemon(root, {"listen.tcp": "127.0.0.1:0"}) as daemon:
                daemon.start()
                assert daemon.process is not None
                address = json.loads((daemon.home / "run" / "daemon.json").read_text())["tcp"]
                yield daemon.process.pid, int(address.rpartition(":")[2])
            return
        port = talking.free_port()
        with home.child([str(side.python), str(SERVERS), side.kind, str(port)]) as server:
            home.until(lambda: talking.is_open(port), what=f"{side.kind} listens")
            yield server.pid, port


def measure(
    report: figures.Report, name: str, side: Side, get: Path, connections: int, requests: int
) -> None:
    """One server of one round."""
    with serving(side) as (pid, port):
        ask(get, port, connections, max(connections, requests // 10), side.path)  # to get warm
        before = home.cpu_ms(pid)
        found = ask(get, port, connections, requests, side.path)
        used_us = (home.cpu_ms(pid) - before) * 1000
    report.add(name, found["requests"] / found["took_s"], "1/s")
    report.add(f"{name}, CPU", used_us / found["requests"], "us/request")
    report.add(f"{name}, p50", found["p50_us"], "us")
    report.add(f"{name}, p99", found["p99_us"], "us")


def ask(get: Path, port: int, connections: int, requests: int, path: str) -> Mapping[str, float]:
    """Raises CalledProcessError when an answer was not as it should be."""
    argv = [str(get), str(port), str(connections), str(requests), path]
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True, timeout=PATIENCE_S)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def offered(report: figures.Report) -> dict[str, Side]:
    """Those that are here; the others are told."""
    sides = {HIVECTL: Side()}
    references.find(references.UVLOOP)  # tells when FastAPI is without
    if python := references.find(references.FASTAPI):
        sides[FASTAPI] = Side("/healthz", "fastapi", python)
        sides[FASTAPI_JSON] = Side("/json", "fastapi", python)
        report.note(f"{FASTAPI} is served with: {references.parts(python, *SERVED_WITH)}.")
    own = python if python and "no msgspec" not in references.parts(python, "msgspec") else None
    starlette = own or Path(sys.executable)
    if "no " in references.parts(starlette, "starlette", "uvicorn", "msgspec"):
        figures.say("skipped: Starlette is not here; install hivectl with its extra `dev`")
    else:
        sides[STARLETTE] = Side("/json", "starlette-msgspec", starlette)
        report.note(f"Starlette is served with: {references.parts(starlette, *SERVED_WITH[1:])}.")
    return sides


def main(argv: Sequence[str] | None = None) -> figures.Report:
    parser = figures.parser(__doc__)
    parser.add_argument("--requests", type=int, help="a round and server (30000; quick: 5000)")
    parser.add_argument("--connections", type=int, default=16)
    options = figures.parse(parser, argv)
    connections = max(1, options.given.connections)
    requests = max(connections, options.given.requests or (5_000 if options.is_quick else 30_000))
    report = figures.Report("get", f"A small GET, {connections} connections that stay")
    with home.temporary() as root:
        programs = native.compile_into(root, "get")
        sides = offered(report) if programs else {}
        for _ in range(options.rounds):
            for name, side in sides.items():
                measure(report, name, side, programs["get"], connections, requests)
    report.compare(HIVECTL, FASTAPI, ">= 2x, better 10x")
    for name in (FASTAPI_JSON, STARLETTE):
        report.compare(HIVECTL, name)
    for name in (FASTAPI, FASTAPI_JSON, STARLETTE):
        report.compare(f"{HIVECTL}, CPU", f"{name}, CPU")
    return figures.finish(report, options)


if __name__ == "__main__":
    main()
