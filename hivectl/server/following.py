"""The methods that only make sense on a connection that stays: subscribe, tail, unsubscribe, join, leave.

From parameters to cursors; what happens with them is the follower's business.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from hivectl.engine.bus import VIEWS, Bus, Start
from hivectl.logic.redact import excerpt
from hivectl.model.access import Caller
from hivectl.model.errors import HiveError
from hivectl.protocol.frames import project_of
from hivectl.server.dispatch import Binding
from hivectl.server.follower import Follower
from hivectl.server.hub import Hub
from hivectl.server.subscription import Cursor, Subscription

if TYPE_CHECKING:
    from hivectl.protocol import params, results

ResolveStream = Callable[[Caller, str], str | Awaitable[str]]
"""resolve_stream(caller, ref): the home stream `project:<id>` of a project's id or name.

Raises HiveError PROJECT_NOT_FOUND or FORBIDDEN."""


class Reply(msgspec.Struct, frozen=True):
    """A result, and what is to happen right after it was written."""

    result: Any
    then: Callable[[], None]


class Presences:
    """Who is present in which project: one for the daemon."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._present: dict[str, dict[str, str]] = {}

    def join(self, stream: str, connection: str, actor: str) -> None:
        """Be seen; nothing happens when already seen."""
        present = self._present.setdefault(stream, {})
        if connection not in present:
            present[connection] = actor
            self._tell(stream, "presence.joined", connection, actor)

    def leave(self, stream: str, connection: str) -> None:
        """No longer be seen."""
        actor = self._present.get(stream, {}).pop(connection, None)
        if actor is not None:
            if not self._present[stream]:
                del self._present[stream]
            self._tell(stream, "presence.left", connection, actor)

    def leave_all(self, connection: str) -> None:
        """The connection is gone."""
        for stream in [name for name, there in self._present.items() if connection in there]:
            self.leave(stream, connection)

    def of(self, stream: str) -> list[str]:
        """Actors present, each once."""
        return sorted(set(self._present.get(stream, {}).values()))

    def _tell(self, stream: str, kind: str, connection: str, actor: str) -> None:
        self._bus.ephemeral(stream, kind, {"actor": actor, "connection": connection})


