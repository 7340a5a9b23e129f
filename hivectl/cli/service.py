"""The daemon as a process and as a service: foreground, background, systemd user unit, launchd agent."""

from __future__ import annotations

import importlib.resources
import json
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hivectl.cli import launchd
from hivectl.cli.choosing import duration
from hivectl.cli.sanitize import one_line
from hivectl.cli.session import Session
from hivectl.client import transport
from hivectl.kit.clock import SystemClock
from hivectl.kit.files import write_atomic
from hivectl.kit.system import SYSTEM
from hivectl.model.errors import HiveError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import NoReturn

    from hivectl.client.aio import Client

_POLL_S = 0.05
_FOLLOW_S = 0.2
_STOP_MARGIN_S = 15.0
_BLOCK = 65536


def run_in_foreground(hive: Session, arguments: list[str]) -> NoReturn:
    """Become the daemon: this process is replaced, so that a service manager sees the real one."""
    hive.warns = False  # the daemon tells the same
    argv = transport.daemon_argv("run", *arguments)
    os.execve(argv[0], argv, transport.daemon_env(hive.settings))  # noqa: S606


def start(hive: Session) -> None:
    """Start it unless one answers."""
    is_new = transport.ensure_running(hive.settings, autostart=True, say=lambda _text: None)
    _tell(hive, {"running": True, "started": is_new, "socket": str(hive.settings.places.socket)},
          "the daemon is running" if is_new else "a daemon was running already")  # fmt: skip


def refuse_faults(hive: Session) -> None:
    """Before a daemon is stopped that would not start again. Raises HiveError CONFIG_INVALID."""
    hive.warns = False
    if hive.settings.faults:
        raise hive.settings.faults[0]


def status(health: Mapping[str, Any], *, width: int | None) -> str:
    """What a person asks first: that it runs, since when, where, and what it does."""
    from hivectl.cli import views
    from hivectl.cli.table import pairs

    runs = health.get("executions") or {}
    rows: list[tuple[str, object]] = [
        ("status", health["status"]),
        *[("problem", problem) for problem in health.get("problems") or []],
        ("daemon", f"pid {health['pid']}, up {views.span(health['uptime_s'])}"),
        ("version", health["version"]),
        ("socket", health["socket"]),
        ("tcp", health.get("tcp") or "off"),
        ("executions", ", ".join(f"{n} {name}" for name, n in runs.items() if n) or "none"),
    ]
    return pairs(rows, width=width)


def stop(hive: Session, *, runs: str, timeout: str | None) -> None:
    """Stop it and wait until it is gone. None running is fine."""
    hive.options.autostart = False
    limit_s = duration(timeout, "--timeout")

    async def work(client: Client) -> Any:
        given = {"timeout_s": limit_s} if limit_s is not None else {}
        return await client.call("daemon.stop", runs=runs, **given)

    try:
        found = hive.run(work)
    except HiveError as exc:
        if exc.code != "UNAVAILABLE":
            raise
        _tell(hive, {"running": False, "stopped": False}, "no daemon was running")
        return
    _wait_until_gone(hive, int(found["pid"]), limit_s if runs == "wait" else 0.0)
    live = found.get("live") or []
    words = {"keep": "left running", "wait": "waited for", "kill": "ended"}[runs]
    text = f"stopped; {len(live)} run{'s' if len(live) != 1 else ''} {words}" if live else "stopped"
    _tell(hive, {"running": False, "stopped": True, **found}, text)


def _wait_until_gone(hive: Session, pid: int, runs_s: float | None) -> None:
    """Runs that are waited for without a limit make this wait without one."""
    clock = SystemClock()
    limit_s = hive.settings.seconds("daemon.stop_timeout_s") + _STOP_MARGIN_S + (runs_s or 0.0)
    deadline = clock.monotonic() + limit_s
    while _is_alive(pid):
        if runs_s is not None and clock.monotonic() > deadline:
            raise HiveError(
                "WAIT_TIMEOUT",
                f"The daemon (pid {pid}) has not ended within {limit_s:g} s.",
                hint="`hivectl daemon logs` tells what it waits for.",
            )
        time.sleep(_POLL_S)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    stat = Path(f"/proc/{pid}/stat")
    try:
        # A zombie has ended; its parent (a test, a container's pid 1) just has not looked yet.
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except (OSError, IndexError):
        return True


