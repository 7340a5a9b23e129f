"""METHODS: everything the daemon can do. WebSocket, /rpc, client, schemas and the reference page derive from it.

Parameter models live in `hivectl.protocol.params` and result shapes in `hivectl.protocol.results`; both
are imported when first needed, because pydantic costs more than all the rest of a cold start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hivectl.model.access import Scope

if TYPE_CHECKING:
    from pydantic import BaseModel

PROTOCOL_VERSION = 1
SUBPROTOCOL = "hivectl.v1"


@dataclass(frozen=True, slots=True)
class Method:
    """One row of METHODS. `params` and `result` name classes of the two modules."""

    name: str
    scope: Scope | None
    params: str
    result: str
    summary: str
    socket_only: bool = False
    """Makes sense only on a connection that stays: not offered on POST /rpc."""
    changes: bool = False
    """Changes state: audited, and refused while the daemon stops. Not so what a worker says every few
    seconds, and its claims: they may be repeated."""


# A table is read by its columns.
# fmt: off
_ROWS = (
    Method("auth", None, "Auth", "AuthResult", "Say who you are; the first request of every connection.", socket_only=True),
    Method("ping", None, "Empty", "PingResult", "Answers at once."),
    Method("whoami", Scope.READ, "Empty", "WhoamiResult", "The caller as the daemon sees it."),
    Method("schema.get", Scope.READ, "Empty", "SchemaResult", "JSON Schemas of all methods, events and errors."),
    Method("project.create", Scope.MANAGE, "ProjectCreate", "Project", "Register a directory as a project.", changes=True),
    Method("project.list", Scope.READ, "ProjectList", "ProjectPage", "The projects."),
    Method("project.get", Scope.READ, "ProjectRef", "Project", "One project, by id or name."),
    Method("project.inspect", Scope.READ, "ProjectInspect", "TrustReport", "What a directory brings that would run or steer Claude."),
    Method("project.update", Scope.MANAGE, "ProjectUpdate", "Project", "Change name, path, defaults or environment.", changes=True),
    Method("project.trust", Scope.MANAGE, "ProjectTrust", "Project", "Let the project's own settings, hooks and servers take effect.", changes=True),
    Method("project.untrust", Scope.MANAGE, "ProjectRef", "Project", "Take that back.", changes=True),
    Method("project.delete", Scope.MANAGE, "ProjectDelete", "Deleted", "Forget a project; its directory is never touched.", changes=True),
    Method("project.join", Scope.READ, "ProjectRef", "Presence", "Be seen as present in a project, and follow it.", socket_only=True),
    Method("project.leave", Scope.READ, "ProjectRef", "Presence", "No longer be present.", socket_only=True),
    Method("execute", Scope.EXECUTE, "Execute", "Accepted", "Accept a prompt; answers as soon as it is durable, never waits for the end.", changes=True),
    Method("execution.list", Scope.READ, "ExecutionList", "ExecutionPage", "Executions, newest first; pending ones with their place."),
    Method("execution.get", Scope.READ, "ExecutionRef", "Execution", "One execution, by its id or its work order's."),
    Method("execution.wait", Scope.READ, "ExecutionWait", "Execution", "Wait for the end; a work order's id follows its retries."),
    Method("execution.diff", Scope.READ, "ExecutionDiff", "Diff", "What an execution changed in its worktree."),
    Method("execution.accept", Scope.APPROVE, "ExecutionAccept", "TakenOver", "Take the changes of a worktree over into the project's branch, and remove it.", changes=True),
    Method("execution.discard", Scope.APPROVE, "ExecutionDiscard", "Worktree", "Remove a worktree with its branch.", changes=True),
    Method("worktree.list", Scope.READ, "WorktreeList", "WorktreePage", "Worktrees, oldest first; by default those that are there."),
    Method("kill", Scope.EXECUTE, "Kill", "Killed", "Stop an execution or a project's; answers when everything is gone.", changes=True),
    Method("usage", Scope.READ, "Usage", "UsagePage", "Runs, tokens, minutes and money by project, user, model, day or execution."),
    Method("message.get", Scope.READ, "MessageGet", "MessagePart", "A part of a message too large for an event."),
    Method("session.list", Scope.READ, "SessionList", "SessionPage", "Claude's conversations, newest first."),
    Method("session.get", Scope.READ, "SessionRef", "Session", "One conversation."),
    Method("session.new", Scope.EXECUTE, "ProjectRef", "Project", "Let the next execution start a fresh conversation.", changes=True),
    Method("session.fork", Scope.EXECUTE, "SessionFork", "Session", "Let the next execution go on in a copy of a conversation, leaving that one as it is.", changes=True),
    Method("session.end", Scope.EXECUTE, "SessionRef", "Session", "End a conversation that is idle; the next prompt resumes it, or begins a fresh one.", changes=True),
    Method("get_messages", Scope.READ, "GetMessages", "MessagePage", "A page of a project's log."),
    Method("subscribe", Scope.READ, "Subscribe", "Subscribed", "Follow streams from a position on.", socket_only=True),
    Method("unsubscribe", Scope.READ, "Unsubscribe", "Unsubscribed", "Stop following.", socket_only=True),
    Method("tail", Scope.READ, "Tail", "Subscribed", "Follow projects from their last events on.", socket_only=True),
    Method("approval.list", Scope.READ, "ApprovalList", "ApprovalPage", "Approvals, oldest first; by default those that wait."),
    Method("approval.get", Scope.READ, "ApprovalRef", "Approval", "One approval."),
    Method("approval.decide", Scope.APPROVE, "ApprovalDecide", "Approval", "Allow or deny what Claude asks; the first answer wins.", changes=True),
    Method("question.list", Scope.READ, "QuestionList", "QuestionPage", "Questions, oldest first, also Claude's own (`a_…`); by default those that wait."),
    Method("question.get", Scope.READ, "QuestionRef", "Question", "One question."),
    Method("question.wait", Scope.READ, "QuestionWait", "Question", "Wait until a question is answered, or no longer waits."),
    Method("question.answer", Scope.APPROVE, "QuestionAnswer", "Question", "Answer a question; the first answer wins.", changes=True),
    Method("question.ask", Scope.ASK, "QuestionAsk", "Question", "Ask a person, as a worker or from within an execution; answers at once with the question's id.", changes=True),
    Method("chat.list", Scope.READ, "ChatList", "ChatPage", "Threads, the one with the newest message first."),
    Method("chat.messages", Scope.READ, "ChatMessages", "ChatMessagePage", "A page of a thread."),
    Method("chat.send", Scope.EXECUTE, "ChatSend", "ChatSent", "Write into a thread, or begin one; a reply to a question that waits is its answer and needs the scope `approve`.", changes=True),
    Method("chat.read", Scope.READ, "ChatRead", "Chat", "Note that you have read a thread."),
    Method("policy.list", Scope.READ, "Empty", "PolicyPage", "The rules that answer for you, in the order they are tried."),
    Method("policy.add", Scope.APPROVE, "PolicyAdd", "Policy", "Add a rule.", changes=True),
    Method("policy.remove", Scope.APPROVE, "PolicyRef", "Deleted", "Remove a rule.", changes=True),
    Method("policy.test", Scope.READ, "PolicyTest", "PolicyVerdict", "Which rule would decide a call, and why."),
    Method("queue.list", Scope.READ, "QueueList", "OrderPage", "Work orders, by default those that wait, in the order of their turn."),
    Method("queue.stats", Scope.READ, "Empty", "QueueStats", "How long the queue is, what holds it up, and who works."),
    Method("queue.describe", Scope.READ, "OrderRef", "OrderDescription", "One work order, and in words why it does not run."),
    Method("queue.pause", Scope.MANAGE, "QueuePause", "QueueChanged", "Start nothing new, of one project or at all.", changes=True),
    Method("queue.resume", Scope.MANAGE, "QueueResume", "QueueChanged", "Take a pause back, and take up what a usage limit stopped.", changes=True),
    Method("queue.move", Scope.MANAGE, "QueueMove", "Order", "Give a waiting work order another place.", changes=True),
    Method("queue.cancel", Scope.MANAGE, "QueueCancel", "Order", "Cancel a waiting work order.", changes=True),
    Method("queue.retry", Scope.MANAGE, "OrderRef", "Order", "Queue again what was given up, or at once what waits for a retry.", changes=True),
    Method("queue.clear", Scope.MANAGE, "QueueClear", "QueueChanged", "Cancel all that waits, of one project or at all.", changes=True),
    Method("queue.enqueue", Scope.EXECUTE, "Enqueue", "Accepted", "Accept work for workers outside; like `execute`, in their pool.", changes=True),
    Method("queue.claim", Scope.WORK, "QueueClaim", "Claimed", "Take the next work order of the worker's pools, waiting for one."),
    Method("queue.heartbeat", Scope.WORK, "Carried", "Heard", "The worker is alive and carries that execution."),
    Method("queue.output", Scope.WORK, "QueueOutput", "OutputTaken", "Append what the worker says to the project's log, each message once."),
    Method("queue.complete", Scope.WORK, "QueueComplete", "Execution", "The worker has done it.", changes=True),
    Method("queue.fail", Scope.WORK, "QueueFail", "Execution", "The worker could not do it.", changes=True),
    Method("worker.register", Scope.WORK, "WorkerRegister", "Registered", "Be a worker; a name that comes again takes over from the earlier one.", changes=True),
    Method("worker.heartbeat", Scope.WORK, "WorkerHeartbeat", "Heard", "The worker is alive."),
    Method("worker.deregister", Scope.WORK, "OneWorker", "Deregistered", "Be no worker any more; what it carries is lost.", changes=True),
    Method("worker.list", Scope.READ, "WorkerList", "WorkerPage", "Workers: the slots of this daemon, and programs outside."),
    Method("worker.get", Scope.READ, "WorkerRef", "Worker", "One worker."),
    Method("worker.scale", Scope.MANAGE, "WorkerScale", "WorkerPage", "Have more or fewer local workers; what runs is not touched.", changes=True),
    Method("worker.drain", Scope.MANAGE, "WorkerDrain", "WorkerPage", "Let a worker finish and take nothing new.", changes=True),
    Method("worker.resume", Scope.MANAGE, "WorkerDrain", "WorkerPage", "Let it take work again.", changes=True),
    Method("notify.test", Scope.MANAGE, "Empty", "NotifyTested", "Send a test to every notification target and webhook; answers how each went.", changes=True),
    Method("notify.list", Scope.READ, "NotifyList", "NotificationPage", "What people and programs were told, newest first, and how it went."),
    Method("summary", Scope.READ, "Summary", "SummaryResult", "What happened between two times: done, failed, waiting, cost, files."),
    Method("health", Scope.READ, "Empty", "Health", "Whether all is well, and what is used."),
    Method("stats", Scope.READ, "Empty", "Stats", "Counters and gauges."),
    Method("config.get", Scope.ADMIN, "Empty", "ConfigResult", "Every setting with its value and origin."),
    Method("audit.verify", Scope.ADMIN, "AuditVerify", "AuditVerified", "Whether the audit is as it was written, from the first entry on."),
    Method("log.prune", Scope.MANAGE, "LogPrune", "Pruned", "Drop old segments of logs now, whole ones only.", changes=True),
    Method("daemon.stop", Scope.ADMIN, "DaemonStop", "Stopping", "Stop the daemon; runs are kept, waited for or killed.", changes=True),
)
# fmt: on

METHODS: dict[str, Method] = {row.name: row for row in _ROWS}


def params_model(method: Method) -> type[BaseModel]:
    """The pydantic model of a method's parameters."""
    from hivectl.protocol import params  # noqa: PLC0415  pydantic is not on the path of a cold start

    model: type[BaseModel] = getattr(params, method.params)
    return model


def result_type(method: Method) -> Any:
    """The TypedDict of a method's result."""
    from hivectl.protocol import results  # noqa: PLC0415

    return getattr(results, method.result)
