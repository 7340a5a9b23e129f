"""Every way an execution can end, and what is said about it."""

from typing import Any

import pytest

from hivectl.logic import outcome
from hivectl.model.errors import TABLE, HiveError
from hivectl.model.work import Cause, ExecutionState, Outcome, Usage
from hivectl.ports import ErrorSeen, Exit, LimitSeen, ResultSeen, StopReason

S = ExecutionState
C = Cause
R = StopReason
UNKNOWN = {"code": None, "signal": None}


def exit_(code: int | None = 0, *, reason: StopReason = R.EXITED, **fields: Any) -> Exit:
    return Exit(reason=reason, code=code, **fields)


def good(**fields: Any) -> ResultSeen:
    values = {"subtype": "success", "is_error": False, "text": "Done.", "usage": Usage(turns=2)}
    return ResultSeen(**{**values, **fields})


def bad(subtype: str = "success", **fields: Any) -> ResultSeen:
    return good(subtype=subtype, is_error=True, **{"text": "", **fields})


INTERRUPTED = bad(
    "error_during_execution", errors=("[ede_diagnostic]",), terminal_reason="aborted_tools"
)
RATE = ErrorSeen(error="rate_limit", status=429, text="429")
REJECTED = LimitSeen(status="rejected", kind="five_hour", resets_at=1795229363)
LIMIT_NAMED = ErrorSeen(
    error="rate_limit", api_error="usage_limit_reached", text="limit", resets_at=77
)

# (what is known, state, cause, a part of the message)
CASES: list[tuple[dict[str, Any], ExecutionState, Cause, str]] = [
    # A result that is no error stands.
    ({"result": good(), "ended": exit_()}, S.COMPLETED, C.OK, ""),
    ({"result": good(), "ended": exit_(143)}, S.COMPLETED, C.OK, "exit code 143"),
    ({"result": good(), "ended": exit_(None, signal=9)}, S.COMPLETED, C.OK, "SIGKILL"),
    ({"result": good(), "ended": exit_(None, shim_lost=True)}, S.COMPLETED, C.OK, "not known"),
    ({"result": good(), "ended": exit_(0, reason=R.USER)}, S.COMPLETED, C.OK, ""),
    ({"result": good(), "ended": exit_(0), "stopped": R.TIMEOUT}, S.COMPLETED, C.OK, ""),
    ({"result": good(), "ended": exit_(143, reason=R.HANG)}, S.COMPLETED, C.HANG_AFTER_RESULT, "did not exit"),
    ({"result": good(), "ended": exit_(0), "errors": [RATE], "limit": REJECTED}, S.COMPLETED, C.OK, ""),
    # Results that are errors.
    ({"result": bad("error_max_turns", errors=("Reached maximum number of turns (2)",)), "ended": exit_(1)}, S.FAILED, C.MAX_TURNS, "(2)"),
    ({"result": bad("success", terminal_reason="max_turns"), "ended": exit_(1)}, S.FAILED, C.MAX_TURNS, "turns"),
    ({"result": bad("error_max_budget_usd"), "ended": exit_(1)}, S.FAILED, C.BUDGET, "budget"),
    ({"result": bad("x", terminal_reason="budget_exhausted"), "ended": exit_(1)}, S.FAILED, C.BUDGET, "budget"),
    ({"result": bad("error_max_structured_output_retries"), "ended": exit_(1)}, S.FAILED, C.CLAUDE_ERROR, "schema"),
    ({"result": bad(terminal_reason="prompt_too_long", text="Prompt is too long"), "ended": exit_(1)}, S.FAILED, C.PROMPT_TOO_LONG, "too long"),
    ({"result": bad(terminal_reason="blocking_limit"), "ended": exit_(1)}, S.FAILED, C.PROMPT_TOO_LONG, "too long"),
    ({"result": bad(terminal_reason="api_error", text="API Error: 500"), "ended": exit_(1)}, S.FAILED, C.API_ERROR, "API Error: 500"),
    ({"result": bad(), "errors": [ErrorSeen(error="server_error", text="boom")], "ended": exit_(1)}, S.FAILED, C.API_ERROR, "boom"),
    ({"result": bad(), "errors": [ErrorSeen(error="authentication_failed", text="Not logged in")], "ended": exit_(1)}, S.FAILED, C.AUTH, "Not logged in"),
    ({"result": bad(api_error_status=401), "ended": exit_(1)}, S.FAILED, C.AUTH, "logged in"),
    ({"result": bad(api_error_status=403), "ended": exit_(1)}, S.FAILED, C.AUTH, "logged in"),
    ({"result": INTERRUPTED, "ended": exit_(1)}, S.FAILED, C.CLAUDE_ERROR, "not by hivectl"),
    ({"result": bad("error_during_execution", errors=("No conversation found",)), "ended": exit_(1)}, S.FAILED, C.CLAUDE_ERROR, "No conversation found"),
    ({"result": bad("strange"), "ended": exit_(1)}, S.FAILED, C.CLAUDE_ERROR, "strange"),
    ({"result": bad(""), "ended": exit_(1)}, S.FAILED, C.CLAUDE_ERROR, "error"),
    ({"result": bad(""), "ended": exit_(1), "stderr_tail": "x\nError: from stderr\nat y"}, S.FAILED, C.CLAUDE_ERROR, "from stderr"),
    ({"result": bad("error_max_turns"), "ended": exit_(1, reason=R.USER)}, S.FAILED, C.MAX_TURNS, "turns"),
    ({"result": bad("error_max_turns"), "ended": exit_(143, reason=R.HANG)}, S.FAILED, C.MAX_TURNS, "turns"),
    # Usage limits.
    ({"result": bad(api_error="usage_limit_reached", text="You've hit it"), "ended": exit_(1)}, S.FAILED, C.USAGE_LIMIT, "You've hit it"),
    ({"result": bad(), "errors": [LIMIT_NAMED], "ended": exit_(1)}, S.FAILED, C.USAGE_LIMIT, "limit"),
    ({"result": bad(), "errors": [RATE], "limit": REJECTED, "ended": exit_(1)}, S.FAILED, C.USAGE_LIMIT, "429"),
    ({"result": bad(terminal_reason="api_error"), "errors": [RATE], "limit": LimitSeen(status="allowed"), "ended": exit_(1)}, S.FAILED, C.API_ERROR, "429"),
    ({"result": bad("error_max_turns"), "limit": REJECTED, "ended": exit_(1)}, S.FAILED, C.MAX_TURNS, "turns"),
    # Stops, with the result that only echoes them and without one.
    ({"result": INTERRUPTED, "ended": exit_(1), "stopped": R.USER}, S.CANCELLED, C.KILLED, "on request"),
    ({"result": INTERRUPTED, "ended": exit_(1, reason=R.TIMEOUT)}, S.TIMED_OUT, C.TIMEOUT, "longer"),
    ({"ended": exit_(143, reason=R.USER)}, S.CANCELLED, C.KILLED, "exit code 143"),
    ({"ended": exit_(0, reason=R.USER)}, S.CANCELLED, C.KILLED, "exit code 0"),
    ({"ended": exit_(None, signal=9, reason=R.TIMEOUT)}, S.TIMED_OUT, C.TIMEOUT, "SIGKILL"),
    ({"ended": exit_(143, reason=R.NO_OUTPUT)}, S.TIMED_OUT, C.NO_OUTPUT, "wrote nothing"),
    ({"ended": exit_(143, reason=R.OUTPUT_LIMIT)}, S.FAILED, C.OUTPUT_LIMIT, "more output"),
    ({"ended": exit_(143, reason=R.SHUTDOWN)}, S.CANCELLED, C.SHUTDOWN, "daemon"),
    ({"ended": exit_(143, reason=R.LEASE)}, S.LOST, C.LEASE, "worker"),
    ({"ended": exit_(143, reason=R.TIMEOUT), "stopped": R.USER}, S.CANCELLED, C.KILLED, "on request"),
    # Ends without a result.
    ({"ended": exit_(0)}, S.FAILED, C.BAD_OUTPUT, "without a result"),
    ({"ended": exit_(0), "saw_output": False}, S.FAILED, C.BAD_OUTPUT, "before it wrote anything"),
    ({"ended": exit_(0, reason=R.HANG)}, S.FAILED, C.BAD_OUTPUT, "without a result"),
    ({"ended": exit_(1), "stderr_tail": "Error: Session ID x is already in use."}, S.FAILED, C.CLAUDE_ERROR, "already in use"),
    ({"ended": exit_(1), "stderr_tail": "Not logged in · Please run /login"}, S.FAILED, C.AUTH, "Not logged in"),
    ({"ended": exit_(1)}, S.FAILED, C.CLAUDE_ERROR, "exit code 1"),
    ({"ended": exit_(143)}, S.FAILED, C.KILLED, "not by hivectl"),
    ({"ended": exit_(129)}, S.FAILED, C.KILLED, "not by hivectl"),
    ({"ended": exit_(None, signal=11)}, S.FAILED, C.KILLED, "SIGSEGV"),
    ({"ended": exit_(None, signal=999)}, S.FAILED, C.KILLED, "unknown"),
    ({"ended": exit_(1, out_unflushed=True)}, S.FAILED, C.STORAGE_FULL, "disk was full"),
    # Nothing is known.
    ({"ended": exit_(None, shim_lost=True)}, S.LOST, C.SHIM_LOST, "neither"),
    ({"ended": exit_(None)}, S.LOST, C.SHIM_LOST, "neither"),
    ({"ended": exit_(None, shim_lost=True, reason=R.USER)}, S.LOST, C.SHIM_LOST, "neither"),
    ({"ended": exit_(None, shim_lost=True, host_rebooted=True)}, S.LOST, C.HOST_REBOOTED, "restarted"),
]  # fmt: skip


@pytest.mark.parametrize(("known", "state", "cause", "part"), CASES)
def test_an_execution_ends_so(
    known: dict[str, Any], state: ExecutionState, cause: Cause, part: str
) -> None:
    end = outcome.judge(**known)
    assert (end.state, end.cause) == (state, cause)
    assert part in end.message
    assert "\n" not in end.message
    assert end.message == "" or end.message.endswith(".")


def test_an_execution_that_did_not_succeed_says_why() -> None:
    for known, *_ in CASES:
        end = outcome.judge(**known)
        assert end.message or end.cause is C.OK


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("CLAUDE_NOT_FOUND", C.CLAUDE_NOT_FOUND),
        ("CLAUDE_AUTH", C.AUTH),
        ("CLAUDE_VERSION", C.SPAWN_FAILED),
        ("SPAWN_FAILED", C.SPAWN_FAILED),
        ("PATH_CHANGED", C.SPAWN_FAILED),
        ("TRUST_CHANGED", C.SPAWN_FAILED),
        ("STORAGE_FULL", C.STORAGE_FULL),
        ("STORAGE_ERROR", C.INTERNAL),
        ("INTERNAL", C.INTERNAL),
    ],
)
def test_an_execution_that_could_not_start_names_the_error_and_the_remedy(
    code: str, cause: Cause
) -> None:
    end = outcome.from_error(HiveError(code, "It broke", hint="Mend it."))
    assert (end.state, end.cause, end.message) == (S.FAILED, cause, "It broke. Mend it.")


def test_every_cause_is_reached() -> None:
    reached = {outcome.judge(**known).cause for known, *_ in CASES}
    reached |= {outcome.from_error(HiveError(code)).cause for code in TABLE}
    assert reached == set(Cause)


def test_the_evidence_is_kept() -> None:
    end = outcome.judge(
        ended=exit_(1, denied=2),
        result=bad("error_max_turns", structured={"a": 1}),
        stderr_tail="x" * 9000,
        usage=Usage(turns=9),
    )
    assert end == Outcome(
        state=S.FAILED, cause=C.MAX_TURNS, message=end.message, exit_code=1,
        subtype="error_max_turns", result="", structured={"a": 1}, stderr="x" * 4000, survivors=2,
        usage=Usage(turns=9),
    )  # fmt: skip


def test_the_usage_is_the_results_own_when_nobody_added_it_up() -> None:
    assert outcome.judge(ended=exit_(), result=good()).usage == Usage(turns=2)
    assert outcome.judge(ended=exit_()).usage == Usage()


def test_the_reset_time_comes_from_the_error_else_from_the_limit_event() -> None:
    limited = bad(api_error="usage_limit_reached")
    for errors, limit, expected in (
        ([LIMIT_NAMED], REJECTED, 77),
        ([RATE], REJECTED, 1795229363),
        ([], None, None),
    ):
        end = outcome.judge(ended=exit_(1), result=limited, errors=errors, limit=limit)
        assert end.resets_at == expected
    assert outcome.judge(ended=exit_(1), result=bad("x"), limit=REJECTED).resets_at is None


def test_a_long_complaint_is_shortened() -> None:
    assert len(outcome.judge(ended=exit_(1), stderr_tail="x" * 9000).message) < 700


def test_of_a_long_error_of_the_api_the_reason_is_shown_and_not_the_ids_below_it() -> None:
    said = "API Error: safeguards flagged this message.\n\nMessage ID: msg_1"
    end = outcome.judge(ended=exit_(1), result=bad(text=said, terminal_reason="api_error"))
    assert end.message.endswith("safeguards flagged this message.")
    assert "msg_1" not in end.message


def test_of_a_long_stderr_the_last_error_is_shown() -> None:
    end = outcome.judge(ended=exit_(1), stderr_tail="a trace\nError: no such flag\nbye\n")
    assert "Error: no such flag" in end.message


@pytest.mark.parametrize(
    ("stderr", "result", "is_taken"),
    [
        ("Error: Session ID 0b7dcb1f-7b2a-4d3e is already in use.\n", None, True),
        ("Error: Port 80 is already in use.\n", None, False),
        ("Error: Session ID 0b7dcb1f-7b2a-4d3e is already in use.\n", bad(""), False),
    ],
)
def test_a_conversation_that_is_there_already_is_noticed(
    stderr: str, result: ResultSeen | None, is_taken: bool
) -> None:
    end = outcome.judge(ended=exit_(1), result=result, stderr_tail=stderr)
    assert (end.is_session_taken, end.state) == (is_taken, S.FAILED)
