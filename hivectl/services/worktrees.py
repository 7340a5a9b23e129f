"""Worktrees of executions: asked for, looked at, taken over, thrown away."""

from __future__ import annotations

from typing import Any

from hivectl.engine import worktree_diff
from hivectl.model.access import Caller
from hivectl.model.project import Project
from hivectl.model.worktree import Worktree
from hivectl.services.house import Handler, House, page_cursor
from hivectl.services.projects import Projects
from hivectl.services.views import worktree_view
from hivectl.store import projects as project_table
from hivectl.store import rows, work
from hivectl.store import worktrees as table
from hivectl.store.database import Tx

SUBJECT_MAX = 72
"""Characters of a prompt that become the first line of a commit's message."""
Found = tuple[Worktree, Project, str]
"""A worktree, its project, the execution that was named."""


class Worktrees:
    """Answers `execution.diff|accept|discard` and `worktree.list`."""

    def __init__(self, house: House, projects: Projects) -> None:
        """Over the rooms below, beside the projects."""
        self._h = house
        self._projects = projects

    def bindings(self) -> dict[str, Handler]:
        """Method name to handler."""
        return {
            "execution.diff": self.diff,
            "execution.accept": self.accept,
            "execution.discard": self.discard,
            "worktree.list": self.list,
        }

    async def _find(self, ref: str) -> Found:
        def look(tx: Tx) -> Found:
            execution = work.find(tx, ref)
            worktree = table.of_execution(tx, execution)
            return worktree, project_table.find(tx, worktree.project), execution.id

        return await self._h.db.write(look)

    async def diff(self, caller: Caller, p: Any) -> dict[str, Any]:
        """What it changed, against the commit it was made from."""
        worktree, project, execution = await self._find(p.execution)
        most = self._h.settings().number("worktree.diff_bytes")
        limit = most if p.max_bytes is None else min(most, p.max_bytes)
        found = await worktree_diff.look(
            self._h.engine.worktrees, worktree, project, most=limit
        )  # fmt: skip
        return {
            "execution": execution,
            "worktree": worktree_view(worktree, project_name=project.name),
            "files": found.files,
            "files_total": found.total,
            "added": found.added,
            "deleted": found.deleted,
            "uncommitted": found.uncommitted,
            "ignored": found.ignored,
            "patch": found.patch,
            "truncated": found.is_cut,
            "limit_bytes": limit,
        }

    async def accept(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Take it over into the project's branch."""
        worktree, project, execution = await self._find(p.execution)
        message = p.message or await self._message(worktree, execution)
        taken = await self._h.engine.accepting.accept(
            project, worktree.id, mode=p.mode, message=message, actor=caller.actor
        )
        return {
            "execution": execution,
            "worktree": worktree_view(taken.worktree, project_name=project.name),
            "branch": taken.branch.removeprefix("refs/heads/"),
            "commit": taken.commit,
            "warnings": taken.warnings,
        }

    async def _message(self, worktree: Worktree, execution: str) -> str:
        order = await self._h.db.write(lambda tx: work.find_order(tx, worktree.order_id))
        line = " ".join(next(iter(order.prompt.strip().splitlines()), "").split())
        line = "".join(letter for letter in line if letter.isprintable())
        subject = line if len(line) <= SUBJECT_MAX else line[: SUBJECT_MAX - 1] + "…"
        return f"{subject or 'Changes of an execution'}\n\nExecution {execution} of hivectl.\n"

    async def discard(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Throw it away."""
        worktree, project, _ = await self._find(p.execution)
        gone = await self._h.engine.accepting.discard(
            project, worktree.id, force=p.force, actor=caller.actor
        )
        return worktree_view(gone, project_name=project.name)

    async def list(self, caller: Caller, p: Any) -> dict[str, Any]:
        """A page, oldest first."""
        project = (await self._projects.find(p.project)).id if p.project else None
        is_open = "1" if p.all else f"w.{table.OPEN_SQL}"
        found = await self._h.db.all(
            f"SELECT {rows.columns(Worktree, 'w')}, p.name AS name FROM worktrees w JOIN projects p ON p.id = w.project"
            f" WHERE {is_open} AND (? IS NULL OR w.project = ?) AND w.id > ? ORDER BY w.id LIMIT ?",
            project, project, p.cursor or "", p.limit,
        )  # fmt: skip
        items = [worktree_view(rows.read(Worktree, row), project_name=row["name"]) for row in found]
        return {"items": items, "next_cursor": page_cursor(items, p.limit, "worktree")}
