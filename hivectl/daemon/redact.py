"""Takes secrets out of text and values before they reach a log, an error report or a webhook (S45).

Two nets: the name of a field or assignment, and the shape of well-known credentials. Every pattern is
bounded, so a hostile text costs linear time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = "[redacted]"

_TELLING_WORDS = r"(?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential|authorization|cookie)"
_SECRET_NAME = re.compile(_TELLING_WORDS, re.IGNORECASE)
_HARMLESS_NAME = re.compile(
    r"(?:tokens|[_-](?:file|path|dir|url|name|id|hash|count|limit|bytes|s|ms))$", re.IGNORECASE
)
_DEPTH = 12

# Order matters: whole blocks before the pieces they hold.
_SHAPES: tuple[re.Pattern[str], ...] = (
    re.compile(
        r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)",
        re.DOTALL,
    ),
    re.compile(r"\bsk-ant-[A-Za-z0-9_-]{6,}"),
    re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),
    re.compile(r"\bhive_[A-Za-z0-9_-]{16,}"),
    re.compile(r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)?"),
    re.compile(r"\b(?:AKIA|ASIA|AIDA|AROA|AGPA|ANPA|ANVA|AIPA)[0-9A-Z]{16}\b"),
    re.compile(r"\bgh[pousr]_[A-Za-z0-9]{20,}"),
    re.compile(r"\bgithub_pat_[A-Za-z0-9_]{20,}"),
    re.compile(r"\bglpat-[A-Za-z0-9_-]{16,}"),
    re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    re.compile(r"\bAIza[A-Za-z0-9_-]{30,}"),
    re.compile(r"(?<=\bBearer )[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE),
    re.compile(r"(?<=\bBasic )[A-Za-z0-9+/=]{8,}", re.IGNORECASE),
)
_HEADER = re.compile(
    r"(?P<name>\b(?:proxy-)?authorization\b[\"']?\s{0,4}[:=]\s{0,4}[\"']?)"
    r"(?:(?:bearer|basic|token|digest)\s{1,4})?[^\s\"',;]{1,4096}",
    re.IGNORECASE,
)
_ASSIGNMENT = re.compile(
    rf"(?P<name>(?<![\w-])[\w-]{{0,48}}{_TELLING_WORDS}[\w-]{{0,48}})"
    r"(?P<sign>[\"']?\s{0,4}[=:]\s{0,4})(?P<quote>[\"']?)(?P<value>[^\s\"',;&)}\]]{3,4096})",
    re.IGNORECASE,
)
_USERINFO = re.compile(
    r"(?P<start>\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@]{0,256}:)[^\s/@]{1,1024}(?=@)"
)


def is_secret_name(name: str) -> bool:
    """Whether a field of this name is taken to hold a secret: `api_key`, but not `input_tokens`."""
    return bool(_SECRET_NAME.search(name)) and not _HARMLESS_NAME.search(name)


def redact_text(text: str) -> str:
    """`text` with every recognised secret replaced by MASK."""
    for shape in _SHAPES:
        text = shape.sub(MASK, text)
    text = _HEADER.sub(lambda found: found["name"] + MASK, text)
    text = _ASSIGNMENT.sub(_assignment, text)
    return _USERINFO.sub(lambda found: found["start"] + MASK, text)


def _assignment(found: re.Match[str]) -> str:
    if not is_secret_name(found["name"]) or found["value"].startswith(MASK[:-1]):
        return found[0]
    return found["name"] + found["sign"] + found["quote"] + MASK


def redact_value(value: Any, name: str = "") -> Any:
    """A JSON-ready copy of `value` without secrets; unknown types become redacted text."""
    return _redact(value, name, _DEPTH)


def _redact(value: Any, name: str, depth: int) -> Any:
    if isinstance(value, bool | int | float) or value is None:
        return value
    if name and is_secret_name(name):
        return MASK
    if isinstance(value, str):
        return redact_text(value)
    if depth == 0:
        return "..."
    if isinstance(value, Mapping):
        return {
            redact_text(str(key)): _redact(item, str(key), depth - 1) for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_redact(item, "", depth - 1) for item in value]
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    return redact_text(str(value))
