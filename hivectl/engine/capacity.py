"""The settings of the queue as the store wants them: slots, caps, what is tried again and when."""

from __future__ import annotations

import os

from hivectl.config import Settings
from hivectl.logic.retry import Backoff
from hivectl.store.attempts import Rules
from hivectl.store.queue import Caps

SLOTS_MOST = 4
"""Most local workers when nothing is configured (SPEC §6)."""


def slots(settings: Settings) -> int:
    """How many local workers there are where no person has scaled them."""
    if wanted := settings.number("worker.slots"):
        return wanted
    if settings.origins["execution.max_live"] != "default":
        return settings.number("execution.max_live")
    return min(os.cpu_count() or 1, SLOTS_MOST)


def caps(settings: Settings, *, only_resume: bool) -> Caps:
    """How much may run at once."""
    return Caps(
        max_live=settings.number("execution.max_live"),
        max_waiting=settings.number("execution.max_waiting"),
        per_user=settings.number("queue.max_per_user"),
        only_resume=only_resume,
    )


def rules(settings: Settings) -> Rules:
    """What becomes of an order whose execution ended badly."""
    return Rules(
        backoff=Backoff(
            base_s=settings.seconds("queue.retry_base_s"),
            max_s=settings.seconds("queue.retry_max_s"),
        ),
        on_usage_limit=settings.text("queue.on_usage_limit"),
        max_resumptions=settings.number("queue.max_resumptions"),
        limit_wait_s=settings.seconds("queue.limit_wait_s"),
    )
