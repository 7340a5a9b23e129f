"""The whole road of an event: agents that print, a server, its log, its viewers. hivectl and what one would compare it with.

Claude is agent.c for all, which numbers what it prints and says when it did; the viewers (crowd.c, many, or
lone_viewer.py, one) are the same for all, on TCP on loopback, and check that they got each number. hivectl is the real
daemon with its shims, spools, database and log, and with its token.
"""

from __future__ import annotations

import http.client
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import home, references, talking
from tests.harness import processes
from tests.harness.daemon import Daemon

ROOT = Path(__file__).resolve().parents[1]
HIVECTL, OBVIOUS, CODE_UI = "hivectl", "obvious daemon", "claude-code-ui"
VIEWED_AS = {HIVECTL: "hivectl", OBVIOUS: "obvious", CODE_UI: "claude-code-ui"}
LINGER_MS = 1500
"""How long an agent stays after its last message: its shim is measured in that time."""
PROMPT_OF_ONE = "bench: agent=0 events=1"
SETTLE_S = 0.25
"""An agent's share of the time before all begin to print at once: their starts are not what is measured."""


@dataclass(frozen=True)
class Work:
    """What the agents print. `rate` events a second of them all together, 0: flat out."""

    agents: int
    events: int
    rate: int = 0
    size: int = 1000

    def prompt(self, agent: int, at_ns: int) -> str:
        rate = self.rate / self.agents
        return (
            f"bench: agent={agent} events={self.events // self.agents} rate={rate:.0f}"
            f" size={self.size} at={at_ns} linger={LINGER_MS}"
        )

    def prompts(self, at_ns: int) -> list[str]:
        return [self.prompt(agent, at_ns) for agent in range(self.agents)]

    @property
    def total(self) -> int:
        return self.events // self.agents * self.agents


@dataclass(frozen=True)
class Served:
    """A server that runs."""

    name: str
    pid: int
    port: int
    token: str
    place: str
    """What a lone viewer must name: a project, or a directory."""
    begin: Callable[[list[str]], None]
    """Start an agent with each prompt."""
    helpers: Callable[[], list[int]]
    """Further processes of the server's: hivectl's shims."""

    @property
    def url(self) -> str:
        token = f"?token={self.token}" if self.name == CODE_UI else ""
        return f"ws://127.0.0.1:{self.port}/ws{token}"


@contextmanager
def serve(name: str, agent: Path, agents: int = 1) -> Iterator[Served]:
    make = {HIVECTL: hivectl, OBVIOUS: obvious, CODE_UI: code_ui}[name]
    with home.temporary() as root, make(root, agent, agents) as served:
        yield served


def offered(*names: str) -> list[str]:
    """Those that are here; the others are told."""
    needed = {CODE_UI: references.CLAUDE_CODE_UI}
    return [name for name in names if name not in needed or references.find(needed[name])]


# --- the servers ------------------------------------------------------------------------------------------


@contextmanager
def hivectl(root: Path, agent: Path, agents: int) -> Iterator[Served]:
    settings = {
        "daemon.log_level": "warning",
        "limits.connections": 2_000,
        "limits.unauthenticated": 2_000,
        "listen.tcp": "127.0.0.1:0",
        "worker.slots": max(agents, 2),
    }
    daemon = Daemon(root, settings=settings, env={"HIVECTL_CLAUDE_BIN": str(agent)})
    try:
        daemon.start()
        projects = [daemon.project(f"p{number}") for number in range(agents)]
        address = json.loads((daemon.home / "run" / "daemon.json").read_text())["tcp"]
        token = next(daemon.home.rglob("token")).read_text().strip()
        assert daemon.process is not None

        def begin(prompts: list[str]) -> None:
            for number, prompt in enumerate(prompts):
                daemon.execute(prompt, project=f"p{number}")

        yield Served(
            HIVECTL,
            daemon.process.pid,
            int(address.rpartition(":")[2]),
            token,
            str(projects[0]["id"]),
            begin,
            lambda: [one.pid for one in processes.belonging_to(root) if _is_shim(one)],
        )
    finally:
        daemon.close()


def _is_shim(process: processes.Process) -> bool:
    return any("/procs/" in part and "shim" in part for part in process.argv)


@contextmanager
def obvious(root: Path, agent: Path, _agents: int) -> Iterator[Served]:
    port = talking.free_port()
    argv = [sys.executable, "-m", "benchmarks.obvious", str(port), str(agent)]
    with home.child([*argv, str(root / "log.jsonl")], {"PYTHONPATH": str(ROOT)}) as server:
        home.until(lambda: talking.is_open(port), what="the obvious daemon listens")

        def begin(prompts: list[str]) -> None:
            for prompt in prompts:
                _post(port, "/run", prompt)

        yield Served(OBVIOUS, server.pid, port, "-", "-", begin, list)


@contextmanager
def code_ui(root: Path, agent: Path, _agents: int) -> Iterator[Served]:
    """Its one user is made; its runs are started by their viewer."""
    with code_ui_process(root, agent) as (pid, port):
        who = {"username": "bench", "password": "benchmark"}
        token = json.loads(_post(port, "/api/auth/register", json.dumps(who)))["token"]

        def begin(_prompts: list[str]) -> None:
            raise NotImplementedError

        yield Served(CODE_UI, pid, port, token, str(root / "project"), begin, list)


