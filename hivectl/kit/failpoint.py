"""Named places where a test may break the program: `HIVECTL_FAILPOINT=name[@n]:kill|error=ENOSPC|sleep=ms[,...]`.

Off (one dictionary look-up in an empty dictionary) unless configured. `@n` strikes at the n-th passage
only; without it every passage is struck. NAMES is the one table; the shim carries its own few names.
"""

from __future__ import annotations

import errno
import os
import signal
import time
from dataclasses import dataclass

NAMES: dict[str, str] = {
    "run_dir_made": "after the process directory was made, before the shim is started",
    "shim_forked": "after the shim was started, before its first answer",
    "enqueue_before_commit": "before the transaction that accepts a prompt commits",
    "enqueue_after_commit": "after it committed, before its events are in the log",
    "claim_after_commit": "after a work order was claimed, before its process is started",
    "taken_over": "after an execution was given a warm process, before that hears the prompt",
    "parked": "after a process was left warm, before the end of its execution is stored",
    "approval_after_commit": "after an approval was stored, before its events are in the log",
    "decision_after_commit": "after a decision was stored, before Claude hears of it",
    "resume_after_commit": "after an answered execution got a slot again, before Claude hears the answer",
    "log_between_data_and_index": "between the write of log lines and the write of their index",
    "log_write": "before the write of log lines",
    "log_roll": "in the middle of starting a new log segment",
    "log_compress_before_rename": "between compressing a segment and giving it its name",
    "exit_seen": "after the end of a process was seen, before it is stored",
    "end_after_commit": "after the end of an execution was stored, before its events are in the log",
    "worktree_before_add": "after it was stored what a worktree is made from, before git makes it",
    "worktree_after_add": "after git made a worktree, before it is stored as ready",
    "accept_committed": "after the changes of a worktree were committed onto its branch, before that is stored",
    "accept_before_merge": "after it was stored what is merged, before the project's branch moves",
    "accept_merged": "after the project's branch has moved, before that is stored",
    "worktree_before_remove": "before the directory of an accepted or discarded worktree is removed",
    "worktree_removed": "after directory and branch are gone, before that is stored",
    "store_commit": "before any commit of the database",
}

SHIM_NAMES: dict[str, str] = {
    "shim_start": "before the shim starts its child",
    "shim_splice": "before the shim moves output to the spool",
    "shim_exit": "before the shim writes how its child ended",
}


@dataclass(slots=True)
class _Strike:
    action: str
    argument: str
    at: int
    passages: int = 0


_strikes: dict[str, _Strike] = {}


def configure(text: str) -> None:
    """Set the failpoints of this process. Raises ValueError for an unknown name or action."""
    _strikes.clear()
    for item in filter(None, (part.strip() for part in text.split(","))):
        target, _, what = item.partition(":")
        name, _, count = target.partition("@")
        action, _, argument = what.partition("=")
        if name not in NAMES and name not in SHIM_NAMES:
            raise ValueError(
                f"unknown failpoint {name!r}; known: {', '.join([*NAMES, *SHIM_NAMES])}"
            )
        if action not in {"kill", "error", "sleep"}:
            raise ValueError(
                f"failpoint {name}: unknown action {action!r}; use kill, error=NAME or sleep=ms"
            )
        if action == "error" and not hasattr(errno, argument):
            raise ValueError(f"failpoint {name}: unknown error {argument!r}")
        _strikes[name] = _Strike(action, argument, int(count or 0))


def hit(name: str) -> None:
    """Pass the place `name`: nothing, or what was configured for it."""
    strike = _strikes.get(name)
    if strike is None:
        return
    strike.passages += 1
    if strike.at and strike.passages != strike.at:
        return
    if strike.action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if strike.action == "sleep":
        time.sleep(int(strike.argument) / 1000)
        return
    code = getattr(errno, strike.argument)
    raise OSError(code, f"failpoint {name}: {os.strerror(code)}")
