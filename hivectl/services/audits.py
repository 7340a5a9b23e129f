"""The audit: who changed what, with a limit for what was refused, and whether the chain is whole."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from hivectl.kit.clock import format_us
from hivectl.model.access import Caller
from hivectl.services.house import Handler, House
from hivectl.store import audit as chain
from hivectl.store import people

REFUSED_A_MINUTE = 20
"""Entries for refused calls of one caller in a minute; those beyond become one entry with their number."""
CALLERS = 256
"""Callers whose refusals are counted apart in a minute; all others count as one."""
MINUTE_S = 60.0
PAGE = 500
"""Rows that are checked in one go."""
_KEPT = frozenset({"ok", "cancelled", "INTERNAL"})
"""Outcomes after which something may have been changed: each has its entry."""
_log = logging.getLogger(__name__)


class _Refusals:
    """What was refused to one caller in this minute."""

    __slots__ = ("caller", "count", "since_us")

    def __init__(self, caller: Caller, since_us: int) -> None:
        self.caller = caller
        self.since_us = since_us
        self.count = 0


class Audits:
    """Answers `audit.verify`; `note` is what the server calls after each method that changes something."""

    def __init__(self, house: House) -> None:
        self._h = house
        self._refusals: dict[str, _Refusals] = {}

    def bindings(self) -> dict[str, Handler]:
        """Method name to handler."""
        return {"audit.verify": self.verify}

    async def note(self, caller: Caller, method: str, target: str, outcome: str) -> None:
        """Append who changed what to the chain; a refusal beyond the limit is only counted."""
        if outcome not in _KEPT and not self._may_write(caller):
            return
        await self._append(caller, method, target, outcome, request=caller.request)

    def _may_write(self, caller: Caller) -> bool:
        who = f"{caller.actor} {caller.execution or ''}"
        if who not in self._refusals and len(self._refusals) >= CALLERS:
            who = ""
        found = self._refusals.setdefault(who, _Refusals(caller, self._h.clock.now_us()))
        found.count += 1
        return found.count <= REFUSED_A_MINUTE

    async def run(self) -> None:
        """Settle each minute, for ever."""
        while True:
            await asyncio.sleep(MINUTE_S)
            try:
                await self.settle()
            except Exception:  # noqa: BLE001  a failed note ends neither the daemon nor the next minute's
                _log.exception("audit entry could not be written")

    async def settle(self) -> None:
        """A new minute: each caller that was refused more than the limit gets one entry with the rest."""
        ended, self._refusals = self._refusals, {}
        for found in ended.values():
            beyond = found.count - REFUSED_A_MINUTE
            if beyond > 0:
                await self._append(
                    found.caller, "*", "", "REFUSED", count=beyond, since=format_us(found.since_us)
                )

    async def _append(
        self, caller: Caller, method: str, target: str, outcome: str, **more: Any
    ) -> None:
        entry = {
            "at": format_us(self._h.clock.now_us()),
            "actor": caller.actor,
            "peer": caller.peer,
            "execution": caller.execution,
            "method": method,
            "target": target,
            "outcome": outcome,
            **more,
        }
        await self._h.db.write(lambda tx: people.audit(tx, entry))

    async def verify(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Read the whole chain; the first entry that is not as it was written."""
        anchor = None
        if p.anchor is not None:
            id_, _, hash_ = p.anchor.partition(":")
            anchor = (int(id_), hash_)
        reader = chain.Reader(anchor)
        fault, last = None, 0
        while fault is None:
            found = await self._h.db.all(
                "SELECT id, at_us, body, hash FROM audit WHERE id > ? ORDER BY id LIMIT ?",
                last,
                PAGE,
            )
            for row in found:
                fault = fault or reader.take(chain.Row(*row))
            if len(found) < PAGE:
                break
            last = found[-1]["id"]
        fault = fault or reader.end()
        return {
            "is_whole": fault is None,
            "entries": reader.entries,
            "anchor": f"{reader.entries}:{reader.last_hash}" if reader.entries else None,
            "fault": None if fault is None else {"id": fault.id, "why": fault.why},
        }
