"""Metric 7: what Claude prints becomes log records, through the daemon's own code.

    python -m benchmarks.bench_ingest [--events 60000]

`hivectl` is a real Runner: ClaudeConversation.feed, drafts, Publisher, Journal.append; it reads from a pipe,
and (as the daemon does) from the file a shim spooled. References read the same pipe: `readline + json.loads`;
the same and a line written and flushed per event; the Python Agent SDK: its `query()` against a program that
prints the same lines. The log is on the disk of --dir (default: temporary place), its sync thread at work.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import figures, references
from hivectl import config
from hivectl.agents.claude_stream import ClaudeConversation
from hivectl.engine.bus import Bus
from hivectl.engine.publisher import Publisher
from hivectl.engine.runner import Runner, World
from hivectl.journal.writer import Journal, JournalLimits
from hivectl.kit import files
from hivectl.kit.aio import Nursery
from hivectl.kit.clock import SystemClock
from hivectl.model.project import Project, ProjectState
from hivectl.model.work import Execution, Options
from hivectl.ports import Exit, RunSpec, StopReason
from hivectl.store import projects, queue, work, workers
from hivectl.store.database import Database, Tx

ROOT = Path(__file__).resolve().parents[1]
SDK_READER = Path(__file__).with_name("sdk_reader.py")
EXECUTION = "x_06gzrec3f2t0vm54gc0g"
PROCESS = "pr_06gzrec3f2t0vm54gc0g"


@dataclass(frozen=True)
class Output:
    """What the mock printed: an init, then real assistant lines of about 1 KB, as many as wanted."""

    path: Path
    events: int
    session: str
    init: bytes
    result: bytes


def make_output(root: Path, events: int) -> Output:
    """Lines of the mock in a file; the result that ends a run is kept out of it."""
    prompt = f'mock: {{"events": {min(events, 2000)}, "bytes": 500, "seed": 1}}'
    env = {**os.environ, "HOME": str(root), "CLAUDE_CONFIG_DIR": str(root / "c")}
    argv = ["-p", prompt, "--output-format", "stream-json", "--verbose"]
    printed = subprocess.run(
        [sys.executable, "-m", "mock_claude", *argv],
        cwd=root,
        env={**env, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
    ).stdout.splitlines(keepends=True)
    said = [line for line in printed if line.startswith(b'{"type":"assistant"')]
    init = next(line for line in printed if b'"subtype":"init"' in line)
    path = root / "output.jsonl"
    with path.open("wb") as out:
        out.write(init)
        for start in range(0, events, len(said)):
            out.writelines(said[: events - start])
    return Output(path, events, json.loads(init)["session_id"], init, printed[-1])


# --- ours -----------------------------------------------------------------------------------------


class Spool:
    """A Handle as far as a Runner reads from one: a pipe, or a spool file."""

    process = PROCESS
    pid = None
    is_stalled = False
    is_supervised = True

    def __init__(self, fd: int, *, is_pipe: bool) -> None:
        self._fd = fd
        self._is_pipe = is_pipe
        self.exit: Exit | None = None

    def read(self, spool: str, offset: int, limit: int) -> bytes:
        if spool == "err":
            return b""
        data = os.read(self._fd, limit) if self._is_pipe else os.pread(self._fd, limit, offset)
        if not data:
            self.exit = Exit(reason=StopReason.EXITED, code=0)
        return data

    async def wait_change(self, _timeout_s: float) -> None:
        await asyncio.sleep(0)


def world(root: Path, db: Database, journal: Journal, publisher: Publisher, bus: Bus) -> World:
    """What a Runner needs where nothing happens but messages: no processes."""
    settings = config.load(env={"HIVECTL_HOME": str(root), "HOME": str(root)})
    shared: dict[str, Any] = {
        "settings": lambda: settings,
        "clock": SystemClock(),
        "journal": journal,
        "publisher": publisher,
        "bus": bus,
        "nursery": Nursery(lambda name, error: figures.say(f"{name}: {error!r}")),
        "deny_read": (),
    }
    return World(**shared, db=db, host=None, agent=None)  # type: ignore[arg-type]


def _running(tx: Tx, root: Path) -> Execution:
    """A project with one execution that runs: figures of its messages are stored."""
    project = Project(
        id="p_1", name="web", path=str(root), dev=1, ino=1, trust_hash=None, trust_broken=False, defaults={}, env={}, version=1,
        session=None, state=ProjectState.IDLE, error=None, executions=0, input_tokens=0, output_tokens=0, cost_usd=0.0,
        created_us=tx.now_us, activity_us=tx.now_us,
    )  # fmt: skip
    projects.insert(tx, project, limit=1, actor="user:bench", request="")
    wish = work.Wish(
        order="o_1", execution=EXECUTION, project=project, prompt="hi", prompt_uuid="u", message={"kind": "prompt"},
        session="new", fork=False, options={}, priority="normal", actor="user:bench", request="", key=None, hash="",
        refuse_if_busy=False, max_orders=1, key_age_us=1,
    )  # fmt: skip
    work.enqueue(tx, wish)
    workers.sync_slots(tx, default=1)
    queue.claim(tx, queue.Caps(max_live=1), process=PROCESS)
    return work.started(tx, EXECUTION, pid=1)


async def follow(root: Path, output: Output, fd: int, *, is_pipe: bool) -> tuple[float, float]:
    """Seconds of wall and CPU to bring all of it into a new log."""
    clock = SystemClock()
    journal = Journal(
        root / "journal", clock=clock, limits=JournalLimits(), boot_id=files.boot_id()
    )
    bus = Bus(journal, clock)
    publisher = Publisher(journal, bus, Nursery(lambda _name, _error: None))
    db = await Database.open(root / "hive.db", clock)
    publisher.attach(db)
    execution = await db.write(lambda tx: _running(tx, root))
    before = publisher.events
    runner = Runner(world(root, db, journal, publisher, bus), execution, is_adopting=False)
    # What `Runner._drive` does before it follows. The init was seen before: it would need a store.
    spec = RunSpec(
        execution=EXECUTION,
        prompt="",
        prompt_uuid="",
        cwd=root,
        session=output.session,
        resume=False,
        options=Options(),
        trusted=False,
        slash_commands=False,
    )
    conversation = ClaudeConversation(spec)
    conversation.feed(output.init, 0)
    rest = len(output.init)
    while is_pipe and rest:
        rest -= len(os.read(fd, rest))
    live, reader = runner._live, runner._reader
    live.stream = journal.open(execution.stream)
    told = live.log.last_seq
    live.handle = Spool(fd, is_pipe=is_pipe)  # type: ignore[assignment]
    live.conversation = conversation
    reader.begin(len(output.init), 0)
    start, cpu = time.perf_counter(), time.process_time()
    await reader.follow()
    took = time.perf_counter() - start, time.process_time() - cpu
    assert publisher.events - before == output.events == live.log.last_seq - told, publisher.events
    await db.close()
    await journal.close()
    return took


def ours_from_pipe(root: Path, output: Output, fd: int) -> tuple[float, float]:
    return asyncio.run(follow(root, output, fd, is_pipe=True))


def ours_from_spool(root: Path, output: Output) -> tuple[float, float]:
    with output.path.open("rb") as spool:
        return asyncio.run(follow(root, output, spool.fileno(), is_pipe=False))


# --- references -----------------------------------------------------------------------------------


def readline_json(_root: Path, output: Output, fd: int) -> tuple[float, float]:
    start, cpu = time.perf_counter(), time.process_time()
    events = -1
    with os.fdopen(os.dup(fd), "rb") as pipe:
        while line := pipe.readline():
            json.loads(line)
            events += 1
    assert events == output.events
    return time.perf_counter() - start, time.process_time() - cpu


def readline_json_log(root: Path, output: Output, fd: int) -> tuple[float, float]:
    """What one would write first: decoded, wrapped, written and flushed line by line."""
    start, cpu = time.perf_counter(), time.process_time()
    events = -1
    with os.fdopen(os.dup(fd)) as pipe, (root / "log.jsonl").open("w") as log:
        for line in pipe:
            events += 1
            record = {"seq": events, "ts": time.time(), "type": "message", "data": json.loads(line)}
            log.write(json.dumps(record) + "\n")
            log.flush()
    assert events == output.events
    return time.perf_counter() - start, time.process_time() - cpu


def sdk(python: Path, root: Path, output: Output) -> tuple[float, float]:
    """The official SDK's `query()` in a process of its own; it counts and measures itself."""
    (root / "result.jsonl").write_bytes(output.result)
    told = subprocess.run(
        [str(python), str(SDK_READER), str(output.path), str(root / "result.jsonl")],
        capture_output=True,
        check=True,
        timeout=120,
    ).stdout
    found = json.loads(told)
    assert found["events"] == output.events, found
    return found["wall_s"], found["cpu_s"]


