"""The few methods that are about the connection or the protocol itself, and need no service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hivectl.kit.clock import SystemClock, format_us
from hivectl.model.access import Caller
from hivectl.server.dispatch import Binding

if TYPE_CHECKING:
    from hivectl.protocol import results

_clock = SystemClock()


async def ping(_caller: Caller, _asked: Any) -> results.PingResult:
    """The daemon's time."""
    return {"time": format_us(_clock.now_us())}


async def whoami(caller: Caller, _asked: Any) -> results.WhoamiResult:
    """The caller as the daemon sees it."""
    return {
        "actor": caller.actor,
        "scopes": sorted(caller.scopes),
        "connection": caller.connection,
        "execution": caller.execution,
        "peer": caller.peer,
    }


async def schema_get(_caller: Caller, _asked: Any) -> results.SchemaResult:
    """JSON Schemas of all methods, events and errors."""
    from hivectl.protocol import schema  # noqa: PLC0415  needs pydantic and is seldom asked for

    return schema.build_schema()


BINDINGS: dict[str, Binding] = {"ping": ping, "whoami": whoami, "schema.get": schema_get}


def load_rest() -> None:
    """Import what the first request and the first WebSocket need: soon, but not on the way to the first answer."""
    import hivectl.protocol.params  # noqa: PLC0415
    import hivectl.server.ws  # noqa: F401, PLC0415
