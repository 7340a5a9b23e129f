"""Row 14 and the history checker: whoever follows sees the same, whole, through kills and disconnections."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, unix_connect
from websockets.exceptions import WebSocketException

from hivectl import config
from hivectl.client import Client, Notice
from hivectl.server.limits import CHUNK_BYTES
from hivectl.testing.server_world import HistoryChecker
from tests.harness import history
from tests.harness.daemon import Daemon, mock
from tests.harness.soak import Report, full

Make = Callable[..., Daemon]
Event = dict[str, Any]
PROJECTS = 4


class Watcher:
    """A client that goes away at random and resumes from what it has seen, in several subscriptions."""

    def __init__(self, daemon: Daemon, chance: random.Random, streams: list[str]) -> None:
        self.daemon = daemon
        self.chance = chance
        self.streams = streams
        self.checker = HistoryChecker()
        self.events: dict[tuple[str, int], Event] = {}
        self.visits = 0

    async def run(self, is_over: asyncio.Event, last: Callable[[], dict[str, int]]) -> None:
        """Visit after visit until everything up to `last` was seen."""
        while not (is_over.is_set() and self._has(last())):
            stay_s = None if is_over.is_set() else self.chance.uniform(0.05, 0.8)
            # a refused or broken connection is what this is about
            with suppress(OSError, WebSocketException, TimeoutError):
                await self._visit(stay_s, last if stay_s is None else None)
            await asyncio.sleep(self.chance.uniform(0, 0.1))

    def _has(self, last: dict[str, int]) -> bool:
        return all((self.checker.seen.get(stream) or [0])[-1] >= last[stream] for stream in last)

    async def _visit(
        self, stay_s: float | None, until: Callable[[], dict[str, int]] | None
    ) -> None:
        self.visits += 1
        async with connected(self.daemon) as socket:
            places = {stream: self.checker.position(stream) for stream in self.streams}
            for number, (stream, place) in enumerate(places.items(), 2):
                await request(socket, number, streams=[stream], since=place or "start")
            if self.chance.random() < 0.5:  # the same again, overlapping: shown once all the same
                await request(
                    socket, 99, streams=self.streams[:1], since=places[self.streams[0]] or "start"
                )
            async with asyncio.timeout(stay_s if stay_s is not None else 20):
                while until is None or not self._has(until()):
                    frame = json.loads(await socket.recv())
                    if frame.get("method") == "event":
                        self._take(frame["params"])
            if self.chance.random() < 0.5:
                socket.transport.abort()

    def _take(self, event: Event) -> None:
        self.checker.feed(event)
        if "seq" in event:
            key = (event["stream"], event["seq"])
            known = self.events.setdefault(key, event)
            assert known == event, "an event was shown twice and differs"


@asynccontextmanager
async def connected(daemon: Daemon, **how: Any) -> AsyncIterator[ClientConnection]:
    """An authenticated connection."""
    async with unix_connect(
        str(daemon.socket), "ws://localhost/ws", open_timeout=5, close_timeout=1, **how
    ) as socket:
        await request(socket, 1, method="auth", client={"name": "watcher", "version": "1"})
        yield socket


async def request(
    socket: ClientConnection, number: int, *, method: str = "subscribe", **params: Any
) -> None:
    """Send a request; its answer comes among the events."""
    frame = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
    await socket.send(json.dumps(frame))


async def _follow_with_our_client(
    daemon: Daemon, stream: str, last: Callable[[], int | None]
) -> list[Event]:
    """What the client library shows, which reconnects by itself."""
    seen: list[Event] = []
    settings = config.load(env=daemon.env)
    async with (
        Client(settings, autostart=False) as client,
        client.subscribe([stream], since="start") as following,
    ):
        async for item in following.items():
            if not isinstance(item, Notice) and "seq" in item:
                seen.append(dict(item))
            wanted = last()
            if wanted is not None and seen and seen[-1]["seq"] >= wanted:
                return seen
    raise AssertionError("the subscription ended")


async def _check_history(daemon: Daemon, *, kills: int, seed: int, watchers: int) -> None:
    chance = random.Random(seed)
    streams = []
    for number in range(PROJECTS):
        created = await asyncio.to_thread(daemon.project, f"p{number}")
        streams.append(created["stream"])
    is_over = asyncio.Event()
    last: dict[str, int] = {}
    crowd = [
        Watcher(
            daemon, random.Random(seed + n), chance.sample(streams, chance.randint(1, PROJECTS))
        )
        for n in range(watchers)
    ]

    def last_of(watcher: Watcher) -> dict[str, int]:
        return {stream: last.get(stream, 1 << 60) for stream in watcher.streams}

    async with asyncio.TaskGroup() as group:
        for watcher in crowd:
            group.create_task(watcher.run(is_over, lambda w=watcher: last_of(w)))
        ours = group.create_task(
            _follow_with_our_client(daemon, streams[0], lambda: last.get(streams[0]))
        )
        for number in range(kills):
            for name in range(PROJECTS):
                await asyncio.to_thread(
                    daemon.keep_calling,
                    "execute",
                    project=f"p{name}",
                    prompt=mock(events=60, delay_ms=5, bytes=chance.choice([50, 3000])),
                    idempotency_key=f"{number}-{name}",
                )
            await asyncio.sleep(chance.uniform(0.1, 0.8))
            await asyncio.to_thread(daemon.restart)
        items = await asyncio.to_thread(daemon.call, "execution.list", limit=1000)
        for item in items["items"]:  # the newest first: the whole queue stands before it
            await asyncio.to_thread(daemon.wait, item["execution"], within_s=90 + 3 * kills)
        for name, stream in enumerate(streams):
            told = await asyncio.to_thread(history.read, daemon, project=f"p{name}")
            last[stream] = told.check().events[-1]["seq"]
        is_over.set()
        # one more event each, so that a client which only listens learns that it is over
        for name in range(PROJECTS):
            await asyncio.to_thread(daemon.call, "session.new", project=f"p{name}")
    truth = {
        (event["stream"], event["seq"]): event
        for name in range(PROJECTS)
        for event in (await asyncio.to_thread(history.read, daemon, project=f"p{name}")).events
    }
    for watcher in crowd:
        wanted = {stream: watcher.checker.seen[stream][-1] for stream in watcher.streams}
        assert all(wanted[stream] >= last[stream] for stream in watcher.streams)
        assert watcher.checker.check(wanted) == []
        assert {key: truth[key] for key in watcher.events} == watcher.events
        assert watcher.visits > 1
    seen = ours.result()
    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))
    assert all(truth[event["stream"], event["seq"]] == event for event in seen)


@pytest.mark.timeout(120)
async def test_random_clients_all_see_the_same_dense_history(make_daemon: Make) -> None:
    daemon = make_daemon()
    await asyncio.to_thread(daemon.start)
    await _check_history(daemon, kills=6, seed=5, watchers=6)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_many_clients_through_two_hundred_kills_see_the_same_history(
    make_daemon: Make, report: Report
) -> None:
    daemon = make_daemon()
    await asyncio.to_thread(daemon.start)
    await _check_history(daemon, kills=full(200), seed=17, watchers=20)
    report.count("clients", 20)
    report.count("kills", daemon.kills)


ARRIVING = 100
"""Most followers on their way in at once: a daemon refuses more than 256 connections that have asked nothing yet."""


# --- row 14 -----------------------------------------------------------------------------------------------


async def _count_events(daemon: Daemon, stream: str, until: asyncio.Event) -> list[float]:
    """Delays of the events a reader met, in seconds, until a marker event."""
    delays = []
    async with connected(daemon) as socket:
        await request(socket, 2, streams=[stream], since="now")
        while True:
            frame = json.loads(await socket.recv())
            if frame.get("id") == 2:
                until.set()
            if frame.get("method") != "event" or "seq" not in frame["params"]:
                continue
            event = frame["params"]
            assert event["stream"] == stream
            if event["type"] == "execution.ended":
                return delays
            written = time.mktime(time.strptime(event["ts"][:19], "%Y-%m-%dT%H:%M:%S"))
            fraction = float("0" + event["ts"][19:].rstrip("Z"))
            delays.append(time.time() - (written - time.timezone + fraction))


def _rss(daemon: Daemon) -> int:
    assert daemon.process is not None
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(next(x for x in status.splitlines() if x.startswith("VmRSS")).split()[1]) * 1024


async def _crowd(
    daemon: Daemon, *, followers: int, events: int, pace_ms: int = 2
) -> tuple[float, float]:
    """The 99th percentile of the readers' delays in ms, and by how many MiB memory grew."""
    project = await asyncio.to_thread(daemon.project)
    stream = project["stream"]
    await asyncio.to_thread(daemon.run, "first")
    before = _rss(daemon)
    ready = [asyncio.Event() for _ in range(followers)]
    async with connected(daemon, max_queue=1) as lazy:
        await request(lazy, 2, streams=[stream], since="now")
        async with asyncio.TaskGroup() as group:
            readers = []
            for number, event in enumerate(ready):
                readers.append(group.create_task(_count_events(daemon, stream, event)))
                if number >= ARRIVING:  # more at once than may be without a request are refused
                    await ready[number - ARRIVING].wait()
            for event in ready:
                await event.wait()
            execution = await asyncio.to_thread(
                daemon.execute, {"events": events, "bytes": 2000, "delay_ms": pace_ms}
            )
        ended = await asyncio.to_thread(daemon.wait, execution)
        assert ended["state"] == "completed"
        grown = _rss(daemon) - before
        counts = {len(reader.result()) for reader in readers}
        assert len(counts) == 1, "every reader met the same events"
        assert counts.pop() > events
        delays = sorted(delay for reader in readers for delay in reader.result())
        held = followers * 2 * CHUNK_BYTES
        assert grown < held + (64 << 20), (
            "one that lags holds a chunk or two, whatever is published"
        )
        # and now it reads: whatever it is told, what it gets is dense
        checker = HistoryChecker()
        with suppress(WebSocketException, TimeoutError):
            async with asyncio.timeout(10):
                while True:
                    frame = json.loads(await lazy.recv())
                    if frame.get("method") == "event":
                        checker.feed(frame["params"])
                        if frame["params"]["type"] == "execution.ended":
                            break
        assert checker.faults == []
        return delays[len(delays) * 99 // 100] * 1000, grown / (1 << 20)


@pytest.mark.timeout(120)
async def test_one_follower_that_does_not_read_costs_the_others_nothing(make_daemon: Make) -> None:
    daemon = make_daemon()
    await asyncio.to_thread(daemon.start)
    await _crowd(daemon, followers=20, events=400)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_five_hundred_followers_and_one_that_does_not_read(
    make_daemon: Make, report: Report
) -> None:
    daemon = make_daemon(settings={"limits.connections": 600, "limits.unauthenticated": 600})
    await asyncio.to_thread(daemon.start)
    followers = full(500, least=10)
    # 10,000 events a second in all: what this one process, which reads for all of them, can take
    events = full(1000, least=100)
    p99, grown = await _crowd(daemon, followers=followers, events=events, pace_ms=50)
    report.count("followers", followers)
    report.figure("delay of the readers p99", p99, "ms", most=100)
    report.figure("memory grew by", grown, "MB", most=64)
