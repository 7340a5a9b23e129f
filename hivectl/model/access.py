"""Who may do what: actors, scopes, and one answer.

Scopes of a caller come from the server's record of its credential, never from what it says itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Scope(StrEnum):
    """What a credential allows. WORK is for programs that carry work orders, ASK for whoever works; the
    owner of the machine may run such programs and has both."""

    READ = "read"
    EXECUTE = "execute"
    APPROVE = "approve"
    MANAGE = "manage"
    ADMIN = "admin"
    WORK = "work"
    ASK = "ask"


PERSON_SCOPES = frozenset(Scope)

WORKER_DENIED = frozenset({Scope.APPROVE, Scope.MANAGE, Scope.ADMIN})
"""Scopes that a connection gives up for good once it works as a worker: who asks must not answer (S16)."""
SELF_DENIED = WORKER_DENIED | {Scope.WORK}
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
    is_worker: bool = False
    """Its connection has worked as a worker."""

    def allows(self, scope: Scope | None) -> bool:
        """Whether this caller may use a method of `scope` (None = open to all)."""
        if scope is None:
            return True
        if self.is_denied(scope):
            return False
        if scope is Scope.ASK and (self.execution is not None or Scope.WORK in self.scopes):
            return True  # whoever works may ask
        return scope in self.scopes

    def is_denied(self, scope: Scope) -> bool:
        """Whether it could approve itself with that scope, and so never has it."""
        if self.execution is not None and scope in SELF_DENIED:
            return True
        return self.is_worker and scope in WORKER_DENIED

    def as_worker(self) -> Caller:
        """The same caller on a connection that works."""
        return replace(self, scopes=self.scopes - WORKER_DENIED, is_worker=True)


SYSTEM = Caller(actor="system", scopes=PERSON_SCOPES)
