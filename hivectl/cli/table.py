"""Columns of text, padded by what they take on a screen.

On the path of hot commands: imports nothing but the terminal's size and character widths.
"""

from __future__ import annotations

import unicodedata

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

GAP = "  "
_LEAST_LAST = 12


def cell(value: object) -> str:
    """One cell: a single line without controls; `-` for what is missing."""
    if value is None or value == "":
        return "-"
    text = str(value)
    if not text.isprintable():
        from hivectl.cli.sanitize import one_line

        text = one_line(text)
    return text


def width_of(text: str) -> int:
    """Columns a line takes."""
    if text.isascii():
        return len(text)
    wide, east = 0, unicodedata.east_asian_width
    for char in text:
        if unicodedata.combining(char):
            continue
        wide += 2 if east(char) in "WF" else 1
    return wide


def shorten(text: str, most: int) -> str:
    """At most `most` columns, the cut shown by an ellipsis."""
    if width_of(text) <= most:
        return text
    kept, used = [], 1
    for char in text:
        used += width_of(char)
        if used > most:
            break
        kept.append(char)
    return "".join(kept).rstrip() + "…"


def render(headers: Sequence[str], rows: Iterable[Sequence[object]], *, width: int | None) -> str:
    """A table with a header line. The last column gets what is left of `width`; None never cuts."""
    cells = [list(headers), *([cell(value) for value in row] for row in rows)]
    last = len(headers) - 1
    widths = [max(width_of(row[column]) for row in cells) for column in range(len(headers))]
    lines = []
    for row in cells:
        parts = [
            text + " " * (widths[column] - width_of(text)) for column, text in enumerate(row[:last])
        ]
        used = sum(widths[:last]) + len(GAP) * last
        tail = row[last]
        if width is not None:
            tail = shorten(tail, max(width - used, _LEAST_LAST))
        lines.append(GAP.join([*parts, tail]).rstrip())
    return "\n".join(lines)


def pairs(rows: Iterable[tuple[str, object]], *, width: int | None = None) -> str:
    """`name  value` lines; rows whose value is None are left out."""
    kept = [(name, cell(value)) for name, value in rows if value is not None]
    if not kept:
        return ""
    most = max(width_of(name) for name, _ in kept)
    lines = []
    for name, text in kept:
        head = name + " " * (most - width_of(name)) + GAP
        shown = text if width is None else shorten(text, max(width - most - len(GAP), _LEAST_LAST))
        lines.append((head + shown).rstrip())
    return "\n".join(lines)
