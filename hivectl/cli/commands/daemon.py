"""daemon …: run, start, stop, look at it, install it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hivectl.cli.session import Session

if TYPE_CHECKING:
    from hivectl.client.aio import Client

app = typer.Typer(
    help="The background daemon; started when needed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Runs = Annotated[
    str,
    typer.Option("--runs", metavar="keep|wait|kill", help="What happens to runs: they go on, are waited for, or are ended."),
]  # fmt: skip
Timeout = Annotated[
    str | None,
    typer.Option("--timeout", metavar="DURATION", help="With --runs wait: how long at most."),
]


@app.command("run", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def run(ctx: typer.Context) -> None:
    """Run the daemon in the foreground, as a service manager wants it.

    It takes --set KEY=VALUE (any setting, repeatable), --foreground-log human|json|none (what goes to standard
    error) and --insecure-plain-http (let other machines in without TLS: everything can be read on the way).
    """
    from hivectl.cli import service

    service.run_in_foreground(ctx.obj, list(ctx.args))


@app.command("start")
def start(ctx: typer.Context) -> None:
    """Start the daemon in the background; returns when it answers."""
    from hivectl.cli import service

    service.start(ctx.obj)


@app.command("stop")
def stop(ctx: typer.Context, runs: Runs = "keep", timeout: Timeout = None) -> None:
    """Stop the daemon; returns when it is gone. Runs go on by default and are found again."""
    from hivectl.cli import service

    service.stop(ctx.obj, runs=runs, timeout=timeout)


@app.command("restart")
def restart(ctx: typer.Context, runs: Runs = "keep", timeout: Timeout = None) -> None:
    """Stop the daemon if one runs, and start it."""
    from hivectl.cli import service

    service.refuse_faults(ctx.obj)
    service.stop(ctx.obj, runs=runs, timeout=timeout)
    service.start(ctx.obj)


@app.command("status")
def status(ctx: typer.Context) -> None:
    """Whether a daemon runs, and where; -v for all that `health` shows. Exit 3 when none does."""
    from hivectl.cli import service, views

    hive: Session = ctx.obj
    hive.options.autostart = False

    async def work(client: Client) -> Any:
        return await client.call("health")

    found = hive.run(work)
    if hive.options.output in {"json", "yaml"}:
        hive.print_document(found)
    elif hive.options.verbose:
        hive.screen.result(views.health(found, width=hive.screen.table_width))
    else:
        hive.screen.result(service.status(found, width=hive.screen.table_width))


@app.command("logs")
def logs(
    ctx: typer.Context,
    lines: Annotated[int, typer.Option("-n", "--lines", metavar="N", min=0, help="The last N lines.")] = 50,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what comes.")] = False,
) -> None:  # fmt: skip
    """The daemon's own log; --json prints its lines as they are."""
    from hivectl.cli import service

    service.logs(ctx.obj, lines=lines, follow=follow)


@app.command("install")
def install(
    ctx: typer.Context,
    start_now: Annotated[bool, typer.Option("--now/--no-now", help="Also enable and start it.")] = True,
) -> None:  # fmt: skip
    """Install the service (systemd user unit, launchd agent), so that the daemon starts with your login."""
    from hivectl.cli import service

    service.install(ctx.obj, start_now=start_now)


@app.command("uninstall")
def uninstall(ctx: typer.Context) -> None:
    """Remove the service. Runs go on; data stays."""
    from hivectl.cli import service

    service.uninstall(ctx.obj)
