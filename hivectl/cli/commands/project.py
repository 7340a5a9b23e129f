"""project …: registered directories, their defaults and their trust."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hivectl.cli import completing
from hivectl.cli.commands import running
from hivectl.cli.session import Session
from hivectl.model.errors import HiveError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hivectl.client.aio import Client

app = typer.Typer(
    help="Registered directories, their defaults and their trust.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Named = Annotated[
    str, typer.Argument(metavar="PROJECT", help="Name or id.", autocompletion=completing.projects)
]
Here = Annotated[
    str | None,
    typer.Argument(metavar="[PROJECT]", help="Default: the current directory's.", autocompletion=completing.projects),
]  # fmt: skip
DefaultOptions = Annotated[
    list[str] | None,
    typer.Option("--default", metavar="NAME=VALUE", help="A default of its prompts, such as model=opus or timeout_s=900; empty removes it; repeatable."),
]  # fmt: skip
EnvOptions = Annotated[
    list[str] | None,
    typer.Option("--env", metavar="NAME=VALUE", help="A variable added to Claude's environment; empty removes it; repeatable."),
]  # fmt: skip


@app.command("create")
def create(
    ctx: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="[PATH]", help="The directory.")] = Path(),
    name: Annotated[str | None, typer.Option("--name", help="Default: the directory's name.")] = None,
    mkdir: Annotated[bool, typer.Option("--mkdir", help="Make the directory.")] = False,
    repo: Annotated[str | None, typer.Option("--repo", metavar="URL", help="Clone this repository into it.")] = None,
    branch: Annotated[str | None, typer.Option("--branch", help="Branch to clone.")] = None,
    trust: Annotated[bool | None, typer.Option("--trust/--no-trust", help="Let its own settings, hooks and servers take effect, without asking.")] = None,
    default: DefaultOptions = None,
    env: EnvOptions = None,
) -> None:  # fmt: skip
    """Register a directory. On a terminal you see what it brings and are asked for trust."""
    from hivectl.cli import choosing, projects

    hive: Session = ctx.obj
    params: dict[str, Any] = {
        "path": choosing.absolute(path),
        "name": name,
        "mkdir": mkdir,
        "repo": repo,
        "branch": branch,
        "trust": bool(trust),
        "defaults": projects.parse_defaults(default or []),
        "env": projects.parse_env(env or []),
    }
    given = {key: value for key, value in params.items() if value not in (None, {})}

    async def work(client: Client) -> Mapping[str, Any]:
        found: Mapping[str, Any] = await client.call("project.create", **given)
        return await projects.offer_trust(hive, client, found, is_decided=trust is not None)

    found = hive.run(work)
    hive.print_item("project", found, projects.sentence("registered", found))


@app.command("list")
def list_(
    ctx: typer.Context,
    state: Annotated[str | None, typer.Option("--state", metavar="STATE", help="Only idle, executing, waiting or error.")] = None,
) -> None:  # fmt: skip
    """The projects."""
    from hivectl.cli.session import all_pages

    hive: Session = ctx.obj

    async def work(client: Client) -> Any:
        return await all_pages(client, "project.list", **({"state": state} if state else {}))

    empty = "there is no project yet; register one with: hivectl project create PATH"
    hive.print_items("project", hive.run(work), empty=empty)


@app.command("show")
def show(ctx: typer.Context, project: Here = None) -> None:
    """One project."""
    from hivectl.cli import choosing, details

    hive: Session = ctx.obj

    async def work(client: Client) -> Any:
        name = await choosing.project(hive, client, project)
        return await client.call("project.get", project=name)

    found = hive.run(work)
    hive.print_item("project", found, lambda: details.project(found))


@app.command("inspect")
def inspect(
    ctx: typer.Context,
    target: Annotated[str | None, typer.Argument(metavar="[PROJECT|PATH]", help="A project, or a directory that is none yet.", autocompletion=completing.projects)] = None,
) -> None:  # fmt: skip
    """What a directory brings that would run or steer Claude: hooks, MCP servers, environment, CLAUDE.md."""
    from hivectl.cli import choosing, details

    hive: Session = ctx.obj

    is_path = target is not None and ("/" in target or target in {".", "..", "~"})
    path = choosing.absolute(Path(target or ""))

    async def work(client: Client) -> Any:
        if is_path:
            return await client.call("project.inspect", path=path)
        name = await choosing.project(hive, client, target)
        return await client.call("project.inspect", project=name)

    report = hive.run(work)
    if hive.options.output in {"json", "yaml"}:
        hive.print_document(report)
    else:
        hive.screen.result(details.trust(report))


@app.command("update")
def update(
    ctx: typer.Context,
    project: Named,
    name: Annotated[str | None, typer.Option("--name", help="New name.")] = None,
    path: Annotated[Path | None, typer.Option("--path", help="Where it lies now, after a move.")] = None,
    default: DefaultOptions = None,
    env: EnvOptions = None,
) -> None:  # fmt: skip
    """Change a project's name, path, defaults or environment."""
    from hivectl.cli import choosing, projects

    hive: Session = ctx.obj
    params: dict[str, Any] = {}
    if name is not None:
        params["name"] = name
    if path:
        params["path"] = choosing.absolute(path)
    if default:
        params["defaults"] = projects.parse_defaults(default)
    if env:
        params["env"] = {key: value or None for key, value in projects.parse_env(env).items()}

    if not params:
        raise HiveError(
            "INVALID_PARAMS",
            "There is nothing to change.",
            hint="Give --name, --path, --default or --env.",
        )

    async def work(client: Client) -> tuple[str, Mapping[str, Any]]:
        before = await client.call("project.get", project=project) if path else {}
        return before.get("trust", ""), await client.call(
            "project.update", project=project, **params
        )

    trusted, found = hive.run(work)
    hive.print_item("project", found, projects.sentence("updated", found))
    projects.tell_lost_trust(hive, trusted, found)


