"""Rows 4 and 13: a daemon that stood still while its runs wrote, and quiet runs beside a very loud one."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.faults.test_followers import connected, request
from tests.harness import history
from tests.harness.daemon import Daemon
from tests.harness.soak import Report, full
from tests.harness.waiting import eventually

Make = Callable[..., Daemon]
LINE = 10_000
"""Bytes of each event."""


# --- row 4: frozen ---------------------------------------------------------------------------------------


def _spooled(daemon: Daemon) -> int:
    return sum(path.stat().st_size for path in (daemon.home / "state" / "runs").glob("*/out.spool"))


def _until_written(daemon: Daemon, *, within_s: float) -> None:
    """A slow machine's runs are still writing: what is measured is to be the daemon's pace, not theirs."""

    def is_quiet() -> bool:
        before = _spooled(daemon)
        time.sleep(1)
        return _spooled(daemon) == before

    eventually(is_quiet, within_s=within_s, what="the runs have written all")


def _check_numbers(daemon: Daemon, project: str, count: int) -> None:
    """Each event once, in order; page by page, since all of them may be many."""
    number = after = seq = 0
    while True:
        page = daemon.call("get_messages", project=project, after=after, limit=200)
        for event in page["items"]:
            seq += 1
            assert event["seq"] == seq
            if event["type"] != "message" or event["data"].get("kind") != "assistant":
                continue
            number += 1
            (block,) = event["data"]["raw"]["message"]["content"]
            assert block["text"].startswith(f"event {number} of {count}")
        if page["next"] is None:
            break
        after = page["next"]
    assert number == count


def _frozen(make_daemon: Make, *, seconds: float, bytes_a_second: int) -> tuple[float, float]:
    """Two runs write while the daemon stands still; (megabytes that waited, seconds to catch up)."""
    daemon = make_daemon(settings={"execution.max_output_bytes": "4G"}).start()
    delay_ms = 2 * 1000 * LINE // bytes_a_second
    count = int(seconds * 0.9 * 1000 / delay_ms)
    runs = {}
    for name in ("left", "right"):
        daemon.project(name)
        runs[name] = daemon.execute(
            {"events": count, "bytes": LINE, "delay_ms": delay_ms}, project=name
        )
    for name, execution in runs.items():
        eventually(lambda n=name, x=execution: history.read(daemon, project=n).texts(x))  # type: ignore[misc]
    assert daemon.process is not None
    os.kill(daemon.process.pid, signal.SIGSTOP)
    before = _spooled(daemon)
    time.sleep(seconds)
    _until_written(daemon, within_s=5 * seconds + 10)
    waited = _spooled(daemon) - before
    os.kill(daemon.process.pid, signal.SIGCONT)
    begun = time.monotonic()
    for execution in runs.values():
        assert daemon.wait(execution, within_s=300)["state"] == "completed"
    took = time.monotonic() - begun
    for name in runs:
        _check_numbers(daemon, name, count)
    assert len(daemon.mock_starts()) == 2
    return waited / 1e6, took


@pytest.mark.timeout(120)
def test_a_frozen_daemon_loses_nothing(make_daemon: Make) -> None:
    waited, _took = _frozen(make_daemon, seconds=3, bytes_a_second=10_000_000)
    assert waited > 1, "the runs did write meanwhile"


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_daemon_frozen_for_a_minute_catches_up(make_daemon: Make, report: Report) -> None:
    seconds = full(60, least=5)
    waited, took = _frozen(make_daemon, seconds=seconds, bytes_a_second=10_000_000)
    report.count("seconds frozen", seconds)
    report.figure("output meanwhile", waited, "MB")
    report.figure("catch-up", waited / took, "MB/s", least=50)


# --- row 13: one loud, ten quiet -------------------------------------------------------------------------

QUIET = 10
PACE_MS = 100


async def _quiet_delays(daemon: Daemon, streams: list[str], until: asyncio.Event) -> list[float]:
    """Seconds from the writing of each quiet text to its arrival here, until all quiet runs have ended."""
    delays, ended = [], 0
    async with connected(daemon) as socket:
        await request(socket, 2, streams=streams, since="now")
        while ended < QUIET:
            frame = json.loads(await socket.recv())
            now = time.monotonic()
            if frame.get("id") == 2:
                until.set()
            if frame.get("method") != "event":
                continue
            event = frame["params"]
            ended += event["type"] == "execution.ended"
            if event["type"] == "message" and event["data"].get("kind") == "assistant":
                (block,) = event["data"]["raw"]["message"]["content"]
                delays.append(now - float(block["text"].rpartition(" at ")[2]))
    return delays


async def _beside_a_loud_one(
    daemon: Daemon, *, seconds: float, loud_bytes: int
) -> tuple[list[float], float]:
    """(sorted delays of the quiet ones, megabytes a second of the loud one)."""
    streams = [(await asyncio.to_thread(daemon.project, f"q{n}"))["stream"] for n in range(QUIET)]
    await asyncio.to_thread(daemon.project, "loud")
    ready = asyncio.Event()
    count = int(seconds * 1000 / PACE_MS)
    async with asyncio.TaskGroup() as group:
        heard = group.create_task(_quiet_delays(daemon, streams, ready))
        await ready.wait()
        loud = await asyncio.to_thread(
            daemon.execute, {"events": 1_000_000, "bytes": loud_bytes}, project="loud"
        )
        quiet = {"events": count, "delay_ms": PACE_MS, "stamp": True}
        for number in range(QUIET):
            await asyncio.to_thread(daemon.execute, quiet, project=f"q{number}")
        begun, before = time.monotonic(), await asyncio.to_thread(_spooled, daemon)
        await asyncio.sleep(seconds / 2)
        written = await asyncio.to_thread(_spooled, daemon) - before
        took = time.monotonic() - begun
    delays = sorted(heard.result())
    assert len(delays) == QUIET * count, "every quiet text was heard"
    killed = await asyncio.to_thread(daemon.call, "kill", execution=loud, mode="kill")
    assert killed["executions"][0]["state"] == "cancelled"
    return delays, written / took / 1e6


@pytest.mark.timeout(120)
async def test_quiet_runs_are_heard_beside_a_loud_one(make_daemon: Make) -> None:
    daemon = make_daemon(settings={"execution.max_live": 20, "execution.max_output_bytes": "8G"})
    await asyncio.to_thread(daemon.start)
    delays, _loud = await _beside_a_loud_one(daemon, seconds=2, loud_bytes=LINE)
    assert delays[0] > 0


@pytest.mark.soak
@pytest.mark.timeout(1200)
async def test_quiet_runs_are_heard_at_once_beside_one_that_writes_all_it_can(
    make_daemon: Make, report: Report
) -> None:
    daemon = make_daemon(settings={"execution.max_live": 20, "execution.max_output_bytes": "64G"})
    await asyncio.to_thread(daemon.start)
    seconds = full(20, least=3)
    delays, loud = await _beside_a_loud_one(daemon, seconds=seconds, loud_bytes=100_000)
    report.count("quiet events", len(delays))
    report.figure("the loud one wrote", loud, "MB/s")
    report.figure("delay of the quiet ones p50", delays[len(delays) // 2] * 1000, "ms")
    p99 = delays[len(delays) * 99 // 100] * 1000
    report.figure("delay of the quiet ones p99", p99, "ms", most=50)
