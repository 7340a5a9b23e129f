"""What a process hears: frames in order, each written once, beside the reading."""

from __future__ import annotations

import asyncio
from collections import deque
from functools import partial
from typing import Any

from hivectl.engine.live import Live
from hivectl.model.approval import Approval
from hivectl.model.question import Question
from hivectl.ports import Answer
from hivectl.store import pending


class Writer:
    """The stdin of one execution's process."""

    def __init__(self, live: Live) -> None:
        """Nothing is written before `kick`."""
        self._live = live
        self._outgoing: deque[tuple[str, bytes, str | None] | None] = deque()
        self._task: asyncio.Task[Any] | None = None
        self._is_closing = False

    @property
    def is_idle(self) -> bool:
        """Everything is written, and the input is open."""
        is_writing = self._task is not None and not self._task.done()
        return not (self._outgoing or is_writing or self._is_closing)

    def add(self, frame: str, data: bytes) -> None:
        """Write a frame when its turn comes; the next `kick` begins."""
        self._outgoing.append((frame, data, None))

    def answer(self, answered: Approval | Question) -> None:
        """Let Claude hear a decision or an answer, and note that it did."""
        conversation = self._live.conversation
        assert conversation is not None
        if isinstance(answered, Question):
            if answered.request is None or answered.rpc is None:
                return  # asked through the protocol, where it is read as well
            text, is_error = answered.reply
            frame, data = conversation.reply(
                answered.request, answered.rpc, text, is_error=is_error
            )
        else:
            said = answered.answer or {"allow": False, "message": "No answer."}
            frame, data = conversation.answer(answered.request, Answer(**said))
        self._outgoing.append((frame, data, answered.id))
        self.kick()

    def close(self) -> None:
        """End of input, after what is to be written before it."""
        if not self._is_closing:
            self._is_closing = True
            self._outgoing.append(None)
            self.kick()

    def kick(self) -> None:
        """Frames go out one after the other, beside the reading: Claude may not read while we do not."""
        if (
            self._outgoing
            and (self._task is None or self._task.done())
            and self._live.handle is not None
        ):
            self._task = self._live.world.nursery.start(
                self._write_frames(), name=f"stdin of {self._live.id}"
            )

    async def _write_frames(self) -> None:
        handle = self._live.handle
        assert handle is not None
        while self._outgoing:
            item = self._outgoing.popleft()
            if item is None:
                await self._live.insist(partial(handle.close_stdin, hang=True))
                continue
            frame, data, answered = item
            was_written = await handle.write(frame, data)
            if was_written and answered is not None:
                await self._live.commit(partial(pending.delivered, id_=answered))
