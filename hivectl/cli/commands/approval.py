"""inbox, approve and deny: what waits for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hivectl.cli import completing
from hivectl.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hivectl.cli.bulk import Choice
    from hivectl.client.aio import Client

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="[APPROVAL]...", help="Ids, as `hivectl inbox` shows them.", autocompletion=completing.approvals),
]  # fmt: skip
All = Annotated[
    bool, typer.Option("--all", help="All that wait; they are shown and asked about once.")
]
InProject = Annotated[
    str | None,
    typer.Option("-p", "--project", metavar="PROJECT", help="With --all: only this project's.", autocompletion=completing.projects),
]  # fmt: skip
OfTool = Annotated[str | None, typer.Option("--tool", metavar="TOOL", help="With --all: only of this tool; * and ? are wild cards.")]  # fmt: skip
Yes = Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")]


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
    from hivectl.cli.session import all_items, all_pages

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
        from hivectl.cli import questions

        page = await all_pages(client, "approval.list", **params)
        asked = await all_items(client, "question.list", claude=False, **params)
        rows = [questions.as_row(question) for question in asked]
        page["items"] = sorted([*page["items"], *rows], key=lambda item: item["created_at"])
        return page

    noun, empty = "approval", "nothing waits for you"
    if everything:
        noun, empty = "any approval", "Claude asked for nothing yet"
    hive.print_items(noun, hive.run(work), empty=empty)


def approve(  # noqa: PLR0917  the options of a command
    ctx: typer.Context,
    ids: Ids = None,
    given: Annotated[str | None, typer.Option("--input", metavar="JSON", help="Allow this instead of what Claude wanted.")] = None,
    edit: Annotated[bool, typer.Option("-e", "--edit", help="Change it in an editor first.")] = False,
    answer: Annotated[list[str] | None, typer.Option("--answer", metavar="[QUESTION=]TEXT", help="Answer Claude's question: a choice or your own words; repeatable.")] = None,
    always: Annotated[bool, typer.Option("--always", help="Also write a rule that allows such calls from now on; it is shown first.")] = False,
    everything: All = False,
    project: InProject = None,
    tool: OfTool = None,
    risk: Annotated[str | None, typer.Option("--risk", metavar="low|medium|high", help="With --all: the most risk that is let through; default: medium.")] = None,
    yes: Yes = False,
) -> None:  # fmt: skip
    """Allow what Claude wants to do, or answer its question; with --all, everything of a kind."""
    from hivectl.cli import bulk, deciding
    from hivectl.model.errors import HiveError

    hive: Session = ctx.obj
    names, choice = ids or [], bulk.Choice(project=project, tool=tool, risk=risk)
    bulk.check(names, choice, everything=everything)
    if (everything or len(names) > 1) and (given or edit or answer or always):
        raise HiveError(
            "INVALID_PARAMS", "--input, --edit, --answer and --always are for one approval."
        )

    async def one(client: Client) -> list[Mapping[str, Any]]:
        found = await client.call("approval.get", id=names[0])
        decision = await deciding.allow(hive, found, given=given, edit=edit, answers=answer or [])
        if always and found["state"] == "pending":
            instead = decision.get("input")
            if not await bulk.may_remember(hive, client, found, instead, action="allow", yes=yes):
                hive.screen.note(("dim", "nothing was decided"))
                return []
            decision["remember"] = True
        return [await deciding.decide(client, found, decision)]

    if len(names) == 1:
        if done := hive.run(one):
            deciding.print_decided(hive, done)
        return
    _decide_many(hive, names, choice, {"decision": "allow"}, yes=yes)


def deny(
    ctx: typer.Context,
    ids: Ids = None,
    message: Annotated[str, typer.Option("-m", "--message", metavar="TEXT", help="Tell Claude why.")] = "",
    interrupt: Annotated[bool, typer.Option("--interrupt", help="Also end Claude's turn.")] = False,
    always: Annotated[bool, typer.Option("--always", help="Also write a rule that denies such calls from now on.")] = False,
    everything: All = False,
    project: InProject = None,
    tool: OfTool = None,
    yes: Yes = False,
) -> None:  # fmt: skip
    """Refuse what Claude wants to do; with --all, everything of a kind."""
    from hivectl.cli import bulk, deciding
    from hivectl.model.errors import HiveError

    hive: Session = ctx.obj
    names, choice = ids or [], bulk.Choice(project=project, tool=tool)
    bulk.check(names, choice, everything=everything)
    if always and (everything or len(names) > 1):
        raise HiveError("INVALID_PARAMS", "--always is for one approval.")
    decision = {
        "decision": "deny",
        "message": message,
        "interrupt": interrupt,
        "remember": always,
    }

    async def one(client: Client) -> list[Mapping[str, Any]]:
        found = await client.call("approval.get", id=names[0])
        asks = always and found["state"] == "pending"
        if asks and not await bulk.may_remember(hive, client, found, None, action="deny", yes=yes):
            hive.screen.note(("dim", "nothing was decided"))
            return []
        return [await deciding.decide(client, found, decision)]

    if len(names) == 1:
        if done := hive.run(one):
            deciding.print_decided(hive, done, has_interrupted=interrupt)
        return
    _decide_many(hive, names, choice, decision, yes=yes)


def _decide_many(
    hive: Session, names: list[str], choice: Choice, decision: Mapping[str, Any], *, yes: bool
) -> None:
    """Those that were named are meant; what --all means is shown and asked."""
    from hivectl.cli import bulk

    is_allowing = decision["decision"] == "allow"

    async def work(client: Client) -> list[Mapping[str, Any]]:
        if names:
            items = [await client.call("approval.get", id=name) for name in names]
            return await bulk.each(client, items, decision)
        items, left_out = await bulk.chosen(client, choice, is_allowing=is_allowing)
        verb = "allow" if is_allowing else "deny"
        if not await bulk.agreed(hive, items, left_out, verb=verb, yes=yes):
            return []
        return await bulk.each(client, items, decision)

    done = hive.run(work)
    if done or hive.options.output in {"json", "yaml"}:
        bulk.report(hive, done, has_interrupted=bool(decision.get("interrupt")))
