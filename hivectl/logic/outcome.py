"""How an execution ended: Claude's result first, the exit code second, `lost` when neither is known.

Pure: evidence in, Outcome out, always with one clear sentence. Choices made here:

- A result that is no error stands, whatever was done to the process afterwards: `completed`. When it
  had to be ended because it lived on, the cause is `hang_after_result`.
- A result that is an error decides too, except `error_during_execution` after somebody stopped the
  turn: then the stop is the reason and the result is only its echo.
- A denial with `interrupt` is a stop by the user: say so with `stopped="user"`.
- A process ended by a signal that was not ours is `failed` with the cause `killed`.
"""

from __future__ import annotations

import re
import signal as signals
from collections.abc import Sequence
from typing import Any, Protocol

from hivectl.model.errors import HiveError
from hivectl.model.work import Cause, ExecutionState, Outcome, Usage

STDERR_MAX = 4000
"""Characters of stderr that are kept as evidence, from its end."""

USAGE_LIMIT = "usage_limit_reached"

_AUTH_STDERR = re.compile(r"Not logged in|Invalid API key|Please run /login|OAuth token .*expired")
_NO_CONVERSATION = "No conversation found with session ID"
_IN_USE = re.compile(r"Error: Session ID \S+ is already in use\.")
_MESSAGE_MAX = 500


class ResultFacts(Protocol):
    """What is read of Claude's result (`ports.ResultSeen`)."""

    @property
    def subtype(self) -> str: ...
    @property
    def is_error(self) -> bool: ...
    @property
    def text(self) -> str: ...
    @property
    def errors(self) -> tuple[str, ...]: ...
    @property
    def terminal_reason(self) -> str: ...
    @property
    def api_error(self) -> str: ...
    @property
    def api_error_status(self) -> int | None: ...
    @property
    def structured(self) -> Any: ...
    @property
    def usage(self) -> Usage: ...


class ErrorFacts(Protocol):
    """What is read of a named API error (`ports.ErrorSeen`)."""

    @property
    def error(self) -> str: ...
    @property
    def api_error(self) -> str: ...
    @property
    def text(self) -> str: ...
    @property
    def resets_at(self) -> int | None: ...


class LimitFacts(Protocol):
    """What is read of a rate limit event (`ports.LimitSeen`)."""

    @property
    def status(self) -> str: ...
    @property
    def resets_at(self) -> int | None: ...


class ExitFacts(Protocol):
    """What is read of a process's end (`ports.Exit`)."""

    @property
    def reason(self) -> str: ...
    @property
    def code(self) -> int | None: ...
    @property
    def signal(self) -> int | None: ...
    @property
    def out_unflushed(self) -> bool: ...
    @property
    def denied(self) -> int: ...
    @property
    def shim_lost(self) -> bool: ...
    @property
    def host_rebooted(self) -> bool: ...


_Verdict = tuple[ExecutionState, Cause, str]

_S = ExecutionState

_STOPS: dict[str, _Verdict] = {
    "user": (_S.CANCELLED, Cause.KILLED, "Stopped on request"),
    "timeout": (_S.TIMED_OUT, Cause.TIMEOUT, "Stopped because it took longer than it may"),
    "no_output": (
        _S.TIMED_OUT,
        Cause.NO_OUTPUT,
        "Stopped because it wrote nothing for longer than it may",
    ),
    "output_limit": (
        _S.FAILED,
        Cause.OUTPUT_LIMIT,
        "Stopped because it wrote more output than it may",
    ),
    "shutdown": (
        _S.CANCELLED,
        Cause.SHUTDOWN,
        "Stopped because the daemon was told to end its runs",
    ),
    "budget": (_S.FAILED, Cause.BUDGET, "Stopped because its budget is used up"),
    "lease": (_S.LOST, Cause.LEASE, "Stopped because its worker was no longer heard of"),
}
"""Reason of a stop -> how an execution without a verdict of Claude's ended."""

_SUBTYPES: dict[str, tuple[Cause, str]] = {
    "error_max_turns": (Cause.MAX_TURNS, "Claude used up its turns"),
    "error_max_budget_usd": (Cause.BUDGET, "Claude used up its budget"),
    "error_max_structured_output_retries": (
        Cause.CLAUDE_ERROR,
        "Claude gave no answer that fits the JSON schema",
    ),
}