def logs(hive: Session, *, lines: int, follow: bool) -> None:
    """The end of the daemon's log, then what comes, across rotations."""
    path = hive.settings.places.daemon_log
    try:
        text, inode, position = _last_lines(path, lines)
    except FileNotFoundError:
        raise HiveError(
            "UNAVAILABLE", f"There is no log yet at {path}.", hint="Start a daemon: `hivectl daemon start`."
        ) from None  # fmt: skip
    for row in text:
        _print_log_line(hive, row)
    while follow:
        time.sleep(_FOLLOW_S)
        inode, position = _print_new(hive, path, inode, position)


def _last_lines(path: Path, count: int) -> tuple[list[str], int, int]:
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        data, start = b"", end
        while start > 0 and data.count(b"\n") <= count:
            step = min(_BLOCK, start)
            start -= step
            file.seek(start)
            data = file.read(step) + data
        rows = data.decode(errors="replace").splitlines()
        return (rows[-count:] if count else []), os.fstat(file.fileno()).st_ino, end


def _print_new(hive: Session, path: Path, inode: int, position: int) -> tuple[int, int]:
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_ino != inode or status.st_size < position:
                inode, position = status.st_ino, 0
            file.seek(position)
            data = file.read()
    except FileNotFoundError:
        return inode, position
    whole = data.rfind(b"\n") + 1
    for row in data[:whole].decode(errors="replace").splitlines():
        _print_log_line(hive, row)
    return inode, position + whole


def _print_log_line(hive: Session, row: str) -> None:
    try:
        record = json.loads(row)
    except ValueError:
        record = None
    if hive.is_json or not isinstance(record, dict):
        hive.screen.result(one_line(row))
        return
    stamp = str(record.pop("ts", record.pop("time", "")))
    level = str(record.pop("level", ""))
    message = str(record.pop("message", record.pop("msg", record.pop("event", ""))))
    rest = " ".join(f"{key}={value}" for key, value in record.items())
    style = {"error": "bad", "critical": "bad", "warning": "warn"}.get(level.lower(), "")
    hive.screen.show(
        ("dim", f"{stamp[:23]} "), (style, f"{level[:7]:<7} "), ("", message), ("dim", f"  {rest}" if rest else "")
    )  # fmt: skip


# -- services ---------------------------------------------------------------------------------


def template(name: str) -> str:
    """A packaged template. Raises HiveError INTERNAL."""
    try:
        return (importlib.resources.files("hivectl") / "data" / name).read_text(encoding="utf-8")
    except OSError as exc:
        raise HiveError(
            "INTERNAL", f"The template {name} is missing.", hint="Install hivectl again."
        ) from exc


def environment(hive: Session) -> dict[str, str]:
    """What a service manager must be told: its own PATH would not find Claude, nor us in a checkout."""
    env = transport.daemon_env(hive.settings)
    told = {"PATH": hive.settings.environment.get("PATH", os.defpath)}
    if env.get("PYTHONPATH") != hive.settings.environment.get("PYTHONPATH"):
        told["PYTHONPATH"] = env["PYTHONPATH"]
    for name in ("HIVECTL_CONFIG", "HIVECTL_CLAUDE_BIN", "CLAUDE_CONFIG_DIR"):
        if env.get(name):
            told[name] = env[name]
    return told


def render_unit(unit: str, hive: Session) -> str:
    """The unit for this interpreter and this environment."""
    command = " ".join(_quoted(part) for part in transport.daemon_argv("run"))
    extra = [f'Environment="{name}={_escaped(value)}"' for name, value in environment(hive).items()]
    rows = []
    for row in unit.splitlines():
        if row.startswith("Environment=") and "PATH=" in row:
            continue
        if row.startswith("ExecStart="):
            rows += [*extra, f"ExecStart={command}"]
        else:
            rows.append(row)
    return "\n".join(rows) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")


