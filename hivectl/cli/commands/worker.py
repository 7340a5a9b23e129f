"""worker …: who carries the work."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hivectl.cli import completing
from hivectl.cli.session import Session

if TYPE_CHECKING:
    from hivectl.client.aio import Client

app = typer.Typer(
    help="Who carries the work: the slots of this daemon, and programs outside.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Named = Annotated[
    str | None,
    typer.Argument(metavar="[WORKER]", help="Name or id; default: every local one.", autocompletion=completing.workers),
]  # fmt: skip


@app.command("list")
def list_(
    ctx: typer.Context,
    kind: Annotated[str | None, typer.Option("--kind", metavar="local|external", help="Only these.")] = None,
) -> None:  # fmt: skip
    """The workers, and what each carries."""
    from hivectl.cli.session import all_pages

    hive: Session = ctx.obj

    async def work(client: Client) -> Any:
        return await all_pages(client, "worker.list", **({"kind": kind} if kind else {}))

    hive.print_items(
        "worker", hive.run(work), empty="there is no worker; `hivectl worker scale 2` makes two"
    )


@app.command("scale")
def scale(
    ctx: typer.Context,
    slots: Annotated[str, typer.Argument(metavar="N|default", help="How many local workers; default: as configured.")],
) -> None:  # fmt: skip
    """Have more or fewer local workers. What runs is not touched; it lasts over restarts."""
    from hivectl.model.errors import HiveError

    hive: Session = ctx.obj
    if slots != "default" and not slots.isdigit():
        raise HiveError(
            "INVALID_PARAMS",
            f"{slots!r} is no number of workers.",
            hint="Give a number such as 4, or `default`.",
        )
    count = None if slots == "default" else int(slots)
    _print(hive, "worker.scale", slots=count)


@app.command("drain")
def drain(ctx: typer.Context, worker: Named = None) -> None:
    """Let a worker finish what it carries and take nothing new."""
    _print(ctx.obj, "worker.drain", **({"worker": worker} if worker else {}))


@app.command("resume")
def resume(ctx: typer.Context, worker: Named = None) -> None:
    """Let it take work again."""
    _print(ctx.obj, "worker.resume", **({"worker": worker} if worker else {}))


def _print(hive: Session, method: str, **params: Any) -> None:
    async def work(client: Client) -> Any:
        return await client.call(method, **params)

    hive.print_items(
        "worker", hive.run(work), empty="there is no local worker now: nothing is started"
    )
