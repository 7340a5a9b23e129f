"""A registered directory with its defaults, its log and its current conversation."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec


class ProjectState(StrEnum):
    """A project as clients see it. ERROR: it cannot run at all (path gone, log damaged)."""

    IDLE = "idle"
    EXECUTING = "executing"
    WAITING = "waiting"
    ERROR = "error"


class Trust(StrEnum):
    """Whether the project's own settings, hooks and servers take effect."""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"
    CHANGED = "changed"


class Project(msgspec.Struct, frozen=True, kw_only=True):
    """A project as stored. Times in microseconds since the epoch."""

    id: str
    name: str
    path: str
    dev: int
    ino: int
    trust_hash: str | None
    trust_broken: bool
    defaults: dict[str, Any]
    env: dict[str, str]
    version: int
    session: str | None
    state: ProjectState
    error: str | None
    executions: int
    input_tokens: int
    output_tokens: int
    cost_usd: float
    created_us: int
    activity_us: int

    @property
    def stream(self) -> str:
        """Where its events are."""
        return f"project:{self.id}"

    @property
    def trust(self) -> Trust:
        """What the trust given to it is worth now."""
        if self.trust_hash is None:
            return Trust.UNTRUSTED
        return Trust.CHANGED if self.trust_broken else Trust.TRUSTED
