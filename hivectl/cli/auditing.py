"""audit verify: whether the chain is whole, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hivectl.cli.session import Session
from hivectl.model.errors import ExitCode

if TYPE_CHECKING:
    from hivectl.client.aio import Client


def verify(hive: Session, anchor: str | None) -> int:
    """Ask the daemon, print what it found; 1 when the chain is broken."""
    params = {} if anchor is None else {"anchor": anchor}

    async def work(client: Client) -> Any:
        return await client.call("audit.verify", **params)

    found = hive.run(work)
    if hive.options.output in {"json", "yaml"}:
        hive.print_document(found)
    elif found["fault"] is not None:
        fault = found["fault"]
        hive.screen.result(f"entry {fault['id']} {fault['why']}")
    else:
        hive.screen.result(f"whole: {found['entries']} entries")
        if found["anchor"]:
            hive.screen.result(found["anchor"])
            hive.screen.note(
                ("dim", "note the last line elsewhere, and give it as --anchor next time")
            )
    return int(ExitCode.OK if found["is_whole"] else ExitCode.FAILED)
