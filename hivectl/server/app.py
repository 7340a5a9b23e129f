"""The server: listeners, routes and connections put together, started and stopped as one.

    server = Server(settings, bindings, bus, resolve_stream=..., token=..., audit=...)
    addresses = await server.start()        # listens; answers from now on
    await server.stop()                     # going_away, 1012, sockets removed

`bindings` maps names of METHODS to `async def method(caller: Caller, params: <its params model>)`, which
return the result as plain values (or msgspec.Raw) or raise HiveError. ping, whoami, schema.get and the
methods of a staying connection (auth, subscribe, tail, unsubscribe, project.join, project.leave) are the
server's own. It writes no files but its socket.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

import hivectl
from hivectl.config import Settings
from hivectl.engine.bus import Bus
from hivectl.kit.aio import Nursery
from hivectl.kit.clock import Clock, SystemClock
from hivectl.model.access import SYSTEM
from hivectl.model.errors import HiveError
from hivectl.protocol.methods import METHODS
from hivectl.server import builtin, listen
from hivectl.server.callers import Callers
from hivectl.server.context import Context
from hivectl.server.deadlines import Deadlines
from hivectl.server.dispatch import Audit, Bindings, Dispatcher
from hivectl.server.exchange import TEXT, Answer, Request, Route
from hivectl.server.following import Presences, ResolveStream
from hivectl.server.http import HttpProtocol, ServerState
from hivectl.server.hub import Hub
from hivectl.server.limits import RECONNECT_AFTER_MS, read_limits
from hivectl.server.measures import Measures
from hivectl.server.peers import Ancestry
from hivectl.server.problem import StandardHeaders
from hivectl.server.rpc import Rpc
from hivectl.server.security import Gate, Token
from hivectl.server.tcp import TcpListener, Tell

_log = logging.getLogger(__name__)

_GOODBYE_S = 3.0
_REBIND_AGAIN_S = 1.0
SOCKET_METHODS = frozenset(
    {"auth", "subscribe", "tail", "unsubscribe", "project.join", "project.leave"}
)
"""Served by the connection itself."""


class Addresses(msgspec.Struct, frozen=True):
    """Where the server listens. `tcp` None = off; `warnings` are for the operator."""

    socket: Path
    tcp: str | None
    warnings: tuple[str, ...] = ()


class _Listeners(msgspec.Struct):
    unix: asyncio.Server | None = None
    watch: listen.Watch | None = None


class Server:
    """One for the daemon."""

    def __init__(  # noqa: PLR0913  the daemon's composition names each part once
        self,
        settings: Settings,
        bindings: Bindings,
        bus: Bus,
        *,
        resolve_stream: ResolveStream,
        token: str | None,
        audit: Audit | None = None,
        is_ready: Callable[[], bool] | None = None,
        ancestry: Ancestry,
        node: str = "",
        clock: Clock | None = None,
        unix_listener: socket.socket | None = None,
        tell: Tell | None = None,
    ) -> None:
        """Nothing is opened yet.

        `token`: the bearer token of TCP callers; None = TCP callers cannot authenticate.
        `audit(caller, method, target, outcome)`: awaited after each method that changes something.
        `is_ready`: what /readyz answers; without it, ready while not stopping.
        `ancestry`: how it is told that a caller descends from an execution (S16).
        `unix_listener`: a listening socket handed over by the service manager, used instead of our own.
        `tell(message, hint)`: hears of what befalls the TLS certificate.
        Raises ValueError for bindings that are not in METHODS.
        """
        self._settings = settings
        self._bindings = {**builtin.BINDINGS, **bindings}
        self._bus = bus
        self._clock = clock or SystemClock()
        self._is_ready = is_ready
        self._given_listener = unix_listener
        self._tcp = TcpListener(settings, self._clock, tell=tell)
        self._node = node or socket.gethostname()
        self._dispatcher = Dispatcher(self._bindings, audit=audit)
        self._callers = Callers(Token(token) if token else None, ancestry)
        self._resolve_stream = resolve_stream
        self._limits = read_limits(settings)
        self._nursery = Nursery(_on_failure)
        self._headers = StandardHeaders(self._clock)
        self._state = ServerState(self._headers)
        self._listeners = _Listeners()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._context: Context | None = None
        self._routes: dict[bytes, Route] = {}
        self._addresses = Addresses(settings.places.socket, None)

    # --- what others may know ----------------------------------------------------------------------

    @property
    def addresses(self) -> Addresses:
        """Where it listens."""
        return self._addresses

    @property
    def connections(self) -> int:
        """Open WebSockets."""
        return len(self._context.connections) if self._context else 0

    @property
    def subscriptions(self) -> int:
        """Subscriptions of all of them."""
        return self._context.hub.subscriptions if self._context else 0

    def shown(self, stream: str) -> int:
        """The newest event of a stream that some connection was sent; 0 when none was."""
        return self._context.hub.shown(stream) if self._context else 0

    @property
    def problems(self) -> list[str]:
        """What health is to tell of the listeners."""
        return self._tcp.problems

    def tls(self) -> dict[str, Any] | None:
        """Facts of the TLS certificate in use; None without TLS."""
        return self._tcp.tls()

    def reload(self) -> None:
        """Read the TLS certificate again."""
        self._tcp.reload()

    def unbound(self) -> list[str]:
        """Methods of METHODS that nothing serves: must be empty in the daemon."""
        return sorted(METHODS.keys() - self._bindings.keys() - SOCKET_METHODS)

    def drain(self) -> None:
        """From now on refuse methods that change something (SHUTTING_DOWN); reading goes on."""
        self._dispatcher.is_draining = True

    # --- start -----------------------------------------------------------------------------------------

    async def start(self) -> Addresses:
        """Listen. Raises HiveError CONFIG_INVALID or UNAVAILABLE; nothing is left open then."""
        loop = asyncio.get_running_loop()
        stats = self._bindings.get("stats")
        deadlines = Deadlines(self._clock)
        measures = None
        if stats is not None:
            measures = Measures(
                self._bus,
                self._clock,
                deadlines,
                stats=lambda: stats(SYSTEM, None),
                run=self._start_task,
            )
        hub = Hub(self._bus, self._clock, self._limits, measures)
        self._context = Context(
            limits=self._limits,
            hub=hub,
            deadlines=deadlines,
            dispatcher=self._dispatcher,
            callers=self._callers,
            presences=Presences(self._bus),
            resolve_stream=self._resolve_stream,
            clock=self._clock,
            nursery=self._nursery,
            headers=self._headers,
            version=hivectl.__version__,
            node=self._node,
        )
        self._routes = {
            b"/healthz": Route(b"GET", self._healthz),
            b"/readyz": Route(b"GET", self._readyz),
            b"/rpc": Route(b"POST", Rpc(self._context).serve),
        }
        try:
            await self._tcp.start(
                self._protocol, headers=self._headers, nursery=self._nursery, run=self._start_task
            )
            await self._start_unix(loop)
        except BaseException:
            await self._close_listeners()
            raise
        for warning in self._tcp.warnings:
            _log.warning(warning)
        bound = self._tcp.bound
        self._addresses = Addresses(
            self._settings.places.socket, str(bound) if bound else None, tuple(self._tcp.warnings)
        )
        self._start_task(asyncio.to_thread(builtin.load_rest), "load the rest")
        return self._addresses

    def _start_task(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        self._tasks.add(task := self._nursery.start(work, name=name))
        task.add_done_callback(self._tasks.discard)

    async def _start_unix(self, loop: asyncio.AbstractEventLoop) -> None:
        path = self._settings.places.socket
        listener = self._given_listener or listen.bind_unix(path)
        gate = Gate(port=None)
        self._listeners.unix = await loop.create_server(
            lambda: self._protocol(gate), sock=listener, backlog=listen.BACKLOG
        )
        if self._given_listener is None:
            self._listeners.watch = listen.Watch(path, self._on_socket_gone)

    def _protocol(self, gate: Gate) -> HttpProtocol:
        assert self._context is not None
        return HttpProtocol(
            routes=self._routes, state=self._state, context=self._context, gate=gate
        )

    def _on_socket_gone(self) -> None:
        """Somebody removed or replaced our socket: bind it again. Open connections are not touched."""
        if self._listeners.watch is None:
            return
        self._listeners.watch.close()
        self._listeners.watch = None
        self._start_task(self._rebind(), "rebind the socket")

    async def _rebind(self) -> None:
        loop = asyncio.get_running_loop()
        while self._context is not None and not self._context.is_stopping:
            old, self._listeners.unix = self._listeners.unix, None
            if old is not None:
                old.close()
            try:
                await self._start_unix(loop)
            except (HiveError, OSError) as exc:
                _log.warning("the socket cannot be bound again", extra={"why": str(exc)})
                await asyncio.sleep(_REBIND_AGAIN_S)
            else:
                _log.info("the socket was bound again")
                return

    # --- stop --------------------------------------------------------------------------------------------

    async def stop(self, *, reconnect_after_ms: int = RECONNECT_AFTER_MS) -> None:
        """Say goodbye, close all connections and listeners, remove the socket. May be called twice."""
        context = self._context
        if context is None or context.is_stopping:
            return
        context.is_stopping = True
        self._dispatcher.is_draining = True
        await self._close_listeners()
        for connection in list(context.connections):
            connection.go_away(reconnect_after_ms)
        for connection in list(self._state.connections):
            if isinstance(connection, HttpProtocol):
                connection.shutdown()
        await self._state.all_gone(_GOODBYE_S)
        for connection in list(self._state.connections):
            connection.abort()
        await self._nursery.close(within_s=_GOODBYE_S)
        context.hub.close()
        context.deadlines.close()

    async def _close_listeners(self) -> None:
        listeners, self._listeners = self._listeners, _Listeners()
        path = self._settings.places.socket
        if listeners.watch is not None:
            is_ours = listeners.watch.is_in_place
            listeners.watch.close()
            if is_ours:
                with suppress(OSError):
                    path.unlink()
        if listeners.unix is not None:
            listeners.unix.close()
        self._tcp.close()

    # --- routes --------------------------------------------------------------------------------------------

    async def _healthz(self, _request: Request) -> Answer:
        return _bare(is_good=True)

    async def _readyz(self, _request: Request) -> Answer:
        context = self._context
        is_up = context is not None and not context.is_stopping
        return _bare(is_good=is_up and (self._is_ready is None or self._is_ready()))


def _bare(*, is_good: bool) -> Answer:
    return Answer(200, b"ok\n", TEXT) if is_good else Answer(503, b"not ready\n", TEXT)


def _on_failure(name: str, error: BaseException) -> None:
    _log.error("a task of the server failed", exc_info=error, extra={"task": name})
