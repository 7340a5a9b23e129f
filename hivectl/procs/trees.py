"""Finding processes that are nobody's children any more, and signalling them without mistaking one.

Needed only when a shim was lost: it alone cares for all of a child's descendants. What is found here
carries the execution's mark in its environment or descends from the child by parent links; a process
that both left its parents and cleared its environment is not found.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from hivectl.procs import shim
from hivectl.procs.shim import SYSTEM

if TYPE_CHECKING:
    from hivectl.procs.shim import System


def has_mark(pid: int, mark: str, system: System = SYSTEM) -> bool:
    """Whether a process was started with HIVECTL_EXECUTION=`mark`."""
    with suppress(OSError):
        return f"{shim.MARK}={mark}".encode() in system.environment(pid)
    return False


def find_marked(mark: str, system: System = SYSTEM) -> set[int]:
    """Living processes that carry the mark, this one never."""
    return {pid for pid in system.pids() if pid != os.getpid() and has_mark(pid, mark, system)}


def find_below(pid: int, system: System = SYSTEM) -> set[int]:
    """Descendants by parent links, as they stand at this moment."""
    found: set[int] = set()
    todo = [pid]
    while todo:
        for child in system.children(todo.pop()):
            if child not in found:
                found.add(child)
                todo.append(child)
    return found


Named = tuple[int, str]
"""A pid and its start time: one process for ever."""


def kill_all(
    pids: Iterable[int], mark: str, *, below: Iterable[int] = (), system: System = SYSTEM
) -> tuple[set[Named], set[Named]]:
    """SIGKILL to each of `pids` that still carries the mark and each of `below` that is still the same.

    Returns who was signalled and who belongs to another user."""
    killed: set[Named] = set()
    denied: set[Named] = set()
    trusted = set(below)
    for pid in {*pids, *trusted}:
        started = system.start_of(pid)
        held = system.hold(pid, started)
        if held is None:
            continue
        try:
            if pid not in trusted and not has_mark(pid, mark, system):
                continue
            held.signal(signal.SIGKILL)
            killed.add((pid, started))
        except PermissionError:
            denied.add((pid, started))
        except ProcessLookupError:
            pass
        finally:
            held.close()
    return killed, denied
