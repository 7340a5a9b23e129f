"""What a process says: followed, kept word for word in the log, and turned into facts in the store."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from functools import lru_cache, partial
from operator import itemgetter

import msgspec

from hivectl.engine.budgets import budgets_of
from hivectl.engine.deadline import Deadline
from hivectl.engine.effects import Applied, apply_effects
from hivectl.engine.live import Live
from hivectl.engine.permission import timeouts_of
from hivectl.engine.publisher import Companion
from hivectl.engine.questions import patience_of
from hivectl.engine.tally import Tally
from hivectl.engine.warm import has_done_well
from hivectl.engine.writing import Writer
from hivectl.journal import blobs
from hivectl.journal.record import Entry, Lines
from hivectl.journal.writer import StreamLog
from hivectl.ports import (
    Conversation,
    Exit,
    MessageSeen,
    Partial,
    PermissionAsked,
    QuestionAsked,
    ReplyNeeded,
    RunSpec,
    Seen,
    StopMode,
    StopReason,
    UsageSeen,
)

_encode = msgspec.json.Encoder().encode
READ_BYTES = 256 * 1024
"""Most of one spool that is looked at in one turn,"""
READ_BYTES_MIN = 16 * 1024
"""and what that goes down to where its lines take long."""
TURN_S = 0.004
"""About how long a run may keep the others from their turn: its lines are taken apart in this time."""
REPLY_BYTES = 256 * 1024
"""How far back a daemon looks, after a restart, for requests of Claude that may have got no reply."""
IDLE_S = 3600.0
"""Longest time between two looks at a process that reports nothing; changes are announced at once."""
STDERR_LINE_MAX = 16 * 1024
STDERR_TAIL = 8 * 1024


class Reader:
    """Follows the output of one execution's process."""

    def __init__(self, live: Live, writer: Writer, deadline: Deadline) -> None:
        """What its output asks for goes to the writer; the clock stands while it waits for a person."""
        self._live = live
        self._writer = writer
        self._deadline = deadline
        self.out = 0
        """Offset in the output spool up to which the log has it."""
        self.err = 0
        """The same of stderr."""
        self._fed = 0
        self._at = 0
        """Offset after the last line that was read, kept or not; `_fed` may lie within a line."""
        self._turn_bytes = READ_BYTES
        self._tally = Tally(live.world.clock)
        self._err_start = 0
        self._err_rest = b""
        self._stderr_tail = b""
        self._is_over = False
        self.saw_output = False

    def go_on_from(self, log: StreamLog) -> None:
        """Begin where the log ends: what it has is not read again."""
        process, start = self._live.process, self._live.execution.output_start
        self.begin(max(log.source_end(process, "o"), start), log.source_end(process, "e"))
        self._tally.stored = max(self._live.execution.applied_end, start)
        self.saw_output = self.out > start
        self._err_start = 0

    def begin(self, out: int, err: int) -> None:
        """Begin here in the two spools: what came before is another execution's."""
        self.out = self._fed = self._at = self._tally.stored = out
        self.err = self._err_start = err

    async def reply_again(self, spec: RunSpec) -> None:
        """Answer once more what the protocol demands an answer to, as far back as REPLY_BYTES: the log may
        have had a request when a crash came before its reply. What was written is not written twice."""
        handle = self._live.handle
        assert handle is not None
        start = max(0, self.out - REPLY_BYTES)
        length = self.out - start
        said = await self._live.patiently(partial(handle.read, "out", start, length))
        again = self._live.world.agent.conversation(spec, offset=start)
        for item in again.feed(said, start):
            if isinstance(item, ReplyNeeded):
                self._writer.add(item.frame, item.data)

    async def count_again(self, spec: RunSpec) -> None:
        """Store the figures of messages that the log has and the store, because of a crash, has not."""
        handle = self._live.handle
        assert handle is not None
        at = self._tally.stored
        again = self._live.world.agent.conversation(spec, offset=at)
        while at < self.out:
            length = min(READ_BYTES, self.out - at)
            said = await self._live.patiently(partial(handle.read, "out", at, length))
            if not said:
                break
            for item in again.feed(said, at):
                if isinstance(item, UsageSeen):
                    self._tally.add(again.consumed, item)
            at += len(said)
            self._at = again.consumed
            if self._tally.is_due(self._at):
                await self._apply([], [], self._at)
            await asyncio.sleep(0)
        await self.settle()

    async def follow(self) -> Exit | None:
        """Read to the end of the process; or, where it may stay for another prompt, to the verdict: None."""
        handle, conversation = self._live.handle, self._live.conversation
        assert handle is not None
        assert conversation is not None
        was_stalled = self._live.execution.stalled is not None
        while True:
            ended = handle.exit
            room, err_room = self._room(), self._turn_bytes
            out = await self._live.patiently(partial(handle.read, "out", self._fed, room))
            if out:
                await self._take(self._feed(conversation, out))
            if self._is_over:
                self._is_over = False
                return None
            at = self.err + len(self._err_rest)
            err = await self._live.patiently(partial(handle.read, "err", at, err_room))
            if err:
                await self._take_stderr(err)
            if handle.is_stalled != was_stalled:
                was_stalled = handle.is_stalled
                await self._live.note(stalled="storage_full" if was_stalled else None)
            if len(out) == room or len(err) == err_room or (ended is not None and (out or err)):
                # There is more. A flood from one run leaves the others their turn.
                await asyncio.sleep(0)
            elif ended is not None:
                await self._take(conversation.flush())
                await self._take_stderr(b"", is_end=True)
                await self.settle()
                return ended
            elif self._tally.is_due(self._at):
                await self.settle()
            else:
                await handle.wait_change(self._tally.patience_s(IDLE_S))

    def _room(self) -> int:
        """How much to read. Never across the offset up to which effects are stored: what is read together
        has had its effects, or has not."""
        before = self._tally.stored - self._fed
        return min(self._turn_bytes, before) if before > 0 else self._turn_bytes

    def _feed(self, conversation: Conversation, data: bytes) -> list[Seen]:
        """The facts in the next bytes; how long that takes says how many the next turn gets."""
        clock = self._live.world.clock
        start = clock.monotonic()
        seen = conversation.feed(data, self._fed)
        self._fed += len(data)
        took = clock.monotonic() - start
        if took > TURN_S:
            self._turn_bytes = max(self._turn_bytes // 2, READ_BYTES_MIN)
        elif took < TURN_S / 2:
            self._turn_bytes = min(self._turn_bytes * 2, READ_BYTES)
        return seen

    async def _take(self, seen: list[Seen]) -> None:
        if not seen:
            return
        data: list[bytes] = []
        ends: list[int] = []
        effects: list[tuple[int, Seen]] = []
        spill_bytes = self._live.world.settings().number("log.spill_bytes")
        for item in seen:
            if isinstance(item, MessageSeen):
                is_long = len(item.raw) > spill_bytes
                data.append(await self._spill(item) if is_long else data_of(item))
                self._at = item.end
                ends.append(item.end)
            elif not self._settles(item):
                effects.append((self._at, item))
        if self._live.execution.retrying is not None:
            effects += _answers(seen)
            effects.sort(key=itemgetter(0))
        entries = [self._lines("message", "o", data, ends)] if data else []
        if effects:
            await self._apply(effects, entries, self._at)
        else:
            self._live.world.publisher.append(self._live.log.stream, entries)
            if self._tally.is_due(self._at):
                await self._apply([], [], self._at)
        if data:
            self.out = ends[-1]
            self.saw_output = True
        self._writer.kick()
        await self._live.world.publisher.wait_clear(self._live.log.stream)

    def _settles(self, item: Seen) -> bool:
        """Whether nothing is to be stored at once for this."""
        if isinstance(item, UsageSeen):
            self._tally.add(self._at, item)
        elif isinstance(item, Partial):
            self._at = item.end
            self._show(item)
        elif isinstance(item, ReplyNeeded):
            self._writer.add(item.frame, item.data)
        else:
            return False
        return True

    def _lines(self, type_: str, spool: str, data: list[bytes], ends: list[int]) -> Lines:
        live = self._live
        session = live.execution.session
        now_us = live.world.clock.now_us()
        return Lines(type_, now_us, live.id, session, live.process, spool, data, ends)

    def _show(self, item: Partial) -> None:
        self._live.world.bus.ephemeral(
            self._live.log.stream,
            "partial",
            {"after_seq": self._live.log.last_seq, "raw": msgspec.Raw(item.raw)},
            execution=self._live.id,
        )

    async def settle(self) -> None:
        """Store the figures that wait."""
        if not self._tally.is_empty:
            await self._apply([], [], self._at)

    async def _apply(
        self, effects: list[tuple[int, Seen]], entries: Sequence[Entry], at: int
    ) -> None:
        """Store what follows from the output up to `at`: `effects`, and figures that wait since before."""
        if (
            any(isinstance(item, PermissionAsked | QuestionAsked) for _, item in effects)
            and not self._deadline.is_lifted
        ):
            # Before anybody is asked: a daemon that dies while a person thinks must not cost the run.
            await self._deadline.set(None)
        settings = self._live.world.settings()
        default, budgets = settings.text("approval.default"), budgets_of(settings)
        patience, timeouts = patience_of(settings), timeouts_of(settings)
        waiting = self._tally.take()
        applied = await self._live.commit(
            lambda tx: apply_effects(
                tx,
                self._live.id,
                [*waiting, *effects],
                upto=at,
                default=default,
                budgets=budgets,
                patience=patience,
                timeouts=timeouts,
            ),
            Companion(self._live.log.stream, entries),
        )
        self._tally.stored = max(self._tally.stored, at)
        await self._after(applied)

    async def _after(self, applied: Applied) -> None:
        self._live.execution = applied.execution
        for answered in applied.decided:
            self._writer.answer(answered)
        await self._deadline.tend(applied.execution)
        if applied.is_stopped:
            await self._live.end_by(StopMode.TERMINATE, StopReason.BUDGET)
        if applied.is_over and self._live.signature is not None:
            self._is_over = has_done_well(applied.execution)
        if applied.is_over and not self._is_over:
            self._writer.close()

    async def _spill(self, item: MessageSeen) -> bytes:
        """Writes a file of its own: the disk may refuse."""
        ref = await self._live.patiently(partial(blobs.write_blob, self._live.log, item.raw))
        return _head_of(item) + b"," + _encode({**ref, "is_json": item.is_json})[1:]

    async def _take_stderr(self, data: bytes, *, is_end: bool = False) -> None:
        rest = self._err_rest + data
        bodies: list[bytes] = []
        ends: list[int] = []
        while rest:
            cut = rest.find(b"\n", 0, STDERR_LINE_MAX)
            if cut < 0 and len(rest) < STDERR_LINE_MAX and not is_end:
                break
            size = cut + 1 if cut >= 0 else min(len(rest), STDERR_LINE_MAX)
            line, rest = rest[:size], rest[size:]
            self.err += size
            self._stderr_tail = (self._stderr_tail + line)[-STDERR_TAIL:]
            bodies.append(_encode({"text": line.rstrip(b"\r\n").decode("utf-8", "replace")}))
            ends.append(self.err)
        self._err_rest = rest
        lines = self._lines("stderr", "e", bodies, ends)
        self._live.world.publisher.append(self._live.log.stream, [lines])
        await self._live.world.publisher.wait_clear(self._live.log.stream)

    def stderr_tail(self) -> str:
        """The last of what it wrote to stderr."""
        if not self._stderr_tail and self._live.handle is not None and self.err > self._err_start:
            start = max(self._err_start, self.err - STDERR_TAIL)
            self._stderr_tail = self._live.handle.read("err", start, self.err - start)
        return self._stderr_tail.decode("utf-8", "replace")


# --- what a line is in the log ----------------------------------------------------------------------


def data_of(item: MessageSeen) -> bytes:
    """The `data` of a line's event: what hivectl says of it, then the line as it came."""
    head = _known_head(item.kind, item.subtype)
    if item.is_json and item.text:  # as most are
        return b"".join((head, b',"text":', _encode(item.text), b',"raw":', item.raw, b"}"))
    if item.is_json:
        return b"".join((head, b',"raw":', item.raw, b"}"))
    return b'%b,"raw_b64":"%b"}' % (_head_of(item), base64.b64encode(item.raw))


def _head_of(item: MessageSeen) -> bytes:
    """The beginning of its `data`, without what it says itself."""
    head = _known_head(item.kind, item.subtype)
    return b'%b,"text":%b' % (head, _encode(item.text)) if item.text else head


def _answers(seen: Sequence[Seen]) -> list[tuple[int, Seen]]:
    return [
        (item.end, item)
        for item in seen
        if isinstance(item, MessageSeen) and item.kind == "assistant"
    ]


@lru_cache(maxsize=256)
def _known_head(kind: str, subtype: str) -> bytes:
    fields = {"kind": kind, "direction": "out"} | ({"subtype": subtype} if subtype else {})
    return _encode(fields)[:-1]
