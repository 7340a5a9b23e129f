"""Worktrees: a git working tree and branch of its own for one work order, and how its changes come home.

A third state machine beside those of executions and work orders. The row is committed before git is
touched, and each step after it, so that whatever a crash leaves can be told and mended.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class WorktreeState(StrEnum):
    """Where a worktree stands.

    CREATING: wanted, perhaps half made. READY: it is there. ACCEPTING and DISCARDING: on its way out; a
    start finishes or takes back what a crash cut short. BROKEN: git cannot use it; a person must look."""

    CREATING = "creating"
    READY = "ready"
    ACCEPTING = "accepting"
    DISCARDING = "discarding"
    BROKEN = "broken"
    ACCEPTED = "accepted"
    DISCARDED = "discarded"


_S = WorktreeState

WORKTREE_MOVES: dict[WorktreeState, frozenset[WorktreeState]] = {
    _S.CREATING: frozenset({_S.READY, _S.BROKEN, _S.DISCARDED}),
    _S.READY: frozenset({_S.ACCEPTING, _S.DISCARDING, _S.BROKEN}),
    _S.ACCEPTING: frozenset({_S.READY, _S.BROKEN, _S.ACCEPTED}),
    _S.DISCARDING: frozenset({_S.READY, _S.BROKEN, _S.DISCARDED}),
    _S.BROKEN: frozenset({_S.READY, _S.DISCARDING, _S.DISCARDED}),
    _S.ACCEPTED: frozenset(),
    # A work order that is tried again after that gets a fresh one.
    _S.DISCARDED: frozenset({_S.CREATING}),
}

WORKTREE_ENDS = frozenset({_S.ACCEPTED, _S.DISCARDED})


class AcceptStep(StrEnum):
    """How far an accept has come, as stored before the step is taken.

    COMMITTING: what is uncommitted goes onto the worktree's branch. MERGING: the project's branch is moved
    to `merged`. CLEANING: it was; worktree and branch go."""

    COMMITTING = "committing"
    MERGING = "merging"
    CLEANING = "cleaning"


class Worktree(msgspec.Struct, frozen=True, kw_only=True):
    """A worktree as stored. Times in microseconds since the epoch."""

    id: str
    project: str
    order_id: str
    execution: str
    """The first of its work order; retries go on in the same worktree."""
    path: str
    branch: str
    prefix: str
    """The project's directory below the top of its repository; empty = it is the top."""
    base: str | None
    """The commit it was made from; None until it is being made."""
    programs: str
    """Digest of what the repository's own configuration would run; a change of it is not obeyed."""
    state: WorktreeState
    step: AcceptStep | None
    target: str | None
    """The branch an accept moves, such as refs/heads/main."""
    target_before: str | None
    tip: str | None
    """What was accepted."""
    merged: str | None
    """What the target's branch is moved to."""
    problem: str
    """Why it is broken, or what the last accept was refused for."""
    actor: str
    created_us: int
    changed_us: int

    @property
    def cwd(self) -> str:
        """Where Claude works."""
        return f"{self.path}/{self.prefix}" if self.prefix else self.path

    @property
    def stream(self) -> str:
        """Where its events are."""
        return f"project:{self.project}"


def lane_of(project: str, worktree: str) -> str:
    """The lane of a worktree's executions."""
    return f"{project}/{worktree}"


def worktree_of(lane: str) -> str | None:
    """The worktree a lane stands for; None for the project's own directory."""
    last = lane.rpartition("/")[2]
    return last if last.startswith("wt_") else None
