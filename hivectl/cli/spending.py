"""How sums of what was used look, and the budgets beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from hivectl.cli import views
from hivectl.cli.sanitize import one_line
from hivectl.cli.table import render

if TYPE_CHECKING:
    from hivectl.client.aio import Client

PAGES_MAX = 100
"""Most pages that are put together; more sums are told of, and `--since` asks for fewer."""
HEADS = {"project": "PROJECT", "user": "USER", "model": "MODEL", "day": "DAY", "execution": "EXECUTION"}  # fmt: skip


async def collect(client: Client, params: Mapping[str, Any]) -> dict[str, Any]:
    """All pages of sums as one."""
    found: dict[str, Any] = dict(await client.call("usage", **params))
    page: Mapping[str, Any] = found
    for _ in range(PAGES_MAX):
        if page["next_cursor"] is None:
            break
        page = await client.call("usage", **{**params, "cursor": page["next_cursor"]})
        found["items"] = [*found["items"], *page["items"]]
    return {**found, "next_cursor": page["next_cursor"]}


def table(found: Mapping[str, Any], *, width: int | None) -> str:
    """The sums as a table with their total."""
    by = found["by"]
    headers = [HEADS[by], "RUNS", "IN", "OUT", "CACHED", "MINUTES", "COST"]
    if by == "execution":
        headers.insert(1, "PROJECT")
    rows = [_row(item, by) for item in found["items"]]
    if len(rows) != 1:
        rows.append(_row({**found["total"], "key": "total", "name": ""}, by, is_total=True))
    if not found["items"]:
        return f"nothing was used since {found['since'][:16].replace('T', ' ')}"
    return render(headers, rows, width=width)


def _row(item: Mapping[str, Any], by: str, *, is_total: bool = False) -> list[object]:
    cached = item["cache_read_tokens"] + item["cache_creation_tokens"]
    named = item["name"] if by != "execution" and not is_total else item["key"]
    row: list[object] = [
        named,
        item["runs"],
        f"{item['input_tokens']:,}",
        f"{item['output_tokens']:,}",
        f"{cached:,}",
        f"{item['active_ms'] / 60_000:.1f}",
        views.money(item["cost_usd"], is_rough=item["estimated_usd"] > 0),
    ]
    if by == "execution":
        row.insert(1, item["name"])
    return row


def budgets(found: Mapping[str, Any]) -> list[list[tuple[str, str]]]:
    """A line for each budget of today, for notes: those that are used up say so."""
    lines = []
    for item in found["budgets"]:
        whose = "" if item["scope"] == "user" else "project "
        head = one_line(f"budget of {whose}{item['name']} today:") + " "
        share = f"{_amount(item, item['used'])} of {_amount(item, item['limit'])}"
        if item["is_exceeded"]:
            lines.append(
                [("warn", head), ("", f"{share}, used up until {item['until'][:16].replace('T', ' ')} UTC")]
            )  # fmt: skip
        else:
            lines.append([("dim", head + share)])
    return lines


def _amount(item: Mapping[str, Any], value: float) -> str:
    match item["kind"]:
        case "usd":
            rough = item["is_estimate"] and value == item["used"]
            return views.money(value, is_rough=rough) if value else "$0"
        case "tokens":
            return f"{value:,.0f} tokens"
        case _:
            return f"{value:.1f} minutes"
