"""A process directory: what is written before a start, how a shim is started, what is read afterwards.

Blocking; its callers run it in a thread where it writes.
"""

from __future__ import annotations

import errno
import fcntl
import importlib.util
import os
import re
import shutil
import signal
import struct
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from hivectl.kit import failpoint, files
from hivectl.model.errors import HiveError
from hivectl.ports import Exit, Launch, StopReason
from hivectl.procs import shim
from hivectl.procs.shim import MARK, SYSTEM

if TYPE_CHECKING:
    from hivectl.procs.shim import System

RUN_DIR = "{run_dir}/"
GONE = ".gone"
"""Ending of a directory's name while it is deleted."""
_PROCESS = re.compile(r"[a-z]+_[0-9a-z]+")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_FULL = frozenset([errno.ENOSPC, errno.EDQUOT])


class StopTimes(msgspec.Struct, frozen=True, kw_only=True):
    """How long each rung of the stop ladder may take, in seconds."""

    interrupt_s: float = 5.0
    close_s: float = 2.0
    term_s: float = 5.0


class Record(msgspec.Struct, frozen=True):
    """What a shim wrote about itself before its child was let go."""

    boot: str
    shim: int
    shim_start: str
    child: int
    child_start: str


def shim_words(run_dir: str) -> list[str]:
    """The shim as program and arguments.

    A script is compiled anew at each start, which takes longer than all the rest of it: so the compiled
    file that importing left is started, when it is of the source that is there. The source is named in
    any case, behind the arguments that are read: by it others know a shim from its command line."""
    source = shim.__file__
    try:
        status = Path(source).stat()
        compiled = Path(importlib.util.cache_from_source(source))
        with compiled.open("rb") as file:
            head = file.read(16)
    except (OSError, NotImplementedError):
        return [source, run_dir]
    of_source = (0, int(status.st_mtime) & 0xFFFFFFFF, status.st_size & 0xFFFFFFFF)
    if head != importlib.util.MAGIC_NUMBER + struct.pack("<3I", *of_source):
        return [source, run_dir]
    return [str(compiled), run_dir, source]


def contained(argv: Sequence[str]) -> list[str]:
    """The words that run a program under `shim.contain`; the source is named there as in `shim_words`."""
    program = shim_words(shim.CONTAIN)[0]
    return [sys.executable, "-I", "-S", "-B", program, shim.CONTAIN, shim.__file__, *argv]


