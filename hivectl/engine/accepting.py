"""Takes a worktree's changes over into the project's branch, or throws them away; in steps a crash may cut.

The merge is made of objects alone (`git merge-tree`), so a conflict touches no file. Then the branch in the
project's directory is fast-forwarded to it, which git refuses, before touching anything, where that would
overwrite local changes. What is stored before each step lets `mend` finish or take back what was begun.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import msgspec

from hivectl.engine.git import WORK_LIMIT_S, last_line
from hivectl.engine.worktrees import Worktrees, is_there
from hivectl.kit import failpoint
from hivectl.model.errors import HiveError
from hivectl.model.project import Project
from hivectl.model.work import EXECUTION_ENDS
from hivectl.model.worktree import AcceptStep, Worktree, WorktreeState
from hivectl.store import projects, work
from hivectl.store import worktrees as table

_log = logging.getLogger(__name__)

FILES_MAX = 100
"""Most files that a refusal names."""
_UNMERGED = frozenset({"DD", "AU", "UD", "UA", "DU", "AA", "UU"})
_IN_PROGRESS = {
    "MERGE_HEAD": "a merge",
    "rebase-merge": "a rebase",
    "rebase-apply": "a rebase",
    "CHERRY_PICK_HEAD": "a cherry-pick",
    "REVERT_HEAD": "a revert",
}
CUT_SHORT = "An accept was cut short before anything was merged; accept again."


class Taken(msgspec.Struct, kw_only=True):
    """What an accept did."""

    worktree: Worktree
    branch: str
    """The branch that was moved."""
    commit: str
    """Where it is now."""
    warnings: list[str] = msgspec.field(default_factory=list)


class Accepting:
    """Accepts and discards worktrees, one at a time in a project."""

    def __init__(self, worktrees: Worktrees) -> None:
        """Over the worktrees."""
        self._w = worktrees
        self._git = worktrees.git
        self._db = worktrees.db
        self._turns: dict[str, asyncio.Lock] = {}
        """By project: two accepts would move the same branch."""

    def _turn(self, project: str) -> asyncio.Lock:
        return self._turns.setdefault(project, asyncio.Lock())

    # --- accept -------------------------------------------------------------------------------------

    async def accept(
        self, project: Project, id_: str, *, mode: str, message: str, actor: str
    ) -> Taken:
        """Commit what is uncommitted, merge into the project's branch, remove the worktree. Asked again, it
        answers the same.

        Raises HiveError MERGE_REFUSED or MERGE_CONFLICT, with nothing of the project touched and nothing of
        the worktree lost; INVALID_STATE while something runs there; WORKTREE_NOT_FOUND, WORKTREE_UNAVAILABLE."""
        async with self._turn(project.id):
            worktree = await self._settled(project, id_)
            if worktree.state is WorktreeState.ACCEPTED:
                return _taken_before(worktree)
            await self._check_before(project, worktree)
            to, step = WorktreeState.ACCEPTING, AcceptStep.COMMITTING
            worktree = await self._db.write(
                lambda tx: table.begin_end(tx, id_, to, actor=actor, step=step)
            )
            try:
                taken = await self._take_over(project, worktree, mode, message)
            except (HiveError, OSError) as exc:
                why = exc.message if isinstance(exc, HiveError) else str(exc)
                await self._mend_one(project, id_, why)
                raise
            return await self._finish(project, taken)

    async def _settled(self, project: Project, id_: str) -> Worktree:
        """The worktree, with whatever was cut short at it finished or taken back first."""
        worktree = await self._db.write(lambda tx: table.find(tx, id_))
        if worktree.state in (WorktreeState.ACCEPTING, WorktreeState.DISCARDING):
            await self._mend_one(project, id_, CUT_SHORT)
        else:
            await self._w.tidy_ready(worktree)
        return await self._db.write(lambda tx: table.find_idle(tx, id_))

    async def _check_before(self, project: Project, worktree: Worktree) -> None:
        """What would refuse the accept later, while nothing is stored or touched yet."""
        if worktree.state is not WorktreeState.READY:
            return  # `begin_end` says what is wrong
        await self._w.check_programs(worktree, project)
        await self._target(project)
        changes = await self._git.changes(worktree.path)
        unmerged = [path for status, path in changes if status in _UNMERGED]
        if unmerged:
            raise _refused("unmerged", "The worktree has an unfinished merge.", worktree, unmerged)
        nested = [path for _, path in changes if path.endswith("/")]
        if nested:
            raise _refused(
                "nested_repository", "The worktree holds a git repository of its own, whose content git would not take along.",
                worktree, nested,
            )  # fmt: skip
        if changes:
            await self._check_identity(worktree)

    async def _check_identity(self, worktree: Worktree) -> None:
        for who in ("GIT_AUTHOR_IDENT", "GIT_COMMITTER_IDENT"):
            if (await self._git.ask(worktree.path, "var", who)).code != 0:
                raise HiveError(
                    "MERGE_REFUSED", "git does not know in whose name to commit.",
                    hint="`git config --global user.name` and `user.email` set it; then accept again.",
                    details={"reason": "no_identity", "worktree": worktree.id},
                )  # fmt: skip

    async def _target(self, project: Project) -> tuple[str, str]:
        """The branch checked out in the project's directory, and its commit. Raises MERGE_REFUSED."""
        where = project.path
        branch = (await self._git.ask(where, "symbolic-ref", "--quiet", "HEAD")).text
        git_dir = Path((await self._git.must(where, "rev-parse", "--absolute-git-dir")).text)
        for name, what in _IN_PROGRESS.items():
            if await asyncio.to_thread((git_dir / name).exists):
                raise _refused_project("in_progress", f"is in the middle of {what}", project)
        head = await self._git.commit_of(where, "HEAD")
        if not branch or head is None:
            raise _refused_project("detached", "has no branch checked out", project)
        if (await self._git.must(where, "ls-files", "--unmerged", "-z")).out:
            raise _refused_project("in_progress", "has unmerged files", project)
        return branch, head

    async def _take_over(
        self, project: Project, worktree: Worktree, mode: str, message: str
    ) -> Taken:
        tip = await self._commit_all(worktree, message)
        failpoint.hit("accept_committed")
        branch, before = await self._target(project)
        merged = await self._plan(project, worktree, (before, tip), mode, message)
        plan = {"target": branch, "target_before": before, "tip": tip, "merged": merged}
        worktree = await self._db.write(
            lambda tx: table.note(tx, worktree, step=AcceptStep.MERGING, **plan)
        )
        failpoint.hit("accept_before_merge")
        await self._move(project, worktree)
        failpoint.hit("accept_merged")
        worktree = await self._db.write(
            lambda tx: table.note(tx, worktree, step=AcceptStep.CLEANING)
        )
        return Taken(worktree=worktree, branch=branch, commit=merged)

    async def _commit_all(self, worktree: Worktree, message: str) -> str:
        where = worktree.path
        if await self._git.changes(where):
            await self._git.must(where, "add", "--all", limit_s=WORK_LIMIT_S)
            await self._git.must(
                where, "commit", "--quiet", "--no-verify", "--file=-", stdin=message.encode(), limit_s=WORK_LIMIT_S
            )  # fmt: skip
        tip = await self._git.commit_of(where, "HEAD")
        if tip is None:
            raise _refused("no_commit", "The worktree has no commit.", worktree, [])
        return tip

    async def _plan(
        self, project: Project, worktree: Worktree, ends: tuple[str, str], mode: str, message: str
    ) -> str:
        """The commit the project's branch is to be moved to; made where it must be. Touches no file."""
        before, tip = ends
        where = project.path
        if await self._git.is_ancestor(where, tip, before):
            return before
        if mode != "squash" and await self._git.is_ancestor(where, before, tip):
            return tip
        if mode == "ff":
            raise _refused(
                "not_fast_forward", "The project's branch has moved on since: it cannot be fast-forwarded.", worktree, []
            )  # fmt: skip
        tree = await self._merged_tree(where, worktree, before, tip)
        await self._check_identity(worktree)
        parents = ["-p", before] if mode == "squash" else ["-p", before, "-p", tip]
        said = await self._git.must(where, "commit-tree", tree, *parents, stdin=message.encode())
        return said.text

    async def _merged_tree(self, where: str, worktree: Worktree, before: str, tip: str) -> str:
        said = await self._git.ask(
            where, "merge-tree", "--write-tree", "--name-only", "--no-messages", "-z", before, tip, limit_s=WORK_LIMIT_S
        )  # fmt: skip
        names = said.names
        if said.code == 0 and names:
            return names[0]
        if said.code == 1 and len(names) > 1:
            files = sorted(set(names[1:]))
            raise HiveError(
                "MERGE_CONFLICT",
                f"The changes conflict with the project's branch in {_named(files)}. Nothing was merged.",
                hint=f"Merge by hand in the project's directory (`git merge {worktree.branch}`), then discard the worktree;"
                f" or merge the branch into the worktree at {worktree.path}, mend it there and accept again.",
                details={"files": files[:FILES_MAX], "worktree": worktree.id, "branch": worktree.branch},
            )  # fmt: skip
        raise HiveError(
            "WORKTREE_UNAVAILABLE", f"git cannot merge: {last_line(said.err)}",
            hint="git 2.38 or newer is needed to merge; `--mode ff` or a merge by hand do without.",
            details={"reason": "git_failed", "stderr": said.err[-2000:]},
        )  # fmt: skip

    async def _move(self, project: Project, worktree: Worktree) -> None:
        """Fast-forward the project's branch, with its files. Raises MERGE_REFUSED before anything is touched."""
        if await self._target(project) != (worktree.target, worktree.target_before):
            raise _refused_project("moved", "was moved to another commit meanwhile", project)
        if worktree.merged == worktree.target_before:
            return
        assert worktree.merged is not None
        said = await self._git.ask(
            project.path, "merge", "--ff-only", "--no-overwrite-ignore", "--quiet", worktree.merged, limit_s=WORK_LIMIT_S
        )  # fmt: skip
        if said.code == 0:
            return
        files = [line.strip() for line in said.err.splitlines() if line.startswith("\t")]
        if files or "overwritten" in said.err or "not uptodate" in said.err:
            raise HiveError(
                "MERGE_REFUSED",
                f"{project.path} has local changes that would be overwritten"
                f"{': ' + _named(files) if files else ''}. Nothing was touched.",
                hint="Commit or stash them there, then accept again.",
                details={"reason": "local_changes", "files": files[:FILES_MAX], "worktree": worktree.id},
            )  # fmt: skip
        raise HiveError(
            "MERGE_REFUSED", f"git refuses to move the branch: {last_line(said.err)}",
            details={"reason": "git_failed", "stderr": said.err[-2000:], "worktree": worktree.id},
        )  # fmt: skip

    async def _finish(self, project: Project, taken: Taken) -> Taken:
        """Remove what was merged; what came into the worktree meanwhile keeps it."""
        worktree = taken.worktree
        if await asyncio.to_thread(is_there, worktree):
            head = await self._git.commit_of(worktree.path, "HEAD")
            if await self._git.changes(worktree.path) or head != worktree.tip:
                why = "It was merged, and has changed since: accept again to take that too."
                taken.warnings.append(why)
                taken.worktree = await self._db.write(
                    lambda tx: table.move(tx, worktree, WorktreeState.READY, problem=why)
                )
                return taken
        failpoint.hit("worktree_before_remove")
        try:
            await self._w.remove(worktree, project)
        except (HiveError, OSError) as exc:
            # It is merged: an accept that is asked for again, or the next start, clears the rest.
            _log.warning("cannot remove a worktree", extra={"worktree_id": worktree.id}, exc_info=True)  # fmt: skip
            taken.warnings.append(f"{worktree.path} could not be removed ({exc}).")
            return taken
        branch = await self._git.commit_of(project.path, f"refs/heads/{worktree.branch}")
        if branch is not None:
            if branch == worktree.tip or await self._git.is_ancestor(project.path, branch, taken.commit):  # fmt: skip
                await self._w.drop_branch(worktree, project, branch)
            else:
                taken.warnings.append(f"The branch {worktree.branch} has other commits and is kept.")  # fmt: skip
        failpoint.hit("worktree_removed")
        taken.worktree = await self._db.write(
            lambda tx: table.move(tx, worktree, WorktreeState.ACCEPTED)
        )
        return taken

    # --- discard ------------------------------------------------------------------------------------

    async def discard(self, project: Project, id_: str, *, force: bool, actor: str) -> Worktree:
        """Remove worktree and branch. Raises UNSAVED_WORK, unless forced, when that would lose something."""
        async with self._turn(project.id):
            worktree = await self._settled(project, id_)
            if worktree.state is WorktreeState.DISCARDED:
                return worktree
            if not force:
                await self._check_saved(project, worktree)
            to = WorktreeState.DISCARDING
            worktree = await self._db.write(lambda tx: table.begin_end(tx, id_, to, actor=actor))
            return await self._throw_away(project, worktree)

    async def unsaved(self, project: Project, worktree: Worktree) -> tuple[list[str], int]:
        """Files not committed, and how many commits no other branch, tag or remote has."""
        files: list[str] = []
        ends = []
        if worktree.base is None:
            return [], 0
        if await asyncio.to_thread(is_there, worktree):
            await self._w.check_programs(worktree, project)
            files = [path for _, path in await self._git.changes(worktree.path)]
            ends.append(await self._git.commit_of(worktree.path, "HEAD"))
        ends.append(await self._git.commit_of(project.path, f"refs/heads/{worktree.branch}"))
        known = [end for end in dict.fromkeys(ends) if end is not None]
        if not known:
            return files, 0
        said = await self._git.must(
            project.path, "rev-list", "--count", *known, "--not", f"--exclude={worktree.branch}", "--branches", "--tags",
            "--remotes", worktree.base,
        )  # fmt: skip
        return files, int(said.text)

    async def _check_saved(self, project: Project, worktree: Worktree) -> None:
        if worktree.state is WorktreeState.BROKEN and await asyncio.to_thread(
            Path(worktree.path).exists
        ):
            raise HiveError(
                "UNSAVED_WORK", f"git cannot look into {worktree.path}: {worktree.problem}",
                hint="Look there yourself, then discard with --force.", details={"reason": "broken", "path": worktree.path},
            )  # fmt: skip
        files, commits = await self.unsaved(project, worktree)
        if files or commits:
            what = [f"{len(files)} uncommitted files"] * bool(files)
            what += [f"{commits} commits that are on no other branch"] * bool(commits)
            raise HiveError(
                "UNSAVED_WORK", f"That would lose {' and '.join(what)}.",
                details={"files": files[:FILES_MAX], "commits": commits, "worktree": worktree.id},
            )  # fmt: skip

    async def _throw_away(self, project: Project, worktree: Worktree) -> Worktree:
        failpoint.hit("worktree_before_remove")
        await self._w.remove(worktree, project)
        if await asyncio.to_thread(Path(project.path).is_dir):
            branch = await self._git.commit_of(project.path, f"refs/heads/{worktree.branch}")
            if branch is not None and worktree.base is not None:
                await self._w.drop_branch(worktree, project, branch)
        failpoint.hit("worktree_removed")
        to = WorktreeState.DISCARDED
        return await self._db.write(lambda tx: table.move(tx, worktree, to))

    # --- after a crash, or a step that failed ---------------------------------------------------------

    async def mend(self) -> int:
        """Finish or take back what a crash cut short; what a start does once. Returns how many there were."""
        found = await self._db.write(table.open_ones)
        mended = 0
        for worktree in found:
            try:
                project = await self._db.write(
                    lambda tx, w=worktree: projects.find(tx, w.project)  # type: ignore[misc]
                )
                async with self._turn(project.id):
                    mended += await self._mend_one(project, worktree.id, CUT_SHORT)
            except (HiveError, OSError):
                # The others are mended all the same; this one is shown by doctor, and mended at its next use.
                _log.warning("cannot mend a worktree", extra={"worktree_id": worktree.id}, exc_info=True)  # fmt: skip
        if mended:
            _log.info("worktrees mended", extra={"worktrees": mended})
        return mended

    async def _mend_one(self, project: Project, id_: str, why: str) -> bool:
        worktree = await self._db.write(lambda tx: table.find(tx, id_))
        match worktree.state:
            case WorktreeState.CREATING:
                return await self._mend_creating(project, worktree)
            case WorktreeState.ACCEPTING:
                await self._mend_accepting(project, worktree, why)
                return True
            case WorktreeState.DISCARDING:
                await self._throw_away(project, worktree)
                return True
            case _:
                await self._w.tidy_ready(worktree)
                return False

    async def _mend_creating(self, project: Project, worktree: Worktree) -> bool:
        execution = await self._db.write(lambda tx: work.find(tx, worktree.order_id))
        if execution.state not in EXECUTION_ENDS:
            return False  # its runner makes it, or makes it anew
        await self._w.give_up(worktree, project, "It was never finished.", self._db.write)
        return True

    async def _mend_accepting(self, project: Project, worktree: Worktree, why: str) -> None:
        is_merged = worktree.step is AcceptStep.CLEANING
        if worktree.step is AcceptStep.MERGING and worktree.target and worktree.merged:
            now = await self._git.commit_of(project.path, worktree.target)
            is_merged = (
                worktree.merged != worktree.target_before
                and now is not None
                and await self._git.is_ancestor(project.path, worktree.merged, now)
            )
        if not is_merged:
            to = WorktreeState.READY
            await self._db.write(lambda tx: table.move(tx, worktree, to, problem=why[:2000]))
            return
        worktree = await self._db.write(
            lambda tx: table.note(tx, worktree, step=AcceptStep.CLEANING)
        )
        done = Taken(worktree=worktree, branch=worktree.target or "", commit=worktree.merged or "")
        await self._finish(project, done)


def _taken_before(worktree: Worktree) -> Taken:
    before = ["It was accepted before."]
    return Taken(
        worktree=worktree, branch=worktree.target or "", commit=worktree.merged or "", warnings=before
    )  # fmt: skip


def _named(files: list[str]) -> str:
    shown = ", ".join(files[:5])
    return f"{shown} and {len(files) - 5} more" if len(files) > 5 else shown


def _refused(reason: str, message: str, worktree: Worktree, files: list[str]) -> HiveError:
    return HiveError(
        "MERGE_REFUSED",
        f"{message} Nothing was touched.",
        hint=f"Look at {worktree.path}{': ' + _named(files) if files else ''}, mend it and accept again.",
        details={"reason": reason, "files": files[:FILES_MAX], "worktree": worktree.id},
    )


def _refused_project(reason: str, what: str, project: Project) -> HiveError:
    return HiveError(
        "MERGE_REFUSED",
        f"{project.path} {what}. Nothing was touched.",
        hint=f"See `git -C {project.path} status`; put that right and accept again.",
        details={"reason": reason, "path": project.path},
    )
