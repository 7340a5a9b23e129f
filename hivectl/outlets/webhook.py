"""Signed webhooks after the Standard Webhooks specification: a POST of JSON with three headers.

Small on purpose: one request a connection, only the answer's first line is read, redirects are not
followed, and one deadline covers all of it, so that no server can hold us.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import re
import ssl
from collections.abc import Callable
from urllib.parse import SplitResult, quote, unquote, urlsplit

import msgspec

from hivectl.kit.clock import MICROSECOND, Clock
from hivectl.ports import Message, Undelivered

LINE_BYTES = 8192
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})\b")
_GONE = 410
_SAFE_PATH = "/%:@!$&'()*+,;=~-._"


def signature(secret: str, id_: str, timestamp: int, body: bytes) -> str:
    """The header `webhook-signature`: `v1,` and the base 64 of HMAC-SHA256 over id, time and body."""
    content = f"{id_}.{timestamp}.".encode() + body
    digest = hmac.new(key_of(secret), content, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def key_of(secret: str) -> bytes:
    """The bytes of a secret: base 64 behind `whsec_`, else the text itself."""
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error:
            pass
    return secret.encode()


class _Place(msgspec.Struct, frozen=True):
    host: str
    port: int
    path: str
    header: str
    login: str
    is_tls: bool


class WebhookOutlet:
    """Fulfils `ports.Outlet` for http and https addresses."""

    def __init__(self, secret: Callable[[], str], clock: Clock) -> None:
        """`secret` is asked at each message: it may change while the daemon runs."""
        self._secret = secret
        self._clock = clock
        self._tls: ssl.SSLContext | None = None

    async def send(self, url: str, message: Message, *, within_s: float) -> None:
        """POST the payload. Raises Undelivered for anything but a 2xx answer."""
        place = _place(url)
        body = message.payload.encode()
        try:
            async with asyncio.timeout(within_s):
                status = await self._post(place, self._request(place, message.id, body))
        except TimeoutError:
            raise Undelivered(f"no answer within {within_s:g} s") from None
        except (OSError, ssl.SSLError, UnicodeError) as exc:
            raise Undelivered(f"{type(exc).__name__}: {exc}") from exc
        if not 200 <= status < 300:
            extra = ", and redirects are not followed" if 300 <= status < 400 else ""
            raise Undelivered(f"it answered {status}{extra}", is_final=status == _GONE)

    def _request(self, place: _Place, id_: str, body: bytes) -> bytes:
        timestamp = self._clock.now_us() // MICROSECOND
        lines = [
            f"POST {place.path} HTTP/1.1",
            f"Host: {place.header}",
            "User-Agent: hivectl",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: close",
            f"webhook-id: {id_}",
            f"webhook-timestamp: {timestamp}",
            f"webhook-signature: {signature(self._secret(), id_, timestamp, body)}",
        ]
        if place.login:
            lines.append(f"Authorization: Basic {place.login}")
        return "\r\n".join([*lines, "", ""]).encode("ascii") + body

    async def _post(self, place: _Place, request: bytes) -> int:
        if place.is_tls and self._tls is None:
            self._tls = await asyncio.to_thread(ssl.create_default_context)
        reader, writer = await asyncio.open_connection(
            place.host,
            place.port,
            ssl=self._tls if place.is_tls else None,
            limit=LINE_BYTES,
        )
        try:
            writer.write(request)
            await writer.drain()
            while True:
                status = await _status(reader)
                if status >= 200:
                    return status
        finally:
            writer.close()
            writer.transport.abort()


async def _status(reader: asyncio.StreamReader) -> int:
    """The code of the next status line; headers of an informational answer are passed over."""
    while True:
        try:
            line = await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            raise Undelivered("it hung up without an answer") from None
        except asyncio.LimitOverrunError:
            raise Undelivered("its answer is no HTTP") from None
        if found := _STATUS.match(line):
            return int(found[1])
        if b":" not in line and line.strip():
            raise Undelivered("its answer is no HTTP")


def _place(url: str) -> _Place:
    try:
        parts: SplitResult = urlsplit(url)
        port = parts.port
        host = parts.hostname or ""
        named = f"[{host}]" if ":" in host else host.encode("idna").decode()
    except ValueError:
        # What Python says of it quotes a part of the address, and that may be a password (S45).
        raise Undelivered("this is no address: its host or port cannot be read", is_final=True) from None  # fmt: skip
    if parts.scheme not in ("http", "https") or not host:
        raise Undelivered("only http and https addresses can be called", is_final=True)
    is_tls = parts.scheme == "https"
    path = quote(parts.path or "/", safe=_SAFE_PATH)
    if parts.query:
        path += "?" + quote(parts.query, safe=_SAFE_PATH + "?")
    login = ""
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        login = base64.b64encode(pair.encode()).decode()
    usual = 443 if is_tls else 80
    header = named if port in (None, usual) else f"{named}:{port}"
    return _Place(host, port or usual, path, header, login, is_tls)
