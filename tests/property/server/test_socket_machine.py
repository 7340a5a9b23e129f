"""The socket against a model: whatever happens, each subscriber sees exactly its events, once and in order.

Subscriptions of all kinds, appends, reading late, broken connections, resuming, restarts over the same log
(orderly and not), history that was pruned, events without number. Viewers speak the raw protocol, or are
subscriptions of the shipped client.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from websockets.exceptions import ConnectionClosed

from hivectl.client import Notice
from hivectl.client.link import open_link
from hivectl.client.subscription import Subscription
from hivectl.client.transport import Endpoint
from hivectl.engine import bus as bus_module
from hivectl.engine.bus import Bus
from hivectl.journal.writer import Journal, JournalLimits
from hivectl.model.errors import TABLE
from hivectl.model.event import EVENTS
from hivectl.testing.server_world import CallError, Client, ServerWorld

STREAMS = ("project:p_a", "project:p_b", "system")
KINDS = ("message", "execution.state", "approval.requested", "queue.changed")
LIMITS = JournalLimits(segment_lines=40, ring_lines=16, ring_bytes=8 * 1024)
FLAGS = {"limits.held_bytes": "64K", "limits.messages_per_s": 10_000, "limits.messages_burst": 10_000, "listen.tcp": "off"}  # fmt: skip
ENOUGH_S = 20.0
SILENCE_S = 0.05
VIEWERS = 4

Place = dict[str, Any]


@dataclass
class Truth:
    """One home stream, as the log must hold it."""

    kinds: list[str] = field(default_factory=list)
    first: int = 1
    epoch: str = ""

    def after(self, seq: int) -> list[int]:
        return list(range(max(seq + 1, self.first), len(self.kinds) + 1))


@dataclass
class Wish:
    """What was asked for."""

    streams: tuple[str, ...]
    types: tuple[str, ...] | None
    partials: bool

    @property
    def homes(self) -> set[str]:
        return set(self.streams) & set(STREAMS)

    def sees(self, stream: str) -> bool:
        return stream in self.streams or bool(set(self.streams) - set(STREAMS))

    def wants(self, stream: str, kind: str) -> bool:
        if self.types is not None and not any(fnmatchcase(kind, glob) for glob in self.types):
            return False
        views = set(self.streams) - set(STREAMS)
        return stream in self.streams or "*" in views or bool(EVENTS[kind].views & views)


class RawViewer:
    """One connection with one subscription at a time, read only when the machine says so."""

    def __init__(self, machine: SocketMachine, wish: Wish) -> None:
        self.machine = machine
        self.wish = wish
        self.stack = AsyncExitStack()
        self.client: Client | None = None
        self.sub = ""
        self.target: dict[str, Place] = {}
        self.after: dict[str, int] = {}
        self.seen: dict[str, list[int]] = {}
        self.epochs: dict[str, str] = {}
        self.is_caught_up = False

    async def subscribe(self, since: Any, after: dict[str, int], reason: str | None) -> None:
        """Subscribe from `since`; the model says it starts behind `after`."""
        if self.client is None:
            self.client = await self.stack.enter_async_context(
                self.machine.world.connect(max_queue=1)
            )
        params = {
            "streams": list(self.wish.streams),
            "since": since,
            "partials": self.wish.partials,
        }
        if self.wish.types is not None:
            params["types"] = list(self.wish.types)
        result = await self.client.call("subscribe", **params)
        assert (result["recovered"], result["reason"]) == (reason is None, reason)
        self.sub, self.target = result["sub"], result["positions"]
        truths = self.machine.truths
        assert self.target == {
            stream: {"epoch": truths[stream].epoch, "seq": len(truths[stream].kinds)}
            for stream in STREAMS
            if self.wish.sees(stream)
        }
        self.after, self.seen = after, {stream: [] for stream in STREAMS}
        self.epochs = {stream: truths[stream].epoch for stream in STREAMS}
        self.is_caught_up = False

    def expected(self, stream: str) -> list[int]:
        truth = self.machine.truths[stream]
        if not self.wish.sees(stream):
            return []
        return [
            seq
            for seq in range(self.after[stream] + 1, len(truth.kinds) + 1)
            if self.wish.wants(stream, truth.kinds[seq - 1])
        ]

    async def read(self, most: int) -> None:
        """Read up to `most` frames, or until nothing comes."""
        assert self.client is not None
        for _ in range(most):
            frames = self.client.frames
            if frames:
                frame = frames.popleft()
            else:
                try:
                    async with asyncio.timeout(SILENCE_S):
                        frame = json.loads(await self.client.socket.recv())
                except TimeoutError:
                    return
            self.take(frame)

    def take(self, frame: dict[str, Any]) -> None:
        method, params = frame["method"], frame["params"]
        if method == "event":
            self.take_event(params)
        elif method == "caught_up":
            assert params["sub"] == self.sub
            assert not self.is_caught_up, "caught_up came twice"
            self.is_caught_up = True
            for stream, place in params["positions"].items():
                due = [seq for seq in self.expected(stream) if seq <= place["seq"]]
                assert self.seen[stream] == due, "caught_up does not stand behind what it speaks of"
                assert place["seq"] >= self.target.get(stream, {"seq": 0})["seq"]
        elif method == "lagged":
            assert params["sub"] == self.sub
            assert (
                1
                <= params["from"]
                <= params["to"]
                <= len(self.machine.truths[params["stream"]].kinds)
            )
        else:
            assert method in {"bookmark", "going_away"}, frame

    def take_event(self, event: dict[str, Any]) -> None:
        stream = event["stream"]
        if "seq" not in event:
            assert self.wish.partials
            assert self.wish.sees(stream)
            return
        assert event["epoch"] == self.epochs[stream]
        known, due = self.seen[stream], self.expected(stream)
        assert len(known) < len(due), f"{stream} {event['seq']} is one too many"
        assert event["seq"] == due[len(known)], (
            f"{stream}: {event['seq']} came, {due[len(known)]} was next"
        )
        assert event["type"] == self.machine.truths[stream].kinds[event["seq"] - 1]
        known.append(event["seq"])

    def places(self) -> dict[str, Place]:
        """Where to go on: what was seen, else where it began."""
        return {
            stream: {
                "epoch": self.epochs[stream],
                "seq": (self.seen[stream] or [self.after[stream]])[-1],
            }
            for stream in STREAMS
            if self.wish.sees(stream)
        }

    async def cut(self) -> None:
        if self.client is not None:
            self.client.socket.transport.abort()
            self.client = None
            with suppress(ConnectionClosed):
                await self.stack.aclose()
            self.stack = AsyncExitStack()

    async def finish(self) -> None:
        """Everything that is due comes, and nothing more."""
        async with asyncio.timeout(ENOUGH_S):
            while not self.is_caught_up or any(
                len(self.seen[stream]) < len(self.expected(stream)) for stream in STREAMS
            ):
                await self.read(100)
        await self.read(5)


class ShippedViewer:
    """A subscription of the shipped client, that reads all the time and finds its way back by itself."""

    def __init__(self, machine: SocketMachine, wish: Wish, after: dict[str, int]) -> None:
        self.machine = machine
        self.wish = wish
        self.after = dict(after)
        self.seen: dict[str, list[int]] = {stream: [] for stream in STREAMS}
        self.epochs = {stream: machine.truths[stream].epoch for stream in STREAMS}
        self.task: asyncio.Task[None] | None = None
        self.entered = asyncio.Event()

    def start(self, since: Any) -> None:
        endpoint = Endpoint(url="ws://localhost/ws", socket=self.machine.world.socket)
        types = None if self.wish.types is None else list(self.wish.types)
        subscription = Subscription(
            lambda: open_link(endpoint, name="machine"), streams=list(self.wish.streams), since=since,
            types=types, partials=self.wish.partials, chance=lambda: 0.02,
        )  # fmt: skip
        self.task = asyncio.get_running_loop().create_task(self._run(subscription))

    async def _run(self, subscription: Subscription) -> None:
        async with subscription:
            self.entered.set()
            async for item in subscription.items():
                if not isinstance(item, Notice) and "seq" in item:
                    self._take(item)

    def _take(self, event: Any) -> None:
        stream = event["stream"]
        if event["epoch"] != self.epochs[stream]:
            self.epochs[stream], self.seen[stream], self.after[stream] = event["epoch"], [], 0
        self.seen[stream].append(event["seq"])

    def expected(self, stream: str) -> list[int]:
        truth = self.machine.truths[stream]
        after = self.after[stream]
        if self.epochs[stream] != truth.epoch:
            after = 0
        return [
            seq
            for seq in range(after + 1, len(truth.kinds) + 1)
            if self.wish.sees(stream) and self.wish.wants(stream, truth.kinds[seq - 1])
        ]

    def is_whole(self) -> bool:
        """All of it; what was pruned before it came may be missing at the old end only."""
        for stream in STREAMS:
            due = self.expected(stream)
            seen = (
                self.seen[stream]
                if self.epochs[stream] == self.machine.truths[stream].epoch
                else []
            )
            kept = [seq for seq in due if seq >= self.machine.truths[stream].first]
            if seen != due and (seen != kept or not self.machine.has_pruned):
                return False
        return True

    async def finish(self) -> None:
        assert self.task is not None
        with suppress(TimeoutError):
            async with asyncio.timeout(ENOUGH_S):
                while not self.is_whole() and not self.task.done():
                    await asyncio.sleep(0.02)
        if self.task.done():
            self.task.result()
        for stream in STREAMS:
            assert self.is_whole(), (stream, self.seen[stream], self.expected(stream), self.wish)


class SocketMachine(RuleBasedStateMachine):
    wishes = st.builds(
        Wish,
        st.sampled_from([("project:p_a",), ("system",), ("project:p_a", "project:p_b"), ("*",), ("inbox",), ("queue",), ("inbox", "project:p_b"), STREAMS]),
        st.sampled_from([None, None, ("message",), ("execution.*", "queue.*")]),
        st.booleans(),
    )  # fmt: skip

    @initialize()
    def open(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.stack = AsyncExitStack()
        self.world = self.do(
            self.stack.enter_async_context(ServerWorld.open(FLAGS, journal=LIMITS))
        )
        self.boots = 0
        self.has_pruned = False
        self.raw: list[RawViewer] = []
        self.shipped: list[ShippedViewer] = []
        for stream in STREAMS:
            self.world.bus.ensure(stream)
        self.truths = {stream: Truth() for stream in STREAMS}
        self.note_epochs()

    def do(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def note_epochs(self) -> None:
        for stream, truth in self.truths.items():
            truth.epoch = self.world.journal.open(stream).epoch

    # --- what happens to the log -----------------------------------------------------------------------

    @rule(
        stream=st.sampled_from(STREAMS),
        kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=12),
        times=st.sampled_from([1, 1, 8]),
        size=st.sampled_from([0, 40, 4000]),
    )
    def append(self, stream: str, kinds: list[str], times: int, size: int) -> None:
        async def work() -> None:
            for kind in kinds * times:
                self.world.append(stream, kind=kind, size=size)
            await asyncio.sleep(0)

        self.do(work())
        self.truths[stream].kinds += kinds * times

    @rule(stream=st.sampled_from(STREAMS), kind=st.sampled_from(["partial", "chat.typing"]))
    def show_something_without_a_number(self, stream: str, kind: str) -> None:
        async def work() -> None:
            if kind == "partial":
                self.world.bus.ephemeral(stream, kind, {"raw": {}})
            await asyncio.sleep(0.01)

        self.do(work())

    # --- viewers ---------------------------------------------------------------------------------------

    def where(self, since: str, wish: Wish) -> tuple[Any, dict[str, int]]:
        """How it is said on the wire, and behind which number each stream then starts."""
        after: dict[str, int] = {}
        for stream, truth in self.truths.items():
            last, oldest = len(truth.kinds), truth.first - 1
            wanted = [seq for seq in truth.after(0) if wish.wants(stream, truth.kinds[seq - 1])]
            after[stream] = {
                "now": last,
                "start": oldest,
                "last": (wanted[-3] - 1 if len(wanted) >= 3 else oldest),
            }[since]
        return ({"last": 3} if since == "last" else since), after

    @precondition(lambda self: len(self.raw) < VIEWERS)
    @rule(wish=wishes, since=st.sampled_from(["now", "start", "last"]))
    def come(self, wish: Wish, since: str) -> None:
        viewer = RawViewer(self, wish)
        said, after = self.where(since, wish)
        self.do(viewer.subscribe(said, after, None))
        self.raw.append(viewer)

    @precondition(lambda self: len(self.shipped) < 2)
    @rule(wish=wishes, since=st.sampled_from(["now", "start"]))
    def come_with_the_shipped_client(self, wish: Wish, since: str) -> None:
        said, after = self.where(since, wish)
        viewer = ShippedViewer(self, wish, after)

        async def work() -> None:
            viewer.start(said)
            async with asyncio.timeout(ENOUGH_S):
                await viewer.entered.wait()

        self.do(work())
        self.shipped.append(viewer)

    @precondition(lambda self: self.raw)
    @rule(which=st.integers(0, 9), most=st.sampled_from([1, 10, 200]))
    def read(self, which: int, most: int) -> None:
        self.do(self.raw[which % len(self.raw)].read(most))

    @precondition(lambda self: self.raw)
    @rule(which=st.integers(0, 9), wish=wishes)
    def unsubscribe_and_want_something_else(self, which: int, wish: Wish) -> None:
        viewer = self.raw[which % len(self.raw)]

        async def work() -> None:
            assert viewer.client is not None
            await viewer.client.call("unsubscribe", sub=viewer.sub)
            for frame in viewer.client.frames:  # what was on its way
                viewer.take(frame)
            viewer.client.frames.clear()
            with pytest.raises(CallError) as caught:
                await viewer.client.call("unsubscribe", sub=viewer.sub)
            assert caught.value.code == "INVALID_PARAMS"
            assert caught.value.code in TABLE
            assert not [
                f for f in viewer.client.frames if f["method"] == "event" and "seq" in f["params"]
            ]
            viewer.client.frames.clear()
            viewer.wish = wish
            said, after = self.where("start", wish)
            await viewer.subscribe(said, after, None)

        self.do(work())

    @precondition(lambda self: self.raw)
    @rule(which=st.integers(0, 9))
    def cut_and_resume(self, which: int) -> None:
        viewer = self.raw[which % len(self.raw)]
        self.do(viewer.cut())
        self.resume(viewer)

    def resume(self, viewer: RawViewer) -> None:
        """With the places it got to; the model knows what has become of each."""
        places, reason = viewer.places(), None
        after = {}
        for stream, truth in self.truths.items():
            place = places.get(stream)
            after[stream] = truth.first - 1
            if place is None:
                continue
            if place["epoch"] != truth.epoch:
                reason = reason or "epoch_changed"
            elif place["seq"] < truth.first - 1:
                reason = reason or "retention"
            else:
                after[stream] = place["seq"]
        since: Any = {"positions": places}
        if len(viewer.wish.streams) == 1 and viewer.wish.homes:
            since = places[viewer.wish.streams[0]]
        self.do(viewer.subscribe(since, after, reason))

    @rule(stream=st.sampled_from(STREAMS), ahead=st.integers(1, 5))
    def a_place_beyond_the_end_is_refused(self, stream: str, ahead: int) -> None:
        truth = self.truths[stream]
        since = {"epoch": truth.epoch, "seq": len(truth.kinds) + ahead}

        async def work() -> None:
            async with self.world.connect() as client:
                with pytest.raises(CallError) as caught:
                    await client.call("subscribe", streams=[stream], since=since)
                following = {"epoch": truth.epoch, "seq": len(truth.kinds) + 1}
                assert caught.value.code == "UNRECOVERABLE_POSITION"
                assert caught.value.error["data"]["details"]["next"] == following

        self.do(work())

    # --- what happens to the server --------------------------------------------------------------------

    @rule()
    def restart(self) -> None:
        self.down(is_orderly=True)

    @rule()
    def restart_after_the_machine_went_down(self) -> None:
        """Nobody can tell what the disk kept: another epoch."""
        self.down(is_orderly=False)

    def down(self, *, is_orderly: bool) -> None:
        async def work() -> None:
            await self.world.stop()
            old = self.world.journal
            if is_orderly:
                await old.close()
            else:
                self.boots += 1
                old._upkeep.close()
                for log in old._logs.values():
                    log.abandon()
                old._syncer.close()
            root = self.world.settings.places.journal
            boot = f"boot-{self.boots}"
            self.world.journal = Journal(root, clock=self.world.clock, limits=LIMITS, boot_id=boot)
            self.world.bus = Bus(self.world.journal, self.world.clock)
            for stream in STREAMS:
                self.world.bus.ensure(stream)
            for viewer in self.raw:
                await viewer.cut()
            await self.world.start()

        self.do(work())
        self.note_epochs()
        for viewer in self.raw:
            self.resume(viewer)

    @precondition(lambda self: not self.shipped or not self.has_pruned)
    @rule(stream=st.sampled_from(STREAMS))
    def prune(self, stream: str) -> None:
        """Old segments go; whoever was reading them is told (the raw ones are cut first)."""

        async def work() -> None:
            for viewer in self.raw:
                await viewer.cut()
            log = self.world.journal.open(stream)
            self.world.journal._drop(log, len(log.view.segments) - 1)
            await self.world.journal.settle()

        self.do(work())
        first = self.world.journal.open(stream).first_seq
        self.has_pruned |= first > 1
        self.truths[stream].first = first
        for viewer in self.raw:
            self.resume(viewer)

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            for viewer in self.raw:
                self.do(viewer.finish())
            for shipped in self.shipped:
                self.do(shipped.finish())
        finally:
            self.do(self.leave())
            self.loop.close()

    async def leave(self) -> None:
        for viewer in self.raw:
            await viewer.cut()
        for shipped in self.shipped:
            if shipped.task is not None:
                shipped.task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await shipped.task
        await self.stack.aclose()
        await self.loop.shutdown_default_executor()


@pytest.fixture(autouse=True)
def small_rings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory reaches back a little only, so that the log is read often."""
    monkeypatch.setattr(bus_module, "RING_FRAMES", 32)
    monkeypatch.setattr(bus_module, "RING_BYTES", 32 * 1024)
    monkeypatch.setattr(bus_module, "ALL_RINGS_BYTES", 64 * 1024)


def play(examples: int, steps: int) -> None:
    # Not shrunk: each run takes a second, and what failed is printed step by step.
    how = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None,
        phases=[Phase.reuse, Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    run_state_machine_as_test(SocketMachine, settings=how)


@pytest.mark.timeout(180)
def test_each_subscriber_sees_exactly_its_events() -> None:
    play(8, 25)


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_each_subscriber_sees_exactly_its_events_for_long() -> None:
    play(400, 60)
