"""Executions: accept a prompt, look at what runs, wait for it, stop it."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import Any

import msgspec

from hivectl.engine import directory
from hivectl.engine.runner import options_of
from hivectl.journal import blobs
from hivectl.kit.ids import make_id, make_uuid
from hivectl.logic import paths
from hivectl.logic.account import account_of
from hivectl.logic.environment import environment
from hivectl.logic.options import is_session_id, validate_options
from hivectl.logic.redact import excerpt
from hivectl.model.access import Caller, Scope
from hivectl.model.errors import HiveError
from hivectl.model.project import Project
from hivectl.model.work import Execution
from hivectl.model.worker import LOCAL_POOL
from hivectl.ports import StopMode
from hivectl.services import beside
from hivectl.services.house import Handler, House, page_cursor, parse_later_us
from hivectl.services.places import places
from hivectl.services.projects import OPTION_NAMES, Projects
from hivectl.services.reasons import obstacles
from hivectl.services.sessions import begins_fresh, expiry_warnings
from hivectl.services.views import Around, execution_view
from hivectl.store import projects as project_table
from hivectl.store import rows, usage, work
from hivectl.store.pending import WAITED_FOR

HOUR_US = 3_600_000_000
PROMPT_TEXT_MAX = 2000


class Executions:
    """Answers `execute`, `execution.*` and `kill`."""

    def __init__(self, house: House, projects: Projects) -> None:
        """Over the rooms below, beside the projects."""
        self._h = house
        self._projects = projects

    def bindings(self) -> dict[str, Handler]:
        """Method name to handler."""
        return {
            "execute": self.execute,
            "queue.enqueue": self.execute,
            "execution.list": self.list,
            "execution.get": self.get,
            "execution.wait": self.wait,
            "kill": self.kill,
        }

    # --- accept -------------------------------------------------------------------------------------

    async def execute(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Accept a prompt: durable when this returns."""
        settings = self._h.settings()
        project = await self._projects.find(p.project)
        digest = _digest(project, p)
        if p.idempotency_key is not None:
            age_us = settings.number("queue.idempotency_h") * HOUR_US
            earlier = await self._h.db.write(
                lambda tx: work.replayed(tx, caller.actor, p.idempotency_key, digest, age_us=age_us)
            )
            if earlier is not None:
                # Before anything is checked: what the run has changed since must not refuse its own request.
                return await self._accepted(project, earlier, replayed=True, warnings=[])
        size = len(p.prompt.encode("utf-8", "surrogatepass"))
        if size > settings.number("execution.max_prompt_bytes"):
            raise HiveError(
                "TOO_LARGE", f"The prompt has {size} bytes.",
                hint="Put the material into a file and let the prompt name it.",
                details={"limit": "execution.max_prompt_bytes", "max": settings.number("execution.max_prompt_bytes")},
            )  # fmt: skip
        self._check_prompt(p.prompt, project)
        session = await self._check_session(p.session, project)
        if p.worktree and session == "current":
            session = "new"  # the project's conversation does not change hands between directories
        _check_rights(caller, p.options, project)
        options = self._merge(p.options, project)
        await self._check_directory(project)
        worktree = None
        if p.worktree and p.pool != LOCAL_POOL:
            raise HiveError(
                "INVALID_PARAMS", "worktree: only the daemon's own workers (the pool claude) run in one.",
                details={"errors": [{"pointer": "/worktree", "message": "needs the pool claude"}]},
            )  # fmt: skip
        if p.worktree:
            worktree = await beside.wanted(self._h, project, self._projects.surroundings({}))
        wish = work.Wish(
            order=make_id("o"),
            execution=make_id("x"),
            project=project,
            prompt=p.prompt,
            prompt_uuid=make_uuid(),
            message={},
            session=session,
            fork=p.fork or (p.worktree and session != "new"),
            worktree=worktree,
            options=options,
            priority=p.priority or project.defaults.get("priority") or "normal",
            actor=caller.actor,
            request=caller.request,
            key=p.idempotency_key,
            hash=digest,
            refuse_if_busy=p.if_busy == "fail",
            max_orders=settings.number("queue.max_orders"),
            key_age_us=settings.number("queue.idempotency_h") * HOUR_US,
            account=self._account(p.pool, project),
            **self._queue_wish(p),
        )
        wish.message.update(self._prompt_message(wish))
        warnings = await self._warnings(p, session, project)
        accepted = await self._h.engine.submit(wish)
        return await self._accepted(
            project,
            accepted.execution,
            replayed=accepted.is_replayed,
            warnings=[*warnings, *await self._held(wish)],
            position=accepted.position,
        )

    def _account(self, pool: str, project: Project) -> str:
        """Whose usage limit it counts against; nobody's, where another program does the work."""
        if pool != LOCAL_POOL:
            return ""
        settings = self._h.settings()
        return account_of(
            environment(settings.environment, settings["claude.env"], project.env, "")
        )

    def _queue_wish(self, p: Any) -> dict[str, Any]:
        """What the request says of its place in the queue. Raises INVALID_PARAMS, RESOURCE_LIMIT."""
        settings = self._h.settings()
        most = settings.number("queue.max_after")
        if len(p.after) + len(p.after_any) > most:
            raise HiveError(
                "RESOURCE_LIMIT", f"after names {len(p.after) + len(p.after_any)} work orders; at most {most} are allowed.",
                details={"limit": "queue.max_after"},
            )  # fmt: skip
        not_before_us = None
        if p.not_before is not None:
            not_before_us = parse_later_us(p.not_before, self._h.clock.now_us(), "not_before")
        return {
            "after": tuple(dict.fromkeys(p.after)),
            "after_any": tuple(dict.fromkeys(p.after_any)),
            "not_before_us": not_before_us,
            "retries": settings.number("queue.retries") if p.retries is None else p.retries,
            "on_usage_limit": p.on_usage_limit,
            "pool": p.pool,
            "is_idempotent": getattr(p, "idempotent", False),
        }

    async def _accepted(
        self,
        project: Project,
        execution: Execution,
        *,
        replayed: bool,
        warnings: list[str],
        position: tuple[str, int] | None = None,
    ) -> dict[str, Any]:
        epoch, seq = position or self._h.publisher.position(project.stream)
        return {
            "execution": execution.id,
            "work_order": execution.order_id,
            "project": project.id,
            "state": execution.state,
            "place": await self._place(execution),
            "stream": project.stream,
            "epoch": epoch,
            "seq": seq,
            "replayed": replayed,
            "warnings": warnings,
        }

    async def _held(self, wish: work.Wish) -> list[str]:
        """Why it will not start soon: a pause, a limit, no worker, a budget that is used up."""
        project, db = wish.project.id, self._h.db
        said = await obstacles(db, project=project, account=wish.account, pool=wish.pool)
        row = await db.one(usage.blocked_sql("?", "?"), self._h.clock.now_us(), project, wish.actor)
        return [*said, row["reason"]] if row is not None else said

    def _check_prompt(self, prompt: str, project: Project) -> None:
        if not prompt.strip():
            raise HiveError(
                "INVALID_PARAMS",
                "The prompt holds only white space.",
                details={"errors": [{"pointer": "/prompt"}]},
            )
        if "\0" in prompt:
            raise HiveError(
                "INVALID_PARAMS",
                "The prompt holds a NUL character.",
                details={"errors": [{"pointer": "/prompt"}]},
            )
        allowed = project.defaults.get("slash_commands")
        if allowed is None:
            allowed = self._h.settings().flag("claude.slash_commands")
        first = prompt.lstrip().split(maxsplit=1)[0]
        if (
            first.startswith("/")
            and "/" not in first[1:]
            and first[1:].replace("-", "").isalnum()
            and not allowed
        ):
            raise HiveError(
                "FORBIDDEN", f"The prompt begins with the slash command {excerpt(first, 80)}, and slash commands are off.",
                hint=f"Allow them: `hivectl project update {project.name} --default slash_commands=true`, or begin with another word.",
                details={"setting": "claude.slash_commands"},
            )  # fmt: skip

    async def _check_session(self, wanted: str, project: Project) -> str:
        if wanted in ("current", "new"):
            return wanted
        if not is_session_id(wanted):
            raise HiveError(
                "INVALID_PARAMS", f"{excerpt(wanted, 80)!r} is no session: give `current`, `new` or a session's id.",
                details={"errors": [{"pointer": "/session"}]},
            )  # fmt: skip
        known = await self._h.db.one("SELECT project FROM sessions WHERE id = ?", wanted)
        if known is None or known["project"] != project.id:
            raise HiveError(
                "SESSION_NOT_FOUND", f"Project {project.name!r} has no session {wanted}."
            )
        return wanted

    def _merge(self, given: Any, project: Project) -> dict[str, Any]:
        options = {k: v for k, v in project.defaults.items() if k in OPTION_NAMES}
        options |= given.model_dump(exclude_none=True)
        validate_options(options_of(options))
        if options.get("add_dirs"):
            options["add_dirs"] = [self._check_extra(path) for path in options["add_dirs"]]
        return options

    def _check_extra(self, path: str) -> str:
        real = os.path.realpath(path)
        if not os.path.isdir(real):
            raise HiveError(
                "PATH_NOT_ALLOWED",
                f"{path!r} is no directory below the allowed roots.",
                details={"path": path},
            )
        try:
            paths.check_extra(real, self._projects.surroundings({}))
        except HiveError as exc:
            raise HiveError(
                "PATH_NOT_ALLOWED", exc.message, details={**exc.details, "path": path}
            ) from None
        return real

    async def _check_directory(self, project: Project) -> None:
        """Refuse early what the runner would refuse later; a path that is gone puts the project in error."""
        try:
            await asyncio.to_thread(directory.check_identity, project)
        except HiveError as exc:
            message = exc.message
            await self._h.db.write(lambda tx: project_table.set_error(tx, project.id, message))
            raise
        await asyncio.to_thread(directory.is_trusted, project)

    def _prompt_message(self, wish: work.Wish) -> dict[str, Any]:
        raw = {
            "type": "user",
            "message": {"role": "user", "content": wish.prompt},
            "uuid": wish.prompt_uuid,
        }
        text = wish.prompt[:PROMPT_TEXT_MAX]
        message: dict[str, Any] = {"kind": "prompt", "direction": "in", "text": text}
        encoded = msgspec.json.encode(raw)
        if len(encoded) > self._h.settings().number("log.spill_bytes"):
            ref = blobs.write_blob(self._h.journal.open(wish.project.stream), encoded)
            return {**message, **ref, "is_json": True}
        return {**message, "raw": raw}

    async def _warnings(self, p: Any, session: str, project: Project) -> list[str]:
        """What the caller should know of what becomes of the request."""
        warnings: list[str] = []
        if session == "current" and project.session is not None:
            warnings = await expiry_warnings(self._h, project.session)
            if warnings and begins_fresh(self._h):
                session = "new"
        return warnings + _without_effect(p, session, project)

    # --- look ---------------------------------------------------------------------------------------

    async def _place(self, execution: Execution) -> int | None:
        return (await places(self._h.db, [execution.order_id])).get(execution.order_id)

    async def view(self, ref: str) -> dict[str, Any]:
        """An execution as the wire shows it: no older than the position it is shown with, so that who
        follows from there misses nothing. Raises EXECUTION_NOT_FOUND."""
        stream = (await self._h.engine.find(ref)).stream
        position = self._h.publisher.position(stream)
        execution = await self._h.engine.find(ref)
        row = await self._h.db.one(
            f"SELECT p.name AS name, o.prompt AS prompt, o.priority AS priority, (SELECT group_concat(id) FROM"
            f" ({WAITED_FOR.format('e.id')})) AS waiting, {_HELD} AS held, {usage.OPEN_SQL} AS open FROM orders o"
            " JOIN projects p ON p.id = o.project JOIN executions e ON e.id = ? WHERE o.id = ?",
            self._h.clock.now_us(), execution.id, execution.order_id,
        )  # fmt: skip
        if row is None:
            raise HiveError(
                "EXECUTION_NOT_FOUND", f"Execution {execution.id} was deleted with its project."
            )
        return self._render(execution, row, await self._place(execution), position)

    def _render(
        self, execution: Execution, row: Any, place: int | None, position: tuple[str, int]
    ) -> dict[str, Any]:
        runner = self._h.engine.runners.get(execution.id)
        if runner is not None and runner.is_stalled:
            execution = msgspec.structs.replace(execution, stalled="storage_full")
        execution = usage.with_open(execution, row["open"])
        around = Around(
            project_name=row["name"],
            prompt=row["prompt"],
            priority=row["priority"],
            place=place,
            waiting_for=row["waiting"].split(",") if row["waiting"] else [],
            position=position,
            now_us=self._h.clock.now_us(),
            held=row["held"],
        )
        return execution_view(execution, around)

    async def get(self, caller: Caller, p: Any) -> dict[str, Any]:
        """One execution."""
        return await self.view(p.execution)

    async def list(self, caller: Caller, p: Any) -> dict[str, Any]:
        """A page, newest first."""
        project = (await self._projects.find(p.project)).id if p.project else None
        where = ["(? IS NULL OR e.project = ?)", "(? IS NULL OR e.id < ?)"]
        args: list[Any] = [project, project, p.cursor, p.cursor]
        only = ""
        if p.live:
            only = " INDEXED BY executions_live_id"  # else all that ever ran is read to find them
            where.append("e.state IN ('pending','starting','running','waiting')")
        if p.states is not None:
            where.append(f"e.state IN ({','.join('?' for _ in p.states)})")
            args += p.states
        # Before the rows are read: who follows from there may see a change twice, but misses none.
        positions = self._h.publisher.positions()
        found = await self._h.db.all(
            f"SELECT {rows.columns(Execution, 'e')}, p.name AS name, substr(o.prompt, 1, 200) AS prompt, o.priority AS priority,"
            f" (SELECT group_concat(id) FROM ({WAITED_FOR.format('e.id')})) AS waiting,"
            f" {_HELD} AS held, {usage.OPEN_SQL} AS open FROM executions e{only} JOIN orders o ON o.id = e.order_id JOIN projects p ON p.id = e.project"
            f" WHERE {' AND '.join(where)} ORDER BY e.id DESC LIMIT ?",
            self._h.clock.now_us(), *args, p.limit,
        )  # fmt: skip
        items = []
        waiting = [row["order_id"] for row in found if row["state"] == "pending"]
        placed = await places(self._h.db, waiting)
        for row in found:
            execution = rows.read(Execution, row)
            place = placed.get(execution.order_id) if execution.state == "pending" else None
            position = positions.get(execution.stream)
            position = position or self._h.publisher.position(execution.stream)
            items.append(self._render(execution, row, place, position))
        return {"items": items, "next_cursor": page_cursor(items, p.limit, "execution")}

    async def wait(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Wait for the end."""
        ended = await self._h.engine.wait(
            p.execution, timeout_s=p.timeout_s, or_waiting=p.or_waiting
        )
        return await self.view(ended.id)

    # --- stop ---------------------------------------------------------------------------------------

    async def kill(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Stop one execution, or whatever a project executes and has pending."""
        if p.project is not None:
            project = await self._projects.find(p.project)
            ids = [e.id for e in await self._h.db.write(lambda tx: work.of_project(tx, project.id))]
            if not ids:
                raise HiveError(
                    "PROCESS_NOT_FOUND",
                    f"Project {project.name!r} is not executing.",
                    details={"project": project.id},
                )
        else:
            ids = [(await self._h.engine.find(p.execution)).id]
        stopped = await self._h.engine.kill(
            ids, mode=StopMode(p.mode), by=caller.actor, note=p.reason, is_strict=len(ids) == 1
        )
        return {
            "executions": [await self.view(e.id) for e in stopped],
            "survivors": sum(e.survivors for e in stopped),
        }


def _digest(project: Project, p: Any) -> str:
    """What makes two requests the same: what was asked for, not the project's defaults of the day."""
    options = p.options.model_dump(exclude_none=True)
    body = [project.id, p.prompt, p.session, p.fork, options, p.priority]
    if p.worktree:
        body.append("worktree")
    if p.pool != LOCAL_POOL:
        body.append([p.pool, getattr(p, "idempotent", False)])
    placed = [p.after, p.after_any, p.not_before, p.retries, p.on_usage_limit]
    if (
        any(placed) or p.retries == 0
    ):  # else as it was before these existed: keys are remembered over updates
        body.append(placed)
    return hashlib.sha256(msgspec.json.encode(body)).hexdigest()


_GUARDS = ("max_budget_usd", "max_total_tokens")
"""Limits of one run that a project's defaults set for those who may not approve, too (S31)."""


def _check_rights(caller: Caller, given: Any, project: Project) -> None:
    """Who may not approve may not do so beforehand either (S16): what widens a run's permissions beyond the
    project's defaults needs the scope `approve`."""
    if caller.allows(Scope.APPROVE):
        return
    known = project.defaults
    wider = {
        "permission_mode": given.permission_mode
        not in (None, "plan", known.get("permission_mode")),
        "allowed_tools": bool(
            {*(given.allowed_tools or ())} - {*(known.get("allowed_tools") or ())}
        ),
        "disallowed_tools": given.disallowed_tools is not None
        and bool({*(known.get("disallowed_tools") or ())} - {*given.disallowed_tools}),
        "add_dirs": bool({*(given.add_dirs or ())} - {*(known.get("add_dirs") or ())}),
        **{name: _is_more(getattr(given, name), known.get(name)) for name in _GUARDS},
    }
    asked = [name for name, is_wider in wider.items() if is_wider]
    if asked:
        raise HiveError(
            "SELF_APPROVAL_DENIED" if caller.execution is not None else "FORBIDDEN",
            f"{', '.join(asked)}: only who may approve may allow more than the project does.",
            details={"scope": Scope.APPROVE.value, "options": asked, "execution": caller.execution},
        )


def _is_more(asked: float | None, known: float | None) -> bool:
    return asked is not None and known is not None and asked > known


def _without_effect(p: Any, session: str, project: Project) -> list[str]:
    """What was asked for and will have no effect. Only what this request names: a project's defaults are
    the same for each of its prompts, and its conversation began with them."""
    asked = [
        name
        for name, value in (
            ("system_prompt", p.options.system_prompt),
            ("append_system_prompt", p.options.append_system_prompt),
        )
        if value is not None
    ]
    is_resumed = session not in ("current", "new") or (session == "current" and project.session)
    if not asked or not is_resumed:
        return []
    names = " and ".join(asked)
    known = "Claude keeps the system prompt a conversation began with"
    return [f"{names} will have no effect: {known}. Begin a new one (session: new) to change it."]


_HELD = f"iif(e.state = 'pending', ({usage.blocked_sql('e.project', 'e.actor')}), NULL)"
