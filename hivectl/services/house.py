"""What all services share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hivectl.config import Settings
from hivectl.engine.engine import Engine
from hivectl.engine.publisher import Publisher
from hivectl.journal.writer import Journal
from hivectl.kit.clock import Clock
from hivectl.model.access import Caller
from hivectl.store.database import Database

Handler = Callable[[Caller, Any], Awaitable[Mapping[str, Any]]]
"""What answers one method: the caller and the checked parameters in, a result shape out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class House:
    """The rooms below."""

    settings: Callable[[], Settings]
    clock: Clock
    db: Database
    journal: Journal
    publisher: Publisher
    engine: Engine


def page_cursor(items: list[dict[str, Any]], limit: int, key: str) -> str | None:
    """Where the next page starts: after the last item, when the page is full."""
    return str(items[-1][key]) if len(items) == limit else None
