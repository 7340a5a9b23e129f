"""What the engine needs of the outside world and cannot own: processes and the agent that runs in them.

`hivectl.procs` and `hivectl.agents` fulfil these; tests use the fakes of `hivectl.testing`, which pass
the same conformance suites.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from hivectl.model.usage import Figures
from hivectl.model.work import Options, Usage

Spool = Literal["out", "err"]


class StopMode(StrEnum):
    """How an execution is stopped (the stop ladder)."""

    INTERRUPT = "interrupt"
    TERMINATE = "terminate"
    KILL = "kill"


class StopReason(StrEnum):
    """Why the shim ended its child; kept in its exit file. EXITED: the child ended by itself."""

    EXITED = "exited"
    USER = "user"
    TIMEOUT = "timeout"
    NO_OUTPUT = "no_output"
    HANG = "hang"
    OUTPUT_LIMIT = "output_limit"
    SHUTDOWN = "shutdown"
    BUDGET = "budget"
    LEASE = "lease"


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """One child to start. Times in seconds; None means no limit."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: Path
    mark: str
    """Value of HIVECTL_EXECUTION in the environment of the child and so of every descendant."""
    interrupt_frame: bytes = b""
    """What the first rung of the stop ladder writes to stdin; empty = no such rung."""
    deadline_s: float | None = None
    no_output_s: float | None = None
    hang_s: float | None = 10.0
    """How long the child may live after its stdin was closed on purpose (`close_stdin(hang=True)`)."""
    linger_s: float = 0.5
    """How long descendants may outlive the child before they are swept."""
    keep_descendants: bool = False
    """Opt-out: leave descendants alone at a normal end. A kill sweeps all the same."""
    max_output_bytes: int | None = None
    files: dict[str, bytes] = msgspec.field(default_factory=dict)
    """Private files to write into the process directory before the start; argv names them by
    `{run_dir}/<name>`, which is replaced in argv and env values that start with it."""


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How a process ended. `code` and `signal` are both None when that cannot be known (lost)."""

    reason: StopReason
    code: int | None = None
    signal: int | None = None
    out_bytes: int = 0
    err_bytes: int = 0
    out_unflushed: bool = False
    """Output was left in the pipe because the disk stayed full."""
    swept: int = 0
    """Descendants that had to be killed."""
    denied: int = 0
    """Descendants of another user that could not be signalled."""
    shim_lost: bool = False
    host_rebooted: bool = False
    rungs: tuple[str, ...] = ()
    """Rungs of the stop ladder that were used, in order: interrupt, close, term, sweep."""


class Handle(Protocol):
    """One process, alive or ended, seen from the daemon. All offsets are bytes from the spool's start."""

    @property
    def process(self) -> str:
        """The process id `pr_...`."""
        ...

    @property
    def pid(self) -> int | None:
        """The child's pid, once known."""
        ...

    @property
    def is_stalled(self) -> bool:
        """The spool cannot be written at the moment (disk full); output waits in the pipe."""
        ...

    @property
    def is_supervised(self) -> bool:
        """Its shim cares for it; else it was lost, and the daemon does the work in its place: then output
        that is on its way when the daemon dies may be lost."""
        ...

    def read(self, spool: Spool, offset: int, limit: int) -> bytes:
        """What the spool holds from `offset` on, at most `limit` bytes; empty when there is no more yet."""
        ...

    async def wait_change(self, timeout_s: float) -> None:
        """Return when there may be more output, the stall flag changed, or the process ended; or after `timeout_s`."""
        ...

    async def write(self, frame: str, data: bytes) -> bool:
        """Write `data` to the child's stdin once per frame id, however often it is asked, also across
        daemons. True when the whole frame went into the pipe; False when stdin is closed or the child is gone."""
        ...

    async def close_stdin(self, *, hang: bool) -> None:
        """End of input. With `hang` the clock of `hang_s` starts."""
        ...

    async def set_deadline(self, seconds: float | None) -> None:
        """Replace the wall-clock deadline, counted from now; None lifts it. Returns when the shim has it."""
        ...

    async def stop(self, mode: StopMode, reason: StopReason) -> None:
        """Begin the stop ladder in the shim (or sweep at once with KILL); returns when it has begun.

        INTERRUPT is the first rung only. Asked again with a harder mode, it goes on from there."""
        ...

    @property
    def exit(self) -> Exit | None:
        """How it ended; None while it lives. When it is set, the spools are complete and synced and every
        descendant is gone (except as the Exit says)."""
        ...

    async def wait_exit(self) -> Exit:
        """Wait for the end."""
        ...

    async def aclose(self) -> None:
        """Let go of the process without touching it."""
        ...


