"""The Python client: `Client` for asyncio programs, `SyncClient` for the others. Loads them when asked for."""

from __future__ import annotations

# Hot commands pass here: the module typing alone would cost them 8 ms.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hivectl.client.aio import Client
    from hivectl.client.subscription import Notice, Subscription
    from hivectl.client.sync import SyncClient
    from hivectl.model.errors import HiveError

__all__ = ["Client", "HiveError", "Notice", "Subscription", "SyncClient"]

_HOMES = {
    "Client": "hivectl.client.aio",
    "HiveError": "hivectl.model.errors",
    "Notice": "hivectl.client.subscription",
    "Subscription": "hivectl.client.subscription",
    "SyncClient": "hivectl.client.sync",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415  only when something is asked for

    return getattr(importlib.import_module(_HOMES[name]), name)
