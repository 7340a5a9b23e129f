"""What followers of streams see: encoded event frames by position, from memory near the head, else from the log.

The engine tells the bus when something durable was appended (`notify`); the bus never stores, never
waits for a reader and holds a bounded amount: newest frames of followed streams, encoded once for all.
Invariants: nothing is shown beyond the last `notify`; per stream frames come in order of `seq`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from hivectl.engine.ring import Frame, Ring
from hivectl.journal import reader
from hivectl.journal.record import Entry, Lines, Record, count_of
from hivectl.journal.writer import Journal, StreamLog
from hivectl.kit.clock import MICROSECOND, Clock, parse_duration_s, parse_time_us
from hivectl.logic.redact import excerpt
from hivectl.model.errors import HiveError
from hivectl.model.event import EVENTS
from hivectl.protocol import frames as wire

VIEWS: dict[str, frozenset[str] | None] = {
    "*": None,
    "inbox": frozenset(name for name, kind in EVENTS.items() if "inbox" in kind.views),
    "queue": frozenset(name for name, kind in EVENTS.items() if "queue" in kind.views),
}
"""Views select home streams and types of events; None = all types."""

RING_FRAMES = 16_384
RING_BYTES = 4 * 1024 * 1024
ALL_RINGS_BYTES = 16 * 1024 * 1024
_FILTER_PAGE = 1000
_FILTER_PAGES = 50


class Ephemeral(msgspec.Struct, frozen=True):
    """An event without number. `after_seq` is the newest numbered event when it was made."""

    stream: str
    type: str
    execution: str | None
    after_seq: int
    wire: bytes


class Head(msgspec.Struct, frozen=True):
    """The ends of a stream that can be read now; `last_seq` 0 = empty."""

    epoch: str
    last_seq: int
    first_seq: int


class Start(msgspec.Struct, frozen=True):
    """Where a follower starts: after `after_seq`. `reason` tells why it is not where it asked to."""

    epoch: str
    after_seq: int
    reason: Literal["epoch_changed", "retention"] | None = None


Since = dict[str, Any] | str


class Bus:
    """One for the daemon. Not thread-safe but for `read_log`."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._seen: dict[str, int] = {}
        self._logs: dict[str, StreamLog] = {}
        self._rings: dict[str, Ring] = {}
        self._ring_bytes = 0
        self._follows: dict[str, int] = {}
        self._on_append: list[Callable[[str], None]] = []
        self._on_ephemeral: list[Callable[[Ephemeral], None]] = []

    # --- what the engine calls ---------------------------------------------------------------------

    def notify(self, stream: str, entries: Sequence[Entry] = ()) -> None:
        """Everything appended to `stream` so far is durable: show it. `entries`: the newest of it, which need
        not be read again then."""
        log = self._logs.get(stream)
        if log is None:
            log = self._logs[stream] = self._journal.open(stream)
        last = log.last_seq
        if self._seen.get(stream) == last:
            return
        self._seen[stream] = last
        if (ring := self._rings.get(stream)) is not None:
            first = last - count_of(entries) + 1
            if first == ring.last + 1:
                self._add(ring, _frames_of(stream, log.epoch, first, entries))
                self._bound_all()
        for tell in self._on_append:
            tell(stream)

    def ephemeral(
        self, stream: str, kind: str, data: dict[str, Any], execution: str | None = None
    ) -> None:
        """Show something to who follows now; it is never stored and may be dropped.

        A `partial` gets `after_seq`: the newest numbered event when it was made."""
        if not self._on_ephemeral:
            return
        after = self._seen.get(stream, 0)
        if kind == "partial":
            data = {"after_seq": after, **data}
            after = int(data["after_seq"])
        frame = wire.encode_ephemeral(stream, self._clock.now_us(), kind, data, execution)
        event = Ephemeral(stream, kind, execution, after, wire.text_frame(frame))
        for tell in self._on_ephemeral:
            tell(event)

    # --- what followers call -----------------------------------------------------------------------

    def listen(
        self, on_append: Callable[[str], None], on_ephemeral: Callable[[Ephemeral], None]
    ) -> Callable[[], None]:
        """Hear of streams with news, at once and once for each `notify`. Returns what ends it."""
        self._on_append.append(on_append)
        self._on_ephemeral.append(on_ephemeral)

        def end() -> None:
            self._on_append.remove(on_append)
            self._on_ephemeral.remove(on_ephemeral)

        return end

    def streams(self) -> list[str]:
        """All home streams; those that were removed from the journal meanwhile are forgotten."""
        names = self._journal.streams()
        for gone in self._seen.keys() - set(names):
            self.forget(gone)
        return names

    def is_open(self, stream: str) -> bool:
        """Whether `head` needs no file."""
        return stream in self._logs

    def exists(self, stream: str) -> bool:
        """Whether the stream is there, or was when it was last looked at."""
        return stream in self._logs or self._journal.has(stream)

    def opened(self) -> list[str]:
        """Home streams that were looked at or appended to since the start; cheap."""
        return list(self._seen)

    def forget(self, stream: str) -> None:
        """The stream was removed from the journal."""
        for kept in (self._logs, self._seen):
            kept.pop(stream, None)
        self._drop_ring(stream)

    def ensure(self, stream: str) -> Head:
        """The ends of a stream that is known to belong to something; made when it is still empty."""
        if stream not in self._logs:
            log = self._logs[stream] = self._journal.open(stream)
            self._seen.setdefault(stream, log.last_seq)
        return self.head(stream)

    def head(self, stream: str) -> Head:
        """The ends of what can be read. Raises HiveError STREAM_NOT_FOUND."""
        log = self._log(stream)
        return Head(log.epoch, self._seen[stream], log.first_seq)

    def follow(self, stream: str) -> None:
        """Keep newest frames of `stream` encoded in memory, until as many `unfollow` came."""
        self._follows[stream] = self._follows.get(stream, 0) + 1
        if stream not in self._rings:
            self._log(stream)
            self._rings[stream] = Ring(self._seen[stream])

    def unfollow(self, stream: str) -> None:
        """The other end of `follow`."""
        left = self._follows.get(stream, 0) - 1
        if left > 0:
            self._follows[stream] = left
            return
        self._follows.pop(stream, None)
        self._drop_ring(stream)

    def _drop_ring(self, stream: str) -> None:
        ring = self._rings.pop(stream, None)
        if ring is not None:
            self._ring_bytes -= ring.size_bytes

    def newest(
        self, stream: str, after_seq: int, max_frames: int, max_bytes: int
    ) -> list[Frame] | None:
        """Frames after `after_seq` from memory, possibly none; None when memory does not reach back so far.

        At least one frame, however large, when there is one."""
        ring = self._rings.get(stream)
        if ring is None:
            return None
        if ring.last < self._seen[stream]:
            self._extend(stream, ring)
        return ring.page(after_seq, max_frames, max_bytes)

    def last_seq(self, stream: str) -> int:
        """The newest event that may be shown of a stream that is followed."""
        return self._seen[stream]

    def backlog(self, stream: str) -> float:
        """How much of the memory for newest frames is new since they were last asked for; 1 = all."""
        ring = self._rings.get(stream)
        if ring is None:
            return 0.0
        count = self._seen.get(stream, 0) - ring.asked
        return max(count / RING_FRAMES, ring.unseen_bytes / RING_BYTES)

    def frames(self, stream: str, after_seq: int, max_frames: int, max_bytes: int) -> list[Frame]:
        """Frames after `after_seq`, from memory or else from the log; empty only at the head.

        Reads files when it must: followers on the event loop use `newest`, then `read_log` in a thread.
        Raises OSError when the log cannot be read."""
        found = self.newest(stream, after_seq, max_frames, max_bytes)
        return self.read_log(stream, after_seq, max_frames, max_bytes) if found is None else found

    def read_log(self, stream: str, after_seq: int, max_frames: int, max_bytes: int) -> list[Frame]:
        """The same from the log alone; may be called in any thread. Raises OSError."""
        log, seen = self._logs.get(stream), self._seen.get(stream, 0)
        if log is None or after_seq >= seen:
            return []
        records = reader.read_after(log, after_seq, max_frames, max_bytes=max_bytes)
        return [_frame_of(stream, log.epoch, record) for record in records if record.seq <= seen]

    # --- positions ---------------------------------------------------------------------------------

    def resolve_since(
        self, stream: str, since: Since, *, wants: Callable[[str], bool] | None = None
    ) -> Start:
        """Where to start in the home stream `stream`.

        `since`: "now", "start", {"last": n} (of the types that `wants` accepts), {"time": ISO 8601 or a
        duration such as 10m}, or a cursor {"epoch", "seq"}. A cursor of another epoch, or older than the
        log reaches, starts at the oldest event, with the reason. Raises HiveError: STREAM_NOT_FOUND,
        INVALID_PARAMS (no time), UNRECOVERABLE_POSITION (beyond the end). May read files."""
        head = self.head(stream)
        oldest = max(head.first_seq - 1, 0)
        if since == "now":
            return Start(head.epoch, head.last_seq)
        if since == "start":
            return Start(head.epoch, oldest)
        assert isinstance(since, dict)
        if "last" in since:
            return Start(head.epoch, self._before_last(stream, int(since["last"]), wants))
        if "time" in since:
            found = reader.find_time(self._logs[stream], self._time_us(since["time"]))
            return Start(head.epoch, min(max(found - 1, oldest), head.last_seq))
        if since["epoch"] != head.epoch:
            return Start(head.epoch, oldest, "epoch_changed")
        if since["seq"] > head.last_seq:
            raise HiveError(
                "UNRECOVERABLE_POSITION",
                f"{stream} ends at {head.last_seq}, before position {since['seq']}.",
                details={"next": {"epoch": head.epoch, "seq": head.last_seq + 1}},
            )
        if since["seq"] < oldest:
            return Start(head.epoch, oldest, "retention")
        return Start(head.epoch, int(since["seq"]))

    def _before_last(self, stream: str, count: int, wants: Callable[[str], bool] | None) -> int:
        head = self.head(stream)
        oldest = max(head.first_seq - 1, 0)
        if wants is None or count == 0:
            return max(head.last_seq - count, oldest)
        before = head.last_seq + 1
        for _ in range(_FILTER_PAGES):
            page = reader.read_before(
                self._logs[stream], before, _FILTER_PAGE, max_bytes=RING_BYTES
            )
            if not page:
                break
            for record in reversed(page):
                count -= wants(record.type)
                if count == 0:
                    return record.seq - 1
            before = page[0].seq
        return max(before - 1, oldest)

    def _time_us(self, text: str) -> int:
        try:
            return self._clock.now_us() - int(parse_duration_s(text) * MICROSECOND)
        except ValueError:
            pass
        try:
            return parse_time_us(text)
        except (ValueError, OverflowError):
            raise HiveError(
                "INVALID_PARAMS",
                f"{text!r} is no time.",
                hint="Give ISO 8601 such as 2026-01-31T08:00:00Z, or a duration such as 10m.",
            ) from None

    # --- within ------------------------------------------------------------------------------------

    def _log(self, stream: str) -> StreamLog:
        log = self._logs.get(stream)
        if log is None:
            if stream not in self._journal.streams():
                raise HiveError("STREAM_NOT_FOUND", f"There is no stream {excerpt(stream, 100)!r}.")
            log = self._logs[stream] = self._journal.open(stream)
            self._seen.setdefault(stream, log.last_seq)
        return log

    def _extend(self, stream: str, ring: Ring) -> None:
        seen = self._seen[stream]
        while ring.last < seen:
            new = self.read_log(stream, ring.last, RING_FRAMES, RING_BYTES)
            if not new:
                # A hole (damage set aside): what lies before it is read from the log.
                self._restart(ring, seen)
            elif new[-1].seq - new[0].seq != len(new) - 1:
                self._restart(ring, new[-1].seq)
            else:
                self._add(ring, new)
        self._bound_all()

    def _add(self, ring: Ring, frames: list[Frame]) -> None:
        before = ring.size_bytes
        ring.extend(frames)
        self._ring_bytes += ring.size_bytes - before
        self._trim(ring, RING_BYTES)

    def _restart(self, ring: Ring, last: int) -> None:
        self._ring_bytes -= ring.size_bytes
        ring.restart(last)

    def _bound_all(self) -> None:
        while (surplus := self._ring_bytes - ALL_RINGS_BYTES) > 0:
            largest = max(self._rings.values(), key=_size_of_ring)
            self._trim(largest, max(0, largest.size_bytes - surplus))

    def _trim(self, ring: Ring, max_bytes: int) -> None:
        before = ring.size_bytes
        ring.trim(RING_FRAMES, max_bytes)
        self._ring_bytes -= before - ring.size_bytes


def _frame_of(stream: str, epoch: str, record: Record) -> Frame:
    payload = wire.encode_event(stream, epoch, record)
    return Frame(record.seq, record.type, record.execution, wire.text_frame(payload))


def _frames_of(stream: str, epoch: str, seq: int, entries: Sequence[Entry]) -> list[Frame]:
    """The frames of what was just appended, the same as if it were read from the log."""
    found: list[Frame] = []
    for entry in entries:
        first = seq + len(found)
        if isinstance(entry, Lines):
            payloads = wire.encode_alike(
                stream,
                epoch,
                first,
                entry.data,
                ts=entry.ts,
                type=entry.type,
                execution=entry.execution,
                session=entry.session,
            )
            found += [
                Frame(number, entry.type, entry.execution, wire.text_frame(payload))
                for number, payload in enumerate(payloads, first)
            ]
        else:
            found.append(_frame_of(stream, epoch, entry.numbered(first)))
    return found


def _size_of_ring(ring: Ring) -> int:
    return ring.size_bytes


def is_view(stream: str) -> bool:
    """Whether the name is a view over home streams."""
    return stream in VIEWS
