"""Projects: register, look at, change, trust, forget."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

from hivectl import config
from hivectl.engine import directory
from hivectl.engine.runner import options_of
from hivectl.kit.ids import make_id
from hivectl.logic import paths
from hivectl.logic.environment import validate_additions
from hivectl.logic.options import validate_options
from hivectl.model.access import Caller
from hivectl.model.errors import HiveError
from hivectl.model.project import Project, ProjectState
from hivectl.model.work import Options
from hivectl.ports import StopMode
from hivectl.services import beside
from hivectl.services.cloning import clone
from hivectl.services.house import Handler, House, page_cursor
from hivectl.services.views import project_view, trust_view
from hivectl.store import projects as table
from hivectl.store import rows, work


class Projects:
    """Answers the methods `project.*` (but presence, which belongs to connections)."""

    def __init__(self, house: House) -> None:
        """Over the rooms below."""
        self._h = house
        self._changing = asyncio.Lock()
        """Held from what is looked at (other paths, the old values) to what is stored because of it."""

    def bindings(self) -> dict[str, Handler]:
        """Method name to handler."""
        return {
            "project.create": self.create,
            "project.list": self.list,
            "project.get": self.get,
            "project.inspect": self.inspect,
            "project.update": self.update,
            "project.trust": self.trust,
            "project.untrust": self.untrust,
            "project.delete": self.delete,
            "session.new": self.new_session,
        }

    async def create(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Register an existing directory, a new one, or a clone."""
        asked = self._expand(p.path)
        name = p.name or paths.name_for(asked)
        paths.check_name(name)
        defaults = _checked_defaults(p.defaults)
        validate_additions(p.env)
        made = await self._provide(asked, p)
        try:
            async with self._changing:
                real = await self._check(asked, await self._others())
                found = os.stat(real)
                report = await asyncio.to_thread(directory.vouch, Path(real)) if p.trust else None
                now = self._h.clock.now_us()
                project = Project(
                    id=make_id("p"), name=name, path=real, dev=found.st_dev, ino=found.st_ino,
                    trust_hash=report.hash if report else None, trust_broken=False, defaults=defaults, env=dict(p.env),
                    version=1, session=None, state=ProjectState.IDLE, error=None, executions=0, input_tokens=0, output_tokens=0,
                    cost_usd=0.0, created_us=now, activity_us=now,
                )  # fmt: skip
                limit = self._h.settings().number("projects.max")
                await self._h.db.write(
                    lambda tx: table.insert(
                        tx, project, limit=limit, actor=caller.actor, request=caller.request
                    )
                )
        except BaseException:
            if made is not None:
                await asyncio.to_thread(_remove_empty, made)
            raise
        return project_view(project, execution=None, pending=0)

    async def _provide(self, asked: str, p: Any) -> Path | None:
        """Make or clone the directory where that was asked for; what was made anew."""
        if not (p.mkdir or p.repo) or await asyncio.to_thread(os.path.exists, asked):
            if p.repo:
                raise HiveError(
                    "INVALID_PATH", f"{asked} exists already.", hint="Clone into a new directory.",
                    details={"reason": "exists", "path": asked},
                )  # fmt: skip
            return None
        parent = await asyncio.to_thread(os.path.realpath, os.path.dirname(asked))
        place = os.path.join(parent, os.path.basename(asked))
        self._rule(place, await self._others(), exists=True)
        path = Path(asked)
        if p.repo:
            await clone(p.repo, p.branch, path, self._h.settings().environment)
            return path
        try:
            await asyncio.to_thread(path.mkdir, mode=0o755, parents=True)
        except OSError as exc:
            raise HiveError(
                "INVALID_PATH", f"{asked} cannot be made: {exc.strerror}.",
                hint="Make it yourself, or give another place.", details={"reason": "no_access", "path": asked},
            ) from exc  # fmt: skip
        return path

    def _expand(self, path: str) -> str:
        home = self._h.settings().environment.get("HOME", "")
        if path == "~" or path.startswith("~/"):
            path = home + path[1:]
        paths.check_form(path)
        return os.path.normpath(path)

    async def _others(self, but: str = "") -> dict[str, str]:
        found = await self._h.db.all("SELECT id, name, path FROM projects")
        return {row["name"]: row["path"] for row in found if row["id"] != but}

    async def _check(self, asked: str, others: dict[str, str], *, missing: str = "") -> str:
        real = await asyncio.to_thread(os.path.realpath, asked)
        exists = await asyncio.to_thread(os.path.exists, real)
        is_dir = await asyncio.to_thread(os.path.isdir, real)
        self._rule(real, others, exists=exists, is_dir=is_dir, asked=asked, missing=missing)
        if not await asyncio.to_thread(os.access, real, os.R_OK | os.W_OK | os.X_OK):
            raise HiveError(
                "INVALID_PATH", f"{real} cannot be read and written by this user.",
                hint="Give a directory of your own.", details={"reason": "no_access", "path": real},
            )  # fmt: skip
        return real

    def _rule(
        self,
        real: str,
        others: dict[str, str],
        *,
        exists: bool,
        is_dir: bool = True,
        asked: str = "",
        missing: str = "",
    ) -> None:
        """`missing` is the next step for a directory that is not there; else --mkdir of `create` is."""
        try:
            paths.check_project_path(
                paths.PathFacts(path=asked or real, real=real, exists=exists, is_dir=is_dir),
                self.surroundings(others),
            )
        except HiveError as exc:
            if missing and exc.details.get("reason") == "not_found":
                exc.hint = missing
            raise

    def surroundings(self, others: dict[str, str]) -> paths.Surroundings:
        """What projects must keep away from; `others` are those that exist: name to path."""
        settings = self._h.settings()
        places = settings.places
        claude = settings.environment.get("CLAUDE_CONFIG_DIR")
        return paths.Surroundings(
            home=os.path.realpath(settings.environment.get("HOME") or Path.home()),
            roots=tuple(str(root) for root in config.default_roots(settings)),
            state_dirs=tuple(
                os.path.realpath(place)
                for place in (places.state, places.runtime, places.config_file.parent)
            ),
            worktrees=str(config.worktree_root(settings)),
            claude_dirs=(os.path.realpath(claude),) if claude else (),
            projects=others,
        )

    async def list(self, caller: Caller, p: Any) -> dict[str, Any]:
        """A page by name."""
        found = await self._h.db.all(
            f"SELECT {table.COLUMNS}, (SELECT id FROM executions e WHERE e.project = projects.id AND"
            f" e.state IN {work.LIVE_SQL}) AS live,"
            " (SELECT count(*) FROM orders o WHERE o.project = projects.id AND o.state = 'queued') AS pending"
            " FROM projects WHERE (? IS NULL OR state = ?) AND name > ? ORDER BY name LIMIT ?",
            p.state, p.state, p.cursor or "", p.limit,
        )  # fmt: skip
        items = [
            project_view(rows.read(Project, row), execution=row["live"], pending=row["pending"])
            for row in found
        ]
        return {"items": items, "next_cursor": page_cursor(items, p.limit, "name")}

    async def get(self, caller: Caller, p: Any) -> dict[str, Any]:
        """One project."""
        return await self._view(await self.find(p.project))

    async def find(self, ref: str) -> Project:
        """A project by id or name. Raises PROJECT_NOT_FOUND, with names that are close."""
        row = await self._h.db.one(
            f"SELECT {table.COLUMNS} FROM projects WHERE id = ? OR name = ?", ref, ref
        )
        if row is None:
            raise await self._not_found(ref)
        return rows.read(Project, row)

    async def _not_found(self, ref: str) -> HiveError:
        import difflib  # noqa: PLC0415  only on the way to an error

        names = list(await self._others())
        close = difflib.get_close_matches(ref, names, n=3)
        hint = (
            f"Did you mean {' or '.join(f'`{name}`' for name in close)}?"
            if close
            else "`hivectl project list` shows the projects."
        )
        details = {"project": ref, "close": close}
        return HiveError(
            "PROJECT_NOT_FOUND", f"There is no project {ref!r}.", hint=hint, details=details
        )

    async def _view(self, project: Project) -> dict[str, Any]:
        live = await self._h.db.one(
            f"SELECT id FROM executions WHERE project = ? AND state IN {work.LIVE_SQL}", project.id
        )
        pending = await self._h.db.one(
            "SELECT count(*) FROM orders WHERE project = ? AND state = 'queued'", project.id
        )
        assert pending is not None
        return project_view(project, execution=live["id"] if live else None, pending=pending[0])

    async def inspect(self, caller: Caller, p: Any) -> dict[str, Any]:
        """What a project, or a directory that may become one, brings."""
        if p.project is not None:
            path = (await self.find(p.project)).path
        else:
            path = await asyncio.to_thread(os.path.realpath, self._expand(p.path))
            facts = await asyncio.to_thread(lambda: (os.path.exists(path), os.path.isdir(path)))
            missing = "Check the spelling; only a directory that exists can be looked at."
            self._rule(path, {}, exists=facts[0], is_dir=facts[1], asked=p.path, missing=missing)
        return trust_view(path, await asyncio.to_thread(directory.inspect, Path(path)))

    async def update(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Change what was given; the rest stays."""
        async with self._changing:
            changed = await self._change(caller, p)
        return await self._view(changed)

    async def _change(self, caller: Caller, p: Any) -> Project:
        project = await self.find(p.project)
        changes: dict[str, Any] = {}
        if p.name is not None:
            paths.check_name(p.name)
            changes["name"] = p.name
        if p.path is not None:
            changes |= await self._moved(project, p.path)
        if p.defaults is not None:
            given = p.defaults.model_dump(exclude_unset=True)
            merged = {k: v for k, v in {**project.defaults, **given}.items() if v is not None}
            validate_options(options_of({k: v for k, v in merged.items() if k in OPTION_NAMES}))
            changes["defaults"] = merged
        if p.env is not None:
            env = {k: v for k, v in {**project.env, **p.env}.items() if v is not None}
            validate_additions(env)
            changes["env"] = env
        return await self._h.db.write(
            lambda tx: table.update(
                tx,
                project.id,
                changes,
                version=p.version,
                actor=caller.actor,
                request=caller.request,
            )
        )

    async def _moved(self, project: Project, path: str) -> dict[str, Any]:
        missing = "Give the directory where the project lies now; it must exist."
        others = await self._others(project.id)
        real = await self._check(self._expand(path), others, missing=missing)
        found = os.stat(real)
        # Another place is another repository until somebody has looked: trust does not move with it.
        is_same = (found.st_dev, found.st_ino) == (project.dev, project.ino)
        moved = {"path": real, "dev": found.st_dev, "ino": found.st_ino, "error": None}
        return moved if is_same else {**moved, "trust_hash": None, "trust_broken": 0}

    async def trust(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Tie trust to what the directory brings now."""
        project = await self.find(p.project)
        report = await asyncio.to_thread(directory.vouch, Path(project.path))
        if p.hash is not None and p.hash != report.hash:
            raise HiveError(
                "TRUST_CHANGED", "What the project brings changed since you looked.",
                hint=f"Look again: `hivectl project inspect {project.name}`.", details={"hash": report.hash},
            )  # fmt: skip
        return await self._set_trust(caller, project, report.hash)

    async def untrust(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Take trust back."""
        return await self._set_trust(caller, await self.find(p.project), None)

    async def _set_trust(
        self, caller: Caller, project: Project, hash_: str | None
    ) -> dict[str, Any]:
        changed = await self._h.db.write(
            lambda tx: table.set_trust(
                tx, project.id, hash_, broken=False, actor=caller.actor, request=caller.request
            )
        )
        return await self._view(changed)

    async def delete(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Forget it; with `force` what it executes is killed first."""
        project = await self.find(p.project)
        if p.force:
            live = await self._h.db.write(lambda tx: work.of_project(tx, project.id))
            ids = [execution.id for execution in live]
            await self._h.engine.kill(
                ids, mode=StopMode.TERMINATE, by=caller.actor, note="The project was deleted."
            )
        kept = await beside.let_go(
            self._h, project, force=p.force, purge=p.purge, actor=caller.actor
        )
        await self._h.db.write(
            lambda tx: table.delete(tx, project.id, actor=caller.actor, request=caller.request)
        )
        if p.purge:
            self._h.publisher.forget(project.stream)
            await self._h.db.write(lambda tx: table.purge(tx, project.stream))
            await asyncio.to_thread(self._h.journal.remove, project.stream)
        return {"id": project.id, "kept": kept}

    async def new_session(self, caller: Caller, p: Any) -> dict[str, Any]:
        """The next execution starts a fresh conversation."""
        changed = await self._h.db.write(
            lambda tx: table.reset_session(
                tx, p.project, actor=caller.actor, request=caller.request
            )
        )
        return await self._view(changed)


OPTION_NAMES = frozenset(Options.__struct_fields__)


def _checked_defaults(defaults: Any) -> dict[str, Any]:
    given: dict[str, Any] = defaults.model_dump(exclude_none=True)
    validate_options(options_of({k: v for k, v in given.items() if k in OPTION_NAMES}))
    return given


def _remove_empty(path: Path) -> None:
    """Take back a directory that was made for a project which then was refused; never one with content."""
    try:
        path.rmdir()
    except OSError:
        # It holds a clone or somebody used it meanwhile: it is the user's now.
        return
