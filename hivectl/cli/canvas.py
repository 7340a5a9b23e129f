"""A screen of lines, of which only what changed is written. The terminal itself is taken in `keys`.

What is drawn must be sanitised and fit; here are only positions and styles.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress

from hivectl.cli.table import shorten

_STYLES = {
    "": "",
    "bold": "1",
    "dim": "2",
    "chosen": "7",
    "warn": "33",
    "good": "32",
    "ask": "1;33",
}
_COLORS = frozenset({"warn", "good", "ask"})

Styled = tuple[str, str]
"""A style's name and a line."""


class Canvas:
    """One stay on the screen: `canvas.draw(lines)`."""

    def __init__(self, *, color: bool) -> None:
        """Without `color` only reverse and bold are used."""
        self._color = color
        self._drawn: list[str] = []
        self._size = (0, 0)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines now."""
        found = shutil.get_terminal_size((80, 24))
        with suppress(OSError):
            found = os.get_terminal_size(sys.stdout.fileno())
        return max(found.columns, 20), max(found.lines, 4)

    def draw(self, lines: Sequence[Styled]) -> None:
        """Show these from the top; what does not fit is left out."""
        size = self.size
        columns, rows = size
        if size != self._size:
            self._size, self._drawn = size, []
            self._write("\x1b[2J")
        wanted = [self._styled(style, shorten(text, columns)) for style, text in lines[:rows]]
        wanted += [""] * (rows - len(wanted))
        parts = [
            f"\x1b[{number + 1};1H{text}\x1b[K"
            for number, text in enumerate(wanted)
            if number >= len(self._drawn) or self._drawn[number] != text
        ]
        self._drawn = wanted
        if parts:
            self._write("".join(parts))

    def _styled(self, style: str, text: str) -> str:
        code = "" if style in _COLORS and not self._color else _STYLES[style]
        return f"\x1b[{code}m{text}\x1b[0m" if code and text else text

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