Reader = Callable[[Path, Output, int], tuple[float, float]]


def through_pipe(root: Path, output: Output, read: Reader) -> tuple[float, float]:
    feeder = subprocess.Popen(["cat", str(output.path)], stdout=subprocess.PIPE)
    assert feeder.stdout is not None
    try:
        return read(root, output, feeder.stdout.fileno())
    finally:
        feeder.stdout.close()
        feeder.wait()


def measure(output: Output, report: figures.Report, sdk_python: Path | None, root: Path) -> None:
    """One round."""
    work: dict[str, Callable[[Path], tuple[float, float]]] = {
        "hivectl, spool": lambda room: ours_from_spool(room, output),
        "hivectl, pipe": lambda room: through_pipe(room, output, ours_from_pipe),
        "readline+json": lambda room: through_pipe(room, output, readline_json),
        "readline+json+log": lambda room: through_pipe(room, output, readline_json_log),
    }
    if sdk_python is not None:
        work["Python SDK"] = lambda room: sdk(sdk_python, room, output)
    for name, run in work.items():
        room = Path(tempfile.mkdtemp(dir=root))
        gc.collect()
        try:
            wall_s, cpu_s = run(room)
        finally:
            shutil.rmtree(room)
        report.add(name, output.events / wall_s, "events/s")
        report.add(f"{name}, CPU", cpu_s / output.events * 1e6, "us/event")


