"""Workers: the slots of this daemon, and programs outside that carry work orders through the API."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class WorkerKind(StrEnum):
    """LOCAL is a slot of this daemon, EXTERNAL a program that claims through the API."""

    LOCAL = "local"
    EXTERNAL = "external"


class WorkerStatus(StrEnum):
    """What a worker does now; derived, never stored."""

    IDLE = "idle"
    BUSY = "busy"
    WAITING = "waiting"
    ERROR = "error"
    OFFLINE = "offline"


LOCAL_POOL = "claude"
"""The pool that the daemon's own slots serve."""
EXTERNAL_POOL = "external"
"""The pool of programs outside, where nobody names another."""


class Worker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as stored. Times in microseconds since the epoch."""

    id: str
    name: str
    kind: WorkerKind
    pools: list[str]
    is_draining: bool
    """Finishes what it carries and takes nothing new."""
    execution: str | None
    fault: str | None
    """What it said is wrong with it."""
    heartbeat_us: int
    lease_until_us: int | None
    """None for slots: they live with the daemon."""
    actor: str
    registered_us: int
    lease_us: int
    """How long it may be silent; 0 for slots."""
    is_offline: bool
    """It was silent for longer, and that was told."""

    @property
    def actor_name(self) -> str:
        """Who asks, when it asks a person something."""
        return f"worker:{self.name}"

    def status(self, *, now_us: int, is_waiting: bool) -> WorkerStatus:
        """`is_waiting`: what it carries waits for a person."""
        if self.lease_until_us is not None and self.lease_until_us <= now_us:
            return WorkerStatus.OFFLINE
        if self.execution is not None:
            return WorkerStatus.WAITING if is_waiting else WorkerStatus.BUSY
        return WorkerStatus.ERROR if self.fault else WorkerStatus.IDLE
