"""The Python client: `Client` for asyncio programs, `SyncClient` for the others, `Worker` for programs that
carry work orders. Loads them when asked for."""

from __future__ import annotations

# Hot commands pass here: the module typing alone would cost them 8 ms.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from hivectl.client.aio import Client
    from hivectl.client.subscription import Notice, Subscription
    from hivectl.client.sync import SyncClient
    from hivectl.client.worker import Job, Permanent, Unanswered, Worker
    from hivectl.model.errors import HiveError

__all__ = [
    "Client",
    "HiveError",
    "Job",
    "Notice",
    "Permanent",
    "Subscription",
    "SyncClient",
    "Unanswered",
    "Worker",
]

_HOMES = {
    "Client": "hivectl.client.aio",
    "HiveError": "hivectl.model.errors",
    "Job": "hivectl.client.job",
    "Notice": "hivectl.client.subscription",
    "Permanent": "hivectl.client.job",
    "Subscription": "hivectl.client.subscription",
    "SyncClient": "hivectl.client.sync",
    "Unanswered": "hivectl.client.job",
    "Worker": "hivectl.client.worker",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415  only when something is asked for

    return getattr(importlib.import_module(_HOMES[name]), name)