def main(argv: Sequence[str] | None = None) -> figures.Report:
    parser = figures.parser(__doc__)
    parser.add_argument("--events", type=int, help="events a round (40000; quick: 10000)")
    parser.add_argument("--dir", type=Path, help="where the log is made")
    options = figures.parse(parser, argv)
    events = options.given.events or (10_000 if options.is_quick else 40_000)
    report = figures.Report("ingest", f"7. Ingest, {events:,} events of 1.07 KB")
    root = Path(tempfile.mkdtemp(prefix="hivectl-bench-", dir=options.given.dir))
    try:
        output = make_output(root, events)
        sdk_python = references.find(references.PY_SDK)
        if sdk_python is None:
            report.note("The Python Agent SDK is not installed: no comparison with it.")
        for _ in range(options.rounds):
            measure(output, report, sdk_python, root)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    report.compare("hivectl, pipe", "Python SDK", ">= 3.5x")
    report.compare("hivectl, spool", "Python SDK", ">= 3.5x")
    report.compare("hivectl, spool, CPU", "Python SDK, CPU")
    report.compare("hivectl, pipe", "readline+json")
    report.compare("hivectl, pipe", "readline+json+log")
    report.compare("hivectl, pipe, CPU", "readline+json, CPU")
    report.compare("hivectl, pipe, CPU", "readline+json+log, CPU")
    return figures.finish(report, options)


if __name__ == "__main__":
    main()
