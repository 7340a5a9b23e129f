"""What exec, attach and wait do once the command line is understood."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hivectl.cli import follow, views
from hivectl.cli.session import Session
from hivectl.cli.transcript import Line, Shown, Transcript, ended
from hivectl.kit.ids import make_token
from hivectl.model.errors import ExitCode, HiveError
from hivectl.model.work import EXECUTION_ENDS, ExecutionState, exit_code_of

if TYPE_CHECKING:
    from hivectl.client.aio import Client


def session_of(*, new: bool, session: str | None) -> str:
    """The wire's word for --new and --session. Raises HiveError INVALID_PARAMS for both."""
    if new and session:
        raise HiveError("INVALID_PARAMS", "--new and --session exclude each other.")
    return "new" if new else session or "current"


async def execute(
    hive: Session,
    client: Client,
    request: dict[str, Any],
    *,
    detach: bool,
    partials: bool,
    waits_for_people: bool,
) -> int:
    """Send the prompt; watch it to its end, or print its id. Returns the exit code."""
    project = await client.call("project.get", project=request["project"])
    if not hive.is_json:
        await _tell_about_trust(hive, client, project)
    # A key makes the request safe to repeat when the connection breaks before its answer.
    request.setdefault("idempotency_key", make_token("cli_"))
    accepted = await client.call("execute", **request)
    if accepted["replayed"]:
        hive.screen.note(("dim", f"this key was used before: {accepted['execution']}"))
    for text in accepted.get("warnings", []):
        hive.screen.note(("warn", "note: "), ("", text))
    if detach:
        _print_accepted(hive, accepted)
        return int(ExitCode.OK)
    is_busy = project["state"] != "idle" or project["pending"] or (accepted["place"] or 0) > 1
    if accepted["place"] and is_busy and not hive.is_json:
        hive.screen.note(
            ("dim", f"{accepted['execution']} waits, place {accepted['place']} in the queue")
        )
    watch = follow.Watch(
        session=hive,
        client=client,
        execution=accepted["execution"],
        stream=accepted["stream"],
        since={"epoch": accepted["epoch"], "seq": accepted["seq"]},
        is_quiet=_is_quiet(hive),
        has_partials=partials,
        waits_for_people=waits_for_people,
        transcript=Transcript(verbose=hive.options.verbose, has_prompts=False, has_ends=False),
    )
    code = await _finish(hive, client, watch)
    if request.get("worktree") and not hive.is_json:
        hive.screen.note(
            ("dim", f"in a worktree; look with: hivectl execution diff {accepted['execution']}")
        )
    return code


async def attach(
    hive: Session,
    client: Client,
    found: Mapping[str, Any],
    *,
    partials: bool,
    waits_for_people: bool,
    last: int | None = None,
    is_visit: bool = False,
) -> int:
    """Show an execution from its beginning, or its `last` lines, then live to its end. Returns the exit code.

    `is_visit`: Ctrl-C goes back at once to where one came from."""
    execution = found["execution"]
    if not _is_quiet(hive):
        hive.screen.note(("dim", f"{execution} in {found['project_name']}, {views.state(found)}"))
    transcript = Transcript(verbose=hive.options.verbose, has_ends=False)
    watch = follow.Watch(
        session=hive,
        client=client,
        execution=execution,
        stream=found["stream"],
        since="start",
        is_quiet=_is_quiet(hive),
        has_partials=partials,
        waits_for_people=waits_for_people,
        transcript=transcript,
        is_visit=is_visit,
    )
    watch.since = await _replay(watch, found, last)
    if watch.since is None:
        final = await client.call("execution.get", execution=watch.execution)
        return _print_final(hive, final, follow.End.ENDED)
    return await _finish(hive, client, watch)


async def _replay(
    watch: follow.Watch, found: Mapping[str, Any], last: int | None
) -> dict[str, Any] | None:
    """Show the execution's events so far; where to follow from, or None when it is over."""
    after = 0
    past: deque[Shown] = deque(maxlen=last)
    while True:
        page = await watch.client.call(
            "get_messages",
            stream=found["stream"],
            execution=watch.execution,
            after=after,
            limit=1000,
        )
        ended = None
        for event in page["items"]:
            past += [
                shown
                for shown in watch.transcript.feed(event)
                if last is None or isinstance(shown, Line)
            ]
            if event["type"] == "execution.ended":
                ended = event
        if last is None:
            watch.show_past(past)
            past.clear()
        if ended is not None:
            if not watch.goes_on(ended):
                watch.show_past(past)
                return None
        elif page["next"] is None:
            watch.show_past(past)
            return {"epoch": page["epoch"], "seq": page["last_seq"]}
        else:
            after = page["next"]


