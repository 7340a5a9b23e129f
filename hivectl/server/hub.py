"""Fan-out: when a stream has news, everyone who follows it is written to, soon and in one go each.

    append -> dirty streams -> ready followers -> flush: one write for each -> rest -> flush ...

Nobody has a queue: a follower is cursors into frames that all share, and those at the same place are given the
very same bytes. Whoever is behind what memory holds reads the log at its own pace (hivectl.server.follower).
The pace tunes itself: what a flush took is paid for with rest, so that writing takes DUTY of the loop's time.
A lone viewer waits for nothing, a thousand of them get fewer, larger writes, and a debt of AHEAD_S may stand, lest
an event that comes a little early waits. The hub hurries when so much came that memory would soon be too small,
and a flush that takes long lets others have the loop in between.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import NamedTuple, Protocol

from hivectl.engine.bus import Bus, Ephemeral
from hivectl.engine.ring import Frame
from hivectl.kit.clock import Clock
from hivectl.server.limits import Limits
from hivectl.server.measures import Measures
from hivectl.server.subscription import Cursor, Selector, Selectors, Subscription

DUTY = 0.4
HURRY = 0.125
"""This part of the memory for newest frames may be new before resting is over."""
AHEAD_S = 0.005
"""So much rest may be owed when a flush begins."""
LONGEST_REST_S = 0.05
SHORTEST_REST_S = 0.0005
"""epoll rounds timers up to whole milliseconds: less is no rest at all."""
SLICE_S = 0.01
"""A flush goes on later when it has taken this long."""
PAGE_EVENTS = 64
"""Who reads the log is given pages that end at multiples of it: so all who are behind in a stream, wherever they
began, soon ask for the same pages."""
PAGES_KEPT = 64
"""Those of many streams at once, each at most a chunk large."""


class Chunk(NamedTuple):
    """What follows a position: filtered, joined, and shared by all who are there."""

    position: int
    """Where it leads to."""
    data: bytes
    has_more: bool


class Reader(Protocol):
    """A connection's reading of streams (hivectl.server.follower), as the hub sees it."""

    news: dict[Cursor, None]
    """Cursors whose streams may have more than they have shown."""

    def pump(self, now: float) -> None:
        """Write what is new."""
        ...

    def offer(self, event: Ephemeral) -> None:
        """Write this with the next flush, or drop it."""
        ...

    def add_new_stream(self, sub: Subscription, stream: str) -> Cursor:
        """A view of `sub` shows one stream more."""
        ...


