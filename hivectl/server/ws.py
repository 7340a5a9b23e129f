"""One WebSocket connection: bytes in and out, and every limit on the way.

The protocol itself is websockets' sans-I/O ServerProtocol; frames of events bypass it, because they are
encoded once for all receivers. Runs within callbacks of the transport; only requests are tasks.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Coroutine
from typing import Any, cast

from websockets.frames import Frame, Opcode
from websockets.http11 import Request as Handshake
from websockets.protocol import OPEN
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from hivectl.kit.ids import make_id
from hivectl.model.errors import HiveError
from hivectl.protocol import frames
from hivectl.protocol.closing import Close
from hivectl.protocol.methods import PROTOCOL_VERSION, SUBPROTOCOL
from hivectl.server.context import Arrival
from hivectl.server.conversation import Conversation
from hivectl.server.dispatch import Bindings
from hivectl.server.follower import Follower
from hivectl.server.following import Following
from hivectl.server.limits import (
    BEFORE_AUTH_BYTES,
    CLOSE_GRACE_S,
    FRAGMENT_BYTES,
    FRAMES_A_TURN,
    SLICE_BYTES,
)
from hivectl.server.problem import raw_response

_log = logging.getLogger(__name__)
_quiet = logging.getLogger("hivectl.server.websockets")
_quiet.setLevel(logging.WARNING)

PATH = b"/ws"


def _select_subprotocol(_protocol: ServerProtocol, offered: Any) -> Subprotocol | None:
    # None offered means hivectl.v1; others only are let in, to be told by a close code that scripts can read.
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None


class Socket(asyncio.Protocol):
    """It takes over the transport of an upgrade request from the HTTP protocol.

    There may be thousands, so its parts have slots and are made when they are needed."""

    __slots__ = (
        "_auth_due", "_clock", "_close_due", "_connections", "_context", "_conversation", "_follower", "_following",
        "_fragments", "_has_ended", "_is_over", "_is_paused", "_is_reading", "_last_received", "_limits",
        "_message", "_next_ping", "_peer", "_pending", "_ping_sent", "_rtt_ms", "_sent_all", "_taken",
        "_taken_at", "_tasks", "_transport", "_written", "_ws", "id",
    )  # fmt: skip

    def __init__(self, arrival: Arrival, connections: set[Any]) -> None:
        self._context = context = arrival.context
        self._peer = arrival.peer
        self._limits = context.limits
        self._clock = context.clock
        self._connections = connections
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._ws = ServerProtocol(
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            select_subprotocol=_select_subprotocol,
            max_size=BEFORE_AUTH_BYTES,
            logger=_quiet,
        )
        now = self._clock.monotonic()
        self.id = make_id("c")
        self._message: bytearray | None = None
        self._fragments = 0
        self._pending = b""
        """Received, and left for the next turn of the loop; nothing is read meanwhile."""
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._follower = Follower(context.hub, self)
        self._following = Following(
            self.id,
            hub=context.hub,
            follower=self._follower,
            presences=context.presences,
            resolve_stream=context.resolve_stream,
        )
        self._conversation = Conversation(self.id, context=context, peer=self._peer, line=self)
        self._sent_all: asyncio.Event | None = None
        """Made by who waits for it."""
        self._is_paused = False
        self._is_reading = True
        self._is_over = False
        """A close frame was sent or the transport is closing: nothing is served any more."""
        self._has_ended = False
        """Our side of the stream is shut: nothing can be written."""
        self._close_due = math.inf
        self._auth_due = now + self._limits.auth_deadline_s
        self._last_received = now
        self._next_ping = math.inf
        self._ping_sent: float | None = None
        self._rtt_ms: float | None = None
        self._written = 0
        self._taken = 0
        self._taken_at = now

    # --- transport -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The HTTP protocol hands over its transport, then the head of the request."""
        self._transport = cast("asyncio.Transport", transport)
        # The transport tells whenever anything is left unsent: that is all the flow control needed. TLS
        # tells from that many bytes on, the others beyond them.
        is_tls = transport.get_extra_info("ssl_object") is not None
        self._transport.set_write_buffer_limits(high=int(is_tls), low=0)
        self._connections.add(self)

    def data_received(self, data: bytes) -> None:
        """Bytes of the peer."""
        self._last_received = self._clock.monotonic()
        if self._pending:
            self._pending += data
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        """Parse in slices, because thousands of tiny frames fit into one read and the others wait meanwhile."""
        at = seen = 0
        while at < len(data) and not self._has_ended:
            if seen >= FRAMES_A_TURN:
                self._put_off(data[at:])
                return
            self._ws.receive_data(data[at : at + SLICE_BYTES])
            at += SLICE_BYTES
            seen += self._handle_events()

    def _put_off(self, rest: bytes) -> None:
        if self._is_over and self._transport.can_write_eof():
            # Who goes on like this behind our close frame is not listened to any more.
            self._end()
            return
        self._pending = rest
        self._is_reading = False
        self._transport.pause_reading()
        asyncio.get_running_loop().call_soon(self._take_pending)

    def _take_pending(self) -> None:
        rest, self._pending = self._pending, b""
        self._take(rest)
        if self._is_over or self._transport.get_write_buffer_size() <= self._limits.held_bytes:
            self._read_on()

    def _read_on(self) -> None:
        if not self._is_reading and not self._pending and not self._transport.is_closing():
            self._is_reading = True
            self._transport.resume_reading()

    def eof_received(self) -> bool:
        """The peer ended its side."""
        self._pending = b""
        self._ws.receive_eof()
        self._handle_events()
        return False

    def _handle_events(self) -> int:
        """How many there were."""
        events = self._ws.events_received()
        for event in events:
            if self._is_over:
                break
            if isinstance(event, Handshake):
                self._on_handshake(event)
            elif isinstance(event, Frame):
                self._on_frame(event)
        self._send_protocol_bytes()
        return len(events)

    def _send_protocol_bytes(self) -> None:
        for data in self._ws.data_to_send():
            if data:
                self.write(data)
            else:
                self._end()
        if self._ws.state is not OPEN and not self._is_over:
            self._is_over = True
            self._wait_for_end()

    def _end(self) -> None:
        """Shut our side and let the peer end its own, so that it reads our last words."""
        if self._has_ended or self._transport.is_closing():
            return
        self._has_ended = True
        self._is_over = True
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            # TLS has no half-close: its own goodbye is sent behind everything written, and then waited for.
            self._transport.close()
        self._wait_for_end()

    def _wait_for_end(self) -> None:
        self._follower.close()  # nothing is shown behind a close frame, nor read for it
        if self._close_due == math.inf:
            self._close_due = self._clock.monotonic() + CLOSE_GRACE_S
        self._read_on()
        self.wake(self._close_due)

    def connection_lost(self, _exc: Exception | None) -> None:
        """The connection is gone: so is everything that was only for it."""
        self._is_over = self._has_ended = True
        self._pending = b""
        context = self._context
        context.connections.pop(self, None)
        context.unauthenticated.discard(self)
        self._connections.discard(self)
        context.deadlines.remove(self)
        self._follower.close()
        context.presences.leave_all(self.id)
        self._conversation.end()
        self._wake_waiting()
        for task in list(self._tasks):
            task.cancel()
        self._peer.close()

    def pause_writing(self) -> None:
        """Not everything could be sent."""
        self._is_paused = True
        self._taken_at = self._clock.monotonic()
        self.wake(self._taken_at + self._limits.write_stall_s)

    def resume_writing(self) -> None:
        """Everything was sent."""
        self._is_paused = False
        self._wake_waiting()
        self._read_on()
        self._follower.resume()

    def _wake_waiting(self) -> None:
        if self._sent_all is not None:
            self._sent_all.set()
            self._sent_all = None

    # --- writing (the follower's Outlet) -----------------------------------------------------------------

    def can_write(self) -> bool:
        """Whether everything written so far was sent."""
        return not self._is_paused and not self._is_over

    async def drained(self) -> None:
        """Wait until everything written so far was sent, or the connection is gone."""
        if self._is_paused and not self._transport.is_closing():
            if self._sent_all is None:
                self._sent_all = asyncio.Event()
            await self._sent_all.wait()

    def write(self, data: bytes) -> None:
        """Write whole frames; nothing happens once the connection is over."""
        if self._has_ended or self._transport.is_closing():
            return
        self._written += len(data)
        self._transport.write(data)
        if not self._is_paused or not self._is_reading:
            return
        if self._transport.get_write_buffer_size() > self._limits.held_bytes:
            # Who does not read its answers may not ask on.
            self._is_reading = False
            self._transport.pause_reading()

    def send(self, payload: bytes) -> None:
        """Send one message."""
        if not self._is_over:
            self.write(frames.text_frame(payload))

    def notify(self, method: str, params: dict[str, Any]) -> None:
        """Send a control message."""
        self.send(frames.encode_notification(method, params))

    async def ready(self) -> None:
        """Wait until what is written beyond the limit was sent."""
        while self._transport.get_write_buffer_size() > self._limits.held_bytes:
            await self.drained()

    def bindings(self) -> Bindings:
        """The methods of this very connection."""
        return self._following.bindings

    def become_known(self) -> None:
        """The peer has said who it is: larger messages, heartbeats, no deadline."""
        self._context.unauthenticated.discard(self)
        self._auth_due = math.inf
        self._ws.max_message_size = self._limits.message_bytes
        self._next_ping = self._clock.monotonic() + self._limits.heartbeat_s
        self.wake(self._next_ping)

    def start_task(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        """Run something for as long as the connection lives."""
        task = self._context.nursery.start(work, name=f"{name} {self.id}")
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    def fail(self, code: int, reason: str) -> None:
        """Send a close frame; the connection ends when the peer has answered, or soon."""
        if self._is_over:
            return
        if self._ws.state is OPEN:
            self._ws.send_close(code, reason[:120])
        self._send_protocol_bytes()
        self._is_over = True
        self._wait_for_end()

    def go_away(self, reconnect_after_ms: int) -> None:
        """The server stops."""
        self.notify("going_away", {"reconnect_after_ms": reconnect_after_ms})
        self.fail(Close.RESTART, "the daemon stops")

    def abort(self) -> None:
        """End at once."""
        self._transport.abort()

    # --- handshake ---------------------------------------------------------------------------------------

    def _on_handshake(self, request: Handshake) -> None:
        refused = self._refusal(request)
        if refused is not None:
            self._refuse(*refused)
            return
        response = self._ws.accept(request)
        del response.headers["Date"]
        for name, value in self._context.headers.build():
            response.headers[name.decode()] = value.decode()
        self._ws.send_response(response)
        self._send_protocol_bytes()
        if response.status_code == 101:
            self._open(request)
        # The parser holds on to the request for as long as the connection lives.
        request.headers.clear()

    def _refusal(self, request: Handshake) -> tuple[int, HiveError] | None:
        path, _, query = request.path.partition("?")
        headers = [(b"authorization", v.encode()) for v in request.headers.get_all("Authorization")]
        if path.encode() != PATH:
            return 404, HiveError(
                "METHOD_NOT_FOUND", "There is no WebSocket at this path; it is /ws."
            )
        if "token=" in query:
            # A token in a URL ends up in histories and logs (S17).
            return 400, HiveError("INVALID_REQUEST", "A token does not belong into a URL.")
        if self._context.is_stopping:
            return 503, HiveError("SHUTTING_DOWN")
        if not self._peer.is_local_socket:
            accepted = self._context.callers.accepts_header(headers)
            if accepted is False:
                return 401, HiveError("UNAUTHENTICATED", "The token is not valid.")
            self._conversation.has_credential = bool(accepted)
        return None

    def _refuse(self, status: int, error: HiveError) -> None:
        extra = ((b"www-authenticate", b"Bearer"),) if status == 401 else ()
        self.write(raw_response(status, error, self._context.headers.build(), extra))
        self._end()

    def _open(self, request: Handshake) -> None:
        context = self._context
        is_full = len(context.connections) >= self._limits.connections
        context.connections[self] = None
        offered = request.headers.get_all("Sec-WebSocket-Protocol")
        if offered and self._ws.subprotocol is None:
            self.fail(Close.UNKNOWN_PROTOCOL, f"this daemon speaks {SUBPROTOCOL}")
            return
        if is_full:
            self.fail(Close.CONNECTION_LIMIT, "too many connections")
            return
        if not self._conversation.has_credential:
            if len(context.unauthenticated) >= self._limits.unauthenticated:
                self.fail(Close.AUTH_TIMEOUT, "too many unauthenticated connections")
                return
            context.unauthenticated.add(self)
        self.notify(
            "hello",
            {
                "server": "hivectl",
                "version": context.version,
                "protocol": [PROTOCOL_VERSION],
                "auth": ["bearer"],
                "auth_deadline_s": self._limits.auth_deadline_s,
                "limits": self._limits.shown(),
                "heartbeat_s": self._limits.heartbeat_s,
            },
        )
        self.wake(self._auth_due)

    # --- frames --------------------------------------------------------------------------------------------

    def _on_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.PONG:
            self._on_pong()
        elif frame.opcode is Opcode.PING:
            self._conversation.take_token(None)
        elif frame.opcode is Opcode.BINARY:
            self.fail(Close.BINARY, "send text frames")
        elif frame.opcode is Opcode.TEXT:
            if frame.fin:
                self._conversation.hear(bytes(frame.data))
            else:
                self._message, self._fragments = bytearray(frame.data), 1
        elif frame.opcode is Opcode.CONT and self._message is not None:
            self._message += frame.data
            self._fragments += 1
            if self._fragments > (self._ws.max_message_size or 0) // FRAGMENT_BYTES:
                self.fail(Close.TOO_BIG, "too many fragments")
            elif frame.fin:
                data, self._message = bytes(self._message), None
                self._conversation.hear(data)

    def _on_pong(self) -> None:
        if self._ping_sent is None:
            # Allowed by the protocol, but no sooner than anything else that nobody asked for.
            self._conversation.take_token(None)
            return
        self._rtt_ms = round((self._clock.monotonic() - self._ping_sent) * 1000, 1)
        self._ping_sent = None
        self._show_health()

    def _show_health(self) -> None:
        is_wanted = any(
            sub.wants_measures and sub.wants_ephemeral("system", "connection.health")
            for sub in self._follower.subs.values()
        )
        if is_wanted:
            data = {
                "connection": self.id,
                "rtt_ms": self._rtt_ms,
                "lagging": self._follower.is_lagging,
                "buffered_bytes": self._transport.get_write_buffer_size(),
            }
            now_us = self._clock.now_us()
            self.send(frames.encode_ephemeral("system", now_us, "connection.health", data))

    # --- time ------------------------------------------------------------------------------------------------

    def wake(self, due: float) -> None:
        """Call `tick` at `due` at the latest."""
        self._context.deadlines.wake(self, due)

    def tick(self, now: float) -> float:
        """Do what is due (the server's one timer calls it); when something is due next."""
        if self._is_over:
            return self._tick_closing(now)
        due = min(
            self._tick_auth(now),
            self._tick_stall(now),
            self._tick_heartbeat(now),
            self._tick_idle(now),
            self._follower.tick(now),
        )
        return min(due, self._close_due)

    def _tick_idle(self, now: float) -> float:
        due = self._last_received + self._limits.idle_close_s
        if now >= due:
            self.fail(Close.LEAVING, "idle")
        return due

    def _tick_closing(self, now: float) -> float:
        if now < self._close_due:
            return self._close_due
        self._transport.abort()
        return math.inf

    def _tick_auth(self, now: float) -> float:
        if now >= self._auth_due:
            self.fail(Close.AUTH_TIMEOUT, "not authenticated in time")
        return self._auth_due

    def _tick_stall(self, now: float) -> float:
        waiting = self._transport.get_write_buffer_size()
        taken = self._written - waiting
        if not waiting or taken != self._taken:
            self._taken, self._taken_at = taken, now
        due = self._taken_at + self._limits.write_stall_s
        if not waiting:
            return math.inf
        if now >= due:
            self.fail(Close.SLOW, "the connection takes nothing")
        return due

    def _tick_heartbeat(self, now: float) -> float:
        if self._ping_sent is not None:
            due = self._ping_sent + self._limits.pong_s
            if now >= due:
                self.fail(Close.NO_PONG, "no pong")
                return due
        if now >= self._next_ping:
            self._next_ping = now + self._limits.heartbeat_s
            if self._ping_sent is None:
                self._send_ping(now)
        if self._ping_sent is None:
            return self._next_ping
        return min(self._next_ping, self._ping_sent + self._limits.pong_s)

    def _send_ping(self, now: float) -> None:
        if self._ws.state is OPEN:
            self._ping_sent = now
            self._ws.send_ping(b"")
            self._send_protocol_bytes()