class RunDir:
    """The directory of one process."""

    def __init__(self, runs_dir: Path, process: str, system: System = SYSTEM) -> None:
        """Raises ValueError when `process` is no id: it becomes part of a path."""
        if not _PROCESS.fullmatch(process):
            raise ValueError(f"{process!r} is no process id")
        self.process = process
        self.path = runs_dir / process
        self._system = system

    def file(self, name: str) -> Path:
        """The path of one of the shim's files."""
        return self.path / name

    # before the start

    def prepare(self, launch: Launch, times: StopTimes, umask: int) -> int:
        """Make the directory with all that the shim needs; returns the lock, held.

        Raises HiveError when a child was started here before; OSError."""
        files.ensure_private_dir(self.path)
        failpoint.hit("run_dir_made")
        lock = self.take_lock()
        try:
            self._clear()
            for name, data in launch.files.items():
                self._write(_checked_name(name), data)
            self._write(shim.SPEC, shim.pack(self._spec(launch, times)))
            self._write(shim.LAUNCH, self._launch(launch, umask))
        except BaseException:
            os.close(lock)
            raise
        return lock

    def take_lock(self) -> int:
        """The lock, without waiting. Raises HiveError when a shim lives here."""
        try:
            return files.acquire_lock(self.file(shim.LOCK))
        except files.LockHeld:
            raise HiveError("INVALID_STATE", f"process {self.process} runs already") from None

    def _clear(self) -> None:
        """Remove what a start that came to nothing has left."""
        if self.file(shim.SHIM).exists() or self.file(shim.EXIT).exists():
            raise HiveError("INVALID_STATE", f"process {self.process} was started before")
        for entry in self.path.iterdir():
            if entry.name != shim.LOCK:
                entry.unlink()

    def _write(self, name: str, data: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(self.file(name), flags, 0o600)
        try:
            files.write_all(fd, data)
        finally:
            os.close(fd)

    def _spec(self, launch: Launch, times: StopTimes) -> dict[str, object]:
        def limit(value: float | None) -> object:
            return "-" if value is None else value

        return {
            "version": shim.VERSION,
            "system": self._system.name,
            "boot": self._system.boot_id(),
            "mark": launch.mark,
            "interrupt": launch.interrupt_frame.hex(),
            "deadline": limit(launch.deadline_s),
            "no_output": limit(launch.no_output_s),
            "hang": limit(launch.hang_s),
            "linger": launch.linger_s,
            "keep": int(launch.keep_descendants),
            "max_output": limit(launch.max_output_bytes),
            "rung_interrupt": times.interrupt_s,
            "rung_close": times.close_s,
            "rung_term": times.term_s,
        }

    def _launch(self, launch: Launch, umask: int) -> bytes:
        def place(value: str) -> str:
            if value.startswith(RUN_DIR):
                return f"{self.path}/{value[len(RUN_DIR) :]}"
            flag, equals, rest = value.partition("=")
            if equals and flag.startswith("--") and rest.startswith(RUN_DIR):
                return f"{flag}={self.path}/{rest[len(RUN_DIR) :]}"
            return value

        argv = [os.fsencode(place(item)) for item in launch.argv]
        env = {**launch.env, MARK: launch.mark}
        pairs = {os.fsencode(key): os.fsencode(place(value)) for key, value in env.items()}
        cwd = os.fsencode(launch.cwd)
        if any(b"\0" in part for part in [*argv, *pairs, *pairs.values(), cwd]):
            raise ValueError("an argument, a variable or the directory holds a NUL")
        return shim.pack_launch(argv, pairs, cwd, umask)

    def make_pipes(self) -> dict[str, int]:
        """Make the FIFOs and hold them from before the start, so that nothing is lost with the shim.

        Of stdin a write end only: with a read end of ours a child that is gone would not be noticed.
        Raises OSError."""
        held: dict[str, int] = {}
        try:
            for name, file in shim.FIFOS.items():
                path = self.file(file)
                os.mkfifo(path, 0o600)
                held[name] = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            both, path = held["in"], self.file(shim.FIFOS["in"])
            held["in"] = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            os.close(both)
        except BaseException:
            for fd in held.values():
                os.close(fd)
            raise
        return held

    def open_pipes(self, *, is_stdin_open: bool) -> dict[str, int]:
        """The same for a child that runs already; without what is gone."""
        held: dict[str, int] = {}
        for name, flags in (("out", os.O_RDWR), ("err", os.O_RDWR), ("in", os.O_WRONLY)):
            if name == "in" and not is_stdin_open:
                continue
            with suppress(OSError):
                path = self.file(shim.FIFOS[name])
                held[name] = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)
        return held

    def spawn(self, lock: int, failpoints: str) -> tuple[int, int]:
        """Start the shim with the lock; (its pid, where it reports). Raises OSError."""
        report_r, report_w = os.pipe()
        try:
            log = os.fspath(self.file(shim.SHIM_LOG))
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
            # moved out of the way first: the numbers 0 to 3 may be in use by what is to be moved there
            source_lock = fcntl.fcntl(lock, fcntl.F_DUPFD_CLOEXEC, 10)
            source_report = -1
            try:
                source_report = fcntl.fcntl(report_w, fcntl.F_DUPFD_CLOEXEC, 10)
                pid = os.posix_spawn(
                    sys.executable,
                    [sys.executable, "-I", "-S", "-B", *shim_words(os.fspath(self.path))],
                    {"HIVECTL_FAILPOINT": failpoints} if failpoints else {},
                    file_actions=[
                        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
                        (os.POSIX_SPAWN_DUP2, source_report, 1),
                        (os.POSIX_SPAWN_OPEN, 2, log, flags, 0o600),
                        (os.POSIX_SPAWN_DUP2, source_lock, shim.LOCK_FD),
                    ],
                    setsid=self._system.spawns_sessions,  # else the shim does it alone
                    setsigmask=[],
                    setsigdef=[signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP],
                )
            finally:
                os.close(source_lock)
                if source_report >= 0:
                    os.close(source_report)
        except BaseException:
            os.close(report_r)
            raise
        finally:
            os.close(report_w)
        os.set_blocking(report_r, False)
        return pid, report_r

    # afterwards

    def is_locked(self) -> bool:
        """Whether a shim lives here."""
        return files.is_locked(self.file(shim.LOCK))

    def read_fields(self, name: str) -> dict[str, str] | None:
        """One of the shim's small files; None when it is missing or torn."""
        try:
            return shim.unpack(self.file(name).read_bytes())
        except (OSError, ValueError):
            return None

    def read_record(self) -> Record | None:
        """What the shim put on record, if it came so far."""
        fields = self.read_fields(shim.SHIM)
        if fields is None:
            return None
        return Record(
            fields["boot"],
            int(fields["shim"]),
            fields["shim_start"],
            int(fields["child"]),
            fields["child_start"],
        )

    def read_exit(self) -> Exit | None:
        """How the process ended, if that was written."""
        fields = self.read_fields(shim.EXIT)
        return None if fields is None else parse_exit(fields)

    def write_exit(self, fields: dict[str, object]) -> None:
        """Write the exit file in a lost shim's place. Raises OSError."""
        whole = shim.pack(fields).ljust(shim.EXIT_BYTES, b"\n")
        new = self.file(shim.EXIT_NEW)  # the shim has preallocated it, for a full disk
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            shim.publish(fd, os.fspath(new), os.fspath(self.file(shim.EXIT)), whole)
        finally:
            os.close(fd)
        for name in (shim.SOCKET, shim.EXIT_NEW, *shim.FIFOS.values()):
            self.file(name).unlink(missing_ok=True)

    def write_lost(self) -> Exit:
        """Put on record that the machine went down with this process. Raises OSError."""
        sizes = []
        for name in shim.SPOOLS.values():
            path = self.file(name)
            sizes.append(path.stat().st_size if path.exists() else 0)
        ended = replace(LOST, host_rebooted=True, out_bytes=sizes[0], err_bytes=sizes[1])
        self.write_exit(build_exit(ended))
        return ended

    def tail_of_log(self) -> str:
        """The last the shim said about a fault of its own."""
        try:
            return self.file(shim.SHIM_LOG).read_bytes()[-500:].decode(errors="replace").strip()
        except OSError:
            return ""

    def remove(self) -> None:
        """Delete the directory. Raises HiveError when a shim lives in it."""
        if self.is_locked():
            raise HiveError("INVALID_STATE", f"process {self.process} still runs")
        gone = self.path.with_name(self.process + GONE)
        with suppress(FileNotFoundError):
            shutil.rmtree(gone)
        with suppress(FileNotFoundError):
            # under another name first: half a directory must not be taken for a process that was lost
            self.path.rename(gone)
            shutil.rmtree(gone)


