"""What follows from a batch of Claude's lines, in one transaction.

Reading the same output twice (after a crash between this commit and the log) changes nothing: each effect
carries the offset of its line, and lines up to the stored offset have had theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import asdict, replace

from hivectl.engine import permission
from hivectl.logic.expiry import NO_TIMEOUTS, Timeouts
from hivectl.model.approval import Approval
from hivectl.model.question import OnTimeout, Patience, Question, QuestionState
from hivectl.model.usage import NO_BUDGETS, Budgets
from hivectl.model.work import Execution
from hivectl.model.worktree import worktree_of
from hivectl.ports import (
    ErrorSeen,
    LimitSeen,
    MessageSeen,
    PermissionAsked,
    PermissionWithdrawn,
    QuestionAsked,
    QuestionWithdrawn,
    ResultSeen,
    RetrySeen,
    Seen,
    SessionSeen,
    StopMode,
    StopReason,
    UsageSeen,
)
from hivectl.store import budgets as budget_table
from hivectl.store import chats, people, projects, questions, usage, work
from hivectl.store.database import Tx

FOR_EVER = Patience()


class Applied(msgspec.Struct):
    """What the runner has to do after the commit."""

    execution: Execution
    decided: list[Approval | Question] = msgspec.field(default_factory=list)
    """Approvals that a rule has answered, questions that nobody is to be asked."""
    is_stopped: bool = False
    """A budget is used up: that it must end is stored already."""
    is_over: bool = False
    """Claude gave its verdict on our turn: no more input."""


def apply_effects(
    tx: Tx,
    id_: str,
    effects: Sequence[tuple[int, Seen]],
    *,
    default: str,
    upto: int = 0,
    budgets: Budgets = NO_BUDGETS,
    patience: Patience = FOR_EVER,
    timeouts: Timeouts = NO_TIMEOUTS,
) -> Applied:
    """Store what follows from `effects`, (offset after the line, fact) in order of the output.

    `upto` is where the output was read to: nothing but they follows from it. `default` answers permission requests that no rule covers, `patience` is how long questions wait."""
    execution = work.find(tx, id_)
    applied = Applied(execution)
    fresh = [(end, item) for end, item in effects if end > execution.applied_end]
    messages: list[UsageSeen] = []
    for _, item in fresh:
        if isinstance(item, UsageSeen):
            messages.append(item)
            continue
        if isinstance(item, ResultSeen):
            messages.clear()  # it states their sum
        if isinstance(item, QuestionAsked):
            _ask_human(tx, applied, item, patience)
        else:
            _apply(tx, applied, item, default=default, timeouts=timeouts)
    usage.see(tx, execution, messages, budgets.prices)
    work.mark_applied(tx, id_, max([upto, *(end for end, _ in effects)]))
    # A verdict that was stored before a crash still has to close the input.
    applied.execution = work.find(tx, id_)
    applied.is_over = applied.execution.verdict is not None
    if any(isinstance(item, UsageSeen | ResultSeen) for _, item in fresh):
        _watch_budgets(tx, applied, budgets)
    return applied


def _watch_budgets(tx: Tx, applied: Applied, budgets: Budgets) -> None:
    """Stop the run whose budget is used up; one that has its verdict costs no more."""
    overrun = budget_table.check(tx, applied.execution, budgets)
    if overrun is None or applied.is_over or applied.execution.stop_mode is not None:
        return
    applied.execution = work.want_stop(
        tx, overrun.execution, mode=StopMode.TERMINATE, reason=StopReason.BUDGET, by="system", note=overrun.sentence
    )  # fmt: skip
    applied.is_stopped = True


def _apply(tx: Tx, applied: Applied, item: Seen, *, default: str, timeouts: Timeouts) -> None:
    execution = applied.execution
    id_ = execution.id
    match item:
        case SessionSeen():
            model = item.model or None
            work.name_session(tx, id_, item.session, model)
            projects.see_session(
                tx, execution.project, item.session,
                model=model, version=item.version, execution=id_, resumed=execution.resume,
                is_beside=worktree_of(execution.lane) is not None,
            )  # fmt: skip
        case PermissionAsked():
            _ask(tx, applied, item, default=default, timeouts=timeouts)
        case PermissionWithdrawn() | QuestionWithdrawn():
            _withdraw(tx, id_, item)
        case ResultSeen():
            _settle(tx, id_, item)
        case ErrorSeen():
            work.add_evidence(tx, id_, "errors", asdict(item))
        case LimitSeen():
            _limit(tx, execution, item)
        case RetrySeen():
            text = f"{item.attempt} of {item.max_retries}: {item.error}, in {item.delay_ms / 1000:.1f} s"
            work.note(tx, id_, retrying=text)
        case MessageSeen():
            work.note(tx, id_, retrying=None)
        case _:
            pass


def _settle(tx: Tx, id_: str, item: ResultSeen) -> None:
    execution = work.find(tx, id_)  # it may have learnt its model in this batch
    turn, parts = usage.settle(tx, execution, item)
    verdict = replace(item, usage=turn, models=tuple(parts))
    # asdict would leave the nested ones as they are
    work.store_verdict(tx, id_, msgspec.to_builtins(verdict))


def _ask(
    tx: Tx, applied: Applied, item: PermissionAsked, *, default: str, timeouts: Timeouts
) -> None:
    decided = permission.ask(tx, applied.execution, item, default=default, timeouts=timeouts)
    if decided is not None:
        applied.decided.append(decided)


def _ask_human(tx: Tx, applied: Applied, item: QuestionAsked, patience: Patience) -> None:
    execution = applied.execution
    wish = questions.Wish(
        asker=f"execution:{execution.id}",
        text=item.text,
        choices=item.choices,
        multi=item.is_multi,
        context=item.context,
        execution=execution.id,
        request=item.request,
        rpc=item.rpc,
        patience=patience_for(patience, projects.find(tx, execution.project).defaults),
    )
    asked = questions.ask(tx, wish, chats.of_execution(tx, execution.id))
    if asked.state is QuestionState.PENDING:
        work.wait_for_person(tx, execution.id)
    elif not asked.is_delivered:
        applied.decided.append(asked)


def patience_for(general: Patience, defaults: Mapping[str, Any]) -> Patience:
    """How long a project's questions wait: its own defaults win over the settings."""
    timeout_s = defaults.get("question_timeout_s")
    on_timeout = defaults.get("question_on_timeout")
    return Patience(
        general.timeout_s if timeout_s is None else float(timeout_s),
        general.on_timeout if on_timeout is None else OnTimeout(on_timeout),
    )


def _withdraw(tx: Tx, id_: str, item: PermissionWithdrawn | QuestionWithdrawn) -> None:
    if isinstance(item, QuestionWithdrawn):
        approval, question = None, questions.find_call(tx, id_, rpc=item.rpc)
    else:
        approval = people.find_request(tx, id_, item.request)
        question = questions.find_call(tx, id_, request=item.request)
    if approval is not None:
        people.withdraw(tx, approval.id)
    if question is not None:
        questions.withdraw(tx, question.id)
    if approval is not None or question is not None:
        work.go_on(tx, id_)


def _limit(tx: Tx, execution: Execution, item: LimitSeen) -> None:
    work.add_evidence(tx, execution.id, "limits", asdict(item))
    if item.status == "rejected":
        data = {"kind": item.kind, "resets_at": item.resets_at, "status": item.status}
        tx.emit(execution.stream, "usage_limit.hit", data, execution=execution.id)
