"""Several prompts at once in one project, and how their changes come home."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.harness.daemon import Daemon, RpcError
from tests.harness.repo import Repo
from tests.harness.waiting import eventually

TOOLS = {"allowed_tools": ["Bash", "Write"]}


@pytest.fixture
def repo(daemon: Daemon) -> Repo:
    """The project `web` as a repository."""
    return Repo(daemon.root / "projects" / "web")


def writes(path: str, text: str, **more: Any) -> dict[str, Any]:
    return {"tool": {"name": "Write", "input": {"file_path": path, "content": text}}, **more}


def beside(daemon: Daemon, prompt: dict[str, Any], **params: Any) -> str:
    return daemon.execute(prompt, worktree=True, options=TOOLS, **params)


def cli(daemon: Daemon, *words: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hivectl", *words],
        env=daemon.env, cwd=cwd or daemon.root, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def refusal(daemon: Daemon, method: str, **params: Any) -> RpcError:
    with pytest.raises(RpcError) as caught:
        daemon.call(method, **params)
    return caught.value


def test_several_run_at_once_beside_the_project_itself(daemon: Daemon, repo: Repo) -> None:
    daemon.call("worker.scale", slots=3)
    own = daemon.execute({"hang": True})
    runs = [beside(daemon, {"hang": True}) for _ in range(2)]
    for execution in (own, *runs):
        daemon.wait_state(execution, "running")
    places = {daemon.get(execution)["worktree"] for execution in (own, *runs)}
    assert len(places) == 3
    assert None in places
    daemon.call("kill", project="web", mode="kill")
    daemon.call("worker.scale", slots=None)


def test_changes_are_shown_and_accepted_and_nothing_is_left(daemon: Daemon, repo: Repo) -> None:
    execution = beside(
        daemon, {"steps": [writes("new.txt", "n\n"), {"tool": {"name": "Bash", "input": {"command": "echo two >> a.txt"}}}]}
    )  # fmt: skip
    assert daemon.wait(execution)["state"] == "completed"
    assert repo.status == []
    shown = cli(daemon, "execution", "diff", execution)
    assert "+two" in shown.stdout
    assert "+n" in shown.stdout
    applies = subprocess.run(
        ["git", "apply", "--check", "-"], input=shown.stdout, text=True, cwd=repo.path, check=False
    )
    assert applies.returncode == 0
    assert cli(daemon, "execution", "diff", execution, "--stat").stdout.splitlines() == [
        "M  a.txt  +1 -0",
        "A  new.txt  +1 -0",
        "2 files, +2 -0",
    ]
    assert execution in cli(daemon, "worktree", "list").stdout
    done = cli(daemon, "execution", "accept", execution, "-m", "as wished")
    assert done.returncode == 0, done.stderr
    assert repo.git("log", "-1", "--format=%s") == "as wished"
    assert (repo.path / "a.txt").read_text() == "one\ntwo\n"
    assert repo.branches == ["main"]
    assert not list((daemon.home / "worktrees").rglob("*"))
    assert "no worktrees" in cli(daemon, "worktree", "list").stderr


def test_the_projects_conversation_does_not_change_hands(daemon: Daemon, repo: Repo) -> None:
    first = daemon.run({"text": "hi"})
    other = daemon.wait(beside(daemon, {"text": "ho"}))
    assert other["session"] != first["session"]
    assert daemon.call("project.get", project="web")["session"] == first["session"]
    copy = daemon.wait(beside(daemon, {"memory": True}, session=first["session"]))
    assert copy["session"] not in (first["session"], other["session"])
    assert daemon.run({"text": "again"})["session"] == first["session"]


def test_claude_may_read_what_lies_in_its_worktree(daemon: Daemon, repo: Repo) -> None:
    execution = beside(daemon, {"tool": {"name": "Read", "input": {"file_path": "a.txt"}}})
    assert daemon.wait(execution)["state"] == "completed"
    page = daemon.call("get_messages", project="web", execution=execution, limit=100)
    results = [e["data"]["raw"] for e in page["items"] if e["data"].get("kind") == "user"]
    assert '"is_error": true' not in json.dumps(results)
    assert "one" in json.dumps(results)


def test_what_would_be_lost_is_not_discarded_unless_forced(daemon: Daemon, repo: Repo) -> None:
    execution = beside(daemon, writes("new.txt", "n\n"))
    daemon.wait(execution)
    assert refusal(daemon, "execution.discard", execution=execution).code == "UNSAVED_WORK"
    assert cli(daemon, "execution", "discard", execution).returncode == 6
    assert cli(daemon, "execution", "discard", "--force", execution).returncode == 0
    assert repo.branches == ["main"]
    assert refusal(daemon, "execution.diff", execution=execution).code == "WORKTREE_NOT_FOUND"


def test_two_that_conflict_leave_the_second_whole(daemon: Daemon, repo: Repo) -> None:
    runs = [beside(daemon, writes("a.txt", f"{name}\n")) for name in ("first", "second")]
    for execution in runs:
        daemon.wait(execution)
    daemon.call("execution.accept", execution=runs[0])
    before = repo.state()
    error = refusal(daemon, "execution.accept", execution=runs[1])
    assert error.code == "MERGE_CONFLICT"
    assert error.data["details"]["files"] == ["a.txt"]
    assert repo.state() == before
    assert "+second" in daemon.call("execution.diff", execution=runs[1])["patch"]


def test_a_project_that_is_no_repository_is_refused_at_once(daemon: Daemon) -> None:
    error = refusal(daemon, "execute", project="web", prompt="x", worktree=True)
    assert error.code == "WORKTREE_UNAVAILABLE"
    assert error.data["details"]["reason"] == "not_a_repository"
    assert refusal(daemon, "execution.diff", execution=daemon.run("x")["execution"]).code == "WORKTREE_NOT_FOUND"  # fmt: skip


def test_s32_a_project_inside_a_repository_that_is_not_for_claude_has_no_worktrees(
    daemon: Daemon,
) -> None:
    home = daemon.root / "user"
    (home / "notes").mkdir()
    repo = Repo(home)
    repo.commit({"notes/n.txt": "n\n", "private.txt": "p\n"})
    daemon.call("project.create", path=str(home / "notes"), name="notes")
    error = refusal(daemon, "execute", project="notes", prompt="x", worktree=True)
    assert error.data["details"]["reason"] == "repository_not_allowed"
    shutil.rmtree(home / ".git")
    shutil.rmtree(home / "notes")


def test_a_file_of_prompts_runs_side_by_side(daemon: Daemon, repo: Repo) -> None:
    (daemon.root / "prompts").write_text("one\ntwo\n")
    done = cli(daemon, "run", "--worktree", "-p", "web", str(daemon.root / "prompts"))
    assert done.returncode == 0, done.stderr
    assert len(daemon.call("worktree.list")["items"]) == 2


def test_s32_a_worktree_is_no_project(daemon: Daemon, repo: Repo) -> None:
    execution = beside(daemon, {"text": "x"})
    daemon.wait(execution)
    path = daemon.call("execution.diff", execution=execution)["worktree"]["path"]
    for place in (path, str(Path(path).parent)):
        assert refusal(daemon, "project.create", path=place).code == "INVALID_PATH"
        error = refusal(daemon, "execute", project="web", prompt="x", options={"add_dirs": [place]})
        assert error.code == "PATH_NOT_ALLOWED"


def test_s25_a_commit_that_brings_more_than_was_trusted_is_refused(
    daemon: Daemon, repo: Repo
) -> None:
    trace = daemon.root / "hook-ran"
    hook = {"hooks": [{"type": "command", "command": f"touch {trace}"}]}
    repo.commit({".claude/settings.json": json.dumps({"hooks": {"UserPromptSubmit": [hook]}})})
    (repo.path / ".claude/settings.json").write_text("{}")  # what is looked at and trusted
    daemon.call("project.trust", project="web")
    ended = daemon.wait(beside(daemon, {"text": "x"}))
    assert (ended["state"], ended["cause"]) == ("failed", "spawn_failed")
    assert ".claude/settings.json" in ended["message"]
    assert not trace.exists()
    assert repo.branches == ["main"]
    assert daemon.call("project.get", project="web")["trust"] == "trusted"
    repo.commit({}, "as trusted")
    assert daemon.wait(beside(daemon, {"text": "x"}))["trusted"] is True


def test_a_run_cannot_accept_its_own_work(daemon: Daemon, repo: Repo) -> None:
    execution = beside(daemon, writes("new.txt", "n\n"))
    daemon.wait(execution)
    command = f"HIVECTL_HOME={daemon.home} {sys.executable} -m hivectl execution accept {execution} 2>&1 | tail -5; true"  # fmt: skip
    daemon.run({"tool": {"name": "Bash", "input": {"command": command}}}, options=TOOLS)
    assert repo.git("log", "-1", "--format=%s") == "first"
    assert daemon.call("worktree.list")["items"][0]["state"] == "ready"


def test_a_project_with_worktrees_is_deleted_only_on_purpose(daemon: Daemon, repo: Repo) -> None:
    held, clean = beside(daemon, writes("new.txt", "n\n")), beside(daemon, {"text": "x"})
    for execution in (held, clean):
        daemon.wait(execution)
    assert refusal(daemon, "project.delete", project="web").code == "UNSAVED_WORK"
    kept = daemon.call("project.delete", project="web", force=True)["kept"]
    assert len(kept) == 1
    assert (Path(kept[0]) / "new.txt").exists()
    found = json.loads(cli(daemon, "doctor", "--json").stdout)
    left = [check for check in found["checks"] if check["name"] == "worktree left"]
    assert kept[0] in left[0]["message"]
    assert str(repo.path) in left[0]["hint"]
    subprocess.run(
        ["git", "-C", str(repo.path), "worktree", "remove", "--force", kept[0]], check=True
    )


def test_a_cancelled_prompt_leaves_no_worktree(daemon: Daemon, repo: Repo) -> None:
    daemon.call("queue.pause", project="web")
    execution = beside(daemon, {"text": "x"})
    assert daemon.get(execution)["state"] == "pending"
    daemon.call("kill", execution=execution)
    daemon.call("queue.resume", project="web")
    assert daemon.call("worktree.list")["items"] == []
    assert repo.branches == ["main"]


def test_events_tell_of_a_worktrees_life(daemon: Daemon, repo: Repo) -> None:
    execution = beside(daemon, writes("n.txt", "n\n"))
    daemon.wait(execution)
    daemon.call("execution.accept", execution=execution)

    def states() -> list[str]:
        page = daemon.call("get_messages", project="web", types=["worktree.state"], limit=100)
        return [event["data"]["state"] for event in page["items"]]

    eventually(
        lambda: states() == ["creating", "ready", "accepting", "accepted"], what="the events"
    )


def test_ps_shows_which_runs_are_in_a_worktree(daemon: Daemon, repo: Repo) -> None:
    execution = beside(daemon, {"hang": True})
    daemon.wait_state(execution, "running")
    worktree = daemon.get(execution)["worktree"]
    assert f"web+{worktree[-8:]}" in cli(daemon, "ps").stdout
    assert refusal(daemon, "execution.accept", execution=execution).code == "INVALID_STATE"
    daemon.call("kill", execution=execution, mode="kill")


def test_the_command_line_says_where_to_look(daemon: Daemon, repo: Repo) -> None:
    done = cli(daemon, "exec", "-p", "web", "--worktree", "hello")
    assert done.returncode == 0, done.stderr
    assert "hivectl execution diff x_" in done.stderr
