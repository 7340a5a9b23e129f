"""Entry point. Hot commands take the thin way; all others are parsed by Typer.

Imports nothing heavy: what is imported here is paid by every command.
"""

from __future__ import annotations

import os
import sys

from hivectl.cli import hot

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from hivectl.model.errors import HiveError

_FLAGS = frozenset({"--json", "--no-color", "--no-autostart", "-v", "-vv", "--verbose"})
_VALUED = frozenset({"-o", "--output"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code of the published table."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by who started us (`>&-`): nobody wants it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets an escape for it, never a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = hot.run(arguments)
        return _run(hoist(arguments)) if code is None else code
    except BrokenPipeError:
        return _leave_quietly()
    except hot.OutputLost as lost:
        return _report(lost.args[0], arguments)
    except KeyboardInterrupt:
        return 130


def _leave_quietly() -> int:
    """The reader left (`| head`): what is still buffered goes nowhere."""
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 1)
    return 0


def hoist(arguments: list[str]) -> list[str]:
    """Global options in front, wherever they stood before `--`, so that they may stand anywhere."""
    front: list[str] = []
    rest: list[str] = []
    index = 0
    while index < len(arguments):
        word = arguments[index]
        if word == "--":
            rest += arguments[index:]
            break
        if word in _FLAGS or word.startswith("--output="):
            front.append(word)
        elif word in _VALUED and index + 1 < len(arguments):
            front += arguments[index : index + 2]
            index += 1
        else:
            rest.append(word)
        index += 1
    return front + rest


def _run(arguments: list[str]) -> int:
    import typer

    from hivectl.cli.app import app
    from hivectl.cli.screen import ReaderLeft
    from hivectl.model.errors import HiveError

    try:
        code = app(args=arguments, prog_name="hivectl", standalone_mode=False)
    except ReaderLeft:
        return _leave_quietly()
    except HiveError as error:
        return _report(error, arguments)
    except typer.TyperException as error:
        return _report_usage(error, arguments)
    except typer.Abort:
        return 130
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except Exception:  # noqa: BLE001  the outermost edge: a bug must say so, with the code for it
        return _report_bug(arguments)
    return code if isinstance(code, int) else 0


def _wants_json(arguments: list[str]) -> bool:
    before = ["", *arguments]
    return "--json" in arguments or any(
        word == "json" and before[index] in _VALUED for index, word in enumerate(arguments)
    )


def _has_color(arguments: list[str]) -> bool:
    if "--no-color" in arguments or not sys.stderr.isatty():
        return False
    return not os.environ.get("NO_COLOR")  # noqa: TID251  before any settings are read


def _report(error: HiveError, arguments: list[str]) -> int:
    from hivectl.cli import failure

    failure.report(error, as_json=_wants_json(arguments), color=_has_color(arguments))
    return int(failure.exit_code_of(error))


def _report_usage(error: Exception, arguments: list[str]) -> int:
    from hivectl.cli.usage import as_hive_error

    found = as_hive_error(error, arguments)
    if found is None:
        return 2
    return _report(found, arguments) and 2


def _report_bug(arguments: list[str]) -> int:
    import traceback

    from hivectl.model.errors import HiveError

    if "-v" in arguments or "--verbose" in arguments:
        traceback.print_exc()
    last = traceback.format_exc(limit=-1).strip().splitlines()
    where = " ".join(last[1:2]).strip()
    error = HiveError(
        "INTERNAL",
        f"hivectl itself failed: {last[-1]} ({where})",
        hint="Run it again with -v for the whole story, and report it.",
    )
    return _report(error, arguments)
