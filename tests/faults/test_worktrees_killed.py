"""The daemon is killed at each named place of a worktree's life, and the next start mends what it left."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.harness.daemon import Daemon, DaemonEnded, RpcError
from tests.harness.repo import Repo
from tests.harness.waiting import eventually

Make = Callable[..., Daemon]
OFF = (OSError, http.client.HTTPException, DaemonEnded)
WRITE = {
    "tool": {"name": "Bash", "input": {"command": "echo two >> a.txt; echo n > new.txt"}},
    "text": "written",
}
TOOLS = {"allowed_tools": ["Bash"]}


def doctor(daemon: Daemon) -> list[dict[str, Any]]:
    """What it says of worktrees while no daemon runs."""
    done = subprocess.run(
        [sys.executable, "-m", "hivectl", "doctor", "--json"],
        env=daemon.env, cwd=daemon.root, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = json.loads(done.stdout)["checks"]
    return [check for check in found if check["name"].startswith("worktree")]


def worktree(daemon: Daemon) -> dict[str, Any]:
    (found,) = daemon.call("worktree.list", all=True)["items"]
    return dict(found)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["worktree_before_add", "worktree_after_add"])
def test_killed_while_a_worktree_is_made_it_is_made_anew_and_used(
    make_daemon: Make, place: str
) -> None:
    daemon = make_daemon()
    repo = Repo(daemon.root / "projects" / "web")
    daemon.start(failpoint=f"{place}@1:kill")
    daemon.project()
    execution = daemon.execute(WRITE, worktree=True, options=TOOLS)
    assert daemon.wait_end(20) != 0
    daemon.start()
    assert daemon.wait(execution)["state"] == "completed"
    assert worktree(daemon)["state"] == "ready"
    assert repo.worktrees == 1
    daemon.call("execution.accept", execution=execution)
    assert (repo.path / "a.txt").read_text() == "one\ntwo\n"
    assert repo.branches == ["main"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "is_merged", "told"),
    [
        ("accept_committed", False, True),
        ("accept_before_merge", False, True),
        ("accept_merged", True, True),
        ("worktree_before_remove", True, True),
        ("worktree_removed", True, True),
    ],
)
def test_killed_in_an_accept_it_is_finished_or_taken_back(
    make_daemon: Make, place: str, is_merged: bool, told: bool
) -> None:
    daemon = make_daemon()
    repo = Repo(daemon.root / "projects" / "web")
    daemon.start(failpoint=f"{place}@1:kill")
    daemon.project()
    execution = daemon.execute(WRITE, worktree=True, options=TOOLS)
    daemon.wait(execution)
    with contextlib.suppress(*OFF):
        daemon.call("execution.accept", execution=execution)
    daemon.wait_end(20)
    assert any("cut short" in check["message"] for check in doctor(daemon)) is told
    assert ((repo.path / "a.txt").read_text() == "one\ntwo\n") is is_merged
    daemon.start()
    wanted = "accepted" if is_merged else "ready"
    eventually(lambda: worktree(daemon)["state"] == wanted, what=f"it is {wanted}")
    daemon.call("execution.accept", execution=execution)
    assert (repo.path / "a.txt").read_text() == "one\ntwo\n"
    assert (repo.path / "new.txt").read_text() == "n\n"
    assert repo.status == []
    assert repo.branches == ["main"]
    assert repo.worktrees == 0
    assert repo.git("rev-list", "--count", "HEAD") == "2"
    assert [check["status"] for check in doctor(daemon)] == ["ok"]


@pytest.mark.slow
@pytest.mark.parametrize("place", ["worktree_before_remove", "worktree_removed"])
def test_killed_in_a_discard_it_is_finished(make_daemon: Make, place: str) -> None:
    daemon = make_daemon()
    repo = Repo(daemon.root / "projects" / "web")
    daemon.start(failpoint=f"{place}@1:kill")
    daemon.project()
    execution = daemon.execute(WRITE, worktree=True, options=TOOLS)
    daemon.wait(execution)
    with contextlib.suppress(*OFF):
        daemon.call("execution.discard", execution=execution, force=True)
    daemon.wait_end(20)
    assert "discard" in doctor(daemon)[0]["message"]
    daemon.start()
    eventually(lambda: worktree(daemon)["state"] == "discarded", what="it is discarded")
    assert repo.branches == ["main"]
    assert repo.worktrees == 0
    assert (repo.path / "a.txt").read_text() == "one\n"


@pytest.mark.slow
def test_a_lost_database_brings_worktrees_back_and_runs_nothing_in_the_wrong_place(
    make_daemon: Make,
) -> None:
    daemon = make_daemon()
    repo = Repo(daemon.root / "projects" / "web")
    daemon.start()
    daemon.project()
    done = daemon.execute(WRITE, worktree=True, options=TOOLS)
    daemon.wait(done)
    daemon.call("queue.pause", project="web")
    waits = daemon.execute(WRITE, worktree=True, options=TOOLS)
    daemon.kill()
    for file in (daemon.view / "state").glob("hivectl.db*"):
        file.unlink()
    daemon.start()
    with contextlib.suppress(RpcError):
        daemon.call("queue.resume", project="web")
    assert daemon.wait(waits)["state"] == "completed"
    assert repo.status == []
    assert (repo.path / "a.txt").read_text() == "one\n"
    assert len(daemon.call("worktree.list")["items"]) == 2
    daemon.call("execution.accept", execution=done)
    assert (repo.path / "a.txt").read_text() == "one\ntwo\n"
