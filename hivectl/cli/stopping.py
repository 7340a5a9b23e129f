"""Stop executions, also when the daemon dies in the middle of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hivectl.cli import grammar, hot
from hivectl.cli.session import Session
from hivectl.kit.clock import SystemClock
from hivectl.model.errors import HiveError

if TYPE_CHECKING:
    from hivectl.client.aio import Client

PATIENCE_S = 60.0
"""How long a daemon that died is waited for."""
_LOST = ("dim", "the daemon is gone; what was to be stopped is asked for again")


async def stop(
    hive: Session, client: Client, target: str, *, mode: str, reason: str
) -> dict[str, Any]:
    """What the wire's `kill` returns. A lost daemon is waited for, and asked again for the same executions.

    Raises HiveError: the daemon's own, or UNAVAILABLE when it did not come back.
    """
    how = {"mode": mode, "reason": reason}
    before = hot.lost_kill
    if before is None:
        first, named = grammar.kill(target)
        before = [target] if first is None else await _executions(client, first)
        try:
            return dict(await client.call("kill", **named, **how))
        except HiveError as exc:
            if exc.code != "UNAVAILABLE":
                raise
    hive.screen.note(_LOST)
    await client.revive()
    executions: list[Mapping[str, Any]] = []
    survivors = 0
    for execution in before:
        done = await _again(client, execution, how)
        executions += done["executions"]
        survivors += done["survivors"]
    return {"executions": executions, "survivors": survivors}


async def _executions(client: Client, asked: dict[str, Any]) -> list[str]:
    page = await client.call("execution.list", **asked)
    return [item["execution"] for item in page["items"]]


async def _again(client: Client, execution: str, how: Mapping[str, str]) -> dict[str, Any]:
    clock = SystemClock()
    deadline = clock.monotonic() + PATIENCE_S
    while True:
        try:
            # A request that changes nothing waits for the daemon by itself.
            found = await client.call("execution.get", execution=execution)
            return dict(await client.call("kill", execution=found["execution"], **how))
        except HiveError as exc:
            if exc.code == "PROCESS_NOT_FOUND":
                ended = await client.call("execution.get", execution=execution)
                return {"executions": [ended], "survivors": 0}
            if exc.code != "UNAVAILABLE" or clock.monotonic() >= deadline:
                raise
