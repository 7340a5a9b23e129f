"""Takes secrets out of text and values before they reach a log, an error report or a webhook (S45).

Two nets: the name of a field or assignment, and the shape of well-known credentials. Whatever a pattern could
try again from another place is bounded, so a hostile text costs linear time.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MASK = "[redacted]"

_TELLING_WORDS = r"(?:password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential|authorization|cookie)"
_FIRST_LOOK = ("pass", "secret", "token", "key", "credential", "authorization", "cookie")
"""One of these is in each of the words: most texts have none, and looking for them is quick."""
_SECRET_NAME = re.compile(_TELLING_WORDS, re.IGNORECASE)
_HARMLESS_ENDS = r"(?:tokens|[_-](?:file|path|dir|url|name|id|hash|count|limit|bytes|s|ms))"
_HARMLESS_NAME = re.compile(rf"{_HARMLESS_ENDS}$", re.IGNORECASE)
_DEPTH = 12
_LONGEST = 512
"""So far behind a cut is looked for what tells that something before it is a secret."""

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
    # What somebody cut off and marked so: too short for its own shape.
    re.compile(
        r"\b(?:sk-|hive_|eyJ|A[KS]IA|gh[pousr]_|github_pat_|glpat-|xox[abeoprs]-|AIza)[\w.-]{3,200}(?=…)"
    ),
    re.compile(r"(?<=\bBearer )[A-Za-z0-9._~+/=-]{6,}", re.IGNORECASE),
    re.compile(r"(?<=\bBasic )[A-Za-z0-9+/=]{8,}", re.IGNORECASE),
)
# A value in quotes ends with the quote it began with (which JSON within JSON escapes), or with its line; a bare value
# of a header with its line, another bare value with its word. Nothing stands behind a value in a pattern, so
# however long it is there is no way back into it.
_QUOTE = r"(?P<quote>\\{0,7}[\"'])"
_QUOTED = r"(?:[^\\\"'\r\n]+|\\{1,8}(?P=quote)|(?!(?P=quote))[^\r\n])+"
_SIGN = r"\\{0,7}[\"']?\s{0,20}[=:]\s{0,20}"
_HEADER_NAME = r"\b(?:(?:proxy-)?authorization|(?:set-)?cookie)\b"
_HEADER = re.compile(rf"(?P<head>{_HEADER_NAME}{_SIGN}{_QUOTE}){_QUOTED}", re.IGNORECASE)
_BARE_HEADER = re.compile(
    rf"(?P<head>{_QUOTE}?{_HEADER_NAME}\s{{0,20}}[=:]\s{{0,20}}+)(?!\\{{0,7}}[\"'])(?(quote){_QUOTED}|[^\r\n]+)",
    re.IGNORECASE,
)
_NAME = rf"(?<![\w-])(?![\w-]{{0,120}}{_HARMLESS_ENDS}{_SIGN})[\w-]{{0,48}}{_TELLING_WORDS}[\w-]{{0,48}}"
_ASSIGNMENT = re.compile(rf"(?P<head>{_NAME}{_SIGN}[bru]{{0,2}}{_QUOTE}){_QUOTED}", re.IGNORECASE)
_BARE_ASSIGNMENT = re.compile(
    # Not what was masked, and not what an error of ours says of a name: `env.API_KEY: must be a text`.
    rf"(?P<head>{_NAME}{_SIGN})(?!\[redacted|(?:must|may|are|has|cannot|belongs)\s)[^\s\"',;&)}}\]]{{3,}}",
    re.IGNORECASE,
)
_USERINFO = re.compile(
    r"(?P<head>\b[a-z][a-z0-9+.-]{1,20}://[^\s/:@\"]{0,256}:)[^\s/@\"]{1,1024}(?=@)"
)


def is_secret_name(name: str) -> bool:
    """Whether a field of this name is taken to hold a secret: `api_key`, but not `input_tokens`."""
    return bool(_SECRET_NAME.search(name)) and not _HARMLESS_NAME.search(name)


def redact_text(text: str) -> str:
    """`text` with every recognised secret replaced by MASK."""
    for shape in _SHAPES:
        text = shape.sub(MASK, text)
    text = _USERINFO.sub(_keep_head, text)
    lowered = text.lower()
    if any(word in lowered for word in _FIRST_LOOK):
        for place in (_HEADER, _BARE_HEADER, _ASSIGNMENT, _BARE_ASSIGNMENT):
            text = place.sub(_keep_head, text)
    return text


def excerpt(text: str, most: int) -> str:
    """The beginning of `text`, without secrets: cut the other way round, half of one would stay."""
    return redact_text(text[: most + _LONGEST])[:most]


def _keep_head(found: re.Match[str]) -> str:
    return str(found["head"]) + MASK


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
