"""What the machine offers: each function is one check, a row of (id, status, what, why, next)."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import shutil
import struct
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

from hivectl.kit.system import SYSTEM
from hivectl.procs.shim import SYSTEM as PROCESSES

Row = tuple[str, Literal["ok", "warn", "fail"], str, str, str]

_ASK_S = 5.0
_PIDFD_INFO_BYTES = 64
_PIDFD_GET_INFO = (3 << 30) | (_PIDFD_INFO_BYTES << 16) | (0xFF << 8) | 11
_PIDFD_INFO_EXIT = 1 << 3


def descendants() -> Row:
    """Whether every process a run leaves behind can be found."""
    if not PROCESSES.inherits:
        return (
            "descendants",
            "warn",
            "descendants are found by their parents and their environment",
            "A process that daemonises and drops its environment within a second escapes here.",
            "",
        )
    if Path(f"/proc/self/task/{threading.get_native_id()}/children").exists():
        return ("descendants", "ok", "every descendant of a run can be found and ended", "", "")
    return (
        "descendants",
        "ok",
        "every descendant of a run can be found and ended, a little slower",
        "This kernel has no /proc/<pid>/task/<tid>/children; all processes are scanned instead.",
        "",
    )


def exit_codes() -> Row:
    """Whether the exit code of a run whose supervisor was killed can still be learnt."""
    if _knows_exit_of_reaped():
        return ("exit_codes", "ok", "exit codes survive the loss of a run's supervisor", "", "")
    return (
        "exit_codes",
        "ok",
        "a run whose supervisor process is killed ends as lost, unless Claude gave its result",
        "PIDFD_GET_INFO with exit codes needs Linux 6.15.",
        "",
    )


def _knows_exit_of_reaped() -> bool:
    if SYSTEM.name != "linux":
        return False
    try:
        child = subprocess.Popen(["true"], stdin=subprocess.DEVNULL)  # noqa: S607  any `true` will do
    except OSError:
        return False
    fd = -1
    try:
        fd = os.pidfd_open(child.pid)
        child.wait(_ASK_S)
        info = bytearray(struct.pack("=Q", _PIDFD_INFO_EXIT).ljust(_PIDFD_INFO_BYTES, b"\0"))
        fcntl.ioctl(fd, _PIDFD_GET_INFO, info)
        return bool(struct.unpack_from("=Q", info)[0] & _PIDFD_INFO_EXIT)
    except (OSError, subprocess.TimeoutExpired):
        return False
    finally:
        if fd >= 0:
            os.close(fd)
        child.kill()
        child.wait()


def namespaces() -> Row:
    """Whether unprivileged namespaces work: our own disk-full tests need them, nothing else does."""
    unshare = shutil.which("unshare")
    is_there = False
    if unshare is not None:
        with suppress(OSError, subprocess.TimeoutExpired):
            is_there = (
                subprocess.run(
                    [unshare, "--user", "--map-root-user", "--mount", "true"],
                    check=False,
                    timeout=_ASK_S,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                ).returncode
                == 0
            )
    what = "are available" if is_there else "are not available (only hivectl's own tests use them)"
    return ("namespaces", "ok", f"unprivileged namespaces {what}", "", "")


def fd_limit() -> Row:
    """Whether many runs and connections find enough descriptors."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    shown = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    if hard == resource.RLIM_INFINITY or hard >= 4096:
        return ("fd_limit", "ok", f"open files: at most {shown}", "", "")
    return (
        "fd_limit",
        "warn",
        f"open files: at most {shown}",
        "Each connection and each run needs some; beyond the limit new ones are refused.",
        "Raise the hard limit (`ulimit -Hn`), to 65536 where possible.",
    )


def root() -> Row:
    """Whether everything, Claude included, would run as root."""
    if os.geteuid() != 0:
        return ("root", "ok", f"runs as user {os.geteuid()}", "", "")
    return (
        "root",
        "warn",
        "runs as root, and so does everything Claude starts",
        "In a container that is usual; on a machine of yours any mistake reaches everything.",
        "Outside of containers start the daemon as an ordinary user.",
    )


async def linger(environment: Mapping[str, str]) -> Row:
    """Whether a log-out would end the daemon and all runs."""
    loginctl = shutil.which("loginctl")
    if loginctl is None or not _has_systemd():
        return ("linger", "ok", "no systemd here: a log-out leaves the daemon alone", "", "")
    user = environment.get("USER") or environment.get("LOGNAME") or str(os.getuid())
    answer = await _ask(loginctl, "show-user", user, "--property=Linger", "--value")
    if answer == "yes":
        return ("linger", "ok", "the daemon outlives your log-out (linger is on)", "", "")
    return (
        "linger",
        "warn",
        "a log-out may end the daemon and all runs" if answer == "no" else "linger: not known",
        "systemd ends a user's services at log-out unless lingering is on for the user.",
        f"loginctl enable-linger {user}",
    )


def _has_systemd() -> bool:
    return Path("/run/systemd/system").exists()


async def _ask(*argv: str) -> str:
    try:
        child = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(_ASK_S):
            out, _ = await child.communicate()
            return out.decode(errors="replace").strip()
    except TimeoutError:
        return ""
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
