"""ps, show, tail and logs: what is going on, and what went on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hivectl.cli import completing
from hivectl.cli.grammar import HOT
from hivectl.cli.session import Session

if TYPE_CHECKING:
    from hivectl.client.aio import Client


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("ps")(ps)
    app.command("show")(show)
    app.command("top")(top)
    app.command("tail")(tail)
    app.command("logs")(logs)


def ps(
    ctx: typer.Context,
    project: Annotated[str | None, typer.Argument(metavar="[PROJECT]", help="Only this project's.", autocompletion=completing.projects)] = None,
    everything: Annotated[bool, HOT["ps"]["everything"].for_typer()] = False,
    limit: Annotated[int, typer.Option("-n", "--limit", metavar="N", help="Most executions shown.")] = 200,
) -> None:  # fmt: skip
    """What runs or waits its turn; -a for all.

    Pending prompts are shown with their place in the queue.
    """
    from hivectl.cli import views

    hive: Session = ctx.obj
    params: dict[str, Any] = {"limit": limit}
    if not everything:
        params["states"] = list(views.UNFINISHED)
    if project:
        params["project"] = project

    async def work(client: Client) -> Any:
        return await client.call("execution.list", **params)

    empty = views.nothing_runs(has_all=everything)
    hive.print_items("execution", hive.run(work), empty=empty)


def show(
    ctx: typer.Context,
    target: Annotated[str | None, typer.Argument(metavar="[EXECUTION|PROJECT]", help="Default: the newest of the current directory's project.", autocompletion=completing.executions)] = None,
) -> None:  # fmt: skip
    """One execution: its state, evidence, use and result."""
    from hivectl.cli import choosing, details

    hive: Session = ctx.obj

    async def work(client: Client) -> dict[str, Any]:
        return await choosing.execution(hive, client, target)

    found = hive.run(work)
    hive.print_item("execution", found, lambda: details.execution(found))


def top(ctx: typer.Context) -> None:
    """A live table of what runs, waits and is queued.

    Keys: j/k or the arrows move, Enter or t attaches (Ctrl-C goes back), y answers what the execution waits
    for, K kills it, / filters, p shows this project only, Esc shows all, q quits. Without a terminal it is
    printed once.
    """
    from hivectl.cli import top as table

    hive: Session = ctx.obj

    async def work(client: Client) -> int:
        if table.is_live(hive):
            return await table.Top(hive, client).run()
        return await table.snapshot(hive, client)

    raise typer.Exit(hive.run(work))


def tail(
    ctx: typer.Context,
    projects: Annotated[list[str] | None, typer.Argument(metavar="[PROJECT]...", help="Default: the current directory's, else all.", autocompletion=completing.projects)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every project.")] = False,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what comes, through daemon restarts, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", metavar="N", min=0, help="Start with the last N that are shown of each project.")] = 10,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="Only later events: 10m, 2h, or an ISO 8601 time.")] = None,
    grep: Annotated[str | None, typer.Option("--grep", metavar="TEXT", help="Only events that contain this text.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Claude's lines word for word; never to a terminal.")] = False,
) -> None:  # fmt: skip
    """Events of projects, one colour each.

    --json prints one event a line, with at least seq and type.
    """
    from hivectl.cli import tailing

    hive: Session = ctx.obj
    tailing.refuse_raw_terminal(hive, raw=raw)

    async def work(client: Client) -> int:
        chosen = await tailing.projects_of(hive, client, projects or [], everything=everything)
        view = tailing.View(hive, raw=raw, has_prefix=len(chosen) != 1)
        view.names.update(await tailing.names_of(client))
        wish = tailing.Wish(projects=chosen, last=lines, since=since, grep=grep, follow=follow)
        return await tailing.run(client, wish, view)

    raise typer.Exit(hive.run(work))


def logs(
    ctx: typer.Context,
    target: Annotated[str | None, typer.Argument(metavar="[EXECUTION|PROJECT]", help="Default: the newest of the current directory's project.", autocompletion=completing.executions)] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until it ends.")] = False,
    lines: Annotated[int | None, typer.Option("-n", "--lines", metavar="N", min=0, help="Only the last N that are shown.")] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="TIME", help="Only later events: 10m, 2h, or an ISO 8601 time.")] = None,
    grep: Annotated[str | None, typer.Option("--grep", metavar="TEXT", help="Only events that contain this text.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Claude's lines word for word; never to a terminal.")] = False,
) -> None:  # fmt: skip
    """The messages of one execution, from its prompt to its end."""
    from hivectl.cli import choosing, tailing

    hive: Session = ctx.obj
    tailing.refuse_raw_terminal(hive, raw=raw)

    async def work(client: Client) -> int:
        found = await choosing.execution(hive, client, target)
        view = tailing.View(hive, raw=raw, has_prefix=False)
        wish = tailing.Wish(
            projects=[found["project"]],
            execution=found["execution"],
            last=lines,
            since=since,
            grep=grep,
            follow=follow,
        )
        return await tailing.run(client, wish, view)

    raise typer.Exit(hive.run(work))
