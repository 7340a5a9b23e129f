"""HTTP/1.1 over httptools: one request after the other, with limits of size and time, and the gate.

Host and Origin are checked when the head is complete: before routing, before the body is read, before
an upgrade. A refused request is answered and the rest of what it sends is thrown away unread. A request is
served when it is whole; while it is served, or its answer waits to be read, no more is read than what had
arrived already.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, cast

import httptools

from hivectl.model.errors import HiveError
from hivectl.server import peers
from hivectl.server.context import Arrival, Context
from hivectl.server.exchange import Answer, Request, Route, render
from hivectl.server.limits import (
    BEFORE_AUTH_BYTES,
    BODY_S,
    CLOSE_GRACE_S,
    HEAD_BYTES,
    HEAD_S,
    HTTP_CONNECTIONS,
    KEEP_ALIVE_S,
)
from hivectl.server.peers import Peer
from hivectl.server.problem import (
    CONTENT_TYPE,
    Headers,
    StandardHeaders,
    problem_body,
    raw_response,
)
from hivectl.server.security import Gate

_log = logging.getLogger(__name__)


class ServerState:
    """What all connections of a server share: who they are, and the answers being made."""

    def __init__(self, headers: StandardHeaders) -> None:
        self.connections: set[Any] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self._headers = headers

    async def all_gone(self, within_s: float) -> None:
        """Wait until no connection is left, at most so long."""
        deadline = asyncio.get_running_loop().time() + within_s
        while asyncio.get_running_loop().time() < deadline:
            if not self.connections:
                return
            await asyncio.sleep(0.01)

    @property
    def default_headers(self) -> Headers:
        """Headers of every answer; made when asked for, so no timer keeps the date."""
        return self._headers.build()


class HttpProtocol(asyncio.Protocol):
    """One connection before, or without, an upgrade."""

    def __init__(
        self,
        *,
        routes: Mapping[bytes, Route],
        state: ServerState,
        context: Context,
        gate: Gate,
    ) -> None:
        self._routes = routes
        self._state = state
        self._context = context
        self._gate = gate
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._parser = httptools.HttpRequestParser(self)
        # What is sent behind a request that ends the connection is no reason to leave that unanswered.
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._peer: Peer | None = None
        self._arrival: Arrival | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = bytearray()
        self._head_bytes = 0
        self._body_limit = 0
        self._waiting: deque[Request] = deque()
        """Whole requests behind the one that is served: what one read brought, and no more."""
        self._is_receiving = False
        """A request has begun and is not whole."""
        self._is_serving = False
        self._is_clogged = False
        """The peer does not read its answers."""
        self._is_last = False
        """No request is served after the one that is."""
        self._is_refused = False
        self._is_upgraded = False

    # --- transport ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody connected."""
        self._transport = cast("asyncio.Transport", transport)
        self._state.connections.add(self)
        self._arm(HEAD_S)
        try:
            self._peer = peers.identify(transport.get_extra_info("socket"))
        except OSError:
            self.abort()
            return
        context = self._context
        if context.is_stopping:
            self._transport.close()
            return
        self._arrival = Arrival(context=context, gate=self._gate, peer=self._peer)
        if context.callers.is_foreign(self._peer):
            self._refuse(403, HiveError("FORBIDDEN", "This daemon belongs to another user."))
        elif self._is_crowded():
            self._refuse(503, _crowded())

    def _is_crowded(self) -> bool:
        others = len(self._state.connections) - len(self._context.connections)
        return others > HTTP_CONNECTIONS

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  asyncio's signature
        """The connection is gone. What is being served goes on; its answer is for nobody."""
        self._disarm()
        self._waiting.clear()
        self._state.connections.discard(self)
        if not self._is_upgraded and self._peer is not None:
            self._peer.close()

    def data_received(self, data: bytes) -> None:
        """Bytes of the peer."""
        if self._is_refused:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            if self._was_refused():
                return
            if self._is_websocket() and not self._is_serving and not self._waiting:
                self._upgrade(data[exc.args[0] :])
            else:
                self._refuse(400, HiveError("INVALID_REQUEST", "This upgrade is not offered."))
        except httptools.HttpParserError:
            if not self._was_refused():
                self._refuse(400, HiveError("INVALID_REQUEST", "This is no HTTP request."))

    def _was_refused(self) -> bool:
        """Asked again after the parser's callbacks had their say."""
        return self._is_refused

    def pause_writing(self) -> None:
        """The transport keeps more than it likes."""
        self._is_clogged = True

    def resume_writing(self) -> None:
        """The peer has read."""
        self._is_clogged = False
        self._serve_next()

    # --- upgrade -----------------------------------------------------------------------------------

    def _is_websocket(self) -> bool:
        """As uvicorn and nginx see it: the last Upgrade, and the word in the last Connection."""
        found = dict(self._headers)
        words = [word.strip() for word in found.get(b"connection", b"").lower().split(b",")]
        return b"upgrade" in words and found.get(b"upgrade", b"").lower() == b"websocket"

    def _upgrade(self, rest: bytes) -> None:
        """Hand the connection to the WebSocket protocol, with what was sent right behind the head."""
        from hivectl.server.ws import Socket  # noqa: PLC0415  loaded soon after the start, not before

        assert self._arrival is not None
        self._disarm()
        self._is_upgraded = True
        self._state.connections.discard(self)
        head = [self._parser.get_method() + b" " + self._url + b" HTTP/1.1"]
        head += [name + b": " + value for name, value in self._headers]
        socket = Socket(self._arrival, self._state.connections)
        self._transport.set_protocol(socket)
        socket.connection_made(self._transport)
        socket.data_received(b"\r\n".join([*head, b"", b""]))
        if rest:
            socket.data_received(rest)

    # --- one request -------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        self._url = b""
        self._headers = []
        self._body = bytearray()
        self._head_bytes = 0
        self._is_receiving = True
        self._arm(HEAD_S)

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._count_head(len(url))
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._count_head(len(name) + len(value) + 4)
        self._headers.append((name.lower(), value))

    def _count_head(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > HEAD_BYTES and not self._is_refused:
            self._refuse(
                431,
                HiveError(
                    "TOO_LARGE",
                    f"The head is larger than {HEAD_BYTES} bytes.",
                    details={"max": HEAD_BYTES},
                ),
            )

    def on_headers_complete(self) -> None:
        """The head is whole: may this go on?"""
        if self._is_refused:
            return
        refusal = self._gate.check(self._url, self._headers)
        if refusal is not None:
            self._refuse(refusal.status, refusal.error)
            return
        self._body_limit = self._find_body_limit()
        found = dict(self._headers)
        declared = found.get(b"content-length", b"0")
        if not declared.isdigit() or int(declared[:20]) > self._body_limit:
            self._refuse_body()
            return
        self._arm(BODY_S)
        if found.get(b"expect", b"").lower() == b"100-continue" and not self._is_serving:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _find_body_limit(self) -> int:
        assert self._peer is not None
        context = self._context
        is_known = self._peer.is_local_socket or context.callers.accepts_header(self._headers)
        return context.limits.message_bytes if is_known else BEFORE_AUTH_BYTES

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._is_refused:
            return
        self._body += body
        if len(self._body) > self._body_limit:
            self._refuse_body()

    def _refuse_body(self) -> None:
        most = self._body_limit
        self._refuse(
            413,
            HiveError("TOO_LARGE", f"The body may have {most} bytes.", details={"max": most}),
        )

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._is_receiving = False
        if self._is_refused or self._parser.should_upgrade():
            return
        self._disarm()
        try:
            path = httptools.parse_url(self._url).path or b""
        except httptools.HttpParserInvalidURLError:
            path = b""
        if not path.isascii() or not path:
            self._refuse(400, HiveError("INVALID_REQUEST", "The target is no path."))
            return
        assert self._arrival is not None
        keeps = self._parser.get_http_version() == "1.1" and self._parser.should_keep_alive()
        request = Request(
            self._parser.get_method(),
            path,
            self._headers,
            bytes(self._body),
            self._arrival,
            is_last=not keeps,
        )
        self._body = bytearray()
        self._waiting.append(request)
        self._serve_next()

    # --- answers -----------------------------------------------------------------------------------

    def _serve_next(self) -> None:
        """Serve the next whole request, unless one is served or its answer is not taken."""
        if self._is_refused or self._is_upgraded or self._transport.is_closing():
            return
        if self._waiting and not self._is_serving and not self._is_clogged:
            self._is_serving = True
            task = self._loop.create_task(self._serve(self._waiting.popleft()))
            self._state.tasks.add(task)
            task.add_done_callback(self._state.tasks.discard)
        if self._waiting or self._is_clogged:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    async def _serve(self, request: Request) -> None:
        try:
            answer = await self._answer(request)
        except Exception as exc:  # noqa: BLE001  a bug in one request ends no other
            _log.error("a request failed", exc_info=exc)
            answer = _problem(500, HiveError("INTERNAL", ""))
        self._is_serving = False
        if self._is_refused or self._transport.is_closing():
            return
        is_last = request.is_last or self._is_last
        standard = self._state.default_headers
        self._transport.write(render(answer, request, standard, is_last=is_last))
        if is_last:
            self._transport.close()
            return
        if not self._is_receiving and not self._waiting:
            self._head_bytes = 0
            self._arm(KEEP_ALIVE_S)
        self._serve_next()

    async def _answer(self, request: Request) -> Answer:
        route = self._routes.get(request.path)
        if route is None:
            return _problem(404, HiveError("METHOD_NOT_FOUND", "There is nothing at this path."))
        if not route.takes(request.method):
            error = HiveError("INVALID_REQUEST", "This is not offered here.")
            return _problem(405, error, ((b"allow", route.method),))
        return await route.serve(request)

    def shutdown(self) -> None:
        """The server stops: finish what is being served, and nothing more."""
        self._is_last = True
        if not self._is_serving:
            self._transport.close()

    # --- saying no -----------------------------------------------------------------------------------

    def _refuse(self, status: int, error: HiveError) -> None:
        """Answer at once, listen to nothing more, and let the peer end the connection."""
        self._is_refused = True
        self._waiting.clear()
        if self._transport.is_closing():
            return
        # An answer that is being made to an earlier request must not come behind this one: it is dropped.
        self._transport.write(raw_response(status, error, self._state.default_headers))
        if self._transport.can_write_eof():
            self._transport.write_eof()
        # Closing at once while bytes arrive would reset the connection and lose the answer.
        self._arm(CLOSE_GRACE_S)

    def abort(self) -> None:
        """End at once."""
        self._transport.abort()

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self._loop.call_later(seconds, self._on_timer)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        """A head or body did not arrive in time, or a refused peer did not leave."""
        self._timer = None
        if self._is_serving and not self._is_refused:
            self._arm(BODY_S)  # it is we who do not read on
            return
        if not self._is_refused and self._head_bytes:
            error = HiveError("INVALID_REQUEST", "The request did not arrive in time.")
            self._is_refused = True
            with suppress(OSError):
                self._transport.write(raw_response(408, error, self._state.default_headers))
        self._transport.close()


def _crowded() -> HiveError:
    return HiveError(
        "CONNECTION_LIMIT", f"{HTTP_CONNECTIONS} connections are open that are no WebSockets.",
        hint="Close some: one may carry many requests, one after the other.", retry_after_ms=1000,
    )  # fmt: skip


def _problem(status: int, error: HiveError, headers: Headers = ()) -> Answer:
    return Answer(status, problem_body(status, error), CONTENT_TYPE, headers)
