"""Many prompts from a file: all queued first, then watched until each has ended for good."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hivectl.cli import choosing, views
from hivectl.cli.session import Session
from hivectl.kit.ids import make_token
from hivectl.model.errors import ExitCode, HiveError
from hivectl.model.work import ORDER_ENDS, ExecutionState, exit_code_of

if TYPE_CHECKING:
    from hivectl.client.aio import Client

PROMPTS_MAX = 10_000
"""Most prompts of one file."""
_SLOWER_S = 0.25
"""Pause when the daemon says that requests come too fast, and does not say for how long."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """One line. `project` None: the command's."""

    text: str
    project: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What is to be queued."""

    prompts: list[Prompt]
    project: str | None
    request: dict[str, Any]
    parallel: int
    stops: bool
    key: str | None


def read(source: Path | str) -> list[Prompt]:
    """The prompts of a file, or of stdin. Raises HiveError INVALID_PARAMS, TOO_LARGE."""
    found = parse(choosing.read_text(None if isinstance(source, str) else source))
    if not found:
        raise HiveError(
            "INVALID_PARAMS", "There is no prompt in it.", hint="Write one prompt a line."
        )
    if len(found) > PROMPTS_MAX:
        raise HiveError(
            "TOO_LARGE", f"{len(found)} prompts; one file may have {PROMPTS_MAX}.",
            hint="Split it.", details={"limit": PROMPTS_MAX},
        )  # fmt: skip
    return found


def parse(text: str) -> list[Prompt]:
    """Prompts of lines; `@name` in front names the project. Raises HiveError INVALID_PARAMS."""
    found = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        project = None
        if line.startswith("@"):
            project, _, line = line[1:].partition(" ")
            line = line.strip()
            if not project or not line:
                raise HiveError(
                    "INVALID_PARAMS", f"Line {number}: `@NAME` and a prompt belong together."
                )
        found.append(Prompt(line, project))
    return found


async def run(hive: Session, client: Client, batch: Batch, *, detach: bool) -> int:
    """Queue all, then watch. Returns the exit code: the worst of all outcomes."""
    key = batch.key or make_token("run_")
    async with client.subscribe(["queue"], types=["work_order.state"]) as events:
        await _know_projects(client, batch)
        orders = await _queue(hive, client, batch, key)
        if len(orders) < len(batch.prompts):
            hive.screen.note(
                ("warn", f"{len(batch.prompts) - len(orders)} not queued: what they were to follow has failed already")
            )  # fmt: skip
        if detach:
            hive.screen.result("\n".join(order["work_order"] for order in orders.values()))
            return int(ExitCode.OK)
        if not hive.is_json:
            hive.screen.note(
                ("dim", f"{len(orders)} queued; closing this terminal loses none of them")
            )
        open_ = {order["work_order"]: number for number, order in orders.items()}
        ends: dict[str, Mapping[str, Any]] = {}
        # Those that ended before the first event was heard, and replays of an earlier run.
        for order in list(open_):
            await _look(hive, client, order, open_, ends)
        if open_:
            async for item in events.items():
                await _hear(hive, client, item, open_, ends)
                if not open_:
                    break
    found = [ends[order["work_order"]] for order in orders.values() if order["work_order"] in ends]
    if hive.options.output in {"json", "yaml"}:
        hive.print_document({"items": found, "next_cursor": None})
    else:
        _summary(hive, found)
    codes = [int(exit_code_of(ExecutionState(item["state"]), item["cause"])) for item in found]
    if len(found) < len(orders):
        codes.append(int(ExitCode.NOT_FOUND))  # deleted meanwhile
    return max(codes)


async def _hear(
    hive: Session,
    client: Client,
    item: Any,
    open_: dict[str, int],
    ends: dict[str, Mapping[str, Any]],
) -> None:
    kind = getattr(item, "kind", None)
    if kind == "disconnected":
        await client.revive()
    elif kind in {"reset", "epoch_changed"}:
        for order in list(open_):  # something was missed: ask instead
            await _look(hive, client, order, open_, ends)
    if kind is not None:
        return
    data = item["data"]
    order = data.get("work_order")
    if order not in open_:
        return
    if data["state"] in ORDER_ENDS:
        await _look(hive, client, order, open_, ends)
    elif data.get("retry_at"):
        why = views.first_line(data.get("message") or "")
        hive.screen.note(("dim", f"{order} is tried again at {data['retry_at'][11:19]}: {why}"))


async def _know_projects(client: Client, batch: Batch) -> None:
    """Nothing is queued when one of the projects does not exist. Raises HiveError PROJECT_NOT_FOUND."""
    for name in dict.fromkeys(prompt.project or batch.project for prompt in batch.prompts):
        try:
            await _patiently(client, "project.get", {"project": name})
        except HiveError as exc:
            raise HiveError(
                exc.code, f"{exc.message} Nothing was queued.", hint=exc.hint, details=exc.details
            ) from None


async def _queue(
    hive: Session, client: Client, batch: Batch, key: str
) -> dict[int, dict[str, Any]]:
    """The orders by the number of their prompt, without those whose line has failed already."""
    orders: dict[int, dict[str, Any]] = {}
    said: set[str] = set()
    for number, prompt in enumerate(batch.prompts):
        request = {
            **batch.request,
            "project": prompt.project or batch.project,
            "prompt": prompt.text,
            # Safe to send again when the connection breaks before the answer.
            "idempotency_key": f"{key}.{number}",
        }
        if batch.parallel and number >= batch.parallel:
            if number - batch.parallel not in orders:
                continue  # the line had failed before this one's predecessor was queued
            name = "after" if batch.stops else "after_any"
            request[name] = [orders[number - batch.parallel]["work_order"]]
        try:
            orders[number] = await _patiently(client, "execute", request)
        except HiveError as exc:
            if exc.code == "INVALID_STATE" and "after" in request:
                continue  # what it was to follow has failed since it was queued
            raise _broken_off(exc, batch, len(orders), key) from exc
        for text in orders[number].get("warnings", []):
            if text not in said:  # the same for most of them
                hive.screen.note(("warn", "note: "), ("", text))
        said.update(orders[number].get("warnings", []))
        hive.screen.status(f"{number + 1} of {len(batch.prompts)} queued")
    hive.screen.status("")
    return orders


def _broken_off(exc: HiveError, batch: Batch, count: int, key: str) -> HiveError:
    """The error, and how to go on without queueing anything twice."""
    if not count:
        return exc
    return HiveError(
        exc.code,
        f"{exc.message} {count} of {len(batch.prompts)} are queued and go on.",
        hint=f"The same command with `--idempotency-key {key}` queues the rest, and nothing twice.",
        retry_after_ms=exc.retry_after_ms,
        details=exc.details,
    )


async def _patiently(client: Client, method: str, params: dict[str, Any]) -> dict[str, Any]:
    while True:
        try:
            result: dict[str, Any] = await client.call(method, **params)
        except HiveError as exc:
            if exc.code != "RATE_LIMITED":
                raise
            await asyncio.sleep((exc.retry_after_ms or 0) / 1000 or _SLOWER_S)
        else:
            return result


async def _look(
    hive: Session,
    client: Client,
    order: str,
    open_: dict[str, int],
    ends: dict[str, Mapping[str, Any]],
) -> None:
    try:
        described = await _patiently(client, "queue.describe", {"work_order": order})
    except HiveError as exc:
        if exc.code != "WORK_ORDER_NOT_FOUND":
            raise
        number = open_.pop(order)
        hive.screen.note(("warn", f"{number + 1:>3}  {order}  is gone with its project"))
        return
    if described["order"]["state"] not in ORDER_ENDS:
        return
    found = described["attempts"][0]
    ends[order] = found
    number = open_.pop(order)
    if hive.options.output == "name":
        hive.screen.result(order)
    elif hive.options.output in {"table", "wide"}:
        took = views.span(found["duration_ms"] / 1000)
        line = f"{number + 1:>3}  {order}  {found['project_name']}  {views.state(found)}  {took}  {views.money(found['cost_usd'])}"
        hive.screen.result(f"{line}  {views.first_line(found['prompt'])}")


def _summary(hive: Session, found: list[Mapping[str, Any]]) -> None:
    counts: dict[str, int] = {}
    for item in found:
        counts[item["state"]] = counts.get(item["state"], 0) + 1
    cost = sum(item["cost_usd"] for item in found)
    said = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    hive.screen.note(("bold", said), ("dim", f", {views.money(cost)}" if cost else ""))
