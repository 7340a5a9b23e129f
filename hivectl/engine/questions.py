"""Questions in time: those that nobody answers expire, and whoever waits for an answer hears of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from hivectl.config import Settings
from hivectl.engine.live import RETRYABLE, World
from hivectl.model.errors import HiveError
from hivectl.model.question import OnTimeout, Patience, Question, QuestionState
from hivectl.store import questions, work
from hivectl.store.database import OutboxEvent, Tx

_log = logging.getLogger(__name__)

LOOK_S = 3600.0
"""Longest time between two looks: the wall clock may be set meanwhile."""
RETRY_S = 0.5
_CLOSED = frozenset({"question.answered", "question.expired"})


def patience_of(settings: Settings) -> Patience:
    """How long questions wait where a project says nothing else."""
    on_timeout = OnTimeout(settings.text("question.on_timeout"))
    return Patience(settings.seconds("question.timeout_s"), on_timeout)


class Questions:
    """The timers of all questions. They are stored times: a restart forgets none."""

    def __init__(self, world: World, hear: Callable[[Question], Awaitable[None]]) -> None:
        """`hear` lets the asker hear what became of a question."""
        self._w = world
        self._hear = hear
        self._asked = asyncio.Event()
        self._waiters: set[asyncio.Event] = set()

    def on_event(self, event: OutboxEvent) -> None:
        """A question was asked, or is closed."""
        if event.type == "question.asked":
            self._asked.set()
        elif event.type in _CLOSED:
            for changed in self._waiters:
                changed.set()

    async def expire_loop(self) -> None:
        """Close questions when their time is over."""
        while True:
            self._asked.clear()
            try:
                next_us = await self.look()
            except HiveError as exc:
                if exc.code not in RETRYABLE:
                    raise
                await asyncio.sleep(RETRY_S)
                continue
            rest_s = LOOK_S
            if next_us is not None:
                rest_s = min(LOOK_S, max(0.0, (next_us - self._w.clock.now_us()) / 1_000_000))
            try:
                async with asyncio.timeout(rest_s):
                    await self._asked.wait()
            except TimeoutError:
                continue

    async def look(self) -> int | None:
        """Close what is over now; when the next one is."""
        expired, next_us = await self._w.db.write(_expire)
        for question in expired:
            await self._tell(question)
        return next_us

    async def _tell(self, question: Question) -> None:
        try:
            await self._hear(question)
        except HiveError:
            # It is stored, and written again at the latest by the next daemon.
            _log.exception("an asker did not hear", extra={"question": question.id})

    async def wait(self, id_: str, timeout_s: float | None) -> Question:
        """Return when it is closed. Raises QUESTION_NOT_FOUND or WAIT_TIMEOUT."""
        changed = asyncio.Event()
        self._waiters.add(changed)
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    changed.clear()
                    found = await self._w.db.write(lambda tx: questions.find(tx, id_))
                    if found.state is not QuestionState.PENDING:
                        return found
                    await changed.wait()
        except TimeoutError:
            raise HiveError(
                "WAIT_TIMEOUT",
                f"Question {id_} was not answered within {timeout_s:g} s; it still waits.",
                details={"question": id_},
            ) from None
        finally:
            self._waiters.discard(changed)


def _expire(tx: Tx) -> tuple[list[Question], int | None]:
    expired = questions.expire(tx)
    for question in expired:
        if question.execution is not None:
            work.go_on(tx, question.execution)
    return expired, questions.next_expiry_us(tx)
