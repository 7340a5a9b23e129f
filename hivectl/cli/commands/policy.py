"""policy list, add, remove and test: the rules that answer for you."""

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
    timeout: Annotated[str | None, typer.Option("--timeout", metavar="DURATION", help="Of a rule that asks: how long a person has, such as 30m.")] = None,
    on_timeout: Annotated[str | None, typer.Option("--on-timeout", metavar="wait|deny|allow", help="What happens then; default: deny.")] = None,
) -> None:  # fmt: skip
    """Add a rule."""
    from hivectl.cli import choosing

    hive: Session = ctx.obj
    params: dict[str, Any] = {
        "action": action,
        "tool": tool,
        "match": _fields(match or [], "--match "),
        "first": first,
        "note": note,
    }
    if timeout is not None:
        params["timeout_s"] = choosing.duration(timeout, "--timeout")
    if on_timeout is not None:
        params["on_timeout"] = on_timeout
    if project:
        params["project"] = project

    async def work(client: Client) -> Any:
        return await client.call("policy.add", **params)

    rule = hive.run(work)
    hive.print_item("policy", rule, f"added {rule['id']}: {rule['action']} {rule['tool']}")


def _fields(given: list[str], option: str = "") -> dict[str, str]:
    """FIELD=VALUE words by field. Raises HiveError INVALID_PARAMS."""
    from hivectl.model.errors import HiveError

    fields: dict[str, str] = {}
    for item in given:
        name, mark, value = item.partition("=")
        if not mark or not name or not value:
            raise HiveError(
                "INVALID_PARAMS",
                f"{option}{item!r} is not FIELD={'PATTERN' if option else 'VALUE'}.",
                hint=f"Such as {option}'command=git diff*'.",
            )
        fields[name] = value
    return fields


@app.command("test")
def would(
    ctx: typer.Context,
    tool: Annotated[str | None, typer.Argument(metavar="[TOOL]", help="The tool's name.")] = None,
    fields: Annotated[list[str] | None, typer.Argument(metavar="FIELD=VALUE...", help="The fields of its input, as in command='git push'.")] = None,
    approval: Annotated[str | None, typer.Option("--approval", metavar="APPROVAL", help="What an approval asks for, instead.", autocompletion=completing.approvals)] = None,
    given: Annotated[str | None, typer.Option("--input", metavar="JSON", help="The whole input.")] = None,
    project: Annotated[str | None, typer.Option("-p", "--project", metavar="PROJECT", help="In this project; default: the current directory's.", autocompletion=completing.projects)] = None,
) -> None:  # fmt: skip
    """Which rule would decide this, and why."""
    from hivectl.cli import choosing, deciding
    from hivectl.model.errors import HiveError

    hive: Session = ctx.obj
    if (tool is None) is (approval is None):
        raise HiveError(
            "INVALID_PARAMS",
            "Name a tool, or an approval.",
            hint="hivectl policy test Bash command='git push', or --approval a_...",
        )

    async def work(client: Client) -> Any:
        if approval is not None:
            return await client.call("policy.test", approval=approval)
        params = {
            "tool": tool,
            "input": {**deciding.json_object(given or "{}"), **_fields(fields or [])},
        }
        if where := await choosing.find_project(hive, client, project):
            params["project"] = where
        return await client.call("policy.test", **params)

    from hivectl.cli import verdicts

    verdict = hive.run(work)
    hive.print_item("policy test", verdict, lambda: verdicts.text(verdict))


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
