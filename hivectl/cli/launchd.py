"""The daemon as a launchd agent of macOS: written, loaded, taken away."""

from __future__ import annotations

import os
import plistlib
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hivectl.client import transport
from hivectl.kit.clock import SystemClock
from hivectl.kit.files import write_atomic
from hivectl.model.errors import HiveError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hivectl.config import Settings

LET_GO_S = 35.0
"""How long an agent that was told to end may be there still: its ExitTimeOut, and a little."""
_POLL_S = 0.2
_CALL_S = 60.0
_MOST_SAID = 300


def domain() -> str:
    """The login session of this user, where agents live."""
    return f"gui/{os.getuid()}"


def service() -> str:
    """The agent as launchctl names it."""
    return f"{domain()}/{transport.AGENT_LABEL}"


def render(template: bytes, settings: Settings, environment: Mapping[str, str]) -> bytes:
    """The agent for this interpreter: a launchd of its own PATH would not find Claude.

    Raises HiveError INVALID_STATE for an environment that a property list cannot hold."""
    agent: dict[str, Any] = plistlib.loads(template)
    logs = Path(settings.environment.get("HOME") or Path.home()) / "Library/Logs/hivectl"
    agent |= {
        "Label": transport.AGENT_LABEL,
        "ProgramArguments": transport.daemon_argv("run"),
        "EnvironmentVariables": dict(environment),
        "StandardOutPath": str(logs / "daemon.out.log"),
        "StandardErrorPath": str(logs / "daemon.err.log"),
    }
    try:
        return plistlib.dumps(agent, sort_keys=False)
    except (ValueError, UnicodeEncodeError) as exc:
        raise HiveError(
            "INVALID_STATE",
            f"A path or variable for the agent holds what a property list cannot: {exc}.",
            hint="Look for control characters in PATH and the paths of hivectl's settings.",
        ) from exc


def install(path: Path, content: bytes, *, start_now: bool) -> str | None:
    """Write the agent and load it; the same again changes nothing. What launchd said against it, or None.

    One that is loaded with another content is let go first; runs are not touched by that."""
    is_same = path.exists() and path.read_bytes() == content
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    for log in ("StandardOutPath", "StandardErrorPath"):
        Path(plistlib.loads(content)[log]).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not is_same:
        write_atomic(path, content, mode=0o644)
    if not start_now:
        return None
    if is_loaded():
        if is_same:
            return _launchctl("kickstart", service())
        let_go()
    _launchctl("enable", service())  # somebody may have switched it off
    return _launchctl("bootstrap", domain(), os.fspath(path))


def uninstall(path: Path) -> bool:
    """Let the agent go and remove its file; False when there was none. Raises HiveError UNAVAILABLE."""
    was_there = is_loaded()
    if was_there:
        let_go()
    is_file = path.exists()
    path.unlink(missing_ok=True)
    return was_there or is_file


def is_loaded() -> bool:
    """Whether launchd knows the agent, running or not."""
    return _launchctl("print", service()) is None


def let_go() -> None:
    """Unload it, and return when it is gone: before that it cannot be loaded again.

    Raises HiveError UNAVAILABLE."""
    said = _launchctl("bootout", service())
    clock = SystemClock()
    until = clock.monotonic() + LET_GO_S
    while is_loaded():
        if clock.monotonic() > until:
            raise HiveError(
                "UNAVAILABLE",
                f"launchd has not let the daemon go within {LET_GO_S:g} s{f': {said}' if said else '.'}",
                hint=f"Look what it waits for: launchctl print {service()}",
            )
        time.sleep(_POLL_S)


def _launchctl(*arguments: str) -> str | None:
    """None when it did as told, else what it said."""
    try:
        done = subprocess.run(
            ["launchctl", *arguments],  # noqa: S607
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
            timeout=_CALL_S,
        )
    except OSError as exc:
        return f"launchctl cannot be run: {exc.strerror}"
    except subprocess.TimeoutExpired:
        return f"launchctl did not answer within {_CALL_S:g} s"
    said = done.stderr.decode(errors="replace").strip()[:_MOST_SAID]
    return None if done.returncode == 0 else said or f"launchctl ended with {done.returncode}"
