"""One daemon's life: private places, lock, readiness, signals, reload, bounded stop.

It knows nothing of what the daemon does; that is the App which `build` puts together. Invariant: at
most one App lives per state directory, and whatever ends it, the lock and the runtime file go too.
"""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import faulthandler
import gc
import json
import logging
import os
import resource
import signal
import stat
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal, Protocol

from hivectl import __version__, config
from hivectl.config import Places, Settings
from hivectl.daemon import logs, token_file
from hivectl.daemon.machine import Machine
from hivectl.daemon.notify import Notifier, handed_over_fds
from hivectl.kit import failpoint, files
from hivectl.kit.aio import Nursery
from hivectl.kit.clock import Clock, SystemClock
from hivectl.model.errors import ExitCode, HiveError
from hivectl.protocol.methods import PROTOCOL_VERSION

_log = logging.getLogger(__name__)

EXIT_LOCK_HELD = 75
"""Another daemon holds the lock: EX_TEMPFAIL; the service manager does not restart us for it."""

Runs = Literal["keep", "wait", "kill"]

_WANTED_FDS = 65536
_MACOS_FDS = 10240
"""The kernel of macOS refuses more, though it calls its hard limit unlimited."""
_STOP_GRACE_S = 2.0
"""Beyond `daemon.stop_timeout_s`, for the App's own bounded stop to come to its end."""
_HURRY_S = 1.0
_ROOM_RETRY_S = 0.5
_EXTEND_S = 60.0


class App(Protocol):
    """Everything the daemon does, put together by `build`."""

    async def start(self) -> None:
        """Recover, then listen. Returns right after the listeners are bound: nothing is answered before
        the caller has written the runtime file. Raises HiveError with what, why and next step."""
        ...

    async def stop(self, *, runs: Runs, timeout_s: float | None) -> None:
        """End it all: no new work, runs kept, waited for or killed, clients told, files closed.

        `timeout_s` None (only with `wait`) = as long as the runs take. May be called after a `start`
        that failed or was cancelled, may be cancelled, and may be called again with another `runs`."""
        ...

    async def beat(self) -> None:
        """One round trip through the store's writer thread; hangs when that hangs."""
        ...

    def reload(self, settings: Settings) -> None:
        """Take over the settings that may change while running."""
        ...

    def status(self) -> str:
        """One line with counts, for the service manager."""
        ...

    @property
    def addresses(self) -> Mapping[str, str | None]:
        """`socket` (a path) and `tcp` (host:port, None when off), true once started."""
        ...


@dataclass(slots=True, kw_only=True)
class Control:
    """What `build` is given beside the settings: facts of this start, and the ways back to here."""

    token: str = field(repr=False)
    """The TCP token; never log it."""
    machine: Machine
    clock: Clock
    started_us: int
    was_unclean: bool
    """The daemon before us did not end by itself."""
    listen_fds: tuple[int, ...]
    """Listening descriptors of a socket unit; usually none."""
    nursery: Nursery
    """Owner of tasks that live as long as the daemon."""
    ask_stop: Callable[[Runs, float | None], None]
    """Stop the daemon (the method daemon.stop), waiting for runs at most so many seconds; returns at once."""
    fail: Callable[[str], None]
    """The daemon cannot go on (memory and disk might differ): stop now, exit with an error."""


Build = Callable[[Settings, Control], Awaitable[App]]


class AlreadyRunning(Exception):  # noqa: N818  it names a state, not a failure
    """Another daemon has the lock of this state directory; `args[0]` is its pid as text, perhaps empty."""


@dataclass(frozen=True, slots=True)
class _Ask:
    runs: Runs
    source: Literal["signal", "request", "failure"]
    reason: str = ""
    timeout_s: float | None = None
    """With `wait`: how long at most; None = as long as the runs take."""


class _Asks:
    """Requests to stop, newest last; never lost, awaited by one place."""

    def __init__(self) -> None:
        self._waiting: list[_Ask] = []
        self._arrived = asyncio.Event()

    def put(self, ask: _Ask) -> None:
        self._waiting.append(ask)
        self._arrived.set()

    async def next(self) -> _Ask:
        await self._arrived.wait()
        ask = self._waiting.pop(0)
        if not self._waiting:
            self._arrived.clear()
        return ask


# --- before the loop matters: places, lock, limits -------------------------------------------------


