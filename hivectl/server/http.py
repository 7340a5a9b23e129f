"""uvicorn's HTTP protocol with the limits it lacks: size and time of heads and bodies, and the gate.

Host and Origin are checked when the head is complete: before routing, before the body is read, before
an upgrade. A refused request is answered and the rest of what it sends is thrown away unread.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from hivectl.model.errors import HiveError
from hivectl.server import peers
from hivectl.server.context import Arrival, Context
from hivectl.server.limits import BEFORE_AUTH_BYTES, BODY_S, CLOSE_GRACE_S, HEAD_BYTES, HEAD_S
from hivectl.server.peers import Peer
from hivectl.server.problem import StandardHeaders, raw_response
from hivectl.server.security import Gate

_log = logging.getLogger(__name__)

_HTTP_PHASE_CONNECTIONS = 256
"""Most connections of a listener that are no WebSocket (yet)."""


class ServerState:
    """What uvicorn's protocols share; headers are made when asked for, so no timer keeps the date."""

    def __init__(self, headers: StandardHeaders) -> None:
        self.total_requests = 0
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
    def default_headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of every answer."""
        return self._headers.build()


class HttpProtocol(HttpToolsProtocol):
    """One connection before, or without, an upgrade."""

    def __init__(self, *, config: Any, server_state: Any, context: Context, gate: Gate) -> None:
        super().__init__(config=config, server_state=server_state, app_state={})
        self._context = context
        self._gate = gate
        self._peer: Peer | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._body_bytes = 0
        self._is_refused = False
        self._is_upgraded = False
        self._body_limit = 0

    # --- transport ---------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody connected."""
        super().connection_made(transport)
        self._arm(HEAD_S)
        try:
            self._peer = peers.identify(transport.get_extra_info("socket"))
        except OSError:
            transport.abort()
            return
        context = self._context
        if context.is_stopping:
            transport.close()
            return
        self.app_state["arrival"] = Arrival(context=context, gate=self._gate, peer=self._peer)
        if context.callers.is_foreign(self._peer):
            self._refuse(403, HiveError("FORBIDDEN", "This daemon belongs to another user."))
        elif self._is_crowded():
            self._refuse(503, HiveError("CONNECTION_LIMIT", retry_after_ms=1000))

    def _is_crowded(self) -> bool:
        return len(self.connections) - len(self._context.connections) > _HTTP_PHASE_CONNECTIONS

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._disarm()
        if not self._is_upgraded and self._peer is not None:
            self._peer.close()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes of the peer."""
        if self._is_refused:
            return
        self._unset_keepalive_if_required()
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as exc:
            if self._was_refused():
                return
            if self._should_upgrade():
                self._upgrade(data[exc.args[0] :])
            else:
                self._refuse(400, HiveError("INVALID_REQUEST", "This upgrade is not offered."))
        except httptools.HttpParserError:
            if not self._was_refused():
                self._refuse(400, HiveError("INVALID_REQUEST", "This is no HTTP request."))

    def _was_refused(self) -> bool:
        """Asked again after the parser's callbacks had their say."""
        return self._is_refused

    def _upgrade(self, rest: bytes) -> None:
        """Hand the connection to the WebSocket protocol, with what was sent right behind the head."""
        self._disarm()
        self._is_upgraded = True
        self.handle_websocket_upgrade()
        if rest:
            protocol = cast("asyncio.Protocol", self.transport.get_protocol())
            protocol.data_received(rest)

    # --- one request -------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._head_bytes = self._body_bytes = 0
        self._arm(HEAD_S)

    def on_url(self, url: bytes) -> None:
        """A piece of the target."""
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header."""
        self._count_head(len(name) + len(value) + 4)
        super().on_header(name, value)

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
        refusal = self._gate.check(self.url, self.headers)
        if refusal is not None:
            self._refuse(refusal.status, refusal.error)
            return
        self._body_limit = self._find_body_limit()
        declared = next((v for n, v in self.headers if n == b"content-length"), b"0")
        if not declared.isdigit() or int(declared[:20]) > self._body_limit:
            self._refuse_body()
            return
        self._arm(BODY_S)
        try:
            super().on_headers_complete()
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
            self._refuse(400, HiveError("INVALID_REQUEST", "The target is no path."))

    def _find_body_limit(self) -> int:
        assert self._peer is not None
        context = self._context
        is_known = self._peer.is_local_socket or context.callers.accepts_header(self.headers)
        return context.limits.message_bytes if is_known else BEFORE_AUTH_BYTES

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._is_refused:
            return
        self._body_bytes += len(body)
        if self._body_bytes > self._body_limit:
            self._refuse_body()
            return
        super().on_body(body)

    def _refuse_body(self) -> None:
        most = self._body_limit
        self._refuse(
            413,
            HiveError("TOO_LARGE", f"The body may have {most} bytes.", details={"max": most}),
        )

    def on_message_complete(self) -> None:
        """The request is whole."""
        if self._is_refused:
            return
        self._disarm()
        super().on_message_complete()

    # --- saying no -----------------------------------------------------------------------------------

    def _refuse(self, status: int, error: HiveError) -> None:
        """Answer at once, listen to nothing more, and let the peer end the connection."""
        self._is_refused = True
        if self.transport.is_closing():
            return
        cycle = cast("RequestResponseCycle | None", self.cycle)
        if cycle is not None and not cycle.response_complete:
            # An answer is being made already (a body grew too large on the way): it must not be sent.
            if cycle.response_started:
                self.transport.abort()
                return
            cycle.disconnected = True
            cycle.message_event.set()
        self.transport.write(raw_response(status, error, self.server_state.default_headers))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        # Closing at once while bytes arrive would reset the connection and lose the answer.
        self._arm(CLOSE_GRACE_S)

    def abort(self) -> None:
        """End at once."""
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """What uvicorn calls for a request it cannot read."""
        self._refuse(400, HiveError("INVALID_REQUEST", msg))

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._timer = self.loop.call_later(seconds, self._on_timer)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        """A head or body did not arrive in time, or a refused peer did not leave."""
        self._timer = None
        if not self._is_refused and self._head_bytes:
            error = HiveError("INVALID_REQUEST", "The request did not arrive in time.")
            self._is_refused = True
            with suppress(OSError):
                self.transport.write(raw_response(408, error, self.server_state.default_headers))
        self.transport.close()
