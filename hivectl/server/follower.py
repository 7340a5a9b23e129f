"""One connection's reading of streams: from shared memory while it keeps up, from the log when it does not.

It holds cursors and never events: at most one chunk is with the transport at a time, the next one is
made when that is gone. Invariants: per cursor events go out in order and once; overlapping subscriptions
of the connection show an event once; `caught_up` comes after the last event it speaks of.
"""

from __future__ import annotations

import logging
import math
from typing import Any, Protocol

from hivectl.engine.bus import Ephemeral
from hivectl.engine.ring import Frame
from hivectl.model.errors import HiveError
from hivectl.server.hub import Hub, join_frames
from hivectl.server.limits import BOOKMARK_S
from hivectl.server.subscription import Cursor, Subscription

_log = logging.getLogger(__name__)

_MOST_EPHEMERAL = 256


class Outlet(Protocol):
    """The connection's writing side."""

    def can_write(self) -> bool:
        """Whether everything written so far has left the process."""
        ...

    async def drained(self) -> None:
        """Wait until everything written so far has left the process, or the connection is gone."""
        ...

    def write(self, data: bytes) -> None:
        """Write whole frames."""
        ...

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Write a control message."""
        ...

    def wake(self, due: float) -> None:
        """Call the follower's `tick` at `due` at the latest."""
        ...

    def start_task(self, work: Any, name: str) -> None:
        """Run something for as long as the connection lives."""
        ...

    def fail(self, code: int, reason: str) -> None:
        """End the connection."""
        ...