def secure_places(places: Places) -> None:
    """Make state and runtime directories, private. Raises HiveError for loose modes and foreign owners."""
    files.set_private_umask()
    for path in dict.fromkeys((places.state, places.runtime)):
        try:
            refuse_loose(path)
            files.ensure_private_dir(path)
        except OSError as exc:
            raise HiveError(
                "CONFIG_INVALID",
                f"the directory {path} cannot be used: {exc.strerror or exc}",
                hint="Give another place with HIVECTL_HOME=DIR, or mend it.",
                details={"path": str(path)},
            ) from exc


def refuse_loose(path: Path) -> None:
    """Raise HiveError unless `path` is absent, or a directory of ours that nobody else can enter, in a
    parent where nobody else can replace it."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        found = None
    if found is not None:
        why, remedy = _looseness(path, found)
        if why:
            raise HiveError(
                "CONFIG_INVALID",
                f"the directory {path} is refused: {why}",
                hint=remedy,
                details={"path": str(path), "why": why},
            )
    try:
        parent = path.parent.stat()
    except FileNotFoundError:
        return
    is_open = bool(parent.st_mode & 0o022) and not parent.st_mode & stat.S_ISVTX
    if is_open or parent.st_uid not in {0, os.geteuid()}:
        raise HiveError(
            "CONFIG_INVALID",
            f"the directory {path} is refused: others can replace it, because they may write to {path.parent}",
            hint=f"Run `chmod go-w {path.parent}`, or give another place with HIVECTL_HOME=DIR.",
            details={"path": str(path), "why": "parent"},
        )


def _looseness(path: Path, found: os.stat_result) -> tuple[str, str]:
    mode = stat.S_IMODE(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        return "it is a link or a file, not a directory", f"Move {path} away and start again."
    if found.st_uid != os.geteuid():
        return (
            f"it belongs to user {found.st_uid}",
            "Start the daemon as that user, or give another place with HIVECTL_HOME=DIR.",
        )
    if mode & 0o077:
        return f"others may enter it (mode {mode:04o})", f"Run `chmod 700 {path}` and start again."
    return "", ""


def take_lock(places: Places) -> int:
    """The lock that makes this the only daemon here. Raises AlreadyRunning, and HiveError for what is no lock of ours."""
    try:
        return files.acquire_lock(places.lock, note=f"{os.getpid()}\n")
    except files.LockHeld as held:
        raise AlreadyRunning(str(held.args[0])) from None
    except PermissionError as exc:
        why = exc.strerror or str(exc)
        raise _no_lock(places.lock, why) from exc
    except OSError as exc:
        if exc.errno not in {errno.ELOOP, errno.EISDIR, errno.ENXIO}:
            raise  # a disk that is full or broken: told as such
        raise _no_lock(places.lock, exc.strerror or str(exc)) from exc


def _no_lock(path: Path, why: str) -> HiveError:
    return HiveError(
        "CONFIG_INVALID", f"the lock {path} cannot be taken: {why}",
        hint="Look at what stands there and remove it.", details={"path": str(path), "why": why},
    )  # fmt: skip


def raise_fd_limit() -> int:
    """Allow as many descriptors as the hard limit permits, at most 65536; the limit that now holds."""
    for most in (_WANTED_FDS, _MACOS_FDS):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            with suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def reloaded(old: Settings, new: Settings) -> tuple[Settings, list[str], list[str]]:
    """`old` with the values of `new` that may change while running; keys that changed; keys that need a restart."""
    changed = [key for key in old.values if old.values[key] != new.values[key]]
    now = [key for key in changed if config.BY_KEY[key].reloads]
    later = [key for key in changed if not config.BY_KEY[key].reloads]
    values = dict(old.values) | {key: new.values[key] for key in now}
    origins = dict(old.origins) | {key: new.origins[key] for key in now}
    return dataclasses.replace(old, values=values, origins=origins), now, later


# --- the life --------------------------------------------------------------------------------------


async def run(
    settings: Settings,
    build: Build,
    *,
    terminal: logs.Terminal = "none",
    reread: Callable[[], Settings] | None = None,
    exit_now: Callable[[int], None] = os._exit,
) -> int:
    """Live until told to stop; the exit code.

    Raises AlreadyRunning, and HiveError when this start is refused. `reread` gives the settings anew at
    SIGHUP. `exit_now` ends the process at once, when a stop came to no end in its time or was asked for twice.
    """
    secure_places(settings.places)
    lock = take_lock(settings.places)
    trace = _open_trace(settings.places)
    try:
        raise_fd_limit()
        logs.configure(settings, terminal=terminal)
        faulthandler.enable(trace)
        _configure_failpoints(settings)
        for warning in settings.warnings:
            _log.warning("settings", extra={"warning": warning})
        token = token_file.load_or_make(settings.places.token_file)
        life = _Life(settings, build, token, reread=reread, exit_now=exit_now)
        return await life.live()
    except Exception as exc:
        # Told to the person by the caller; here for whoever reads the log of a service.
        _log.critical(
            "the daemon failed", extra={"error": str(exc)}, exc_info=not isinstance(exc, HiveError)
        )
        raise
    finally:
        faulthandler.disable()
        trace.close()
        logs.close()
        os.close(lock)


def _configure_failpoints(settings: Settings) -> None:
    try:
        failpoint.configure(settings.environment.get("HIVECTL_FAILPOINT", ""))
    except ValueError as exc:
        raise HiveError(
            "CONFIG_INVALID", str(exc), hint="Mend or unset HIVECTL_FAILPOINT."
        ) from exc


def _open_trace(places: Places) -> IO[bytes]:
    """Where faulthandler writes: a crash, or the watchdog's SIGABRT, leaves its tracebacks there."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.fdopen(os.open(places.state / "daemon.trace", flags, 0o600), "ab", buffering=0)


