"""The one place where the rooms are joined: adapters chosen, recovery run, listeners opened."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from hivectl import __version__, config
from hivectl.agents.claude import ClaudeAgent
from hivectl.agents.claude_argv import secret_paths
from hivectl.config import Places, Settings
from hivectl.daemon import token_file
from hivectl.daemon.lifecycle import Control, Runs
from hivectl.engine.bus import Bus
from hivectl.engine.courier import Courier
from hivectl.engine.engine import Engine
from hivectl.engine.publisher import Publisher
from hivectl.engine.rebuild import rebuild
from hivectl.engine.runner import World
from hivectl.journal.limits import JournalLimits
from hivectl.journal.writer import Journal
from hivectl.kit.aio import Nursery
from hivectl.kit.files import boot_id, sync_dir
from hivectl.kit.ids import make_id
from hivectl.logic.redact import redact_text
from hivectl.model.errors import HiveError
from hivectl.outlets.people import PeopleOutlet
from hivectl.outlets.webhook import WebhookOutlet
from hivectl.procs.host import LocalHost
from hivectl.procs.rundir import StopTimes
from hivectl.procs.shim import SYSTEM as PROCESSES
from hivectl.server.app import Server
from hivectl.server.peers import UNKNOWN_EXECUTION, Ancestry
from hivectl.services.audits import Audits
from hivectl.services.chats import Chats
from hivectl.services.executions import Executions
from hivectl.services.house import Handler, House
from hivectl.services.messages import Messages
from hivectl.services.notifications import Notifications
from hivectl.services.people import People
from hivectl.services.projects import Projects
from hivectl.services.questions import Questions
from hivectl.services.queue import Queue
from hivectl.services.sessions import Sessions
from hivectl.services.summaries import Summaries
from hivectl.services.system import System
from hivectl.services.usage import Usage
from hivectl.services.workers import Workers
from hivectl.services.worktrees import Worktrees
from hivectl.store import usage, work
from hivectl.store.database import Database, DatabaseDamaged, Tx, set_aside

_log = logging.getLogger(__name__)

TARGET_MAX = 200
"""Most characters of what a request was about in the audit: cut after secrets are masked, else half a one would stay."""
SYNC_S = {"normal": 0.1, "strict": 0.02}
CLOSE_S = 2.0
WARM_CLOSE_S = 5.0
"""Claude that waits for a prompt ends in 30 ms; one that does not is swept at the next start."""
VITAL = frozenset({"claims"})
"""Tasks without which the daemon would only look alive."""
HOUR_US = 3_600_000_000
UPKEEP_S = 3600.0
ROOM_RETRY_S = 0.5
"""How often what could not be written for want of room is tried again."""


class Daemon:
    """Everything the daemon does; fulfils `lifecycle.App`."""

    def __init__(self, settings: Settings, control: Control) -> None:
        """Nothing is opened before `start`."""
        self._settings = settings
        self._control = control
        self._db: Database | None = None
        self._engine: Engine | None = None
        self._publisher: Publisher | None = None
        self._server: Server | None = None
        self._system: System | None = None
        self._courier: Courier | None = None
        self._audits: Audits | None = None
        self._nursery = Nursery(self._task_failed)
        places = settings.places
        self._journal = Journal(
            places.journal, clock=control.clock, limits=journal_limits(settings), boot_id=boot_id()
        )
        self._bus = Bus(self._journal, control.clock)
        self._host = LocalHost(
            places.runs,
            clock=control.clock,
            times=StopTimes(
                interrupt_s=settings.seconds("execution.interrupt_s"),
                close_s=settings.seconds("execution.close_s"),
                term_s=settings.seconds("execution.term_s"),
            ),
            failpoints=settings.environment.get("HIVECTL_FAILPOINT", ""),
        )

    def _task_failed(self, name: str, error: BaseException) -> None:
        _log.error("task failed", extra={"task": name}, exc_info=error)
        if name in VITAL:
            self._control.fail(f"{name}: {error}")

    def _log_broken(self, error: Exception) -> None:
        _log.critical("committed events cannot be logged", exc_info=error)
        self._control.fail(f"the log cannot be kept: {error}")

    async def start(self) -> None:
        """Recover, then listen."""
        db, notices = await self._open_database(self._settings.places)
        self._db = db
        db.on_fault = self._log_broken
        publisher = Publisher(self._journal, self._bus, self._nursery)
        self._publisher = publisher
        publisher.attach(db)
        courier = self._make_courier(db, publisher)
        missing = await publisher.recover()
        engine = Engine(self._world(db, publisher))
        self._engine = engine
        recovered = await engine.start()
        self._server = self._make_server(db, publisher, engine, notices, courier)
        counts = {**recovered, "events_completed": missing}
        await self._tell_start(db, notices, counts)
        await self._server.start()
        _ = self._nursery.start(self._upkeep(db), name="upkeep")
        _ = self._nursery.start(courier.run(), name="notifications")
        _log.info("recovered", extra=counts)

    def _make_courier(self, db: Database, publisher: Publisher) -> Courier:
        courier = Courier(
            settings=lambda: self._settings,
            clock=self._control.clock,
            db=db,
            nursery=self._nursery,
            people=PeopleOutlet(self._settings.environment),
            webhooks=WebhookOutlet(self._webhook_secret, self._control.clock),
        )
        publisher.before_forgetting = courier.derive
        self._courier = courier
        return courier

    def _webhook_secret(self) -> str:
        given = self._settings.text("webhook.secret")
        file = self._settings.places.webhook_secret_file
        return given or token_file.load_or_make_webhook_secret(file)

    async def _upkeep(self, db: Database) -> None:
        """Once an hour: what grows old goes, also where nothing happens."""
        key_age_us = self._settings.number("queue.idempotency_h") * HOUR_US
        while True:
            await asyncio.sleep(UPKEEP_S)
            self._journal.maintain()
            await _try(
                "forget old keys", db.write(lambda tx: work.forget_keys(tx, older_us=key_age_us))
            )
            await _try("forget old budgets", db.write(usage.forget))

    async def _open_database(self, places: Places) -> tuple[Database, list[str]]:
        """The database, and what the user must be told of it: made anew from the log where it was lost."""
        notices: list[str] = []
        try:
            if places.database.exists() or not self._journal.streams():
                return await Database.open(places.database, self._control.clock), notices
            notices.append("The database was missing.")
        except DatabaseDamaged as exc:
            label = make_id("d").removeprefix("d_")[:12]
            aside = set_aside(places.database, label)
            _log.error(
                "database damaged, set aside", extra={"damage": str(exc), "aside": str(aside)}
            )
            notices.append(
                f"The database was damaged ({exc}) and set aside, with the old audit chain, as {aside.name}."
            )
        notices.append(await self._rebuild_database(places.database))
        return await Database.open(places.database, self._control.clock), notices

    async def _rebuild_database(self, path: Path) -> str:
        """Make it under another name first: a start that is cut short finds none, and does it again."""
        new = path.with_name(path.name + ".new")
        for suffix in ("", "-wal", "-shm"):
            new.with_name(new.name + suffix).unlink(missing_ok=True)
        db = await Database.open(new, self._control.clock)
        try:
            rebuilt = await rebuild(db, self._journal)
        finally:
            await db.close()
        new.rename(path)
        sync_dir(path.parent)
        return (
            f"Restored from the log: {rebuilt.projects} projects, {rebuilt.executions} executions"
            f" ({rebuilt.queued} waiting). Not restored: {'; '.join(rebuilt.not_restored)}."
        )

    async def _tell_start(
        self, db: Database, notices: list[str], counts: Mapping[str, int]
    ) -> None:
        data = {"version": __version__, "pid": os.getpid(), "recovered": dict(counts)}
        key_age_us = self._settings.number("queue.idempotency_h") * HOUR_US

        def tell(tx: Tx) -> None:
            work.forget_keys(tx, older_us=key_age_us)
            tx.emit("system", "system.started", data, actor="system")
            for text in notices:
                notice = {
                    "code": "STORAGE_ERROR",
                    "message": text,
                    "hint": "`hivectl doctor` tells more.",
                }
                tx.emit("system", "system.notice", notice, actor="system")

        try:
            await db.write(tell)
        except HiveError as exc:
            if exc.code != "STORAGE_FULL":
                raise
            # A daemon that waits for room is of more use than none: it answers, and runs go on by themselves.
            _log.error("the disk is full: waiting for room", extra={"error": exc.message})
            _ = self._nursery.start(self._tell_later(db, tell), name="telling of the start")

    async def _tell_later(self, db: Database, tell: Callable[[Tx], None]) -> None:
        while True:
            await asyncio.sleep(ROOM_RETRY_S)
            try:
                await db.write(tell)
            except HiveError:
                continue
            return

    def _world(self, db: Database, publisher: Publisher) -> World:
        settings = self._settings
        home = Path(settings.environment.get("HOME") or Path.home())
        places = settings.places
        config_dir = settings.environment.get("CLAUDE_CONFIG_DIR")
        settings_place = places.config_file.parent
        if config.worktree_root(settings).is_relative_to(settings_place.resolve()):
            # Under HIVECTL_HOME worktrees lie beside the file; what runs there must be able to read them.
            settings_place = places.config_file
        others = [places.state, places.runtime, settings_place]
        claude_home = Path(config_dir) if config_dir else None
        secrets = secret_paths(home, *others, claude_home=claude_home)
        deny = [*secrets, *settings.strings("claude.deny_read")]
        return World(
            settings=lambda: self._settings,
            clock=self._control.clock,
            db=db,
            journal=self._journal,
            publisher=publisher,
            bus=self._bus,
            host=self._host,
            agent=ClaudeAgent(
                settings.text("claude.bin"),
                env=settings.environment,
                additions=settings["claude.env"],
                min_version=settings.text("claude.min_version"),
                mock_config=places.state / "mock-claude",
            ),
            nursery=self._nursery,
            deny_read=tuple(deny),
        )

    def _make_server(
        self,
        db: Database,
        publisher: Publisher,
        engine: Engine,
        notices: list[str],
        courier: Courier,
    ) -> Server:
        house = House(
            settings=lambda: self._settings,
            clock=self._control.clock,
            db=db,
            journal=self._journal,
            publisher=publisher,
            engine=engine,
        )
        projects = Projects(house)
        messages = Messages(house, projects)
        system = System(
            house, self._control.machine, engine.world.agent, os.getpid(), self._ask_stop
        )
        system.notices = notices
        system.more_problems.append(courier.problems)
        summaries = Summaries(house, projects)
        courier.summarise = summaries.words
        self._system = system
        self._audits = audits = Audits(house)
        _ = self._nursery.start(audits.run(), name="audit")
        bindings: dict[str, Handler] = {}
        executions = Executions(house, projects)
        people = People(house, projects)
        questions = Questions(house, projects, people)
        for service in (
            projects,
            executions,
            Queue(house, projects, executions),
            Workers(house, executions),
            Sessions(house, projects),
            people,
            questions,
            Chats(house, projects, questions),
            Worktrees(house, projects),
            messages,
            Usage(house, projects),
            Notifications(house, courier),
            summaries,
            system,
            audits,
        ):
            bindings |= service.bindings()
        server = Server(
            self._settings,
            bindings,
            self._bus,
            resolve_stream=lambda _caller, ref: messages.stream_of(ref),
            token=self._control.token,
            audit=lambda caller, method, target, outcome: audits.note(
                caller, method, redact_text(target)[:TARGET_MAX], outcome
            ),
            ancestry=Ancestry(kin=PROCESSES, of_pid=self._execution_of_pid),
            node=self._control.machine.node,
            clock=self._control.clock,
            unix_listener=_handed_over(self._control.listen_fds),
            tell=lambda message, hint: self._tell_notice(db, message, hint),
        )
        system.more_problems.append(lambda: server.problems)
        system.network = server
        return server

    def _tell_notice(self, db: Database, message: str, hint: str) -> None:
        """Tell who follows `system`; the log has it already."""
        data = {"code": "CONFIG_INVALID", "message": message, "hint": hint}
        told = db.write(lambda tx: tx.emit("system", "system.notice", data, actor="system"))
        _ = self._nursery.start(_try("tell of the certificate", told), name="notice")

    def _execution_of_pid(self, pid: int) -> str | None:
        """Called for each ancestor of a peer, from any thread.

        The shim is the ancestor that stays when a run's processes detach and empty their environment: it
        adopts them. When it is killed this daemon adopts them, and starts nothing else that would call it.
        """
        carriers = self._engine.carriers() if self._engine is not None else []
        for carrier in carriers:
            if carrier.pid == pid:
                return carrier.execution
        if pid == os.getpid():
            return UNKNOWN_EXECUTION
        words = _arguments(pid)
        if not any(word.endswith("/procs/shim.py") for word in words):
            return None
        mine = (c.execution for c in carriers if any(w.endswith(f"/{c.process}") for w in words))
        return next(mine, UNKNOWN_EXECUTION)

    def _ask_stop(self, runs: str, timeout_s: float | None) -> None:
        match runs:
            case "wait" | "kill":
                self._control.ask_stop(runs, timeout_s)
            case _:
                self._control.ask_stop("keep", timeout_s)

    async def stop(self, *, runs: Runs, timeout_s: float | None) -> None:
        """No new work, runs kept, waited for or ended, clients told, files closed."""
        if self._db is not None:
            told = self._db.write(
                lambda tx: tx.emit("system", "system.stopping", {"runs": runs}, actor="system")
            )
            await _try("tell of the stop", told)
        if self._engine is not None:
            self._engine.is_draining = True
            self._engine.outside.close()
            if runs != "keep":
                stopped = self._engine.stop(runs=runs, timeout_s=timeout_s)
                await _try("end the runs", stopped)
            closed = self._engine.parking.close_all(within_s=WARM_CLOSE_S)
            await _try("close the warm processes", closed)
        if self._server is not None:
            await _try("close the server", self._server.stop())
        await self._nursery.close(within_s=CLOSE_S)
        await _try("let go of the processes", self._host.close())
        if self._audits is not None:
            await _try("count what was refused", self._audits.settle())
        if self._publisher is not None:
            await _try("close the publisher", self._publisher.close())
        if self._db is not None:
            await _try("close the database", self._db.close())
        await _try("close the log", self._journal.close())

    async def beat(self) -> None:
        """One round trip through the store's writer thread."""
        if self._db is not None:
            await self._db.write(lambda _tx: None)

    def reload(self, settings: Settings) -> None:
        """Take over the settings that may change while running."""
        self._settings = settings
        if self._engine is not None:
            self._engine.reloaded()
        if self._server is not None:
            self._server.reload()

    def status(self) -> str:
        """One line with counts."""
        live = len(self._engine.runners) if self._engine is not None else 0
        return f"{live} executions"

    @property
    def addresses(self) -> Mapping[str, str | None]:
        """`socket` and `tcp`."""
        if self._server is None:
            return {}
        found = self._server.addresses
        return {"socket": str(found.socket), "tcp": found.tcp}