def _quoted(part: str) -> str:
    text = _escaped(part).replace("$", "$$")
    return f'"{text}"' if any(c.isspace() for c in part) or text != part else part


def install(hive: Session, *, start_now: bool) -> None:
    """Write the unit, enable it, and say what lingering means. Raises HiveError where that cannot be."""
    _refuse_private(hive)
    if SYSTEM.name == "darwin":
        _install_agent(hive, start_now=start_now)
        return
    unit = transport.user_unit(hive.settings)
    unit.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomic(unit, render_unit(template(transport.UNIT_NAME), hive).encode(), mode=0o644)
    is_reloaded = _systemctl("daemon-reload")
    is_started = start_now and is_reloaded and _systemctl("enable", "--now", transport.UNIT_NAME)
    linger = _lingers()
    document = {"unit": str(unit), "enabled": is_started, "linger": linger}
    _tell(hive, document, f"installed {unit}")
    if not is_reloaded:
        hive.screen.note(("warn", "systemd did not answer here; enable it with: "), ("", f"systemctl --user enable --now {transport.UNIT_NAME}"))  # fmt: skip
    if linger is False:
        hive.screen.note(
            ("warn", "when you log out, systemd ends your services and with them the daemon; "),
            ("", "to keep it: loginctl enable-linger"),
        )


def uninstall(hive: Session) -> None:
    """Disable and remove the unit. Not installed is fine."""
    _refuse_private(hive)
    if SYSTEM.name == "darwin":
        _uninstall_agent(hive)
        return
    unit = transport.user_unit(hive.settings)
    if not unit.exists():
        _tell(hive, {"unit": str(unit), "removed": False}, "it was not installed")
        return
    _systemctl("disable", "--now", transport.UNIT_NAME)
    unit.unlink()
    _systemctl("daemon-reload")
    _tell(hive, {"unit": str(unit), "removed": True}, f"removed {unit}; data and runs stay")


def _install_agent(hive: Session, *, start_now: bool) -> None:
    path = transport.user_agent(hive.settings)
    shipped = template(transport.AGENT_FILE).encode()
    content = launchd.render(shipped, hive.settings, environment(hive))
    refused = launchd.install(path, content, start_now=start_now)
    is_enabled = start_now and refused is None
    _tell(hive, {"unit": str(path), "enabled": is_enabled, "linger": None}, f"installed {path}")
    if refused is not None:
        hive.screen.note(
            ("warn", f"launchd did not take it ({one_line(refused)}); it starts with your next login, or with: "),
            ("", f"launchctl bootstrap {launchd.domain()} '{path}'"),
        )  # fmt: skip


def _uninstall_agent(hive: Session) -> None:
    path = transport.user_agent(hive.settings)
    if launchd.uninstall(path):
        _tell(hive, {"unit": str(path), "removed": True}, f"removed {path}; data and runs stay")
    else:
        _tell(hive, {"unit": str(path), "removed": False}, "it was not installed")


def _refuse_private(hive: Session) -> None:
    if hive.settings.places.is_private:
        raise HiveError(
            "INVALID_STATE",
            "HIVECTL_HOME is set: the service is for the usual places only.",
            hint="Unset it, or run `hivectl daemon run` in a service of your own.",
        )


def _systemctl(*arguments: str) -> bool:
    try:
        done = subprocess.run(
            ["systemctl", "--user", *arguments],  # noqa: S607
            capture_output=True,
            check=False,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _lingers() -> bool | None:
    """Whether the user's services outlive the login; None when it cannot be told."""
    try:
        done = subprocess.run(
            ["loginctl", "show-user", str(os.getuid()), "-p", "Linger", "--value"],  # noqa: S607
            capture_output=True,
            check=False,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"yes": True, "no": False}.get(done.stdout.strip())


def _tell(hive: Session, document: dict[str, Any], text: str) -> None:
    if hive.options.output in {"json", "yaml"}:
        hive.print_document(document)
    else:
        hive.screen.result(text)
