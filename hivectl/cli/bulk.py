"""Decide many approvals at once: what is meant is shown, asked once, and decided one by one.

One by one, because each has its own version, its own place in the audit and its own answer: one that somebody
else was quicker with does not keep the others from being decided.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from hivectl.cli import asking, deciding, verdicts, views
from hivectl.cli.session import Session, all_items, now_s
from hivectl.model.errors import HiveError

if TYPE_CHECKING:
    from hivectl.client.aio import Client

Item = Mapping[str, Any]
RISKS = ("low", "medium", "high")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """Which of those that wait are meant by --all. `risk`: the most that is let through."""

    project: str | None = None
    tool: str | None = None
    risk: str | None = None


def check(ids: Sequence[str], choice: Choice, *, everything: bool) -> None:
    """Raises HiveError INVALID_PARAMS for options that do not go together."""
    if everything is bool(ids):
        raise HiveError(
            "INVALID_PARAMS",
            "Name approvals, or say --all.",
            hint="`hivectl inbox --once` shows their ids.",
        )
    if not everything and (choice.project or choice.tool or choice.risk):
        raise HiveError("INVALID_PARAMS", "--project, --tool and --risk choose among --all.")
    if choice.risk not in {None, *RISKS}:
        raise HiveError("INVALID_PARAMS", f"--risk is one of {', '.join(RISKS)}.")


async def chosen(
    client: Client, choice: Choice, *, is_allowing: bool
) -> tuple[list[Item], list[str]]:
    """What --all means, and why each of the others is left out.

    Where it allows, a question (it needs words), a plan (it wants to be read) and what is of high risk are
    left out, unless high risk is asked for; to deny, all of a choice are meant."""
    params = {"project": choice.project} if choice.project else {}
    most = RISKS.index(choice.risk or ("medium" if is_allowing else "high"))
    meant: list[Item] = []
    left_out: list[str] = []
    for item in await all_items(client, "approval.list", **params):
        if choice.tool is not None and not fnmatchcase(str(item["tool"]), choice.tool):
            continue
        if is_allowing and item["kind"] == "question":
            left_out.append(f"{item['id']}: {'a plan' if asking.is_plan(item) else 'a question'}")
        elif RISKS.index(item["risk"]) > most:
            left_out.append(f"{item['id']}: risk {item['risk']} ({item['risk_reason']})")
        else:
            meant.append(item)
    return meant, left_out


async def agreed(
    hive: Session, items: Sequence[Item], left_out: Sequence[str], *, verb: str, yes: bool
) -> bool:
    """Show what is meant and ask once. Raises HiveError INVALID_PARAMS where nobody can be asked."""
    screen = hive.screen
    for line in left_out:
        screen.note(("dim", f"left out: {line}"))
    if not items:
        screen.note(("dim", "nothing to decide"))
        return False
    if yes:
        return True
    if not screen.is_interactive:
        raise HiveError(
            "INVALID_PARAMS",
            f"{len(items)} approvals are meant, and nobody can be asked.",
            hint="Say --yes.",
        )
    for row in views.table(
        "approval", items, is_wide=False, now_s=now_s(), width=screen.width
    ).splitlines():
        screen.note(("", row))
    screen.prompt(f"{verb} these {len(items)}? [y/N] ")
    return (await asking.read_line() or "").strip().lower() in {"y", "yes"}


async def each(client: Client, items: Sequence[Item], decision: Mapping[str, Any]) -> list[Item]:
    """Decide each in the version that was shown; a refusal stands in its place as `error`."""
    done: list[Item] = []
    for item in items:
        try:
            done.append(await deciding.decide(client, item, decision))
        except HiveError as exc:
            done.append({**item, "error": {"code": exc.code, "message": exc.message}})
    return done


def report(hive: Session, done: Sequence[Item], *, has_interrupted: bool = False) -> None:
    """What became of each. Raises the first refusal, when all are told."""
    refused = [item for item in done if "error" in item]
    if hive.options.output in {"json", "yaml"}:
        hive.print_document({"items": list(done)})
    else:
        decided = [item for item in done if "error" not in item]
        if decided:
            deciding.print_decided(hive, decided, has_interrupted=has_interrupted)
        for item in refused:
            hive.screen.note(("warn", f"{item['id']}: {item['error']['message']}"))
    if refused:
        raise HiveError(
            refused[0]["error"]["code"],
            f"{len(refused)} of {len(done)} were not decided.",
            hint="`hivectl inbox --once` shows what still waits.",
        )


async def may_remember(
    hive: Session, client: Client, item: Item, given: Item | None, *, action: str, yes: bool
) -> bool:
    """Show the rule that would be written, and ask. Raises HiveError INVALID_PARAMS where none can be."""
    params = {} if given is None else {"input": given}
    verdict = await client.call("policy.test", approval=item["id"], **params)
    if verdict["remember"] is None:
        raise HiveError(
            "INVALID_PARAMS", f"No rule can be made of this: {verdict['remember_problem']}"
        )
    for line in verdicts.rule_text(
        verdict["remember"], action=action, project=str(item.get("project_name") or "this project")
    ):
        hive.screen.note(("bold", f"  {line}"))
    if yes or not hive.screen.is_interactive:
        return True
    hive.screen.prompt("write this rule? [y/N] ")
    return (await asking.read_line() or "").strip().lower() in {"y", "yes"}


async def wants_rule(hive: Session, client: Client, item: Item) -> bool:
    """The same while a request is asked about: where no rule can be made, that is said."""
    try:
        return await may_remember(hive, client, item, None, action="allow", yes=False)
    except HiveError as exc:
        hive.screen.note(("warn", f"  {exc.message}"))
        return False
