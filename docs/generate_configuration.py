"""Writes the tables of configuration.md from the code: `python docs/generate_configuration.py [--check]`.

Only what stands between the `generated` comments is replaced. `--check` changes nothing and exits with 1
when the page is out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from hivectl.config import OTHER_VARIABLES, SETTINGS, Setting
from hivectl.kit import failpoint
from hivectl.kit.clock import format_duration

PAGE = Path(__file__).with_name("configuration.md")
KIB = 1024


def settings_tables() -> str:
    sections: dict[str, list[Setting]] = {}
    for setting in SETTINGS:
        sections.setdefault(setting.key.split(".")[0], []).append(setting)
    return "\n\n".join(_section(name, rows) for name, rows in sections.items())


def _section(name: str, rows: list[Setting]) -> str:
    lines = [
        f"### [{name}]",
        "",
        "| setting | variable | default | meaning |",
        "|---|---|---|---|",
    ]
    for row in rows:
        notes = [row.meaning]
        if row.choices:
            notes.append(f"One of {', '.join(f'`{choice}`' for choice in row.choices)}.")
        if limits := _limits(row):
            notes.append(limits)
        if row.reloads:
            notes.append("*Reloads.*")
        variable = "(file only)" if row.kind == "table" else f"`{row.variable}`"
        lines.append(
            f"| `{row.key}` | {variable} | {_shown(row, row.default)} | {' '.join(notes)} |"
        )
    return "\n".join(lines)


def _limits(row: Setting) -> str:
    least = None if row.least is None else _plain(row, row.least)
    most = None if row.most is None else _plain(row, row.most)
    if least is not None and most is not None:
        return f"{least} to {most}."
    if least is not None and row.least:
        return f"At least {least}."
    return f"At most {most}." if most is not None else ""


def _shown(row: Setting, value: object) -> str:
    if value in ([], {}, ""):
        return "(empty)"
    return f"`{_plain(row, value)}`"


def _plain(row: Setting, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if row.kind == "size" and isinstance(value, int | float):
        for unit, name in ((KIB**3, "G"), (KIB**2, "M"), (KIB, "K")):
            if value and value % unit == 0:
                return f"{int(value) // unit}{name}"
        return str(int(value))
    if row.kind == "duration" and isinstance(value, int | float):
        return (
            "0"
            if not value
            else format_duration(float(value))
            .replace(" 00s", "")
            .replace(" 00m", "")
            .replace(".0s", "s")
        )
    return f"{value:g}" if isinstance(value, float) else str(value)


def other_variables() -> str:
    lines = ["| variable | meaning |", "|---|---|"]
    return "\n".join(
        [*lines, *(f"| `{name}` | {text} |" for name, text in OTHER_VARIABLES.items())]
    )


def failpoints() -> str:
    names = failpoint.NAMES | failpoint.SHIM_NAMES
    lines = ["| failpoint | strikes |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{name}` | {text} |" for name, text in names.items())])


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings_tables,
    "variables": other_variables,
    "failpoints": failpoints,
}


def render(page: str) -> str:
    """The page with every generated part made anew."""
    for name, part in PARTS.items():
        begin, end = f"<!-- generated: {name} -->", f"<!-- end of {name} -->"
        head, _, rest = page.partition(begin)
        _, _, tail = rest.partition(end)
        page = f"{head}{begin}\n\n{part()}\n\n{end}{tail}"
    return page


def main() -> int:
    """Write or check the page."""
    old = PAGE.read_text(encoding="utf-8")
    new = render(old)
    if "--check" in sys.argv[1:]:
        if old != new:
            sys.stderr.write(f"{PAGE.name} is out of date: run python docs/{Path(__file__).name}\n")
        return int(old != new)
    PAGE.write_text(new, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
