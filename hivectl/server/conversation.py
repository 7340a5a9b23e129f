"""What is said on one connection: messages to requests, requests to answers, and who is asking.

Knows the protocol but no transport; the line it speaks on is given to it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from hivectl.kit.ids import make_id
from hivectl.model.access import Caller, Scope
from hivectl.model.errors import HiveError
from hivectl.protocol import frames
from hivectl.protocol.closing import Close
from hivectl.protocol.decode import decode_object
from hivectl.protocol.methods import METHODS, PROTOCOL_VERSION
from hivectl.server.context import Context
from hivectl.server.dispatch import Bindings, parse_params, report_bug
from hivectl.server.following import Reply
from hivectl.server.limits import Bucket
from hivectl.server.peers import Peer
from hivectl.server.problem import error_frame


class Line(Protocol):
    """The connection, as the conversation uses it."""

    def send(self, payload: bytes) -> None:
        """Send one message; nothing happens once the connection is over."""
        ...

    def fail(self, code: int, reason: str) -> None:
        """End the connection."""
        ...

    def become_known(self) -> None:
        """The peer has said who it is."""
        ...

    def bindings(self) -> Bindings:
        """The methods of this very connection."""
        ...

    async def ready(self) -> None:
        """Wait until the peer has taken what it was sent, so that no more answers are made than it reads."""
        ...


class Conversation:
    """One connection's requests."""

    __slots__ = (
        "_bucket", "_caller", "_clock", "_context", "_in_flight", "_limits", "_line", "_peer",
        "has_credential", "id",
    )  # fmt: skip

    def __init__(
        self,
        identity: str,
        *,
        context: Context,
        peer: Peer,
        line: Line,
    ) -> None:
        """Nothing is known of the peer yet but where it is."""
        self.id = identity
        self._context = context
        self._limits = context.limits
        self._clock = context.clock
        self._peer = peer
        self._line = line
        self.has_credential = peer.is_local_socket
        """The peer's uid, the header or `auth` counts."""
        self._caller: Caller | None = None
        limits = context.limits
        now = context.clock.monotonic()
        self._bucket = Bucket(limits.messages_per_s, limits.messages_burst, now)
        self._in_flight: dict[frames.RequestId, tuple[asyncio.Task[None], bool]] = {}

    def end(self) -> None:
        """The connection is gone: give up what only waits or reads."""
        for task, changes in list(self._in_flight.values()):
            if not changes:
                task.cancel()

    def hear(self, data: bytes) -> None:
        """One whole text message."""
        if not data.isascii():
            try:
                data.decode()
            except UnicodeDecodeError:
                self._line.fail(Close.BAD_TEXT, "text frames must be UTF-8")
                return
        try:
            message = decode_object(data, max_bytes=self._limits.message_bytes)
        except HiveError as exc:
            self._line.send(error_frame(None, exc))
            if exc.code != "TOO_LARGE":
                self._line.fail(Close.BAD_MESSAGE, exc.message)
            return
        request_id = frames.id_of(message)
        if not self.take_token(request_id):
            return
        try:
            self._on_request(frames.parse_request(message))
        except HiveError as exc:
            self._line.send(error_frame(request_id, exc))

    def take_token(self, request_id: frames.RequestId | None) -> bool:
        """Whether one more message may come now; otherwise it is refused, or the connection ended."""
        if self._bucket.take(self._clock.monotonic()):
            return True
        if self._bucket.refused > self._limits.messages_burst:
            self._line.fail(Close.RATE_LIMITED, "too many messages")
        else:
            error = HiveError("RATE_LIMITED", retry_after_ms=self._bucket.wait_ms())
            self._line.send(error_frame(request_id, error))
        return False

    def _on_request(self, request: frames.Request) -> None:
        if request.id is None:
            self._on_notification(request)
            return
        if request.method == "auth":
            self._on_auth(request.id, request)
            return
        if self._caller is None:
            if request.method == "ping":
                self._start_request(request.id, request, self._stranger())
                return
            error = HiveError("UNAUTHENTICATED", "Say who you are first, with `auth`.")
            self._line.send(error_frame(request.id, error))
            self._line.fail(Close.NOT_AUTHENTICATED, "not authenticated")
            return
        self._start_request(request.id, request, self._caller)

    def _on_notification(self, request: frames.Request) -> None:
        if request.method != "$/cancel":
            raise HiveError("INVALID_REQUEST", "A request needs an `id`.")
        wanted = request.params.get("id")
        if not isinstance(wanted, str | int) or isinstance(wanted, bool):
            raise HiveError("INVALID_REQUEST", "`$/cancel` needs the `id` of a request.")
        task, changes = self._in_flight.get(wanted, (None, False))
        # What changes something is done or not done; only waiting and reading can be given up.
        if task is not None and not changes:
            task.cancel()

    def _stranger(self) -> Caller:
        return Caller(actor="", scopes=frozenset(), connection=self.id, peer=self._peer.label)

    def _on_auth(self, request_id: frames.RequestId, request: frames.Request) -> None:
        # Handled at once: what the client sent right behind it must find it done.
        ours = make_id("r")
        try:
            asked: Any = parse_params(METHODS["auth"], request.params)
            _check_protocol(asked.protocol)
            self._check_credential(asked.token)
        except HiveError as exc:
            self._line.send(error_frame(request_id, exc, ours))
            if exc.code == "UNAUTHENTICATED":
                self._line.fail(Close.NOT_AUTHENTICATED, "not authenticated")
            elif exc.code == "PROTOCOL_MISMATCH":
                self._line.fail(Close.UNKNOWN_PROTOCOL, "no common protocol version")
            return
        self._become_known()
        caller = self._caller
        assert caller is not None
        result = {
            "actor": caller.actor,
            "scopes": sorted(caller.scopes),
            "connection": self.id,
            "version": self._context.version,
            "node": self._context.node,
            "protocol": PROTOCOL_VERSION,
            "expires_at": None,
        }
        self._line.send(frames.encode_result(request_id, result))

    def _check_credential(self, token: str | None) -> None:
        if self._peer.is_local_socket:
            return
        if token is not None:
            if not self._context.callers.accepts_token(token):
                raise HiveError("UNAUTHENTICATED", "The token is not valid.")
        elif not self.has_credential:
            raise HiveError("UNAUTHENTICATED", "Over TCP the token of the token file is needed.")

    def _become_known(self) -> None:
        if self._caller is not None:
            return
        self.has_credential = True
        self._caller = self._context.callers.caller_of(self._peer, connection=self.id)
        self._line.become_known()

    def _work(self) -> None:
        """Whoever works here must not approve here: not what it asks itself, nor anything else."""
        if self._caller is not None:
            self._caller = self._caller.as_worker()

    def _start_request(
        self, request_id: frames.RequestId, request: frames.Request, caller: Caller
    ) -> None:
        if request_id in self._in_flight:
            raise HiveError("INVALID_REQUEST", "A request with this id is still in flight.")
        most = self._limits.requests_in_flight
        if len(self._in_flight) >= most:
            raise HiveError(
                "RESOURCE_LIMIT",
                f"{most} requests of this connection are in flight.",
                details={"limit": "limits.requests_in_flight", "max": most},
            )
        method = self._context.dispatcher.method(request.method)
        caller = replace(caller, request=make_id("r"))
        task = self._context.nursery.start(
            self._serve(request_id, request, caller), name=f"{method.name} {caller.request}"
        )
        self._in_flight[request_id] = (task, method.changes)
        task.add_done_callback(lambda _: self._in_flight.pop(request_id, None))

    async def _serve(
        self, request_id: frames.RequestId, request: frames.Request, caller: Caller
    ) -> None:
        method = METHODS[request.method]
        then: Callable[[], None] | None = None
        try:
            await self._line.ready()
            caller = await self._context.callers.look_closer(caller, self._peer, method)
            result = await self._context.dispatcher.dispatch(
                caller, method, request.params, self._line.bindings()
            )
            if method.scope is Scope.WORK:
                self._work()
            if isinstance(result, Reply):
                result, then = result.result, result.then
            payload = frames.encode_result(request_id, result)
        except HiveError as exc:
            payload = error_frame(request_id, exc, caller.request)
        except Exception as exc:  # noqa: BLE001  a result that is no JSON is a bug of one request only
            error = report_bug(exc, method.name, caller)
            payload = error_frame(request_id, error, caller.request)
        self._line.send(payload)
        if then is not None:
            then()


def _check_protocol(version: int) -> None:
    if version != PROTOCOL_VERSION:
        raise HiveError(
            "PROTOCOL_MISMATCH",
            f"This daemon speaks protocol {PROTOCOL_VERSION}.",
            details={"protocol": [PROTOCOL_VERSION]},
        )
