"""EVENTS: every type of numbered fact, and the few ephemeral ones. The protocol page derives from it."""

from __future__ import annotations

import msgspec


class EventKind(msgspec.Struct, frozen=True):
    """One row of EVENTS. `views` are the views it shows in, beside its home stream and `*`."""

    meaning: str
    data: str
    """The fields of `data`."""
    views: frozenset[str] = frozenset()
    is_durable: bool = True


_QUEUE = frozenset({"queue"})
_INBOX = frozenset({"inbox"})

# A table is read by its columns.
# fmt: off
EVENTS: dict[str, EventKind] = {
    "project.created": EventKind("A directory was registered.", "the project"),
    "project.updated": EventKind("Name, path, defaults or environment changed.", "the project"),
    "project.state": EventKind("The project became idle, executing, waiting or error.", "state, from, error, execution, session"),
    "project.trust_changed": EventKind("Trust was given, taken, or fell because files changed.", "trust, hash" ),
    "project.deleted": EventKind("The project is gone; last event of its stream, and one of `system`.", "id, name" ),
    "execution.created": EventKind("A prompt was accepted.", "the execution in short", _QUEUE),
    "execution.state": EventKind("It moved to another state.", "state, from, attempt, process, pid, worker, waiting_for, stalled, retrying", _QUEUE),
    "execution.ended": EventKind("It ended.", "state, cause, message, exit_code, signal, subtype, result, stderr, usage, cost_usd, swept, survivors, order_state, next_execution, retry_at", _QUEUE),
    "work_order.state": EventKind("An entry of the queue moved.", "work_order, state, from, attempt, worker, hold, retry_at, cause, message, next_execution, retry_count, resumptions", _QUEUE),
    "queue.changed": EventKind("Somebody paused, resumed, moved, released or cleared, slots were scaled, or a usage limit parked an account.", "action, project, work_order, account, until, slots, ...", _QUEUE),
    "worker.state": EventKind("A worker came, went, or changed what it does.", "worker, name, status, is_draining, execution", _QUEUE),
    "usage_limit.cleared": EventKind("The work of an account may go on.", "account", _QUEUE),
    "worktree.state": EventKind("A worktree is wanted, was made, is being taken over or is gone.", "worktree, state, from, work_order, path, branch, base, tip, merged, problem"),
    "message": EventKind("One line of Claude's output, or the prompt; word for word under `raw`.", "kind, direction, text, raw | raw_b64 | blob, size"),
    "stderr": EventKind("A line Claude wrote to standard error.", "text"),
    "file.changed": EventKind("Files changed in the directory an execution works in; gathered for a second.", "changes: [path, kind (added | modified | deleted)], more"),
    "session.started": EventKind("Claude named its session.", "session, model, version, resumed, current"),
    "session.forked": EventKind("A copy of a conversation is the project's current one; its first prompt makes it.", "session, from, model"),
    "session.ended": EventKind("A conversation was ended: idle for too long, too old, or by hand.", "session, reason"),
    "session.reset": EventKind("The next execution starts a fresh conversation.", "session"),
    "usage.updated": EventKind("What an execution used grew.", "usage, cost_usd, is_estimate, added"),
    "budget.warning": EventKind("80 % of a budget are used; told once a day.", "scope, key, name, kind, used, limit, is_estimate, message, until_us", _QUEUE),
    "budget.exceeded": EventKind("A budget is used up: its runs are stopped, its work waits for the next day.", "scope, key, name, kind, used, limit, is_estimate, message, until_us", _QUEUE),
    "usage_limit.hit": EventKind("Claude reported a usage limit.", "kind, resets_at, status", _QUEUE),
    "approval.requested": EventKind("Claude asks, and a person must answer.", "the approval", _INBOX ),
    "approval.decided": EventKind("A person or a rule answered.", "the approval", _INBOX),
    "approval.expired": EventKind("Nobody needs to answer any more.", "the approval", _INBOX),
    "question.asked": EventKind("Claude (by `ask_human`) or a worker asks a person.", "the question", _INBOX),
    "question.answered": EventKind("A person answered.", "the question", _INBOX),
    "question.expired": EventKind("Nobody answered in time, or nobody needs to any more (`state`).", "the question", _INBOX),
    "chat.message": EventKind("Somebody wrote into a thread.", "the message, and its `thread`"),
    "policy.changed": EventKind("A rule was added or removed.", "action, policy"),
    "presence.joined": EventKind("A client is present in a project.", "actor, connection", is_durable=False ),
    "presence.left": EventKind("It is no longer.", "actor, connection", is_durable=False),
    "system.notice": EventKind("Something the user should know.", "code, message, hint"),
    "system.started": EventKind("The daemon started.", "version, pid, recovered"),
    "system.stopping": EventKind("The daemon stops.", "runs"),
    "audit.entry": EventKind("Somebody changed something, or was refused; with `method` `*` it stands for `count` more refusals of a minute.", "method, actor, peer, target, outcome, request, count, since" ),
    "partial": EventKind("A piece of an answer that is being written; may be dropped.", "after_seq, raw", is_durable=False),
    "stats": EventKind("Counters, every 10 seconds to who subscribed to `system`.", "see the method stats", is_durable=False),
    "connection.health": EventKind("How this connection does.", "rtt_ms, lagging, buffered_bytes", is_durable=False ),
}
# fmt: on

MESSAGE_KINDS = (
    "prompt",
    "system",
    "assistant",
    "user",
    "result",
    "control_request",
    "control_response",
    "invalid",
)
