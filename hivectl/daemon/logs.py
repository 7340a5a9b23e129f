"""The daemon's own log: one JSON object per line in a private file, short lines for people on a terminal.

Correlation ids (`execution`, `work_order`, `project`, `request`, `connection`, ...) come through `extra`.
Nothing a log call does can raise into the caller, block on a reader or start a thread; secrets are taken
out here, whatever the caller passed, and prompts and environments are only counted.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import stat
import sys
from pathlib import Path
from typing import IO, Any, Literal

from hivectl.config import Settings
from hivectl.kit.clock import Clock, format_us
from hivectl.logic import redact

_log = logging.getLogger(__name__)

Terminal = Literal["human", "json", "none"]
_TERMINALS: tuple[Terminal, ...] = ("human", "json", "none")

CORRELATION = ("project", "execution", "work_order", "process", "request", "connection", "approval")
"""These come first and in this order."""

WITHHELD = frozenset({"prompt", "text", "raw", "input", "env", "environment", "stdin", "result"})
"""Fields whose content never goes to the log, only its size."""

_LINE_BYTES = 16 * 1024
_NO_ROOM = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_NO_ROOM_QUIET_S = 10.0
"""How long nothing more is said about connections that wait."""
_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def facts_of(record: logging.LogRecord) -> dict[str, Any]:
    """What a record says beside its message: its `extra`, correlation ids first, without secrets."""
    extra = {key: value for key, value in record.__dict__.items() if key not in _STANDARD}
    ordered = {key: extra.pop(key) for key in CORRELATION if key in extra} | extra
    return {key: _clean(key, value) for key, value in ordered.items() if value is not None}


def _clean(name: str, value: Any) -> Any:
    if name in WITHHELD:
        size = len(value) if isinstance(value, str | bytes | dict | list | tuple) else 1
        return f"<withheld, size {size}>"
    return redact.redact_value(value, name)


def _message(record: logging.LogRecord) -> str:
    try:
        return redact.redact_text(record.getMessage())
    except (TypeError, ValueError):
        return redact.redact_text(str(record.msg))


class JsonFormatter(logging.Formatter):
    """One record = one line of ASCII JSON, whatever is in it: no forged lines, no escape sequences."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its newline."""
        document: dict[str, Any] = {
            "ts": format_us(int(record.created * 1_000_000)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": _message(record),
        }
        document |= {key: value for key, value in facts_of(record).items() if key not in document}
        if record.exc_info:
            document["traceback"] = redact.redact_text(self.formatException(record.exc_info))
        line = json.dumps(document, default=str)
        if len(line) > _LINE_BYTES:
            line = json.dumps(
                {key: _shorten(value) for key, value in document.items()} | {"shortened": True},
                default=str,
            )
        return line


def _shorten(value: Any) -> Any:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return value if len(text) <= 1024 else text[:500] + " ... " + text[-500:]


class HumanFormatter(logging.Formatter):
    """`12:00:01 INFO  engine  execution ended  project=p_... state=completed`"""

    def format(self, record: logging.LogRecord) -> str:
        """The line; a traceback follows on lines of its own, indented."""
        clock = format_us(int(record.created * 1_000_000))[11:19]
        name = record.name.removeprefix("hivectl.")
        facts = "".join(f"  {key}={_printable(value)}" for key, value in facts_of(record).items())
        line = f"{clock} {record.levelname:<7} {name}  {_printable(_message(record))}{facts}"
        if record.exc_info:
            trace = redact.redact_text(self.formatException(record.exc_info))
            line += "".join("\n    " + _printable(part) for part in trace.splitlines())
        return line


def _printable(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


class RotatingFile(logging.Handler):
    """Appends lines to a private file; at `limit_bytes` it becomes `<name>.1`, at most `keep` old ones stay.

    A full disk loses log lines, never more: `lost` counts them and the next line that can be written says so.
    """

    def __init__(self, path: Path, *, limit_bytes: int, keep: int) -> None:
        """Open the file. Raises OSError when it cannot be, PermissionError when it is not ours or a link."""
        super().__init__()
        self._path = path
        self.limit_bytes = limit_bytes
        self.keep = keep
        self.lost = 0
        self._fd = -1
        self._size = 0
        self._open()

    def _open(self) -> None:
        flags = (
            os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        )
        fd = os.open(self._path, flags, 0o600)
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            os.close(fd)
            raise PermissionError(f"{self._path} is not a file of this user")
        os.fchmod(fd, 0o600)
        self._fd, self._size = fd, found.st_size

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; never raises."""
        try:
            line = self.format(record).encode("ascii", "backslashreplace") + b"\n"
            if self._size and self._size + len(line) > self.limit_bytes:
                self._rotate()
            if self.lost:
                note = json.dumps(
                    {"level": "warning", "msg": "log lines were lost", "lost": self.lost}
                )
                line = note.encode() + b"\n" + line
            self._size += os.write(self._fd, line)
            self.lost = 0
        except Exception:  # noqa: BLE001  a log call must never break the work it reports on
            self.lost += 1

    def _rotate(self) -> None:
        for number in range(self.keep, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = (
                self._path
                if number == 1
                else self._path.with_name(f"{self._path.name}.{number - 1}")
            )
            if newer.exists():
                newer.replace(older)
        os.close(self._fd)
        self._fd = -1
        self._open()

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        super().close()


class TerminalLines(logging.Handler):
    """Writes to a stream that may go away (a closed terminal, a closed pipe) without ever raising."""

    def __init__(self, stream: IO[str]) -> None:
        """Write to `stream`."""
        super().__init__()
        self._stream = stream

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; never raises."""
        try:
            self._stream.write(self.format(record) + "\n")
            self._stream.flush()
        except Exception:  # noqa: BLE001, S110  the terminal is gone; the file has the line
            pass


def pick_terminal(*, wanted: str | None, is_tty: bool, is_pid_1: bool) -> Terminal:
    """What goes to standard error: what was asked for; else lines for a person on a terminal, JSON for
    the collector of a container, nothing otherwise (the file has it)."""
    for terminal in _TERMINALS:
        if wanted == terminal:
            return terminal
    if is_tty:
        return "human"
    return "json" if is_pid_1 else "none"


def configure(settings: Settings, *, terminal: Terminal, stream: IO[str] | None = None) -> None:
    """Send everything that is logged to the daemon's file, and to `stream` (standard error) as `terminal` says.

    Replaces what an earlier call set up. Raises OSError when the file cannot be opened.
    """
    file = RotatingFile(
        settings.places.daemon_log,
        limit_bytes=settings.number("daemon.log_bytes"),
        keep=settings.number("daemon.log_files"),
    )
    file.setFormatter(JsonFormatter())
    handlers: list[logging.Handler] = [file]
    if terminal != "none":
        shown = TerminalLines(stream or sys.stderr)
        shown.setFormatter(HumanFormatter() if terminal == "human" else JsonFormatter())
        handlers.append(shown)
    close()
    root = logging.getLogger()
    for handler in handlers:
        root.addHandler(handler)
    # Libraries speak only when something is wrong: uvicorn and websockets would log every connection.
    root.setLevel(logging.WARNING)
    set_level(settings.text("daemon.log_level"))
    logging.captureWarnings(capture=True)
    # logging prints tracebacks of its own failures to stderr; ours count them instead.
    logging.raiseExceptions = False


def set_level(name: str) -> None:
    """How much hivectl itself logs: debug, info, warning or error. Takes effect at once."""
    logging.getLogger("hivectl").setLevel(_LEVELS[name])


def close() -> None:
    """Take our handlers away again and close the file."""
    root = logging.getLogger()
    for handler in [
        found for found in root.handlers if isinstance(found, RotatingFile | TerminalLines)
    ]:
        root.removeHandler(handler)
        handler.close()


class LoopReport:
    """What the event loop could not tell anybody, in the log.

    A connection that cannot be taken for want of descriptors is no fault of ours: it waits, asyncio
    tries again each second, and one line a while says so instead of a hundred at each try."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._quiet_until = 0.0

    def __call__(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log it; what asyncio calls."""
        error = context.get("exception")
        if "socket" not in context or getattr(error, "errno", None) not in _NO_ROOM:
            what = context.get("message")
            _log.error("unhandled in the loop", extra={"what": what}, exc_info=error)
            return
        now = self._clock.monotonic()
        if now >= self._quiet_until:
            self._quiet_until = now + _NO_ROOM_QUIET_S
            _log.warning("connections wait: no descriptors or memory", extra={"why": str(error)})
