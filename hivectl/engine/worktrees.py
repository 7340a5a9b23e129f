"""Worktrees on the disk: made from the project's repository, looked at, removed, mended after a crash.

The row comes first, then git. A worktree that is `creating` with no base was never touched; one with a
base may be half made, and is made anew from the same commit. Nothing that may hold work is removed here:
who calls `remove` has seen to it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import stat
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from hivectl import config
from hivectl.config import Settings
from hivectl.engine.git import WORK_LIMIT_S, Contain, Git
from hivectl.kit import failpoint, files
from hivectl.model.errors import HiveError
from hivectl.model.project import Project
from hivectl.model.worktree import WORKTREE_ENDS, Worktree, WorktreeState
from hivectl.store import worktrees as table
from hivectl.store.database import Database, Tx

_log = logging.getLogger(__name__)

BRANCHES = "hivectl/"
SHORT_ID = 8
"""Characters of a worktree's id in the name of its branch."""
_NO_GIT_HINT = "Run without --worktree, or make it a repository with `git init` and a first commit."


class Repository(msgspec.Struct, frozen=True, kw_only=True):
    """What git says of a project's directory."""

    top: str
    prefix: str
    head: str


def branch_of(id_: str) -> str:
    """The branch a worktree gets."""
    return BRANCHES + id_[-SHORT_ID:]


def place_of(settings: Settings, project: str, id_: str) -> str:
    """The directory a worktree gets."""
    return str(config.worktree_root(settings) / project / id_)