@app.command("trust")
def trust(
    ctx: typer.Context,
    project: Named,
    yes: Annotated[bool, typer.Option("-y", "--yes", help="Do not ask.")] = False,
) -> None:
    """Let the project's own settings, hooks and servers take effect, after showing them."""
    from hivectl.cli import projects

    hive: Session = ctx.obj

    async def work(client: Client) -> Mapping[str, Any]:
        return await projects.trust(hive, client, project, is_sure=yes)

    found = hive.run(work)
    hive.print_item("project", found, projects.sentence("trusted", found))


@app.command("untrust")
def untrust(ctx: typer.Context, project: Named) -> None:
    """Take trust back: the project's own settings no longer take effect."""
    from hivectl.cli import projects

    hive: Session = ctx.obj

    async def work(client: Client) -> Any:
        return await client.call("project.untrust", project=project)

    found = hive.run(work)
    hive.print_item("project", found, projects.sentence("no longer trusted", found))


@app.command("delete")
def delete(
    ctx: typer.Context,
    project: Named,
    force: Annotated[bool, typer.Option("--force", help="Stop what it executes first.")] = False,
    purge: Annotated[bool, typer.Option("--purge", help="Remove its log too.")] = False,
) -> None:
    """Forget a project. Its directory is never touched."""
    from hivectl.cli.sanitize import one_line

    hive: Session = ctx.obj

    async def work(client: Client) -> Any:
        return await client.call("project.delete", project=project, force=force, purge=purge)

    done = hive.run(work)
    if hive.options.output in {"json", "yaml"}:
        hive.print_document(done)
    else:
        hive.screen.result(one_line(f"deleted {project}; its directory is untouched"))
        for path in done.get("kept") or []:
            hive.screen.note(("warn", "kept: "), ("", f"{path} holds work that was not accepted"))


app.command("exec")(running.exec_)
app.command("kill")(running.kill)