async def _finish(hive: Session, client: Client, watch: follow.Watch) -> int:
    end = await watch.run()
    if end is follow.End.DETACHED and not hive.is_json:
        return int(ExitCode.INTERRUPTED)
    final = await client.call("execution.get", execution=watch.execution)
    return _print_final(hive, final, end)


def _print_final(hive: Session, final: Mapping[str, Any], end: follow.End) -> int:
    """The end of exec and attach: one object, the bare text, or a footer."""
    code = follow.exit_code(end, final)
    match hive.options.output:
        case "json" | "yaml":
            hive.print_document(final)
        case "name":
            hive.screen.result(final["execution"])
        case _ if not hive.screen.out_is_terminal:
            if final["result"] and end is follow.End.ENDED:
                from hivectl.cli.sanitize import sanitize

                hive.screen.result(sanitize(final["result"]))
            if end is follow.End.ENDED and code is not ExitCode.OK:
                _print_footer(hive, final)
        case _:
            if end is follow.End.ENDED:
                _print_footer(hive, final)
    return int(code)


def _print_footer(hive: Session, final: Mapping[str, Any]) -> None:
    footer = ended(final, verbose=hive.options.verbose, width=hive.screen.width)
    hive.screen.note(*footer.pieces)
    if final["state"] == "completed":
        return
    for text in str(final.get("stderr") or "").strip().splitlines()[-3:]:
        hive.screen.note(("dim", f"  stderr: {text}"), cut=True)
    if final.get("resets_at"):
        hive.screen.note(("", f"  the limit is lifted at {final['resets_at']}"))
    hive.screen.note(("dim", f"  all of it: hivectl logs {final['execution']}"))


def _is_quiet(hive: Session) -> bool:
    return hive.options.output in {"json", "yaml", "name"} or not hive.screen.out_is_terminal


def _print_accepted(hive: Session, accepted: Mapping[str, Any]) -> None:
    if hive.options.output in {"json", "yaml"}:
        hive.print_document(accepted)
    else:
        hive.screen.result(accepted["execution"])


async def _tell_about_trust(hive: Session, client: Client, found: Mapping[str, Any]) -> None:
    """Say what an untrusted project's run leaves out: the first time, and whenever trust fell."""
    is_first = not (found.get("totals") or {}).get("executions")
    if found["trust"] == "trusted" or not (is_first or found["trust"] == "changed"):
        return
    report = await client.call("project.inspect", project=found["id"])
    left_out = brought(report)
    if not left_out:
        return
    why = "changed since it was trusted" if found["trust"] == "changed" else "is not trusted"
    hive.screen.note(
        ("warn", f"{found['name']} {why}; left out: "),
        ("", "; ".join(f"{name}: {', '.join(items)}" for name, items in left_out)),
    )
    hive.screen.note(("dim", f"  look at it and trust it: hivectl project trust {found['name']}"))


def brought(report: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """What a directory brings, by kind, in people's words; kinds with nothing are left out."""
    kinds = (
        ("CLAUDE.md", "claude_md"),
        ("hooks", "hooks"),
        ("MCP servers", "mcp_servers"),
        ("environment", "env"),
        ("permission rules", "permissions"),
        ("other settings", "other"),
    )
    return [(name, list(report[key])) for name, key in kinds if report.get(key)]


async def wait(
    hive: Session,
    client: Client,
    names: list[str],
    *,
    limit_s: float | None,
    or_waiting: bool,
) -> int:
    """Wait for all; print each as it is at the end. Returns the worst exit code."""
    import asyncio

    ends: dict[str, Mapping[str, Any]] = {}

    async def one(name: str) -> None:
        params: dict[str, Any] = {"execution": name, "or_waiting": or_waiting}
        if limit_s is not None:
            params["timeout_s"] = limit_s
        ends[name] = await client.call("execution.wait", **params)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(name)) for name in names]
    except* HiveError as group_error:
        raise _first(group_error) from None
    del tasks
    found = [ends[name] for name in names]
    if hive.options.output in {"json", "yaml"}:
        hive.print_document({"items": found, "next_cursor": None})
    elif hive.options.output == "name":
        hive.screen.result(views.names("execution", found))
    else:
        for item in found:
            hive.screen.result(f"{item['execution']}  {views.state(item)}")
    return max(_code(item) for item in found)


def _first(group: BaseExceptionGroup[HiveError]) -> HiveError:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, HiveError)
    return error


def _code(item: Mapping[str, Any]) -> int:
    state = ExecutionState(item["state"])
    if state not in EXECUTION_ENDS and state is not ExecutionState.WAITING:
        return int(ExitCode.TIMED_OUT)
    return int(exit_code_of(state, item.get("cause")))
