"""Single keys from the terminal, and a screen of our own; both given back on every way out.

The terminal's settings are changed here and nowhere else. `Terminal` restores them at its exit, also for an
exception or a cancellation; SIGTERM, SIGHUP and Ctrl-C arrive as the key `quit`, so they take that way too.
"""

from __future__ import annotations

import asyncio
import codecs
import os
import signal
import sys
import termios
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Self

ESCAPE_S = 0.05
"""How long the rest of an escape sequence may take; a lone Escape is a key of its own after it."""
READ_BYTES = 4096
MAX_WAITING = 1000
"""Keys that wait to be looked at; what is typed beyond is dropped."""

_OPEN = "\x1b[?1049h\x1b[?25l\x1b[?2004h"
_CLOSE = "\x1b[?2004l\x1b[?25h\x1b[?1049l"
_PASTE_BEGIN, _PASTE_END = "\x1b[200~", "\x1b[201~"
PASTE_MAX = 10_000
"""Characters of one paste that are kept."""

_NAMED = {
    "\r": "enter", "\n": "enter", "\t": "tab", "\x7f": "backspace", "\x08": "backspace", "\x15": "clear", "\x03": "quit",
    "\x04": "eof", "\x0c": "redraw", "\x1b[A": "up", "\x1b[B": "down", "\x1bOA": "up", "\x1bOB": "down", "\x1b[5~": "pageup",
    "\x1b[6~": "pagedown", "\x1b[H": "home", "\x1b[F": "end", "\x1b[1~": "home", "\x1b[4~": "end",
}  # fmt: skip


_SIGNALS = {
    signal.SIGINT: "quit",
    signal.SIGTERM: "quit",
    signal.SIGHUP: "quit",
    signal.SIGWINCH: "redraw",
}


class Paste(str):
    """Text that was pasted: never a key, whatever it looks like."""

    __slots__ = ()


class Decoder:
    """Bytes of a terminal to keys: a character, a name such as `up`, or a Paste. Does no I/O."""

    def __init__(self) -> None:
        """At the start of a key."""
        self._utf8 = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        self._paste: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether the beginning of an escape sequence waits for its rest."""
        return self._paste is None and bool(self._rest)

    def feed(self, data: bytes) -> list[str]:
        """The keys that are whole now."""
        self._rest += self._utf8.decode(data)
        found: list[str] = []
        while self._rest:
            if self._paste is not None:
                if not self._take_paste(found):
                    break
            elif self._rest[0] != "\x1b":
                key, self._rest = self._rest[0], self._rest[1:]
                found += _named(key)
            elif not self._take_escape(found):
                break
        return found

    def flush(self) -> list[str]:
        """What is left is all there will be: a lone Escape."""
        rest, self._rest = self._rest, ""
        return ["esc"] if rest.startswith("\x1b") and self._paste is None else []

    def _take_paste(self, found: list[str]) -> bool:
        assert self._paste is not None
        text, mark, rest = self._rest.partition(_PASTE_END)
        if not mark:
            # The end may have come by half.
            keep = min(len(text), len(_PASTE_END) - 1)
            self._paste = (self._paste + text[: len(text) - keep])[:PASTE_MAX]
            self._rest = text[len(text) - keep :]
            return False
        found.append(Paste((self._paste + text)[:PASTE_MAX]))
        self._paste, self._rest = None, rest
        return True

    def _take_escape(self, found: list[str]) -> bool:
        end = _escape_end(self._rest)
        if end is None:
            return False
        sequence, self._rest = self._rest[:end], self._rest[end:]
        if sequence == _PASTE_BEGIN:
            self._paste = ""
        elif sequence == "\x1b":
            found.append("esc")
        elif sequence in _NAMED:
            found.append(_NAMED[sequence])
        return True


def _named(key: str) -> list[str]:
    if key in _NAMED:
        return [_NAMED[key]]
    return [key] if key.isprintable() else []


def _escape_end(text: str) -> int | None:
    """Where the sequence at the start ends; None while it may go on."""
    if len(text) == 1:
        return None
    if text[1] == "O":
        return 3 if len(text) >= 3 else None
    if text[1] != "[":
        return 1
    for at in range(2, min(len(text), 32)):
        if "@" <= text[at] <= "~":
            return at + 1
    return None if len(text) < 32 else 32


class Terminal:
    """The terminal at stdin and stdout, whole: keys one by one, and a screen that is gone afterwards."""

    def __init__(self) -> None:
        """Nothing is changed before it is entered."""
        self._in = sys.stdin.fileno()
        self._keys: deque[str] = deque()
        self._has_keys = asyncio.Event()
        self._decoder = Decoder()
        self._timer: asyncio.TimerHandle | None = None
        self._before: list[Any] | None = None
        self._signals: list[signal.Signals] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._take()
        for name, key in _SIGNALS.items():
            with suppress(RuntimeError, ValueError):  # not in the main thread
                loop.add_signal_handler(name, self._signalled, name, key)
                self._signals.append(name)
        return self

    def _signalled(self, name: signal.Signals, key: str) -> None:
        # Ctrl-C in an editor that has the terminal is meant for the editor.
        if self.is_ours or name is not signal.SIGINT:
            self._put(key)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name in self._signals:
            asyncio.get_running_loop().remove_signal_handler(name)
        self._give_back()

    @property
    def is_ours(self) -> bool:
        """Whether it may be drawn on now: not while it is lent, nor after the end."""
        return self._before is not None

    async def read(self) -> str:
        """The next key."""
        while not self._keys:
            self._has_keys.clear()
            await self._has_keys.wait()
        return self._keys.popleft()

    @contextmanager
    def lent(self) -> Iterator[None]:
        """The terminal as it was, for an editor."""
        self._give_back()
        try:
            yield
        finally:
            self._take()

    def _take(self) -> None:
        self._before = termios.tcgetattr(self._in)
        raw = termios.tcgetattr(self._in)
        raw[3] &= ~(termios.ICANON | termios.ECHO | termios.ISIG)
        raw[6][termios.VMIN], raw[6][termios.VTIME] = 1, 0
        termios.tcsetattr(self._in, termios.TCSADRAIN, raw)
        sys.stdout.write(_OPEN)
        sys.stdout.flush()
        asyncio.get_running_loop().add_reader(self._in, self._read)

    def _give_back(self) -> None:
        if self._before is None:
            return
        before, self._before = self._before, None
        asyncio.get_running_loop().remove_reader(self._in)
        with suppress(OSError):
            sys.stdout.write(_CLOSE)
            sys.stdout.flush()
        with suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(self._in, termios.TCSAFLUSH, before)

    def _read(self) -> None:
        try:
            data = os.read(self._in, READ_BYTES)
        except OSError:
            data = b""
        if not data:
            asyncio.get_running_loop().remove_reader(self._in)
            self._put("quit")
            return
        for key in self._decoder.feed(data):
            self._put(key)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._decoder.is_open:
            self._timer = asyncio.get_running_loop().call_later(ESCAPE_S, self._flush)

    def _flush(self) -> None:
        for key in self._decoder.flush():
            self._put(key)

    def _put(self, key: str) -> None:
        if len(self._keys) < MAX_WAITING or key == "quit":
            self._keys.append(key)
            self._has_keys.set()
