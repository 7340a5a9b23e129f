"""The hub's pace, in virtual time: connections are pretended, what a write costs is told, the journal is real."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from hivectl import config
from hivectl.engine import bus as bus_module
from hivectl.engine.bus import Bus
from hivectl.journal.record import Draft
from hivectl.journal.writer import Journal
from hivectl.server.follower import Follower
from hivectl.server.hub import AHEAD_S, DUTY, LONGEST_REST_S, PAGE_EVENTS, Hub
from hivectl.server.limits import read_limits
from hivectl.server.subscription import Cursor, Subscription

pytestmark = pytest.mark.looptime
A, B = "project:p_a", "project:p_b"


class SpentClock:
    """The loop's virtual time, and what writing has taken on top of it."""

    def __init__(self) -> None:
        self.spent_s = 0.0

    def now_us(self) -> int:
        return 1_700_000_000_000_000

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() + self.spent_s


class Line:
    """A connection that takes `cost_s` for each write, and stops reading when told to."""

    def __init__(self, world: World, cost_s: float) -> None:
        self.world = world
        self.cost_s = cost_s
        self.is_free = True
        self.writes: list[tuple[float, bytes]] = []
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.tasks: list[asyncio.Task[Any]] = []
        self.follower = Follower(world.hub, self)

    def can_write(self) -> bool:
        return self.is_free

    async def drained(self) -> None:
        while not self.is_free:
            await asyncio.sleep(1)

    def write(self, data: bytes) -> None:
        self.world.clock.spent_s += self.cost_s
        self.writes.append((self.world.clock.monotonic(), data))

    def notify(self, method: str, params: dict[str, Any]) -> None:
        self.said.append((method, params))

    def start_task(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self.tasks.append(asyncio.get_running_loop().create_task(work, name=name))

    def wake(self, due: float) -> None:
        pass

    def fail(self, code: int, reason: str) -> None:
        raise AssertionError((code, reason))

    def follow(self, *streams: str, name: str = "s1", types: list[str] | None = None) -> None:
        bus, selectors = self.world.bus, self.world.hub.selectors
        sub = Subscription(
            name, homes=streams, views=(), globs=types, partials=False, selectors=selectors
        )
        for stream in streams:
            head = bus.head(stream)
            sub.cursors[stream] = Cursor(
                sub,
                stream,
                epoch=head.epoch,
                after=head.last_seq,
                target=head.last_seq,
                selector=sub.selector_of(stream),
            )
        self.follower.start(sub)

    def seqs(self) -> list[int]:
        """Numbers of what was written, in order."""
        found, data = [], b"".join(data for _, data in self.writes)
        while data:
            size, head = data[1], 2
            if size == 126:
                size, head = int.from_bytes(data[2:4], "big"), 4
            elif size == 127:
                size, head = int.from_bytes(data[2:10], "big"), 10
            found.append(json.loads(data[head : head + size])["params"]["seq"])
            data = data[head + size :]
        return found


class World:
    """A journal, a bus and a hub."""

    def __init__(self, root: Path) -> None:
        self.clock = SpentClock()
        self.journal = Journal(root, clock=self.clock, boot_id="boot")
        self.bus = Bus(self.journal, self.clock)
        self.bus.ensure(A)
        self.bus.ensure(B)
        settings = config.load({}, {"HIVECTL_HOME": str(root), "HOME": str(root)})
        self.hub = Hub(self.bus, self.clock, read_limits(settings))

    def append(
        self, count: int = 1, *, stream: str = A, size: int = 10, kind: str = "message"
    ) -> int:
        log = self.journal.open(stream)
        entries = [Draft(kind, b'{"x":"%b"}' % (b"x" * size), 0) for _ in range(count)]
        log.append(entries)
        self.bus.notify(stream, entries)
        return log.last_seq

    def line(self, cost_s: float = 0.0) -> Line:
        return Line(self, cost_s)


@pytest.fixture
async def world(tmp_path: Path) -> Any:
    made = World(tmp_path / "journal")
    yield made
    made.hub.close()
    made.journal._close()


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def until(is_so: Callable[[], bool]) -> None:
    """Let threads work in real time; the virtual one stands still."""
    for _ in range(20_000):
        if is_so():
            return
        time.sleep(0.001)
        await asyncio.sleep(0)
    raise AssertionError("it did not come about")


async def test_a_lone_viewer_whose_writes_cost_next_to_nothing_never_waits(world: World) -> None:
    line = world.line(cost_s=0.0001)
    line.follow(A)
    for number in range(1, 20):
        world.append()
        await turns()
        assert line.seqs()[-1] == number
    assert asyncio.get_running_loop().time() == 0


async def test_after_a_flush_the_hub_rests_so_long_that_writing_takes_its_share(
    world: World,
) -> None:
    line = world.line(cost_s=0.010)
    line.follow(A)
    for _ in range(200):
        world.append()
        await asyncio.sleep(0.001)
    starts = [at - line.cost_s for at, _ in line.writes]
    periods = [after - before for before, after in pairwise(starts[1:])]
    assert len(periods) > 5
    assert all(period >= 0.010 / DUTY - 0.001 for period in periods)
    assert sum(periods) / len(periods) < 0.010 / DUTY + 0.003, "and no longer"
    await asyncio.sleep(0.1)
    assert line.seqs() == list(range(1, 201))


async def test_an_event_that_comes_a_little_early_does_not_wait(world: World) -> None:
    line = world.line(cost_s=0.002)
    line.follow(A)
    period, early = 0.002 / DUTY, AHEAD_S / 4
    for number in range(1, 100):
        world.append()
        await turns()
        assert line.seqs()[-1] == number
        await asyncio.sleep(period + early * (1 if number % 2 else -1))


async def test_no_rest_is_longer_than_the_longest(world: World) -> None:
    line = world.line(cost_s=2.0)
    line.follow(A)
    for _ in range(2):
        world.append()
        await asyncio.sleep(LONGEST_REST_S + 0.001)
    assert line.seqs() == [1, 2]


@pytest.mark.parametrize("bound", ["RING_FRAMES", "RING_BYTES"])
async def test_a_rest_is_over_when_memory_would_soon_be_too_small(
    world: World, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    line = world.line(cost_s=0.020)
    line.follow(A)
    world.append()
    await turns()
    frame = len(line.writes[0][1])
    most = {"RING_FRAMES": 80, "RING_BYTES": 84 * frame}[bound]
    monkeypatch.setattr(bus_module, bound, most)
    world.append(10)
    await turns()
    assert line.seqs() == [1], "it rests"
    world.append(1)
    await turns()
    assert line.seqs() == list(range(1, 13)), "an eighth of the memory is new"
    assert asyncio.get_running_loop().time() == 0


async def test_what_waits_at_the_end_of_a_flush_waits_for_the_end_of_the_rest(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = world.line(cost_s=0.010)
    line.follow(A)
    world.append(5, size=60_000)  # more than one chunk
    await turns()
    assert len(line.writes) == 1
    await asyncio.sleep(0.014 - AHEAD_S)
    assert len(line.writes) == 1
    await asyncio.sleep(0.002)
    assert len(line.writes) == 2
    await asyncio.sleep(1)
    assert line.seqs() == [1, 2, 3, 4, 5]


async def test_a_flush_that_takes_long_lets_others_have_the_loop_in_between(world: World) -> None:
    lines = [world.line(cost_s=0.002) for _ in range(20)]
    for line in lines:
        line.follow(A)
    world.append()
    await turns()
    served = sum(len(line.writes) for line in lines)
    assert 0 < served < 20
    world.append()
    await asyncio.sleep(1)
    assert all(line.seqs() == [1, 2] for line in lines)


async def test_who_is_at_the_same_place_is_given_the_same_bytes_in_one_write(world: World) -> None:
    lines = [world.line() for _ in range(3)]
    for line in lines:
        line.follow(A)
    filtered = world.line()
    filtered.follow(A, types=["stderr"])
    world.append(3)
    world.append(1, kind="stderr")
    await turns()
    assert [len(line.writes) for line in lines] == [1, 1, 1]
    assert len({id(line.writes[0][1]) for line in lines}) == 1
    assert filtered.seqs() == [4]


async def test_several_streams_of_one_connection_are_one_write(world: World) -> None:
    line = world.line()
    line.follow(A, B)
    world.append(2)
    world.append(1, stream=B)
    await turns()
    assert len(line.writes) == 1
    assert sorted(line.seqs()) == [1, 1, 2]


async def test_overlapping_subscriptions_show_an_event_once_and_in_order(world: World) -> None:
    line = world.line()
    line.follow(A)
    world.append(2)
    await turns()
    line.follow(A, B, name="s2")
    line.follow(A, name="s3", types=["stderr"])
    world.append(2)
    world.append(1, kind="stderr")
    await turns()
    assert line.seqs() == [1, 2, 3, 4, 5]
    assert line.follower.stop("s1")
    world.append(1)
    await turns()
    assert line.seqs() == [1, 2, 3, 4, 5, 6]


async def test_who_takes_nothing_is_left_alone_and_costs_the_others_nothing(world: World) -> None:
    stalled, healthy = world.line(cost_s=1), world.line()
    stalled.follow(A)
    healthy.follow(A)
    stalled.is_free = False
    for _ in range(50):
        world.append(100)
        await turns()
    assert healthy.seqs() == list(range(1, 5001))
    assert (stalled.writes, asyncio.get_running_loop().time()) == ([], 0)


@pytest.mark.parametrize("bound", ["RING_FRAMES", "RING_BYTES"])
async def test_behind_the_window_the_log_is_read_and_nothing_is_lost(
    world: World, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    monkeypatch.setattr(bus_module, bound, {"RING_FRAMES": 100, "RING_BYTES": 20_000}[bound])
    line, healthy = world.line(), world.line()
    line.follow(A)
    healthy.follow(A)
    line.is_free = False
    for _ in range(30):
        world.append(100)
        await turns()
    line.is_free = True
    line.follower.resume()
    await until(lambda: not line.follower.is_lagging and len(line.seqs()) >= 3000)
    assert [said[0] for said in line.said] == ["caught_up", "lagged"]
    assert line.said[1][1]["from"] == 1
    assert line.said[1][1]["to"] == 3000
    world.append(3)
    await until(lambda: len(line.seqs()) >= 3003)
    await until(lambda: len(healthy.seqs()) >= 3003)
    assert line.seqs() == healthy.seqs() == list(range(1, 3004))


async def test_rings_of_many_streams_are_bounded_together(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "ALL_RINGS_BYTES", 30_000)
    line = world.line()
    line.follow(A, B)
    for _ in range(20):
        world.append(10, size=1000)
        world.append(10, stream=B, size=1000)
        await turns()
    rings = world.bus._rings
    assert 0 < sum(ring.size_bytes for ring in rings.values()) == world.bus._ring_bytes <= 30_000
    line.follower.close()
    assert (world.bus._ring_bytes, world.hub.subscriptions) == (0, 0)


async def test_who_is_behind_reads_the_log_once_for_all_wherever_he_began(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_module, "RING_FRAMES", 10)
    reads = []
    read_log = world.bus.read_log

    def counted(*args: Any) -> Any:
        if args[2] != bus_module.RING_FRAMES:
            reads.append(args[1])
        return read_log(*args)

    monkeypatch.setattr(world.bus, "read_log", counted)
    lines = [world.line() for _ in range(5)]
    for line in lines:
        line.follow(A)
        world.append(3)  # so each begins elsewhere
        await turns()
        line.is_free = False
    world.append(10 * PAGE_EVENTS)
    await turns()
    for line in lines:
        line.is_free = True
        line.follower.resume()
    await until(lambda: all(line.seqs()[-1] == 15 + 10 * PAGE_EVENTS for line in lines))
    shared = [position for position in reads if position % PAGE_EVENTS == 0]
    assert len(shared) == len(set(shared)) >= 9
    assert len(reads) <= len(shared) + len(lines)
