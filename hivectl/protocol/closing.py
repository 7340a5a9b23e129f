"""Why a connection ends: one table of close codes, for the server, for clients and for the protocol page."""

from __future__ import annotations

from enum import IntEnum


class Close(IntEnum):
    """Codes of WebSocket close frames; the private ones start at 4400."""

    LEAVING = 1001
    PROTOCOL = 1002
    BINARY = 1003
    BAD_TEXT = 1007
    TOO_BIG = 1009
    BUG = 1011
    RESTART = 1012
    BAD_MESSAGE = 4400
    NOT_AUTHENTICATED = 4401
    UNKNOWN_PROTOCOL = 4404
    AUTH_TIMEOUT = 4408
    RATE_LIMITED = 4429
    SLOW = 4430
    NO_PONG = 4431
    CONNECTION_LIMIT = 4440


MEANINGS: dict[Close, str] = {
    Close.LEAVING: "The daemon leaves, or nothing was heard of the client for a long time.",
    Close.PROTOCOL: "The client broke the rules of WebSocket itself.",
    Close.BINARY: "A binary frame: messages are text.",
    Close.BAD_TEXT: "Text that is not UTF-8.",
    Close.TOO_BIG: "A message larger than allowed, or in more fragments than it may have KiB.",
    Close.BUG: "A fault of hivectl.",
    Close.RESTART: "The daemon restarts; `going_away` came before and tells when to come back.",
    Close.BAD_MESSAGE: "What was sent is no JSON object.",
    Close.NOT_AUTHENTICATED: "A request before `auth`, or a token that is not valid.",
    Close.UNKNOWN_PROTOCOL: "No subprotocol or protocol version in common.",
    Close.AUTH_TIMEOUT: "`auth` did not come in time, or too many connections had not sent it.",
    Close.RATE_LIMITED: "Messages, pings or unasked pongs kept coming too fast.",
    Close.SLOW: "The client took nothing for too long.",
    Close.NO_PONG: "A ping was not answered.",
    Close.CONNECTION_LIMIT: "Too many connections.",
}

TERMINAL = frozenset(
    {
        Close.BINARY,
        Close.BAD_TEXT,
        Close.TOO_BIG,
        Close.BAD_MESSAGE,
        Close.NOT_AUTHENTICATED,
        Close.UNKNOWN_PROTOCOL,
        Close.AUTH_TIMEOUT,
    }
)
"""Trying again without a change would end the same way; after the others a client reconnects and resumes."""
