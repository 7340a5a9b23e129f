"""Writes the tables of these pages from the code: `python docs/generate.py [--check]`.

Only what stands between `<!-- generated: NAME -->` and `<!-- end of NAME -->` is replaced, on every page
that asks for a table of TABLES. `--check` changes nothing and
exits with 1 when a page is out of date.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from hivectl.cli.reference import render as cli_reference
from hivectl.config import OTHER_VARIABLES, SETTINGS, Setting
from hivectl.kit import failpoint
from hivectl.kit.clock import format_duration
from hivectl.model.approval import APPROVAL_MOVES
from hivectl.model.errors import EXIT_MEANINGS, TABLE
from hivectl.model.event import EVENTS, MESSAGE_KINDS
from hivectl.model.question import QUESTION_MOVES
from hivectl.model.work import EXECUTION_MOVES, ORDER_MOVES
from hivectl.model.worktree import WORKTREE_MOVES
from hivectl.protocol.closing import MEANINGS, TERMINAL
from hivectl.protocol.methods import METHODS, Method, params_model
from hivectl.protocol.schema import build_schema

KIB = 1024
DOCS = Path(__file__).parent
BLOCK = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)


def table(heads: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A Markdown table."""
    heads = list(heads)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += [
        "| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in rows
    ]
    return "\n".join(lines)


def methods_table() -> str:
    """Every method in one line."""
    return table(
        ("method", "scope", "where", "what it does"),
        (
            (
                f"`{method.name}`",
                method.scope or "-",
                "WebSocket" if method.socket_only else "both",
                method.summary,
            )
            for method in METHODS.values()
        ),
    )


def parameters() -> str:
    """Every method with its parameters and the fields of its result."""
    return "\n\n".join(_method_section(method) for method in METHODS.values())


def _method_section(method: Method) -> str:
    schema = params_model(method).model_json_schema()
    lines = [f"#### {method.name}", "", method.summary, ""]
    doc = " ".join((params_model(method).__doc__ or "").split())
    if doc and method.params != "Empty":
        lines += [doc, ""]
    properties = schema.get("properties", {})
    if properties:
        required = set(schema.get("required", ()))
        rows = (
            (f"`{name}`", _kind(row, schema), "required" if name in required else _default(row))
            for name, row in properties.items()
        )
        lines += [table(("parameter", "type", "default"), rows), ""]
    fields = _result_fields(method)
    lines.append(f"Result: {', '.join(f'`{name}`' for name in fields)}.")
    return "\n".join(lines)


def _result_fields(method: Method) -> list[str]:
    result = build_schema()["methods"][method.name]["result"]
    return list(_resolve(result, result).get("properties", {}))


