"""What an edit would change: a unified diff from the tool's input and the file on disk, within bounds.

The file is read by whoever looks, with their own rights, and only if it is a plain file: a path that a model
chose must neither hang the reader (a pipe, a device) nor fill the memory.
"""

from __future__ import annotations

import difflib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hivectl.cli.sanitize import reveal

FILE_BYTES = 1024 * 1024
"""A larger file is not compared."""
LINES_MAX = 5000
"""Lines of a side that are compared."""
SHOWN_MAX = 400
"""Lines of a diff that are shown."""
CHARS_MAX = 1000
"""Characters of a line that are shown."""

Input = Mapping[str, Any]


@dataclass(slots=True)
class Difference:
    """Lines with the style of each, ready for a terminal. `note`: what the reader has to know beside them."""

    path: str
    lines: list[tuple[str, str]] = field(default_factory=list)
    note: str = ""


def difference(
    tool: str, input_: Input, directory: str, *, is_here: bool = True
) -> Difference | None:
    """What a call of an editing tool changes; None for any other tool.

    `is_here` False where the file is on another machine: then only the input is looked at."""
    path = str(input_.get("notebook_path" if tool == "NotebookEdit" else "file_path") or "")
    if tool not in _CHANGES or not path:
        return None
    found = Difference(path)
    before, problem = (
        _read(path, directory) if is_here else (None, "the file is on another machine")
    )
    if tool == "NotebookEdit":
        # The file is JSON: what is shown is the cell.
        is_removed = input_.get("edit_mode") == "delete"
        found.note = problem
        _compare(found, _cell(before, input_), "" if is_removed else _text(input_, "new_source"))
        return found
    after = _CHANGES[tool](before, input_)
    if before is None or after is None:
        found.note = problem or "the file has not the text to be replaced"
        before, after = _of_input(tool, input_)
    elif problem:
        found.note = problem
    _compare(found, before, after)
    return found


def _compare(found: Difference, before: str, after: str) -> None:
    old, new = before.splitlines(), after.splitlines()
    if max(len(old), len(new)) > LINES_MAX:
        found.note = f"more than {LINES_MAX} lines: only the beginning is compared"
        old, new = old[:LINES_MAX], new[:LINES_MAX]
    lines = list(difflib.unified_diff(old, new, lineterm="", n=3))[2:]
    if not lines and before != after:
        found.note = "only line ends change"
    for line in lines[:SHOWN_MAX]:
        style = {"+": "good", "-": "bad", "@": "dim"}.get(line[:1], "")
        found.lines.append((style, reveal(line[:CHARS_MAX]).expandtabs(4)))
    if len(lines) > SHOWN_MAX:
        found.lines.append(("warn", f"... and {len(lines) - SHOWN_MAX} more lines"))


def _read(path: str, directory: str) -> tuple[str | None, str]:
    """The file's text, or why there is none; a file that does not exist is empty."""
    if not Path(path).is_absolute() and not directory:
        return None, "where the file lies is not known"
    try:
        fd = os.open(
            Path(directory, path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        )
    except FileNotFoundError:
        return "", "a new file"
    except (OSError, ValueError) as exc:
        return None, f"the file cannot be read: {getattr(exc, 'strerror', None) or exc}"
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            return None, "this is no plain file"
        if found.st_size > FILE_BYTES:
            return None, f"the file has more than {FILE_BYTES >> 20} MiB"
        with os.fdopen(os.dup(fd), "rb") as file:
            return file.read(FILE_BYTES).decode(errors="replace"), ""
    except OSError as exc:
        return None, f"the file cannot be read: {exc.strerror}"
    finally:
        os.close(fd)


def _write(_before: str | None, input_: Input) -> str | None:
    return _text(input_, "content")


def _edit(before: str | None, input_: Input) -> str | None:
    old, new = _text(input_, "old_string"), _text(input_, "new_string")
    if before is None or (old and old not in before):
        return None
    if not old:
        return new if not before else None
    return before.replace(old, new, -1 if input_.get("replace_all") else 1)


def _edits(before: str | None, input_: Input) -> str | None:
    for edit in _list(input_):
        before = _edit(before, edit)
        if before is None:
            return None
    return before


_CHANGES = {"Edit": _edit, "MultiEdit": _edits, "NotebookEdit": _write, "Write": _write}
"""Text before and input to text after; None where the text to be replaced is not there."""


def _cell(notebook: str | None, input_: Input) -> str:
    """The source of the cell that is edited; empty for a new one, and where it is not found."""
    if not notebook or input_.get("edit_mode") == "insert":
        return ""
    try:
        cells = json.loads(notebook)["cells"]
        wanted = input_.get("cell_id", input_.get("cell_number"))
        for number, cell in enumerate(cells):
            if wanted in {cell.get("id"), number, f"cell-{number}"}:
                source = cell["source"]
                return "".join(source) if isinstance(source, list) else str(source)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    return ""


def _of_input(tool: str, input_: Input) -> tuple[str, str]:
    """Both sides as far as the input tells them."""
    if tool == "Write":
        return "", _text(input_, "content")
    edits = _list(input_) if tool == "MultiEdit" else [input_]
    return (
        "\n".join(_text(edit, "old_string") for edit in edits),
        "\n".join(_text(edit, "new_string") for edit in edits),
    )


def _list(input_: Input) -> list[Input]:
    found = input_.get("edits")
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def _text(input_: Input, name: str) -> str:
    value = input_.get(name, "")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