class Worktrees:
    """The worktrees of all projects. Holds nothing: the rows and git know all."""

    def __init__(
        self, db: Database, settings: Callable[[], Settings], contain: Contain = list
    ) -> None:
        """`settings` are asked anew each time: they may be reloaded. `contain`: see `Git`."""
        self.db = db
        self.settings = settings
        self.git = Git(settings().environment, contain)

    async def survey(self, project: Project) -> Repository:
        """The project's repository, when worktrees can be made of it. Raises WORKTREE_UNAVAILABLE."""
        where = project.path
        bare = await self.git.ask(where, "rev-parse", "--is-bare-repository")
        if bare.code != 0:
            if "not a git repository" in bare.err:
                raise _unavailable(project, "not_a_repository", "is not in a git repository")
            raise _unavailable(project, "git_failed", f"cannot be used: {bare.err.strip()[:300]}")
        inside = await self.git.ask(where, "rev-parse", "--is-inside-work-tree")
        if bare.text == "true" or inside.text != "true":
            raise _unavailable(project, "bare", "is a bare repository or the inside of one")
        head = await self.git.commit_of(where, "HEAD")
        if head is None:
            raise _unavailable(project, "no_commit", "is in a repository that has no commit yet")
        top = (await self.git.must(where, "rev-parse", "--show-toplevel")).text
        prefix = (await self.git.must(where, "rev-parse", "--show-prefix")).text.rstrip("/")
        if prefix and (await self.git.ask(where, "cat-file", "-e", f"HEAD:{prefix}")).code != 0:
            raise _unavailable(
                project, "not_in_head", "is not part of its repository's last commit"
            )
        if config.worktree_root(self.settings()).is_relative_to(top):
            raise HiveError(
                "WORKTREE_UNAVAILABLE", f"worktree.root lies inside the repository {top}.",
                hint="Set `worktree.root` to a directory outside of your repositories.", details={"reason": "root_inside", "path": top},
            )  # fmt: skip
        return Repository(top=top, prefix=prefix, head=head)

    # --- making -------------------------------------------------------------------------------------

    async def provide(self, id_: str, project: Project, commit: Commit) -> Worktree:
        """The worktree, made if it was not yet. Raises WORKTREE_UNAVAILABLE."""
        worktree: Worktree = await commit(lambda tx: table.find(tx, id_))
        if worktree.state is WorktreeState.DISCARDED:
            anew = dict.fromkeys(("base", "target", "target_before", "tip", "merged"))
            worktree = await commit(
                lambda tx: table.move(tx, worktree, WorktreeState.CREATING, problem="", **anew)
            )
        if worktree.state is WorktreeState.CREATING:
            return await self._make(worktree, project, commit)
        if worktree.state is not WorktreeState.READY:
            raise HiveError(
                "WORKTREE_UNAVAILABLE", f"The worktree of this work order is {worktree.state}.",
                hint="Execute the prompt anew with --worktree.", details={"reason": worktree.state, "worktree": id_},
            )  # fmt: skip
        if not await asyncio.to_thread(is_there, worktree):
            await commit(lambda tx: _break(tx, id_, "Its directory is gone; the branch is kept."))
            raise HiveError(
                "WORKTREE_UNAVAILABLE", f"The worktree at {worktree.path} is gone.",
                hint=f"Its commits are on the branch {worktree.branch}; execute the prompt anew with --worktree.",
                details={"reason": "gone", "worktree": id_},
            )  # fmt: skip
        return worktree

    async def _make(self, worktree: Worktree, project: Project, commit: Commit) -> Worktree:
        try:
            repository = await self.survey(project)
            if worktree.base is None:
                branch = await self._free_branch(worktree, project)
                chosen = {"base": repository.head, "branch": branch, "prefix": repository.prefix}
                worktree = await commit(lambda tx: table.note(tx, worktree, **chosen))
            else:
                await self._clear_half_made(worktree, project)
            failpoint.hit("worktree_before_add")
            await self._add(worktree, project)
            programs, _ = await self.git.programs(worktree.path)
            failpoint.hit("worktree_after_add")
        except (HiveError, OSError) as exc:
            error = exc if isinstance(exc, HiveError) else _not_made(worktree, exc)
            await self.give_up(worktree, project, error.message, commit)
            raise error from exc
        ready = WorktreeState.READY
        made: Worktree = await commit(
            lambda tx: table.move(tx, worktree, ready, programs=programs, problem="")
        )
        return made

    async def _free_branch(self, worktree: Worktree, project: Project) -> str:
        short = worktree.branch
        taken = await self.git.commit_of(project.path, f"refs/heads/{short}")
        return short if taken is None else BRANCHES + worktree.id

    async def _add(self, worktree: Worktree, project: Project) -> None:
        assert worktree.base is not None
        path = Path(worktree.path)
        await asyncio.to_thread(_make_private, path.parent.parent, path.parent)
        await self.git.must(
            project.path, "worktree", "add", "--quiet", "-b", worktree.branch, worktree.path, worktree.base,
            limit_s=WORK_LIMIT_S,
        )  # fmt: skip

    async def _clear_half_made(self, worktree: Worktree, project: Project) -> None:
        await self.remove(worktree, project)
        if await self.git.commit_of(project.path, f"refs/heads/{worktree.branch}") == worktree.base:
            await self.drop_branch(worktree, project, worktree.base or "")

    async def give_up(
        self, worktree: Worktree, project: Project, problem: str, commit: Commit
    ) -> None:
        """Take back a worktree in which nothing has run."""
        to = WorktreeState.DISCARDED
        try:
            if worktree.base is not None:
                await self._clear_half_made(worktree, project)
        except (HiveError, OSError) as exc:
            _log.warning(
                "cannot clear a worktree", extra={"worktree_id": worktree.id}, exc_info=exc
            )
            to = WorktreeState.BROKEN

        def moved(tx: Tx) -> None:
            found = table.find(tx, worktree.id)
            if found.state is WorktreeState.READY:
                found = table.move(tx, found, WorktreeState.DISCARDING)
            table.move(tx, found, to, problem=problem[:2000])

        await commit(moved)

    # --- removing -----------------------------------------------------------------------------------

    async def remove(self, worktree: Worktree, project: Project) -> None:
        """Remove the directory, whatever is in it, and what git knows of it. Again is harmless."""
        has_repository = await asyncio.to_thread(os.path.isdir, project.path)
        if has_repository and await asyncio.to_thread(os.path.lexists, worktree.path):
            await self.git.ask(
                project.path, "worktree", "remove", "--force", "--force", worktree.path, limit_s=WORK_LIMIT_S
            )  # fmt: skip
        await asyncio.to_thread(_remove_tree, Path(worktree.path))
        with suppress(OSError):  # others are in it
            Path(worktree.path).parent.rmdir()
        if has_repository:
            await self.git.ask(project.path, "worktree", "prune")

    async def drop_branch(self, worktree: Worktree, project: Project, tip: str) -> None:
        """Delete the branch if it still is where it was seen."""
        await self.git.ask(
            project.path, "update-ref", "-d", f"refs/heads/{worktree.branch}", tip
        )  # fmt: skip

    async def check_programs(self, worktree: Worktree, project: Project) -> None:
        """Before git looks into a worktree: refuse to run what came into the repository's configuration since
        it was made, and find a repository again that was moved.

        Raises HiveError WORKTREE_UNAVAILABLE."""
        where = worktree.path
        if (await self.git.ask(where, "rev-parse", "--git-dir")).code != 0:
            await self.git.ask(project.path, "worktree", "repair", where)
        digest, names = await self.git.programs(where)
        if digest != worktree.programs:
            raise HiveError(
                "WORKTREE_UNAVAILABLE",
                "The repository's configuration runs other programs than when the worktree was made.",
                hint=f"Look at `git -C {where} config --local --list`; what a run wrote there would be started by git."
                f" Merge the branch {worktree.branch} yourself, then discard the worktree.",
                details={"reason": "config_changed", "keys": names[:50], "worktree": worktree.id},
            )

    # --- after a crash ------------------------------------------------------------------------------

    async def tidy_ready(self, worktree: Worktree) -> None:
        """Say of a worktree that should be there whether it is."""
        there = await asyncio.to_thread(is_there, worktree)
        if worktree.state is WorktreeState.READY and not there:
            why = "Its directory is gone; the branch is kept."
            await self.db.write(lambda tx: _break(tx, worktree.id, why))
        if worktree.state is WorktreeState.BROKEN and there:
            said = await self.git.ask(worktree.path, "rev-parse", "--verify", "--quiet", "HEAD")
            if said.code == 0:
                await self.db.write(
                    lambda tx: table.move(tx, worktree, WorktreeState.READY, problem="")
                )


