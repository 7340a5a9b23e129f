"""The client for asyncio programs.

    async with Client() as hive:
        accepted = await hive.execute("web", "Fix the failing test")
        async with hive.follow(accepted) as events:
            async for event in events: ...

One connection carries all requests, made when first needed and again after it was lost. Requests that
only read are repeated on a new connection; those that change something are not, unless they carry an
idempotency key, because nobody can tell whether they arrived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

from hivectl import config
from hivectl.client import transport
from hivectl.client.calls import Calls
from hivectl.client.errors import ConnectionLost, parse_error
from hivectl.client.link import Link, open_link
from hivectl.client.subscription import Notice, Subscription, backoff_s
from hivectl.kit.aio import Nursery, finish
from hivectl.kit.clock import SystemClock
from hivectl.kit.ids import jitter
from hivectl.model.errors import HiveError
from hivectl.protocol.methods import METHODS

if TYPE_CHECKING:
    from hivectl.config import Settings
    from hivectl.protocol.results import Accepted, AuthResult, Unsubscribed

__all__ = ["Client", "Notice", "Subscription"]

PATIENCE_S = 30.0
"""How long a request that may be repeated waits for a lost daemon."""
_CLOSE_S = 3.0


class Client(Calls):
    """Everything the daemon can do, as awaitable methods named after METHODS.

    `settings` default to `hivectl.config.load()`. `autostart` None means `client.autostart`. `say` gets
    notices for people (the daemon is being started). `on_event` gets events that arrive on the request
    connection, after `project_join`. Raises HiveError everywhere, with the codes of the table.
    """

    def __init__(
        self,
        settings: Settings | None = None,
        *,
        autostart: bool | None = None,
        name: str = "hivectl.client",
        say: Callable[[str], None] | None = None,
        on_event: Callable[[dict[str, Any]], None] | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._settings = settings or config.load()
        self._endpoint = transport.find_endpoint(self._settings)
        self._autostart = (
            self._settings.flag("client.autostart") if autostart is None else autostart
        )
        self._name = name
        self._say = say or (lambda _text: None)
        self._on_event = on_event or (lambda _event: None)
        self._patience_s = patience_s
        self._nursery = Nursery(lambda _name, _error: None)
        self._link: Link | None = None
        self._reader: asyncio.Task[Any] | None = None
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._last_id = 0
        self._connecting: asyncio.Future[None] | None = None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    @property
    def info(self) -> AuthResult | None:
        """Who we are and which version answers; None before the first connection."""
        return cast("AuthResult", self._link.info) if self._link else None

    @property
    def endpoint(self) -> transport.Endpoint:
        """Where the daemon is looked for."""
        return self._endpoint

    async def connect(self, *, autostart: bool | None = None) -> None:
        """Connect now, starting a daemon if none runs and that is allowed."""
        if self._link is not None:
            return
        if self._connecting is not None:
            await asyncio.shield(self._connecting)
            return
        self._connecting = asyncio.get_running_loop().create_future()
        try:
            await self._ensure_running(
                autostart=self._autostart if autostart is None else autostart
            )
            link = await self._open()
            self._link = link
            self._reader = self._nursery.start(self._read(link), name="client reader")
            self._connecting.set_result(None)
        except BaseException as exc:
            # Waiters get the error too; retrieved here so that none is reported as lost.
            self._connecting.set_exception(exc if isinstance(exc, Exception) else ConnectionError())
            self._connecting.exception()
            raise
        finally:
            self._connecting = None

    async def revive(self, *, grace_s: float = 1.0) -> None:
        """After a crash of the local daemon: start one if none has come back by itself within `grace_s`.

        Does nothing where that is not allowed or the daemon is elsewhere; never raises, because whoever
        follows tries again anyway.
        """
        if not (self._autostart and self._endpoint.is_local):
            return
        await asyncio.sleep(grace_s)
        with suppress(HiveError):
            await self._ensure_running(autostart=True)

    async def close(self) -> None:
        """Leave. Requests that still wait fail with UNAVAILABLE."""
        link, self._link = self._link, None
        if link is not None:
            await finish(link.close(), within_s=_CLOSE_S)
        await self._nursery.close(within_s=_CLOSE_S)
        self._fail_all(ConnectionLost(1000, "closed here").as_error())

    async def call(self, method: str, /, **params: Any) -> Any:
        """One request by its name on the wire, such as `call("project.get", project="web")`."""
        return await self.request(method, params)

    async def request(self, method: str, params: dict[str, Any]) -> Any:
        """Send one request and return its result.

        Raises HiveError: the daemon's own, or UNAVAILABLE when the connection was lost and the request
        may not be repeated, or could not be within the client's patience.
        """
        row = METHODS.get(method)
        may_repeat = row is None or not row.changes or bool(params.get("idempotency_key"))
        clock, attempt = SystemClock(), 0
        deadline = clock.monotonic() + self._patience_s
        has_sent = False
        while True:
            try:
                await self.connect(autostart=None if not has_sent else False)
                has_sent = True
                return await self._exchange(method, params)
            except ConnectionLost as lost:
                if lost.is_terminal or not may_repeat or clock.monotonic() >= deadline:
                    raise lost.as_error() from lost
            except HiveError as exc:
                is_lost = exc.code == "UNAVAILABLE" and has_sent
                if not is_lost or clock.monotonic() >= deadline:
                    raise
            await asyncio.sleep(backoff_s(attempt, jitter()))
            attempt += 1

    async def auth(self, token: str | None = None) -> AuthResult:
        """Renew the credential of this connection."""
        return cast("AuthResult", await self.request("auth", {"token": token} if token else {}))

    def subscribe(
        self,
        streams: Sequence[str],
        *,
        since: Any = "now",
        types: Sequence[str] | None = None,
        partials: bool = False,
        give_up_s: float | None = None,
        method: str = "subscribe",
    ) -> Subscription:
        """Follow streams; see Subscription. `since` is in the wire's form."""
        return Subscription(
            self._open_for_subscription,
            streams=streams,
            since=since,
            types=types,
            partials=partials,
            method=method,
            give_up_s=give_up_s,
        )

    def tail(
        self,
        projects: Sequence[str] = (),
        *,
        last: int = 10,
        types: Sequence[str] | None = None,
        partials: bool = False,
        give_up_s: float | None = None,
    ) -> Subscription:
        """Follow projects (none = all) from their last events on."""
        return self.subscribe(
            projects,
            since=last,
            types=types,
            partials=partials,
            give_up_s=give_up_s,
            method="tail",
        )

    def follow(self, accepted: Accepted, *, partials: bool = False) -> Subscription:
        """Follow the stream of what `execute` accepted, from right after its acceptance."""
        since = {"epoch": accepted["epoch"], "seq": accepted["seq"]}
        return self.subscribe([accepted["stream"]], since=since, partials=partials)

    async def unsubscribe(self, sub: str) -> Unsubscribed:
        """Stop following on the request connection; a Subscription stops by leaving its `async with`."""
        return cast("Unsubscribed", await self.request("unsubscribe", {"sub": sub}))

    async def _ensure_running(self, *, autostart: bool) -> None:
        if self._endpoint.is_local:
            await asyncio.to_thread(
                transport.ensure_running, self._settings, autostart=autostart, say=self._say
            )

    async def _open(self) -> Link:
        return await open_link(self._endpoint, name=self._name)

    async def _open_for_subscription(self) -> Link:
        if self._link is None and not self._waiting:
            await self._ensure_running(autostart=False)
        return await self._open()

    async def _exchange(self, method: str, params: dict[str, Any]) -> Any:
        link = self._link
        assert link is not None
        self._last_id += 1
        number = self._last_id
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            await link.send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
            return await answer
        except asyncio.CancelledError:
            if self._link is link and not answer.done():
                cancel = {"jsonrpc": "2.0", "method": "$/cancel", "params": {"id": number}}
                await finish(self._send_quietly(link, cancel), within_s=1.0)
            raise
        finally:
            self._waiting.pop(number, None)

    @staticmethod
    async def _send_quietly(link: Link, frame: dict[str, Any]) -> None:
        try:
            await link.send(frame)
        except (ConnectionLost, HiveError):
            return

    async def _read(self, link: Link) -> None:
        try:
            while True:
                self._take(await link.receive())
        except ConnectionLost as lost:
            if self._link is link:
                self._link = None
            self._fail_all(lost)
            await link.close()

    def _take(self, frame: dict[str, Any]) -> None:
        if frame.get("method") == "event":
            self._on_event(frame.get("params") or {})
            return
        number = frame.get("id")
        answer = self._waiting.get(number) if isinstance(number, int) else None
        if answer is None or answer.done():
            return
        if "error" in frame:
            answer.set_exception(parse_error(frame["error"]))
        else:
            answer.set_result(frame.get("result"))

    def _fail_all(self, error: Exception) -> None:
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_exception(error)
