"""The daemon about itself: health, counters, settings, stop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from hivectl import __version__
from hivectl.config import SETTINGS, shown
from hivectl.model.access import Caller
from hivectl.model.errors import HiveError
from hivectl.ports import Agent
from hivectl.protocol.methods import PROTOCOL_VERSION
from hivectl.services.house import Handler, House

FULL_BYTES = 256 * 1024
"""With less room than this the database cannot be sure of its next commit."""
MIB = 1024 * 1024
LOW_BYTES = 64 * MIB
LAG_BAD_MS = 250.0
"""Above it health says that the event loop is late."""


class MachineFacts(Protocol):
    """What is asked of the machine."""

    @property
    def node(self) -> str: ...
    @property
    def uptime_s(self) -> float: ...
    def cpu_percent(self) -> float: ...
    def rss_bytes(self) -> int: ...
    async def loop_lag_ms(self) -> float: ...
    def disk(self) -> dict[str, Any]: ...


class Addresses(Protocol):
    """Where the server listens."""

    @property
    def socket(self) -> Path: ...
    @property
    def tcp(self) -> str | None: ...


class Network(Protocol):
    """What is asked of the server."""

    @property
    def addresses(self) -> Addresses: ...
    @property
    def connections(self) -> int: ...
    @property
    def subscriptions(self) -> int: ...
    def tls(self) -> dict[str, Any] | None: ...


class System:
    """Answers `health`, `stats`, `config.get`, `daemon.stop`."""

    def __init__(
        self,
        house: House,
        machine: MachineFacts,
        agent: Agent,
        pid: int,
        ask_stop: Callable[[str, float | None], None],
    ) -> None:
        """`network` is set once the server exists."""
        self._h = house
        self._machine = machine
        self._agent = agent
        self._pid = pid
        self._ask_stop = ask_stop
        self.network: Network | None = None
        self.notices: list[str] = []
        """Problems found at the start that health keeps telling (a database set aside)."""
        self.more_problems: list[Callable[[], list[str]]] = []
        """Others who are asked for their problems at each `health`."""

    def bindings(self) -> dict[str, Handler]:
        """Method name to handler."""
        return {
            "health": self.health,
            "stats": self.stats,
            "config.get": self.config,
            "daemon.stop": self.stop,
        }

    async def _counts(self) -> dict[str, int]:
        found = await self._h.db.all(
            "SELECT state, count(*) AS n FROM executions WHERE state IN ('pending','starting','running','waiting') GROUP BY state"
        )
        return {"pending": 0, "starting": 0, "running": 0, "waiting": 0} | {
            row["state"]: row["n"] for row in found
        }

    async def _claude(self) -> dict[str, Any]:
        try:
            info = await self._agent.probe()
        except HiveError as exc:
            return {"found": False, "code": exc.code, "problem": exc.message, "hint": exc.hint}
        # The mock's path would be Python's, and its version passes for a real one.
        is_mock = self._h.settings().text("claude.bin") == "mock"
        path = "the built-in mock" if is_mock else str(info.path)
        return {"found": True, "path": path, "version": info.version, "login": info.login}

    def _failures(self) -> list[str]:
        failing = []
        if self._h.publisher.is_blocked:
            failing.append("The log cannot be written: the disk is full.")
        stalled = sum(runner.is_stalled for runner in self._h.engine.runners.values())
        if stalled:
            failing.append(f"The disk is full: {stalled} executions wait for room.")
        return failing

    async def health(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Whether all is well, in words."""
        failing = self._failures()
        begun = time.perf_counter()
        try:
            await self._h.db.write(lambda _tx: None)
        except HiveError as exc:
            failing.append(f"The database cannot be written: {exc.message}")
        store_ms = (time.perf_counter() - begun) * 1000
        claude = await self._claude()
        disk = await asyncio.to_thread(self._machine.disk)
        lag = await self._machine.loop_lag_ms()
        free = disk["free_bytes"]
        if free < FULL_BYTES and not failing:
            failing.append("The disk is full: new work is refused, and runs wait for room.")
        problems = [*failing, *self.notices]
        for ask in self.more_problems:
            problems += ask()
        if FULL_BYTES <= free < LOW_BYTES:
            problems.append(f"The disk is nearly full: {free // MIB} MiB are left.")
        if not claude["found"]:
            problems.append(claude["problem"])
        if lag > LAG_BAD_MS:
            problems.append(f"The event loop is {lag:.0f} ms late.")
        problems += [
            f"{notice.stream}: {notice.text}" for notice in list(self._h.journal.notices)[-10:]
        ]
        network = self.network
        return {
            "status": "failing" if failing else "degraded" if problems else "ok",
            "problems": problems,
            "version": __version__,
            "protocol": PROTOCOL_VERSION,
            "node": self._machine.node,
            "pid": self._pid,
            "uptime_s": round(self._machine.uptime_s, 3),
            "home": str(self._h.settings().places.state),
            "socket": str(network.addresses.socket) if network is not None else "",
            "tcp": network.addresses.tcp if network is not None else None,
            "tls": network.tls() if network is not None else None,
            "cpu_percent": self._machine.cpu_percent(),
            "rss_bytes": self._machine.rss_bytes(),
            "loop_lag_ms": round(lag, 3),
            "disk": disk,
            "storage": {
                "commit_ms": round(store_ms, 3),
                "database_bytes": self._h.db.path.stat().st_size,
                "log_bytes": self._h.journal.disk_bytes(),
                "streams": len(self._h.journal.streams()),
            },
            "claude": claude,
            "executions": await self._counts(),
            "connections": network.connections if network is not None else 0,
            # A process of the same user can read the token file and the socket (S16): told, not hidden.
            "self_approval_possible": True,
        }

    async def stats(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Counters and gauges."""
        return await self.gauges()

    async def gauges(self) -> dict[str, Any]:
        """What `stats` answers, and what is sent every 10 seconds to who follows `system`."""
        projects = await self._h.db.one("SELECT count(*) FROM projects")
        pending = await self._h.db.one("SELECT count(*) FROM approvals WHERE state = 'pending'")
        asked = await self._h.db.one("SELECT count(*) FROM questions WHERE state = 'pending'")
        assert projects is not None
        assert pending is not None
        assert asked is not None
        network = self.network
        return {
            "uptime_s": round(self._machine.uptime_s, 3),
            "executions": await self._counts(),
            "projects": projects[0],
            "connections": network.connections if network is not None else 0,
            "subscriptions": network.subscriptions if network is not None else 0,
            "events": self._h.publisher.events,
            "bytes_in": self._h.publisher.bytes,
            "log_bytes": self._h.journal.disk_bytes(),
            "approvals_pending": pending[0],
            "questions_pending": asked[0],
            "rss_bytes": self._machine.rss_bytes(),
            "cpu_percent": self._machine.cpu_percent(),
            "loop_lag_ms": round(await self._machine.loop_lag_ms(), 3),
        }

    async def config(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Every setting with value and origin."""
        settings = self._h.settings()
        items = [
            {
                "key": row.key,
                "value": shown(row, settings[row.key]),
                "origin": settings.origins[row.key],
                "default": row.default,
                "meaning": row.meaning,
            }
            for row in SETTINGS
        ]
        return {"items": items, "file": str(settings.places.config_file)}

    async def stop(self, caller: Caller, p: Any) -> dict[str, Any]:
        """Stop the daemon after this answer."""
        live = list(self._h.engine.runners)
        self._ask_stop(p.runs, p.timeout_s)
        return {"pid": self._pid, "runs": p.runs, "live": live}
