"""Worktrees in SQL: the table of states, and what comes with a work order."""

import pytest

from hivectl.kit.ids import make_id
from hivectl.model.errors import HiveError
from hivectl.model.worktree import (
    WORKTREE_ENDS,
    WORKTREE_MOVES,
    WorktreeState,
    lane_of,
    worktree_of,
)
from hivectl.store import queue, work, worktrees
from tests.unit.store.test_work import bench

__all__ = ["bench"]


def wanted(limit=20):
    id_ = make_id("wt")
    return worktrees.Wanted(
        id=id_, path=f"/w/{id_}", branch=f"hivectl/{id_[-8:]}", prefix="", limit=limit
    )


def test_every_state_has_a_row_and_what_is_accepted_stays_so():
    assert set(WORKTREE_MOVES) == set(WorktreeState)
    assert not WORKTREE_MOVES[WorktreeState.ACCEPTED]
    assert {WorktreeState.ACCEPTED, WorktreeState.DISCARDED} == WORKTREE_ENDS


def test_a_lane_tells_its_worktree():
    assert worktree_of(lane_of("p_1", "wt_2")) == "wt_2"
    assert worktree_of("p_1") is None
    assert worktree_of("p_1@some/pool") is None


@pytest.mark.parametrize("before", WorktreeState)
@pytest.mark.parametrize("to", WorktreeState)
async def test_only_the_moves_of_the_table_are_made(bench, before, to):
    project, tree = await bench.project(), wanted()
    await bench.enqueue(project, worktree=tree)
    await bench.db.write(
        lambda tx: tx.run("UPDATE worktrees SET state = ? WHERE id = ?", before, tree.id)
    )

    def move(tx):
        return worktrees.move(tx, worktrees.find(tx, tree.id), to)

    if to in WORKTREE_MOVES[before]:
        assert (await bench.db.write(move)).state is to
    else:
        with pytest.raises(HiveError, match="cannot become") as caught:
            await bench.db.write(move)
        assert caught.value.code == "INVALID_STATE"


async def test_worktrees_run_beside_each_other_and_beside_the_project(bench):
    project = await bench.project()
    for tree in (None, wanted(), wanted()):
        await bench.enqueue(project, worktree=tree)
    claimed = [await bench.claim() for _ in range(3)]
    assert None not in claimed
    assert len({execution.lane for execution in claimed}) == 3


async def test_a_paused_project_pauses_its_worktrees(bench):
    project = await bench.project()
    await bench.db.write(
        lambda tx: queue.pause(tx, project.id, reason="", actor="user:t", request="r")
    )
    await bench.enqueue(project, worktree=wanted())
    assert await bench.claim() is None


async def test_the_limit_counts_what_is_open(bench):
    project = await bench.project()
    first = wanted(limit=1)
    execution, _ = await bench.enqueue(project, worktree=first)
    with pytest.raises(HiveError) as caught:
        await bench.enqueue(project, worktree=wanted(limit=1))
    assert caught.value.details["limit"] == "worktree.max_per_project"
    await bench.db.write(
        lambda tx: work.want_stop(tx, execution.id, mode="kill", reason="user", by="user:t")
    )
    await bench.enqueue(project, worktree=wanted(limit=1))


async def test_who_moves_it_must_have_seen_its_state(bench):
    project, tree = await bench.project(), wanted()
    await bench.enqueue(project, worktree=tree)
    seen = await bench.db.write(lambda tx: worktrees.find(tx, tree.id))
    await bench.db.write(lambda tx: worktrees.move(tx, seen, WorktreeState.READY))
    with pytest.raises(HiveError, match="no longer"):
        await bench.db.write(lambda tx: worktrees.move(tx, seen, WorktreeState.READY))
