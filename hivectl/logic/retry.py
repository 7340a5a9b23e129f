"""Whether a work order whose execution ended badly is tried again, and when.

Pure: the end, the order's allowance and a random share in, a decision out.
"""

from __future__ import annotations

import msgspec

from hivectl.model.work import Cause, ExecutionState

WORTH_RETRYING = frozenset(
    {
        Cause.API_ERROR,
        Cause.CLAUDE_ERROR,
        Cause.BAD_OUTPUT,
        Cause.SPAWN_FAILED,
        Cause.NO_OUTPUT,
        Cause.TIMEOUT,
        Cause.KILLED,
        Cause.SHIM_LOST,
        Cause.HOST_REBOOTED,
        Cause.LEASE,
        Cause.INTERNAL,
        Cause.STORAGE_FULL,
    }
)
"""Ends that another attempt may escape. Not: a used-up budget, turns, output or login, and what a person did."""

LOST = frozenset({Cause.SHIM_LOST, Cause.HOST_REBOOTED, Cause.LEASE})
JITTER = 0.25
"""A delay grows by up to this share, so that what failed together is not tried again together."""
DOUBLINGS_MAX = 30


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds before the first retry, doubled for each further one, and the most."""

    base_s: float
    max_s: float

    def delay_s(self, retry: int, share: float) -> float:
        """Before the `retry`-th retry (from 1); `share` is a random number from 0 to 1."""
        doubled = self.base_s * 2.0 ** min(max(retry - 1, 0), DOUBLINGS_MAX)
        return float(min(doubled, self.max_s) * (1 + JITTER * share))


class Again(msgspec.Struct, frozen=True):
    """Try again after `delay_s`."""

    delay_s: float


class GiveUp(msgspec.Struct, frozen=True):
    """Not again. `is_dead`: its retries are used up."""

    is_dead: bool


def decide(
    state: ExecutionState,
    cause: Cause,
    *,
    retries: int,
    retry_count: int,
    is_idempotent: bool,
    backoff: Backoff,
    share: float,
) -> Again | GiveUp:
    """What becomes of the order of an execution that ended in `state` (not completed) by `cause`.

    One that was lost is tried again only where retries were asked for, or the worker declared the work
    idempotent (then once more even without retries), because nobody knows what it did.
    """
    if state is ExecutionState.CANCELLED or cause not in WORTH_RETRYING:
        return GiveUp(is_dead=False)
    allowed = max(retries, 1) if is_idempotent and cause in LOST else retries
    if retry_count < allowed:
        return Again(backoff.delay_s(retry_count + 1, share))
    return GiveUp(is_dead=allowed > 0)