def _resolve(row: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    reference = row.get("$ref")
    if reference is None:
        return row
    found: dict[str, Any] = schema["$defs"][reference.rpartition("/")[2]]
    return found


def _kind(row: dict[str, Any], schema: dict[str, Any]) -> str:
    if "anyOf" in row:
        kinds = [_kind(part, schema) for part in row["anyOf"] if part.get("type") != "null"]
        return " or ".join(dict.fromkeys(kinds))
    if "$ref" in row:
        found = _resolve(row, schema)
        return "{" + ", ".join(found.get("properties", {})) + "}"
    if "enum" in row:
        return ", ".join(f"`{value}`" for value in row["enum"])
    if row.get("type") == "array":
        return f"list of {_kind(row.get('items', {}), schema)}"
    return str(row.get("type", "any"))


def _default(row: dict[str, Any]) -> str:
    value = row.get("default")
    return "-" if value in (None, "", [], {}) else f"`{str(value).lower()}`"


def events_table() -> str:
    """Every type of event."""
    return table(
        ("type", "kept", "also in", "what happened", "fields of `data`"),
        (
            (
                f"`{name}`",
                "yes" if kind.is_durable else "no",
                ", ".join(f"`{view}`" for view in sorted(kind.views)) or "-",
                kind.meaning,
                kind.data,
            )
            for name, kind in EVENTS.items()
        ),
    )


def message_kinds() -> str:
    """What `data.kind` of a message can be."""
    return ", ".join(f"`{kind}`" for kind in MESSAGE_KINDS)


def errors_table() -> str:
    """Every error."""
    return table(
        ("code", "JSON-RPC", "HTTP", "exit", "retry", "meaning", "what to do"),
        (
            (
                f"`{name}`",
                kind.rpc,
                kind.http,
                int(kind.exit),
                "yes" if kind.retryable else "no",
                kind.meaning,
                kind.hint,
            )
            for name, kind in TABLE.items()
        ),
    )


def close_table() -> str:
    """Every close code."""
    return table(
        ("code", "then", "meaning"),
        (
            (f"`{int(code)}`", "give up" if code in TERMINAL else "reconnect and resume", meaning)
            for code, meaning in MEANINGS.items()
        ),
    )


def exits_table() -> str:
    """Every exit code of the command line."""
    return table(
        ("code", "meaning"), ((f"`{int(code)}`", text) for code, text in EXIT_MEANINGS.items())
    )


def settings_tables() -> str:
    """Every setting, by section."""
    sections: dict[str, list[Setting]] = {}
    for setting in SETTINGS:
        sections.setdefault(setting.key.split(".")[0], []).append(setting)
    return "\n\n".join(_section(name, rows) for name, rows in sections.items())


def _section(name: str, rows: list[Setting]) -> str:
    lines = []
    for row in rows:
        notes = [row.meaning]
        if row.choices:
            notes.append(f"One of {', '.join(f'`{choice}`' for choice in row.choices)}.")
        if limits := _limits(row):
            notes.append(limits)
        if row.reloads:
            notes.append("*Reloads.*")
        variable = "(file only)" if row.kind == "table" else f"`{row.variable}`"
        lines.append((f"`{row.key}`", variable, _shown(row, row.default), " ".join(notes)))
    return f"### [{name}]\n\n" + table(("setting", "variable", "default", "meaning"), lines)


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
    """Variables that are no settings."""
    return table(("variable", "meaning"), ((f"`{n}`", text) for n, text in OTHER_VARIABLES.items()))


def failpoints() -> str:
    """Where a test may break the program."""
    names = failpoint.NAMES | failpoint.SHIM_NAMES
    return table(("failpoint", "strikes"), ((f"`{n}`", text) for n, text in names.items()))


def diagram(moves: Mapping[Any, Iterable[Any]]) -> str:
    """A state machine drawn from its table."""
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {next(iter(moves))}"]
    for state, targets in moves.items():
        lines += [f"    {state} --> {target}" for target in sorted(targets)]
        if not targets:
            lines.append(f"    {state} --> [*]")
    return "\n".join([*lines, "```"])


TABLES: dict[str, Callable[[], str]] = {
    "methods": methods_table,
    "parameters": parameters,
    "events": events_table,
    "message-kinds": message_kinds,
    "errors": errors_table,
    "close-codes": close_table,
    "exit-codes": exits_table,
    "settings": settings_tables,
    "variables": other_variables,
    "failpoints": failpoints,
    "execution-states": lambda: diagram(EXECUTION_MOVES),
    "work-order-states": lambda: diagram(ORDER_MOVES),
    "worktree-states": lambda: diagram(WORKTREE_MOVES),
    "approval-states": lambda: diagram(APPROVAL_MOVES),
    "question-states": lambda: diagram(QUESTION_MOVES),
}


def render(text: str) -> str:
    """The page with its tables as the code has them."""

    def fill(found: re.Match[str]) -> str:
        make = TABLES.get(found[2])
        return found[0] if make is None else f"{found[1]}\n{make()}\n\n{found[3]}"

    return BLOCK.sub(fill, text)


def main() -> int:
    """Write, or check."""
    is_check = "--check" in sys.argv[1:]
    stale = []
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        fresh = render(text)
        if fresh != text:
            stale.append(page.relative_to(DOCS.parent))
            if not is_check:
                page.write_text(fresh, encoding="utf-8")
    reference = DOCS / "cli.md"
    if (fresh := cli_reference()) != reference.read_text(encoding="utf-8"):
        stale.append(reference.relative_to(DOCS.parent))
        if not is_check:
            reference.write_text(fresh, encoding="utf-8")
    if is_check and stale:
        print(f"out of date: {', '.join(map(str, stale))}; run: python docs/generate.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
