"""Claude's conversations, as a project keeps them."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class SessionState(StrEnum):
    """Where a conversation stands. ENDED: let go by the keep-alive policy or by hand; it can be resumed.
    RESET: the project was told to begin a new one; it can be resumed by its id. FORKED: a copy that its
    first prompt will make."""

    ACTIVE = "active"
    IDLE = "idle"
    ENDED = "ended"
    RESET = "reset"
    FORKED = "forked"


class EndReason(StrEnum):
    """Why a conversation was ended."""

    IDLE = "idle"
    AGE = "age"
    USER = "user"


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation as stored. Times in microseconds since the epoch."""

    id: str
    project: str
    state: SessionState
    model: str | None
    executions: int
    last_execution: str | None
    cost_usd: float
    created_us: int
    activity_us: int
    opened_us: int
    """When it was begun, or resumed after it had ended: its age counts from here."""
    ended_us: int | None
    end_reason: str | None
    forked_from: str | None
    """The conversation that this one is a copy of."""

    @property
    def is_begun(self) -> bool:
        """Whether Claude has it; a copy that was only asked for is made by its first prompt."""
        return self.forked_from is None or self.last_execution is not None

    @property
    def origin(self) -> str:
        """The conversation Claude has, to be resumed or copied."""
        return self.id if self.is_begun or self.forked_from is None else self.forked_from

    @property
    def stream(self) -> str:
        """Where its events are."""
        return f"project:{self.project}"
