"""All results in one place: a summary for the terminal, and the tables of docs/benchmarks.md.

In the page everything between the two marks is written here; what stands around them is written by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.targets import TARGETS, Verdict, judge, show

START, END = "<!-- measured -->\n", "<!-- end of measured -->"
Results = Mapping[str, Mapping[str, Any]]


def read(folder: Path) -> dict[str, dict[str, Any]]:
    """The results in a directory by the benchmark's name; a file that cannot be read counts as none."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            document = json.loads(path.read_text())
        except ValueError:
            continue
        if isinstance(document, dict) and "machine" in document:
            found[path.stem] = document
    return found


def verdicts(results: Results) -> list[Verdict]:
    return [judge(target, results.get(target.benchmark)) for target in TARGETS]


def _what(verdict: Verdict) -> str:
    target = verdict.target
    return f"{target.ours} / {target.reference}" if target.reference else target.ours


def summary(results: Results, names: Iterable[str]) -> str:
    """One line for each target of these benchmarks, and how many are met."""
    wanted = set(names)
    found = [one for one in verdicts(results) if one.target.benchmark in wanted]
    lines = ["Targets"]
    for one in found:
        head = f"  {one.target.metric:>7}  {one.word:12}  {_what(one)}"
        lines.append(f"{head}: {one.measured or '-'}, target {one.target.wanted}")
    words = [one.word for one in found]
    counts = [f"{words.count(word)} {word}" for word in ("met", "missed", "not measured")]
    return "\n".join([*lines, f"  {', '.join(counts)}"])


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [heads, ["---"] * len(heads), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]


def tables(results: Results) -> str:
    """Where and when, the targets, and every figure, as Markdown."""
    if not results:
        return "Nothing was measured yet.\n"
    heads = ("Metric", "What", "Median (min to max)", "Target", "")
    rows = [
        (
            one.target.metric,
            _what(one),
            one.measured,
            one.target.wanted,
            f"**{one.word}**" if one.word == "missed" else one.word,
        )
        for one in verdicts(results)
    ]
    lines = [*_where(results), "", *_table(heads, rows), ""]
    for name, document in results.items():
        if "series" in document:
            lines += [f"### `{name}`: {document['title']}", "", *_series(document), ""]
    return "\n".join(lines)


def _where(results: Results) -> list[str]:
    machines = [
        document["machine"] for document in results.values() if "date" in document["machine"]
    ]
    if not machines:
        return []
    dates = sorted(str(machine["date"])[:10] for machine in machines)
    loads = [float(machine["load"][0]) for machine in machines]
    newest = max(machines, key=lambda machine: str(machine["date"]))
    days = dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}"
    versions = ", ".join(f"{name} {version}" for name, version in newest["versions"].items())
    machine = f"{newest['cores']} cores, {newest['machine']}, Linux {newest['kernel']}"
    span = f"{show(min(loads))} to {show(max(loads))}"
    return [
        f"{days}. {machine}, Python {newest['python']}.",
        f"Load average at the end of each command: {span}.",
        f"{versions}.",
    ]


def _series(document: Mapping[str, Any]) -> list[str]:
    rows = [
        (one["name"], f"{show(one['median'])} {one['unit']}", _span(one))
        for one in document["series"]
    ]
    rows += [
        (f"{one['ours']} / {one['reference']}", f"{show(one['median'])}x", _span(one))
        for one in document["ratios"]
    ]
    return _table(("", "Median", "Min to max"), rows)


def _span(one: Mapping[str, Any]) -> str:
    return f"{show(one['min'])} to {show(one['max'])}"


def write(page: Path, results: Results) -> None:
    """Put the tables between the marks of the page. Raises ValueError when it has none."""
    text = page.read_text()
    before, mark, rest = text.partition(START)
    _old, end, after = rest.partition(END)
    if not mark or not end:
        raise ValueError(f"{page} has no {START.strip()} ... {END}")
    page.write_text(f"{before}{mark}\n{tables(results)}\n{end}{after}")
