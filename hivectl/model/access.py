"""Who may do what: actors, scopes, and one answer.

Scopes of a caller come from the server's record of its credential, never from what it says itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Scope(StrEnum):
    """What a credential allows. WORK and ASK belong to workers and executions only."""

    READ = "read"
    EXECUTE = "execute"
    APPROVE = "approve"
    MANAGE = "manage"
    ADMIN = "admin"
    WORK = "work"
    ASK = "ask"


PERSON_SCOPES = frozenset({Scope.READ, Scope.EXECUTE, Scope.APPROVE, Scope.MANAGE, Scope.ADMIN})

SELF_DENIED = frozenset({Scope.APPROVE, Scope.MANAGE, Scope.ADMIN})
"""Scopes that an execution never has, whatever credential it found (S16)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who sent a request. `execution` is set when the peer descends from one of our shims (S16)."""

    actor: str
    scopes: frozenset[Scope]
    connection: str = ""
    request: str = ""
    execution: str | None = None
    peer: str = ""
    """How it came: `unix pid=… uid=…` or `tcp 127.0.0.1:…`, for the audit."""

    def allows(self, scope: Scope | None) -> bool:
        """Whether this caller may use a method of `scope` (None = open to all)."""
        if scope is None:
            return True
        if self.execution is not None and scope in SELF_DENIED:
            return False
        if scope is Scope.ASK and (self.execution is not None or Scope.WORK in self.scopes):
            return True  # whoever works may ask
        return scope in self.scopes


SYSTEM = Caller(actor="system", scopes=PERSON_SCOPES)
