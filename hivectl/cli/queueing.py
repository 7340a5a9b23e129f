"""The queue for people: one order, why it waits, the whole at a glance; and a yes or no for what cannot be undone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hivectl.cli import views
from hivectl.cli.session import Session
from hivectl.cli.table import pairs
from hivectl.model.errors import HiveError

Item = Mapping[str, Any]


def one_line(order: Item) -> str:
    """An order after it was changed: `o_… queued, place 3`."""
    return f"{order['work_order']} {views.order_state(order)}"


def described(found: Item) -> str:
    """An order with its attempts and, in words, why it does not run."""
    order = found["order"]
    rows: list[tuple[str, object]] = [
        ("work order", order["work_order"]),
        ("project", order["project_name"]),
        ("state", views.order_state(order)),
        ("priority", order["priority"]),
        ("pool", order["pool"] if order["pool"] != "claude" else None),
        (
            "retries",
            f"{order['retry_count']} of {order['retries']} used" if order["retries"] else None,
        ),
        ("follows", ", ".join(order["after"]) or None),
        ("actor", order["actor"]),
        ("created", order["created_at"]),
        ("prompt", order["prompt"]),
        *[("why", reason) for reason in found["reasons"]],
        ("until", found["until"]),
    ]
    text = pairs(rows)
    lines = [
        f"  {item['attempt']}. {item['execution']}  {views.state(item)}"
        + (f": {views.first_line(item['message'])}" if item.get("message") else "")
        for item in found["attempts"]
    ]
    return text + ("\n\nattempts\n" + "\n".join(lines) if lines else "")


def stats(found: Item) -> str:
    """The queue at a glance."""
    waiting = ", ".join(f"{count} {name}" for name, count in found["priorities"].items())
    held = ", ".join(f"{count} {name}" for name, count in found["holds"].items())
    ended = ", ".join(
        f"{found['states'][name]} {name}"
        for name in ("completed", "failed", "cancelled", "dead")
        if found["states"].get(name)
    )
    slots = f"{found['slots_busy']} of {found['slots']} busy"
    if found["slots_draining"]:
        slots += f", {found['slots_draining']} drained"
    rows: list[tuple[str, object]] = [
        ("waiting", f"{found['states']['queued']}" + (f" ({waiting})" if waiting else "")),
        ("held back", held or None),
        ("running", found["states"]["claimed"]),
        ("ended", ended or None),
        ("workers", slots),
        (
            "answered",
            f"{found['wanting_slot']} wait for a worker" if found["wanting_slot"] else None,
        ),
        ("oldest", views.span(found["oldest_wait_s"]) if found["oldest_wait_s"] else None),
        *[("paused", _pause(pause)) for pause in found["pauses"]],
        *[("usage limit", _parked(parked)) for parked in found["parked"]],
        *[(name, f"{count} waiting") for name, count in found["projects"].items()],
    ]
    return pairs(rows)


def _pause(pause: Item) -> str:
    what = pause["project_name"] or "the whole queue"
    why = f": {pause['reason']}" if pause["reason"] else ""
    return f"{what}, by {pause['actor']} at {pause['since'][:16].replace('T', ' ')}{why}"


def _parked(parked: Item) -> str:
    until = parked["until"][:16].replace("T", " ")
    known = "until" if parked["is_known"] else "looked at again at"
    kind = f" ({parked['kind']})" if parked["kind"] else ""
    return f"{parked['account']}{kind}: {known} {until} UTC; `hivectl queue resume --now` does not wait"


async def confirm(hive: Session, question: str, *, hint: str) -> None:
    """Go on only after a yes. Raises HiveError when it is refused, or when there is nobody to ask."""
    from hivectl.cli import asking

    if not hive.screen.is_interactive:
        raise HiveError(
            "INVALID_PARAMS", "There is nobody to ask whether that is wanted.", hint=hint
        )
    hive.screen.prompt(f"{question} [y/N] ")
    answer = await asking.read_line()
    if (answer or "").strip().lower() not in {"y", "yes"}:
        raise HiveError("INVALID_PARAMS", "Nothing was changed.", hint=hint)
