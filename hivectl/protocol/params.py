"""Shapes of what clients send. Unknown fields are refused; nothing is coerced."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from hivectl.protocol.patterns import ENV_NAME_PATTERN, NAME_PATTERN

MAX_PROMPT_BYTES = 5 * 1024 * 1024
MAX_PAGE = 1000
MAX_OUTPUTS = 100
"""Messages of one `queue.output`."""

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=100)]
Pool = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=64)]
Ref = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Text = Annotated[str, StringConstraints(max_length=100_000)]
Pattern = Annotated[str, StringConstraints(min_length=1, max_length=2000)]
EnvName = Annotated[str, StringConstraints(pattern=ENV_NAME_PATTERN, max_length=200)]


class Params(BaseModel):
    """Base of all: strict and closed."""

    # Each model is built when it is first used: all of them at once would cost a start 25 ms.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, defer_build=True)


class Empty(Params):
    """No parameters."""


class ClientInfo(Params):
    """The program that connects."""

    name: Annotated[str, StringConstraints(max_length=100)] = ""
    version: Annotated[str, StringConstraints(max_length=100)] = ""


class Auth(Params):
    """`token` is optional where the peer's uid or the Authorization header already counts."""

    token: Annotated[str, StringConstraints(max_length=4096)] | None = None
    client: ClientInfo = Field(default_factory=ClientInfo)
    protocol: int = 1
    capabilities: dict[str, Any] = Field(default_factory=dict)


class OptionsParams(Params):
    """How a prompt is executed; what is left out is the project's default, then Claude's."""

    model: Ref | None = None
    fallback_model: Ref | None = None
    permission_mode: Literal["default", "acceptEdits", "plan", "dontAsk", "auto"] | None = None
    allowed_tools: Annotated[list[Pattern], Field(max_length=200)] | None = None
    disallowed_tools: Annotated[list[Pattern], Field(max_length=200)] | None = None
    append_system_prompt: Text | None = None
    system_prompt: Text | None = None
    max_turns: Annotated[int, Field(ge=1, le=10_000)] | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    timeout_s: Annotated[float, Field(gt=0, le=7 * 86400, strict=False)] | None = None
    no_output_timeout_s: Annotated[float, Field(gt=0, le=7 * 86400, strict=False)] | None = None
    max_budget_usd: Annotated[float, Field(gt=0, le=1_000_000, strict=False)] | None = None
    max_total_tokens: Annotated[int, Field(ge=1, le=10**12)] | None = None
    json_schema: dict[str, Any] | None = None
    add_dirs: Annotated[list[Text], Field(max_length=50)] | None = None
    partials: bool | None = None


class Defaults(OptionsParams):
    """A project's defaults: the same options, and the priority of its prompts."""

    priority: Literal["high", "normal", "low"] | None = None
    slash_commands: bool | None = None
    keep_descendants: bool | None = None
    warm: bool | None = None
    budget_usd_per_day: Annotated[float, Field(ge=0, le=1e9, strict=False)] | None = None
    budget_tokens_per_day: Annotated[int, Field(ge=0, le=10**15)] | None = None
    budget_minutes_per_day: Annotated[float, Field(ge=0, le=1e9, strict=False)] | None = None
    ask_human: bool | None = None
    watch_files: bool | None = None
    question_timeout_s: Annotated[float, Field(ge=0, le=24 * 86400, strict=False)] | None = None
    question_on_timeout: Literal["wait", "default", "deny"] | None = None


class ProjectCreate(Params):
    """Either an existing directory, one to be made (`mkdir`), or one to be cloned (`repo`)."""

    path: Text
    name: Name | None = None
    mkdir: bool = False
    repo: Text | None = None
    branch: Ref | None = None
    trust: bool = False
    defaults: Defaults = Field(default_factory=Defaults)
    env: dict[EnvName, Text] = Field(default_factory=dict)


class ProjectList(Params):
    """Filter and page."""

    state: Literal["idle", "executing", "waiting", "error"] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 200
    cursor: Ref | None = None


class ProjectRef(Params):
    """A project by id or name."""

    project: Ref


class ProjectInspect(Params):
    """A project, or a directory that is not one yet (inside the allowed roots)."""

    project: Ref | None = None
    path: Text | None = None

    @model_validator(mode="after")
    def _one(self) -> ProjectInspect:
        if (self.project is None) == (self.path is None):
            raise ValueError("give either project or path")
        return self


class ProjectUpdate(Params):
    """What is left out stays; a default or variable set to null is removed."""

    project: Ref
    name: Name | None = None
    path: Text | None = None
    defaults: Defaults | None = None
    env: dict[EnvName, Text | None] | None = None
    version: int | None = None


