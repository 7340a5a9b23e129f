"""exec, kill, wait and attach: what starts, ends and watches executions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hivectl.cli import completing
from hivectl.cli.grammar import HOT
from hivectl.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hivectl.client.aio import Client

ProjectOption = Annotated[
    str | None,
    HOT["exec"]["project"].for_typer(autocompletion=completing.projects),
]  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("exec")(exec_)
    app.command("kill")(kill)
    app.command("wait")(wait)
    app.command("attach")(attach)


def exec_(  # noqa: PLR0917  Typer passes them by name
    ctx: typer.Context,
    words: Annotated[list[str] | None, typer.Argument(metavar="[PROJECT] [PROMPT|-]", help="One word is the prompt; of two the first is the project; - reads stdin.", autocompletion=completing.projects)] = None,
    project: ProjectOption = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="Read the prompt from a file.")] = None,
    edit: Annotated[bool, typer.Option("-e", "--edit", help="Write the prompt in an editor.")] = False,
    detach: Annotated[bool, HOT["exec"]["detach"].for_typer()] = False,
    new: Annotated[bool, typer.Option("--new", help="Start a fresh conversation.")] = False,
    session: Annotated[str | None, typer.Option("--session", metavar="ID", help="Continue this conversation.")] = None,
    fork: Annotated[bool, typer.Option("--fork", help="Continue in a copy, leaving the conversation as it is.")] = False,
    if_busy: Annotated[str, typer.Option("--if-busy", metavar="queue|fail", help="When the project is executing.")] = "queue",
    priority: Annotated[str | None, typer.Option("--priority", metavar="high|normal|low", help="Place in the queue.")] = None,
    after: Annotated[list[str] | None, typer.Option("--after", metavar="ORDER", help="Only when this work order (or execution) is completed; repeatable.", autocompletion=completing.executions)] = None,
    not_before: Annotated[str | None, typer.Option("--not-before", metavar="TIME", help="Not before this time, such as 22:30 or 2h from now.")] = None,
    retries: Annotated[int | None, typer.Option("--retries", metavar="N", help="Try again so often after a failure worth it.")] = None,
    pool: Annotated[str | None, typer.Option("--pool", metavar="NAME", help="Let a worker of this pool carry it, such as a program of your own; default: claude, the daemon's own.")] = None,
    on_usage_limit: Annotated[str | None, typer.Option("--on-usage-limit", metavar="park|resume|fail", help="When a usage limit stops it: kept for you, taken up again by itself, or failed.")] = None,
    worktree: Annotated[bool, typer.Option("--worktree", help="Run in a git worktree and branch of its own, beside what else the project executes.")] = False,
    model: Annotated[str | None, typer.Option("-m", "--model", help="Claude's model.")] = None,
    fallback_model: Annotated[str | None, typer.Option("--fallback-model", help="Model to use when that is overloaded.")] = None,
    permission_mode: Annotated[str | None, typer.Option("--permission-mode", metavar="MODE", help="default, acceptEdits, plan, dontAsk or auto.")] = None,
    allowed_tools: Annotated[list[str] | None, typer.Option("--allowed-tools", metavar="RULE", help="Tool that needs no approval; repeatable.")] = None,
    disallowed_tools: Annotated[list[str] | None, typer.Option("--disallowed-tools", metavar="RULE", help="Tool that is not available; repeatable.")] = None,
    append_system_prompt: Annotated[str | None, typer.Option("--append-system-prompt", metavar="TEXT", help="Added to Claude's system prompt.")] = None,
    system_prompt: Annotated[str | None, typer.Option("--system-prompt", metavar="TEXT", help="Replaces Claude's system prompt.")] = None,
    max_turns: Annotated[int | None, typer.Option("--max-turns", metavar="N", help="Most turns.")] = None,
    budget: Annotated[float | None, typer.Option("--budget", metavar="USD", help="Most US dollars; it is stopped there (exit 9).")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", metavar="N", help="Most tokens of all kinds, the cache's included; it is stopped there (exit 9).")] = None,
    effort: Annotated[str | None, typer.Option("--effort", metavar="LEVEL", help="low, medium, high, xhigh or max.")] = None,
    timeout: Annotated[str | None, typer.Option("--timeout", metavar="DURATION", help="End it after this time, such as 90s or 1h30m.")] = None,
    no_output_timeout: Annotated[str | None, typer.Option("--no-output-timeout", metavar="DURATION", help="End it when it prints nothing for so long.")] = None,
    json_schema: Annotated[str | None, typer.Option("--json-schema", metavar="FILE|JSON", help="Shape the answer must have.")] = None,
    add_dir: Annotated[list[Path] | None, typer.Option("--add-dir", metavar="DIR", help="Further directory Claude may work in; repeatable.")] = None,
    partials: Annotated[bool, typer.Option("--partials", help="Show the answer while it is being written.")] = False,
    idempotency_key: Annotated[str | None, HOT["exec"]["idempotency_key"].for_typer()] = None,
    no_wait_approval: Annotated[bool, typer.Option("--no-wait-approval", help="Without a terminal: exit 8 when a person must answer; the run goes on.")] = False,
) -> None:  # fmt: skip
    """Execute a prompt and watch it, or --detach.

    One word is the prompt for the current directory's project; of two words the first is the project.
    Ctrl-C detaches, twice within two seconds cancels. Without a terminal SIGINT and SIGTERM cancel, and
    only the final text is printed.
    """
    from hivectl.cli import choosing, executing

    hive: Session = ctx.obj
    named, word = choosing.split_words(
        words or [], project, has_source=file is not None or (edit and len(words or []) < 2)
    )
    options = {
        "model": model,
        "fallback_model": fallback_model,
        "permission_mode": permission_mode,
        "allowed_tools": allowed_tools or None,
        "disallowed_tools": disallowed_tools or None,
        "append_system_prompt": append_system_prompt,
        "system_prompt": system_prompt,
        "max_turns": max_turns,
        "max_budget_usd": budget,
        "max_total_tokens": max_tokens,
        "effort": effort,
        "timeout_s": choosing.duration(timeout, "--timeout"),
        "no_output_timeout_s": choosing.duration(no_output_timeout, "--no-output-timeout"),
        "json_schema": _schema(json_schema),
        "add_dirs": [str(path.expanduser().resolve()) for path in add_dir or []] or None,
        "partials": partials or None,
    }
    request: dict[str, Any] = {
        "session": executing.session_of(new=new, session=session),
        "fork": fork,
        "options": {name: value for name, value in options.items() if value is not None},
        "if_busy": if_busy,
        "priority": priority,
        "after": after or None,
        "not_before": choosing.later(not_before),
        "retries": retries,
        "pool": pool,
        "on_usage_limit": on_usage_limit,
        "worktree": worktree or None,
        "idempotency_key": idempotency_key,
    }

    async def work(client: Client) -> int:
        text = await choosing.prompt(hive, word, file, edit=edit)
        found = await choosing.project(hive, client, named)
        request.update(project=found, prompt=text)
        return await executing.execute(
            hive,
            client,
            {name: value for name, value in request.items() if value is not None},
            detach=detach,
            partials=partials,
            waits_for_people=not no_wait_approval,
        )

    raise typer.Exit(hive.run(work))


def kill(
    ctx: typer.Context,
    targets: Annotated[list[str], typer.Argument(metavar="EXECUTION|PROJECT...", help="What to stop.", autocompletion=completing.killable)],
    force: Annotated[bool, HOT["kill"]["force"].for_typer()] = False,
    interrupt: Annotated[bool, typer.Option("--interrupt", help="Only ask Claude to stop its turn.")] = False,
    reason: Annotated[str, HOT["kill"]["reason"].for_typer()] = "",
) -> None:  # fmt: skip
    """Stop executions and say what died.

    Returns when every process of theirs is gone; what did not stop is named, with exit code 6.
    """
    from hivectl.cli import stopping, views
    from hivectl.model.errors import ExitCode, HiveError

    hive: Session = ctx.obj
    if force and interrupt:
        raise HiveError("INVALID_PARAMS", "--force and --interrupt exclude each other.")
    mode = "kill" if force else "interrupt" if interrupt else "terminate"

    async def work(client: Client) -> dict[str, Any]:
        executions, survivors = [], 0
        for target in targets:
            done = await stopping.stop(hive, client, target, mode=mode, reason=reason)
            executions += done["executions"]
            survivors += done["survivors"]
        return {"executions": executions, "survivors": survivors}

    done = hive.run(work)
    if hive.options.output == "name":
        hive.screen.result("\n".join(item["execution"] for item in done["executions"]))
    elif hive.options.output in {"json", "yaml"}:
        hive.print_document(done)
    else:
        hive.screen.result(views.killed(done, mode))
    if done["survivors"]:
        raise typer.Exit(ExitCode.FAILED)
    raise typer.Exit(ExitCode.CONFLICT if views.unstopped(done) else ExitCode.OK)


def wait(
    ctx: typer.Context,
    executions: Annotated[list[str], typer.Argument(metavar="EXECUTION|PROJECT...", help="Ids of executions (x_…) or work orders (o_…, whose retries are followed), or projects: what they execute, else executed last.", autocompletion=completing.executions)],
    timeout: Annotated[str | None, typer.Option("--timeout", metavar="DURATION", help="Give up waiting after this time (exit 7); the executions go on.")] = None,
    no_wait_approval: Annotated[bool, typer.Option("--no-wait-approval", help="Also return when a person must answer (exit 8).")] = False,
) -> None:  # fmt: skip
    """Wait for executions to end.

    Exits with their outcome, of several with the worst.
    """
    from hivectl.cli import choosing, executing

    hive: Session = ctx.obj
    limit_s = choosing.duration(timeout, "--timeout")

    async def work(client: Client) -> int:
        names = [await choosing.execution_id(hive, client, word) for word in executions]
        return await executing.wait(
            hive, client, names, limit_s=limit_s, or_waiting=no_wait_approval
        )

    raise typer.Exit(hive.run(work))


def attach(
    ctx: typer.Context,
    target: Annotated[str | None, typer.Argument(metavar="[EXECUTION|PROJECT]", help="Default: the current directory's project.", autocompletion=completing.killable)] = None,
    lines: Annotated[int | None, typer.Option("-n", "--tail", metavar="N", min=0, help="Begin with the last N lines only.")] = None,
    partials: Annotated[bool, typer.Option("--partials", help="Show the answer while it is being written.")] = False,
    no_wait_approval: Annotated[bool, typer.Option("--no-wait-approval", help="Without a terminal: exit 8 when a person must answer.")] = False,
) -> None:  # fmt: skip
    """Come back to an execution.

    Shows it from its beginning and goes on live, up to its end, through retries. Ctrl-C detaches, twice within two seconds
    cancels. Without a terminal only the final text is printed.
    """
    from hivectl.cli import choosing, executing

    hive: Session = ctx.obj

    async def work(client: Client) -> int:
        found = await choosing.execution(hive, client, target)
        return await executing.attach(
            hive,
            client,
            found,
            partials=partials,
            waits_for_people=not no_wait_approval,
            last=lines,
        )

    raise typer.Exit(hive.run(work))


def _schema(given: str | None) -> Mapping[str, Any] | None:
    if given is None:
        return None
    import json

    from hivectl.cli import choosing
    from hivectl.model.errors import HiveError

    text = given
    if not given.lstrip().startswith("{"):
        text = choosing.read_text(Path(given))
    try:
        schema = json.loads(text)
    except ValueError as exc:
        raise HiveError("INVALID_PARAMS", f"--json-schema is not JSON: {exc}.") from exc
    if not isinstance(schema, dict):
        raise HiveError("INVALID_PARAMS", "--json-schema must be a JSON object.")
    return schema