class _Life:
    """The running daemon around its App."""

    def __init__(
        self,
        settings: Settings,
        build: Build,
        token: str,
        *,
        reread: Callable[[], Settings] | None,
        exit_now: Callable[[int], None],
    ) -> None:
        self._settings = settings
        self._build = build
        self._reread = reread or (lambda: config.load(env=settings.environment))
        self._exit_now = exit_now
        self._clock = SystemClock()
        self._notifier = Notifier(settings.environment)
        self._asks = _Asks()
        self._nursery = Nursery(_report)
        self._app: App | None = None
        self._runtime_file = settings.places.runtime_file
        self._is_announced = False
        self._control = Control(
            token=token,
            machine=Machine(settings.places, clock=self._clock),
            clock=self._clock,
            started_us=self._clock.now_us(),
            was_unclean=self._runtime_file.exists(),
            listen_fds=handed_over_fds(settings.environment),
            nursery=self._nursery,
            ask_stop=lambda runs, timeout_s: self._asks.put(
                _Ask(runs, "request", timeout_s=timeout_s)
            ),
            fail=lambda reason: self._asks.put(_Ask("keep", "failure", reason)),
        )

    async def live(self) -> int:
        """From recovery to the last closed file; the exit code."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(logs.LoopReport(self._clock))
        self._listen_to_signals(loop)
        try:
            ask = await self._until_asked()
            code = await self._stop(ask)
        finally:
            self._clear()
            await self._nursery.close(within_s=_HURRY_S)
        _log.info("stopped", extra={"exit_code": code})
        return code

    def _listen_to_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            ask = _Ask("keep", "signal", signal.Signals(number).name)
            loop.add_signal_handler(number, self._asks.put, ask)
        loop.add_signal_handler(signal.SIGHUP, self._reload)

    async def _until_asked(self) -> _Ask:
        """Build, start, and serve until somebody asks for the stop. Raises what the start raised."""
        begin = self._nursery.start(self._begin(), name="begin")
        asked = self._nursery.start(self._asks.next(), name="asked")
        await asyncio.wait({begin, asked}, return_when=asyncio.FIRST_COMPLETED)
        if asked.done():
            begin.cancel()
            await asyncio.wait({begin}, timeout=_HURRY_S)
            early: _Ask = asked.result()
            return early
        if (error := begin.exception()) is not None:
            asked.cancel()
            if self._app is not None:
                with suppress(TimeoutError):
                    await self._bounded_cleanup(self._app)
            raise error
        ask: _Ask = await asked
        return ask

    async def _bounded_cleanup(self, app: App) -> None:
        try:
            async with asyncio.timeout(self._settings.seconds("daemon.stop_timeout_s")):
                await app.stop(runs="keep", timeout_s=_HURRY_S)
        except Exception:  # noqa: BLE001
            # The error of the start is the one to tell; this one is only logged.
            _log.exception("stop after a failed start")

    async def _begin(self) -> None:
        self._notifier.extend(_EXTEND_S)
        self._app = app = await self._build(self._settings, self._control)
        await app.start()
        self._announce(app)
        self._notifier.ready(app.status())
        # What there is now lives as long as the daemon: no later collection need look at it.
        gc.collect()
        gc.freeze()
        gc.enable()
        if (watchdog_s := self._notifier.watchdog_s) is not None:
            _ = self._nursery.start(self._keep_alive(app, watchdog_s / 2), name="watchdog")
        _log.info(
            "ready",
            extra={
                "version": __version__,
                "pid": os.getpid(),
                "was_unclean": self._control.was_unclean,
                "start_ms": (self._clock.now_us() - self._control.started_us) // 1000,
                **app.addresses,
            },
        )

    def _announce(self, app: App) -> None:
        document = {
            "pid": os.getpid(),
            "version": __version__,
            "protocol": PROTOCOL_VERSION,
            "started_us": self._control.started_us,
            "socket": app.addresses.get("socket"),
            "tcp": app.addresses.get("tcp"),
        }
        self._is_announced = True
        text = json.dumps(document).encode() + b"\n"
        try:
            files.write_atomic(self._runtime_file, text)
        except OSError as exc:
            if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            # On a full disk a daemon that waits for room is of more use than none.
            _log.error("the runtime file waits for room", extra={"error": str(exc)})
            _ = self._nursery.start(self._announce_later(text), name="runtime file")

    async def _announce_later(self, text: bytes) -> None:
        while True:
            await asyncio.sleep(_ROOM_RETRY_S)
            with suppress(OSError):
                files.write_atomic(self._runtime_file, text)
                return

    async def _keep_alive(self, app: App, every_s: float) -> None:
        """A stuck loop or a stuck writer thread sends nothing, and the service manager restarts us."""
        while True:
            try:
                await app.beat()
                self._notifier.alive(app.status())
            except Exception:  # noqa: BLE001
                # A failed beat is no sign of life; the next one may succeed.
                _log.exception("no heartbeat")
            await asyncio.sleep(every_s)

    def _reload(self) -> None:
        """SIGHUP: a wrong configuration changes nothing and is only reported."""
        if self._is_announced:
            self._notifier.reloading(int(self._clock.monotonic() * 1_000_000))
        try:
            self._settings, now, later = reloaded(self._settings, self._reread())
            logs.set_level(self._settings.text("daemon.log_level"))
            if self._app is not None:
                self._app.reload(self._settings)
            _log.info("settings read again", extra={"changed": now})
            if later:
                _log.warning("settings need a restart", extra={"keys": later})
        except HiveError as exc:
            _log.error("settings refused, the old ones stay", extra={"error": exc.message})
        if self._is_announced and self._app is not None:
            self._notifier.ready(self._app.status())

    async def _stop(self, ask: _Ask) -> int:
        """Graceful, bounded, and at once when asked by a second signal."""
        code = ExitCode.INTERNAL if ask.source == "failure" else ExitCode.OK
        app = self._app
        if app is None:
            return code
        while True:
            _log.info("stopping", extra={"runs": ask.runs, "by": ask.source, "reason": ask.reason})
            self._notifier.stopping(f"stopping, runs: {ask.runs}")
            usual = self._settings.seconds("daemon.stop_timeout_s")
            for_runs = ask.timeout_s if ask.runs == "wait" else usual
            limit = None if for_runs is None else max(for_runs + _STOP_GRACE_S, usual)
            work = self._nursery.start(app.stop(runs=ask.runs, timeout_s=for_runs), name="stop")
            newer = self._nursery.start(self._asks.next(), name="asked again")
            await asyncio.wait(
                {work, newer},
                timeout=None if limit is None else limit + _STOP_GRACE_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
            if work.done():
                newer.cancel()
                return ExitCode.INTERNAL if work.exception() is not None else code
            if not newer.done():
                _log.error("the stop came to no end in its time", extra={"limit_s": limit})
                return self._leave_now(ExitCode.INTERNAL)
            again = newer.result()
            if again.source == "signal" == ask.source:
                _log.warning("stopping at once", extra={"reason": again.reason})
                return self._leave_now(ExitCode.INTERRUPTED)
            work.cancel()
            await asyncio.wait({work}, timeout=_HURRY_S)
            ask = again

    def _leave_now(self, code: int) -> int:
        """End without waiting for threads or tasks: everything acknowledged is on the disk already."""
        self._clear()
        logs.close()
        self._exit_now(code)
        return code

    def _clear(self) -> None:
        # A start that was refused (the socket belongs to another daemon) must not take that one's file.
        if self._is_announced:
            self._runtime_file.unlink(missing_ok=True)
        places = self._settings.places
        if places.is_private and places.runtime.parent != places.state.parent:
            # Outside of the private directory only because its path is long: nothing may stay there.
            with suppress(OSError):
                places.runtime.rmdir()


def _report(name: str, error: BaseException) -> None:
    if name != "begin":  # its error goes to the caller
        _log.error("task failed", extra={"task": name}, exc_info=error)
