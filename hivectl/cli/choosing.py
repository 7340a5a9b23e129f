"""Which project, which prompt, which execution a command line means."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hivectl.cli import asking
from hivectl.cli.grammar import is_execution
from hivectl.cli.session import Session, all_items
from hivectl.model.errors import HiveError

if TYPE_CHECKING:
    from hivectl.client.aio import Client

_EDITOR_HINT = (
    "\n\n# The prompt stands above. Lines that start with # are left out; an empty prompt stops.\n"
)


READ_BYTES = 64 * 1024 * 1024
"""Most of a file or pipe that is read as a prompt; no daemon takes more."""


def here() -> Path:
    """The current directory. Raises HiveError where it was deleted under us."""
    try:
        return Path.cwd()
    except FileNotFoundError as exc:
        raise HiveError(
            "INVALID_PATH",
            "The current directory is gone.",
            hint="Change to one that is there, and say it again.",
        ) from exc


def absolute(path: Path) -> str:
    """A path as it is meant here, for a daemon that stands elsewhere."""
    wanted = path.expanduser()
    return str(wanted if wanted.is_absolute() else (here() / wanted))


async def project(session: Session, client: Client, named: str | None) -> str:
    """The named one, else HIVECTL_PROJECT, else the one the current directory lies in."""
    found = await find_project(session, client, named)
    if found is None:
        raise HiveError(
            "PROJECT_NOT_FOUND",
            f"{here()} lies in no project, and none was named.",
            hint="Name one with -p, or register this directory: `hivectl project create .`",
        )
    return found


async def find_project(session: Session, client: Client, named: str | None) -> str | None:
    """The same, or None."""
    if named or (named := session.settings.environment.get("HIVECTL_PROJECT")):
        return named
    place = here().resolve()
    around = [
        item
        for item in await all_items(client, "project.list")
        if place.is_relative_to(Path(item["path"]))
    ]
    if not around:
        return None
    return str(max(around, key=lambda item: len(item["path"]))["id"])


def split_words(
    words: list[str], named: str | None, *, has_source: bool
) -> tuple[str | None, str | None]:
    """(project, prompt) of the positional words.

    One word is the prompt, unless the prompt comes from a file or an editor; of two the first is the
    project. Raises HiveError INVALID_PARAMS when there are too many.
    """
    most = (0 if named else 1) + (0 if has_source else 1)
    if len(words) > most:
        raise HiveError(
            "INVALID_PARAMS",
            f"Too many words: {len(words)}, at most {most} fit.",
            hint='Put the prompt in quotes: hivectl exec PROJECT "what to do".',
        )
    if has_source:
        return (named or (words[0] if words else None)), None
    if len(words) == 2:
        return words[0], words[1]
    return named, (words[0] if words else None)


async def prompt(session: Session, word: str | None, file: Path | None, *, edit: bool) -> str:
    """The prompt's text: from the word, `-` or a pipe, a file, or the editor."""
    if file is not None:
        text = read_text(file)
    elif edit:
        start = "" if word in {None, "-"} else str(word)
        typed = await asking.edit_text(session.settings, start + _EDITOR_HINT, suffix=".md")
        text = "\n".join(row for row in typed.splitlines() if not row.startswith("#")).strip()
    elif word == "-" or (word is None and not _stdin_is_terminal()):
        text = read_text(None)
    elif word is None:
        raise HiveError(
            "INVALID_PARAMS",
            "There is no prompt.",
            hint='Give it as hivectl exec "what to do", with --file, on stdin, or -e for an editor.',
        )
    else:
        text = word
    if not text.strip():
        raise HiveError("INVALID_PARAMS", "The prompt is empty.", hint="Say what Claude should do.")
    return text


def _stdin_is_terminal() -> bool:
    return sys.stdin is None or sys.stdin.isatty()


def read_text(file: Path | None) -> str:
    """All of a file, or of standard input. Raises HiveError INVALID_PARAMS, TOO_LARGE."""
    origin = "standard input" if file is None else str(file)
    try:
        if file is None:
            data = sys.stdin.buffer.read(READ_BYTES + 1)
        else:
            with file.open("rb") as source:
                data = source.read(READ_BYTES + 1)
    except OSError as exc:
        raise HiveError(
            "INVALID_PARAMS", f"{origin} cannot be read: {exc.strerror}.", hint="Check the path."
        ) from exc
    if len(data) > READ_BYTES:
        raise HiveError(
            "TOO_LARGE",
            f"{origin} has more than {READ_BYTES} bytes.",
            hint="Put the material into a file and let the prompt name it.",
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise HiveError(
            "INVALID_PARAMS",
            f"{origin} is not UTF-8 (byte {exc.start}).",
            hint="Convert it first, for instance with iconv.",
        ) from exc


async def execution(session: Session, client: Client, word: str | None) -> dict[str, Any]:
    """The execution of an id; of a project's name, its live or newest one."""
    if word and is_execution(word):
        found: dict[str, Any] = await client.call("execution.get", execution=word)
        return found
    name = await project(session, client, word)
    for filters in ({"live": True}, {}):
        page = await client.call("execution.list", project=name, limit=1, **filters)
        if page["items"]:
            newest: dict[str, Any] = page["items"][0]
            return newest
    raise HiveError(
        "EXECUTION_NOT_FOUND",
        "Nothing was executed in that project yet.",
        hint='Start with `hivectl exec "what to do"`.',
    )


async def execution_id(session: Session, client: Client, word: str) -> str:
    """An id as it is; of a project's name, the id of its live or newest execution."""
    if is_execution(word):
        return word
    found: str = (await execution(session, client, word))["execution"]
    return found


async def conversation(session: Session, client: Client, word: str | None) -> str:
    """Claude's session id as it is; of a project's name, the id of its current conversation."""
    from hivectl.logic.options import is_session_id

    if word and is_session_id(word):
        return word
    name = await project(session, client, word)
    current: str | None = (await client.call("project.get", project=name))["session"]
    if current is None:
        raise HiveError(
            "SESSION_NOT_FOUND",
            "That project has no current conversation.",
            hint="`hivectl session list` shows the earlier ones.",
        )
    return current


def duration(text: str | None, option: str) -> float | None:
    """Seconds of an option's value such as 90s or 1h30m. Raises HiveError INVALID_PARAMS."""
    if text is None:
        return None
    from hivectl.kit.clock import parse_duration_s

    try:
        return parse_duration_s(text)
    except ValueError as exc:
        raise HiveError(
            "INVALID_PARAMS", f"{option}: {exc}.", hint="Such as 90s, 10m, 1h30m."
        ) from exc


def later(text: str | None) -> str | None:
    """A time to come as the wire has it: `22:30` is its next one here, a duration is from now on."""
    if text is None:
        return None
    import re
    from datetime import datetime, timedelta

    from hivectl.cli.session import now_s

    found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text.strip())
    if found is None:
        return text
    now = datetime.fromtimestamp(now_s()).astimezone()
    at = now.replace(hour=int(found[1]), minute=int(found[2]), second=0, microsecond=0)
    if at <= now:
        at += timedelta(days=1)
    return at.isoformat()
