"""inbox, approve and deny: what waits for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hivectl.cli import completing
from hivectl.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hivectl.client.aio import Client

Ids = Annotated[
    list[str],
    typer.Argument(metavar="APPROVAL...", help="Ids, as `hivectl inbox` shows them.", autocompletion=completing.approvals),
]  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("inbox")(inbox)
    app.command("approve")(approve)
    app.command("deny")(deny)


def inbox(
    ctx: typer.Context,
    project: Annotated[str | None, typer.Argument(metavar="[PROJECT]", help="Only this project's.", autocompletion=completing.projects)] = None,
    everything: Annotated[bool, typer.Option("-a", "--all", help="Also what was decided.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Show the list and leave, also on a terminal.")] = False,
) -> None:  # fmt: skip
    """What waits for an answer: live on a terminal, else a list, oldest first."""
    from hivectl.cli.session import all_pages

    hive: Session = ctx.obj
    is_live = hive.options.output == "table" and not (once or everything)
    if is_live and hive.screen.out_is_terminal and hive.screen.is_interactive:
        from hivectl.cli import inboxing

        hive.run(lambda client: inboxing.run(hive, client, project))
        return
    params: dict[str, Any] = {"state": "all" if everything else "pending"}
    if project:
        params["project"] = project

    async def work(client: Client) -> Any:
        return await all_pages(client, "approval.list", **params)

    noun, empty = "approval", "nothing waits for you"
    if everything:
        noun, empty = "any approval", "Claude asked for nothing yet"
    hive.print_items(noun, hive.run(work), empty=empty)


def approve(
    ctx: typer.Context,
    ids: Ids,
    given: Annotated[str | None, typer.Option("--input", metavar="JSON", help="Allow this instead of what Claude wanted.")] = None,
    edit: Annotated[bool, typer.Option("-e", "--edit", help="Change it in an editor first.")] = False,
    answer: Annotated[list[str] | None, typer.Option("--answer", metavar="[QUESTION=]TEXT", help="Answer Claude's question: a choice or your own words; repeatable.")] = None,
    always: Annotated[bool, typer.Option("--always", help="Also write a rule that allows such calls from now on.")] = False,
) -> None:  # fmt: skip
    """Allow what Claude wants to do, or answer its question."""
    from hivectl.cli import deciding

    hive: Session = ctx.obj

    async def work(client: Client) -> list[Mapping[str, Any]]:
        done = []
        for name in ids:
            found = await client.call("approval.get", id=name)
            decision = await deciding.allow(
                hive, found, given=given, edit=edit, answers=answer or []
            )
            done.append(await deciding.decide(client, found, {**decision, "remember": always}))
        return done

    deciding.print_decided(hive, hive.run(work))


def deny(
    ctx: typer.Context,
    ids: Ids,
    message: Annotated[str, typer.Option("-m", "--message", metavar="TEXT", help="Tell Claude why.")] = "",
    interrupt: Annotated[bool, typer.Option("--interrupt", help="Also end Claude's turn.")] = False,
    always: Annotated[bool, typer.Option("--always", help="Also write a rule that denies such calls from now on.")] = False,
) -> None:  # fmt: skip
    """Refuse what Claude wants to do."""
    from hivectl.cli import deciding

    hive: Session = ctx.obj
    decision = {
        "decision": "deny",
        "message": message,
        "interrupt": interrupt,
        "remember": always,
    }

    async def work(client: Client) -> list[Mapping[str, Any]]:
        done = []
        for name in ids:
            found = await client.call("approval.get", id=name)
            done.append(await deciding.decide(client, found, decision))
        return done

    deciding.print_decided(hive, hive.run(work), has_interrupted=interrupt)