class ProcessHost(Protocol):
    """Starts processes that outlive the daemon, and finds them again."""

    async def start(self, process: str, launch: Launch) -> Handle:
        """Start a child under a shim of its own in the process directory of `process`.

        Raises HiveError SPAWN_FAILED (nothing was started) or STORAGE_FULL."""
        ...

    async def adopt(self, process: str) -> Handle | None:
        """Find a process again after a restart of the daemon.

        None when it was never started (no shim ever took its lock), so that it may be started now.
        A handle whose `exit` is set when it has ended; one of a lost shim when only the child lives
        (the daemon then does the shim's work) or when nothing lives and no exit was written."""
        ...

    def remove(self, process: str) -> None:
        """Delete the directory of an ended process. Nothing happens when there is none."""
        ...

    def list_processes(self) -> list[str]:
        """Ids of all process directories that exist."""
        ...

    def contain(self, argv: Sequence[str]) -> list[str]:
        """Words that run a program of ours (its path first) so that nothing it starts outlives it, and is told
        meanwhile from what a person has started; `argv` itself where the system cannot promise that.
        SIGTERM ends it with all it has started."""
        ...

    async def close(self) -> None:
        """Let go of everything; the children go on."""
        ...


# --- the agent -------------------------------------------------------------------------------------


class RunSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What the agent is to be started for. Everything is validated before."""

    execution: str
    prompt: str
    prompt_uuid: str
    cwd: Path
    session: str
    """Claude's session id: chosen by us for a new conversation, else the one to resume."""
    follows: bool = False
    """Its process has carried a prompt before."""
    resume: bool
    fork_from: str | None = None
    options: Options
    trusted: bool
    slash_commands: bool
    ask_human: bool = False
    """Whether it may ask a person by the tool of that name."""
    deny_read: tuple[str, ...] = ()
    """Absolute paths whose reading is denied (S24)."""
    env: dict[str, str] = msgspec.field(default_factory=dict)
    """The child's whole environment, already filtered (S26)."""


class MessageSeen(msgspec.Struct, frozen=True, gc=False):
    """One line of output, to be kept word for word.

    (A Struct, as Partial: one is made for every line, and a frozen dataclass takes seven times as long.)"""

    kind: str
    """system, assistant, user, result, control_request, ...; `invalid` when the line is no JSON object."""
    raw: bytes
    end: int
    """Offset in the spool after this line."""
    text: str = ""
    is_json: bool = True
    """Whether it can stand in the log as JSON; else its bytes do."""
    subtype: str = ""


class Partial(msgspec.Struct, frozen=True, gc=False):
    """A token delta: shown to who asked for it, never kept."""

    raw: bytes
    end: int


