"""session list, show, new, fork and end: Claude's conversations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hivectl.cli import completing
from hivectl.cli.session import Session

if TYPE_CHECKING:
    from hivectl.client.aio import Client

app = typer.Typer(help="Claude's conversations.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_(
    ctx: typer.Context,
    project: Annotated[str | None, typer.Argument(metavar="[PROJECT]", help="Only this project's.", autocompletion=completing.projects)] = None,
) -> None:  # fmt: skip
    """Conversations, newest first."""
    from hivectl.cli.session import all_pages

    hive: Session = ctx.obj
    params = {"project": project} if project else {}

    async def work(client: Client) -> Any:
        return await all_pages(client, "session.list", **params)

    hive.print_items("session", hive.run(work), empty="there is no conversation yet")


@app.command("show")
def show(
    ctx: typer.Context,
    session: Annotated[str, typer.Argument(metavar="SESSION", help="Claude's session id.", autocompletion=completing.sessions)],
) -> None:  # fmt: skip
    """One conversation."""
    from hivectl.cli import details

    hive: Session = ctx.obj

    async def work(client: Client) -> Any:
        return await client.call("session.get", session=session)

    found = hive.run(work)
    hive.print_item("session", found, lambda: details.session(found))


@app.command("new")
def new(
    ctx: typer.Context,
    project: Annotated[str | None, typer.Argument(metavar="[PROJECT]", help="Default: the current directory's.", autocompletion=completing.projects)] = None,
) -> None:  # fmt: skip
    """Let the project's next prompt start a fresh conversation."""
    from hivectl.cli import choosing

    hive: Session = ctx.obj

    async def work(client: Client) -> Any:
        name = await choosing.project(hive, client, project)
        return await client.call("session.new", project=name)

    found = hive.run(work)
    hive.print_item(
        "project", found, f"the next prompt in {found['name']} starts a fresh conversation"
    )


@app.command("fork")
def fork(
    ctx: typer.Context,
    which: Annotated[str | None, typer.Argument(metavar="[SESSION|PROJECT]", help="A conversation, or the project whose current one is meant; default: the current directory's.", autocompletion=completing.sessions)] = None,
    idempotency_key: Annotated[str | None, typer.Option("--idempotency-key", metavar="KEY", help="The same key again gives the first copy, not a second.")] = None,
) -> None:  # fmt: skip
    """Let the project's next prompt go on in a copy of a conversation, leaving that one as it is."""
    from hivectl.cli import choosing
    from hivectl.cli.sanitize import sanitize
    from hivectl.kit.ids import make_token

    hive: Session = ctx.obj
    key = idempotency_key or make_token("cli_")

    async def work(client: Client) -> Any:
        session = await choosing.conversation(hive, client, which)
        return await client.call("session.fork", session=session, idempotency_key=key)

    found = hive.run(work)
    text = f"the next prompt in {found['project_name']} goes on in a copy of {found['forked_from']}"
    hive.print_item("session", found, sanitize(f"{text}: {found['session']}"))


@app.command("end")
def end(
    ctx: typer.Context,
    which: Annotated[str | None, typer.Argument(metavar="[SESSION|PROJECT]", help="A conversation, or the project whose current one is meant; default: the current directory's.", autocompletion=completing.sessions)] = None,
) -> None:  # fmt: skip
    """End a conversation that is idle; a process kept warm for it is closed."""
    from hivectl.cli import choosing, details

    hive: Session = ctx.obj

    async def work(client: Client) -> Any:
        session = await choosing.conversation(hive, client, which)
        return await client.call("session.end", session=session)

    found = hive.run(work)
    hive.print_item("session", found, lambda: details.session(found))
