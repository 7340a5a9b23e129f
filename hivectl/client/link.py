"""One authenticated connection: frames out, frames in, and the handshake before them.

Reads no events on its own: whoever owns the link calls `receive`. Translates every failure of the
WebSocket library into HiveError (cannot connect) or ConnectionLost (the connection ended).
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.typing import Subprotocol

import hivectl
from hivectl.client import trust
from hivectl.client.errors import ConnectionLost, parse_error
from hivectl.client.transport import Endpoint
from hivectl.model.errors import TABLE, HiveError
from hivectl.protocol.decode import check_limits
from hivectl.protocol.methods import PROTOCOL_VERSION, SUBPROTOCOL

OPEN_TIMEOUT_S = 10.0
CLOSE_TIMEOUT_S = 2.0
PING_EVERY_S = 30.0
PONG_WITHIN_S = 30.0
MAX_FRAME_BYTES = 64 * 1024 * 1024
"""Pages of a log may be large; events are at most 256 KiB."""
_LOCATION_CHARS = 200


class Link:
    """An open, authenticated connection. `info` is the daemon's answer to `auth`."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._reconnect_after_ms = 0
        self.hello: dict[str, Any] = {}
        self.info: dict[str, Any] = {}

    async def send(self, frame: dict[str, Any]) -> None:
        """Send one frame. Raises ConnectionLost, or HiveError: INVALID_PARAMS for text that is no Unicode,
        TOO_LARGE or PARSE_ERROR for what the daemon would not read."""
        try:
            data = json.dumps(frame, ensure_ascii=False, allow_nan=False).encode()
        except (UnicodeEncodeError, ValueError) as exc:
            raise HiveError(
                "INVALID_PARAMS", f"The text cannot be sent: {exc}", hint="Give valid UTF-8."
            ) from exc
        check_limits(data)
        try:
            await self._socket.send(data.decode())
        except ConnectionClosed as exc:
            raise self._lost(exc) from exc

    async def receive(self) -> dict[str, Any]:
        """The next frame. Raises ConnectionLost."""
        while True:
            try:
                text = await self._socket.recv()
            except ConnectionClosed as exc:
                raise self._lost(exc) from exc
            frame = _decoded(text)
            if frame.get("method") != "going_away":
                return frame
            self._reconnect_after_ms = int(frame.get("params", {}).get("reconnect_after_ms", 0))

    async def close(self) -> None:
        """Leave. Never raises for a connection that is gone already."""
        await self._socket.close()

    def _lost(self, exc: ConnectionClosed) -> ConnectionLost:
        frame = exc.rcvd
        if frame is None:
            code = 1012 if self._reconnect_after_ms else 1006
            return ConnectionLost(code, reconnect_after_ms=self._reconnect_after_ms)
        return ConnectionLost(frame.code, frame.reason, reconnect_after_ms=self._reconnect_after_ms)


def _decoded(text: str | bytes) -> dict[str, Any]:
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        frame = None
    if not isinstance(frame, dict):
        raise ConnectionLost(1002, "what came is no message of a daemon")
    return frame


class _Connect(connect):
    """Follows no redirect: the token would go where somebody else says."""

    def process_redirect(self, exc: Exception) -> Exception | str:
        """What the answer was, as it was."""
        return exc


async def open_link(endpoint: Endpoint, *, name: str) -> Link:
    """Connect, wait for `hello`, say who we are.

    Raises HiveError: UNAVAILABLE when nobody listens, PROTOCOL_MISMATCH when no version is common,
    UNAUTHENTICATED and its like when the credential does not count.
    """
    link = Link(await _connect(endpoint))
    try:
        async with asyncio.timeout(OPEN_TIMEOUT_S):
            await _shake_hands(link, endpoint, name)
    except TimeoutError as exc:
        await link.close()
        raise _unavailable(endpoint, f"The daemon at {endpoint.label} does not answer.") from exc
    except ConnectionLost as exc:
        raise exc.as_error() from exc
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        await link.close()
        raise _stranger(endpoint) from exc
    except BaseException:
        await link.close()
        raise
    return link