class UsageSeen(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Figures of one message of the running turn; they come again with its later blocks. Blocks that are read
    together are told together."""

    message: str
    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    """What the stream of the message began with, unless `is_final`."""
    cache_read_tokens: int = 0
    cache_creation_tokens: int = 0
    said_tokens: int = 0
    """About what these blocks have: for messages whose final figures never come."""
    is_final: bool = False


class SessionSeen(msgspec.Struct, frozen=True):
    """Claude named its session (newest wins)."""

    session: str
    model: str
    version: str


class PermissionAsked(msgspec.Struct, frozen=True, kw_only=True):
    """Claude asks whether it may use a tool, or (is_question) asks the person something."""

    request: str
    tool: str
    input: dict[str, Any]
    description: str = ""
    tool_use: str = ""
    suggestions: tuple[dict[str, Any], ...] = ()
    is_question: bool = False
    """True for AskUserQuestion and ExitPlanMode: no allow rule covers it."""
    agent: str = ""
    reason: str = ""


class PermissionWithdrawn(msgspec.Struct, frozen=True):
    """Claude no longer waits for this answer."""

    request: str


class QuestionAsked(msgspec.Struct, frozen=True, kw_only=True):
    """The agent calls `ask_human`. `request` and `rpc` are what the answer must name."""

    request: str
    rpc: str
    text: str
    choices: tuple[str, ...] = ()
    is_multi: bool = False
    context: str = ""


class QuestionWithdrawn(msgspec.Struct, frozen=True):
    """The agent no longer waits for the call with this `rpc`."""

    rpc: str


class ReplyNeeded(msgspec.Struct, frozen=True):
    """A frame that must be written to stdin because the protocol demands an answer (frame id, bytes)."""

    frame: str
    data: bytes


class ResultSeen(msgspec.Struct, frozen=True, kw_only=True):
    """Claude's verdict on a turn."""

    subtype: str
    is_error: bool
    text: str
    errors: tuple[str, ...] = ()
    terminal_reason: str = ""
    api_error: str = ""
    api_error_status: int | None = None
    structured: Any = None
    usage: Usage
    models: tuple[Figures, ...] = ()
    """What the turn used by model, or (`is_total`) the process since its start."""
    is_total: bool = False
    permission_denials: int = 0
    origin: str = ""
    """Not empty when the turn was not ours (background work reported)."""
    session: str = ""


class ErrorSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A synthetic assistant message that names an API error (the result that follows says only is_error)."""

    error: str
    api_error: str = ""
    status: int | None = None
    text: str = ""
    resets_at: int | None = None


class LimitSeen(msgspec.Struct, frozen=True, kw_only=True):
    """A rate_limit_event. `resets_at` in Unix seconds."""

    status: str
    kind: str = ""
    resets_at: int | None = None


class RetrySeen(msgspec.Struct, frozen=True, kw_only=True):
    """Claude retries the API by itself."""

    attempt: int
    max_retries: int
    delay_ms: int
    error: str


Seen = (
    MessageSeen
    | Partial
    | UsageSeen
    | SessionSeen
    | PermissionAsked
    | PermissionWithdrawn
    | QuestionAsked
    | QuestionWithdrawn
    | ReplyNeeded
    | ResultSeen
    | ErrorSeen
    | LimitSeen
    | RetrySeen
)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A decision on a permission request, as Claude is to hear it."""

    allow: bool
    input: dict[str, Any] | None = None
    message: str = ""
    interrupt: bool = False


class Conversation(Protocol):
    """The agent's side of one process, without I/O: bytes in, facts out; answers in, bytes out."""

    def opening(self) -> list[tuple[str, bytes]]:
        """Frames (id, bytes) that start the work, in order. Safe to write again: ids and uuids repeat."""
        ...

    def feed(self, data: bytes, offset: int) -> list[Seen]:
        """Facts in the next bytes of the output spool, which start at `offset`. Keeps half lines.

        For each line a MessageSeen (or Partial) comes first, then what follows from it."""
        ...

    def flush(self) -> list[Seen]:
        """What is left at the end of output: a last line without newline."""
        ...

    @property
    def has_begun(self) -> bool:
        """Whether something was said that is no afterword of the turn before: the agent has heard of this one."""
        ...

    @property
    def consumed(self) -> int:
        """Offset after the last whole line that was fed."""
        ...

    def answer(self, request: str, answer: Answer) -> tuple[str, bytes]:
        """The frame that answers a permission request. Same request, same frame id."""
        ...

    def reply(self, request: str, rpc: str, text: str, *, is_error: bool) -> tuple[str, bytes]:
        """The frame that answers a question. Same request, same frame id."""
        ...

    def interrupt(self) -> tuple[str, bytes]:
        """The frame that asks Claude to stop its turn."""
        ...


class Agent(Protocol):
    """What we know of one coding agent."""

    async def probe(self) -> AgentInfo:
        """Find and check the executable (cached by inode and mtime).

        Raises HiveError CLAUDE_NOT_FOUND, CLAUDE_VERSION or SPAWN_FAILED (owner, mode)."""
        ...

    def launch(self, spec: RunSpec, info: AgentInfo) -> Launch:
        """How to start it: argv, environment, files. The prompt is never in it. Limits are the caller's to add."""
        ...

    def conversation(self, spec: RunSpec, *, offset: int = 0) -> Conversation:
        """A fresh reader whose first bytes come from `offset` of the output spool (a line's start)."""
        ...


class AgentInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The executable that would be started."""

    path: Path
    version: str
    login: str = ""
    """How it is logged in, as far as can be told without starting a conversation; empty = unknown."""


# --- where messages for people and programs go -------------------------------------------------------


class Undelivered(Exception):  # noqa: N818  it says what is so
    """A target did not take a message; `args[0]` says why, without the secrets of its address."""

    def __init__(self, why: str, *, is_final: bool = False) -> None:
        """`is_final`: it never will, so it is not tried again."""
        super().__init__(why)
        self.is_final = is_final


class Message(msgspec.Struct, frozen=True):
    """What is sent: words for people, or `payload` (JSON) for a program. `id` stays the same at every try."""

    id: str
    title: str
    text: str
    payload: str = ""


class Outlet(Protocol):
    """A way to send messages."""

    async def send(self, url: str, message: Message, *, within_s: float) -> None:
        """Return when the target has taken it. Raises Undelivered; never takes longer than `within_s`."""
        ...
