"""Sortable ids and secret tokens: the only source of chance.

An id is `<prefix>_` and 20 characters of Crockford's base 32: 48 bits of milliseconds, then 52 random
bits. Ids made in one process sort in the order they were made; they cannot be guessed, but they are
no secrets.
"""

from __future__ import annotations

import secrets
import time
import uuid

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_RANDOM_BITS = 52
_last = 0


def _encode(value: int, length: int) -> str:
    out = []
    for _ in range(length):
        out.append(_ALPHABET[value & 31])
        value >>= 5
    return "".join(reversed(out))


def make_id(prefix: str) -> str:
    """A new id such as `x_06d5...`; later calls of this process sort after earlier ones."""
    global _last  # noqa: PLW0603  one counter a process is the point
    value = ((time.time_ns() // 1_000_000) << _RANDOM_BITS) | secrets.randbits(_RANDOM_BITS)
    if value <= _last:
        value = _last + 1 + secrets.randbits(16)
    _last = value
    return f"{prefix}_{_encode(value, 20)}"


def make_uuid() -> str:
    """A random UUID: Claude's session and message ids."""
    return str(uuid.uuid4())


def make_token(prefix: str = "hive_") -> str:
    """A secret of 256 random bits."""
    return prefix + secrets.token_urlsafe(32)


def make_key(size: int = 32) -> bytes:
    """Secret random bytes."""
    return secrets.token_bytes(size)


def jitter() -> float:
    """A random share between 0 and 1, for back-off."""
    return secrets.randbelow(1_000_000) / 1_000_000