class ProjectTrust(Params):
    """`hash` of the report that was looked at: refused when the files changed since."""

    project: Ref
    hash: Ref | None = None


class ProjectDelete(Params):
    """`force` kills first; `purge` removes the log too."""

    project: Ref
    force: bool = False
    purge: bool = False


class Execute(Params):
    """One prompt. `session`: current, new, or an id. `after`: work orders (or executions of them) that must be
    completed first; `after_any`: that must have ended, however. `not_before`: a time, or `10m` from now. `retries`, `on_usage_limit`: the settings' when left out.
    With `worktree` it runs in a git worktree and branch of its own, beside whatever else the project executes,
    in a new conversation or a copy of the one named. `pool`: whose workers may carry it; `claude` are the
    daemon's own."""

    project: Ref
    prompt: Annotated[str, StringConstraints(min_length=1)]
    session: Ref = "current"
    fork: bool = False
    options: OptionsParams = Field(default_factory=OptionsParams)
    if_busy: Literal["queue", "fail"] = "queue"
    priority: Literal["high", "normal", "low"] | None = None
    after: Annotated[list[Ref], Field(max_length=1000)] = Field(default_factory=list)
    after_any: Annotated[list[Ref], Field(max_length=1000)] = Field(default_factory=list)
    not_before: Ref | None = None
    retries: Annotated[int, Field(ge=0, le=100)] | None = None
    on_usage_limit: Literal["park", "resume", "fail"] | None = None
    worktree: bool = False
    pool: Pool = "claude"
    idempotency_key: Ref | None = None


class Enqueue(Execute):
    """Like `execute`, in the pool of workers outside unless another is named. `idempotent`: doing it twice
    does no harm, so that it is queued again once when its worker is lost, also without retries."""

    pool: Pool = "external"
    idempotent: bool = False


class ExecutionList(Params):
    """Filter and page."""

    project: Ref | None = None
    states: list[str] | None = None
    live: bool = False
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 200
    cursor: Ref | None = None


class ExecutionRef(Params):
    """An execution, or a work order (its newest attempt)."""

    execution: Ref


class ExecutionWait(Params):
    """`timeout_s` None waits without limit. `or_waiting` also returns when a person must answer."""

    execution: Ref
    timeout_s: Annotated[float, Field(ge=0, strict=False)] | None = None
    or_waiting: bool = False


class ExecutionDiff(Params):
    """`max_bytes` of the patch; at most and by default `worktree.diff_bytes`."""

    execution: Ref
    max_bytes: Annotated[int, Field(ge=0)] | None = None


class ExecutionAccept(Params):
    """`merge` fast-forwards where that is possible, `ff` refuses what cannot be, `squash` makes one commit.
    `message` is for the commits that are made; by default it is made of the prompt."""

    execution: Ref
    mode: Literal["merge", "ff", "squash"] = "merge"
    message: Annotated[str, StringConstraints(min_length=1, max_length=10_000)] | None = None


class ExecutionDiscard(Params):
    """`force` also where uncommitted changes or commits would be lost."""

    execution: Ref
    force: bool = False


class WorktreeList(Params):
    """Filter and page. `all` also shows those that were accepted or discarded."""

    project: Ref | None = None
    all: bool = False
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 200
    cursor: Ref | None = None


class Kill(Params):
    """One execution (or work order), or whatever a project executes and has pending."""

    execution: Ref | None = None
    project: Ref | None = None
    mode: Literal["interrupt", "terminate", "kill"] = "terminate"
    reason: Annotated[str, StringConstraints(max_length=1000)] = ""

    @model_validator(mode="after")
    def _one(self) -> Kill:
        if (self.execution is None) == (self.project is None):
            raise ValueError("give either execution or project")
        return self


class MessageGet(Params):
    """Bytes of one event's raw line."""

    stream: Ref
    seq: Annotated[int, Field(ge=1)]
    offset: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=1, le=1024 * 1024)] = 256 * 1024


class Usage(Params):
    """`by` names what each row is; `since` (default 30 days) and `until` are times, dates or ages such as
    `7d`. Only one project's or user's where they are named."""

    by: Literal["project", "user", "model", "day", "execution"] = "project"
    since: Ref = "30d"
    until: Ref | None = None
    project: Ref | None = None
    user: Ref | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 200
    cursor: Annotated[str, StringConstraints(pattern="^[0-9]{1,9}$")] | None = None


class SessionList(Params):
    """Filter and page."""

    project: Ref | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 200
    cursor: Ref | None = None


class SessionRef(Params):
    """Claude's session id."""

    session: Ref


