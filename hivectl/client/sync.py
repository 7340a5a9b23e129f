"""The same client for programs without asyncio: a loop of its own, in a thread of its own.

with SyncClient() as hive:
    accepted = hive.execute("web", "Fix the failing test")
    print(hive.execution_wait(accepted["execution"])["result"])
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from hivectl.client.aio import Client
from hivectl.client.calls_sync import CallsSync
from hivectl.client.subscription import Subscription

if TYPE_CHECKING:
    from hivectl.config import Settings
    from hivectl.protocol.results import AuthResult, Event, Unsubscribed

T = TypeVar("T")


class SyncClient(CallsSync):
    """Blocking methods named after METHODS; usable from several threads. Raises HiveError."""

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        autostart: bool | None = None,
        name: str = "hivectl.client",
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._client = Client(settings, autostart=autostart, name=name, say=say)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="hivectl client", daemon=True
        )

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._run(self._client.connect())
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave and end the thread."""
        if self._loop.is_closed():
            return
        self._run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def call(self, method: str, /, **params: Any) -> Any:
        """One request by its name on the wire."""
        return self.request(method, params)

    def request(self, method: str, params: dict[str, Any]) -> Any:
        """Send one request and return its result."""
        return self._run(self._client.request(method, params))

    def auth(self, token: str | None = None) -> AuthResult:
        """Renew the credential of this connection."""
        return self._run(self._client.auth(token))

    def unsubscribe(self, sub: str) -> Unsubscribed:
        """Stop following on the request connection."""
        return self._run(self._client.unsubscribe(sub))

    @contextmanager
    def subscribe(
        self,
        streams: Sequence[str],
        *,
        since: Any = "now",
        types: Sequence[str] | None = None,
        partials: bool = False,
    ) -> Iterator[Iterator[Event]]:
        """Follow streams: `with hive.subscribe(["*"]) as events: for event in events: ...`."""
        subscription = self._client.subscribe(streams, since=since, types=types, partials=partials)
        with self._following(subscription) as events:
            yield events

    @contextmanager
    def tail(
        self,
        projects: Sequence[str] = (),
        *,
        last: int = 10,
        types: Sequence[str] | None = None,
        partials: bool = False,
    ) -> Iterator[Iterator[Event]]:
        """Follow projects (none = all) from their last events on."""
        subscription = self._client.tail(projects, last=last, types=types, partials=partials)
        with self._following(subscription) as events:
            yield events

    @contextmanager
    def _following(self, subscription: Subscription) -> Iterator[Iterator[Event]]:
        self._run(subscription.__aenter__())
        source = aiter(subscription)
        try:
            yield self._iterate(source)
        finally:
            with suppress(RuntimeError):
                self._run(cast("Any", source).aclose())
            self._run(subscription.__aexit__(None, None, None))

    def _iterate(self, source: Any) -> Iterator[Event]:
        async def following() -> Event | None:
            return cast("Event | None", await anext(source, None))

        while (event := self._run(following())) is not None:
            yield event

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise
