"""What the pretended API can refuse: errors, retries and usage limits, as data and text."""

from typing import NamedTuple

from mock_claude import machine
from mock_claude.machine import Json
from mock_claude.scenario import ScenarioError


class Failure(NamedTuple):
    """One kind of API error and how the CLI tells it."""

    error: str
    text: str
    status: int | None = None
    api_type: str = ""
    api_error: str = ""
    retry_error: str = ""
    reason: str = "api_error"


INVALID, SERVER = "invalid_request_error", "server_error"
REFUSED = (
    "API Error: Claude Code is unable to respond to this request: its safeguards flagged this "
    "message as a violation of the usage policy."
)
FAILURES = {
    "400": Failure("unknown", "API Error: 400 {message}", 400, INVALID),
    "401": Failure(
        "authentication_failed",
        "Invalid API key · Fix external API key",
        401,
        "authentication_error",
        retry_error="authentication_failed",
    ),
    "no_credentials": Failure("authentication_failed", "Not logged in · Please run /login"),
    "403": Failure(
        "authentication_failed",
        "Failed to authenticate. API Error: 403 {message}",
        403,
        "permission_error",
    ),
    "404": Failure(
        "model_not_found",
        "There's an issue with the selected model ({model}). It may not exist or you may not have "
        "access to it. Run --model to pick a different model.",
        404,
        "not_found_error",
    ),
    "413": Failure(
        "invalid_request",
        "Request too large (max 32MB). Try with a smaller file.",
        413,
        "request_too_large",
    ),
    "429": Failure(
        "rate_limit",
        "API Error: Request rejected (429) · {message}",
        429,
        "rate_limit_error",
        retry_error="rate_limit",
    ),
    "500": Failure(
        SERVER,
        "API Error: 500 {message}. This is a server-side issue, usually temporary — try again in a "
        "moment.",
        500,
        "api_error",
        retry_error=SERVER,
    ),
    "529": Failure(
        SERVER,
        "API Error: 529 Overloaded. This is a server-side issue, usually temporary — try again in "
        "a moment.",
        529,
        "overloaded_error",
        retry_error="overloaded",
    ),
    "connection": Failure(
        SERVER,
        "API Error: Connection refused — a firewall or proxy may be blocking it (ECONNREFUSED)",
        api_error="connection_failed",
        retry_error="unknown",
    ),
    "timeout": Failure(
        SERVER, "Request timed out. Check your internet connection.", retry_error="unknown"
    ),
    "credit": Failure("billing_error", "Credit balance is too low", 400, INVALID),
    "prompt_too_long": Failure(
        "invalid_request",
        "Prompt is too long · the request is ~210000 tokens (limit 200000)",
        400,
        INVALID,
        reason="prompt_too_long",
    ),
    "refusal": Failure("invalid_request", REFUSED, retry_error=""),
}
MESSAGES = {
    "400": "messages: something is wrong",
    "403": "Request not allowed",
    "429": "This request would exceed your account's rate limit. Please try again later.",
    "500": "Internal server error",
}
WINDOW_NAMES = {
    "five_hour": "5-hour limit",
    "seven_day": "weekly limit",
    "seven_day_opus": "Opus limit",
}


class Trouble(NamedTuple):
    """An error directive, understood."""

    failure: Failure
    text: str
    retries: int
    recovers: bool


def understand(given: object, model: str, retries: object) -> Trouble:
    """Read an `error` directive. Raises ScenarioError for an unknown kind."""
    fields: Json = given if isinstance(given, dict) else {"kind": given}
    kind = str(fields.get("kind"))
    failure = FAILURES.get(kind)
    if failure is None:
        raise ScenarioError(f"unknown error kind '{kind}'; known: {', '.join(FAILURES)}")
    limit = int(machine.env_number("CLAUDE_CODE_MAX_RETRIES", 10))
    wanted = fields.get("retries", retries)
    count = int(wanted) if isinstance(wanted, int | float) else limit
    message = str(fields.get("message") or MESSAGES.get(kind, ""))
    return Trouble(
        failure=failure,
        text=failure.text.format(message=message, model=model),
        retries=count if failure.retry_error else 0,
        recovers=bool(fields.get("recovers")),
    )


def retry_delay_ms(attempt: int, jitter: int) -> int:
    """The real schedule: doubling from half a second to 32 s, plus up to a quarter."""
    base = min(500 * 2 ** (attempt - 1), 32_000)
    return int(base + base * (jitter % 1000) / 4000)


def limit_info(given: object, resets_in_s: float) -> Json:
    """`rate_limit_info` for a `limit` directive."""
    resets_at = int(machine.wall_s() + resets_in_s)
    window = str(given) if given in WINDOW_NAMES else "five_hour"
    later = {"utilization": 0.4, "resetsAt": resets_at + 400_000, "status": "allowed"}
    if given == "allowed":
        return {"status": "allowed", "isUsingOverage": False}
    overage = {"overageStatus": "rejected", "overageDisabledReason": "org_level_disabled"}
    if given == "warning":
        warning = {
            "utilization": 0.92,
            "resetsAt": resets_at,
            "status": "allowed_warning",
            "surpassedThreshold": 0.9,
        }
        return {
            "status": "allowed_warning",
            "resetsAt": resets_at,
            "rateLimitType": window,
            "utilization": 0.92,
            **overage,
            "isUsingOverage": False,
            "surpassedThreshold": 0.9,
            "unifiedWindows": {"five_hour": warning, "seven_day": later},
        }
    full = {"utilization": 1, "resetsAt": resets_at, "status": "rejected"}
    return {
        "status": "rejected",
        "resetsAt": resets_at,
        "rateLimitType": window,
        **overage,
        "isUsingOverage": False,
        "unifiedWindows": {"five_hour": full, "seven_day": later},
    }


def limit_trouble(info: Json) -> Trouble:
    """The error that comes with a reached limit."""
    name = WINDOW_NAMES[info["rateLimitType"]]
    text = f"You've hit your {name} · resets {machine.clock_text(info['resetsAt'])}"
    failure = Failure("rate_limit", text, 429, "rate_limit_error", "usage_limit_reached")
    return Trouble(failure, text, 0, recovers=False)
