"""Whatever happens to a client, by its cursors it ends with the same dense history as everyone."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from hivectl.engine import bus as bus_module
from hivectl.journal.writer import JournalLimits
from hivectl.testing.server_world import Client, HistoryChecker, ServerWorld

STREAMS = ["project:p_a", "project:p_b", "system"]


async def follow(
    world: ServerWorld, chance: random.Random, finish: asyncio.Event
) -> HistoryChecker:
    """Read, stall, disconnect without a word, come back by cursor; until everything was seen."""
    checker = HistoryChecker()
    while True:
        try:
            async with world.connect(max_queue=1) as client:
                await resume(client, checker)
                patience = chance.randint(1, 400)
                while patience or finish.is_set():
                    if finish.is_set() and is_complete(world, checker):
                        return checker
                    await take(client, checker)
                    patience -= patience > 0
                    if chance.random() < 0.01:
                        await asyncio.sleep(0.02)
                if chance.random() < 0.5:
                    client.socket.transport.abort()
        except (ConnectionClosed, InvalidHandshake, OSError):
            await asyncio.sleep(0.01)


async def resume(client: Client, checker: HistoryChecker) -> None:
    positions = {stream: checker.position(stream) for stream in STREAMS if checker.position(stream)}
    since = {"positions": positions} if positions else "start"
    result = await client.call("subscribe", streams=["*"], since=since)
    assert result["recovered"] is True


async def take(client: Client, checker: HistoryChecker) -> None:
    if client.frames:
        frame = client.frames.popleft()
    else:
        try:
            async with asyncio.timeout(0.05):
                frame = json.loads(await client.socket.recv())
        except TimeoutError:
            return
    assert frame.get("method") != "reset", frame
    if frame.get("method") == "event":
        checker.feed(frame["params"])


def is_complete(world: ServerWorld, checker: HistoryChecker) -> bool:
    for stream in STREAMS:
        position = checker.position(stream)
        if (position["seq"] if position else 0) < world.journal.open(stream).last_seq:
            return False
    return True


async def play(seed: int) -> None:
    chance = random.Random(seed)
    flags = {
        "limits.held_bytes": "64K",
        "limits.messages_per_s": 10_000,
        "limits.messages_burst": 10_000,
    }
    limits = JournalLimits(segment_lines=300, ring_lines=64, ring_bytes=32 * 1024)
    async with ServerWorld.open(flags, journal=limits) as world:
        finish = asyncio.Event()
        async with asyncio.timeout(50), asyncio.TaskGroup() as group:
            readers = [
                group.create_task(follow(world, random.Random(seed * 7 + n), finish))
                for n in range(3)
            ]
            for _ in range(chance.randint(10, 60)):
                stream = chance.choice(STREAMS)
                world.append(stream, chance.randint(1, 40), size=chance.choice([0, 50, 3000]))
                await asyncio.sleep(chance.choice([0, 0, 0.002]))
                if chance.random() < 0.03:
                    await world.stop()
                    await world.start()
            finish.set()
        last = {stream: world.journal.open(stream).last_seq for stream in STREAMS}
        for reader in readers:
            assert reader.result().check({s: n for s, n in last.items() if n}) == []


@pytest.fixture
def small_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory reaches back a little only, so that the log is read often."""
    monkeypatch.setattr(bus_module, "RING_FRAMES", 32)
    monkeypatch.setattr(bus_module, "RING_BYTES", 32 * 1024)
    monkeypatch.setattr(bus_module, "ALL_RINGS_BYTES", 64 * 1024)


@settings(
    max_examples=5, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(seed=st.integers(0, 1_000_000))
def test_every_client_ends_with_the_same_dense_history(seed: int, small_rings: None) -> None:
    asyncio.run(play(seed))


@pytest.mark.soak
@pytest.mark.timeout(900)
@settings(
    max_examples=200, deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(seed=st.integers())
def test_every_client_ends_with_the_same_dense_history_for_long(
    seed: int, small_rings: None
) -> None:
    asyncio.run(play(seed))
