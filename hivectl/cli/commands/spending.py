"""usage: what was used, by whom."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hivectl.cli import completing
from hivectl.cli.session import Session

if TYPE_CHECKING:
    from hivectl.client.aio import Client


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("usage")(usage)


def usage(
    ctx: typer.Context,
    by: Annotated[str, typer.Option("--by", metavar="project|user|model|day|execution", help="What each line is.")] = "project",
    since: Annotated[str, typer.Option("--since", metavar="TIME", help="From here on: a date, a time, or an age such as 7d.")] = "30d",
    until: Annotated[str | None, typer.Option("--until", metavar="TIME", help="Up to here.")] = None,
    project: Annotated[str | None, typer.Option("-p", "--project", metavar="PROJECT", help="Only this project's.", autocompletion=completing.projects)] = None,
    user: Annotated[str | None, typer.Option("--user", metavar="NAME", help="Only this user's.")] = None,
) -> None:  # fmt: skip
    """Runs, tokens, minutes and money, and the budgets of today.

    Money is Claude's own figures, an estimate; `~` marks what was worked out from tokens, because a run
    was killed before Claude stated it.
    """
    from hivectl.cli import spending

    hive: Session = ctx.obj
    given = {"by": by, "since": since, "until": until, "project": project, "user": user}
    params = {name: value for name, value in given.items() if value is not None}

    async def work(client: Client) -> Any:
        return await spending.collect(client, params)

    found = hive.run(work)
    match hive.options.output:
        case "json" | "yaml":
            hive.print_document(found)
        case "name":
            hive.screen.result("\n".join(item["key"] for item in found["items"]))
        case _:
            hive.screen.result(spending.table(found, width=hive.screen.table_width))
            for pieces in spending.budgets(found):
                hive.screen.note(*pieces)
