"""Bytes in and out, and signals, through one poll loop.

Promises: output is never lost nor reordered, a reader that does not read blocks neither signals
nor stdin, a reader that is gone is not noticed, and a line of input may have any length.
It must not know what the lines mean.
"""

import errno
import json
import os
import select
import signal
from collections.abc import Callable

from mock_claude import machine
from mock_claude.machine import Json

STDIN, STDOUT = 0, 1
CHUNK = 4096  # what poll() promises a pipe can take without blocking
HIGH_WATER = 1 << 20
HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Escaped so that a reader which splits on Unicode line ends is safe, as the real CLI does.
ESCAPED = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029", 0x7F: "\\u007f"}
ESCAPED.update({code: f"\\u{code:04x}" for code in range(0xD800, 0xE000)})


def encode(event: Json | list[Json]) -> bytes:
    """One line of output: compact JSON, raw UTF-8, unsafe characters escaped."""
    text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    if not text.isascii() or "\x7f" in text:
        text = text.translate(ESCAPED)
    return text.encode() + b"\n"


class Wire:
    """The process's stdin, stdout and signals."""

    def __init__(self) -> None:
        self.signals: list[int] = []
        self.is_eof = True
        self.on_line: Callable[[bytes], None] | None = None
        self._out = bytearray()
        self._is_reader_gone = False
        self._in = bytearray()
        self._scanned = 0
        self._room = select.poll()
        self._room.register(STDOUT, select.POLLOUT)
        self._news = select.poll()
        self._wake_read, wake_write = os.pipe()
        self._news.register(self._wake_read, select.POLLIN)
        os.set_blocking(self._wake_read, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        for number in HANDLED:
            signal.signal(number, self._on_signal)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)

    def _on_signal(self, number: int, _frame: object) -> None:
        self.signals.append(number)

    def ignore(self, numbers: list[int]) -> None:
        """From now on these signals do nothing, in the children too."""
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)

    def listen(self, on_line: Callable[[bytes], None]) -> None:
        """Read stdin from now on; each complete line goes to `on_line` during `pump`."""
        self.on_line = on_line
        self.is_eof = False
        self._news.register(STDIN, select.POLLIN)

    def send(self, data: bytes) -> None:
        """Queue bytes for stdout and write what the reader takes now."""
        self._out += data
        self._write()
        while len(self._out) > HIGH_WATER and not self.signals:
            self.pump(None)

    def flush(self, limit_s: float | None = None) -> None:
        """Write everything; give up after `limit_s` seconds."""
        deadline = None if limit_s is None else machine.now() + limit_s
        while self._out:
            left = None if deadline is None else deadline - machine.now()
            if left is not None and left <= 0:
                return
            self._room.poll(None if left is None else left * 1000)
            self._write()

    def pump(self, timeout_s: float | None) -> None:
        """Wait once for input, room in stdout or a signal, at most so long, and handle it."""
        is_full = bool(self._out)
        if is_full:
            self._news.register(STDOUT, select.POLLOUT)
        wait_ms = None if timeout_s is None else max(0.0, timeout_s * 1000)
        ready = self._news.poll(wait_ms)
        if is_full:
            self._news.unregister(STDOUT)
        for fd, _mask in ready:
            if fd == STDIN:
                self._read()
            elif fd == STDOUT:
                self._write()
            else:
                os.read(self._wake_read, 4096)

    def _read(self) -> None:
        try:
            data = os.read(STDIN, 1 << 16)
        except OSError:
            data = b""
        if not data:
            self.is_eof = True
            self._news.unregister(STDIN)
            if self._in:  # a last line without its newline still counts
                data = b"\n"
        self._in += data
        self.take_lines()

    def take_lines(self) -> None:
        """Hand over the complete lines read so far."""
        while self.on_line is not None:
            end = self._in.find(b"\n", self._scanned)
            if end < 0:
                self._scanned = len(self._in)
                return
            line = bytes(self._in[:end])
            del self._in[: end + 1]
            self._scanned = 0
            self.on_line(line)

    def _write(self) -> None:
        while self._out:
            if self._is_reader_gone:
                self._out.clear()
                return
            if not self._room.poll(0):
                return
            try:
                count = os.write(STDOUT, self._out[:CHUNK])
            except OSError as error:
                if error.errno == errno.EAGAIN:
                    return
                self._is_reader_gone = True
                continue
            del self._out[:count]


def is_control(raw: bytes) -> bool:
    """Whether a line of input is a control request."""
    try:
        item = json.loads(raw)
    except (ValueError, RecursionError):
        return False
    return isinstance(item, dict) and item.get("type") == "control_request"
