"""Where text goes: results to stdout, everything else to stderr, and one status line that stays below.

The only place of the CLI that writes to a stream. Whatever is shown here has passed `sanitize`; colours
are ours alone, and every meaning has a word beside its colour.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from hivectl.cli.sanitize import one_line, sanitize
from hivectl.cli.table import shorten

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from hivectl.model.errors import HiveError

Piece = tuple[str, str]
"""A style's name of STYLES and a text that will be sanitised."""

STYLES = {
    "": "",
    "dim": "dim",
    "bold": "bold",
    "title": "bold",
    "tool": "cyan",
    "good": "green",
    "bad": "red",
    "warn": "yellow",
    "ask": "bold yellow",
    "thinking": "dim italic",
    "prompt": "bold blue",
}
PALETTE = (
    "cyan",
    "magenta",
    "green",
    "yellow",
    "blue",
    "bright_red",
    "bright_cyan",
    "bright_magenta",
)
_ERASE = "\r\x1b[2K"


class ReaderLeft(Exception):  # noqa: N818  it names what happened
    """Whoever read our output is gone (`| head`): nothing is left to do. Typer would exit 1 for it."""


def output_lost(exc: OSError) -> HiveError:
    """The HiveError for output that nothing takes any more (a full disk). What is still buffered goes nowhere:
    else Python would try again at the end, and end with a code of its own."""
    import errno

    from hivectl.model.errors import HiveError

    with open(os.devnull, "w") as nowhere:  # noqa: PTH123
        os.dup2(nowhere.fileno(), 1)
    return HiveError(
        "STORAGE_FULL" if exc.errno in {errno.ENOSPC, errno.EDQUOT} else "STORAGE_ERROR",
        f"The output cannot be written: {exc.strerror or exc}.",
        hint="What was asked for is done all the same; send its output elsewhere.",
    )


class Screen:
    """stdout and stderr of one command."""

    def __init__(self, *, color: bool | None = None) -> None:
        """`color` None decides by the terminal and NO_COLOR."""
        self._color = color
        self._consoles: dict[int, Console] = {}
        self._status = ""

    @property
    def out_is_terminal(self) -> bool:
        """Whether results go to a person."""
        return sys.stdout.isatty()

    @property
    def is_interactive(self) -> bool:
        """Whether somebody can be asked: what is typed and what is shown both belong to a terminal."""
        return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return max(shutil.get_terminal_size((80, 24)).columns, 20)

    @property
    def table_width(self) -> int | None:
        """Where tables are cut: nowhere when they go to a pipe."""
        return self.width if self.out_is_terminal else None

    def result(self, text: str) -> None:
        """A result, as it is; the caller has made it safe (JSON, tables)."""
        self._write(sys.stdout, text if text.endswith("\n") or not text else text + "\n")

    def show(self, *pieces: Piece, cut: bool = False) -> None:
        """A line for people, on stdout."""
        self._print(sys.stdout, pieces, cut=cut)

    def note(self, *pieces: Piece, cut: bool = False) -> None:
        """A line for people, on stderr."""
        self._print(sys.stderr, pieces, cut=cut)

    def write_piece(self, text: str) -> None:
        """A piece of a line that is still being written, on stdout."""
        self._write(sys.stdout, sanitize(text))

    def prompt(self, text: str) -> None:
        """A question that stays open for its answer, on stderr."""
        self._lift_status()
        sys.stderr.write(sanitize(text))
        sys.stderr.flush()

    def paint(self, rows: Sequence[Sequence[Piece]]) -> None:
        """Redraw the whole terminal, from its first line on; what does not fit is cut."""
        columns, lines = shutil.get_terminal_size((80, 24))
        console = self._console(sys.stdout)
        parts = ["\x1b[H"]
        for number, row in enumerate(rows[:lines]):
            text = self._text([(style, _on_one_row(part)) for style, part in row], one=False)
            text.truncate(columns, overflow="ellipsis")
            with console.capture() as captured:
                console.print(text, end="", no_wrap=True, overflow="crop", width=columns)
            parts += ["\r\n" if number else "", captured.get(), "\x1b[K"]
        self._write(sys.stdout, "".join([*parts, "\x1b[J"]))

    def status(self, text: str) -> None:
        """Replace the line at the bottom; empty removes it. Only on a terminal."""
        if not sys.stderr.isatty():
            return
        shown = shorten(one_line(text), self.width - 1)
        if shown == self._status:
            return
        self._status = shown
        sys.stderr.write(f"{_ERASE}{shown}")
        sys.stderr.flush()

    def _write(self, stream: TextIO, text: str) -> None:
        self._lift_status()
        try:
            stream.write(text)
            stream.flush()
        except BrokenPipeError:
            raise ReaderLeft from None
        except OSError as exc:
            raise output_lost(exc) from exc
        self._lower_status(text)

    def _print(self, stream: TextIO, pieces: Sequence[Piece], *, cut: bool) -> None:
        console = self._console(stream)
        text = self._text(pieces, one=cut)
        self._lift_status()
        if cut and stream.isatty():
            text.truncate(self.width, overflow="ellipsis")
        try:
            console.print(text, soft_wrap=not stream.isatty())
            stream.flush()
        except (BrokenPipeError, SystemExit):  # Rich turns the first into the second
            raise ReaderLeft from None
        except OSError as exc:
            raise output_lost(exc) from exc
        self._lower_status("\n")

    def _text(self, pieces: Sequence[Piece], *, one: bool) -> Text:
        from rich.text import Text

        clean = one_line_keeping_ends if one else sanitize
        text = Text()
        for style, part in pieces:
            text.append(clean(part), STYLES.get(style, style) if self._has_style else "")
        return text

    @property
    def _has_style(self) -> bool:
        """Whether anything is emphasised: without colours nothing is bold or dim either."""
        if self._color is None:
            return not os.environ.get("NO_COLOR")  # noqa: TID251  no setting of ours
        return self._color

    def _console(self, stream: TextIO) -> Console:
        from rich.console import Console

        key = id(stream)
        if key not in self._consoles:
            self._consoles[key] = Console(
                file=stream,
                no_color=None if self._color is None else not self._color,
                force_terminal=True if self._color else None,
                highlight=False,
                markup=False,
                emoji=False,
                width=self.width,
            )
        return self._consoles[key]

    def _lift_status(self) -> None:
        if self._status:
            sys.stdout.flush()
            sys.stderr.write(_ERASE)
            sys.stderr.flush()

    def _lower_status(self, written: str) -> None:
        if self._status and written.endswith("\n"):
            sys.stderr.write(self._status)
            sys.stderr.flush()


def _on_one_row(text: str) -> str:
    """With all its spaces, but no line ends."""
    return sanitize(text).replace("\n", " ").expandtabs(4)


def one_line_keeping_ends(text: str) -> str:
    """On one line, with the spaces it began with and one at the end where there was one."""
    clean = one_line(text)
    if not clean:
        return " " if text else ""
    before = len(text) - len(text.lstrip(" "))
    return " " * before + clean + (" " if text[-1].isspace() else "")
