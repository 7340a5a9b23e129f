"""summary, notify test and notify list: what happened while nobody looked, and how one is told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hivectl.cli import completing
from hivectl.cli.session import Session

if TYPE_CHECKING:
    from hivectl.client.aio import Client

app = typer.Typer(
    help="How people and programs are told: targets, webhooks, what was sent.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def register(root: typer.Typer) -> None:
    """Add the command of the top level."""
    root.command("summary")(summary)


def summary(
    ctx: typer.Context,
    project: Annotated[str | None, typer.Argument(metavar="[PROJECT]", help="Only this project's.", autocompletion=completing.projects)] = None,
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="22:00 (the last one), 10h (so long ago), yesterday, today or 2026-01-31T08:00.")] = "24h",
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="The same; default: now.")] = None,
) -> None:  # fmt: skip
    """What happened since a time: done, failed, waiting, cost, files changed."""
    from hivectl.cli import nights

    hive: Session = ctx.obj
    params = nights.period(since, until)
    if project:
        params["project"] = project

    async def work(client: Client) -> Any:
        return await client.call("summary", **params)

    nights.show(hive, hive.run(work))


@app.command("test")
def test(ctx: typer.Context) -> None:
    """Send a test to every target and webhook now, and say how each went.

    Exit 1 when one did not take it.
    """
    from hivectl.cli import nights

    hive: Session = ctx.obj

    async def work(client: Client) -> Any:
        return await client.call("notify.test")

    found = hive.run(work)
    nights.show_test(hive, found)
    raise typer.Exit(0 if all(item["is_sent"] for item in found["items"]) else 1)


@app.command("list")
def list_(
    ctx: typer.Context,
    state: Annotated[str | None, typer.Option("--state", metavar="STATE", help="pending, held, sent, failed or moot (answered before it was told).")] = None,
    kind: Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Such as approval or failed; event = what webhooks got.")] = None,
    limit: Annotated[int, typer.Option("-n", "--limit", metavar="N", help="Most lines.")] = 50,
) -> None:  # fmt: skip
    """What was told, newest first."""
    hive: Session = ctx.obj
    params: dict[str, Any] = {"limit": limit}
    if state:
        params["state"] = state
    if kind:
        params["kind"] = kind

    async def work(client: Client) -> Any:
        return await client.call("notify.list", **params)

    hive.print_items("notification", hive.run(work), empty="nothing was told yet")
