"""Shapes of what the daemon answers. Fields are only ever added; clients ignore what they do not know.

Times are RFC 3339 in UTC. Money is US dollars by Claude's own figures: an estimate.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class AuthResult(TypedDict):
    """Who you are on this connection."""

    actor: str
    scopes: list[str]
    connection: str
    version: str
    node: str
    protocol: int
    expires_at: str | None


class PingResult(TypedDict):
    """The daemon's time."""

    time: str


class WhoamiResult(TypedDict):
    """The caller as the daemon sees it."""

    actor: str
    scopes: list[str]
    connection: str
    execution: str | None
    peer: str


class SchemaResult(TypedDict):
    """Schemas by name."""

    protocol: int
    methods: dict[str, Any]
    events: dict[str, Any]
    errors: dict[str, Any]


class UsageFields(TypedDict):
    """What was used."""

    turns: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_creation_tokens: int
    cost_usd: float
    duration_ms: int


class UsageRow(TypedDict):
    """What one project, user, model, day or execution used."""

    key: str
    name: str
    """What people call it: a project's name, an execution's project."""
    runs: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_creation_tokens: int
    active_ms: int
    cost_usd: float
    estimated_usd: float
    """What of the cost was worked out from tokens, because Claude did not live to state it."""


class BudgetStatus(TypedDict):
    """One budget of today. `kind`: usd, tokens or minutes."""

    scope: str
    key: str
    name: str
    kind: str
    used: float
    limit: float
    is_estimate: bool
    is_exceeded: bool
    until: str


class UsagePage(TypedDict):
    """Sums: the most expensive first, days and executions newest first; and the budgets of today."""

    by: str
    items: list[UsageRow]
    total: UsageRow
    since: str
    until: str
    budgets: list[BudgetStatus]
    next_cursor: str | None


class Position(TypedDict):
    """A place in a stream."""

    epoch: str
    seq: int


class Project(TypedDict):
    """A registered directory."""

    id: str
    name: str
    path: str
    state: str
    error: str | None
    trust: str
    """trusted, untrusted, or changed (trusted once, files changed since)."""
    version: int
    session: str | None
    execution: str | None
    pending: int
    defaults: dict[str, Any]
    env: dict[str, str]
    stream: str
    totals: dict[str, Any]
    created_at: str
    last_activity_at: str


class ProjectPage(TypedDict):
    """Projects by name."""

    items: list[Project]
    next_cursor: str | None


class TrustReport(TypedDict):
    """What a directory brings that would run or steer Claude."""

    path: str
    hash: str
    hooks: list[str]
    mcp_servers: list[str]
    env: list[str]
    permissions: list[str]
    claude_md: list[str]
    other: list[str]
    problems: list[str]


class Deleted(TypedDict):
    """What is gone. `kept`: worktrees of a deleted project that hold work and stay on the disk."""

    id: str
    kept: NotRequired[list[str]]


class Presence(TypedDict):
    """Who is present in a project."""

    project: str
    present: list[str]


class Accepted(TypedDict):
    """The prompt is durable; `stream`, `epoch` and `seq` are where to follow it from."""

    execution: str
    work_order: str
    project: str
    state: str
    place: int | None
    stream: str
    epoch: str
    seq: int
    replayed: bool
    warnings: list[str]
    """What of the request will have no effect; sentences for a person."""


class Execution(TypedDict):
    """One attempt by one Claude process."""

    execution: str
    work_order: str
    project: str
    project_name: str
    process: str | None
    state: str
    cause: str | None
    message: str
    attempt: int
    lane: str
    worktree: str | None
    """The worktree it runs in; None in the project's own directory."""
    place: int | None
    prompt: str
    """The first 200 characters."""
    session: str | None
    model: str | None
    exit_code: int | None
    signal: int | None
    subtype: str | None
    result: str | None
    structured: Any
    stderr: str
    stalled: str | None
    retrying: str | None
    waiting_for: list[str]
    resets_at: str | None
    trusted: bool
    usage: UsageFields
    cost_usd: float
    cost_is_estimate: bool
    """Part of it was worked out from tokens, because Claude did not live to state it."""
    pid: int | None
    priority: str
    actor: str
    options: dict[str, Any]
    created_at: str
    started_at: str | None
    ended_at: str | None
    duration_ms: int
    waited_ms: int
    stream: str
    epoch: str
    seq: int
    worker: str | None
    """Who carries it, or carried it to its end; None while it waits for a person and has no slot."""


