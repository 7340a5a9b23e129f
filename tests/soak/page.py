"""The tables of docs/reliability.md: the rows, and what was run."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.soak.rows import ROWS, Row

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"


def write(results: Path) -> None:
    """Replace both tables; without results the second one stays as it is."""
    text = _replace(PAGE.read_text(), "faults", faults())
    found = [json.loads(path.read_text()) for path in sorted(results.glob("*.json"))]
    if found:
        text = _replace(text, "soak", was_run(found))
    PAGE.write_text(text)


def faults() -> str:
    """Every row with what is promised and which tests say so."""
    return _table(
        ("row", "fault", "what holds", "short form", "long form"),
        (
            (row.key.removeprefix("row").lstrip("0"), row.fault, row.holds, _tests(row), row.size)
            for row in ROWS
        ),
    )


def was_run(results: list[dict[str, Any]]) -> str:
    """What was tried, how often, and what was lost."""
    rows = {row.key: row for row in ROWS}
    known = {result["key"]: result for result in results if result["key"] in rows}
    lines = [_table(
        ("row", "at full size", "tried and measured", "result", "when"),
        (_line(rows[key], known[key]) for key in rows if key in known),
    )]  # fmt: skip
    left = [row.key for row in ROWS if row.key not in known]
    if left:
        lines.append(f"Not run at full size yet: {', '.join(left)}.")
    return "\n\n".join(lines)


def told(reports: list[dict[str, Any]]) -> list[str]:
    """What the tests of a row tried, together, and what each measured."""
    tried: dict[str, int] = {}
    for report in reports:
        for what, number in report["tried"].items():
            tried[what] = tried.get(what, 0) + number
    facts = [f"{number:,} {what}" for what, number in tried.items()]
    return facts + [f"{what} {value}" for r in reports for what, value in r["figures"].items()]


def _line(row: Row, result: dict[str, Any]) -> tuple[str, ...]:
    size = row.size if result["scale"] >= 1 else f"{result['scale']:.2g} of {row.size}"
    facts = told(result["reports"])
    missed = [text for r in result["reports"] for text in r["missed"]]
    said = "nothing lost" if result["outcome"] in ("passed", "missed") else result["outcome"]
    if missed:
        said += f"; missed: {'; '.join(missed)}"
    when = f"{result['date']}, {result['revision']}, {result['seconds']:.0f} s, load {result['load'].split()[0]}"
    return (row.key, size, "; ".join(facts) or "-", said, when)


def _tests(row: Row) -> str:
    names = sorted({name.partition("::")[0] for name in row.tests})
    return ", ".join(f"`{name}`" for name in names)


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    heads = list(heads)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def _replace(text: str, name: str, table: str) -> str:
    block = re.compile(rf"(<!-- by make soak: {name} -->\n).*?(<!-- end of {name} -->)", re.DOTALL)
    assert block.search(text), f"{PAGE.name} has no place for {name}"
    return block.sub(lambda m: f"{m[1]}\n{table}\n\n{m[2]}", text)