_TERMINAL: dict[str, tuple[Cause, str]] = {
    "prompt_too_long": (Cause.PROMPT_TOO_LONG, "The conversation is too long for the model"),
    "blocking_limit": (Cause.PROMPT_TOO_LONG, "The conversation is too long for the model"),
    "max_turns": (Cause.MAX_TURNS, "Claude used up its turns"),
    "budget_exhausted": (Cause.BUDGET, "Claude used up its budget"),
    "api_error": (Cause.API_ERROR, "The API refused or failed"),
    "aborted_streaming": (Cause.CLAUDE_ERROR, "The turn was interrupted, and not by hivectl"),
    "aborted_tools": (Cause.CLAUDE_ERROR, "The turn was interrupted, and not by hivectl"),
}

_ERROR_CODES: dict[str, Cause] = {
    "CLAUDE_NOT_FOUND": Cause.CLAUDE_NOT_FOUND,
    "CLAUDE_AUTH": Cause.AUTH,
    "CLAUDE_VERSION": Cause.SPAWN_FAILED,
    "SPAWN_FAILED": Cause.SPAWN_FAILED,
    "SANDBOX_UNAVAILABLE": Cause.SPAWN_FAILED,
    "PATH_CHANGED": Cause.SPAWN_FAILED,
    "INVALID_PATH": Cause.SPAWN_FAILED,
    "TRUST_CHANGED": Cause.SPAWN_FAILED,
    "WORKTREE_UNAVAILABLE": Cause.SPAWN_FAILED,
    "INVALID_PARAMS": Cause.SPAWN_FAILED,
    "STORAGE_FULL": Cause.STORAGE_FULL,
    "BUDGET_EXCEEDED": Cause.BUDGET,
}


