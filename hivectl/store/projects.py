"""Projects and sessions in SQL, with the events their changes raise."""

from __future__ import annotations

from typing import Any

from hivectl.model.errors import HiveError
from hivectl.model.project import Project, ProjectState
from hivectl.model.work import ExecutionState
from hivectl.store import rows, sessions
from hivectl.store.database import Tx

COLUMNS = rows.columns(Project)
SYSTEM_STREAM = "system"


def find(tx: Tx, ref: str) -> Project:
    """The project of an id or name. Raises PROJECT_NOT_FOUND."""
    row = tx.one(f"SELECT {COLUMNS} FROM projects WHERE id = ? OR name = ?", ref, ref)
    if row is None:
        raise HiveError(
            "PROJECT_NOT_FOUND", f"There is no project {ref!r}.", details={"project": ref}
        )
    return rows.read(Project, row)


def brief(project: Project) -> dict[str, Any]:
    """What events tell of a project, and what a damaged database is rebuilt from."""
    return {
        "id": project.id,
        "name": project.name,
        "path": project.path,
        "dev": project.dev,
        "ino": project.ino,
        "trust": project.trust,
        "trust_hash": project.trust_hash,
        "defaults": project.defaults,
        "env_names": sorted(project.env),
        "version": project.version,
        "session": project.session,
        "created_us": project.created_us,
    }


def insert(tx: Tx, project: Project, *, limit: int, actor: str, request: str) -> None:
    """Add a project. Raises PROJECT_EXISTS or RESOURCE_LIMIT."""
    count = tx.one("SELECT count(*) FROM projects")
    assert count is not None
    if count[0] >= limit:
        raise HiveError(
            "RESOURCE_LIMIT",
            f"There are {count[0]} projects, the most allowed.",
            details={"limit": "projects.max"},
        )
    for field, value in (("name", project.name), ("path", project.path)):
        other = tx.one(f"SELECT id, name, path FROM projects WHERE {field} = ?", value)
        if other is not None:
            raise HiveError(
                "PROJECT_EXISTS",
                f"The {field} {value!r} belongs to project {other['name']!r} already.",
                details={"project": other["id"], "field": field},
            )
    tx.run(
        "INSERT INTO projects(id, name, path, dev, ino, trust_hash, defaults, env, created_us, activity_us)"
        " VALUES (?,?,?,?,?,?,?,?,?,?)",
        project.id,
        project.name,
        project.path,
        project.dev,
        project.ino,
        project.trust_hash,
        rows.dump(project.defaults),
        rows.dump(project.env),
        project.created_us,
        project.activity_us,
    )
    tx.run("INSERT INTO lanes(lane, project) VALUES (?, ?)", project.id, project.id)
    tx.emit(project.stream, "project.created", brief(project), actor=actor, request=request)
    tx.emit(SYSTEM_STREAM, "project.created", brief(project), actor=actor, request=request)


def update(
    tx: Tx, ref: str, changes: dict[str, Any], *, version: int | None, actor: str, request: str
) -> Project:
    """Change columns; `version` guards against a change in between. Raises VERSION_CONFLICT, PROJECT_EXISTS."""
    project = find(tx, ref)
    if version is not None and version != project.version:
        raise HiveError(
            "VERSION_CONFLICT",
            f"Project {project.name!r} is at version {project.version}, not {version}.",
            details={"version": project.version},
        )
    if "name" in changes and (
        other := tx.one(
            "SELECT id FROM projects WHERE name = ? AND id <> ?", changes["name"], project.id
        )
    ):
        raise HiveError(
            "PROJECT_EXISTS",
            f"The name {changes['name']!r} is taken.",
            details={"project": other["id"]},
        )
    _set(tx, project.id, {**changes, "version": project.version + 1})
    changed = find(tx, project.id)
    tx.emit(changed.stream, "project.updated", brief(changed), actor=actor, request=request)
    announce_state(tx, project.id)
    return find(tx, project.id)


def _set(tx: Tx, id_: str, changes: dict[str, Any]) -> None:
    names = list(changes)
    values = [rows.dump(changes[n]) if n in ("defaults", "env") else changes[n] for n in names]
    assignments = ", ".join(f"{name} = ?" for name in names)
    tx.run(f"UPDATE projects SET {assignments} WHERE id = ?", *values, id_)


def set_trust(
    tx: Tx, ref: str, hash_: str | None, *, broken: bool, actor: str, request: str
) -> Project:
    """Give, take or break trust."""
    project = find(tx, ref)
    _set(
        tx,
        project.id,
        {"trust_hash": hash_, "trust_broken": int(broken), "version": project.version + 1},
    )
    changed = find(tx, project.id)
    data = {"trust": changed.trust, "hash": hash_}
    tx.emit(project.stream, "project.trust_changed", data, actor=actor, request=request)
    return changed


def set_error(tx: Tx, id_: str, error: str | None) -> None:
    """Say (or take back) that the project cannot run."""
    tx.run("UPDATE projects SET error = ? WHERE id = ?", error, id_)
    announce_state(tx, id_)