Commit = Callable[[Callable[[Tx], Any]], Awaitable[Any]]
"""How a row is written: `Database.write`, or a runner's patient way of it."""


def is_there(worktree: Worktree) -> bool:
    """Whether the directory stands, as a worktree, where it was made."""
    path = Path(worktree.path)
    return (
        os.path.realpath(path) == worktree.path
        and (path / ".git").is_file()
        and Path(worktree.cwd).is_dir()
        and os.path.realpath(worktree.cwd) == worktree.cwd
    )


def _break(tx: Tx, id_: str, why: str) -> None:
    found = table.find(tx, id_)
    if found.state not in WORKTREE_ENDS and found.state is not WorktreeState.BROKEN:
        table.move(tx, found, WorktreeState.BROKEN, problem=why)


def _make_private(*places: Path) -> None:
    for place in places:
        files.ensure_private_dir(place)


def _remove_tree(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
        return

    if not os.path.lexists(path):
        return

    def writable(function: Callable[[str], object], name: str, _error: object) -> None:
        # A directory without the right to write keeps what is in it: some tools make those.
        Path(name).parent.chmod(stat.S_IRWXU)
        if not Path(name).is_symlink():
            Path(name).chmod(stat.S_IRWXU)
        function(name)

    if sys.version_info >= (3, 12):
        shutil.rmtree(path, onexc=writable)
    else:
        shutil.rmtree(path, onerror=writable)


def _unavailable(project: Project, reason: str, what: str) -> HiveError:
    return HiveError(
        "WORKTREE_UNAVAILABLE",
        f"Project {project.name!r} ({project.path}) {what}: no worktree can be made of it.",
        hint=_NO_GIT_HINT,
        details={"reason": reason, "path": project.path},
    )


def _not_made(worktree: Worktree, exc: OSError) -> HiveError:
    return HiveError(
        "WORKTREE_UNAVAILABLE", f"The worktree cannot be made at {worktree.path}: {exc.strerror or exc}.",
        hint="`worktree.root` names the directory; it must be your own.", details={"reason": "no_place", "path": worktree.path},
    )  # fmt: skip