async def _connect(endpoint: Endpoint) -> ClientConnection:
    options: dict[str, Any] = {
        "subprotocols": [Subprotocol(SUBPROTOCOL)],
        "compression": None,
        "max_size": MAX_FRAME_BYTES,
        "open_timeout": OPEN_TIMEOUT_S,
        "close_timeout": CLOSE_TIMEOUT_S,
        "ping_interval": PING_EVERY_S,
        "ping_timeout": PONG_WITHIN_S,
        "user_agent_header": f"hivectl/{hivectl.__version__}",
    }
    if endpoint.is_tls:
        options["ssl"] = await asyncio.to_thread(trust.make_context, endpoint.ca_file)
    try:
        if endpoint.socket is not None:
            return await _Connect(endpoint.url, unix=True, path=str(endpoint.socket), **options)
        return await _Connect(endpoint.url, proxy=None, **options)
    except InvalidStatus as exc:
        raise _refused(endpoint, exc) from exc
    except (OSError, TimeoutError, InvalidHandshake, EOFError) as exc:
        if endpoint.is_tls and (told := trust.explain(exc, endpoint.label)) is not None:
            raise told from exc
        raise _unavailable(endpoint, f"No daemon answers at {endpoint.label}.") from exc


_CHECK_URL = (
    "Check HIVECTL_URL, and that a daemon listens there; without HIVECTL_URL the local one is used."
)


def _unavailable(endpoint: Endpoint, message: str) -> HiveError:
    return HiveError("UNAVAILABLE", message, hint="" if endpoint.is_local else _CHECK_URL)


def _stranger(endpoint: Endpoint) -> HiveError:
    return HiveError(
        "PROTOCOL_MISMATCH",
        f"What answers at {endpoint.label} is no hivectl daemon.",
        hint="" if endpoint.is_local else _CHECK_URL,
    )


def _refused(endpoint: Endpoint, exc: InvalidStatus) -> HiveError:
    status = exc.response.status_code
    if 300 <= status < 400:
        place = exc.response.headers.get("Location", "")[:_LOCATION_CHARS]
        return HiveError(
            "UNAVAILABLE",
            f"What answers at {endpoint.label} sends clients to another address (HTTP {status}), and they do not go.",
            hint=f"Give the daemon's own address in HIVECTL_URL; it names {place!r}.",
        )
    try:
        body = json.loads(exc.response.body or b"{}")
        code = str(body.get("code", ""))
        message = str(body.get("detail") or body.get("title") or "")
        hint = str(body.get("hint") or "")
    except (ValueError, AttributeError):
        code, message, hint = "", "", ""
    if code not in TABLE:
        code = {401: "UNAUTHENTICATED", 403: "FORBIDDEN", 429: "RATE_LIMITED"}.get(
            status, "UNAVAILABLE"
        )
    if code == "UNAVAILABLE":
        hint = hint or ("" if endpoint.is_local else _CHECK_URL)
    return HiveError(
        code, message or f"The daemon refused the connection (HTTP {status}).", hint=hint
    )


async def _shake_hands(link: Link, endpoint: Endpoint, name: str) -> None:
    hello = await link.receive()
    if hello.get("method") != "hello":
        raise _stranger(endpoint)
    link.hello = dict(hello.get("params") or {})
    offered = link.hello.get("protocol") or []
    if PROTOCOL_VERSION not in offered:
        raise HiveError(
            "PROTOCOL_MISMATCH",
            f"This hivectl speaks protocol {PROTOCOL_VERSION}, the daemon speaks {offered}.",
        )
    params: dict[str, Any] = {
        "client": {"name": name, "version": hivectl.__version__},
        "protocol": PROTOCOL_VERSION,
        "capabilities": {"partials": {}},
    }
    if endpoint.token:
        params["token"] = endpoint.token
    await link.send({"jsonrpc": "2.0", "id": "auth", "method": "auth", "params": params})
    while True:
        frame = await link.receive()
        if "error" in frame:
            raise parse_error(frame["error"])
        if frame.get("id") == "auth":
            link.info = dict(frame["result"])
            return
