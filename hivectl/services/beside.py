"""Worktrees beside a project: what a prompt for one asks for, and what a deleted project leaves of them."""

from __future__ import annotations

from hivectl.engine.worktrees import branch_of, place_of
from hivectl.kit.ids import make_id
from hivectl.logic import paths
from hivectl.model.errors import HiveError
from hivectl.model.project import Project
from hivectl.services.house import House
from hivectl.store import work
from hivectl.store import worktrees as table


async def wanted(house: House, project: Project, around: paths.Surroundings) -> table.Wanted:
    """What a prompt with `worktree` asks for. Raises WORKTREE_UNAVAILABLE where there can be none."""
    repository = await house.engine.worktrees.survey(project)
    if repository.prefix:
        try:
            paths.check_extra(repository.top, around)
        except HiveError as exc:
            raise HiveError(
                "WORKTREE_UNAVAILABLE",
                f"The project lies in the repository {repository.top}, which is not for Claude to work in: {exc.message}",
                hint="Make the project a repository of its own (`git init` there), or run without --worktree.",
                details={"reason": "repository_not_allowed", "path": repository.top},
            ) from None
    id_ = make_id("wt")
    return table.Wanted(
        id=id_,
        path=place_of(house.settings(), project.id, id_),
        branch=branch_of(id_),
        prefix=repository.prefix,
        limit=house.settings().number("worktree.max_per_project"),
    )


async def let_go(
    house: House, project: Project, *, force: bool, purge: bool, actor: str
) -> list[str]:
    """Clear the worktrees of a project that is to be deleted; returns those that hold work and stay.

    Raises UNSAVED_WORK when there are any, unless forced; `purge` throws away what they hold."""
    found, live = await house.db.write(
        lambda tx: (table.open_ones(tx, project.id), work.of_project(tx, project.id))
    )
    if live:
        return []  # the project is busy, and its deletion is refused for that
    if found and not force:
        raise HiveError(
            "UNSAVED_WORK",
            f"Project {project.name!r} has {len(found)} worktrees that were neither accepted nor discarded.",
            hint=f"`hivectl worktree list {project.name}` shows them. Accept or discard them, or delete with --force:"
            " those that hold work then stay on the disk, with --purge too they are thrown away.",
            details={"executions": [worktree.execution for worktree in found][:100]},
        )
    kept = []
    for worktree in found:
        try:
            await house.engine.accepting.discard(project, worktree.id, force=purge, actor=actor)
        except (HiveError, OSError):
            kept.append(worktree.path)
    return kept