class SessionFork(Params):
    """The conversation to copy. The same `idempotency_key` again gives the same copy."""

    session: Ref
    idempotency_key: Ref | None = None


class GetMessages(Params):
    """A page of one stream's events. `before` and `after` are sequence numbers; times are ISO 8601 or
    `10m` (that long ago). `order` desc starts at the newest."""

    project: Ref | None = None
    stream: Ref | None = None
    execution: Ref | None = None
    session: Ref | None = None
    before: Annotated[int, Field(ge=1)] | None = None
    after: Annotated[int, Field(ge=0)] | None = None
    since: Ref | None = None
    until: Ref | None = None
    types: Annotated[list[Pattern], Field(max_length=50)] | None = None
    direction: Literal["in", "out"] | None = None
    grep: Pattern | None = None
    order: Literal["asc", "desc"] = "asc"
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 100


class SinceCursor(Params):
    """Right after this event."""

    epoch: Ref
    seq: Annotated[int, Field(ge=0)]


class SinceLast(Params):
    """From the last events on."""

    last: Annotated[int, Field(ge=0, le=100_000)]


class SinceTime(Params):
    """From a time on."""

    time: Ref


class SincePositions(Params):
    """One cursor a home stream: what a client of a view (`*`, `inbox`) resumes with."""

    positions: dict[str, SinceCursor]


Since = Literal["now", "start"] | SinceCursor | SinceLast | SinceTime | SincePositions


class Subscribe(Params):
    """Streams: project:<id or name>, system, and the views inbox, queue, *."""

    streams: Annotated[list[Ref], Field(min_length=1, max_length=64)]
    since: Since = "now"
    types: Annotated[list[Pattern], Field(max_length=50)] | None = None
    partials: bool = False


class Unsubscribe(Params):
    """A subscription's id."""

    sub: Ref


class Tail(Params):
    """Projects by id or name; none = all."""

    projects: Annotated[list[Ref], Field(max_length=64)] = Field(default_factory=list)
    last: Annotated[int, Field(ge=0, le=100_000)] = 10
    types: Annotated[list[Pattern], Field(max_length=50)] | None = None
    partials: bool = False


class ApprovalList(Params):
    """Filter and page."""

    state: Literal["pending", "decided", "withdrawn", "all"] = "pending"
    project: Ref | None = None
    execution: Ref | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 200
    cursor: Ref | None = None


class ApprovalRef(Params):
    """An approval's id."""

    id: Ref


class ApprovalDecide(Params):
    """`version` is the one you looked at. `input` replaces what Claude wanted to do; `answers` answers a
    question (question text → label or free text); `interrupt` with deny also ends the turn; `remember` writes
    a rule for calls like this one."""

    id: Ref
    version: int
    decision: Literal["allow", "deny"]
    input: dict[str, Any] | None = None
    answers: dict[str, Text] | None = None
    message: Annotated[str, StringConstraints(max_length=10_000)] = ""
    interrupt: bool = False
    remember: bool = False


class QuestionList(Params):
    """Filter and page. `claude` false leaves out Claude's own AskUserQuestion, which are approvals too."""

    state: Literal["pending", "answered", "expired", "withdrawn", "all"] = "pending"
    project: Ref | None = None
    execution: Ref | None = None
    claude: bool = True
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 200
    cursor: Ref | None = None


class QuestionRef(Params):
    """A question's id: `q_…`, or `a_…` for one that Claude asks itself."""

    id: Ref


class QuestionWait(Params):
    """`timeout_s` None waits without limit."""

    id: Ref
    timeout_s: Annotated[float, Field(ge=0, strict=False)] | None = None


Words = Annotated[str, StringConstraints(max_length=10_000)]


class QuestionAnswer(Params):
    """Choices by number (from 1) or by their text, own words, or both. `answers` answers several questions
    (question → choice or words). `decline`: there will be no answer; `text` then says why. `version` is the
    one you looked at; without it the answer counts for the question as it is."""

    id: Ref
    version: int | None = None
    text: Words = ""
    choices: Annotated[list[int | Words], Field(max_length=100)] | None = None
    answers: dict[str, Words] | None = None
    decline: bool = False


