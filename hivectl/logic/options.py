"""What a client may ask of Claude: the strict patterns of every option (S22, S27).

One table of checks, used when a request arrives and again when argv is built, so that nothing else can
ever reach a command line. It knows nothing of flags or processes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from hivectl.logic.redact import excerpt
from hivectl.model.errors import HiveError
from hivectl.model.work import Options

PERMISSION_MODES = ("default", "manual", "acceptEdits", "plan", "dontAsk", "auto")
"""bypassPermissions is missing on purpose: it cannot be asked for (S27)."""
EFFORTS = ("low", "medium", "high", "xhigh", "max")
TURNS_MAX = 100_000
BUDGET_USD_MIN, BUDGET_USD_MAX = 0.0001, 1_000_000.0
BUDGET_TOKENS_MAX = 10**12
TIMEOUT_S_MAX = 7 * 86_400.0
PROMPT_BYTES_MAX = 1 << 20
SCHEMA_BYTES_MAX = 64 << 10
"""One argument of a command line holds 128 KiB on Linux; the schema travels in one."""
TOOLS_MAX = 200
TOOLS_BYTES_MAX = 64 << 10
DIRS_MAX = 20
PATH_BYTES_MAX = 4096

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]{0,199}")
_TOOL = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,199}\*?(\([^()\x00-\x1f\x7f]{1,1000}\))?")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

Problem = tuple[str, str]
"""What is wrong with a value, and what is allowed."""


def is_session_id(text: str) -> bool:
    """Whether `text` is a lower-case UUID, the only form of a session id that reaches Claude."""
    return _UUID.fullmatch(text) is not None


def invalid(problems: list[tuple[str, str, str]]) -> HiveError:
    """The refusal of (field, reason, allowed) triples; the first is named in the message."""
    field, reason, allowed = problems[0]
    return HiveError(
        "INVALID_PARAMS",
        f"{field} {reason}; allowed: {allowed}.",
        details={
            "errors": [
                {"field": field, "reason": reason, "allowed": allowed}
                for field, reason, allowed in problems
            ]
        },
    )


def schema_text(schema: dict[str, Any]) -> str:
    """The one-line JSON of a schema. Raises ValueError when it has none (NaN, cycles, too deep)."""
    try:
        return json.dumps(schema, allow_nan=False, separators=(",", ":"))
    except (TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error


def _model(value: str) -> Problem | None:
    if _MODEL.fullmatch(value):
        return None
    return "is no model name", "an alias such as sonnet, or a full model name"


def _models(value: str) -> Problem | None:
    if all(_MODEL.fullmatch(name) for name in value.split(",")):
        return None
    return "is no list of models", "model names with commas between them"


def _one_of(allowed: tuple[str, ...]) -> Callable[[str], Problem | None]:
    def check(value: str) -> Problem | None:
        return None if value in allowed else ("is not known", ", ".join(allowed))

    return check


def _tools(value: tuple[str, ...]) -> Problem | None:
    allowed = "tool names such as Edit, or rules such as Bash(git status)"
    if len(value) > TOOLS_MAX or len(",".join(value).encode("utf-8", "replace")) > TOOLS_BYTES_MAX:
        return "has too many entries", f"at most {TOOLS_MAX}, {TOOLS_BYTES_MAX} bytes in all"
    for tool in value:
        if not _TOOL.fullmatch(tool) or _is_not_utf8(tool):
            return f"has the entry {excerpt(tool, 80)!r}, which names no tool", allowed
    return None


def _text(value: str) -> Problem | None:
    allowed = f"text of at most {PROMPT_BYTES_MAX} bytes"
    if not value.strip():
        return "is empty", allowed
    if "\0" in value or _is_not_utf8(value):
        return "holds a NUL or half a character", allowed
    if len(value.encode()) > PROMPT_BYTES_MAX:
        return "is too long", allowed
    return None


def _turns(value: object) -> Problem | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= TURNS_MAX:
        return "is out of range", f"a whole number from 1 to {TURNS_MAX}"
    return None


def _dollars(value: Any) -> Problem | None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not BUDGET_USD_MIN <= value <= BUDGET_USD_MAX  # false for NaN and infinity too
    ):
        return "is out of range", f"US dollars from {BUDGET_USD_MIN} to {BUDGET_USD_MAX:.0f}"
    return None


def _tokens(value: object) -> Problem | None:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= BUDGET_TOKENS_MAX:
        return "is out of range", f"a whole number from 1 to {BUDGET_TOKENS_MAX}"
    return None


def _seconds(value: Any) -> Problem | None:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 < value <= TIMEOUT_S_MAX  # false for NaN and infinity too
    ):
        return "is out of range", f"seconds above 0 and up to {TIMEOUT_S_MAX:.0f}"
    return None


def _schema(value: Any) -> Problem | None:
    allowed = f"a JSON schema (an object) of at most {SCHEMA_BYTES_MAX} bytes"
    if not isinstance(value, dict) or not value:
        return "is no schema", allowed
    try:
        text = schema_text(value)
    except ValueError:
        return "is no JSON", allowed
    return ("is too large", allowed) if len(text) > SCHEMA_BYTES_MAX else None


def _dirs(value: tuple[str, ...]) -> Problem | None:
    allowed = f"at most {DIRS_MAX} absolute directories"
    if len(value) > DIRS_MAX:
        return "has too many entries", allowed
    for path in value:
        if not path.startswith("/") or ".." in path.split("/"):
            return f"has the entry {excerpt(path, 80)!r}, which is not absolute", allowed
        if _CONTROL.search(path) or _is_not_utf8(path) or len(path.encode()) > PATH_BYTES_MAX:
            return f"has the entry {excerpt(path, 80)!r}, which cannot be a path", allowed
    return None


def _is_not_utf8(text: str) -> bool:
    """Half of a surrogate pair cannot be written to a file or a command line."""
    return any("\ud800" <= letter <= "\udfff" for letter in text)


CHECKS: dict[str, Callable[[Any], Problem | None]] = {
    "model": _model,
    "fallback_model": _models,
    "permission_mode": _one_of(PERMISSION_MODES),
    "allowed_tools": _tools,
    "disallowed_tools": _tools,
    "append_system_prompt": _text,
    "system_prompt": _text,
    "max_turns": _turns,
    "effort": _one_of(EFFORTS),
    "timeout_s": _seconds,
    "no_output_timeout_s": _seconds,
    "max_budget_usd": _dollars,
    "max_total_tokens": _tokens,
    "json_schema": _schema,
    "add_dirs": _dirs,
}
"""Field of Options -> its check; `partials` is a plain flag."""


def _problems(options: Options) -> Iterator[tuple[str, str, str]]:
    for field, check in CHECKS.items():
        value = getattr(options, field)
        if value is None or value == ():
            continue
        problem = check(value)
        if problem:
            yield field, *problem


def validate_options(options: Options) -> None:
    """Refuse options that may not reach Claude: HiveError INVALID_PARAMS, all wrong fields in `details.errors`."""
    problems = list(_problems(options))
    if problems:
        raise invalid(problems)
