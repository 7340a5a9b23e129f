"""POST /rpc: one JSON-RPC request over plain HTTP, for callers that do not stay.

Same methods, same checks, same answers as on the WebSocket; the HTTP status repeats the error's.
"""

from __future__ import annotations

from collections import OrderedDict

from hivectl.kit.ids import make_id
from hivectl.model.access import Caller
from hivectl.model.errors import HiveError
from hivectl.protocol import frames
from hivectl.protocol.decode import decode_object
from hivectl.server.context import Context
from hivectl.server.dispatch import report_bug
from hivectl.server.exchange import JSON, Answer, Request
from hivectl.server.limits import Bucket
from hivectl.server.peers import Peer
from hivectl.server.problem import error_frame, retry_header

_SHARE = 10
"""How many connections' worth of messages one peer may send here: many programs share an address."""
_BUCKETS_MAX = 1024


class Rpc:
    """The route."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    async def serve(self, request: Request) -> Answer:
        """Answer one request."""
        ours = make_id("r")
        request_id: frames.RequestId | None = None
        try:
            peer = request.arrival.peer
            self._take_token(peer)
            caller = self._authenticate(request, peer, ours)
            _check_media_type(request)
            message = decode_object(request.body, max_bytes=self._context.limits.message_bytes)
            request_id = frames.id_of(message)
            asked = frames.parse_request(message)
            return Answer(200, await self._call(asked, caller, peer))
        except HiveError as exc:
            return _error(request_id, exc, ours)

    def _take_token(self, peer: Peer) -> None:
        """Raises RATE_LIMITED when one process (over TCP: one address) asks too much at once (S39)."""
        limits, now = self._context.limits, self._context.clock.monotonic()
        key = peer.host or f"pid {peer.pid}"
        bucket = self._buckets.pop(key, None)
        if bucket is None:
            bucket = Bucket(limits.messages_per_s * _SHARE, limits.messages_burst * _SHARE, now)
            if len(self._buckets) >= _BUCKETS_MAX:
                self._buckets.popitem(last=False)
        self._buckets[key] = bucket
        if not bucket.take(now):
            raise HiveError("RATE_LIMITED", retry_after_ms=bucket.wait_ms())

    def _authenticate(self, request: Request, peer: Peer, ours: str) -> Caller:
        callers = self._context.callers
        if not peer.is_local_socket and not callers.accepts_header(request.headers):
            raise HiveError("UNAUTHENTICATED")
        caller = callers.caller_of(peer)
        return Caller(
            actor=caller.actor,
            scopes=caller.scopes,
            request=ours,
            execution=caller.execution,
            peer=caller.peer,
        )

    async def _call(self, asked: frames.Request, caller: Caller, peer: Peer) -> bytes:
        if asked.id is None:
            raise HiveError("INVALID_REQUEST", "A request needs an `id`.")
        dispatcher = self._context.dispatcher
        method = dispatcher.method(asked.method)
        if method.socket_only:
            raise HiveError(
                "INVALID_REQUEST",
                f"{method.name} makes sense only on a connection that stays: use the WebSocket.",
            )
        caller = await self._context.callers.look_closer(caller, peer, method)
        result = await dispatcher.dispatch(caller, method, asked.params)
        try:
            return frames.encode_result(asked.id, result)
        except (TypeError, ValueError, RecursionError) as exc:
            raise report_bug(exc, method.name, caller) from exc


def _check_media_type(request: Request) -> None:
    # A page of another site can send text without asking first, but not JSON.
    media_type = request.header(b"content-type").partition(b";")[0].strip().lower()
    if media_type != JSON:
        raise HiveError("INVALID_REQUEST", f"Send the request as {JSON.decode()}.")


def _error(request_id: frames.RequestId | None, error: HiveError, ours: str) -> Answer:
    headers = retry_header(error)
    if error.kind.http == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    body = error_frame(request_id, error, ours)
    return Answer(error.kind.http, body, headers=headers)
