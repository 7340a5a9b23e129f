"""What a process says: followed, kept word for word in the log, and turned into facts in the store."""

from __future__ import annotations

import asyncio
import base64
from functools import partial
from typing import Any

import msgspec

from hivectl.engine.budgets import budgets_of
from hivectl.engine.deadline import Deadline
from hivectl.engine.effects import Applied, apply_effects
from hivectl.engine.live import Live
from hivectl.engine.permission import timeouts_of
from hivectl.engine.publisher import Companion
from hivectl.engine.questions import patience_of
from hivectl.engine.warm import has_done_well
from hivectl.engine.writing import Writer
from hivectl.journal import blobs
from hivectl.journal.record import Draft, Source
from hivectl.journal.writer import StreamLog
from hivectl.ports import (
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
)

_encode = msgspec.json.Encoder().encode
READ_BYTES = 256 * 1024
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
        self._err_start = 0
        self._err_rest = b""
        self._stderr_tail = b""
        self._is_over = False
        self.saw_output = False

    def go_on_from(self, log: StreamLog) -> None:
        """Begin where the log ends: what it has is not read again."""
        process, start = self._live.process, self._live.execution.output_start
        self.begin(max(log.source_end(process, "o"), start), log.source_end(process, "e"))
        self.saw_output = self.out > start
        self._err_start = 0

    def begin(self, out: int, err: int) -> None:
        """Begin here in the two spools: what came before is another execution's."""
        self.out = self._fed = out
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

    async def follow(self) -> Exit | None:
        """Read to the end of the process; or, where it may stay for another prompt, to the verdict: None."""
        handle, conversation = self._live.handle, self._live.conversation
        assert handle is not None
        assert conversation is not None
        was_stalled = self._live.execution.stalled is not None
        while True:
            ended = handle.exit
            out = await self._live.patiently(partial(handle.read, "out", self._fed, READ_BYTES))
            if out:
                await self._take(conversation.feed(out, self._fed))
                self._fed += len(out)
            if self._is_over:
                self._is_over = False
                return None
            at = self.err + len(self._err_rest)
            err = await self._live.patiently(partial(handle.read, "err", at, READ_BYTES))
            if err:
                await self._take_stderr(err)
            if handle.is_stalled != was_stalled:
                was_stalled = handle.is_stalled
                await self._live.note(stalled="storage_full" if was_stalled else None)
            if out or err:
                await asyncio.sleep(0)  # a flood from one run leaves the others their turn
            elif ended is not None:
                await self._take(conversation.flush())
                await self._take_stderr(b"", is_end=True)
                return ended
            else:
                await handle.wait_change(IDLE_S)

    async def _take(self, seen: list[Seen]) -> None:
        if not seen:
            return
        drafts: list[Draft] = []
        effects: list[tuple[int, Seen]] = []
        end = at = self.out
        spill_bytes = self._live.world.settings().number("log.spill_bytes")
        for item in seen:
            match item:
                case MessageSeen():
                    if len(item.raw) > spill_bytes:
                        drafts.append(await self._live.patiently(partial(self._spill, item)))
                    else:
                        drafts.append(self._draft(item))
                    end = at = item.end
                    self.saw_output = True
                    if item.kind == "assistant" and self._live.execution.retrying is not None:
                        effects.append((end, item))
                case Partial():
                    at = item.end
                    raw = msgspec.Raw(item.raw)
                    self._live.world.bus.ephemeral(
                        self._live.log.stream,
                        "partial",
                        {"after_seq": self._live.log.last_seq, "raw": raw},
                        execution=self._live.id,
                    )
                case ReplyNeeded():
                    self._writer.add(item.frame, item.data)
                case _:
                    effects.append((at, item))
        if effects:
            await self._apply(effects, drafts)
        else:
            self._live.world.publisher.append(self._live.log.stream, drafts)
        self.out = end
        self._writer.kick()
        await self._live.world.publisher.wait_clear(self._live.log.stream)

    async def _apply(self, effects: list[tuple[int, Seen]], drafts: list[Draft]) -> None:
        if (
            any(isinstance(item, PermissionAsked | QuestionAsked) for _, item in effects)
            and not self._deadline.is_lifted
        ):
            # Before anybody is asked: a daemon that dies while a person thinks must not cost the run.
            await self._deadline.set(None)
        settings = self._live.world.settings()
        default, budgets = settings.text("approval.default"), budgets_of(settings)
        patience, timeouts = patience_of(settings), timeouts_of(settings)
        applied = await self._live.commit(
            lambda tx: apply_effects(
                tx,
                self._live.id,
                effects,
                default=default,
                budgets=budgets,
                patience=patience,
                timeouts=timeouts,
            ),
            Companion(self._live.log.stream, drafts),
        )
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

    def _draft(self, item: MessageSeen) -> Draft:
        if item.is_json:
            return self._draft_of(item, {"raw": msgspec.Raw(item.raw)})
        return self._draft_of(item, {"raw_b64": base64.b64encode(item.raw).decode()})

    def _spill(self, item: MessageSeen) -> Draft:
        """Writes a file of its own: the disk may refuse."""
        ref = blobs.write_blob(self._live.log, item.raw)
        return self._draft_of(item, {**ref, "is_json": item.is_json})

    def _draft_of(self, item: MessageSeen, content: dict[str, Any]) -> Draft:
        head: dict[str, Any] = {"kind": item.kind, "direction": "out"}
        if item.subtype:
            head["subtype"] = item.subtype
        if item.text:
            head["text"] = item.text
        return Draft(
            "message",
            _encode(head | content),
            self._live.world.clock.now_us(),
            self._live.id,
            self._live.execution.session,
            src=Source(self._live.process, "o", item.end),
        )

    async def _take_stderr(self, data: bytes, *, is_end: bool = False) -> None:
        rest = self._err_rest + data
        drafts: list[Draft] = []
        while rest:
            cut = rest.find(b"\n", 0, STDERR_LINE_MAX)
            if cut < 0 and len(rest) < STDERR_LINE_MAX and not is_end:
                break
            size = cut + 1 if cut >= 0 else min(len(rest), STDERR_LINE_MAX)
            line, rest = rest[:size], rest[size:]
            self.err += size
            self._stderr_tail = (self._stderr_tail + line)[-STDERR_TAIL:]
            body = msgspec.json.encode({"text": line.rstrip(b"\r\n").decode("utf-8", "replace")})
            source = Source(self._live.process, "e", self.err)
            drafts.append(
                Draft(
                    "stderr",
                    body,
                    self._live.world.clock.now_us(),
                    self._live.id,
                    self._live.execution.session,
                    src=source,
                )
            )
        self._err_rest = rest
        self._live.world.publisher.append(self._live.log.stream, drafts)
        await self._live.world.publisher.wait_clear(self._live.log.stream)

    def stderr_tail(self) -> str:
        """The last of what it wrote to stderr."""
        if not self._stderr_tail and self._live.handle is not None and self.err > self._err_start:
            start = max(self._err_start, self.err - STDERR_TAIL)
            self._stderr_tail = self._live.handle.read("err", start, self.err - start)
        return self._stderr_tail.decode("utf-8", "replace")
