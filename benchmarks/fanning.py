"""One round of telling many viewers the same: a server, the C viewers of crowd.c, and what both did.

All servers send WebSocket messages of the same size over TCP on loopback to the same viewers, which check that they get
every one. See broadcasters.py for what each server is, and write_loop.c.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import figures, home, references
from benchmarks.talking import answer, is_open, line, say, talking

ROOT = Path(__file__).resolve().parents[1]
HIVECTL, NATS, C_LOOP = "hivectl", "nats-server", "C write loop"
WEBSOCKETS, FASTAPI = "websockets.broadcast", "FastAPI loop"
KINDS = {HIVECTL: "hivectl", WEBSOCKETS: "websockets", FASTAPI: "fastapi", NATS: "nats"}
FLAT_OUT, WAITS_FOR_NOBODY = 0, -1
NATS_FILE = """
listen: 127.0.0.1:{port}
websocket {{ listen: "127.0.0.1:{socket}", no_tls: true }}
max_connections: 20000
write_deadline: "60s"
max_pending: 1GB
"""
"""Patient, so that it drops no viewer that is only slow."""
TRIES = 3


@dataclass(frozen=True)
class Load:
    """How many are told how much. `rate` in events a second, or one of the constants above."""

    viewers: int
    events: int
    rate: int = FLAT_OUT
    size: int = 300
    stalled: int = 0


@dataclass(frozen=True)
class Told:
    """What one round showed."""

    seated: Mapping[str, float]
    """Microseconds a viewer needs to be connected, and to follow."""
    viewer_kb: float
    """Private memory of the server, each viewer."""
    seen: Mapping[str, float]
    """What crowd.c counted."""
    late: Mapping[str, float] | None
    """The same of those that stalled, once they read on."""
    cpu_us: float
    """Of the server, each delivery."""
    growth_mb: float
    """Most resident memory while it told, above what it had before."""

    @property
    def rate(self) -> float:
        """Deliveries a second, from the making of the first event to the arrival of the last."""
        return self.seen["deliveries"] / self.seen["took_s"]

    @property
    def is_whole(self) -> bool:
        """Whether each viewer got everything."""
        return not self.seen["broken"] and not (self.late and self.late["broken"])


def offered(names: tuple[str, ...]) -> list[str]:
    """Those of the references that are here; the others are told."""
    needed = {NATS: references.NATS, FASTAPI: references.FASTAPI}
    return [name for name in names if name not in needed or references.find(needed[name])]


def tell_all(name: str, programs: Mapping[str, Path], load: Load, *, late: bool = False) -> Told:
    """One round in which nothing was lost; a reference may try again. Raises RuntimeError."""
    for _ in range(1 if name == HIVECTL else TRIES):
        told = tell(name, programs, load, late=late)
        if told.is_whole:
            return told
        figures.say(f"{name}: something was lost: {told.seen} {told.late or ''}")
    raise RuntimeError(f"{name}: something was lost")


def tell(name: str, programs: Mapping[str, Path], load: Load, *, late: bool = False) -> Told:
    """One round. With `late` those that stalled read on at the end."""
    with ExitStack() as stack:
        server, publisher, seat = stack.enter_context(_serve(name, programs, load))
        if name != C_LOOP:  # what the first one loads is no cost of each
            with talking([str(programs["crowd"]), *seat[:2], "1", "0", "0", *seat[2:]]) as first:
                line(first)
        before = home.private_kb(server)
        count = load.viewers + load.stalled
        numbers = map(str, (load.viewers, load.stalled, load.events))
        argv = [str(programs["crowd"]), *seat[:2], *numbers, *seat[2:]]
        crowd = stack.enter_context(talking(argv))
        seated = answer(crowd)
        viewer_kb = (home.private_kb(server) - before) / count
        cpu_ms = home.cpu_ms(server)
        with _watched(server) as growth_kb:
            say(publisher)
            seen = answer(crowd)
        cpu_ms = home.cpu_ms(server) - cpu_ms
        found = None
        if late:
            say(crowd)
            found = answer(crowd)
        deliveries = max(1.0, seen["deliveries"])
        return Told(
            seated, viewer_kb, seen, found, cpu_ms * 1000 / deliveries, max(growth_kb) / 1024
        )


@contextmanager
def _serve(
    name: str, programs: Mapping[str, Path], load: Load
) -> Iterator[tuple[int, subprocess.Popen[str], list[str]]]:
    """The server's pid, the process that begins when it is told to, and what crowd.c must know."""
    numbers = [str(number) for number in (load.events, load.rate, load.size)]
    if name == C_LOOP:
        argv = [str(programs["write_loop"]), str(load.viewers), *numbers]
        with talking(argv) as server:
            yield server.pid, server, ["plain", line(server), "-", "-"]
        return
    python = references.find(references.FASTAPI) if name == FASTAPI else None
    argv = [str(python or sys.executable), "-m", "benchmarks.broadcasters", KINDS[name], *numbers]
    if name == NATS:
        with _nats() as (pid, port, listens), talking([*argv, str(port)]) as publisher:
            line(publisher)
            yield pid, publisher, ["nats", str(listens), "-", "s"]
        return
    with talking(argv) as server:
        port, *rest = line(server).split()
        kind, what = ("hivectl", rest) if rest else ("plain", ["-", "-"])
        yield server.pid, server, [kind, port, *what]


@contextmanager
def _nats() -> Iterator[tuple[int, int, int]]:
    with home.temporary() as root, ExitStack() as stack:
        taken = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2)]
        port, listens = (one.getsockname()[1] for one in taken)
        stack.close()
        settings = root / "nats.conf"
        settings.write_text(NATS_FILE.format(port=port, socket=listens))
        with home.child(["nats-server", "-c", str(settings)]) as server:
            for one in (port, listens):
                home.until(lambda one=one: is_open(one), what="nats-server listens")
            yield server.pid, port, listens


@contextmanager
def _watched(pid: int) -> Iterator[list[int]]:
    """Growth of a process's memory in KB, looked at twenty times a second."""
    start = home.rss_kb(pid)
    grown, is_over = [0], threading.Event()

    def watch() -> None:
        while not is_over.wait(0.05):
            grown.append(home.rss_kb(pid) - start)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield grown
    finally:
        is_over.set()
        watcher.join()
        grown.append(home.rss_kb(pid) - start)
