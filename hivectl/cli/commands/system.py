"""health, doctor, version, completion, audit and config."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hivectl.cli import completing
from hivectl.cli.session import Session

if TYPE_CHECKING:
    from hivectl.client.aio import Client

config_app = typer.Typer(
    help="Settings: flags, HIVECTL_*, the file, defaults.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

audit_app = typer.Typer(
    help="Who changed what.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("health")(health)
    app.command("doctor")(doctor)
    app.command("prune")(prune)
    app.command("version")(version)


def print_version() -> None:
    """The version on stdout."""
    import hivectl
    from hivectl.cli.screen import Screen

    Screen().result(f"hivectl {hivectl.__version__}")


def health(ctx: typer.Context) -> None:
    """Whether all is well, and what is used.

    Exit 1 when it is failing.
    """
    from hivectl.cli import views

    hive: Session = ctx.obj

    async def work(client: Client) -> Any:
        return await client.call("health")

    found = hive.run(work)
    if hive.options.output in {"json", "yaml"}:
        hive.print_document(found)
    elif hive.options.output == "name":
        hive.screen.result(found["status"])
    else:
        hive.screen.result(views.health(found, width=hive.screen.table_width))
    raise typer.Exit(1 if found["status"] == "failing" else 0)


def doctor(ctx: typer.Context) -> None:
    """Check everything hivectl needs.

    Works with the daemon and without. Exit 1 when something must be mended.
    """
    from hivectl.cli import checkup

    raise typer.Exit(checkup.run(ctx.obj))


def prune(
    ctx: typer.Context,
    project: Annotated[str | None, typer.Argument(metavar="[PROJECT]", help="Default: every log.", autocompletion=completing.projects)] = None,
    older_than: Annotated[str | None, typer.Option("--older-than", metavar="DURATION", help="What is older, such as 30d.")] = None,
    keep: Annotated[str | None, typer.Option("--keep", metavar="SIZE", help="The oldest beyond this size of each log, such as 1G.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:  # fmt: skip
    """Drop old log segments now.

    Whole segments only; the one that is written to always stays.
    """
    from hivectl.cli import pruning

    pruning.run(ctx.obj, project, older_than=older_than, keep=keep, dry_run=dry_run)


def version(ctx: typer.Context) -> None:
    """The version of this program and of the daemon."""
    import hivectl
    from hivectl.model.errors import HiveError

    hive: Session = ctx.obj
    hive.options.autostart = False
    found: dict[str, Any] = {"version": hivectl.__version__, "daemon": None}

    async def work(client: Client) -> Any:
        return client.info

    try:
        info = hive.run(work)
    except HiveError:
        info = None
    if info:
        found["daemon"] = {"version": info["version"], "protocol": info["protocol"]}
    if hive.options.output in {"json", "yaml"}:
        hive.print_document(found)
        return
    daemon = f", daemon {info['version']}" if info else ", no daemon runs"
    hive.screen.result(f"hivectl {hivectl.__version__}{daemon}")


@audit_app.command("verify")
def audit_verify(
    ctx: typer.Context,
    anchor: Annotated[str | None, typer.Option("--anchor", metavar="ID:HASH", help="What an earlier `audit verify` printed: that entry must still be there.")] = None,
) -> None:  # fmt: skip
    """Whether the audit is as it was written.

    Exit 1 when it is not. Only an anchor kept elsewhere proves that nothing was cut off or written anew.
    """
    from hivectl.cli import auditing

    raise typer.Exit(auditing.verify(ctx.obj, anchor))


@config_app.command("show")
def config_show(
    ctx: typer.Context,
    key: Annotated[str | None, typer.Argument(metavar="[KEY]", help="Only this one.", autocompletion=completing.settings)] = None,
    origin: Annotated[bool, typer.Option("--origin", help="Also where each value comes from.")] = False,
) -> None:  # fmt: skip
    """The settings as they take effect for this command and a daemon it would start."""
    from hivectl.cli import configuring

    configuring.show(ctx.obj, key, has_origin=origin)


@config_app.command("set")
def config_set(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="KEY", help="Such as execution.timeout_s.", autocompletion=completing.settings)],
    value: Annotated[str, typer.Argument(metavar="VALUE", help="As in the file; lists with commas. For settings that hold secrets `-`: it is asked for, or read from standard input.")],
) -> None:  # fmt: skip
    """Write a setting into the configuration file; comments there stay."""
    from hivectl.cli import configuring

    configuring.write(ctx.obj, key, value)


@config_app.command("path")
def config_path(ctx: typer.Context) -> None:
    """Where the configuration file lies, whether or not it exists."""
    hive: Session = ctx.obj
    path = str(hive.settings.places.config_file)
    if hive.options.output in {"json", "yaml"}:
        hive.print_document({"file": path})
    else:
        hive.screen.result(path)