class Following:
    """One connection's bindings."""

    __slots__ = (
        "_connection", "_count", "_follower", "_hub", "_presences", "_resolve_stream", "_starting",
    )  # fmt: skip

    def __init__(
        self,
        connection: str,
        *,
        hub: Hub,
        follower: Follower,
        presences: Presences,
        resolve_stream: ResolveStream,
    ) -> None:
        self._connection = connection
        self._hub = hub
        self._follower = follower
        self._presences = presences
        self._resolve_stream = resolve_stream
        self._count = 0
        self._starting = 0

    @property
    def bindings(self) -> dict[str, Binding]:
        """Its methods by name."""
        return {
            "subscribe": self.subscribe,
            "tail": self.tail,
            "unsubscribe": self.unsubscribe,
            "project.join": self.join,
            "project.leave": self.leave,
        }

    async def subscribe(self, caller: Caller, asked: params.Subscribe) -> Reply:
        """Follow streams from a position on."""
        since: Any = asked.since
        if not isinstance(since, str):
            since = since.model_dump()
        homes, views = await self._sort(caller, asked.streams)
        return await self._follow(homes, views, since, asked.types, partials=asked.partials)

    async def tail(self, caller: Caller, asked: params.Tail) -> Reply:
        """Follow projects from their last events on."""
        names = [f"project:{ref}" for ref in asked.projects] or ["*"]
        homes, views = await self._sort(caller, names)
        since = {"last": asked.last}
        return await self._follow(homes, views, since, asked.types, partials=asked.partials)

    async def unsubscribe(self, _caller: Caller, asked: params.Unsubscribe) -> results.Unsubscribed:
        """Stop following."""
        if not self._follower.stop(asked.sub):
            raise HiveError(
                "INVALID_PARAMS", f"There is no subscription {excerpt(asked.sub, 100)!r}."
            )
        return {"sub": asked.sub}

    async def join(self, caller: Caller, asked: params.ProjectRef) -> Reply:
        """Be present, and follow the project from now on."""
        stream = await self._resolve(caller, asked.project)
        sub_id = _join_id(stream)
        if sub_id in self._follower.subs:
            return Reply(self._presence(stream), _nothing)
        reply = await self._follow({stream}, set(), "now", None, partials=False, sub_id=sub_id)
        present = {*self._presences.of(stream), caller.actor}

        def then() -> None:
            # Followed first, so that who joins sees that it did.
            reply.then()
            self._presences.join(stream, self._connection, caller.actor)

        result: results.Presence = {"project": project_of(stream) or "", "present": sorted(present)}
        return Reply(result, then)

    async def leave(self, caller: Caller, asked: params.ProjectRef) -> results.Presence:
        """No longer be present, nor follow by that."""
        stream = await self._resolve(caller, asked.project)
        self._follower.stop(_join_id(stream))
        self._presences.leave(stream, self._connection)
        return self._presence(stream)

    # --- within --------------------------------------------------------------------------------------------

    def _presence(self, stream: str) -> results.Presence:
        return {"project": project_of(stream) or "", "present": self._presences.of(stream)}

    async def _resolve(self, caller: Caller, ref: str) -> str:
        found = self._resolve_stream(caller, ref)
        return await found if inspect.isawaitable(found) else found

    async def _sort(self, caller: Caller, names: list[str]) -> tuple[set[str], set[str]]:
        homes: set[str] = set()
        views: set[str] = set()
        for name in names:
            if name in VIEWS:
                views.add(name)
            elif name == "system":
                homes.add(name)
            elif name.startswith("project:"):
                homes.add(await self._resolve(caller, name.removeprefix("project:")))
            else:
                raise HiveError("STREAM_NOT_FOUND", f"There is no stream {excerpt(name, 100)!r}.")
        return homes, views

    async def _follow(
        self,
        homes: set[str],
        views: set[str],
        since: Any,
        types: list[str] | None,
        *,
        partials: bool,
        sub_id: str = "",
    ) -> Reply:
        most = self._hub.limits.subscriptions
        if len(self._follower.subs) + self._starting >= most:
            raise HiveError(
                "RESOURCE_LIMIT",
                f"A connection may have {most} subscriptions.",
                details={"limit": "limits.subscriptions", "max": most},
            )
        self._starting += 1
        try:
            self._count += not sub_id
            sub = Subscription(
                sub_id or f"s{self._count}",
                homes=tuple(homes),
                views=tuple(views),
                globs=types,
                partials=partials,
                selectors=self._hub.selectors,
            )
            starts = await self._find_starts(sub, since)
        finally:
            self._starting -= 1
        return self._begin(sub, starts)

    async def _find_starts(self, sub: Subscription, since: Any) -> dict[str, Start]:
        bus = self._hub.bus
        for stream in sub.homes:
            bus.ensure(stream)
        streams = set(sub.homes)
        if sub.views:
            streams |= set(bus.streams())
        if isinstance(since, dict) and "seq" in since and (sub.views or len(streams) != 1):
            raise HiveError(
                "INVALID_PARAMS",
                "One position cannot stand for several streams.",
                hint='Give {"positions": {stream: {"epoch": ..., "seq": ...}}}.',
            )
        starts: dict[str, Start] = {}
        for stream in sorted(streams):
            if not bus.is_open(stream):
                await asyncio.sleep(0)  # opening reads files: others have the loop in between
                if stream not in sub.homes and not bus.exists(stream):
                    continue
            bus.head(stream)
            own = since
            if isinstance(since, dict) and "positions" in since:
                # A stream the client does not know appeared since: all of it is news.
                own = since["positions"].get(stream, "start")
            wants = sub.selector_of(stream)
            filtered = None if wants.selects_all else wants.wants
            if isinstance(own, dict) and ("time" in own or ("last" in own and filtered)):
                starts[stream] = await asyncio.to_thread(
                    bus.resolve_since, stream, own, wants=filtered
                )
            else:
                starts[stream] = bus.resolve_since(stream, own)
        return starts

    def _begin(self, sub: Subscription, starts: dict[str, Start]) -> Reply:
        """From here to the start of the subscription nothing is awaited: no gap, nothing twice."""
        positions: dict[str, results.Position] = {}
        reason = None
        for stream, start in starts.items():
            if stream not in sub.homes and not self._hub.bus.exists(stream):
                continue  # removed while the others were looked at
            head = self._hub.bus.head(stream)
            sub.cursors[stream] = Cursor(
                sub,
                stream,
                epoch=start.epoch,
                after=start.after_seq,
                target=head.last_seq,
                selector=sub.selector_of(stream),
            )
            positions[stream] = {"epoch": head.epoch, "seq": head.last_seq}
            reason = reason or start.reason
        result: results.Subscribed = {
            "sub": sub.id,
            "positions": positions,
            "recovered": reason is None,
            "reason": reason,
        }
        return Reply(result, lambda: self._follower.start(sub))


def _join_id(stream: str) -> str:
    return f"join:{stream}"


def _nothing() -> None:
    """What follows a reply that starts nothing."""