class Worktree(TypedDict):
    """A git worktree and branch that a work order runs in."""

    worktree: str
    project: str
    project_name: str
    execution: str
    work_order: str
    state: str
    """creating, ready, accepting, discarding, broken, accepted or discarded."""
    path: str
    branch: str
    base: str | None
    """The commit it was made from."""
    merged: str | None
    problem: str
    """Why it is broken, or what the last accept was refused for."""
    actor: str
    created_at: str
    changed_at: str


class WorktreePage(TypedDict):
    """Worktrees, oldest first."""

    items: list[Worktree]
    next_cursor: str | None


class Diff(TypedDict):
    """Everything a worktree has that the commit it was made from has not."""

    execution: str
    worktree: Worktree
    files: list[dict[str, Any]]
    """path, from, status, added, deleted of the first 1000."""
    files_total: int
    added: int
    deleted: int
    uncommitted: int
    """How many files are not committed yet; an accept commits them."""
    ignored: list[str]
    """What git ignores there: no part of the changes, and gone with the worktree."""
    patch: str
    truncated: bool
    limit_bytes: int


class TakenOver(TypedDict):
    """The changes are in the project's branch."""

    execution: str
    worktree: Worktree
    branch: str
    commit: str
    warnings: list[str]


class ExecutionPage(TypedDict):
    """Executions, newest first."""

    items: list[Execution]
    next_cursor: str | None


class Killed(TypedDict):
    """What was stopped; everything named is gone when this arrives."""

    executions: list[Execution]
    survivors: int


class MessagePart(TypedDict):
    """Bytes `offset` to `offset + len` of the raw line."""

    stream: str
    seq: int
    offset: int
    size: int
    data_b64: str
    next_offset: int | None


class Session(TypedDict):
    """One of Claude's conversations."""

    session: str
    project: str
    project_name: str
    state: str
    """active, idle, ended, reset, or forked: a copy that its first prompt makes."""
    end_reason: str | None
    """idle, age or user, when it has ended."""
    is_current: bool
    is_warm: bool
    """A live process waits for its next prompt."""
    process: str | None
    """The process that waits, or executes in it."""
    execution: str | None
    """The one that is live in it."""
    work_order: str | None
    worker: str | None
    """Who executes that."""
    executions: int
    last_execution: str | None
    cost_usd: float
    model: str | None
    forked_from: str | None
    """The conversation that this one is a copy of."""
    created_at: str
    last_activity_at: str
    ended_at: str | None
    expires_at: str | None
    """When it will be ended unless it is used; None while it is active, held by a waiting prompt, or over."""


class SessionPage(TypedDict):
    """Sessions, newest first."""

    items: list[Session]
    next_cursor: str | None


class Event(TypedDict):
    """A numbered fact, as it also comes live."""

    stream: str
    epoch: str
    seq: int
    ts: str
    type: str
    project: NotRequired[str]
    execution: NotRequired[str]
    session: NotRequired[str]
    request: NotRequired[str]
    actor: NotRequired[str]
    data: dict[str, Any]


class MessagePage(TypedDict):
    """Events in the order asked for. `next` goes into `after` (asc) or `before` (desc); None at the end."""

    items: list[Event]
    next: int | None
    stream: str
    epoch: str
    first_seq: int
    last_seq: int


class Subscribed(TypedDict):
    """Replay follows, then `caught_up`, then live events."""

    sub: str
    positions: dict[str, Position]
    recovered: bool
    reason: str | None


class Unsubscribed(TypedDict):
    """No more events for it."""

    sub: str