def delete(tx: Tx, ref: str, *, actor: str, request: str) -> Project:
    """Forget a project and all that hangs on it. Raises PROJECT_BUSY while something lives."""
    project = find(tx, ref)
    live = tx.one(
        "SELECT id, state FROM executions WHERE project = ? AND state IN ('starting','running','waiting','pending')"
        " ORDER BY state = 'pending' LIMIT 1",
        project.id,
    )
    if live is not None:
        raise HiveError(
            "PROJECT_BUSY",
            f"Project {project.name!r} has work that waits in the queue."
            if live["state"] == "pending"
            else f"Project {project.name!r} is executing.",
            hint="Wait, or delete with --force, which cancels and kills first.",
            details={"execution": live["id"]},
        )
    data = {"id": project.id, "name": project.name}
    tx.emit(project.stream, "project.deleted", data, actor=actor, request=request)
    tx.emit(SYSTEM_STREAM, "project.deleted", data, actor=actor, request=request)
    tx.run("DELETE FROM approvals WHERE project = ?", project.id)
    tx.run("DELETE FROM questions WHERE project = ?", project.id)
    tx.run("DELETE FROM chats WHERE project = ?", project.id)
    tx.run("DELETE FROM pauses WHERE scope = ?", project.id)
    tx.run("DELETE FROM projects WHERE id = ?", project.id)
    return project


def purge(tx: Tx, stream: str) -> None:
    """Drop what is still on its way into the log of a deleted project: a restart must not bring that back."""
    tx.run("DELETE FROM outbox WHERE stream = ?", stream)


def announce_state(tx: Tx, id_: str) -> None:
    """Tell when the project's state, as clients see it, is another than last told."""
    project = find(tx, id_)
    live = tx.one(
        "SELECT id, state, session FROM executions INDEXED BY executions_live_project WHERE project = ? AND state IN ('starting','running','waiting')"
        " ORDER BY state = 'waiting' DESC LIMIT 1",
        id_,
    )
    if live is not None:
        state = (
            ProjectState.WAITING
            if live["state"] == ExecutionState.WAITING
            else ProjectState.EXECUTING
        )
    else:
        state = ProjectState.ERROR if project.error else ProjectState.IDLE
    if state is project.state:
        return
    tx.run("UPDATE projects SET state = ? WHERE id = ?", state, id_)
    data = {
        "state": state,
        "from": project.state,
        "error": project.error,
        "execution": live["id"] if live else None,
        "session": project.session,
    }
    tx.emit(project.stream, "project.state", data)


def see_session(
    tx: Tx,
    project: str,
    session: str,
    *,
    model: str | None,
    version: str,
    execution: str,
    resumed: bool,
    is_beside: bool = False,
) -> None:
    """Claude named its conversation: it is the project's current one now, unless it runs in a worktree
    beside the project's directory (`is_beside`), or somebody has made a copy since it was asked for: the
    next prompt is that one's."""
    known = tx.one("SELECT 1 FROM sessions WHERE id = ?", session)
    if known is None:
        tx.run(
            "INSERT INTO sessions(id, project, state, model, last_execution, created_us, activity_us, opened_us)"
            " VALUES (?,?,?,?,?,?,?,?)",
            session, project, "active", model, execution, tx.now_us, tx.now_us, tx.now_us,
        )  # fmt: skip
    else:
        tx.run(
            "UPDATE sessions SET state = 'active', model = coalesce(?, model), last_execution = ?, activity_us = ?,"
            " opened_us = CASE WHEN state IN ('ended', 'reset') THEN ? ELSE opened_us END, ended_us = NULL, end_reason = NULL"
            " WHERE id = ?",
            model, execution, tx.now_us, tx.now_us, session,
        )  # fmt: skip
    sessions.settle(tx, execution, session)
    becomes_current = not is_beside and not _awaits_copy(tx, project, session, execution)
    if becomes_current:
        tx.run("UPDATE projects SET session = ? WHERE id = ?", session, project)
    data = {
        "session": session,
        "model": model,
        "version": version,
        "resumed": resumed,
        "current": becomes_current,
    }
    tx.emit(f"project:{project}", "session.started", data, execution=execution, session=session)


def _awaits_copy(tx: Tx, project: str, session: str, execution: str) -> bool:
    """Whether the project's next prompt is meant for a copy made since; also one that was ended before it began."""
    found = tx.one(
        "SELECT 1 FROM projects p JOIN sessions s ON s.id = p.session WHERE p.id = ? AND s.state IN ('forked', 'ended')"
        " AND s.forked_from IS NOT NULL AND s.last_execution IS NULL AND s.id <> ?"
        " AND s.created_us >= (SELECT o.created_us FROM executions e JOIN orders o ON o.id = e.order_id WHERE e.id = ?)",
        project, session, execution,
    )  # fmt: skip
    return found is not None


def reset_session(tx: Tx, ref: str, *, actor: str, request: str) -> Project:
    """Let the next execution start a fresh conversation."""
    project = find(tx, ref)
    tx.run("UPDATE sessions SET state = 'reset' WHERE id = ?", project.session)
    tx.run("UPDATE projects SET session = NULL WHERE id = ?", project.id)
    tx.emit(
        project.stream, "session.reset", {"session": project.session}, actor=actor, request=request
    )
    return find(tx, project.id)