def from_error(error: HiveError) -> Outcome:
    """How an execution ended that could not be started."""
    return Outcome(
        state=ExecutionState.FAILED,
        cause=_ERROR_CODES.get(error.code, Cause.INTERNAL),
        message=" ".join(_sentence(text) for text in (error.message, error.hint) if text),
    )


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?", ":", "`")) else f"{text}."


def of_stop(reason: str, note: str = "") -> Outcome:
    """How an execution ended whose worker outside was told to stop it."""
    state, cause, what = _STOPS.get(reason, _STOPS["user"])
    return Outcome(state=state, cause=cause, message=note or f"{what}.")


def judge(
    *,
    ended: ExitFacts,
    result: ResultFacts | None = None,
    errors: Sequence[ErrorFacts] = (),
    limit: LimitFacts | None = None,
    stopped: str | None = None,
    stderr_tail: str = "",
    saw_output: bool = True,
    usage: Usage | None = None,
) -> Outcome:
    """The end of an execution, from all that is known of it.

    `result` is the result of our own turn. `errors` and `limit` are what was seen of API errors, newest
    last. `stopped` is the reason (a StopReason) when somebody asked for the end, also where the exit
    does not say so. `saw_output` tells whether Claude wrote anything. `usage` is the sum over all
    results; without it the result's own.
    """
    reason = stopped or (ended.reason if ended.reason in _STOPS else None)
    resets_at = None
    if result is None:
        state, cause, message = _without_result(ended, reason, stderr_tail, saw_output=saw_output)
    elif not result.is_error:
        state, cause, message = _S.COMPLETED, *_success(ended)
    elif result.subtype == "error_during_execution" and reason in _STOPS:
        state, cause, message = _STOPS[reason]
        message += "."
    else:
        state = _S.FAILED
        error = errors[-1] if errors else None
        cause, message = _error(result, error, limit, stderr_tail)
        if cause is Cause.USAGE_LIMIT:
            resets_at = _resets_at(error, limit)
    is_session_lost = result is not None and any(
        e.startswith(_NO_CONVERSATION) for e in result.errors
    )
    if is_session_lost:
        message = f"{message} The next prompt starts a fresh conversation."
    return Outcome(
        state=state,
        cause=cause,
        message=message,
        is_session_lost=is_session_lost,
        is_session_taken=result is None and _IN_USE.search(stderr_tail) is not None,
        exit_code=ended.code,
        signal=ended.signal,
        subtype=result.subtype if result else None,
        result=result.text if result else None,
        structured=result.structured if result else None,
        stderr=stderr_tail[-STDERR_MAX:],
        resets_at=resets_at,
        survivors=ended.denied,
        usage=usage or (result.usage if result else Usage()),
    )


def _success(ended: ExitFacts) -> tuple[Cause, str]:
    if ended.reason == "hang":
        return (
            Cause.HANG_AFTER_RESULT,
            "Claude gave its result and did not exit, so it was ended; the result stands.",
        )
    if ended.code == 0:
        return Cause.OK, ""
    return Cause.OK, f"Claude gave its result; its process then {_end_of(ended)}."


def _error(
    result: ResultFacts, error: ErrorFacts | None, limit: LimitFacts | None, stderr_tail: str
) -> tuple[Cause, str]:
    name = error.error if error else ""
    evidence = _evidence(result, error, stderr_tail)
    if _is_usage_limit(result, error, limit):
        return Cause.USAGE_LIMIT, f"The usage limit is reached{evidence}."
    if name == "authentication_failed" or result.api_error_status in {401, 403}:
        return Cause.AUTH, f"Claude is not logged in, or its key is refused{evidence}."
    if result.subtype in _SUBTYPES:
        cause, what = _SUBTYPES[result.subtype]
    elif result.terminal_reason in _TERMINAL:
        cause, what = _TERMINAL[result.terminal_reason]
    elif error is not None:
        cause, what = Cause.API_ERROR, "The API refused or failed"
    else:
        cause, what = Cause.CLAUDE_ERROR, "Claude ended with an error"
    return cause, f"{what}{evidence}."


def _is_usage_limit(
    result: ResultFacts, error: ErrorFacts | None, limit: LimitFacts | None
) -> bool:
    if USAGE_LIMIT in {result.api_error, error.api_error if error else ""}:
        return True
    # Versions that do not name it: the limit event says "rejected" and the error is a rate limit.
    is_rejected = limit is not None and limit.status == "rejected"
    return is_rejected and error is not None and error.error == "rate_limit"


def _resets_at(error: ErrorFacts | None, limit: LimitFacts | None) -> int | None:
    if error is not None and error.resets_at is not None:
        return error.resets_at
    return limit.resets_at if limit is not None else None


def _evidence(result: ResultFacts, error: ErrorFacts | None, stderr_tail: str) -> str:
    said = result.text or "; ".join(result.errors) or (error.text if error else "")
    said = _first_line(said) or _one_line(stderr_tail) or result.subtype
    return f": {said.rstrip('.')}" if said else ""


def _without_result(
    ended: ExitFacts, reason: str | None, stderr_tail: str, *, saw_output: bool
) -> _Verdict:
    if ended.code is None and ended.signal is None:
        return _lost(ended)
    how = _end_of(ended)
    if reason in _STOPS:
        state, cause, what = _STOPS[reason]
        return state, cause, f"{what}; the process {how}."
    if ended.out_unflushed:
        return (
            _S.FAILED,
            Cause.STORAGE_FULL,
            f"The disk was full: the last output could not be kept, and the process {how}.",
        )
    when = "without a result" if saw_output else "before it wrote anything"
    said = _one_line(stderr_tail)
    evidence = f": {said.rstrip('.')}" if said else ""
    if ended.signal is not None or ended.code in {129, 143}:
        return _S.FAILED, Cause.KILLED, f"Claude {how} {when}, and not by hivectl{evidence}."
    if ended.code == 0:
        return _S.FAILED, Cause.BAD_OUTPUT, f"Claude {how} {when}{evidence}."
    cause = Cause.AUTH if _AUTH_STDERR.search(stderr_tail) else Cause.CLAUDE_ERROR
    return _S.FAILED, cause, f"Claude {how} {when}{evidence}."


def _lost(ended: ExitFacts) -> _Verdict:
    if ended.host_rebooted:
        return (
            _S.LOST,
            Cause.HOST_REBOOTED,
            "The machine restarted while it ran; its end is not known.",
        )
    return (
        _S.LOST,
        Cause.SHIM_LOST,
        "Its supervisor died with it; neither a result nor an exit code is known.",
    )


def _end_of(ended: ExitFacts) -> str:
    if ended.signal is not None:
        try:
            name = signals.Signals(ended.signal).name
        except ValueError:
            name = "unknown"
        return f"was ended by signal {ended.signal} ({name})"
    if ended.code is None:
        return "ended in a way that is not known"
    return f"ended with exit code {ended.code}"


def _first_line(text: str) -> str:
    """What Claude itself says of an error, shortened: the reason comes first, then ids and advice."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:_MESSAGE_MAX]


def _one_line(text: str) -> str:
    """The line of stderr that says most, shortened: the last one that names an error, else the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if line.lower().startswith("error")]
    return (named or lines or [""])[-1][:_MESSAGE_MAX]
