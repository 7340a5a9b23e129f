"""What a worker is to do, as it sees it: the prompt, and the ways to speak meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from hivectl.model.errors import HiveError

Ask = Callable[..., Awaitable[Any]]
"""ask(method, **params): one request, repeated over lost connections."""

PART_CHARS = 50_000
"""A longer text is posted in several messages."""
PARTS_A_CALL = 4
ASK_AGAIN_S = 0.5


class Permanent(Exception):  # noqa: N818  it names what happened
    """Raised in `handle`: it cannot be done, and another attempt is of no use."""


class Unanswered(Exception):  # noqa: N818
    """Nobody answered in time, or a person declined to."""


class Job:
    """One work order in the hands of a worker. `usage` may be filled in with what the work cost: the names
    of `queue.complete`, such as `input_tokens` and `cost_usd`."""

    def __init__(self, given: Mapping[str, Any], *, worker: str, asker: str, ask: Ask) -> None:
        """From the answer to a claim; `asker` is the worker's name as an actor."""
        self.execution: str = given["execution"]
        self.work_order: str = given["work_order"]
        self.attempt: int = given["attempt"]
        self.prompt: str = given["prompt"]
        self.project: dict[str, Any] = given["project"]
        """Its id, name and path."""
        self.session: str = given["session"]
        self.options: dict[str, Any] = given["options"]
        self.usage: dict[str, Any] = {}
        self.is_cancelled = False
        """Somebody wants it stopped: `handle` is cancelled at its next `await`."""
        self.cancel_reason: str | None = None
        self.is_lost = False
        """The daemon no longer counts on this worker for it: whatever it returns is dropped."""
        self._worker = worker
        self._asker = asker
        self._request = ask
        self._next: int = given["outputs"]
        self._posting = asyncio.Lock()
        self._task: asyncio.Task[Any] | None = None

    async def output(self, text: str, *, kind: str = "assistant") -> None:
        """Say something: it stands in the project's log once, and whoever follows sees it."""
        parts = [
            {"kind": kind, "text": text[at : at + PART_CHARS]}
            for at in range(0, len(text), PART_CHARS)
        ]
        await self._post(parts)

    async def output_raw(self, message: Mapping[str, Any], *, kind: str = "assistant") -> None:
        """The same with an object in the form of Claude's messages."""
        await self._post([{"kind": kind, "raw": dict(message)}])

    async def _post(self, messages: list[dict[str, Any]]) -> None:
        async with self._posting:
            for at in range(0, len(messages), PARTS_A_CALL):
                taken = await self._request(
                    "queue.output",
                    worker=self._worker,
                    execution=self.execution,
                    first=self._next,
                    messages=messages[at : at + PARTS_A_CALL],
                )
                self._next = taken["next"]

    async def ask(
        self,
        text: str,
        *,
        choices: Sequence[str] = (),
        multi: bool = False,
        context: str = "",
        timeout_s: float | None = None,
        on_timeout: str | None = None,
    ) -> str:
        """Ask a person and wait for the answer, over restarts of the daemon; the execution waits meanwhile.

        Returns the choice, or the person's own words. Raises Unanswered."""
        given = {"choices": list(choices), "multi": multi, "context": context}
        given |= {"timeout_s": timeout_s, "on_timeout": on_timeout}
        asked = await self._ask_once(text, {k: v for k, v in given.items() if v is not None})
        while asked["state"] == "pending":
            asked = await self._request("question.wait", id=asked["id"])
        if asked["state"] == "answered" and not asked["declined"]:
            return str(asked["answer"])
        raise Unanswered(asked["answer"] or asked["reason"] or f"The question is {asked['state']}.")

    async def _ask_once(self, text: str, given: dict[str, Any]) -> Any:
        """Ask, and when the answer to that was lost look whether it was asked before asking again."""
        while True:
            try:
                return await self._request(
                    "question.ask",
                    once=True,
                    text=text,
                    worker=self._worker,
                    execution=self.execution,
                    **given,
                )
            except HiveError as exc:
                if not exc.kind.retryable:
                    raise
                await asyncio.sleep(ASK_AGAIN_S)
            page = await self._request("question.list", execution=self.execution)
            for asked in page["items"]:
                if asked["text"] == text.strip() and asked["asker"] == self._asker:
                    return asked

    # --- what the worker does to it -----------------------------------------------------------------

    def attach(self, task: asyncio.Task[Any]) -> None:
        """This task does it."""
        self._task = task

    def cancel(self, reason: str | None) -> None:
        """Somebody wants it stopped."""
        if not self.is_cancelled:
            self.is_cancelled, self.cancel_reason = True, reason
            self._stop()

    def lose(self) -> None:
        """It is no longer ours."""
        if not self.is_lost:
            self.is_lost = True
            self._stop()

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
