"""Every error a person or program can meet: one table, one exception.

Names are a contract: never renamed, never reused. The wire, REST, exit codes and the reference page
derive from TABLE.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class ExitCode(IntEnum):
    """What a command of the CLI exits with."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NO_DAEMON = 3
    NOT_ALLOWED = 4
    NOT_FOUND = 5
    CONFLICT = 6
    TIMED_OUT = 7
    WAITS = 8
    LIMIT = 9
    NO_COMMON_PROTOCOL = 10
    LOST = 11
    CANCELLED = 12
    INTERNAL = 125
    INTERRUPTED = 130


EXIT_MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "completed",
    ExitCode.FAILED: "the execution failed",
    ExitCode.USAGE: "the command or a value in it is wrong",
    ExitCode.NO_DAEMON: "no daemon answers",
    ExitCode.NOT_ALLOWED: "not allowed",
    ExitCode.NOT_FOUND: "not found",
    ExitCode.CONFLICT: "conflict or busy",
    ExitCode.TIMED_OUT: "timed out",
    ExitCode.WAITS: "waits for a person and nobody is there to ask",
    ExitCode.LIMIT: "a budget or usage limit was reached",
    ExitCode.NO_COMMON_PROTOCOL: "client and daemon share no protocol version",
    ExitCode.LOST: "the execution was lost: its end is not known",
    ExitCode.CANCELLED: "the execution was cancelled",
    ExitCode.INTERNAL: "hivectl itself failed",
    ExitCode.INTERRUPTED: "interrupted",
}


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One row of TABLE."""

    rpc: int
    http: int
    exit: ExitCode
    retryable: bool
    meaning: str
    hint: str


_E = ExitCode

# A table is read by its columns.
# fmt: off
TABLE: dict[str, ErrorKind] = {
    "PARSE_ERROR": ErrorKind(-32700, 400, _E.USAGE, False, "The message is not JSON.", "Send one JSON object per text frame, in UTF-8."),
    "INVALID_REQUEST": ErrorKind(-32600, 400, _E.USAGE, False, "The message is JSON but no request.", "See the protocol page for the shape of a request."),
    "METHOD_NOT_FOUND": ErrorKind(-32601, 404, _E.USAGE, False, "There is no such method.", "`schema.get` lists the methods." ),
    "INVALID_PARAMS": ErrorKind(-32602, 422, _E.USAGE, False, "A parameter is missing, unknown or wrong.", "See `details.errors` for each one."),
    "INTERNAL": ErrorKind(-32603, 500, _E.INTERNAL, False, "A fault of hivectl.", "Look for the incident in `hivectl daemon logs`."),
    "UNAUTHENTICATED": ErrorKind(-32001, 401, _E.NOT_ALLOWED, False, "No valid credential was given.", "Use the local socket, or give the token of the token file."),
    "CERTIFICATE_UNTRUSTED": ErrorKind(-32001, 401, _E.NOT_ALLOWED, False, "The daemon's TLS certificate is not trusted here.", "Name a file with the certificate to trust in HIVECTL_CA_FILE."),
    "TOKEN_EXPIRED": ErrorKind(-32001, 401, _E.NOT_ALLOWED, False, "The token's time is over.", "Get a new token." ),
    "TOKEN_REVOKED": ErrorKind(-32001, 401, _E.NOT_ALLOWED, False, "The token was revoked.", "Get a new token." ),
    "FORBIDDEN": ErrorKind(-32002, 403, _E.NOT_ALLOWED, False, "This caller may not do that.", "Ask somebody who holds the scope named in `details`."),
    "SELF_APPROVAL_DENIED": ErrorKind(-32002, 403, _E.NOT_ALLOWED, False, "An execution may not approve, change policies or kill on its own behalf.", "A person must decide, from a terminal outside the execution."),
    "ORIGIN_DENIED": ErrorKind(-32002, 403, _E.NOT_ALLOWED, False, "The request's Origin or Host is not allowed.", "Use 127.0.0.1 or localhost with the daemon's port, or set `listen.allowed_hosts`."),
    "PROJECT_NOT_FOUND": ErrorKind(-32004, 404, _E.NOT_FOUND, False, "No such project.", "`hivectl project list` shows the projects."),
    "EXECUTION_NOT_FOUND": ErrorKind(-32004, 404, _E.NOT_FOUND, False, "No such execution.", "`hivectl ps -a` shows the executions."),
    "WORK_ORDER_NOT_FOUND": ErrorKind(-32004, 404, _E.NOT_FOUND, False, "No such work order.", "`hivectl ps -a` shows the executions with their work orders."),
    "WORKER_NOT_FOUND": ErrorKind(-32004, 404, _E.NOT_FOUND, False, "No such worker.", "`hivectl worker list` shows the workers."),
    "SESSION_NOT_FOUND": ErrorKind(-32004, 404, _E.NOT_FOUND, False, "No such session.", "`hivectl session list` shows the sessions."),
    "APPROVAL_NOT_FOUND": ErrorKind(-32004, 404, _E.NOT_FOUND, False, "No such approval.", "`hivectl inbox` shows what waits." ),
    "QUESTION_NOT_FOUND": ErrorKind(-32004, 404, _E.NOT_FOUND, False, "No such question.", "`hivectl inbox` shows what waits."),
    "CHAT_NOT_FOUND": ErrorKind(-32004, 404, _E.NOT_FOUND, False, "No such thread, or no such message in it.", "`hivectl chat` shows the threads."),
    "POLICY_NOT_FOUND": ErrorKind(-32004, 404, _E.NOT_FOUND, False, "No such policy.", "`hivectl policy list` shows the policies."),
    "WORKTREE_NOT_FOUND": ErrorKind(-32004, 404, _E.NOT_FOUND, False, "No such worktree.", "`hivectl worktree list` shows the worktrees."),
    "MESSAGE_NOT_FOUND": ErrorKind(-32004, 404, _E.NOT_FOUND, False, "No such message in the log.", "`hivectl tail` shows what the log holds."),
    "STREAM_NOT_FOUND": ErrorKind(-32004, 404, _E.NOT_FOUND, False, "No such stream.", "Streams are project:<id>, system, inbox and *."),
    "INVALID_PATH": ErrorKind(-32005, 422, _E.USAGE, False, "The path cannot be a project.", "Give an existing directory of your own below your home."),
    "PROJECT_NESTING": ErrorKind(-32005, 422, _E.USAGE, False, "The path lies inside or above another project.", "Use the existing project, or delete it first."),
    "PATH_CHANGED": ErrorKind(-32005, 422, _E.CONFLICT, False, "Another directory stands where the project was registered.", "Check what happened to it, then `hivectl project update NAME --path DIR`."),
    "PATH_NOT_ALLOWED": ErrorKind(-32005, 422, _E.NOT_ALLOWED, False, "The path lies outside the allowed roots.", "Add its parent to `projects.roots` in the configuration."),
    "WORKTREE_UNAVAILABLE": ErrorKind(-32005, 422, _E.CONFLICT, False, "A worktree cannot be had or used here.", "See `details.reason`; without --worktree the prompt runs in the project's own directory."),
    "PROJECT_EXISTS": ErrorKind(-32009, 409, _E.CONFLICT, False, "A project of that name or path exists.", "Choose another name with --name."),
    "VERSION_CONFLICT": ErrorKind(-32009, 409, _E.CONFLICT, True, "It changed since you read it.", "Read it again and decide anew."),
    "ALREADY_DECIDED": ErrorKind(-32009, 409, _E.CONFLICT, False, "Somebody has decided it already.", "`hivectl inbox` shows what still waits."),
    "MERGE_CONFLICT": ErrorKind(-32009, 409, _E.CONFLICT, False, "Both sides changed the same lines; nothing was merged.", "Merge by hand, or let a run in the worktree's branch mend it; `details.files` names them."),
    "MERGE_REFUSED": ErrorKind(-32009, 409, _E.CONFLICT, False, "The changes cannot be taken over as things stand; nothing was touched.", "See `details.reason`, mend it and accept again."),
    "UNSAVED_WORK": ErrorKind(-32009, 409, _E.CONFLICT, False, "Work would be lost.", "Look with `hivectl execution diff`; accept it, or discard it with --force."),
    "INVALID_STATE": ErrorKind(-32009, 409, _E.CONFLICT, False, "That step is not allowed in this state.", "See `details.allowed`."),
    "LEASE_LOST": ErrorKind(-32009, 409, _E.CONFLICT, False, "The worker does not carry that execution any more; what it sends of it is dropped.", "Stop that work. What became of it: `hivectl describe ID`."),
    "IDEMPOTENCY_MISMATCH": ErrorKind(-32009, 409, _E.CONFLICT, False, "The idempotency key was used for a different request.", "Use a new key."),
    "SESSION_IN_USE": ErrorKind(-32009, 409, _E.CONFLICT, True, "An execution is using that session.", "Wait for it, or start a new session with --new."),
    "PROJECT_BUSY": ErrorKind(-32010, 409, _E.CONFLICT, True, "The project is executing.", "Leave it in the queue (if_busy=queue), wait, or kill the execution."),
    "QUEUE_FULL": ErrorKind(-32010, 503, _E.CONFLICT, True, "The queue holds as many work orders as it may.", "Wait, or raise `queue.max_orders`."),
    "DRAINING": ErrorKind(-32010, 503, _E.CONFLICT, True, "The daemon is draining and takes no new work.", "Try again after its restart."),
    "PROJECT_UNTRUSTED": ErrorKind(-32011, 403, _E.NOT_ALLOWED, False, "The project is not trusted.", "Look at what it brings and run `hivectl project trust NAME`."),
    "TRUST_CHANGED": ErrorKind(-32011, 403, _E.NOT_ALLOWED, False, "What the project brings changed since it was trusted.", "Look at the change and run `hivectl project trust NAME` again."),
    "CLAUDE_NOT_FOUND": ErrorKind(-32020, 503, _E.FAILED, False, "The Claude CLI was not found.", "Install Claude Code, or set `claude.bin` / HIVECTL_CLAUDE_BIN; `hivectl doctor` checks it."),
    "CLAUDE_AUTH": ErrorKind(-32020, 503, _E.FAILED, False, "Claude is not logged in.", "Run `claude` once and log in, or set ANTHROPIC_API_KEY for the daemon."),
    "CLAUDE_VERSION": ErrorKind(-32020, 503, _E.FAILED, False, "The Claude CLI is too old.", "Update Claude Code (`claude update`)."),
    "SPAWN_FAILED": ErrorKind(-32020, 503, _E.FAILED, True, "The process could not be started.", "See `details` and `hivectl doctor`."),
    "SANDBOX_UNAVAILABLE": ErrorKind(-32020, 503, _E.FAILED, False, "The wanted sandbox is not available here.", "`hivectl doctor` says what it needs."),
    "BUDGET_EXCEEDED": ErrorKind(-32021, 402, _E.LIMIT, False, "The budget is used up.", "Raise the budget." ),
    "EXECUTION_TIMEOUT": ErrorKind(-32021, 504, _E.TIMED_OUT, False, "The execution took longer than it may.", "Give it more time with --timeout."),
    "WAIT_TIMEOUT": ErrorKind(-32021, 504, _E.TIMED_OUT, True, "The wait took longer than asked for; the execution goes on.", "Wait again, with a longer --timeout."),
    "OUTPUT_LIMIT": ErrorKind(-32021, 413, _E.LIMIT, False, "The execution wrote more than it may.", "Raise `execution.max_output_bytes`."),
    "PROCESS_NOT_FOUND": ErrorKind(-32021, 404, _E.NOT_FOUND, False, "There is no process to act on.", "It may have ended; see `hivectl ps -a`."),
    "RATE_LIMITED": ErrorKind(-32029, 429, _E.LIMIT, True, "Too many requests.", "Slow down; see `retry_after_ms`." ),
    "CONNECTION_LIMIT": ErrorKind(-32029, 503, _E.LIMIT, True, "Too many connections.", "Close some, or raise `limits.connections`."),
    "RESOURCE_LIMIT": ErrorKind(-32029, 429, _E.LIMIT, False, "A limit was reached.", "See `details.limit` for its setting." ),
    "TOO_LARGE": ErrorKind(-32029, 413, _E.USAGE, False, "The message or value is too large.", "See `details.limit`." ),
    "UNRECOVERABLE_POSITION": ErrorKind(-32030, 410, _E.CONFLICT, False, "The log no longer holds that position.", "Read from `details.next` on."),
    "SHUTTING_DOWN": ErrorKind(-32050, 503, _E.NO_DAEMON, True, "The daemon is stopping.", "Try again after its restart." ),
    "STORAGE_FULL": ErrorKind(-32050, 507, _E.INTERNAL, True, "The disk is full; nothing written so far is lost.", "Free some space: `hivectl health` shows what hivectl uses. Work goes on by itself then."),
    "STORAGE_ERROR": ErrorKind(-32050, 500, _E.INTERNAL, False, "The storage failed.", "`hivectl doctor` checks it." ),
    "UNAVAILABLE": ErrorKind(-32050, 503, _E.NO_DAEMON, True, "No daemon answers.", "Start one with `hivectl daemon start`."),
    "CONFIG_INVALID": ErrorKind(-32602, 422, _E.USAGE, False, "The configuration is wrong.", "Mend the named key; `hivectl config show --origin` tells where it comes from."),
    "PROTOCOL_MISMATCH": ErrorKind(-32600, 400, _E.NO_COMMON_PROTOCOL, False, "Client and daemon share no protocol version.", "Update the older one; `hivectl daemon restart` after an upgrade."),
}
# fmt: on


class HiveError(Exception):
    """An error with a code of TABLE: what happened, why, and what to do next.

    `details` is JSON-ready and free of secrets. `hint` defaults to the table's.
    """

    def __init__(
        self,
        code: str,
        message: str = "",
        *,
        hint: str = "",
        retry_after_ms: int | None = None,
        details: dict[str, Any] | None = None,
    ) -> None:
        kind = TABLE[code]
        self.code = code
        self.message = message or kind.meaning
        self.hint = hint or kind.hint
        self.retry_after_ms = retry_after_ms
        self.details = details or {}
        super().__init__(f"{code}: {self.message}")

    @property
    def kind(self) -> ErrorKind:
        """The row of TABLE."""
        return TABLE[self.code]
