"""What a connection follows: streams, views, wanted types, and how far each stream was shown.

Values only; the hub and the follower move them on.
"""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from hivectl.engine.bus import VIEWS
from hivectl.model.event import EVENTS

OPT_IN = frozenset({"partial"})
"""Ephemeral types only for who asked for partials."""
MEASURES = frozenset({"stats", "connection.health"})
"""Ephemeral types for who named `system`, the type itself, or asked for partials."""


class Selector:
    """Which types of events are wanted; equal ones are one object, so that their frames are shared."""

    __slots__ = ("_globs", "_known", "_types", "selects_all")

    def __init__(self, types: frozenset[str] | None, globs: tuple[str, ...] | None) -> None:
        """`types` None = all types of the stream; `globs` None = no further wish."""
        self._types = types
        self._globs = globs
        self._known: dict[str, bool] = {}
        self.selects_all = types is None and globs is None

    def wants(self, kind: str) -> bool:
        """Whether events of this type are wanted."""
        known = self._known.get(kind)
        if known is None:
            known = self._matches(kind)
            if kind in EVENTS:
                self._known[kind] = known
        return known

    def _matches(self, kind: str) -> bool:
        if self._types is not None and kind not in self._types:
            return False
        return self._globs is None or any(fnmatchcase(kind, glob) for glob in self._globs)

    def names(self, kind: str) -> bool:
        """Whether this type was asked for by its own name."""
        return self._globs is not None and kind in self._globs


class Selectors:
    """Makes each selector once."""

    def __init__(self) -> None:
        self._made: dict[tuple[frozenset[str] | None, tuple[str, ...] | None], Selector] = {}

    def select(self, types: frozenset[str] | None, globs: Iterable[str] | None) -> Selector:
        """The selector of these wishes."""
        key = (types, None if globs is None else tuple(sorted(set(globs))))
        if key[1] is not None and "*" in key[1]:
            key = (types, None)
        if len(self._made) > 1000:
            self._made.clear()
        return self._made.setdefault(key, Selector(*key))


class Cursor:
    """How far one subscription was shown one home stream."""

    __slots__ = (
        "epoch", "is_behind", "is_replaying", "position", "selector", "start", "stream", "sub", "target",
    )  # fmt: skip

    def __init__(
        self,
        sub: Subscription,
        stream: str,
        *,
        epoch: str,
        after: int,
        target: int,
        selector: Selector,
    ) -> None:
        self.sub = sub
        self.stream = stream
        self.epoch = epoch
        self.start = after
        self.position = after
        self.target = target
        """The head when it was made: reaching it is having caught up."""
        self.selector = selector
        self.is_behind = False
        """Its subscription waits for it to reach its target."""
        self.is_replaying = after < target
        """It reads the log at its own pace; otherwise it follows the newest frames in memory."""

    def covers(self, seq: int, kind: str) -> bool:
        """Whether it has shown this event already."""
        return self.start < seq <= self.position and self.selector.wants(kind)


class Subscription:
    """One `subscribe`, `tail` or `project.join` of a connection."""

    __slots__ = (
        "_home_selector", "_view_selector", "behind", "cursors", "homes", "id", "is_started", "partials",
        "quiet_since", "views",
    )  # fmt: skip

    def __init__(
        self,
        identity: str,
        *,
        homes: tuple[str, ...],
        views: tuple[str, ...],
        globs: Iterable[str] | None,
        partials: bool,
        selectors: Selectors,
    ) -> None:
        self.id = identity
        self.homes = homes
        self.views = views
        self.partials = partials
        self.cursors: dict[str, Cursor] = {}
        self.behind = 0
        """How many of its cursors have not caught up yet."""
        self.is_started = False
        self.quiet_since = 0.0
        """When something was last sent for it."""
        self._home_selector = selectors.select(None, globs)
        self._view_selector = selectors.select(_types_of(views), globs)

    def selector_of(self, stream: str) -> Selector:
        """What is wanted of a home stream: all of it when it was named, else what the views show."""
        return self._home_selector if stream in self.homes else self._view_selector

    @property
    def is_filtered(self) -> bool:
        """Whether it does not see every event of its streams."""
        return any(not cursor.selector.selects_all for cursor in self.cursors.values())

    def wants_ephemeral(self, stream: str, kind: str) -> bool:
        """Whether an event without number is for it."""
        selector = self.selector_of(stream)
        if not selector.wants(kind):
            return False
        if kind in OPT_IN:
            return self.partials
        if kind in MEASURES:
            return stream in self.homes or self.partials or selector.names(kind)
        return True

    @property
    def wants_measures(self) -> bool:
        """Whether `stats` are for it."""
        is_named = bool(self.views) or "system" in self.homes
        return is_named and self.wants_ephemeral("system", "stats")

    def positions(self) -> dict[str, Any]:
        """Where it stands in each home stream."""
        return {
            cursor.stream: {"epoch": cursor.epoch, "seq": cursor.position}
            for cursor in self.cursors.values()
        }


def _types_of(views: tuple[str, ...]) -> frozenset[str] | None:
    """The types some views show together; None = all."""
    shown: set[str] = set()
    for view in views:
        types = VIEWS[view]
        if types is None:
            return None
        shown |= types
    return frozenset(shown)