class Approval(TypedDict):
    """What Claude wants to do, or asks."""

    id: str
    version: int
    state: str
    """pending, decided or withdrawn."""
    kind: str
    """permission or question."""
    project: str
    project_name: str
    execution: str
    session: str | None
    tool: str
    input: dict[str, Any]
    description: str
    summary: str
    """One line for people: the command, the file, the question."""
    suggestions: list[dict[str, Any]]
    decision: str | None
    decided_by: str | None
    message: str
    changed_input: dict[str, Any] | None
    """What was allowed instead of `input`."""
    answers: dict[str, str] | None
    """Answers to Claude's questions, by question."""
    created_at: str
    decided_at: str | None
    directory: str
    """Where Claude works: relative paths of `input` start here."""
    rule: str | None
    """The rule that wants a person asked, or that answered; None where no rule matched."""
    expires_at: str | None
    """When it decides itself; None: it waits until somebody answers."""
    on_timeout: str | None
    """What happens then: deny or allow."""
    timed_out: bool
    """It was decided because nobody answered in time."""
    delivered: bool
    """Whether Claude has heard the answer; it hears it when there is a slot for it to go on in."""
    risk: str
    """low, medium or high; for people's eyes, it decides nothing."""
    risk_reason: str


class ApprovalPage(TypedDict):
    """Approvals, oldest first."""

    items: list[Approval]
    next_cursor: str | None


class AskedChoice(TypedDict):
    """One answer to choose."""

    label: str
    description: str


class Asked(TypedDict):
    """One of the questions that are asked together."""

    question: str
    header: str
    choices: list[AskedChoice]
    multi: bool


class Question(TypedDict):
    """What somebody asks a person: `ask_human`, a worker, or Claude itself (`source`)."""

    id: str
    version: int
    state: str
    """pending, answered, expired or withdrawn."""
    kind: str
    """question."""
    source: str
    """ask_human, worker or ask_user_question."""
    asker: str
    execution: str | None
    project: str | None
    project_name: str | None
    session: str | None
    thread: str | None
    message_id: str | None
    """Its message in the thread."""
    text: str
    choices: list[str]
    multi: bool
    context: str
    questions: list[Asked]
    """All that is asked, in one shape for every source; one, but for Claude's own."""
    answer: str | None
    answers: dict[str, str] | None
    """The same by question."""
    declined: bool
    answered_by: str | None
    reason: str
    """What the asker hears where nobody answered."""
    on_timeout: str
    expires_at: str | None
    created_at: str
    answered_at: str | None
    waited_ms: int
    """How long it waits, or waited."""


class QuestionPage(TypedDict):
    """Questions, oldest first."""

    items: list[Question]
    next_cursor: str | None


class ChatMessage(TypedDict):
    """One message of a thread."""

    id: str
    thread: str
    author: str
    role: str
    """worker, human or system."""
    type: str
    """request, response or status."""
    parent: str | None
    question: str | None
    """The question it asks, answers or tells of."""
    text: str
    created_at: str


class ChatMessagePage(TypedDict):
    """Messages in the order asked for. `next` goes into `after` (asc) or `before` (desc); None at the end."""

    thread: str
    items: list[ChatMessage]
    next: str | None


class Chat(TypedDict):
    """A thread. `unread`: messages of others that you have not read."""

    thread: str
    title: str
    owner: str
    project: str | None
    project_name: str | None
    execution: str | None
    execution_state: str | None
    task: str | None
    messages: int
    unread: int
    waiting_for: list[str]
    """Questions that wait for an answer here."""
    waiting_since: str | None
    waiting_ms: int
    created_at: str
    last_activity_at: str
    idle_ms: int


class ChatPage(TypedDict):
    """Threads, newest activity first."""

    items: list[Chat]
    next_cursor: str | None


class ChatSent(TypedDict):
    """The message, and the question it answered."""

    message: ChatMessage
    answered: str | None


class Policy(TypedDict):
    """A rule that answers for you."""

    id: str
    action: str
    tool: str
    match: dict[str, str]
    project: str | None
    note: str
    position: int
    created_by: str
    created_at: str
    timeout_s: float | None
    """Of a rule that asks: how long a person has; None: what is configured, or for ever."""
    on_timeout: str | None
    """What happens then: wait, deny or allow; None: what is configured."""


class PassedRule(TypedDict):
    """A rule that was tried and does not match."""

    rule: str
    why: str


class PolicyDraft(TypedDict):
    """What `remember` would write."""

    tool: str
    match: dict[str, str]


