"""What doctor says of worktrees, also where no daemon runs: rows against directories, each with its remedy.

Reads only: the database through a connection that cannot write, and the names below `worktree.root`.
"""

from __future__ import annotations

import sqlite3
import stat
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from hivectl import config
from hivectl.config import Settings
from hivectl.model.work import EXECUTION_ENDS
from hivectl.model.worktree import WorktreeState

BUSY_S = 2.0
NAMED_MAX = 20
"""Most findings of one kind; the rest is counted."""
Row = tuple[str, str, str, str, str]
"""id, status, what, why, next."""

_OPEN = (
    "SELECT w.execution, w.state, w.path, w.branch, w.base, w.problem, w.merged, p.path AS repository, p.name AS project,"
    " (SELECT e.state FROM executions e WHERE e.order_id = w.order_id ORDER BY e.attempt DESC LIMIT 1) AS run"
    " FROM worktrees w JOIN projects p ON p.id = w.project WHERE w.state NOT IN ('accepted', 'discarded') ORDER BY w.id"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    execution: str
    state: str
    path: str
    branch: str
    base: str | None
    problem: str
    merged: str | None
    repository: str
    project: str
    run: str | None


def check(settings: Settings, *, is_running: bool) -> Iterator[Row]:
    """All findings; one that is fine when there is nothing to say."""
    root = config.worktree_root(settings)
    known = _rows(settings.places.database)
    found = list(_bounded([row for one in known for row in _of_row(one, is_running=is_running)]))
    if root.is_dir() and stat.S_IMODE(root.stat().st_mode) & 0o077:
        found.append((
            "worktree_root", "warn", f"others may look into {root}",
            "Worktrees hold the files of your projects.", f"chmod 700 {root}",
        ))  # fmt: skip
    paths = {one.path for one in known}
    left = [place for place in sorted(root.glob("p_*/wt_*")) if str(place) not in paths]
    found += _bounded([_left_over(place) for place in left])
    if found:
        yield from found
    else:
        yield "worktrees", "ok", f"{len(known)} worktrees below {root}", "", ""


def _rows(database: Path) -> list[_Known]:
    if not database.exists():
        return []
    uri = f"{database.absolute().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_S)) as connection:
            connection.row_factory = sqlite3.Row
            return [_Known(**dict(row)) for row in connection.execute(_OPEN)]
    except sqlite3.Error:
        return []  # an older schema, or a damaged file, of which the next start tells


def _of_row(one: _Known, *, is_running: bool) -> Iterator[Row]:
    what = f"the worktree of {one.execution} in project {one.project}"
    start = "It does so at its next use." if is_running else "`hivectl daemon start` does so."
    discard = f"hivectl execution discard --force {one.execution}"
    match one.state:
        case WorktreeState.BROKEN:
            yield (
                "worktree", "warn", f"{what} is broken", one.problem or "git cannot use it.",
                f"Its commits are on {one.branch} in {one.repository}. Put the directory back, or: {discard}",
            )  # fmt: skip
        case WorktreeState.READY if not Path(one.path, ".git").is_file():
            yield (
                "worktree", "warn", f"{what} is gone from {one.path}", "Somebody removed or moved the directory.",
                f"Its commits are on {one.branch} in {one.repository}. Put the directory back, or: {discard}",
            )  # fmt: skip
        case WorktreeState.ACCEPTING if not is_running:
            yield (
                "worktree", "warn", f"the accept of {what} was cut short",
                "The daemon ended in the middle of it; nothing is lost. What was merged is finished, else it is taken back.",
                start,
            )  # fmt: skip
        case WorktreeState.DISCARDING if not is_running:
            yield "worktree", "warn", f"the discard of {what} was cut short", "The daemon ended in the middle of it.", start  # fmt: skip
        case WorktreeState.CREATING if one.base is not None and one.run in EXECUTION_ENDS:
            yield "worktree", "warn", f"{what} is half made", "Its execution ended before it was there; nothing ran in it.", start  # fmt: skip
        case _:
            return


def _left_over(place: Path) -> Row:
    repository = _repository_of(place)
    remove = (
        f"git -C {repository} worktree remove --force {place}" if repository else f"rm -r {place}"
    )
    return (
        "worktree_left",
        "warn",
        f"{place} belongs to no work order",
        "Its project was deleted while it held work, or the database was lost.",
        f"Look at it with `git -C {place} status`; then remove it: {remove}",
    )


def _repository_of(place: Path) -> str | None:
    """Where the repository lies, as the worktree's own .git file says."""
    try:
        text = (place / ".git").read_text(encoding="utf-8", errors="replace")[:4096]
    except OSError:
        return None
    directory = Path(text.removeprefix("gitdir:").strip())
    repository = directory.parent.parent.parent
    return str(repository) if directory.exists() and directory.parent.name == "worktrees" else None


def _bounded(rows: list[Row]) -> list[Row]:
    more = len(rows) - NAMED_MAX
    if more <= 0:
        return rows
    return [
        *rows[:NAMED_MAX],
        (rows[0][0], "warn", f"{more} more of the same", "Only the first are named.", "Mend those first."),
    ]  # fmt: skip