def _handed_over(fds: tuple[int, ...]) -> socket.socket | None:
    """The UNIX listener of a socket unit, when there is one."""
    for fd in fds:
        found = socket.socket(fileno=fd)
        if found.family == socket.AF_UNIX:
            return found
        found.detach()
    return None


async def _try(what: str, work: Awaitable[object]) -> None:
    """One step of the stop: one that fails (a full disk) must not keep the others from being taken."""
    try:
        await work
    except (HiveError, OSError) as exc:
        _log.error("a step of the stop failed", extra={"step": what, "error": str(exc)})


def journal_limits(settings: Settings) -> JournalLimits:
    """The journal's limits from the settings."""
    return JournalLimits(
        segment_bytes=settings.number("log.segment_bytes"),
        segment_age_s=settings.seconds("log.segment_age_s"),
        segment_lines=settings.number("log.segment_lines"),
        retention_bytes=settings.number("log.retention_bytes") or None,
        retention_age_s=settings.seconds_or_none("log.retention_age_s"),
        sync_interval_s=SYNC_S[settings.text("log.durability")],
        spill_bytes=settings.number("log.spill_bytes"),
    )


async def build(settings: Settings, control: Control) -> Daemon:
    """The daemon, not yet started."""
    return Daemon(settings, control)


def _arguments(pid: int) -> list[str]:
    try:
        return [word.decode("utf-8", "replace") for word in PROCESSES.arguments(pid)]
    except OSError:
        return []