class QuestionAsk(Params):
    """`execution` and `project` say what it is about; a caller inside an execution asks for that one.
    `timeout_s` and `on_timeout` replace the project's; 0 waits for ever. With `worker` the execution it carries
    is `waiting` until there is an answer."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=10_000)]
    choices: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=500)]], Field(max_length=20)
    ] = Field(default_factory=list)
    multi: bool = False
    context: Annotated[str, StringConstraints(max_length=20_000)] = ""
    execution: Ref | None = None
    project: Ref | None = None
    timeout_s: Annotated[float, Field(ge=0, le=24 * 86400, strict=False)] | None = None
    on_timeout: Literal["wait", "default", "deny"] | None = None
    worker: Ref | None = None

    @model_validator(mode="after")
    def _carried(self) -> QuestionAsk:
        if self.worker is not None and self.execution is None:
            raise ValueError("a worker asks about the execution it carries")
        return self


class ChatList(Params):
    """Filter and page. `waiting`: only threads with a question that waits."""

    project: Ref | None = None
    execution: Ref | None = None
    waiting: bool = False
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50
    cursor: Ref | None = None


class ChatMessages(Params):
    """A thread by its id, or by its execution's. `before` and `after` are ids of messages."""

    thread: Ref
    before: Ref | None = None
    after: Ref | None = None
    order: Literal["asc", "desc"] = "asc"
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 200


class ChatSend(Params):
    """`thread` is the id of a thread or of an execution; without it a new one begins, with `title` and
    `project`. `parent` is the message this one replies to."""

    thread: Ref | None = None
    text: Annotated[str, StringConstraints(min_length=1, max_length=20_000)]
    parent: Ref | None = None
    project: Ref | None = None
    title: Annotated[str, StringConstraints(max_length=200)] = ""

    @model_validator(mode="after")
    def _place(self) -> ChatSend:
        if self.thread is None and self.parent is not None:
            raise ValueError("a reply needs its thread")
        if self.thread is not None and (self.project is not None or self.title):
            raise ValueError("project and title are for a new thread")
        return self


class ChatRead(Params):
    """Read up to `message`, or all."""

    thread: Ref
    message: Ref | None = None


class PolicyAdd(Params):
    """`tool` is a name or glob; `match` holds globs for named input fields, all of which must match. A rule that
    asks may say what happens when nobody answers within `timeout_s`; a time alone means deny."""

    action: Literal["allow", "deny", "ask"]
    tool: Pattern
    match: dict[str, Pattern] = Field(default_factory=dict)
    project: Ref | None = None
    first: bool = False
    note: Annotated[str, StringConstraints(max_length=500)] = ""
    timeout_s: float | None = None
    on_timeout: Literal["wait", "deny", "allow"] | None = None


class PolicyTest(Params):
    """A call as Claude would ask for it, or what an `approval` asks for (with another `input`, if given). Without
    a project only rules for every project are tried."""

    approval: Ref | None = None
    project: Ref | None = None
    tool: Ref | None = None
    input: dict[str, Any] | None = None


class PolicyRef(Params):
    """A rule's id."""

    id: Ref


class QueueList(Params):
    """`states` default: queued. In the order of their turn; those held back last."""

    project: Ref | None = None
    states: Annotated[
        list[Literal["queued", "claimed", "completed", "failed", "cancelled", "dead"]],
        Field(max_length=6),
    ] = Field(default_factory=lambda: ["queued"])  # type: ignore[arg-type, unused-ignore]
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 200
    cursor: Ref | None = None


class OrderRef(Params):
    """A work order, by its id or an execution's."""

    work_order: Ref


class QueuePause(Params):
    """Of one project, or (none named) the whole queue. What runs goes on."""

    project: Ref | None = None
    reason: Annotated[str, StringConstraints(max_length=500)] = ""


class QueueResume(Params):
    """Of one project, or the whole queue. `now`: also before a usage limit ends."""

    project: Ref | None = None
    now: bool = False


class QueueMove(Params):
    """Exactly one of `to`, `before` (another waiting order) and `priority`."""

    work_order: Ref
    to: Literal["first", "last"] | None = None
    before: Ref | None = None
    priority: Literal["high", "normal", "low"] | None = None

    @model_validator(mode="after")
    def _one(self) -> QueueMove:
        if sum(value is not None for value in (self.to, self.before, self.priority)) != 1:
            raise ValueError("give exactly one of to, before and priority")
        return self


class QueueCancel(Params):
    """A waiting order; what was to follow it is cancelled too."""

    work_order: Ref
    reason: Annotated[str, StringConstraints(max_length=1000)] = ""


class QueueClear(Params):
    """All waiting orders of one project; of all projects only with `all`."""

    project: Ref | None = None
    all: bool = False

    @model_validator(mode="after")
    def _one(self) -> QueueClear:
        if (self.project is None) is not self.all:
            raise ValueError("give either project or all=true")
        return self


class WorkerRef(Params):
    """A worker by id or name."""

    worker: Ref


