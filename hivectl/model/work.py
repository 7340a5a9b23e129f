"""Executions and work orders: their states, the allowed moves, and how they end.

Two state machines, never mixed (the third, of tasks, comes with tasks). Each is one table that the
store enforces, tests walk and the docs draw.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

from hivectl.model.errors import ExitCode


class ExecutionState(StrEnum):
    """Where one attempt by one Claude process stands."""

    PENDING = "pending"
    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    LOST = "lost"


class OrderState(StrEnum):
    """Where an entry of the queue stands."""

    QUEUED = "queued"
    CLAIMED = "claimed"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DEAD = "dead"


_ENDS = frozenset(
    {
        ExecutionState.COMPLETED,
        ExecutionState.FAILED,
        ExecutionState.CANCELLED,
        ExecutionState.TIMED_OUT,
        ExecutionState.LOST,
    }
)

EXECUTION_MOVES: dict[ExecutionState, frozenset[ExecutionState]] = {
    ExecutionState.PENDING: frozenset(
        {ExecutionState.STARTING, ExecutionState.FAILED, ExecutionState.CANCELLED}
    ),
    ExecutionState.STARTING: frozenset({ExecutionState.RUNNING, ExecutionState.WAITING}) | _ENDS,
    ExecutionState.RUNNING: frozenset({ExecutionState.WAITING}) | _ENDS,
    ExecutionState.WAITING: frozenset({ExecutionState.RUNNING}) | _ENDS,
    **{state: frozenset() for state in ExecutionState if state in _ENDS},
}

ORDER_MOVES: dict[OrderState, frozenset[OrderState]] = {
    OrderState.QUEUED: frozenset({OrderState.CLAIMED, OrderState.CANCELLED}),
    OrderState.CLAIMED: frozenset(
        {
            OrderState.QUEUED,
            OrderState.COMPLETED,
            OrderState.FAILED,
            OrderState.CANCELLED,
            OrderState.DEAD,
        }
    ),
    # What was given up a person may queue again.
    OrderState.COMPLETED: frozenset(),
    OrderState.FAILED: frozenset({OrderState.QUEUED}),
    OrderState.CANCELLED: frozenset({OrderState.QUEUED}),
    OrderState.DEAD: frozenset({OrderState.QUEUED}),
}

ORDER_ENDS = frozenset(
    {OrderState.COMPLETED, OrderState.FAILED, OrderState.CANCELLED, OrderState.DEAD}
)


class Hold(StrEnum):
    """Why a queued order may not be claimed yet, beside its lane and the slots."""

    AFTER = "after"
    NOT_BEFORE = "not_before"
    RETRY = "retry"
    USAGE_LIMIT = "usage_limit"


EXECUTION_ENDS = _ENDS
LIVE_STATES = frozenset({ExecutionState.STARTING, ExecutionState.RUNNING, ExecutionState.WAITING})


class Cause(StrEnum):
    """Why an execution ended: a closed list."""

    OK = "ok"
    CLAUDE_ERROR = "claude_error"
    MAX_TURNS = "max_turns"
    BUDGET = "budget"
    USAGE_LIMIT = "usage_limit"
    API_ERROR = "api_error"
    PROMPT_TOO_LONG = "prompt_too_long"
    CLAUDE_NOT_FOUND = "claude_not_found"
    AUTH = "auth"
    SPAWN_FAILED = "spawn_failed"
    NO_OUTPUT = "no_output"
    HANG_AFTER_RESULT = "hang_after_result"
    OUTPUT_LIMIT = "output_limit"
    KILLED = "killed"
    SHUTDOWN = "shutdown"
    TIMEOUT = "timeout"
    SHIM_LOST = "shim_lost"
    HOST_REBOOTED = "host_rebooted"
    STORAGE_FULL = "storage_full"
    BAD_OUTPUT = "bad_output"
    LEASE = "lease"
    INTERNAL = "internal"


EXIT_BY_STATE: dict[ExecutionState, ExitCode] = {
    ExecutionState.COMPLETED: ExitCode.OK,
    ExecutionState.FAILED: ExitCode.FAILED,
    ExecutionState.CANCELLED: ExitCode.CANCELLED,
    ExecutionState.TIMED_OUT: ExitCode.TIMED_OUT,
    ExecutionState.LOST: ExitCode.LOST,
    ExecutionState.WAITING: ExitCode.WAITS,
}


def exit_code_of(state: ExecutionState, cause: str | None) -> ExitCode:
    """What a CLI that watched an execution exits with."""
    if state is ExecutionState.FAILED and cause in {
        Cause.BUDGET,
        Cause.USAGE_LIMIT,
        Cause.OUTPUT_LIMIT,
    }:
        return ExitCode.LIMIT
    return EXIT_BY_STATE.get(state, ExitCode.INTERNAL)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a prompt is to be executed; every field None or empty means: the project's, then Claude's default."""

    model: str | None = None
    fallback_model: str | None = None
    permission_mode: str | None = None
    allowed_tools: tuple[str, ...] = ()
    disallowed_tools: tuple[str, ...] = ()
    append_system_prompt: str | None = None
    system_prompt: str | None = None
    max_turns: int | None = None
    effort: str | None = None
    timeout_s: float | None = None
    no_output_timeout_s: float | None = None
    max_budget_usd: float | None = None
    max_total_tokens: int | None = None
    json_schema: dict[str, Any] | None = None
    add_dirs: tuple[str, ...] = ()
    partials: bool = False


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What an execution used, by Claude's own figures; money is an estimate in US dollars."""

    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_creation_tokens: int = 0
    cost_usd: float = 0.0
    duration_ms: int = 0


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How an execution ended, with the evidence."""

    state: ExecutionState
    cause: Cause
    message: str = ""
    exit_code: int | None = None
    signal: int | None = None
    subtype: str | None = None
    result: str | None = None
    structured: Any = None
    stderr: str = ""
    resets_at: int | None = None
    survivors: int = 0
    is_session_lost: bool = False
    """Claude no longer has the conversation that was to be continued."""
    is_session_taken: bool = False
    """Claude has a conversation of the id already that a new one was to have."""
    is_final: bool = False
    """Whoever did it says that another attempt is of no use."""
    usage: Usage = msgspec.field(default_factory=Usage)


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An entry of the queue: do this prompt once; retries belong to it."""

    id: str
    project: str
    lane: str
    state: OrderState
    priority: str
    rank: int
    attempt: int
    prompt: str
    prompt_uuid: str
    session: str
    fork: bool
    options: dict[str, Any]
    actor: str
    created_us: int
    pool: str
    hold: Hold | None
    account: str
    retries: int
    retry_count: int
    not_before_us: int | None
    on_usage_limit: str | None
    resumptions: int
    is_idempotent: bool
    message: str
    ended_us: int | None