class Follower:
    """One for each connection."""

    __slots__ = (
        "_ephemeral", "_has_task", "_hub", "_outlet", "_replaying", "is_closed", "news", "subs",
    )  # fmt: skip

    def __init__(self, hub: Hub, outlet: Outlet) -> None:
        self._hub = hub
        self._outlet = outlet
        self.subs: dict[str, Subscription] = {}
        self.news: dict[Cursor, None] = {}
        """Cursors whose streams may have more than they have shown."""
        self._ephemeral: list[Ephemeral] = []
        self._replaying: dict[Cursor, None] = {}
        self._has_task = False
        self.is_closed = False

    @property
    def is_lagging(self) -> bool:
        """Whether it reads the log rather than memory."""
        return bool(self._replaying)

    # --- subscriptions ---------------------------------------------------------------------------------

    def start(self, sub: Subscription) -> None:
        """Replay, then `caught_up`, then live. Its cursors stand where it starts."""
        if self.is_closed:
            return
        sub.is_started = True
        sub.quiet_since = self._hub.clock.monotonic()
        self.subs[sub.id] = sub
        # Since the cursors were made more may have come.
        if sub.views:
            for stream in self._hub.bus.opened():
                if stream not in sub.cursors:
                    self._make_cursor(sub, stream)
        for cursor in sub.cursors.values():
            cursor.is_behind = True
            sub.behind += 1
            last = self._hub.bus.head(cursor.stream).last_seq
            cursor.is_replaying = cursor.position < last
        self._hub.add(sub, self)
        for cursor in list(sub.cursors.values()):
            if cursor.is_replaying:
                self._replaying[cursor] = None
            else:
                self.news[cursor] = None
                self._settle(cursor)
        if not sub.cursors:
            self._say_caught_up(sub)
        if sub.is_filtered:
            self._outlet.wake(sub.quiet_since + BOOKMARK_S)
        self._run_replay()
        self._hub.want_flush(self)

    def stop(self, sub_id: str) -> bool:
        """End a subscription; False when there is none of that id."""
        sub = self.subs.pop(sub_id, None)
        if sub is None:
            return False
        self._hub.remove(sub)
        for cursor in sub.cursors.values():
            self._drop(cursor)
        return True

    def _drop(self, cursor: Cursor) -> None:
        self.news.pop(cursor, None)
        self._replaying.pop(cursor, None)
        cursor.sub.behind -= cursor.is_behind
        cursor.is_behind = False

    def close(self) -> None:
        """The connection is gone."""
        self.is_closed = True
        for sub_id in list(self.subs):
            self.stop(sub_id)
        self._ephemeral.clear()

    def add_new_stream(self, sub: Subscription, stream: str) -> Cursor:
        """A home stream appeared that a view of `sub` shows: all of it is news."""
        cursor = self._make_cursor(sub, stream)
        if cursor.is_replaying:
            self._replaying[cursor] = None
            self._run_replay()
        return cursor

    def _make_cursor(self, sub: Subscription, stream: str) -> Cursor:
        head = self._hub.bus.head(stream)
        cursor = Cursor(
            sub,
            stream,
            epoch=head.epoch,
            after=max(head.first_seq - 1, 0),
            target=head.last_seq,
            selector=sub.selector_of(stream),
        )
        sub.cursors[stream] = cursor
        return cursor

    def _cursors_of(self, stream: str) -> list[Cursor]:
        found = [sub.cursors.get(stream) for sub in self.subs.values()]
        return [cursor for cursor in found if cursor is not None]

    # --- live --------------------------------------------------------------------------------------------

    def offer(self, event: Ephemeral) -> None:
        """An event without number; dropped when the connection does not keep up."""
        is_room = len(self._ephemeral) < _MOST_EPHEMERAL
        if is_room and self._outlet.can_write() and not self.is_closed:
            self._ephemeral.append(event)

    def pump(self, now: float) -> None:
        """Write what is new in one go, unless the connection has not taken what it was given before."""
        if not self._outlet.can_write():
            return
        parts: list[bytes] = []
        caught_up: list[Cursor] = []
        if self._ephemeral:
            self._take_ephemeral(parts)
        room = self._hub.limits.chunk_bytes
        while self.news and room > 0:
            cursor = next(iter(self.news))
            data = self._take(cursor)
            if data:
                parts.append(data)
                room -= len(data)
                cursor.sub.quiet_since = now
            if cursor.is_behind:
                caught_up.append(cursor)
        if parts:
            self._outlet.write(parts[0] if len(parts) == 1 else b"".join(parts))
        for cursor in caught_up:
            self._settle(cursor)
        if self.news:
            self._hub.want_flush(self)

    def resume(self) -> None:
        """Everything written has left: go on."""
        if self.news or self._ephemeral:
            self._hub.want_flush(self)

    def _take(self, cursor: Cursor) -> bytes:
        """What is new for a cursor with news; it is moved on."""
        del self.news[cursor]
        if len(self.subs) > 1 and len(self._cursors_of(cursor.stream)) > 1:
            return self._take_together(cursor.stream)
        chunk = self._hub.chunk(cursor)
        if chunk is None:
            self._fall_behind(cursor)
            return b""
        cursor.position, data, has_more = chunk
        if has_more:
            self.news[cursor] = None
        return data

    def _take_together(self, stream: str, upto: int | None = None) -> bytes:
        """Several subscriptions show this stream: one pass for all that are live keeps it in order."""
        cursors = self._cursors_of(stream)
        live = [cursor for cursor in cursors if not cursor.is_replaying]
        bus, limits = self._hub.bus, self._hub.limits
        low = min([cursor.position for cursor in live])
        frames = bus.newest(stream, low, limits.held_events, limits.chunk_bytes)
        if frames is None:
            for cursor in live:
                if cursor.position == low:
                    self._fall_behind(cursor)
                else:
                    self.news[cursor] = None
            return b""
        if upto is not None:
            frames = [frame for frame in frames if frame.seq <= upto]
        data = self._move(frames, live, cursors)
        for cursor in live:
            if cursor.position < bus.last_seq(stream):
                self.news[cursor] = None
            else:
                self.news.pop(cursor, None)
        return data

    @staticmethod
    def _move(frames: list[Frame], moving: list[Cursor], all_cursors: list[Cursor]) -> bytes:
        """Move `moving` on over `frames`: what one of them wants, unless it was shown before."""
        if not frames:
            return b""
        wanted = frames
        only = all_cursors[0]
        is_plain = len(all_cursors) == 1 and only.selector.selects_all
        if not (is_plain and only.position < frames[0].seq):
            wanted = [
                frame
                for frame in frames
                if any(c.position < frame.seq and c.selector.wants(frame.type) for c in moving)
                and not any(c.covers(frame.seq, frame.type) for c in all_cursors)
            ]
        last = frames[-1].seq
        for cursor in moving:
            cursor.position = max(cursor.position, last)
        return join_frames(wanted)

    def _take_ephemeral(self, parts: list[bytes]) -> None:
        waiting, self._ephemeral = self._ephemeral, []
        for event in waiting:
            cursors = self._cursors_of(event.stream)
            if not cursors or any(cursor.is_replaying for cursor in cursors):
                continue
            if any(cursor.position < event.after_seq for cursor in cursors):
                # What was numbered before it must be seen before it.
                parts.append(self._take_together(event.stream, event.after_seq))
            if all(cursor.position >= event.after_seq for cursor in cursors):
                parts.append(event.wire)

    def _settle(self, cursor: Cursor) -> None:
        """Say so when its subscription has caught up."""
        sub = cursor.sub
        if cursor.is_behind and cursor.position >= cursor.target:
            cursor.is_behind = False
            sub.behind -= 1
            if not sub.behind:
                self._say_caught_up(sub)

    def _say_caught_up(self, sub: Subscription) -> None:
        self._outlet.notify("caught_up", {"sub": sub.id, "positions": sub.positions()})

    # --- from the log --------------------------------------------------------------------------------------

    def _fall_behind(self, cursor: Cursor) -> None:
        self.news.pop(cursor, None)
        cursor.is_replaying = True
        head = self._hub.bus.head(cursor.stream)
        self._outlet.notify(
            "lagged",
            {
                "sub": cursor.sub.id,
                "stream": cursor.stream,
                "from": cursor.position + 1,
                "to": head.last_seq,
            },
        )
        self._replaying[cursor] = None
        self._run_replay()

    def _run_replay(self) -> None:
        if self._replaying and not self._has_task:
            self._has_task = True
            self._outlet.start_task(self._replay(), "replay")

    async def _replay(self) -> None:
        """Read the log at the pace of the connection until all cursors are near the head."""
        try:
            while self._replaying and not self.is_closed:
                for cursor in list(self._replaying):
                    await self._outlet.drained()
                    if cursor in self._replaying:
                        await self._replay_chunk(cursor)
        except OSError:
            _log.exception("the log cannot be read for a follower")
            self._outlet.fail(1011, "the log cannot be read")
        finally:
            self._has_task = False

    async def _replay_chunk(self, cursor: Cursor) -> None:
        bus, limits = self._hub.bus, self._hub.limits
        frames = bus.newest(cursor.stream, cursor.position, limits.held_events, limits.chunk_bytes)
        if frames is not None:
            # Memory reaches back to it: from here on it is live, without a gap.
            self._replaying.pop(cursor, None)
            cursor.is_replaying = False
            self.news[cursor] = None
            self._settle(cursor)
            self._hub.want_flush(self)
            return
        if not self._mend_position(cursor):
            return
        frames = await self._hub.read_log(cursor.stream, cursor.position)
        if cursor not in self._replaying or self.is_closed:
            return
        if frames:
            data = self._move(frames, [cursor], self._cursors_of(cursor.stream))
            if data:
                self._outlet.write(data)
                cursor.sub.quiet_since = self._hub.clock.monotonic()
            self._settle(cursor)
        elif self._mend_position(cursor):
            last = bus.head(cursor.stream).last_seq
            if cursor.position < last:
                _log.error("events are missing in the log", extra={"stream": cursor.stream})
                cursor.position = last
                self._settle(cursor)

    def _mend_position(self, cursor: Cursor) -> bool:
        """Move on what retention has overtaken; False when the whole stream is gone."""
        try:
            head = self._hub.bus.head(cursor.stream)
        except HiveError:
            self._hub.detach(cursor)
            self._drop(cursor)
            cursor.sub.cursors.pop(cursor.stream, None)
            return False
        if cursor.position + 1 < head.first_seq:
            self._outlet.notify(
                "reset",
                {
                    "sub": cursor.sub.id,
                    "stream": cursor.stream,
                    "reason": "retention",
                    "next": {"epoch": head.epoch, "seq": head.first_seq},
                },
            )
            cursor.start = cursor.position = head.first_seq - 1
            self._settle(cursor)
        return True

    # --- silence -----------------------------------------------------------------------------------------------

    def tick(self, now: float) -> float:
        """Send the bookmarks that are due; when the next one is."""
        due = math.inf
        for sub in self.subs.values():
            if not sub.is_filtered or sub.behind:
                continue
            if now >= sub.quiet_since + BOOKMARK_S:
                self._outlet.notify("bookmark", {"sub": sub.id, "positions": sub.positions()})
                sub.quiet_since = now
            due = min(due, sub.quiet_since + BOOKMARK_S)
        return due