class Hub:
    """One for the daemon; lives on the event loop."""

    def __init__(
        self, bus: Bus, clock: Clock, limits: Limits, measures: Measures | None = None
    ) -> None:
        """`measures` are told whether somebody wants them."""
        self.bus = bus
        self.clock = clock
        self.limits = limits
        self.selectors = Selectors()
        self.subscriptions = 0
        """How many there are, of all connections."""
        self._measures = measures
        self._loop = asyncio.get_running_loop()
        self._cursors: dict[str, dict[Cursor, Reader]] = {}
        self._views: dict[Subscription, Reader] = {}
        self._viewed: set[str] = set()
        """Streams that every view has a cursor of."""
        self._dirty: dict[str, None] = {}
        self._ready: dict[Reader, None] = {}
        self._chunks: dict[tuple[str, int, Selector], Chunk | None] = {}
        self._is_scheduled = False
        """A flush is to come."""
        self._paid_at = 0.0
        """When all flushes so far will have been paid for with rest."""
        self._rest_timer: asyncio.TimerHandle | None = None
        self._reads: OrderedDict[tuple[str, int], asyncio.Future[list[Frame]]] = OrderedDict()
        self.close = bus.listen(self._on_append, self._on_ephemeral)
        """Hear of nothing any more."""

    # --- who follows what ----------------------------------------------------------------------------

    def add(self, sub: Subscription, follower: Reader) -> None:
        """Start following, from where its cursors stand."""
        self.subscriptions += 1
        for cursor in sub.cursors.values():
            self._attach(cursor, follower)
        if sub.views:
            self._views[sub] = follower
        self._want_measures()

    def remove(self, sub: Subscription) -> None:
        """Stop following."""
        self.subscriptions -= 1
        self._views.pop(sub, None)
        for cursor in sub.cursors.values():
            self.detach(cursor)
        self._want_measures()
        if not self.subscriptions:
            self._reads.clear()

    def _attach(self, cursor: Cursor, follower: Reader) -> None:
        self.bus.follow(cursor.stream)
        self._cursors.setdefault(cursor.stream, {})[cursor] = follower

    def detach(self, cursor: Cursor) -> None:
        """Stop following one stream of a subscription."""
        followers = self._cursors.get(cursor.stream)
        if followers is None or followers.pop(cursor, None) is None:
            return
        self.bus.unfollow(cursor.stream)
        self._viewed.discard(cursor.stream)
        if not followers:
            del self._cursors[cursor.stream]

    def _want_measures(self) -> None:
        if self._measures is not None:
            followers = self._cursors.get("system", {})
            is_wanted = any(cursor.sub.wants_measures for cursor in followers)
            self._measures.want(is_wanted=is_wanted)

    def shown(self, stream: str) -> int:
        """How far the one that got most of a stream has got; 0 when nobody follows it."""
        return max((cursor.position for cursor in self._cursors.get(stream, ())), default=0)

    # --- what happened -------------------------------------------------------------------------------

    def _on_append(self, stream: str) -> None:
        if self._views and stream not in self._viewed:
            self._viewed.add(stream)
            for sub, follower in self._views.items():
                if stream not in sub.cursors:
                    self._attach(follower.add_new_stream(sub, stream), follower)
        if stream not in self._cursors:
            return
        self._dirty[stream] = None
        self._schedule()
        if self._rest_timer is not None and self.bus.backlog(stream) > HURRY:
            # Resting on would let everybody fall back to the log.
            self._rest_timer.cancel()
            self._rest_timer = None
            self._loop.call_soon(self._flush)

    def _on_ephemeral(self, event: Ephemeral) -> None:
        for cursor, follower in self._cursors.get(event.stream, {}).items():
            if cursor.sub.wants_ephemeral(event.stream, event.type):
                follower.offer(event)
                self.want_flush(follower)

    def want_flush(self, follower: Reader) -> None:
        """Write to this follower at the next flush."""
        self._ready[follower] = None
        self._schedule()

    # --- flushing ------------------------------------------------------------------------------------

    def _schedule(self) -> None:
        if self._is_scheduled:
            return
        self._is_scheduled = True
        rest = self._paid_at - AHEAD_S - self.clock.monotonic()
        if rest < SHORTEST_REST_S:
            self._loop.call_soon(self._flush)
        else:
            self._rest_timer = self._loop.call_later(rest, self._flush)

    def _flush(self) -> None:
        now = self.clock.monotonic()
        self._rest_timer = None
        self._spread_news()
        ready, self._ready = self._ready, {}
        followers = iter(ready)
        for follower in followers:
            follower.pump(now)
            if self.clock.monotonic() > now + SLICE_S:
                self._ready = dict.fromkeys(followers) | self._ready
        self._chunks.clear()
        took = self.clock.monotonic() - now  # asyncio writes at once: what it costs is known now
        paid_at = max(self._paid_at, now) + took / DUTY
        self._paid_at = min(paid_at, now + took + AHEAD_S + LONGEST_REST_S)
        self._is_scheduled = False
        if self._dirty or self._ready:
            self._schedule()

    def _spread_news(self) -> None:
        ready = self._ready
        dirty, self._dirty = self._dirty, {}
        for stream in dirty:
            for cursor, follower in self._cursors.get(stream, {}).items():
                if not cursor.is_replaying:
                    follower.news[cursor] = None
                    ready[follower] = None

    def chunk(self, cursor: Cursor) -> Chunk | None:
        """What follows the cursor's position. None when memory does not reach back so far."""
        key = (cursor.stream, cursor.position, cursor.selector)
        if key not in self._chunks:
            self._chunks[key] = self._join(*key)
        return self._chunks[key]

    def _join(self, stream: str, position: int, selector: Selector) -> Chunk | None:
        limits = self.limits
        frames = self.bus.newest(stream, position, limits.held_events, limits.chunk_bytes)
        if frames is None:
            return None
        if frames:
            position = frames[-1].seq
        has_more = position < self.bus.last_seq(stream)
        if not selector.selects_all:
            frames = [frame for frame in frames if selector.wants(frame.type)]
        return Chunk(position, join_frames(frames), has_more)

    async def read_log(self, stream: str, position: int) -> list[Frame]:
        """What follows a position, from the log, in a thread: at most up to the end of its page. Raises OSError.

        Who falls behind falls behind together: one reading serves all that ask for the same."""
        key = (stream, position)
        found = self._reads.get(key)
        if found is None:
            limits = self.limits
            count = min(limits.held_events, PAGE_EVENTS - position % PAGE_EVENTS)
            found = self._loop.run_in_executor(
                None, self.bus.read_log, stream, position, count, limits.chunk_bytes
            )
            self._reads[key] = found
            if len(self._reads) > PAGES_KEPT:
                self._reads.popitem(last=False)
        try:
            frames = await asyncio.shield(found)
        except OSError:
            self._reads.pop(key, None)
            raise
        if not frames:
            self._reads.pop(key, None)
        return frames


def join_frames(frames: list[Frame]) -> bytes:
    """The bytes of some frames, ready to be written."""
    return frames[0].wire if len(frames) == 1 else b"".join([frame.wire for frame in frames])
