"""Checks what hivectl needs, without a daemon, and says of each finding what, why and what to do next.

Reads and starts small programs only (`claude --version`, `loginctl`); changes nothing, reads the
database only, never fails itself: a check that breaks is a finding.
"""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import sqlite3
import stat
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from hivectl import __version__, config
from hivectl.agents.claude import MOCK, ClaudeAgent
from hivectl.config import Places, Settings
from hivectl.daemon import doctor_listen, doctor_system, doctor_worktrees, lifecycle
from hivectl.kit import files
from hivectl.logic.environment import inherited
from hivectl.logic.redact import redact_text
from hivectl.model.errors import HiveError
from hivectl.outlets.people import MISSING, is_available

Status = Literal["ok", "warn", "fail"]

_MIB = 1024 * 1024
_FREE_WARN = 1024 * _MIB
_FREE_FAIL = 100 * _MIB
_WAL_RESET_FIXED = (3, 51, 3)
_LEFTOVERS = ("*.torn-*", "*.corrupt-*")


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `why` and `next` are empty when all is well and there is nothing to add."""

    id: str
    status: Status
    what: str
    why: str = ""
    next: str = ""

    def as_dict(self) -> dict[str, str]:
        """For JSON."""
        return dataclasses.asdict(self)


Finding = Check | Iterable[Check]


async def run(
    flags: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None
) -> list[Check]:
    """All checks in a fixed order. What is wrong in the configuration is a finding, and counts as unset."""
    checks = [_python(), _sqlite()]
    settings = config.survey(flags, env)
    checks += _settings(settings)
    for name, probe in _PROBES:
        try:
            found = probe(settings)
            found = await found if isinstance(found, Awaitable) else found
        except Exception as exc:  # noqa: BLE001  one broken check must not hide the others
            found = Check(name, "warn", f"this check failed itself: {type(exc).__name__}: {exc}")
        checks += [found] if isinstance(found, Check) else list(found)
    return [dataclasses.replace(check, why=redact_text(check.why)) for check in checks]


def worst(checks: Iterable[Check]) -> Status:
    """`fail` if anything fails, else `warn` if anything warns, else `ok`."""
    found = {check.status for check in checks}
    return "fail" if "fail" in found else "warn" if "warn" in found else "ok"


def render(checks: Iterable[Check]) -> str:
    """Lines for people."""
    lines: list[str] = []
    for check in checks:
        lines.append(f"{check.status:<5} {check.id}: {check.what}")
        if check.why:
            lines.append(f"      why:  {check.why}")
        if check.next:
            lines.append(f"      next: {check.next}")
    return "\n".join(lines) + "\n"


# --- what needs no settings ------------------------------------------------------------------------


def _python() -> Check:
    what = f"Python {platform.python_version()}, hivectl {__version__}, {sys.executable}"
    return Check("python", "ok", what)


def _sqlite() -> Check:
    what = f"SQLite {sqlite3.sqlite_version}"
    if sqlite3.sqlite_version_info >= _WAL_RESET_FIXED:
        return Check("sqlite", "ok", what)
    return Check(
        "sqlite",
        "ok",
        what,
        "Versions before 3.51.3 can damage a database that two connections write "
        "(https://sqlite.org/wal.html#walresetbug). hivectl writes through one connection only.",
        "Let no other program write to hivectl.db.",
    )


# --- configuration and places ----------------------------------------------------------------------


def _settings(settings: Settings) -> Iterable[Check]:
    file = settings.places.config_file
    where = str(file) if file.exists() else f"defaults and environment ({file} does not exist)"
    for fault in settings.faults:
        why = "No daemon starts with it; one that runs goes on with what it read before."
        yield Check("config", "fail", fault.message, why, fault.hint)
    if not settings.faults:
        yield Check("config", "ok", f"configuration: {where}")
    for warning in settings.warnings:
        yield Check(
            "environment",
            "warn",
            warning,
            "It has no effect; a misspelt variable would be overlooked.",
            "`hivectl config show --origin` lists the settings; unset the variable or mend its name.",
        )
    if file.exists() and stat.S_IMODE(file.stat().st_mode) & 0o022:
        yield Check(
            "config_mode",
            "warn",
            f"others may change {file}",
            "Whoever can change the configuration decides which program runs as Claude.",
            f"chmod go-w {file}",
        )


def _places(settings: Settings) -> Iterable[Check]:
    places = settings.places
    for name, path in (("state", places.state), ("runtime", places.runtime)):
        try:
            with suppress(NotADirectoryError):
                lifecycle.refuse_loose(path)
        except HiveError as exc:
            yield Check(
                f"{name}_dir", "fail", exc.message, "The daemon refuses to start.", exc.hint
            )
            continue
        nearest = next(place for place in (path, *path.parents) if place.exists())
        if not (nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)):
            yield Check(
                f"{name}_dir",
                "fail",
                f"the {name} directory {path} cannot be used: nothing can be written to {nearest}",
                "The daemon refuses to start.",
                "Mend it, or put everything elsewhere with HIVECTL_HOME.",
            )
            continue
        standing = "private" if nearest == path else "is made at the first start"
        yield Check(f"{name}_dir", "ok", f"{name} directory {path}: {standing}")
    yield from _token(places)


def _token(places: Places) -> Iterable[Check]:
    try:
        found = places.token_file.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISREG(found.st_mode) or stat.S_IMODE(found.st_mode) & 0o077:
        yield Check(
            "token",
            "fail",
            f"the token file {places.token_file} is open to others or is no file",
            "Its reader may do everything you may; the daemon refuses to start.",
            f"rm {places.token_file} (a new token is made at the next start)",
        )


def _daemon(settings: Settings) -> Iterable[Check]:
    places = settings.places
    is_running = files.is_locked(places.lock)
    if is_running:
        pid = places.lock.read_text(errors="replace").strip() or "unknown"
        yield Check("daemon", "ok", f"a daemon runs here (pid {pid})")
    else:
        yield Check("daemon", "ok", "no daemon runs here; the next command starts one")
    yield from _socket(places, is_running=is_running)
    if places.runtime_file.exists() and not is_running:
        yield Check(
            "unclean",
            "warn",
            "the last daemon did not end by itself",
            "It was killed or it crashed. Runs have gone on, and nothing acknowledged is lost.",
            f"The next start recovers. The last lines of {places.daemon_log} and of "
            f"{places.state / 'daemon.trace'} may tell why.",
        )
    trace = places.state / "daemon.trace"
    if trace.exists() and trace.stat().st_size:
        yield Check(
            "trace",
            "warn",
            f"{trace} holds tracebacks of a crash",
            "The daemon crashed in native code, or the watchdog of systemd ended it.",
            "Please report them; then remove the file.",
        )


def _socket(places: Places, *, is_running: bool) -> Iterable[Check]:
    path = places.socket
    if len(os.fsencode(path)) > config.SOCKET_PATH_BYTES:
        yield Check(
            "socket_path",
            "fail",
            f"the socket's path is too long ({len(os.fsencode(path))} bytes): {path}",
            f"A UNIX socket's path may have {config.SOCKET_PATH_BYTES} bytes.",
            "Give a shorter HIVECTL_HOME or XDG_RUNTIME_DIR.",
        )
    try:
        found = path.lstat()
    except OSError:
        return
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        yield Check(
            "socket",
            "fail",
            f"{path} is not a socket of this user",
            "The daemon refuses to replace what it did not make.",
            f"Look at it, then move it away: mv {path} {path}.old",
        )
    elif not is_running:
        yield Check("socket", "ok", f"{path} is stale; the next start replaces it")


def _leftovers(settings: Settings) -> Iterable[Check]:
    found = sorted(
        path
        for root in (settings.places.state,)
        for pattern in _LEFTOVERS
        for path in root.rglob(pattern)
    )
    for path in found[:10]:
        is_torn = ".torn-" in path.name
        yield Check(
            "leftover",
            "warn",
            f"{path} ({path.stat().st_size} bytes)",
            "The end of a log that a crash left half written was set aside; no acknowledged line is in it."
            if is_torn
            else "A damaged file was set aside and rebuilt from the log, as far as the log reaches.",
            "Remove it when you do not need it for an inquiry.",
        )
    if len(found) > 10:
        yield Check("leftover", "warn", f"{len(found) - 10} more files were set aside")


def _disk(settings: Settings) -> Check:
    path = settings.places.state
    while not path.exists():
        path = path.parent
    free = shutil.disk_usage(path).free
    what = f"{free / 1024 / _MIB:.1f} GiB free for {settings.places.state}"
    if free >= _FREE_WARN:
        return Check("disk", "ok", what)
    return Check(
        "disk",
        "fail" if free < _FREE_FAIL else "warn",
        what,
        "On a full disk runs pause (nothing is lost) and new prompts are refused.",
        "Free some space; `log.retention_bytes` and `log.retention_age_s` limit the log.",
    )


# --- Claude ----------------------------------------------------------------------------------------


async def _claude(settings: Settings) -> Iterable[Check]:
    agent = ClaudeAgent(
        settings.text("claude.bin"),
        env=settings.environment,
        additions=settings["claude.env"],
        min_version=settings.text("claude.min_version"),
    )
    try:
        info = await agent.probe()
    except HiveError as exc:
        return [Check("claude", "fail", exc.message, exc.kind.meaning, exc.hint)]
    if settings.text("claude.bin") == MOCK:
        what = f"the built-in mock stands in for Claude (it answers as {info.version})"
        return [Check("claude", "ok", what)]
    found = [Check("claude", "ok", f"Claude {info.version} at {info.path}")]
    if info.login:
        found.append(Check("claude_login", "ok", f"Claude's login: {info.login}"))
    else:
        found.append(
            Check(
                "claude_login",
                "warn",
                "no login of Claude was found",
                "A login in a key chain cannot be seen from here; without any, every run fails.",
                "Run `claude` once and log in, or give the daemon ANTHROPIC_API_KEY.",
            )
        )
    return found


def _claude_environment(settings: Settings) -> Check:
    environment = settings.environment
    names = sorted(inherited(environment, environment)) + [
        f"{name} (claude.env)" for name in sorted(settings["claude.env"])
    ]
    return Check(
        "claude_env",
        "ok",
        f"Claude's environment: {', '.join(names)}",
        "Only these names pass; a daemon started by a service manager or earlier has its own values.",
    )


def _notify(settings: Settings) -> Check:
    people, hooks = len(settings.strings("notify.targets")), len(settings.strings("webhook.urls"))
    if not people and not hooks:
        return Check("notify", "ok", "nobody is told of anything: no notification target is set")
    what = f"{people} targets for people, {hooks} webhooks"
    if people and not is_available():
        return Check(
            "notify",
            "fail",
            f"notify.targets is set, but {MISSING.partition(';')[0]}",
            "Nobody is told that Claude waits for an answer.",
            "`make install EXTRAS=notify`, or `pip install apprise` into the environment hivectl runs in",
        )
    return Check("notify", "ok", what, next="`hivectl notify test` tries them all.")


def _self_approval(_settings: Settings) -> Check:
    return Check(
        "self_approval",
        "warn",
        "self-approval is possible in principle",
        "Without a sandbox, what Claude runs is a program of your user. Requests that come from a run "
        "are refused, but a program that takes pains can read the token file.",
        "Leave Claude's own permission prompts on, and trust only repositories you know.",
    )


_Probe = Callable[[Settings], Finding | Awaitable[Finding]]


def _system(probe: Callable[[], doctor_system.Row]) -> _Probe:
    def adapted(_settings: Settings) -> Finding:
        return Check(*probe())

    return adapted


async def _linger(settings: Settings) -> Finding:
    row = await doctor_system.linger(settings.environment)
    return Check(*row)


def _listen(settings: Settings) -> Iterable[Check]:
    return [Check(*row) for row in doctor_listen.check(settings)]


def _worktrees(settings: Settings) -> Iterable[Check]:
    is_running = files.is_locked(settings.places.lock)
    return [Check(*row) for row in doctor_worktrees.check(settings, is_running=is_running)]  # type: ignore[arg-type]


_PROBES: tuple[tuple[str, _Probe], ...] = (
    ("claude", _claude),
    ("claude_env", _claude_environment),
    ("places", _places),
    ("daemon", _daemon),
    ("listen", _listen),
    ("leftover", _leftovers),
    ("disk", _disk),
    ("worktrees", _worktrees),
    ("descendants", _system(doctor_system.descendants)),
    ("exit_codes", _system(doctor_system.exit_codes)),
    ("namespaces", _system(doctor_system.namespaces)),
    ("fd_limit", _system(doctor_system.fd_limit)),
    ("root", _system(doctor_system.root)),
    ("linger", _linger),
    ("notify", _notify),
    ("self_approval", _self_approval),
)
