"""The clock of the budgets: minutes that pass without a word, limits that are changed, days that end.

What messages use is looked at when they are stored (`effects`); this looks at the rest, and tells the
queue when work may start again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from hivectl.config import Settings
from hivectl.model.errors import HiveError
from hivectl.model.usage import Budgets, Kind, Limits
from hivectl.model.work import EXECUTION_ENDS
from hivectl.ports import StopMode, StopReason
from hivectl.store import budgets as table
from hivectl.store import work
from hivectl.store.database import Database, OutboxEvent, Tx

_log = logging.getLogger(__name__)

_STIRRING = frozenset({"execution.state", "project.updated", "budget.exceeded"})
"""Events after which a budget may be used up, or be enough again, by time alone."""
LOOK_S = 5.0
"""How often: a budget of minutes may be passed by so much."""


def budgets_of(settings: Settings) -> Budgets:
    """The budgets of the settings."""
    project = {
        Kind.USD: settings["budget.project_usd_per_day"],
        Kind.TOKENS: settings["budget.project_tokens_per_day"],
        Kind.MINUTES: settings["budget.project_minutes_per_day"],
    }
    user = {
        Kind.USD: settings["budget.user_usd_per_day"],
        Kind.TOKENS: settings["budget.user_tokens_per_day"],
        Kind.MINUTES: settings["budget.user_minutes_per_day"],
    }
    return Budgets(
        project=_that_limit(project), user=_that_limit(user), prices=settings["usage.prices"]
    )


def _that_limit(given: Limits) -> Limits:
    return {kind: float(limit) for kind, limit in given.items() if limit > 0}


class BudgetClock:
    """Looks at all budgets every few seconds while something runs or is held back by one; else it sleeps."""

    def __init__(
        self,
        db: Database,
        settings: Callable[[], Settings],
        *,
        stop: Callable[[str, StopMode, StopReason], Awaitable[None]],
        wake: Callable[[], None],
    ) -> None:
        """`stop` ends a run whose stop is stored already; `wake` tells the queue that something may start."""
        self._db = db
        self._settings = settings
        self._stop = stop
        self._wake = wake
        self._news = asyncio.Event()

    def stir(self) -> None:
        """Limits may have changed."""
        self._news.set()

    def on_event(self, event: OutboxEvent) -> None:
        """Something began to run, is held back, or has other limits."""
        if event.type in _STIRRING:
            self._news.set()

    async def run(self) -> None:
        """For ever. A failure is logged, and it looks again."""
        while True:
            self._news.clear()
            try:
                may_pass = await self.look()
            except HiveError as exc:
                _log.error("cannot look at the budgets", extra={"code": exc.code})
                may_pass = True
            if not may_pass:
                await self._news.wait()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> bool:
        """Once: stop what must end, let start what may. False when time alone can change nothing."""
        budgets = budgets_of(self._settings())

        if not (budgets.project or budgets.user) and await self._db.one(table.ANY_SQL) is None:
            return False

        def change(tx: Tx) -> tuple[list[str], bool, bool]:
            before = table.blocks(tx)
            stops = [over.execution for over in table.review(tx, budgets) if _want(tx, over)]
            after = table.blocks(tx)
            return stops, bool(before - after), bool(after or work.live(tx))

        stops, is_freed, may_pass = await self._db.write(change)
        for id_ in stops:
            await self._stop(id_, StopMode.TERMINATE, StopReason.BUDGET)
        if is_freed:
            self._wake()
        return may_pass


def _want(tx: Tx, over: table.Overrun) -> bool:
    """Store that it is stopped; False where it has its verdict, or is stopped already."""
    run = work.find(tx, over.execution)
    if run.verdict is not None or run.stop_mode is not None or run.state in EXECUTION_ENDS:
        return False
    work.want_stop(
        tx, run.id, mode=StopMode.TERMINATE, reason=StopReason.BUDGET, by="system", note=over.sentence
    )  # fmt: skip
    return True
