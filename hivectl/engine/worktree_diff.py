"""What an execution changed in its worktree: every file against the commit it was made from.

Uncommitted and untracked files count. The worktree's own index is not touched: a copy of it learns of the
untracked files, so that git shows them like others. Bounded in bytes and in files.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import msgspec

from hivectl.engine.git import Git
from hivectl.engine.worktrees import Worktrees
from hivectl.model.errors import HiveError
from hivectl.model.project import Project
from hivectl.model.worktree import Worktree, WorktreeState

FILES_MAX = 1000
"""Most files that are listed; all of them are counted."""
IGNORED_MAX = 50
_PLAIN = ("--no-ext-diff", "--no-textconv", "--no-color", "--find-renames", "--submodule=short")


class Diff(msgspec.Struct, kw_only=True):
    """The answer of `look`."""

    files: list[dict[str, object]] = msgspec.field(default_factory=list)
    """path, from (of a rename), status (a letter as git has it), added, deleted (None: binary)."""
    total: int = 0
    added: int = 0
    deleted: int = 0
    patch: str = ""
    is_cut: bool = False
    uncommitted: int = 0
    """How many of the worktree's files are not committed yet."""
    ignored: list[str] = msgspec.field(default_factory=list)
    """What git ignores there: it is not part of the changes, and goes with the worktree."""


async def look(worktrees: Worktrees, worktree: Worktree, project: Project, *, most: int) -> Diff:
    """The changes of a worktree; of one that was accepted, what was taken over.

    Raises HiveError WORKTREE_NOT_FOUND for one that is gone, WORKTREE_UNAVAILABLE."""
    if worktree.base is None or worktree.state is WorktreeState.CREATING:
        raise HiveError(
            "WORKTREE_NOT_FOUND", f"The worktree of {worktree.execution} was not made yet.",
            hint="It is made when the execution starts; `hivectl ps` shows its place.", details={"worktree": worktree.id},
        )  # fmt: skip
    git = worktrees.git
    if await asyncio.to_thread(Path(worktree.path, ".git").is_file):
        await worktrees.check_programs(worktree, project)
        return await _look_inside(git, worktree, most)
    tip = worktree.tip or await git.commit_of(project.path, f"refs/heads/{worktree.branch}")
    if tip is None or worktree.state is WorktreeState.DISCARDED:
        raise HiveError(
            "WORKTREE_NOT_FOUND", f"The worktree of {worktree.execution} is gone, and so is its branch.",
            hint="`hivectl worktree list` shows those that are there.", details={"worktree": worktree.id, "state": worktree.state},
        )  # fmt: skip
    found = Diff()
    await _compare(git, project.path, [worktree.base, tip], {}, found, most)
    return found


async def _look_inside(git: Git, worktree: Worktree, most: int) -> Diff:
    where = worktree.path
    assert worktree.base is not None
    found = Diff(uncommitted=len(await git.changes(where)))
    index = (await git.must(where, "rev-parse", "--git-path", "index")).text
    with tempfile.TemporaryDirectory(prefix="hivectl-diff-") as place:
        copy = Path(place, "index")
        await asyncio.to_thread(shutil.copyfile, Path(where, index), copy)
        env = {"GIT_INDEX_FILE": str(copy)}
        await git.must(where, "add", "--intent-to-add", "--all", env=env)
        await _compare(git, where, [worktree.base], env, found, most)
    said = await git.must(where, "ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory")  # fmt: skip
    found.ignored = said.names[:IGNORED_MAX]
    return found


async def _compare(
    git: Git, where: str, ends: list[str], env: dict[str, str], found: Diff, most: int
) -> None:
    listed = await git.must(where, "diff", "--raw", "--numstat", "-z", *_PLAIN, *ends, "--", env=env)  # fmt: skip
    _read_files(listed.out, found)
    said = await git.ask(where, "diff", "--patch", *_PLAIN, *ends, "--", env=env, most=most)
    found.patch = said.out.decode("utf-8", "replace")
    found.is_cut = said.is_cut


def _read_files(out: bytes, found: Diff) -> None:
    """Raw lines first (`:modes ids S`, path, for a rename another), then `added deleted path` of the same files."""
    parts = [part.decode("utf-8", "replace") for part in out.split(b"\0")]
    statuses: dict[str, tuple[str, str | None]] = {}
    at = 0
    while at < len(parts) and parts[at].startswith(":"):
        status = parts[at].rsplit(" ", 1)[-1][:1]
        has_two = status in "RC"
        path = parts[at + 2] if has_two else parts[at + 1]
        statuses[path] = (status, parts[at + 1] if has_two else None)
        at += 3 if has_two else 2
    while at < len(parts) and parts[at]:
        added, deleted, path = parts[at].split("\t", 2)
        at += 1
        if not path:
            path = parts[at + 1]
            at += 2
        _count(found, path, added, deleted, statuses.get(path, ("M", None)))


def _count(
    found: Diff, path: str, added: str, deleted: str, status: tuple[str, str | None]
) -> None:
    plus = int(added) if added.isdecimal() else None
    minus = int(deleted) if deleted.isdecimal() else None
    found.total += 1
    found.added += plus or 0
    found.deleted += minus or 0
    if len(found.files) < FILES_MAX:
        found.files.append(
            {"path": path, "from": status[1], "status": status[0], "added": plus, "deleted": minus}
        )
