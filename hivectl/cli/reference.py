"""docs/cli.md, written from the Typer application: every command, option, exit code and variable."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

import typer

from hivectl import config
from hivectl.cli.app import app
from hivectl.model.errors import EXIT_MEANINGS, TABLE, ExitCode

_HEAD = """# The command line

This page is written by `hivectl.cli.reference`; do not edit it.

Results go to standard output, everything else to standard error. With `--json` the result is one JSON
document on one line (commands that follow something print one a line), and an error is one JSON object
`{"error": {"code", "message", "why", "hint", "retryable", "exit_code", "details"}}` on standard error.
Fields are only ever added.

"""


def render() -> str:
    """The page."""
    root = typer.main.get_command(app)
    context = typer.Context(root, info_name="hivectl")
    parts = [_HEAD, "## Options every command takes\n\n", _parameters(root), "\n"]
    parts += ["They may stand anywhere on the line before `--`.\n\n", "## Commands\n\n"]
    parts += _contents(root)
    for name in root.commands:  # type: ignore[attr-defined]  # a group
        parts += _command(root.commands[name], f"hivectl {name}", context)  # type: ignore[attr-defined]
    parts += _exit_codes()
    parts += _variables()
    return "".join(parts).rstrip() + "\n"


def _contents(root: Any) -> list[str]:
    rows = ["| command | does |\n|---|---|\n"]
    for name, command in root.commands.items():
        first = _help(command).partition("\n")[0]
        anchor = f"hivectl-{name}"
        rows.append(f"| [`{name}`](#{anchor}) | {first} |\n")
    return [*rows, "\n"]


def _command(command: Any, path: str, parent: Any) -> list[str]:
    context = typer.Context(command, info_name=path.rsplit(" ", 1)[-1], parent=parent)
    level = "###" if path.count(" ") == 1 else "####"
    parts = [f"{level} {path}\n\n", f"{_help(command)}\n\n"]
    children = getattr(command, "commands", None)
    if children is not None:
        for name, child in children.items():
            parts += _command(child, f"{path} {name}", context)
        return parts
    pieces = " ".join(command.collect_usage_pieces(context))
    return [*parts, f"```\n{path} {pieces}\n```\n\n", _parameters(command)]


def _help(command: Any) -> str:
    return inspect.cleandoc(command.help or "").strip()


def _parameters(command: Any) -> str:
    rows = [
        f"| `{_name(param)}` | {_cell(param)} |\n"
        for param in command.params
        if not getattr(param, "hidden", False)
    ]
    if not rows:
        return ""
    return "| | |\n|---|---|\n" + "".join(rows) + "\n"


def _name(param: Any) -> str:
    if param.param_type_name == "argument":
        return str(param.metavar or param.name).replace("|", "\\|")
    names = ", ".join([*param.opts, *param.secondary_opts])
    if param.metavar and not param.is_flag:
        names += f" {param.metavar}"
    return names.replace("|", "\\|")


def _cell(param: Any) -> str:
    text = (param.help or "").replace("|", "\\|")
    default = param.default
    is_told = default not in (None, False, [], (), "", 0) and not callable(default)
    return f"{text} Default: `{default}`." if is_told else text


def _exit_codes() -> list[str]:
    rows = ["## Exit codes\n\n", "| code | meaning | error codes |\n|---|---|---|\n"]
    for code in ExitCode:
        names = ", ".join(f"`{name}`" for name, kind in TABLE.items() if kind.exit is code)
        rows.append(f"| {int(code)} | {EXIT_MEANINGS[code]} | {names} |\n")
    text = """
        `exec`, `attach` and `wait` exit with the execution's outcome; `wait` for several ids with the
        highest code. Leaving an execution with Ctrl-C is 130, ending it 12.
        """
    return [*rows, "\n", textwrap.dedent(text).strip(), "\n\n"]


def _variables() -> list[str]:
    rows = ["## Environment\n\n", "| variable | meaning |\n|---|---|\n"]
    rows += [f"| `{name}` | {meaning} |\n" for name, meaning in config.OTHER_VARIABLES.items()]
    rows += [
        "| `NO_COLOR` | No colours. |\n",
        "| `VISUAL`, `EDITOR` | The editor of `exec -e` and of changed approvals. |\n",
        "\nEvery setting has a variable of its own; see the configuration page.\n",
    ]
    return rows