class PolicyVerdict(TypedDict):
    """What would happen to a call."""

    action: str
    """allow, deny or ask."""
    rule: Policy | None
    """The rule that decides; None: no rule matches, and `approval.default` does."""
    position: int | None
    """Its place among the rules, from 1."""
    reason: str
    timeout_s: float | None
    """How long a person would have; None: for ever, or nobody is asked."""
    on_timeout: str | None
    passed: list[PassedRule]
    risk: str
    risk_reason: str
    remember: PolicyDraft | None
    """The allow rule that `remember` would write for such a call."""
    remember_problem: str


class PolicyPage(TypedDict):
    """Rules in the order they are tried."""

    items: list[Policy]
    default: str


class Order(TypedDict):
    """An entry of the queue: do this prompt once; retries belong to it."""

    work_order: str
    project: str
    project_name: str
    execution: str
    """Its newest attempt."""
    state: str
    hold: str | None
    """Why it is held back: after, not_before, retry or usage_limit; None: it waits for its turn only."""
    place: int | None
    priority: str
    attempt: int
    retries: int
    retry_count: int
    pool: str
    not_before: str | None
    after: list[str]
    message: str
    prompt: str
    """The first 200 characters."""
    actor: str
    created_at: str
    ended_at: str | None


class OrderPage(TypedDict):
    """Work orders."""

    items: list[Order]
    next_cursor: str | None


class OrderDescription(TypedDict):
    """Why a work order does not run."""

    order: Order
    reasons: list[str]
    """Sentences; empty when it runs or has ended."""
    until: str | None
    """When the longest of the known waits ends."""
    attempts: list[Execution]


class Parked(TypedDict):
    """An account whose usage limit is reached."""

    account: str
    kind: str
    until: str
    is_known: bool
    """Claude said so; else it is tried again then."""
    execution: str
    since: str


class Pause(TypedDict):
    """What a person paused."""

    project: str | None
    """None: the whole queue."""
    project_name: str | None
    reason: str
    actor: str
    since: str


class QueueStats(TypedDict):
    """The queue at a glance."""

    states: dict[str, int]
    holds: dict[str, int]
    priorities: dict[str, int]
    projects: dict[str, int]
    """Waiting orders by project's name; the 50 with the most."""
    oldest_wait_s: float
    pauses: list[Pause]
    parked: list[Parked]
    slots: int
    slots_busy: int
    slots_draining: int
    wanting_slot: int
    """Answered executions that wait for a slot."""


class QueueChanged(TypedDict):
    """What was done."""

    project: str | None
    orders: int
    accounts: list[str]


class Worker(TypedDict):
    """A slot of the daemon, or a program outside."""

    worker: str
    name: str
    kind: str
    status: str
    """idle, busy, waiting, error or offline."""
    pools: list[str]
    is_draining: bool
    execution: str | None
    project_name: str | None
    fault: str | None
    heartbeat_at: str
    lease_until: str | None
    registered_at: str


class Registered(TypedDict):
    """A worker is registered. `worker` is what it calls itself from now on."""

    worker: str
    name: str
    pools: list[str]
    lease_s: float
    lease_until: str
    lost: str | None
    """The execution an earlier one of this name carried: it has ended without a result."""


class Deregistered(TypedDict):
    """The worker is gone."""

    worker: str
    name: str
    lost: str | None
    """The execution it still carried: it has ended without a result."""


class Heard(TypedDict):
    """A worker was heard of."""

    worker: str
    lease_until: str
    is_draining: bool
    """It is to take nothing new."""
    execution: str | None
    """What it carries."""
    state: str | None
    """running, or waiting for a person."""
    cancel: bool
    """That is to be stopped: end it with `queue.fail`."""
    cancel_reason: str | None


class JobProject(TypedDict):
    """Where the work is."""

    id: str
    name: str
    path: str


class Job(TypedDict):
    """What a worker is to do."""

    execution: str
    work_order: str
    attempt: int
    project: JobProject
    prompt: str
    session: str
    options: dict[str, Any]
    priority: str
    pool: str
    state: str
    cancel: bool
    """It is to be stopped already."""
    outputs: int
    """How many messages were posted: above 0 only where the claim was made before."""
    lease_until: str


class Claimed(TypedDict):
    """The next work order; None: there was none in time."""

    job: Job | None
    is_draining: bool
    lease_until: str


class OutputTaken(TypedDict):
    """The messages are in the log."""

    next: int
    """Number of the next message."""
    cancel: bool
    lease_until: str


