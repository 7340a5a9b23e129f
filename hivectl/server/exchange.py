"""One HTTP request and its answer, as the routes see them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import NamedTuple

from hivectl.server.context import Arrival
from hivectl.server.problem import Headers

TEXT = b"text/plain; charset=utf-8"
JSON = b"application/json"


class Request(NamedTuple):
    """A request that arrived whole; names of headers are in lower case."""

    method: bytes
    path: bytes
    headers: Headers
    body: bytes
    arrival: Arrival
    is_last: bool
    """The connection ends with its answer."""

    def header(self, name: bytes) -> bytes:
        """The first header of this name, empty when there is none."""
        return next((value for found, value in self.headers if found == name), b"")


class Answer(NamedTuple):
    """What is sent back; date and security headers are added to it."""

    status: int
    body: bytes
    media_type: bytes = JSON
    headers: Headers = ()


class Route(NamedTuple):
    """What is served at a path, by one method (GET means HEAD too)."""

    method: bytes
    serve: Callable[[Request], Awaitable[Answer]]

    def takes(self, method: bytes) -> bool:
        """Whether a request may use this method here."""
        return method == self.method or (method, self.method) == (b"HEAD", b"GET")


def render(answer: Answer, request: Request, standard: Headers, *, is_last: bool) -> bytes:
    """The bytes of an answer."""
    lines = [b"HTTP/1.1 %d %b" % (answer.status, HTTPStatus(answer.status).phrase.encode())]
    lines += [name + b": " + value for name, value in (*standard, *answer.headers)]
    lines.append(b"content-length: %d" % len(answer.body))
    lines.append(b"content-type: " + answer.media_type)
    if is_last:
        lines.append(b"connection: close")
    lines += [b"", b"" if request.method == b"HEAD" else answer.body]
    return b"\r\n".join(lines)
