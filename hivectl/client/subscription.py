"""Follow streams through everything: disconnections, daemon restarts, a reader that is too slow.

Each subscription has a connection of its own, so that overlapping ones cannot take each other's
events. Nothing durable is shown twice and nothing is left out; where history itself was lost the
follower is told by a `Notice`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from hivectl.client.cursor import Cursor
from hivectl.client.errors import ConnectionLost, parse_error
from hivectl.client.link import Link
from hivectl.kit.clock import Clock, SystemClock
from hivectl.kit.ids import jitter
from hivectl.model.errors import HiveError

if TYPE_CHECKING:
    from hivectl.protocol.results import Event, Subscribed

LEAST_BACKOFF_S = 0.5
MOST_BACKOFF_S = 30.0
_WORTH_ANOTHER_TRY = frozenset(
    {"UNAVAILABLE", "SHUTTING_DOWN", "RATE_LIMITED", "CONNECTION_LIMIT", "DRAINING"}
)

Opener = Callable[[], Awaitable[Link]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something about the subscription itself.

    `kind`: caught_up, lagged, reset, epoch_changed, disconnected, reconnected, bookmark.
    """

    kind: str
    data: dict[str, Any] = field(default_factory=dict)


def backoff_s(attempt: int, share: float) -> float:
    """Full jitter: a random share (0 to 1) of 0.5 s doubled with each attempt, at most 30 s."""
    return share * min(MOST_BACKOFF_S, LEAST_BACKOFF_S * 2.0 ** min(attempt, 16))


class Subscription:
    """An async context manager; iterate it for events, or `items()` for events and notices.

    `give_up_s` bounds how long a lost daemon is waited for; None waits for ever. Raises HiveError:
    at entry when the daemon refuses, later only for ends that another try cannot mend.
    """

    def __init__(
        self,
        open_link: Opener,
        *,
        streams: Sequence[str],
        since: Any = "now",
        types: Sequence[str] | None = None,
        partials: bool = False,
        method: str = "subscribe",
        give_up_s: float | None = None,
        clock: Clock | None = None,
        chance: Callable[[], float] = jitter,
    ) -> None:
        self._open_link = open_link
        self._streams = list(streams)
        self._types = list(types) if types is not None else None
        self._partials = partials
        self._method = method
        self._give_up_s = give_up_s
        self._clock = clock or SystemClock()
        self._chance = chance
        self._link: Link | None = None
        self._early: list[Event | Notice] = []
        self.cursor = Cursor(self._streams, since)
        self._since = since
        self.subscribed: Subscribed | None = None

    async def __aenter__(self) -> Self:
        self._link = await self._subscribe()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._link is not None:
            await self._link.close()
            self._link = None

    async def __aiter__(self) -> AsyncIterator[Event]:
        async with aclosing(self._items()) as items:
            async for item in items:
                if not isinstance(item, Notice):
                    yield item

    def items(self) -> AsyncIterator[Event | Notice]:
        """Events and notices, in the order they came."""
        return self._items()

    async def _items(self) -> AsyncGenerator[Event | Notice, None]:
        while True:
            while self._early:
                yield self._early.pop(0)
            assert self._link is not None
            try:
                item = self._take(await self._link.receive())
            except ConnectionLost as lost:
                if lost.is_terminal:
                    raise lost.as_error() from lost
                yield Notice(
                    kind="disconnected", data={"code": lost.code, "graceful": lost.is_graceful}
                )
                await self._reconnect(lost.reconnect_after_ms / 1000)
                yield Notice(kind="reconnected")
                continue
            if item is not None:
                yield item

    def _take(self, frame: dict[str, Any]) -> Event | Notice | None:
        method, params = frame.get("method"), frame.get("params") or {}
        if method == "event":
            if self.cursor.is_new_epoch(params):
                self.cursor.admit(params)
                self._early.append(cast("Event", params))
                return Notice(
                    kind="epoch_changed",
                    data={"stream": params["stream"], "epoch": params["epoch"]},
                )
            return cast("Event", params) if self.cursor.admit(params) else None
        if method in {"caught_up", "bookmark"}:
            self.cursor.advance(params.get("positions") or {})
            return Notice(kind=method, data=params)
        if method == "reset":
            self._apply_reset(params)
            return Notice(kind="reset", data=params)
        if method == "lagged":
            return Notice(kind="lagged", data=params)
        return None

    def _apply_reset(self, params: dict[str, Any]) -> None:
        """`next` is one position or a map of them; a position names the next event, not the last seen."""
        following = params.get("next")
        if not isinstance(following, dict):
            return
        stream = params.get("stream")
        if "seq" in following:
            following = {stream: following} if stream else {}
        self.cursor.replace(
            {
                name: {"epoch": place["epoch"], "seq": max(place["seq"] - 1, 0)}
                for name, place in following.items()
                if isinstance(place, dict) and "seq" in place
            }
        )

    async def _reconnect(self, at_least_s: float) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()
        started, attempt = self._clock.monotonic(), 0
        while True:
            await asyncio.sleep(at_least_s + backoff_s(attempt, self._chance()))
            at_least_s = 0.0
            try:
                self._link = await self._subscribe()
            except HiveError as exc:
                if exc.code == "UNRECOVERABLE_POSITION":
                    self.cursor.forget()
                    self._early.append(Notice(kind="reset", data={"reason": "retention"}))
                    continue
                waited = self._clock.monotonic() - started
                is_late = self._give_up_s is not None and waited >= self._give_up_s
                if exc.code not in _WORTH_ANOTHER_TRY or is_late:
                    raise
            else:
                return
            attempt += 1

    async def _subscribe(self) -> Link:
        link = await self._open_link()
        try:
            await link.send(
                {"jsonrpc": "2.0", "id": 1, "method": self._call()[0], "params": self._call()[1]}
            )
            while True:
                frame = await link.receive()
                if frame.get("id") == 1:
                    break
                if (item := self._take(frame)) is not None:
                    self._early.append(item)
        except ConnectionLost as lost:
            raise lost.as_error() from lost
        except BaseException:
            await link.close()
            raise
        if "error" in frame:
            await link.close()
            raise parse_error(frame["error"])
        self._note(frame["result"])
        return link

    def _call(self) -> tuple[str, dict[str, Any]]:
        params: dict[str, Any] = {"partials": self._partials}
        if self._types is not None:
            params["types"] = self._types
        if self._method == "tail" and not self.cursor.positions:
            return "tail", {**params, "projects": self._streams, "last": self._since}
        streams = self._streams
        if self._method == "tail":
            streams = [f"project:{name}" for name in self._streams] or ["*"]
        since = self.cursor.since()
        return "subscribe", {**params, "streams": streams, "since": since}

    def _note(self, result: dict[str, Any]) -> None:
        is_first = self.subscribed is None
        self.subscribed = cast("Subscribed", result)
        positions = result.get("positions") or {}
        if not result.get("recovered", True) and not is_first:
            data = {"reason": result.get("reason"), "next": positions}
            self._early.append(Notice(kind="reset", data=data))
            # All that is left comes now; asked again before any of it came, it is still all.
            self.cursor.forget()
        if is_first and self._since == "now" and self._method == "subscribe":
            self.cursor.start_at(positions)
