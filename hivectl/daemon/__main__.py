"""`python -m hivectl.daemon run | doctor`: the daemon itself, and the checks that need no daemon.

Heavy parts are imported when their command runs. Errors go to standard error as what, why and next step.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import json
import os
import sys
from typing import Any

from hivectl.logic import redact
from hivectl.model.errors import ExitCode, HiveError

_EXIT_HANG_S = 10.0
"""A thread that keeps the interpreter from ending is a bug; its traceback is better than a hanging stop."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.command == "doctor":
            return _doctor(arguments)
        return _run(arguments)
    except HiveError as exc:
        _tell(exc.message, exc.kind.meaning if exc.message != exc.kind.meaning else "", exc.hint)
        return exc.kind.exit
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except Exception as exc:  # noqa: BLE001  the outermost command: the log has the traceback
        _tell(
            f"the daemon failed: {redact.redact_text(f'{type(exc).__name__}: {exc}')}",
            "This is a fault of hivectl or of the machine.",
            "`hivectl doctor` checks the machine; the traceback is at the end of `hivectl daemon logs`.",
        )
        return ExitCode.INTERNAL


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hivectl.daemon",
        description="The hivectl daemon; `hivectl daemon` wraps this.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser(
        "run", help="run the daemon in the foreground until it is told to stop"
    )
    run.add_argument(
        "--foreground-log",
        choices=("human", "json", "none"),
        help="what goes to standard error (default: human on a terminal, json as process 1, else none)",
    )
    run.add_argument(
        "--insecure-plain-http",
        action="store_true",
        help="let other machines in without TLS: everything, the token too, can be read on the way",
    )
    doctor = commands.add_parser("doctor", help="check what the daemon needs, without a daemon")
    doctor.add_argument("--json", action="store_true", help="one JSON document")
    doctor.add_argument(
        "--offline", action="store_true", help="do not ask a running daemon (it never does)"
    )
    for command in (run, doctor):
        command.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            dest="settings",
            help="a setting, such as execution.max_live=2; beats environment and file",
        )
    return parser


def parse_flags(pairs: list[str]) -> dict[str, str]:
    """`["a.b=1"]` as a dictionary. Raises HiveError for one without `=`."""
    flags: dict[str, str] = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign:
            raise HiveError(
                "CONFIG_INVALID", f"--set {pair}: give KEY=VALUE", details={"flag": pair}
            )
        flags[key.strip()] = value
    return flags


def _run(arguments: argparse.Namespace) -> int:
    # Nearly all that a start makes stays: looking for garbage in between would be a tenth of its time.
    gc.disable()
    from hivectl import config  # noqa: PLC0415
    from hivectl.daemon import lifecycle, logs  # noqa: PLC0415

    flags = parse_flags(arguments.settings)
    if arguments.insecure_plain_http:
        flags["listen.insecure_plain_http"] = "true"
    settings = config.load(flags)
    terminal = logs.pick_terminal(
        wanted=arguments.foreground_log, is_tty=sys.stderr.isatty(), is_pid_1=os.getpid() == 1
    )
    try:
        code = asyncio.run(
            lifecycle.run(
                settings,
                _build,
                terminal=terminal,
                reread=lambda: config.load(flags, settings.environment),
            )
        )
    except lifecycle.AlreadyRunning as held:
        pid = str(held.args[0]) or "unknown"
        _tell(
            f"another daemon already runs here (pid {pid})",
            f"it holds the lock {settings.places.lock}",
            "`hivectl health` talks to it, `hivectl daemon stop` ends it; HIVECTL_HOME=DIR makes a second one.",
        )
        return lifecycle.EXIT_LOCK_HELD
    return code


async def _build(settings: Any, control: Any) -> Any:
    from hivectl.daemon import compose  # noqa: PLC0415  everything heavy hangs on it

    return await compose.build(settings, control)


def _doctor(arguments: argparse.Namespace) -> int:
    from hivectl.daemon import doctor  # noqa: PLC0415

    checks = asyncio.run(doctor.run(parse_flags(arguments.settings)))
    if arguments.json:
        document = {"status": doctor.worst(checks), "checks": [check.as_dict() for check in checks]}
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        sys.stdout.write(doctor.render(checks))
    return ExitCode.FAILED if doctor.worst(checks) == "fail" else ExitCode.OK


def _tell(what: str, why: str, step: str) -> None:
    lines = [f"hivectl: {what}"]
    if why:
        lines.append(f"  why:  {why}")
    if step:
        lines.append(f"  next: {step}")
    sys.stderr.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    exit_code = main()
    faulthandler.dump_traceback_later(_EXIT_HANG_S, exit=True)
    sys.exit(exit_code)
