"""What all connections of one server share."""

from __future__ import annotations

from typing import Protocol

import msgspec

from hivectl.kit.aio import Nursery
from hivectl.kit.clock import Clock
from hivectl.server.callers import Callers
from hivectl.server.deadlines import Deadlines
from hivectl.server.dispatch import Dispatcher
from hivectl.server.following import Presences, ResolveStream
from hivectl.server.hub import Hub
from hivectl.server.limits import Limits
from hivectl.server.peers import Peer
from hivectl.server.problem import StandardHeaders
from hivectl.server.security import Gate


class Connection(Protocol):
    """An open WebSocket."""

    def go_away(self, reconnect_after_ms: int) -> None:
        """Say that the server stops, then close with 1012."""
        ...


class Context(msgspec.Struct, kw_only=True):
    """Made by the server, given to every connection."""

    limits: Limits
    hub: Hub
    deadlines: Deadlines
    dispatcher: Dispatcher
    callers: Callers
    presences: Presences
    resolve_stream: ResolveStream
    clock: Clock
    nursery: Nursery
    headers: StandardHeaders
    version: str
    node: str
    connections: dict[Connection, None] = msgspec.field(default_factory=dict)
    """Open WebSockets, oldest first."""
    unauthenticated: set[Connection] = msgspec.field(default_factory=set)
    """Those among them that have shown no credential."""
    is_stopping: bool = False


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """One connection, as the listener passes it on."""

    context: Context
    gate: Gate
    peer: Peer
