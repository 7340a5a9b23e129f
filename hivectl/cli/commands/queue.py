"""queue …: what waits, why, and in which order; describe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hivectl.cli import completing
from hivectl.cli.session import Session

if TYPE_CHECKING:
    from hivectl.client.aio import Client

app = typer.Typer(
    help="What waits, why, and in which order.", no_args_is_help=True, rich_markup_mode=None
)

ProjectWord = Annotated[
    str | None,
    typer.Argument(metavar="[PROJECT]", help="Only this project; default: the whole queue.", autocompletion=completing.projects),
]  # fmt: skip
Orders = Annotated[
    list[str],
    typer.Argument(metavar="ORDER...", help="Work orders (o_…), or executions of them (x_…).", autocompletion=completing.executions),
]  # fmt: skip


def register(main: typer.Typer) -> None:
    """Add the group, and `describe` beside it."""
    main.add_typer(app, name="queue")
    main.command("describe")(describe)


@app.command("list")
def list_(
    ctx: typer.Context,
    project: ProjectWord = None,
    everything: Annotated[bool, typer.Option("-a", "--all", help="Also what runs and what has ended.")] = False,
    state: Annotated[list[str] | None, typer.Option("--state", metavar="STATE", help="queued, claimed, completed, failed, cancelled or dead; repeatable.")] = None,
) -> None:  # fmt: skip
    """Work orders in the order of their turn; by default those that wait."""
    from hivectl.cli.session import all_pages
    from hivectl.model.work import OrderState

    hive: Session = ctx.obj
    params: dict[str, Any] = {"project": project} if project else {}
    if state or everything:
        params["states"] = state or [str(known) for known in OrderState]

    async def work(client: Client) -> Any:
        return await all_pages(client, "queue.list", **params)

    hive.print_items("order", hive.run(work), empty="nothing waits")


@app.command("stats")
def stats(ctx: typer.Context) -> None:
    """How long the queue is, what holds it up, and who works."""
    from hivectl.cli import queueing

    hive: Session = ctx.obj

    async def work(client: Client) -> Any:
        return await client.call("queue.stats")

    found = hive.run(work)
    if hive.options.output in {"json", "yaml"}:
        hive.print_document(found)
    else:
        hive.screen.result(queueing.stats(found))


@app.command("describe")
def describe(
    ctx: typer.Context,
    order: Annotated[str, typer.Argument(metavar="ORDER", help="A work order (o_…) or an execution of it (x_…).", autocompletion=completing.executions)],
) -> None:  # fmt: skip
    """Why is it not running? A work order with its attempts and what it waits for."""
    from hivectl.cli import queueing

    hive: Session = ctx.obj

    async def work(client: Client) -> Any:
        return await client.call("queue.describe", work_order=order)

    found = hive.run(work)
    match hive.options.output:
        case "json" | "yaml":
            hive.print_document(found)
        case "name":
            hive.screen.result(found["order"]["work_order"])
        case _:
            hive.screen.result(queueing.described(found))


@app.command("pause")
def pause(
    ctx: typer.Context,
    project: ProjectWord = None,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for people.")] = "",
) -> None:  # fmt: skip
    """Start nothing new, of one project or at all. What runs goes on."""
    hive: Session = ctx.obj
    params: dict[str, Any] = {"reason": reason, **({"project": project} if project else {})}

    async def work(client: Client) -> Any:
        return await client.call("queue.pause", **params)

    done = hive.run(work)
    undo = f"hivectl queue resume {project}" if project else "hivectl queue resume"
    hive.print_changed(done, f"{project or 'the queue'} is paused; `{undo}` goes on")


@app.command("resume")
def resume(
    ctx: typer.Context,
    project: ProjectWord = None,
    now: Annotated[bool, typer.Option("--now", help="Also before a usage limit ends.")] = False,
) -> None:  # fmt: skip
    """Take a pause back, and take up what a usage limit stopped."""
    hive: Session = ctx.obj
    params: dict[str, Any] = {"now": now, **({"project": project} if project else {})}

    async def work(client: Client) -> Any:
        return await client.call("queue.resume", **params)

    done = hive.run(work)
    taken = (
        f"; {done['orders']} stopped by a usage limit {'is' if done['orders'] == 1 else 'are'} taken up again"
        if done["orders"]
        else ""
    )
    hive.print_changed(done, f"{project or 'the queue'} goes on{taken}")


@app.command("move")
def move(
    ctx: typer.Context,
    order: Annotated[str, typer.Argument(metavar="ORDER", help="What to move.", autocompletion=completing.executions)],
    first: Annotated[bool, typer.Option("--first", help="Before all others.")] = False,
    last: Annotated[bool, typer.Option("--last", help="Behind all others.")] = False,
    before: Annotated[str | None, typer.Option("--before", metavar="ORDER", help="Right before this one.", autocompletion=completing.executions)] = None,
    priority: Annotated[str | None, typer.Option("--priority", metavar="high|normal|low", help="Its place by another priority.")] = None,
) -> None:  # fmt: skip
    """Give a waiting work order another place."""
    from hivectl.cli import queueing
    from hivectl.model.errors import HiveError

    hive: Session = ctx.obj
    if sum((first, last, before is not None, priority is not None)) != 1:
        raise HiveError(
            "INVALID_PARAMS",
            "Say where to: exactly one of --first, --last, --before and --priority.",
        )
    where: dict[str, Any] = {"to": "first" if first else "last" if last else None}
    where |= {"before": before, "priority": priority}
    params = {name: value for name, value in where.items() if value is not None}

    async def work(client: Client) -> Any:
        return await client.call("queue.move", work_order=order, **params)

    found = hive.run(work)
    hive.print_item("order", found, queueing.one_line(found))


@app.command("cancel")
def cancel(
    ctx: typer.Context,
    orders: Orders,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Kept with it.")] = "",
) -> None:  # fmt: skip
    """Cancel waiting work orders, and what was to follow them."""
    _each(ctx.obj, "queue.cancel", orders, reason=reason)


@app.command("retry")
def retry(ctx: typer.Context, orders: Orders) -> None:
    """Queue again what was given up; start now what waits for a retry or a usage limit."""
    _each(ctx.obj, "queue.retry", orders)


def _each(hive: Session, method: str, orders: list[str], **params: Any) -> None:
    """One after the other; what was done is told, also when a later one is refused."""
    from hivectl.cli import queueing
    from hivectl.model.errors import HiveError

    done: list[Any] = []
    refused: list[HiveError] = []

    async def work(client: Client) -> None:
        for order in orders:
            try:
                done.append(await client.call(method, work_order=order, **params))
            except HiveError as exc:
                refused.append(exc)
                return

    hive.run(work)
    match hive.options.output:
        case "json" | "yaml":
            hive.print_document({"items": done, "next_cursor": None})
        case "name":
            hive.screen.result("\n".join(item["work_order"] for item in done))
        case _:
            hive.screen.result("\n".join(queueing.one_line(item) for item in done))
    if refused:
        raise refused[0]


@app.command("clear")
def clear(
    ctx: typer.Context,
    project: Annotated[str | None, typer.Argument(metavar="[PROJECT]", help="What waits for this project.", autocompletion=completing.projects)] = None,
    everything: Annotated[bool, typer.Option("--all", help="What waits for every project.")] = False,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
) -> None:  # fmt: skip
    """Cancel all that waits. What runs goes on; `queue retry` brings single ones back."""
    from hivectl.cli import queueing
    from hivectl.model.errors import HiveError

    hive: Session = ctx.obj
    if (project is None) is not everything:
        raise HiveError(
            "INVALID_PARAMS",
            "Say what to clear: either a project or --all.",
            hint="`hivectl queue list` shows what waits.",
        )
    params: dict[str, Any] = {"project": project} if project else {"all": True}

    async def work(client: Client) -> Any:
        if not yes:
            waiting = await client.call("queue.stats")
            what = (
                f"what waits for {project}"
                if project
                else f"all {waiting['states']['queued']} that wait"
            )
            await queueing.confirm(
                hive, f"Cancel {what}?", hint="Say --yes to cancel without being asked."
            )
        return await client.call("queue.clear", **params)

    done = hive.run(work)
    hive.print_changed(done, f"{done['orders']} cancelled")
