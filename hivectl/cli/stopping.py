"""Stop executions, also when the daemon dies in the middle of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hivectl.cli import choosing, hot
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
    key = "execution" if choosing.is_execution(target) else "project"
    before = [target]
    if hot.has_lost_kill:
        hive.screen.note(_LOST)
    try:
        if key == "project":
            before = await _of_project(client, target)
        return dict(await client.call("kill", **{key: target}, **how))
    except HiveError as exc:
        if exc.code == "PROCESS_NOT_FOUND" and hot.has_lost_kill:
            # It was heard the first time, and the daemon that came back finished it.
            return {"executions": [await choosing.execution(hive, client, target)], "survivors": 0}
        if exc.code != "UNAVAILABLE":
            raise
    if not hot.has_lost_kill:
        hive.screen.note(_LOST)
    await client.revive()
    executions: list[Mapping[str, Any]] = []
    survivors = 0
    for execution in before:
        done = await _again(client, execution, how)
        executions += done["executions"]
        survivors += done["survivors"]
    return {"executions": executions, "survivors": survivors}


async def _of_project(client: Client, project: str) -> list[str]:
    """What it executes or has pending, so that nothing newer is stopped when it is asked again."""
    page = await client.call("execution.list", project=project, live=True)
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
