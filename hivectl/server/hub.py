"""Fan-out: when a stream has news, everyone who follows it is written to, soon and in one go each.

Flushes are paced by their own cost (at most DUTY of the loop's time), so a lone viewer waits for nothing
and a thousand of them get coalesced writes. Nobody has a queue: a follower is cursors into frames that
all share. One timer serves all connections; there is none while nobody is connected.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from hivectl.engine.bus import Bus, Ephemeral, Frame
from hivectl.kit.clock import Clock
from hivectl.server.limits import STATS_S, Limits
from hivectl.server.subscription import Cursor, Selector, Selectors, Subscription

DUTY = 0.4
_HURRY = 0.25
_READS_KEPT = 8
_LONGEST_REST_S = 0.05
_SHORTEST_TIMER_S = 0.0005
_TICK_S = 0.02
"""Deadlines closer together than this are served together."""

Chunk = tuple[int, int, bytes]
"""New position, number of events, joined frames."""


class Ticking(Protocol):
    """A connection, as the shared timer sees it."""

    def tick(self, now: float) -> float:
        """Do what is due; return when something is due next (math.inf = nothing)."""
        ...


class Reader(Protocol):
    """A connection's reading of streams (hivectl.server.follower), as the hub sees it."""

    def mark(self, cursor: Cursor) -> None:
        """The cursor's stream has news."""
        ...

    def pump(self) -> None:
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
        self,
        bus: Bus,
        clock: Clock,
        limits: Limits,
        *,
        stats: Callable[[], Awaitable[dict[str, Any]]] | None = None,
        run: Callable[[Coroutine[Any, Any, None], str], None] | None = None,
    ) -> None:
        """`stats` and `run` (starts a task) are for the measures shown to who follows `system`."""
        self.bus = bus
        self.clock = clock
        self.limits = limits
        self.selectors = Selectors()
        self._stats = stats
        self._run = run
        self._stats_due = math.inf
        self._loop = asyncio.get_running_loop()
        self._cursors: dict[str, dict[Cursor, Reader]] = {}
        self._views: dict[Subscription, Reader] = {}
        self._subscriptions = 0
        self._dirty: dict[str, None] = {}
        self._ready: dict[Reader, None] = {}
        self._chunks: dict[tuple[str, int, Selector], Chunk | None] = {}
        self._is_scheduled = False
        self._rest_until = 0.0
        self._rest_timer: asyncio.TimerHandle | None = None
        self._reads: OrderedDict[tuple[str, int], asyncio.Future[list[Frame]]] = OrderedDict()
        self._connections: dict[Ticking, None] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._unlisten = bus.listen(self._on_append, self._on_ephemeral)

    def close(self) -> None:
        """Hear of nothing any more."""
        self._unlisten()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def subscriptions(self) -> int:
        """How many there are, of all connections."""
        return self._subscriptions

    def shown(self, stream: str) -> int:
        """How far the one that got most of a stream has got; 0 when nobody follows it."""
        return max((cursor.position for cursor in self._cursors.get(stream, ())), default=0)

    # --- who follows what ----------------------------------------------------------------------------

    def add(self, sub: Subscription, follower: Reader) -> None:
        """Start following, from where its cursors stand."""
        self._subscriptions += 1
        for cursor in sub.cursors.values():
            self._attach(cursor, follower)
        if sub.views:
            self._views[sub] = follower
        self._want_stats()

    def remove(self, sub: Subscription) -> None:
        """Stop following."""
        self._subscriptions -= 1
        self._views.pop(sub, None)
        for cursor in sub.cursors.values():
            self.detach(cursor)
        self._want_stats()

    def _attach(self, cursor: Cursor, follower: Reader) -> None:
        self.bus.follow(cursor.stream)
        self._cursors.setdefault(cursor.stream, {})[cursor] = follower

    def detach(self, cursor: Cursor) -> None:
        """Stop following one stream of a subscription."""
        followers = self._cursors.get(cursor.stream)
        if followers is None or followers.pop(cursor, None) is None:
            return
        self.bus.unfollow(cursor.stream)
        if not followers:
            del self._cursors[cursor.stream]

    def _on_append(self, stream: str) -> None:
        for sub, follower in self._views.items():
            if stream not in sub.cursors:
                self._attach(follower.add_new_stream(sub, stream), follower)
        if stream in self._cursors:
            self._dirty[stream] = None
            self._schedule()
            if self._rest_timer is not None and self.bus.backlog(stream) > _HURRY:
                # Resting on would let everybody fall back to the log.
                self._rest_timer.cancel()
                self._rest_timer = None
                self._loop.call_soon(self._flush)

    def _on_ephemeral(self, event: Ephemeral) -> None:
        for cursor, follower in self._cursors.get(event.stream, {}).items():
            if cursor.sub.wants_ephemeral(event.stream, event.type):
                follower.offer(event)
                self.want_flush(follower)

    # --- flushing ------------------------------------------------------------------------------------

    def want_flush(self, follower: Reader) -> None:
        """Write to this follower at the next flush."""
        self._ready[follower] = None
        self._schedule()

    def _schedule(self) -> None:
        if self._is_scheduled:
            return
        self._is_scheduled = True
        rest = self._rest_until - self.clock.monotonic()
        if rest < _SHORTEST_TIMER_S:
            # epoll rounds timers up to whole milliseconds.
            self._loop.call_soon(self._flush)
        else:
            self._rest_timer = self._loop.call_later(rest, self._flush)

    def _flush(self) -> None:
        began = self.clock.monotonic()
        self._is_scheduled = False
        self._rest_timer = None
        dirty, self._dirty = self._dirty, {}
        ready, self._ready = self._ready, {}
        for stream in dirty:
            for cursor, follower in self._cursors.get(stream, {}).items():
                if not cursor.is_replaying:
                    follower.mark(cursor)
                    ready[follower] = None
        for follower in ready:
            follower.pump()
        self._chunks.clear()
        # Writes may be deferred to the end of the loop's turn: the cost is known on the next one.
        self._loop.call_soon(self._rest, began)

    def _rest(self, began: float) -> None:
        now = self.clock.monotonic()
        self._rest_until = now + min((now - began) * (1 / DUTY - 1), _LONGEST_REST_S)

    def chunk(self, cursor: Cursor) -> Chunk | None:
        """What follows the cursor's position, filtered and joined, shared within a flush.

        None when memory does not reach back so far."""
        key = (cursor.stream, cursor.position, cursor.selector)
        if key not in self._chunks:
            self._chunks[key] = self._join(*key)
        return self._chunks[key]

    def _join(self, stream: str, position: int, selector: Selector) -> Chunk | None:
        limits = self.limits
        frames = self.bus.newest(stream, position, limits.held_events, limits.chunk_bytes)
        if frames is None:
            return None
        if not frames:
            return (position, 0, b"")
        last = frames[-1].seq
        if not selector.selects_all:
            frames = [frame for frame in frames if selector.wants(frame.type)]
        return (last, len(frames), join_frames(frames))

    async def read_log(self, stream: str, position: int) -> list[Frame]:
        """What follows a position, from the log, in a thread. Raises OSError.

        Who falls behind falls behind together: one reading serves all that ask for the same."""
        key = (stream, position)
        found = self._reads.get(key)
        if found is None:
            limits = self.limits
            found = self._loop.run_in_executor(
                None, self.bus.read_log, stream, position, limits.held_events, limits.chunk_bytes
            )
            self._reads[key] = found
            if len(self._reads) > _READS_KEPT:
                self._reads.popitem(last=False)
        try:
            frames = await asyncio.shield(found)
        except OSError:
            self._reads.pop(key, None)
            raise
        if not frames:
            self._reads.pop(key, None)
        return frames

    # --- the one timer ---------------------------------------------------------------------------------

    def register(self, connection: Ticking) -> None:
        """Serve this connection's deadlines."""
        self._connections[connection] = None
        self.nudge(self.clock.monotonic())

    def unregister(self, connection: Ticking) -> None:
        """The connection is gone."""
        self._connections.pop(connection, None)
        if self._connections:
            return
        self._reads.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer, self._timer_at = None, math.inf

    def nudge(self, due: float) -> None:
        """Something is due at `due` (monotonic)."""
        if due >= self._timer_at - _TICK_S or due == math.inf:
            return
        if self._timer is not None:
            self._timer.cancel()
        delay = max(due - self.clock.monotonic(), _TICK_S)
        self._timer_at = due
        self._timer = self._loop.call_later(delay, self._tick)

    def _tick(self) -> None:
        self._timer, self._timer_at = None, math.inf
        now = self.clock.monotonic()
        if now >= self._stats_due:
            self._send_stats(now)
        due = self._stats_due
        for connection in list(self._connections):
            due = min(due, connection.tick(now))
        if self._connections:
            self.nudge(max(due, now + _TICK_S))

    def _want_stats(self) -> None:
        is_wanted = any(cursor.sub.wants_measures for cursor in self._cursors.get("system", {}))
        if not is_wanted or self._stats is None:
            self._stats_due = math.inf
        elif self._stats_due == math.inf:
            self._stats_due = self.clock.monotonic() + STATS_S
            self.nudge(self._stats_due)

    def _send_stats(self, now: float) -> None:
        self._stats_due = now + STATS_S
        if self._run is not None:
            self._run(self._show_stats(), "stats")

    async def _show_stats(self) -> None:
        assert self._stats is not None
        self.bus.ephemeral("system", "stats", await self._stats())


def join_frames(frames: list[Frame]) -> bytes:
    """The bytes of some frames, ready to be written."""
    return frames[0].wire if len(frames) == 1 else b"".join([frame.wire for frame in frames])
