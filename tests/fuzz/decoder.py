"""The inbound decoder against a second one that is slow and plain: what one takes, the other takes, with the same value."""

from __future__ import annotations

import json
from typing import Any

from hivectl.model.errors import HiveError
from hivectl.protocol.decode import MAX_DEPTH, MAX_INT, MAX_MEMBERS, decode_object

MOST_BYTES = 8192
CODES = frozenset({"PARSE_ERROR", "INVALID_REQUEST", "TOO_LARGE"})


class Refused(Exception):  # noqa: N818
    """The plain decoder does not take it."""


def decoder(data: bytes) -> None:
    """One run."""
    code, value = None, None
    try:
        value = decode_object(data, max_bytes=MOST_BYTES)
    except HiveError as exc:
        code = exc.code
        assert code in CODES, code
    wanted, why = None, ""
    try:
        wanted = decode_plainly(data)
    except Refused as exc:
        why = str(exc)
    assert (code is None) == (wanted is not None), f"{code}, but {why or wanted!r}"
    assert repr(value) == repr(wanted)


def decode_plainly(data: bytes) -> dict[str, Any]:
    """What the protocol says, word for word. Raises Refused."""
    if len(data) > MOST_BYTES:
        raise Refused("too long")
    try:
        value = json.loads(
            data.decode(),
            object_pairs_hook=_once,
            parse_constant=_no_constant,
            parse_int=_exact,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as exc:
        raise Refused(str(exc)) from None
    if not isinstance(value, dict):
        raise Refused("no object")
    if _weigh(value, 1) > MAX_MEMBERS:
        raise Refused("too many members")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise Refused("a key twice")
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise Refused(name)


def _exact(text: str) -> int:
    number = int(text)
    if abs(number) > MAX_INT:
        raise Refused("a large integer")
    return number


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise Refused("a number out of range")
    return number


def _weigh(value: Any, depth: int) -> int:
    """Containers, members and elements."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            raise Refused("half a surrogate pair") from None
    if not isinstance(value, dict | list):
        return 0
    if depth > MAX_DEPTH:
        raise Refused("too deep")
    if isinstance(value, dict):
        _weigh_all(value, depth)
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max(0, len(value) - 1) + sum(_weigh(one, depth + 1) for one in inner)


def _weigh_all(keys: Any, depth: int) -> None:
    for key in keys:
        _weigh(key, depth)
