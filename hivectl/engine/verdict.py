"""The judgement of an execution, from what is stored of it."""

from __future__ import annotations

from msgspec.structs import replace

from hivectl.logic import outcome as outcomes
from hivectl.model.work import Cause, Execution, ExecutionState, Outcome, Usage
from hivectl.ports import ErrorSeen, Exit, LimitSeen, ResultSeen

RAISE_IT = "Give more with `hivectl exec --budget USD`, or as the project's default max_budget_usd."


def judge(execution: Execution, ended: Exit, stderr_tail: str, *, saw_output: bool) -> Outcome:
    """The end of an execution from what is stored of it and how its process ended."""
    verdict = execution.verdict
    result = None
    if verdict is not None:
        result = ResultSeen(
            **{**verdict, "usage": Usage(**verdict["usage"]), "errors": tuple(verdict["errors"])}
        )
    errors = [ErrorSeen(**found) for found in execution.evidence.get("errors", [])]
    limits = [LimitSeen(**found) for found in execution.evidence.get("limits", [])]
    outcome = outcomes.judge(
        ended=ended,
        result=result,
        errors=errors,
        limit=limits[-1] if limits else None,
        stopped=execution.stop_reason,
        stderr_tail=stderr_tail,
        saw_output=saw_output,
        usage=Usage(**execution.usage) if execution.usage else None,
    )
    if execution.stop_note and outcome.state is ExecutionState.CANCELLED:
        outcome = replace(outcome, message=f"{outcome.message} ({execution.stop_note})")
    if outcome.cause is Cause.BUDGET:
        said = execution.stop_note or f"{outcome.message} {RAISE_IT}"
        outcome = replace(outcome, message=said)
    return outcome
