"""Which directories may be projects, and what projects may be called (S32).

Pure: whoever asks has looked at the disk and says what is there. Every refusal has its own
`details.reason`. Paths are compared name by name, never as text.
"""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Mapping
from typing import NoReturn

import msgspec

from hivectl.logic.options import invalid
from hivectl.logic.redact import excerpt
from hivectl.model.errors import HiveError

PATH_BYTES_MAX = 4096
NAME_MAX = 64

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_NAME = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{NAME_MAX - 1}}}")
_LIKE_AN_ID = re.compile(r"[a-z]+_.*")


class PathFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What was found where a project is wanted."""

    path: str
    """As it was asked for."""
    real: str
    """With all links followed; what is stored and run in."""
    exists: bool
    is_dir: bool


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What a project must keep away from, all with links followed."""

    home: str
    roots: tuple[str, ...]
    """Where projects may be; empty = nowhere."""
    state_dirs: tuple[str, ...] = ()
    """hivectl's own directories."""
    worktrees: str = ""
    """Where worktrees of executions lie: none of them is a project. Empty = nowhere."""
    claude_dirs: tuple[str, ...] = ()
    """Claude's, besides `~/.claude`."""
    projects: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Name -> path of the other projects."""


def check_form(path: str) -> None:
    """Refuse what cannot be a path at all, before the disk is asked: HiveError INVALID_PATH."""
    shown = _CONTROL.sub("\ufffd", excerpt(path, 200))
    if not path.startswith("/"):
        _refuse("not_absolute", f"{shown!r} is not an absolute path.", shown)
    if _CONTROL.search(path):
        _refuse("control_characters", f"{shown!r} has characters no path should have.", shown)
    if len(path.encode()) > PATH_BYTES_MAX:
        _refuse("too_long", f"The path is longer than {PATH_BYTES_MAX} bytes.", shown)


def check_project_path(facts: PathFacts, around: Surroundings) -> None:
    """Refuse a directory that may not be a project.

    Raises HiveError INVALID_PATH, PATH_NOT_ALLOWED or PROJECT_NESTING; `details.reason` says which rule.
    """
    check_form(facts.path)
    check_form(facts.real)
    real = facts.real
    if not facts.exists:
        _refuse("not_found", f"{real} does not exist.", real, hint="Give --mkdir to make it.")
    if not facts.is_dir:
        _refuse("not_a_directory", f"{real} is not a directory.", real)
    check_extra(real, around)
    for name, other in around.projects.items():
        _check_nesting(real, name, other)


def check_extra(real: str, around: Surroundings) -> None:
    """Refuse a directory that is not for Claude to work in, whether as a project or beside one: HiveError
    INVALID_PATH or PATH_NOT_ALLOWED. `real` is a path with all links followed."""
    if not _names(real):
        _refuse("is_root", "/ cannot be a project.", real)
    if _folded(real) == _folded(around.home):
        _refuse("is_home", "Your home directory itself cannot be a project.", real)
    _check_protected(real, around)
    if not any(_is_within(real, root) for root in around.roots):
        raise HiveError(
            "PATH_NOT_ALLOWED",
            f"{real} lies outside the allowed roots ({', '.join(around.roots) or 'none'}).",
            hint=_hint_to_allow(real, around.roots),
            details={"reason": "outside_roots", "path": real, "roots": list(around.roots)},
        )


def _hint_to_allow(real: str, roots: tuple[str, ...]) -> str:
    parent = real.rpartition("/")[0]
    if not _names(parent) or any("," in place for place in (parent, *roots)):
        return "Add its parent to `projects.roots` in the configuration."
    wanted = shlex.quote(",".join([*roots, parent]))
    return f"`hivectl config set projects.roots {wanted}` and `hivectl daemon restart` allow it."


def _check_protected(real: str, around: Surroundings) -> None:
    places = [
        *(("hivectl_state", "hivectl's own state", path) for path in around.state_dirs),
        *([("worktrees", "worktrees of executions", around.worktrees)] if around.worktrees else []),
        *(("claude_state", "Claude's own state", path) for path in around.claude_dirs),
        ("claude_state", "Claude's own state", f"{around.home}/.claude"),
        ("ssh", "your SSH keys", f"{around.home}/.ssh"),
    ]
    for reason, what, place in places:
        # Compared without case and in one Unicode form: on some disks these are the same name.
        if _starts(_folded(real), _folded(place)):
            _refuse(reason, f"{real} holds {what}.", real)
        if _starts(_folded(place), _folded(real)):
            _refuse(f"above_{reason}", f"{real} lies above {what} ({place}).", real)


def _check_nesting(real: str, name: str, other: str) -> None:
    if _names(real) == _names(other):
        raise HiveError(
            "PROJECT_EXISTS",
            f"{real} is the project {name!r} already.",
            hint=f"Use it: `hivectl exec -p {name} ...`.",
            details={"reason": "same_path", "path": real, "project": name},
        )
    if _is_within(real, other):
        reason, where = "inside_project", "inside"
    elif _is_within(other, real):
        reason, where = "above_project", "above"
    else:
        return
    raise HiveError(
        "PROJECT_NESTING",
        f"{real} lies {where} the project {name!r} ({other}).",
        details={"reason": reason, "path": real, "project": name},
    )


def _refuse(reason: str, message: str, path: str, *, hint: str = "") -> NoReturn:
    raise HiveError("INVALID_PATH", message, hint=hint, details={"reason": reason, "path": path})


def _names(path: str) -> tuple[str, ...]:
    return tuple(name for name in path.split("/") if name)


def _folded(path: str) -> tuple[str, ...]:
    return tuple(unicodedata.normalize("NFC", name).casefold() for name in _names(path))


def _is_within(path: str, directory: str) -> bool:
    """Whether `path` is `directory` or below it."""
    return _starts(_names(path), _names(directory))


def _starts(names: tuple[str, ...], beginning: tuple[str, ...]) -> bool:
    return names[: len(beginning)] == beginning


def check_name(name: str) -> None:
    """Refuse what cannot be a project's name: HiveError INVALID_PARAMS."""
    if not _NAME.fullmatch(name):
        allowed = f"a-z 0-9 . _ -, beginning with a letter or digit, at most {NAME_MAX}"
        raise invalid([("name", f"{excerpt(name, NAME_MAX)!r} is no name for a project", allowed)])
    if _LIKE_AN_ID.fullmatch(name):
        raise invalid([("name", f"{name!r} looks like an id", "names that do not begin as x_")])


def name_for(directory: str) -> str:
    """The name a project gets when none is given: the directory's, made to fit the rule."""
    last = unicodedata.normalize("NFKD", (_names(directory) or ("",))[-1]).casefold()
    plain = "".join(letter for letter in last if not unicodedata.combining(letter))
    name = re.sub(r"[^a-z0-9.-]+", "-", plain).strip("-.")[:NAME_MAX].strip("-.")
    return name or "project"