class WorkerRegister(Params):
    """`pools` whose work it takes. `lease_s`: it is taken for lost after so long without a word; the setting
    worker.lease_s when left out."""

    name: Name
    pools: Annotated[list[Pool], Field(min_length=1, max_length=16)] = Field(
        default_factory=lambda: ["external"]
    )
    lease_s: Annotated[float, Field(ge=0.5, le=3600, strict=False)] | None = None


class OneWorker(Params):
    """A worker by the id its registration gave it."""

    worker: Ref


class WorkerHeartbeat(Params):
    """`fault`: what is wrong with it, shown as status `error`; an empty text takes that back. `leaves`: it
    takes nothing new, and its open claim ends."""

    worker: Ref
    fault: Annotated[str, StringConstraints(max_length=1000)] | None = None
    leaves: bool = False


class QueueClaim(Params):
    """`wait_s`: how long to wait when there is nothing to do."""

    worker: Ref
    wait_s: Annotated[float, Field(ge=0, le=60, strict=False)] = 30.0


class Carried(Params):
    """A worker and the execution it carries."""

    worker: Ref
    execution: Ref


class OutputMessage(Params):
    """Either `text`, or `raw`: an object in the form of Claude's messages."""

    kind: Literal["assistant", "user", "system"] = "assistant"
    text: Text | None = None
    raw: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one(self) -> OutputMessage:
        if (self.text is None) == (self.raw is None):
            raise ValueError("give either text or raw")
        return self


class QueueOutput(Carried):
    """`first` is the number of the first of the messages, counted from 0 over the whole execution: what was
    taken already is passed over, so that a call may be repeated."""

    first: Annotated[int, Field(ge=0)]
    messages: Annotated[list[OutputMessage], Field(min_length=1, max_length=MAX_OUTPUTS)]


class WorkUsage(Params):
    """What the work used, as far as the worker knows."""

    turns: Annotated[int, Field(ge=0, le=10**9)] = 0
    input_tokens: Annotated[int, Field(ge=0, le=10**12)] = 0
    output_tokens: Annotated[int, Field(ge=0, le=10**12)] = 0
    cache_read_tokens: Annotated[int, Field(ge=0, le=10**12)] = 0
    cache_creation_tokens: Annotated[int, Field(ge=0, le=10**12)] = 0
    cost_usd: Annotated[float, Field(ge=0, le=1e6, strict=False)] = 0.0


class QueueComplete(Carried):
    """`result` for people, `structured` for programs."""

    result: Annotated[str, StringConstraints(max_length=1_000_000)] = ""
    structured: Any = None
    usage: WorkUsage = WorkUsage()


class QueueFail(Carried):
    """Why. `retryable` false: another attempt is of no use, whatever retries are left."""

    message: Annotated[str, StringConstraints(min_length=1, max_length=4000)]
    retryable: bool = True
    usage: WorkUsage = WorkUsage()


class WorkerList(Params):
    """Filter and page."""

    kind: Literal["local", "external"] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 200
    cursor: Ref | None = None


class WorkerScale(Params):
    """`slots` null: as many as the configuration says."""

    slots: Annotated[int, Field(ge=0, le=256)] | None


class WorkerDrain(Params):
    """One worker by id or name; none = every local one."""

    worker: Ref | None = None


class NotifyList(Params):
    """Filter and page. `state`: only what is so at some target. `kind` event: what webhooks got."""

    kind: Ref | None = None
    state: Literal["pending", "held", "sent", "failed", "moot"] | None = None
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 50
    cursor: Ref | None = None


class Summary(Params):
    """Times are `22:00` (the last one), `10h` (so long ago), `yesterday`, `today` or ISO 8601; those without
    a zone are the daemon's. Without `until`: up to now."""

    since: Ref = "24h"
    until: Ref | None = None
    project: Ref | None = None


class LogPrune(Params):
    """At least one measure. The segment that is written to always stays."""

    project: Ref | None = None
    older_than_s: Annotated[float, Field(ge=0, strict=False)] | None = None
    keep_bytes: Annotated[int, Field(ge=0)] | None = None
    dry_run: bool = False

    @model_validator(mode="after")
    def _measure(self) -> LogPrune:
        if self.older_than_s is None and self.keep_bytes is None:
            raise ValueError("give older_than_s, keep_bytes or both")
        return self


class AuditVerify(Params):
    """`anchor` is one that was noted outside the daemon: that entry must still be there, as it was."""

    anchor: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,15}:[0-9a-f]{64}$")] | None = None


class DaemonStop(Params):
    """`keep` leaves runs going, `wait` lets them end (new work stays queued), `kill` ends them."""

    runs: Literal["keep", "wait", "kill"] = "keep"
    timeout_s: Annotated[float, Field(ge=0, strict=False)] | None = None
