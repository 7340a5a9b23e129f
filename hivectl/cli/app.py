"""The Typer application: the groups, the global options, and where each command lives.

At load, this and the command modules import Typer and the standard library only; everything else is
imported inside the command that needs it.
"""

from __future__ import annotations

from typing import Annotated

import typer

from hivectl.cli.commands import (
    answering,
    approval,
    batch,
    daemon,
    execution,
    night,
    policy,
    project,
    queue,
    reading,
    running,
    sessions,
    spending,
    system,
    worker,
)
from hivectl.cli.grammar import EVERYWHERE, FORMATS
from hivectl.cli.session import Globals, Session
from hivectl.model.errors import EXIT_MEANINGS

GLOBAL_OPTIONS = "Options every command takes: -o table|wide|json|yaml|name, --json, --no-color, --no-autostart, -v."

app = typer.Typer(
    name="hivectl",
    help="Runs Claude Code for you: many prompts, many projects, unattended, with nothing lost.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="`hivectl COMMAND --help` tells more of a command. Exit codes: "
    + ", ".join(
        f"{int(code)} {meaning.partition(':')[0]}" for code, meaning in EXIT_MEANINGS.items()
    )
    + ".",
)


def _version(wanted: bool) -> None:
    if wanted:
        system.print_version()
        raise typer.Exit


@app.callback()
def options(
    ctx: typer.Context,
    output: Annotated[str, EVERYWHERE["output"].for_typer()] = "table",
    json: Annotated[bool, EVERYWHERE["json"].for_typer()] = False,
    no_color: Annotated[
        bool, typer.Option("--no-color", help="No colours; NO_COLOR does the same.")
    ] = False,
    no_autostart: Annotated[
        bool, typer.Option("--no-autostart", help="Do not start the daemon when none runs.")
    ] = False,
    verbose: Annotated[int, typer.Option("-v", "--verbose", count=True, help="Show more.")] = 0,
    version: Annotated[  # noqa: ARG001  its callback does the work
        bool,
        typer.Option("--version", help="Print the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Options every command takes; they may stand anywhere on the line."""
    if output not in FORMATS:
        raise typer.BadParameter(f"{output!r}: give one of {', '.join(FORMATS)}")
    ctx.obj = Session(
        options=Globals(
            output="json" if json else output,
            color=False if no_color else None,
            autostart=False if no_autostart else None,
            verbose=verbose,
        )
    )


for module in (running, batch, reading, approval, answering, spending, night, system):
    module.register(app)
app.add_typer(project.app, name="project")
app.add_typer(sessions.app, name="session")
app.add_typer(policy.app, name="policy")
queue.register(app)
execution.register(app)
app.add_typer(worker.app, name="worker")
app.add_typer(night.app, name="notify")
app.add_typer(system.config_app, name="config")
app.add_typer(system.audit_app, name="audit")
app.add_typer(daemon.app, name="daemon")
