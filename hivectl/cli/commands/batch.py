"""run: many prompts from a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hivectl.cli.commands.running import ProjectOption
from hivectl.cli.session import Session

if TYPE_CHECKING:
    from hivectl.client.aio import Client


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("run")(run)


def run(  # noqa: PLR0917  Typer passes them by name
    ctx: typer.Context,
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="One prompt a line; - reads stdin. A line `@NAME prompt` is for that project; blank lines and lines with # are left out.")],
    project: ProjectOption = None,
    parallel: Annotated[int, typer.Option("--parallel", metavar="N", min=0, help="At most so many of them at once; 0: as the workers have room.")] = 0,
    detach: Annotated[bool, typer.Option("-d", "--detach", help="Do not wait; print the work orders.")] = False,
    new: Annotated[bool, typer.Option("--new", help="Each in a fresh conversation.")] = False,
    worktree: Annotated[bool, typer.Option("--worktree", help="Each in a git worktree and branch of its own, so that one project runs several at once.")] = False,
    priority: Annotated[str | None, typer.Option("--priority", metavar="high|normal|low", help="Place in the queue.")] = None,
    retries: Annotated[int | None, typer.Option("--retries", metavar="N", help="Try each again so often after a failure worth it.")] = None,
    on_usage_limit: Annotated[str | None, typer.Option("--on-usage-limit", metavar="park|resume|fail", help="When a usage limit stops one.")] = None,
    model: Annotated[str | None, typer.Option("-m", "--model", help="Claude's model.")] = None,
    budget: Annotated[float | None, typer.Option("--budget", metavar="USD", help="Most US dollars of each.")] = None,
    timeout: Annotated[str | None, typer.Option("--timeout", metavar="DURATION", help="End each after this time.")] = None,
    stop_on_failure: Annotated[bool, typer.Option("--stop-on-failure", help="One that fails cancels those behind it in its line (see --parallel).")] = False,
    idempotency_key: Annotated[str | None, typer.Option("--idempotency-key", metavar="KEY", help="The same key and file again queue nothing twice.")] = None,
) -> None:  # fmt: skip
    """Queue many prompts at once and watch them end.

    All are in the queue before the first line of output: closing the terminal loses none. With
    --parallel N they stand in N lines, each line one after the other. Exits with the worst outcome.
    """
    from hivectl.cli import batch, choosing

    hive: Session = ctx.obj
    options = {
        "model": model,
        "max_budget_usd": budget,
        "timeout_s": choosing.duration(timeout, "--timeout"),
    }
    request: dict[str, Any] = {
        "session": "new" if new else None,
        "worktree": worktree or None,
        "priority": priority,
        "retries": retries,
        "on_usage_limit": on_usage_limit,
        "options": {name: value for name, value in options.items() if value is not None} or None,
    }
    prompts = batch.read(file if file == "-" else Path(file))

    async def work(client: Client) -> int:
        default = None
        if any(prompt.project is None for prompt in prompts):
            default = await choosing.project(hive, client, project)
        wanted = batch.Batch(
            prompts=prompts,
            project=default,
            request={name: value for name, value in request.items() if value is not None},
            parallel=parallel,
            stops=stop_on_failure,
            key=idempotency_key,
        )
        return await batch.run(hive, client, wanted, detach=detach)

    raise typer.Exit(hive.run(work))
