"""doctor: the offline part, done by the daemon's own program, joined with what a live daemon says."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from hivectl.cli import table
from hivectl.cli.session import Session
from hivectl.client import transport
from hivectl.model.errors import ExitCode, HiveError

if TYPE_CHECKING:
    from hivectl.client.aio import Client

TIMEOUT_S = 60.0
_SAID_BY_HEALTH = frozenset({"daemon"})


def run(hive: Session) -> int:
    """Print every check; 1 when one failed."""
    hive.warns = False
    report = {"offline": offline(hive), "daemon": online(hive)}
    checks = _checks(report)
    failed = [check for check in checks if check["status"] == "fail"]
    if hive.options.output in {"json", "yaml"}:
        hive.print_document({"ok": not failed, "checks": checks, **report})
    else:
        _print(hive, checks)
    return int(ExitCode.FAILED if failed else ExitCode.OK)


def offline(hive: Session) -> dict[str, Any]:
    """What `python -m hivectl.daemon doctor --json` finds. Never raises: that it cannot run is a finding."""
    argv = transport.daemon_argv("doctor", "--json")
    try:
        done = subprocess.run(
            argv,
            env=transport.daemon_env(hive.settings),
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=False,
        )
        found = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.TimeoutExpired) as exc:
        return {"error": f"the offline check did not run: {exc}"}
    return found if isinstance(found, dict) else {"checks": found}


def online(hive: Session) -> dict[str, Any] | None:
    """The health of a running daemon; None when none runs. Starts none."""
    hive.options.autostart = False

    async def work(client: Client) -> Any:
        return await client.call("health")

    try:
        found: dict[str, Any] = hive.run(work)
    except HiveError as exc:
        if exc.code == "UNAVAILABLE":
            return None
        return {"status": "failing", "problems": [f"{exc.code}: {exc.message}"]}
    return found


def _checks(report: dict[str, Any]) -> list[dict[str, str]]:
    """One list of {name, status: ok|warn|fail, message, why, hint}."""
    found: list[dict[str, str]] = []
    off = report["offline"]
    if "error" in off:
        found.append(_check("offline", "fail", off["error"]))
    found += [
        _check(
            str(item["id"]).replace("_", " "),
            str(item["status"]),
            str(item["what"]),
            str(item.get("next") or ""),
            str(item.get("why") or ""),
        )
        for item in off.get("checks") or []
        if not (item["id"] in _SAID_BY_HEALTH and report["daemon"] is not None)
    ]
    daemon = report["daemon"]
    if daemon is None:
        if not any(check["name"] == "daemon" for check in found):
            found.append(_check("daemon", "ok", "none runs; a command that needs one starts it"))
        return found
    status = {"ok": "ok", "degraded": "warn"}.get(str(daemon["status"]), "fail")
    found.append(_check("daemon", status, f"runs, {daemon['status']}"))
    found += [_check("health", status, str(text)) for text in daemon.get("problems") or []]
    return found


def _check(name: str, status: str, message: str, hint: str = "", why: str = "") -> dict[str, str]:
    return {"name": name, "status": status, "message": message, "why": why, "hint": hint}


def _print(hive: Session, checks: list[dict[str, str]]) -> None:
    marks = {"ok": ("good", "✓ ok  "), "warn": ("warn", "! warn"), "fail": ("bad", "✗ FAIL")}
    most = max((table.width_of(check["name"]) for check in checks), default=0)
    for check in checks:
        name = check["name"] + " " * (most - table.width_of(check["name"]))
        hive.screen.show(marks[check["status"]], ("bold", f"  {name}  "), ("", check["message"]))
        if check["status"] == "ok" and not hive.options.verbose:
            continue
        for text in (check["why"], check["hint"]):
            if text and text != check["message"]:
                hive.screen.show(("dim", f"        {' ' * most}  {text}"))
