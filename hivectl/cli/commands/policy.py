"""policy list, add and remove: the rules that answer for you."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hivectl.cli import completing
from hivectl.cli.session import Session

if TYPE_CHECKING:
    from hivectl.client.aio import Client

app = typer.Typer(
    help="Rules that answer Claude's requests for you.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_(ctx: typer.Context) -> None:
    """The rules, in the order they are tried."""
    hive: Session = ctx.obj

    async def work(client: Client) -> Any:
        page = await client.call("policy.list")
        if hive.options.output in {"table", "wide"} and any(r["project"] for r in page["items"]):
            from hivectl.cli.tailing import names_of

            names = await names_of(client)
            page["items"] = [{**r, "project_name": names.get(r["project"])} for r in page["items"]]
        return page

    page = hive.run(work)
    hive.print_items("policy", page, empty="there are no rules")
    if hive.options.output in {"table", "wide"}:
        hive.screen.note(("dim", f"when no rule matches: {page['default']}"))


@app.command("add")
def add(
    ctx: typer.Context,
    action: Annotated[str, typer.Argument(metavar="allow|deny|ask", help="What to do.")],
    tool: Annotated[str, typer.Argument(metavar="TOOL", help="A tool's name, or a pattern such as mcp__github__*.")],
    match: Annotated[list[str] | None, typer.Option("--match", metavar="FIELD=PATTERN", help="A field of the tool's input must match, as in command='git diff*'; repeatable, all must match.")] = None,
    project: Annotated[str | None, typer.Option("-p", "--project", metavar="PROJECT", help="Only in this project.", autocompletion=completing.projects)] = None,
    first: Annotated[bool, typer.Option("--first", help="Try it before all others.")] = False,
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="Why, for people.")] = "",
) -> None:  # fmt: skip
    """Add a rule."""
    from hivectl.model.errors import HiveError

    hive: Session = ctx.obj
    fields: dict[str, str] = {}
    for item in match or []:
        name, mark, pattern = item.partition("=")
        if not mark or not name or not pattern:
            raise HiveError(
                "INVALID_PARAMS", f"--match {item!r} is not FIELD=PATTERN.", hint="Such as --match 'command=git diff*'."
            )  # fmt: skip
        fields[name] = pattern
    params: dict[str, Any] = {
        "action": action,
        "tool": tool,
        "match": fields,
        "first": first,
        "note": note,
    }
    if project:
        params["project"] = project

    async def work(client: Client) -> Any:
        return await client.call("policy.add", **params)

    rule = hive.run(work)
    hive.print_item("policy", rule, f"added {rule['id']}: {rule['action']} {rule['tool']}")


@app.command("remove")
def remove(
    ctx: typer.Context,
    rules: Annotated[list[str], typer.Argument(metavar="RULE...", help="Ids of rules.", autocompletion=completing.policies)],
) -> None:  # fmt: skip
    """Remove rules."""
    hive: Session = ctx.obj

    async def work(client: Client) -> Any:
        return [await client.call("policy.remove", id=rule) for rule in rules]

    done = hive.run(work)
    if hive.options.output in {"json", "yaml"}:
        hive.print_document({"items": done})
    else:
        hive.screen.result("\n".join(f"removed {item['id']}" for item in done))
