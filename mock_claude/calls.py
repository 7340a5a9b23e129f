"""What a tool call is and what comes out of it: plain values shared by all that handle tools."""

from typing import NamedTuple

from mock_claude.machine import Json

REJECTED = (
    "The user doesn't want to proceed with this tool use. The tool use was rejected (eg. if it was "
    "a file edit, the new_string was NOT written to the file). STOP what you are doing and wait "
    "for the user to tell you how to proceed."
)


class Call(NamedTuple):
    """One tool call of the model."""

    id: str
    name: str
    input: Json
    heartbeat_s: float = 30.0


class Outcome(NamedTuple):
    """What a tool gives back; `is_error` None leaves the key out, as some real tools do."""

    content: object
    result: object
    is_error: bool | None = None
    meta: Json | None = None


class ToolFailed(Exception):
    """The tool ran and failed; the text is its result."""


def failed(text: str) -> Outcome:
    """The outcome of a tool that ran and failed."""
    return Outcome(text, f"Error: {text}", is_error=True)


def unknown(name: str, why: str = "") -> Outcome:
    """The outcome of a call of a tool that does not exist."""
    text = f"Error: No such tool available: {name}{why}"
    return Outcome(f"<tool_use_error>{text}</tool_use_error>", text, is_error=True, meta={})


def rejected() -> Outcome:
    """The outcome of a call that an interruption cut off."""
    meta = {"non_execution_kind": "user-rejected"}
    return Outcome(REJECTED, "User rejected tool use", is_error=True, meta=meta)