@contextmanager
def code_ui_process(root: Path, agent: Path) -> Iterator[tuple[int, int]]:
    """Its pid and port, once it answers. What it may reach, and what it takes for Claude: code_ui.cjs."""
    package = references.find(references.CLAUDE_CODE_UI)
    assert package is not None
    port = talking.free_port()
    preload = Path(__file__).with_name("code_ui.cjs")
    argv = ["node", "--require", str(preload), str(package / "server" / "cli.js")]
    env = {
        "HOME": str(root),
        "PORT": str(port),
        "DATABASE_PATH": str(root / "auth.db"),
        "BENCH_CLAUDE": str(agent),
    }
    (root / ".claude" / "projects").mkdir(parents=True)
    (root / "project").mkdir()
    with home.child(argv, env) as server:
        home.until(lambda: _is_healthy(port), what="claude-code-ui answers")
        yield server.pid, port


def _is_healthy(port: int) -> bool:
    return talking.is_open(port) and bool(_post(port, "/health", "", method="GET"))


def _post(port: int, path: str, body: str, method: str = "POST") -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Content-Type": "application/json", "Connection": "close"}
    try:
        connection.request(method, path, body=body.encode() or None, headers=headers)
        with connection.getresponse() as response:
            text = response.read().decode()
    finally:
        connection.close()
    if response.status >= 300:
        raise RuntimeError(f"{path}: {response.status} {text[:200]}")
    return text


# --- what was seen ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What the viewers saw of one round, and what it cost."""

    events: int
    took_s: float
    """From the making of the first event to the arrival of the last."""
    p50_us: float
    p99_us: float
    cpu_us: float
    """Of the server alone, each event."""
    helpers_us: float | None
    """Of its shims; None where one ended before it could be looked at."""

    @property
    def rate(self) -> float:
        return self.events / self.took_s


def watch(served: Served, programs: Mapping[str, Path], work: Work, viewers: int) -> Seen:
    """Many viewers. Raises RuntimeError when one did not get every event."""
    kind = "hivectl" if served.name == HIVECTL else "plain"
    seat = [kind, str(served.port), str(viewers), "0", str(work.total), served.token, "*"]
    with talking.talking([str(programs["crowd"]), *seat, str(work.agents)]) as crowd:
        talking.line(crowd)
        at_ns = _soon(work)
        served.begin(work.prompts(at_ns))
        before = _used_at(served, at_ns)
        found = talking.answer(crowd)
        return _seen(served, found, work, before, int(found["deliveries"]) // viewers)


def view(served: Served, work: Work) -> Seen:
    """One viewer in Python, who also starts the run. Raises RuntimeError when something was lost."""
    at_ns = _soon(work)
    argv = [sys.executable, "-m", "benchmarks.lone_viewer", VIEWED_AS[served.name], served.url]
    told = [served.token, served.place, str(work.total), work.prompt(0, at_ns)]
    with talking.talking([*argv, *told]) as viewer:
        before = _used_at(served, at_ns)
        found = talking.answer(viewer)
        return _seen(served, found, work, before, int(found["events"]))


def _soon(work: Work) -> int:
    return time.monotonic_ns() + int((1 + SETTLE_S * work.agents) * 1e9)


def first_ms(served: Served) -> float:
    """From the giving of a prompt to the first event at a viewer in Python; the last run is over."""
    home.until(lambda: not served.helpers(), what="the run before is over")
    argv = [sys.executable, "-m", "benchmarks.lone_viewer", VIEWED_AS[served.name], served.url]
    with talking.talking([*argv, served.token, served.place, "1", PROMPT_OF_ONE]) as viewer:
        found = talking.answer(viewer)
    if found["broken"]:
        raise RuntimeError(f"{served.name}: its first event did not come")
    return float(found["first_ms"])


def _used_at(served: Served, at_ns: int) -> tuple[float, dict[int, float]]:
    """CPU of the server and of each of its helpers, in ms, just before that time."""
    time.sleep(max(0.0, (at_ns - time.monotonic_ns()) / 1e9 - 0.1))
    return _used(served)


def _used(served: Served) -> tuple[float, dict[int, float]]:
    return home.cpu_ms(served.pid), {pid: home.cpu_ms(pid) for pid in served.helpers()}


def _seen(
    served: Served,
    found: Mapping[str, Any],
    work: Work,
    before: tuple[float, dict[int, float]],
    events: int,
) -> Seen:
    own_ms, helpers_ms = _used(served)
    if found["broken"] or events != work.total:
        raise RuntimeError(f"{served.name}: something was lost: {found}")
    helpers_us = None
    if helpers_ms.keys() == before[1].keys():
        helpers_us = (sum(helpers_ms.values()) - sum(before[1].values())) * 1000 / events
    own_us = (own_ms - before[0]) * 1000 / events
    return Seen(events, found["took_s"], found["p50_us"], found["p99_us"], own_us, helpers_us)