class Execution(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt by one process, as stored. Times in microseconds since the epoch."""

    id: str
    order_id: str
    project: str
    lane: str
    process: str | None
    state: ExecutionState
    attempt: int
    session: str | None
    resume: bool
    fork_from: str | None
    model: str | None
    pid: int | None
    trusted: bool
    actor: str
    options: dict[str, Any]
    verdict: dict[str, Any] | None
    evidence: dict[str, Any]
    stalled: str | None
    retrying: str | None
    stop_mode: str | None
    stop_reason: str | None
    stop_by: str | None
    stop_note: str | None
    applied_end: int
    output_start: int
    """Where its part of the process's output begins; above 0 the process has carried others before."""
    waiting_since_us: int | None
    waited_us: int
    cause: str | None
    message: str
    exit_code: int | None
    signal: int | None
    subtype: str | None
    result: str | None
    structured: Any
    stderr: str
    resets_at: int | None
    survivors: int
    usage: dict[str, Any]
    cost_usd: float
    created_us: int
    started_us: int | None
    ended_us: int | None
    worker: str | None
    wants_slot: int | None
    cost_is_estimate: bool = False
    """Claude did not live to state all of it: part was worked out from its messages."""

    @property
    def stream(self) -> str:
        """Where its events are."""
        return f"project:{self.project}"

    @property
    def is_outside(self) -> bool:
        """A worker outside carries it: no process of ours."""
        return self.process is None and self.state in LIVE_STATES
