"""Defaults from the command line, and the question of trust."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hivectl.cli import asking, details
from hivectl.cli.executing import brought
from hivectl.cli.failure import closest
from hivectl.cli.session import Session
from hivectl.model.errors import HiveError

if TYPE_CHECKING:
    from hivectl.client.aio import Client

_WORDS = {"true": True, "false": False, "null": None, "": None}


def parse_defaults(given: list[str]) -> dict[str, Any]:
    """`model=opus timeout_s=900 allowed_tools=Read,Edit` as the wire has it. Raises HiveError."""
    from hivectl.protocol.params import Defaults

    found: dict[str, Any] = {}
    for item in given:
        name, mark, text = item.partition("=")
        if not mark or name not in Defaults.model_fields:
            near = closest(name, Defaults.model_fields)
            raise HiveError(
                "INVALID_PARAMS",
                f"--default {item!r}: {'there is no such default' if mark else 'give NAME=VALUE'}.",
                hint=f"{near} There are: {', '.join(Defaults.model_fields)}.".strip(),
            )
        found[name] = _value(name, text)
    return found


def _value(name: str, text: str) -> Any:
    if text in _WORDS:
        return _WORDS[text]
    if name in {"allowed_tools", "disallowed_tools", "add_dirs"} and not text.startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    if name.endswith("_s"):
        from hivectl.cli.choosing import duration

        return duration(text, f"--default {name}")
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float | dict | list) else text


def parse_env(given: list[str]) -> dict[str, str]:
    """`NAME=VALUE`s. Raises HiveError."""
    found: dict[str, str] = {}
    for item in given:
        name, mark, value = item.partition("=")
        if not mark or not name:
            raise HiveError("INVALID_PARAMS", f"--env {item!r} is not NAME=VALUE.")
        found[name] = value
    return found


def sentence(word: str, project: Mapping[str, Any]) -> str:
    """One line about what happened to a project."""
    from hivectl.cli.sanitize import one_line

    return one_line(f"{word} {project['name']}  {project['path']}  ({project['trust']})")


def tell_lost_trust(hive: Session, before: str, project: Mapping[str, Any]) -> None:
    """Trust does not move to another directory: say so where it was there."""
    if before in {"", "untrusted"} or project["trust"] != "untrusted":
        return
    hive.screen.note(
        ("warn", "no longer trusted: "),
        ("", "another directory is another repository until you have looked at it; "),
        ("", f"`hivectl project trust {project['name']}`"),
    )


async def offer_trust(
    hive: Session, client: Client, project: Mapping[str, Any], *, is_decided: bool
) -> Mapping[str, Any]:
    """On a terminal: show what a new project brings and ask. Elsewhere it stays as it was created."""
    if is_decided or project["trust"] == "trusted":
        return project
    report = await client.call("project.inspect", project=project["id"])
    if not brought(report):
        return project
    if not hive.screen.is_interactive or hive.is_json:
        hive.screen.note(
            ("dim", "not trusted: its own settings do not take effect; see "),
            ("dim", f"`hivectl project trust {project['name']}`"),
        )
        return project
    hive.screen.note(("", details.trust(report)))
    if not await _agrees(hive):
        hive.screen.note(("dim", f"later: hivectl project trust {project['name']}"))
        return project
    return await _trust(client, project["id"], report)


async def trust(hive: Session, client: Client, name: str, *, is_sure: bool) -> Mapping[str, Any]:
    """Show what it brings, ask, and trust exactly that. Raises HiveError when nobody can agree."""
    report = await client.call("project.inspect", project=name)
    if not hive.is_json:
        hive.screen.note(("", details.trust(report)))
    if not is_sure:
        if not hive.screen.is_interactive:
            raise HiveError(
                "INVALID_PARAMS",
                "There is nobody to ask whether to trust it.",
                hint="Look at `hivectl project inspect`, then use --yes.",
            )
        if not await _agrees(hive):
            raise HiveError("PROJECT_UNTRUSTED", "It stays untrusted.", hint="Nothing was changed.")
    return await _trust(client, name, report)


async def _trust(client: Client, name: str, report: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = await client.call("project.trust", project=name, hash=report["hash"])
    return found


async def _agrees(hive: Session) -> bool:
    hive.screen.prompt("Trust it, so that all this takes effect? [y/N] ")
    return (await asking.read_line() or "").strip().lower() in {"y", "yes"}
