"""HTTP answers that are no method's result: RFC 9457 problems, and the headers every answer carries."""

from __future__ import annotations

import time
from collections.abc import Sequence
from http import HTTPStatus

from hivectl.kit.clock import MICROSECOND, Clock
from hivectl.model.errors import HiveError
from hivectl.protocol.frames import encode

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


def problem_body(status: int, error: HiveError, request: str = "") -> bytes:
    """The body: `code` is the contract, `detail` for people."""
    body = {
        "type": "about:blank",
        "title": error.kind.meaning,
        "status": status,
        "detail": error.message,
        "code": error.code,
        "hint": error.hint,
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


def raw_response(
    status: int,
    error: HiveError,
    headers: Headers,
    extra: Headers = (),
) -> bytes:
    """A whole answer that ends the connection."""
    body = problem_body(status, error)
    lines = [b"HTTP/1.1 %d %b" % (status, HTTPStatus(status).phrase.encode())]
    lines += [name + b": " + value for name, value in (*headers, *extra)]
    lines += [
        b"content-type: " + CONTENT_TYPE,
        b"content-length: %d" % len(body),
        b"connection: close",
        b"",
        body,
    ]
    return b"\r\n".join(lines)
