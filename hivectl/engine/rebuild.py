"""A new database from the log, after the old one was found damaged and set aside.

What the log tells is restored: projects with their trust, executions (ended, live and waiting in the
queue, with their prompts), conversations, pending approvals and questions, threads, rules. What it does not
tell is named in the result, so that the user can be told: values of environment variables, idempotency
keys, the audit chain.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

from hivectl.engine import requeue
from hivectl.journal import blobs, reader
from hivectl.journal.record import Record
from hivectl.journal.writer import Journal, StreamLog
from hivectl.kit.clock import parse_time_us
from hivectl.kit.ids import make_uuid
from hivectl.model.project import Trust
from hivectl.model.work import EXECUTION_ENDS, LIVE_STATES, ExecutionState, Hold
from hivectl.model.worker import LOCAL_POOL
from hivectl.model.worktree import worktree_of
from hivectl.store import chats, lanes, people, questions, rows, usage, work, worktrees
from hivectl.store.database import Database, Tx
from hivectl.store.usage import Told

PAGE = 2000


class Rebuilt(msgspec.Struct):
    """What came back, and what did not."""

    projects: int = 0
    executions: int = 0
    queued: int = 0
    not_restored: list[str] = msgspec.field(default_factory=list)


class _Story(msgspec.Struct):
    """A project as its stream tells it."""

    project: dict[str, Any] = msgspec.field(default_factory=dict)
    is_deleted: bool = False
    trust_hash: str | None = None
    created: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    states: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    prompts: dict[str, tuple[str, str]] = msgspec.field(default_factory=dict)
    usage: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    spend: list[Told] = msgspec.field(default_factory=list)
    sessions: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    session_of: dict[str, str] = msgspec.field(default_factory=dict)
    approvals: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    worktrees: dict[str, tuple[dict[str, Any], str, str]] = msgspec.field(default_factory=dict)
    """Its last event, with the execution and the actor of the first."""
    messages: list[tuple[dict[str, Any], str | None, int]] = msgspec.field(default_factory=list)
    questions: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    orders: dict[str, dict[str, Any]] = msgspec.field(default_factory=dict)
    """The last that was told of each work order."""
    follows: list[tuple[str, list[tuple[str, int]]]] = msgspec.field(default_factory=list)
    queued: requeue.QueueTold = msgspec.field(default_factory=requeue.QueueTold)

    def prompt_of(self, execution: str) -> tuple[str, str] | None:
        """Its prompt, or that of the attempt it follows."""
        for _ in range(len(self.created) + 1):
            if execution in self.prompts:
                return self.prompts[execution]
            execution = self.created.get(execution, {}).get("follows") or ""
        return None


async def rebuild(db: Database, journal: Journal) -> Rebuilt:
    """Fill the empty database from every stream of the journal."""
    rebuilt = Rebuilt()
    logs = _open_all(journal, rebuilt)
    newest = max((log.last_outbox for log in logs.values()), default=0)
    # Numbers of events go on: smaller ones would be taken for events the log has already.
    await db.write(
        lambda tx: tx.run("INSERT INTO sqlite_sequence(name, seq) VALUES ('outbox', ?)", newest)
    )
    rules: list[dict[str, Any]] = []
    registered: dict[str, dict[str, Any]] = {}
    queued = requeue.QueueTold()
    if "system" in logs:
        rules, registered = await asyncio.to_thread(_system, logs["system"], queued)
    await db.write(lambda tx: requeue.restore(tx, queued))
    for stream, log in logs.items():
        if not stream.startswith("project:"):
            continue
        try:
            story = await asyncio.to_thread(_read, log)
            story.queued = queued
            # Retention may have taken the beginning of its log; `system` tells of its registration too.
            story.project = {**registered.get(stream.removeprefix("project:"), {}), **story.project}
            if story.project and not story.is_deleted:
                await db.write(lambda tx, s=story: _restore(tx, s, rebuilt))  # type: ignore[misc]
        except _UNREADABLE as exc:
            rebuilt.not_restored.append(f"{stream}: {type(exc).__name__}: {exc}")
    await db.write(lambda tx: _restore_rules(tx, rules))
    await db.write(requeue.settle_pauses)
    rebuilt.not_restored += [
        "idempotency keys",
        "what was to be told (notifications and webhooks)",
        "places that `hivectl queue move` gave",
        "the audit chain (it begins anew)",
    ]
    return rebuilt


_UNREADABLE = (OSError, ValueError, KeyError, TypeError, sqlite3.IntegrityError)
"""What one damaged stream may raise; the others are restored all the same."""


def _open_all(journal: Journal, rebuilt: Rebuilt) -> dict[str, StreamLog]:
    logs: dict[str, StreamLog] = {}
    for stream in journal.streams():
        try:
            logs[stream] = journal.open(stream)
        except _UNREADABLE as exc:
            rebuilt.not_restored.append(f"{stream}: {exc}")
    return logs


def _records(log: StreamLog) -> Iterator[Record]:
    after = 0
    while page := reader.read_after(log, after, PAGE):
        yield from page
        after = page[-1].seq


def _read(log: StreamLog) -> _Story:
    story = _Story()
    for record in _records(log):
        if record.type not in _TELLING:
            continue
        data = msgspec.json.decode(record.data)
        if record.type == "message":
            if data.get("kind") == "prompt" and record.execution:
                with suppress(*_UNREADABLE):  # its execution is told as not restored
                    story.prompts[record.execution] = _prompt(log, data)
        else:
            _tell(story, record, data)
    return story


def _prompt(log: StreamLog, data: dict[str, Any]) -> tuple[str, str]:
    raw = data.get("raw")
    if raw is None:
        raw = msgspec.json.decode(blobs.read_blob(log, data["blob"], 0, data["size"]))
    return raw["message"]["content"], raw.get("uuid") or make_uuid()


_TELLING = frozenset(
    {
        "project.created", "project.updated", "project.deleted", "project.trust_changed", "execution.created", "execution.state",
        "execution.ended", "message", "session.started", "session.forked", "session.ended", "session.reset", "usage.updated", "approval.requested",
        "approval.decided", "approval.expired", "work_order.state", "worktree.state", "chat.message", "question.asked",
        "question.answered", "question.expired",
    }
)  # fmt: skip


def _tell(story: _Story, record: Record, data: dict[str, Any]) -> None:
    execution = record.execution or ""
    match record.type:
        case "project.created" | "project.updated":
            story.project = {"created_us": record.ts, **data}
            story.trust_hash = data.get("trust_hash")
        case "project.deleted":
            story.is_deleted = True
        case "project.trust_changed":
            story.trust_hash = data["hash"] if data["trust"] == Trust.TRUSTED else None
        case "execution.created":
            story.created[execution] = {**data, "ts": record.ts, "actor": record.actor or ""}
        case "execution.state" | "execution.ended":
            _tell_state(story, execution, {**data, "ts": record.ts})
        case "usage.updated":
            story.usage[execution] = data["usage"]
            told = Told(record.ts, execution, data.get("added"), bool(data.get("is_estimate")))
            story.spend.append(told)
        case "work_order.state":
            before = story.orders.get(data["work_order"], {})
            story.orders[data["work_order"]] = {**before, **data, "ts": record.ts}
        case "session.started" | "session.forked" | "session.ended" | "session.reset":
            _tell_session(story, record, data)
        case "worktree.state":
            first = (data, execution, record.actor or "system")
            _, begun_by, actor = story.worktrees.get(data["worktree"], first)
            story.worktrees[data["worktree"]] = (data, begun_by, actor)
        case _:
            _tell_people(story, record, data)


def _tell_people(story: _Story, record: Record, data: dict[str, Any]) -> None:
    if record.type == "chat.message":
        story.messages.append((data, record.execution, record.ts))
    elif record.type.startswith("question."):
        story.questions[data["id"]] = data
    else:
        story.approvals[data["id"]] = data


def _tell_session(story: _Story, record: Record, data: dict[str, Any]) -> None:
    execution = record.execution or ""
    match record.type:
        case "session.started":
            story.sessions[data["session"]] = {
                "model": data.get("model"),
                "execution": execution,
                "from": story.sessions.get(data["session"], {}).get("from"),
                "ts": record.ts,
            }
            story.session_of[execution] = data["session"]
            is_beside = worktree_of(story.created.get(execution, {}).get("lane", "")) is not None
            if data.get("current", not is_beside):
                story.project["session"] = data["session"]
        case "session.forked":
            story.sessions[data["session"]] = {**data, "execution": None, "ts": record.ts}
            story.project["session"] = data["session"]
        case "session.ended":
            if session := story.sessions.get(data["session"]):
                session["ended_us"], session["end_reason"] = record.ts, data["reason"]
        case _:
            story.project["session"] = None


def _state_of(session: dict[str, Any]) -> str:
    if "ended_us" in session:
        return "ended"
    return "forked" if session["execution"] is None else "idle"


def _tell_state(story: _Story, execution: str, data: dict[str, Any]) -> None:
    told = {**story.states.get(execution, {}), **data}
    if data["state"] == ExecutionState.RUNNING:
        told.setdefault("started_us", data["ts"])
    story.states[execution] = told


def _restore(tx: Tx, story: _Story, rebuilt: Rebuilt) -> None:
    p = story.project
    tx.run(
        "INSERT INTO projects(id, name, path, dev, ino, trust_hash, defaults, env, version, session, created_us, activity_us)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,?)",
        p["id"], p["name"], p["path"], p["dev"], p["ino"], story.trust_hash, rows.dump(p["defaults"]), "{}", p["version"],
        p.get("session"), p["created_us"], tx.now_us,
    )  # fmt: skip
    tx.run("INSERT INTO lanes(lane, project) VALUES (?, ?)", p["id"], p["id"])
    rebuilt.projects += 1
    if p.get("env_names"):
        rebuilt.not_restored.append(
            f"values of {', '.join(p['env_names'])} in the environment of project {p['name']}"
        )
    for id_, session in story.sessions.items():
        tx.run(
            "INSERT INTO sessions(id, project, state, model, last_execution, created_us, activity_us, opened_us, ended_us, end_reason,"
            " forked_from) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
            id_, p["id"], _state_of(session), session["model"], session["execution"], session["ts"],
            session["ts"], session["ts"], session.get("ended_us"), session.get("end_reason"), session.get("from"),
        )  # fmt: skip
    for told, execution, actor in story.worktrees.values():
        worktrees.restore(tx, p["id"], told, execution=execution, actor=actor)
    for id_, created in story.created.items():
        _restore_execution(tx, story, id_, created, rebuilt)
    requeue.restore_needs(tx, story.follows)
    usage.restore(tx, p["id"], story.spend)
    # What was counted at each end, counted again from what the log still has.
    tx.run(
        "UPDATE projects SET (executions, cost_usd, input_tokens, output_tokens) = (SELECT count(*), total(cost_usd),"
        " coalesce(sum(usage ->> 'input_tokens'), 0), coalesce(sum(usage ->> 'output_tokens'), 0) FROM executions e"
        " WHERE e.project = projects.id AND e.ended_us IS NOT NULL AND (e.process IS NOT NULL OR e.started_us IS NOT NULL)) WHERE id = ?",
        p["id"],
    )  # fmt: skip
    tx.run(
        "UPDATE sessions SET (executions, cost_usd) = (SELECT count(*), total(cost_usd) FROM executions e"
        " WHERE e.session = sessions.id AND e.ended_us IS NOT NULL) WHERE project = ?",
        p["id"],
    )  # fmt: skip
    live = {id_ for id_, told in story.states.items() if told["state"] in LIVE_STATES}
    for approval in story.approvals.values():
        if approval["execution"] in live and approval["state"] in ("pending", "decided"):
            people.restore(tx, approval)
    chats.restore(tx, p["id"], story.messages)
    for question in story.questions.values():
        is_pending, of = question["state"] == "pending", question["execution"]
        if (is_pending and of is None) or (
            of in live and (is_pending or question["claude_request"])
        ):
            questions.restore(tx, question)
    # What was answered and had no slot yet wants one again, else it would wait for ever.
    for row in tx.all("SELECT id FROM executions WHERE project = ? AND state = 'waiting'", p["id"]):
        work.go_on(tx, row["id"])


def _restore_execution(
    tx: Tx, story: _Story, id_: str, created: dict[str, Any], rebuilt: Rebuilt
) -> None:
    last = story.states.get(id_, {})
    state = ExecutionState(last.get("state", ExecutionState.PENDING))
    found = story.prompt_of(id_)
    if found is None:
        rebuilt.not_restored.append(f"execution {id_}: its prompt is not in the log any more")
        return
    prompt, uuid = found
    project = story.project["id"]
    order = story.orders.get(created["work_order"], {})
    order_state = requeue.state_of(state, order)
    hold = requeue.hold_of(created, order, state, story.queued, project)
    not_before = created.get("retry_at") or created.get("not_before")
    rank = created["ts"] - work.BOOST_US.get(created.get("priority", "normal"), 0)
    options = rows.dump(created.get("options", {}))
    pool = created.get("pool") or LOCAL_POOL
    # Without it a prompt for a worktree would run in the project's own directory.
    lane = created.get("lane") or lanes.lane_of(project, pool)
    account = created.get("account") or ""
    lanes.ensure(tx, lane, project, pool=pool, account=account)
    # Attempts come in their order: the newest says what the order is now, and keeps its first place.
    tx.run(
        "INSERT INTO orders(id, project, lane, state, priority, rank, attempt, prompt, prompt_uuid, session, fork, options, actor,"
        " created_us, pool, retries, hold, not_before_us, is_idempotent, account, on_usage_limit, message, retry_count, resumptions)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)"
        " ON CONFLICT(id) DO UPDATE SET state = excluded.state, attempt = excluded.attempt, prompt_uuid = excluded.prompt_uuid,"
        " session = excluded.session, fork = excluded.fork, hold = excluded.hold, not_before_us = excluded.not_before_us",
        created["work_order"], project, lane, order_state, created.get("priority", "normal"), rank, created["attempt"],
        prompt, uuid, created["session"], int(created.get("fork", False)), options, created["actor"], created["ts"],
        pool, created.get("retries", 0), hold, parse_time_us(not_before) if hold and not_before else None,
        int(bool(created.get("idempotent"))), account, created.get("on_usage_limit"), order.get("message") or "",
        order.get("retry_count") or 0, order.get("resumptions") or 0,
    )  # fmt: skip
    if hold is Hold.AFTER:
        needs = [(ref, 0) for ref in created.get("after", [])]
        needs += [(ref, 1) for ref in created.get("after_any", [])]
        story.follows.append((created["work_order"], needs))
    used = story.usage.get(id_, {})
    tx.run(
        "INSERT INTO executions(id, order_id, project, lane, process, state, attempt, session, resume, actor, options, cause,"
        " message, exit_code, signal, subtype, result, stderr, usage, cost_usd, pid, created_us, started_us, ended_us)"
        " VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
        id_, created["work_order"], project, lane, last.get("process"), state, created["attempt"], story.session_of.get(id_),
        0, created["actor"], options, last.get("cause"), last.get("message", ""), last.get("exit_code"), last.get("signal"),
        last.get("subtype"), last.get("result"), last.get("stderr", ""), rows.dump(used), used.get("cost_usd", 0.0),
        last.get("pid"), created["ts"], last.get("started_us"), last["ts"] if state in EXECUTION_ENDS else None,
    )  # fmt: skip
    rebuilt.executions += 1
    rebuilt.queued += state is ExecutionState.PENDING


def _system(
    log: StreamLog, queued: requeue.QueueTold
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """The rules, and the projects as they were registered; `queued` hears of the queue."""
    rules: dict[str, dict[str, Any]] = {}
    projects: dict[str, dict[str, Any]] = {}
    for record in _records(log):
        if record.type not in _OF_SYSTEM:
            continue
        data = msgspec.json.decode(record.data)
        if record.type in requeue.TELLING:
            queued.hear(record.type, data, ts=record.ts, actor=record.actor)
        elif record.type == "policy.changed":
            rules.pop(data["policy"]["id"], None)
            if data["action"] == "added":
                rules[data["policy"]["id"]] = data["policy"]
        elif record.type == "project.created":
            projects[data["id"]] = {"created_us": record.ts, **data}
        else:
            projects.pop(data["id"], None)
    return list(rules.values()), projects


_OF_SYSTEM = requeue.TELLING | {"policy.changed", "project.created", "project.deleted"}


def _restore_rules(tx: Tx, rules: list[dict[str, Any]]) -> None:
    for rule in rules:
        if rule["project"] is None or tx.one(
            "SELECT 1 FROM projects WHERE id = ?", rule["project"]
        ):
            tx.run(
                "INSERT INTO policies(id, position, action, tool, match, project, note, created_by, created_us,"
                " timeout_s, on_timeout) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
                rule["id"], rule["position"], rule["action"], rule["tool"], rows.dump(rule["match"]), rule["project"],
                rule["note"], rule["created_by"], tx.now_us, rule.get("timeout_s"), rule.get("on_timeout"),
            )  # fmt: skip
