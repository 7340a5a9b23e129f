"""execution diff, accept and discard, and worktree list: what a run changed beside its project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from hivectl.cli import completing
from hivectl.cli.session import Session

if TYPE_CHECKING:
    from hivectl.client.aio import Client

app = typer.Typer(
    help="What an execution changed in its worktree.", no_args_is_help=True, rich_markup_mode=None
)
worktree_app = typer.Typer(
    help="Worktrees of executions.", no_args_is_help=True, rich_markup_mode=None
)

Named = Annotated[
    str,
    typer.Argument(metavar="EXECUTION", help="An id (x_… or o_…), as `hivectl worktree list` shows it.", autocompletion=completing.worktrees),
]  # fmt: skip


def register(parent: typer.Typer) -> None:
    """Add both groups."""
    parent.add_typer(app, name="execution")
    parent.add_typer(worktree_app, name="worktree")


@app.command("diff")
def diff(
    ctx: typer.Context,
    execution: Named,
    stat: Annotated[bool, typer.Option("--stat", help="Only the files and how much changed in each.")] = False,
    max_bytes: Annotated[int | None, typer.Option("--max-bytes", metavar="N", help="Most bytes of the patch; at most worktree.diff_bytes.")] = None,
) -> None:  # fmt: skip
    """What it changed, against the commit its worktree was made from.

    Uncommitted and new files count. To a pipe goes the bare patch, which `git apply` takes; -o name prints
    the paths.
    """
    from hivectl.cli import changes

    hive: Session = ctx.obj
    params: dict[str, Any] = {"execution": execution}
    if stat or max_bytes is not None:
        params["max_bytes"] = 0 if stat else max_bytes

    async def work(client: Client) -> Any:
        return await client.call("execution.diff", **params)

    changes.show(hive, hive.run(work), is_stat=stat)


@app.command("accept")
def accept(
    ctx: typer.Context,
    execution: Named,
    mode: Annotated[str, typer.Option("--mode", metavar="merge|ff|squash", help="merge: fast-forward where possible, else a merge commit; ff: only fast-forward; squash: one commit.")] = "merge",
    message: Annotated[str | None, typer.Option("-m", "--message", metavar="TEXT", help="Of the commits that are made; default: the prompt's first line.")] = None,
) -> None:  # fmt: skip
    """Take its changes over into the branch checked out in the project, and remove the worktree.

    What is uncommitted is committed first. On a conflict, or where local changes would be overwritten,
    nothing is touched.
    """
    from hivectl.cli.sanitize import one_line

    hive: Session = ctx.obj
    params: dict[str, Any] = {"execution": execution, "mode": mode}
    if message is not None:
        params["message"] = message

    async def work(client: Client) -> Any:
        return await client.call("execution.accept", **params)

    done = hive.run(work)
    for text in done["warnings"]:
        hive.screen.note(("warn", "note: "), ("", text))
    text = f"accepted {done['execution']}: {done['branch']} is at {done['commit'][:12]}"
    hive.print_item("execution", done, one_line(text))


@app.command("discard")
def discard(
    ctx: typer.Context,
    executions: Annotated[list[str], typer.Argument(metavar="EXECUTION...", help="Ids, as `hivectl worktree list` shows them.", autocompletion=completing.worktrees)],
    force: Annotated[bool, typer.Option("--force", help="Also where uncommitted changes or commits are lost.")] = False,
) -> None:  # fmt: skip
    """Remove its worktree with its branch.

    Refused where work would be lost, unless forced.
    """
    hive: Session = ctx.obj

    async def work(client: Client) -> Any:
        return [
            await client.call("execution.discard", execution=name, force=force)
            for name in executions
        ]

    done = hive.run(work)
    if hive.options.output in {"json", "yaml"}:
        hive.print_document({"items": done})
    else:
        hive.screen.result("\n".join(f"discarded {item['execution']}" for item in done))


@worktree_app.command("list")
def list_(
    ctx: typer.Context,
    project: Annotated[str | None, typer.Argument(metavar="[PROJECT]", help="Only this project's.", autocompletion=completing.projects)] = None,
    everything: Annotated[bool, typer.Option("-a", "--all", help="Also what was accepted or discarded.")] = False,
) -> None:  # fmt: skip
    """Worktrees that were neither accepted nor discarded, oldest first."""
    from hivectl.cli.session import all_pages

    hive: Session = ctx.obj
    params: dict[str, Any] = {"all": everything}
    if project:
        params["project"] = project

    async def work(client: Client) -> Any:
        return await all_pages(client, "worktree.list", **params)

    empty = "there are no worktrees; `hivectl exec --worktree` makes one"
    hive.print_items("worktree", hive.run(work), empty=empty)