class WorkerPage(TypedDict):
    """Workers by name."""

    items: list[Worker]
    next_cursor: str | None


class Health(TypedDict):
    """Whether all is well. `status`: ok, degraded or failing; `problems` says why in words."""

    status: str
    problems: list[str]
    version: str
    protocol: int
    node: str
    pid: int
    uptime_s: float
    home: str
    socket: str
    tcp: str | None
    tls: dict[str, Any] | None
    cpu_percent: float
    rss_bytes: int
    loop_lag_ms: float
    disk: dict[str, Any]
    storage: dict[str, Any]
    claude: dict[str, Any]
    executions: dict[str, int]
    connections: int
    self_approval_possible: bool


class Stats(TypedDict):
    """Counters since start and gauges of now."""

    uptime_s: float
    executions: dict[str, int]
    projects: int
    connections: int
    subscriptions: int
    events: int
    bytes_in: int
    log_bytes: int
    approvals_pending: int
    questions_pending: int
    rss_bytes: int
    cpu_percent: float
    loop_lag_ms: float


class ConfigEntry(TypedDict):
    """One setting."""

    key: str
    value: Any
    origin: str
    default: Any
    meaning: str


class ConfigResult(TypedDict):
    """All settings."""

    items: list[ConfigEntry]
    file: str


class AuditFault(TypedDict):
    """The first entry that is not as it was written, and why."""

    id: int
    why: str


class AuditVerified(TypedDict):
    """`entries` are whole; `anchor` names the last of them, for noting it where the daemon cannot write."""

    is_whole: bool
    entries: int
    anchor: str | None
    fault: AuditFault | None


class NotifyTry(TypedDict):
    """How a test went at one target."""

    target: str
    is_sent: bool
    error: str
    duration_ms: int


class NotifyTested(TypedDict):
    """How the test went at every target."""

    items: list[NotifyTry]


class Delivery(TypedDict):
    """How far a message got at one target."""

    target: str
    state: str
    """pending, held (quiet hours), sent, failed or moot (answered before it was told)."""
    attempts: int
    error: str
    next_at: str | None
    sent_at: str | None


class Notification(TypedDict):
    """What people, or with kind `event` webhooks, were told."""

    id: str
    kind: str
    project: str | None
    project_name: str | None
    execution: str | None
    subject: str | None
    title: str
    text: str
    hint: str
    repeats: int
    """How often the same came again within `notify.dedupe_s` and was not told."""
    created_at: str
    deliveries: list[Delivery]


class NotificationPage(TypedDict):
    """Notifications, newest first."""

    items: list[Notification]
    next_cursor: str | None


class SummaryRun(TypedDict):
    """An execution in a summary."""

    execution: str
    state: str
    cause: str | None
    message: str
    prompt: str
    cost_usd: float
    duration_ms: int
    ended_at: str | None
    resets_at: str | None


class SummaryWait(TypedDict):
    """What waits for a person now."""

    id: str
    kind: str
    execution: str
    text: str
    created_at: str


class SummaryProject(TypedDict):
    """One project. Lists are bounded; `counts` are whole."""

    project: str
    project_name: str
    counts: dict[str, int]
    """completed, failed, timed_out, lost, cancelled in that time; waiting, running and pending now."""
    done: list[SummaryRun]
    failed: list[SummaryRun]
    waiting: list[SummaryWait]
    cost_usd: float
    input_tokens: int
    output_tokens: int
    duration_ms: int
    approvals: dict[str, int]
    """How many were decided by whom."""
    files: list[str]
    files_more: int
    """Further files that changed; they are not listed."""
    files_whole: bool
    """Whether all of the log was looked at for files."""


class SummaryResult(TypedDict):
    """What happened between two times."""

    since: str
    until: str
    counts: dict[str, int]
    cost_usd: float
    input_tokens: int
    output_tokens: int
    duration_ms: int
    usage_limits: int
    """Executions that ended at a usage limit."""
    projects: list[SummaryProject]


class Pruned(TypedDict):
    """Bytes that went (or would go), by stream."""

    freed_bytes: int
    streams: dict[str, int]
    dry_run: bool


class Stopping(TypedDict):
    """The daemon ends after this."""

    pid: int
    runs: str
    live: list[str]
