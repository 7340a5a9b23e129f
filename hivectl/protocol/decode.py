"""The one decoder of everything that comes in as JSON: bytes in, one checked object out.

Limits are checked on the bytes, before anything is built from them, so a hostile message costs no more
memory than its own size. What passes is plain: text is valid Unicode without lone surrogates, keys are
unique, integers fit a double exactly. It knows nothing of requests and methods.
"""

from __future__ import annotations

from typing import Any

import msgspec

from hivectl.model.errors import HiveError

MAX_DEPTH = 64
MAX_MEMBERS = 10_000
"""Members of objects, elements of arrays and the containers themselves, of one message."""
MAX_INT = 2**53
_OPEN = b"[{"
_KEPT = b"[]{},:"
_DROPPED = bytes(byte for byte in range(256) if byte not in _KEPT)

_decoder = msgspec.json.Decoder()


def decode_object(data: bytes, *, max_bytes: int) -> dict[str, Any]:
    """The JSON object in `data`.

    Raises HiveError: TOO_LARGE (size or number of members), PARSE_ERROR (no strict JSON, no UTF-8, NaN,
    lone surrogates, duplicate keys, nested too deeply, integers beyond ±2^53), INVALID_REQUEST (JSON,
    but no object; arrays would smuggle requests past authorisation, so batches are refused).
    """
    if len(data) > max_bytes:
        raise HiveError(
            "TOO_LARGE",
            f"The message has {len(data)} bytes; {max_bytes} are allowed.",
            details={"limit": "limits.message_bytes", "max": max_bytes},
        )
    structure = _structure(data)
    _check_structure(structure)
    try:
        value = _decoder.decode(data)
    except RecursionError:
        raise _malformed("nested too deeply") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as exc:
        raise _malformed(_reason(exc)) from None
    if not isinstance(value, dict):
        what = "an array: batches are refused" if isinstance(value, list) else "no object"
        raise HiveError("INVALID_REQUEST", f"The message is {what}.")
    if _check_values(value) != structure.count(b":"):
        raise _malformed("a key stands twice in one object")
    return value


def check_limits(data: bytes) -> None:
    """What `decode_object` refuses before it reads, for who sends: the answer to such a message could not
    say whose it is. Raises HiveError TOO_LARGE or PARSE_ERROR."""
    _check_structure(_structure(data))


def _structure(data: bytes) -> bytes:
    """The brackets, commas and colons of `data` that are not inside strings."""
    if b"\\" in data:
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    quotes = data.count(b'"')
    if quotes > 4 * MAX_MEMBERS + 4:
        raise _too_many()
    if quotes:
        data = b"".join(data.split(b'"')[::2])
    return data.translate(None, _DROPPED)


def _check_structure(structure: bytes) -> None:
    opened = structure.count(b"[") + structure.count(b"{")
    if opened + structure.count(b",") > MAX_MEMBERS or structure.count(b":") > MAX_MEMBERS:
        raise _too_many()
    if opened != structure.count(b"]") + structure.count(b"}"):
        raise _malformed("brackets do not match")
    if opened <= MAX_DEPTH:
        return
    depth = 0
    for byte in structure.translate(None, b",:"):
        depth += 1 if byte in _OPEN else -1
        if depth > MAX_DEPTH:
            raise _malformed(f"nested more than {MAX_DEPTH} deep")


def _check_values(top: dict[str, Any]) -> int:
    """Look at every number; return how many members all objects have."""
    members = 0
    waiting: list[Any] = [top]
    while waiting:
        container = waiting.pop()
        if isinstance(container, dict):
            members += len(container)
            values = container.values()
        else:
            values = container
        for value in values:
            kind = type(value)
            if kind is dict or kind is list:
                waiting.append(value)
            elif kind is int and not -MAX_INT <= value <= MAX_INT:
                raise _malformed("an integer lies beyond ±2^53")
    return members


def _reason(exc: Exception) -> str:
    if isinstance(exc, UnicodeDecodeError):
        return "not UTF-8"
    return str(exc).removeprefix("JSON is malformed: ").lower()


def _malformed(why: str) -> HiveError:
    return HiveError("PARSE_ERROR", f"The message is not JSON we accept: {why}.")


def _too_many() -> HiveError:
    return HiveError(
        "TOO_LARGE",
        f"The message has more than {MAX_MEMBERS} members.",
        details={"limit": "members", "max": MAX_MEMBERS},
    )
