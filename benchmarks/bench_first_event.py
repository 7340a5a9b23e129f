"""Metric 8: from the request `execute` to Claude's first event at a viewer, over WebSocket.

    python -m benchmarks.bench_first_event [--runs 6]

The viewer is hivectl's own Python client; Claude is the mock, started under the shim. Beside it in every round:
the mock alone (from spawn to its first byte) and `python -c pass`. What hivectl adds is the difference to the
mock alone: the real Claude takes about half a second where the mock takes its few milliseconds.

Where there is a C compiler, the same with agent.c as Claude, which starts in a millisecond: hivectl, claude-code-ui,
`query()` of the Python SDK, and a bare `posix_spawn` with two pipes.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

from benchmarks import figures, home, native, references, road
from hivectl import config
from hivectl.client import Client
from tests.harness.daemon import Daemon

PROMPT = 'mock: {"events": 1}'
TURN = {
    "type": "user",
    "message": {"role": "user", "content": PROMPT},
    "parent_tool_use_id": None,
    "session_id": "",
}
FLAGS = ["-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"]


async def view_runs(daemon: Daemon, runs: int, project: str = "web") -> dict[str, float]:
    """Medians in ms from the request to: its answer, the shim's start, Claude's first event, the end."""
    found: dict[str, list[float]] = {}
    settings = config.load(env=daemon.env)
    async with (
        Client(settings, autostart=False) as client,
        client.subscribe([f"project:{project}"]) as viewer,
        aclosing(viewer.__aiter__()) as events,
    ):
        for _ in range(runs):
            start = time.perf_counter()
            answer = asyncio.ensure_future(client.execute(project, PROMPT))
            answer.add_done_callback(
                lambda _done, start=start: found.setdefault("answer", []).append(_ms(start))
            )
            seen: set[str] = set()
            async for event in events:
                data = event["data"]
                name = _milestone(event["type"], data)
                if name and name not in seen:
                    seen.add(name)
                    found.setdefault(name, []).append(_ms(start))
                if event["type"] == "project.state" and data["state"] == "idle":
                    break
            await answer
    return {name: statistics.median(taken) for name, taken in found.items()}


def _ms(start: float) -> float:
    return (time.perf_counter() - start) * 1000


def _milestone(kind: str, data: dict[str, object]) -> str:
    if kind == "message" and data.get("direction") == "out":
        return "first event"
    if kind == "execution.state" and data.get("state") == "running":
        return "Claude started"
    return {"execution.created": "accepted", "execution.ended": "ended"}.get(kind, "")


def first_line_ms(root: Path) -> float:
    """The mock alone, to the first byte of its first line."""
    env = {**os.environ, "HOME": str(root / "user"), "CLAUDE_CONFIG_DIR": str(root / "claude")}
    env["PYTHONPATH"] = str(Path(__file__).resolve().parents[1])
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-m", "mock_claude", *FLAGS],
        cwd=root / "projects" / "web",
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(TURN).encode() + b"\n")
        process.stdin.flush()
        process.stdout.read1(1)
        took = _ms(start)
        process.stdin.close()
        process.stdout.read()
    return took


AGENT_TURN = json.dumps({"type": "user", "message": {"content": road.PROMPT_OF_ONE}}).encode()
SDK_FIRST = Path(__file__).with_name("sdk_first.py")


def floor_ms(agent: Path) -> float:
    """`posix_spawn`, a prompt written, a first event read."""
    start = time.perf_counter()
    (their_in, our_out), (our_in, their_out) = os.pipe(), os.pipe()
    dup = [(os.POSIX_SPAWN_DUP2, their_in, 0), (os.POSIX_SPAWN_DUP2, their_out, 1)]
    pid = os.posix_spawn(agent, [str(agent)], {}, file_actions=dup)
    os.close(their_in)
    os.close(their_out)
    os.write(our_out, AGENT_TURN + b"\n")
    said = b""
    while b'"assistant"' not in said:
        said += os.read(our_in, 65536)
    took = _ms(start)
    os.close(our_out)
    os.close(our_in)
    os.waitpid(pid, 0)
    return took


def sdk_ms(python: Path, agent: Path, runs: int) -> float:
    """The Python SDK, imported already: its median."""
    argv = [str(python), str(SDK_FIRST), str(agent), str(runs), road.PROMPT_OF_ONE]
    return float(subprocess.run(argv, capture_output=True, check=True, timeout=120).stdout)


def with_quick_claude(report: figures.Report, agent: Path, runs: int) -> None:
    """One round with agent.c as Claude."""
    for name in road.offered(road.HIVECTL, road.CODE_UI):
        with road.serve(name, agent) as served:
            road.first_ms(served)
            took = median_of(runs, road.first_ms, served)
        report.add(f"{name}, quick Claude", took, "ms")
    if python := references.find(references.PY_SDK):
        report.add("Python SDK, quick Claude", sdk_ms(python, agent, runs), "ms")
    report.add("posix_spawn, quick Claude", median_of(runs, floor_ms, agent), "ms")


def median_of(runs: int, work: object, *args: object) -> float:
    assert callable(work)
    return statistics.median(work(*args) for _ in range(runs))


def main(argv: Sequence[str] | None = None) -> figures.Report:
    parser = figures.parser(__doc__)
    parser.add_argument(
        "--runs", type=int, help="runs a round, of which the median counts (8; quick: 3)"
    )
    options = figures.parse(parser, argv)
    runs = options.given.runs or (3 if options.is_quick else 8)
    report = figures.Report("first_event", "8. From `execute` to Claude's first event at a viewer")
    with home.temporary() as root, home.daemon(root) as daemon:
        daemon.start()
        daemon.project()
        daemon.run(PROMPT)
        programs = native.compile_into(root, "agent")
        for _ in range(options.rounds):
            for name, took in asyncio.run(view_runs(daemon, runs)).items():
                report.add(f"hivectl, {name}", took, "ms")
            mock = median_of(runs, first_line_ms, root)
            report.add("mock alone, first line", mock, "ms")
            report.add("python -c pass", median_of(runs, home.wall_ms, home.PASS), "ms")
            ours = report.series["hivectl, first event"][-1]
            report.add("hivectl's own part", ours - mock, "ms")
            if programs:
                with_quick_claude(report, programs["agent"], runs)
    report.compare("hivectl, first event", "mock alone, first line")
    report.compare("hivectl's own part", "python -c pass")
    for name in ("posix_spawn", "Python SDK", road.CODE_UI):
        report.compare("hivectl, quick Claude", f"{name}, quick Claude")
    report.note("Target: hivectl's own part at most 40 ms.")
    return figures.finish(report, options)


if __name__ == "__main__":
    main()
