"""Where an execution runs: its project's directory, or the worktree beside it, made when it starts."""

from __future__ import annotations

import asyncio
from pathlib import Path

from hivectl.engine import directory as facts
from hivectl.engine.live import Live
from hivectl.engine.worktrees import Worktrees
from hivectl.model.errors import HiveError
from hivectl.model.project import Project
from hivectl.model.worktree import WorktreeState, worktree_of
from hivectl.store import worktrees as table

NAMED_MAX = 5


async def directory(live: Live, project: Project) -> str:
    """The directory, as it stands in the store."""
    return await live.commit(lambda tx: table.directory_of(tx, live.execution, project.path))


async def enter(live: Live, project: Project, *, is_trusted: bool) -> None:
    """See to it that the execution's worktree is there; nothing to do where it has none.

    What a trusted project brings takes effect in a worktree only where that brings the same: a worktree has
    the files of a commit, which nobody may have looked at. It is refused rather than run without them,
    because what is trusted also forbids things. Raises HiveError TRUST_CHANGED, WORKTREE_UNAVAILABLE."""
    id_ = worktree_of(live.execution.lane)
    if id_ is None or live.handle is not None:
        return
    worktrees = Worktrees(live.world.db, live.world.settings, live.world.host.contain)
    before = await live.commit(lambda tx: table.find(tx, id_))
    worktree = await worktrees.provide(id_, project, live.commit)
    if not is_trusted:
        return
    differing = await asyncio.to_thread(facts.differing, Path(project.path), Path(worktree.cwd))
    if not differing:
        return
    named = ", ".join(differing[:NAMED_MAX])
    message = f"The worktree brings something else than project {project.name!r} was trusted with: {named}."
    if before.state is WorktreeState.CREATING:
        await worktrees.give_up(worktree, project, message, live.commit)
    raise HiveError(
        "TRUST_CHANGED",
        message,
        hint="A worktree has the files of the last commit: commit what was trusted there, or look at the commit"
        f" and trust it (`hivectl project trust {project.name}`); `untrust` goes on without.",
        details={"project": project.id, "files": differing[:100]},
    )