def parse_exit(fields: dict[str, str]) -> Exit:
    """An exit file's fields as the port gives them."""

    def number(key: str) -> int | None:
        return None if fields[key] == "-" else int(fields[key])

    return Exit(
        reason=StopReason(fields["reason"]),
        code=number("code"),
        signal=number("signal"),
        out_bytes=int(fields["out"]),
        err_bytes=int(fields["err"]),
        out_unflushed=fields["unflushed"] == "1",
        swept=int(fields["swept"]),
        denied=int(fields["denied"]),
        shim_lost=fields["shim_lost"] == "1",
        host_rebooted=fields.get("rebooted") == "1",
        rungs=() if fields["rungs"] == "-" else tuple(fields["rungs"].split(",")),
    )


def _checked_name(name: str) -> str:
    if name in shim.RESERVED or not _PLAIN_NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of a private file")
    return name


LOST = Exit(reason=StopReason.EXITED, shim_lost=True)
"""Nothing is known of the end."""


def build_exit(ended: Exit) -> dict[str, object]:
    """An exit file's fields, for `parse_exit`."""
    return {
        "version": shim.VERSION,
        "reason": str(ended.reason),
        "code": "-" if ended.code is None else ended.code,
        "signal": "-" if ended.signal is None else ended.signal,
        "out": ended.out_bytes,
        "err": ended.err_bytes,
        "unflushed": int(ended.out_unflushed),
        "swept": ended.swept,
        "denied": ended.denied,
        "rungs": ",".join(ended.rungs) or "-",
        "shim_lost": int(ended.shim_lost),
        "rebooted": int(ended.host_rebooted),
    }


def start_error(stage: str, code: int, launch: Launch) -> HiveError:
    """What a failed start is called."""
    name = errno.errorcode.get(code, str(code))
    if code in _FULL:
        return HiveError("STORAGE_FULL", f"no room to start {launch.argv[0]}: {os.strerror(code)}")
    reason, message = _reason(stage, code, launch)
    return HiveError(
        "SPAWN_FAILED",
        message,
        details={"reason": reason, "errno": name, "stage": stage, "program": launch.argv[0]},
    )


def _reason(stage: str, code: int, launch: Launch) -> tuple[str, str]:
    program, text = launch.argv[0], os.strerror(code)
    if stage == "chdir":
        return "cwd", f"the directory {launch.cwd} cannot be entered: {text}"
    if stage == "exec":
        if code == errno.ENOENT and Path(program).exists():
            return (
                "bad_interpreter",
                f"the interpreter named in the first line of {program} is missing",
            )
        if code == errno.ENOENT:
            return "not_found", f"{program} does not exist"
        if code in (errno.EACCES, errno.EPERM):
            return "not_executable", f"{program} may not be executed: {text}"
        if code == errno.ENOEXEC:
            return "not_executable", f"{program} is no program and has no interpreter line"
    reasons = {
        errno.EMFILE: "too_many_files",
        errno.ENFILE: "too_many_files",
        errno.ENOMEM: "no_memory",
        errno.EAGAIN: "too_many_processes",
        errno.E2BIG: "arguments_too_long",
    }
    return reasons.get(code, "other"), f"{program} could not be started ({stage}): {text}"
