"""Answers that say no, on every transport: RFC 9457 problems, error frames, and the headers every answer carries.

What the asker sent may be repeated in an error, but no secret in it: terminals, traces and bug reports keep
errors for longer than anybody thinks.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from http import HTTPStatus

from hivectl.kit.clock import MICROSECOND, Clock
from hivectl.logic.redact import redact_text, redact_value
from hivectl.model.errors import HiveError
from hivectl.protocol.frames import RequestId, encode, encode_error

Headers = Sequence[tuple[bytes, bytes]]

CONTENT_TYPE = b"application/problem+json"
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
SECURITY_HEADERS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


def without_secrets(error: HiveError) -> HiveError:
    """What may be told of `error`: whatever has the name or shape of a secret is masked (S45)."""
    kind = error.kind
    return HiveError(
        error.code,
        error.message if error.message == kind.meaning else redact_text(error.message),
        hint=error.hint if error.hint == kind.hint else redact_text(error.hint),
        retry_after_ms=error.retry_after_ms,
        details=redact_value(error.details) if error.details else None,
    )


def error_frame(request_id: RequestId | None, error: HiveError, request: str = "") -> bytes:
    """The JSON-RPC answer of a request that failed, without secrets; id null when it could not be read."""
    return encode_error(request_id, without_secrets(error), request)


def problem_body(status: int, error: HiveError, request: str = "") -> bytes:
    """The body, without secrets: `code` is the contract, `detail` for people."""
    shown = without_secrets(error)
    body = {
        "type": "about:blank",
        "title": shown.kind.meaning,
        "status": status,
        "detail": shown.message,
        "code": shown.code,
        "hint": shown.hint,
    }
    if request:
        body["request_id"] = request
    return encode(body)


def http_date(second: int) -> str:
    """A time as HTTP writes it; email.utils would be the largest import of the server."""
    year, month, day, hour, minute, seconds, weekday, _, _ = time.gmtime(second)
    clock = f"{hour:02}:{minute:02}:{seconds:02}"
    return f"{_DAYS[weekday]}, {day:02} {_MONTHS[month - 1]} {year:04} {clock} GMT"


class StandardHeaders:
    """Date and the security headers; the date is made when it is asked for, at most once a second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._second = -1
        self._made: list[tuple[bytes, bytes]] = []

    def build(self) -> list[tuple[bytes, bytes]]:
        """The headers of an answer sent now."""
        second = self._clock.now_us() // MICROSECOND
        if second != self._second:
            date = http_date(second).encode()
            self._made = [(b"date", date), *SECURITY_HEADERS]
            self._second = second
        return self._made


def retry_header(error: HiveError) -> list[tuple[bytes, bytes]]:
    """When to come again, in whole seconds; nothing where coming again does not help."""
    if error.retry_after_ms is None:
        return []
    return [(b"retry-after", b"%d" % max(1, -(-error.retry_after_ms // 1000)))]


def raw_response(
    status: int,
    error: HiveError,
    headers: Headers,
    extra: Headers = (),
) -> bytes:
    """A whole answer that ends the connection."""
    body = problem_body(status, error)
    lines = [b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode())]
    lines += [name + b": " + value for name, value in (*headers, *retry_header(error), *extra)]
    lines += [
        b"content-type: " + CONTENT_TYPE,
        b"content-length: %d" % len(body),
        b"connection: close",
        b"",
        body,
    ]
    return b"\r\n".join(lines)
