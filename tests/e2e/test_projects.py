"""Projects through their life: trust, a changed path, deletion."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import history
from tests.harness.daemon import Daemon, RpcError

Make = Callable[..., Daemon]


def _canaries(daemon: Daemon, name: str = "web") -> Path:
    """Give a project a hook, an MCP server and a variable, each of which leaves a trace when it acts."""
    path = Path(daemon.call("project.get", project=name)["path"])
    (path / ".claude").mkdir(exist_ok=True)
    hook = {"hooks": [{"type": "command", "command": f"touch {path}/hook-ran"}]}
    settings = {"hooks": {"UserPromptSubmit": [hook]}, "env": {"CANARY": "sings"}}
    (path / ".claude" / "settings.json").write_text(json.dumps(settings))
    server = {"command": "sh", "args": ["-c", f"touch {path}/server-ran; sleep 1"]}
    (path / ".mcp.json").write_text(json.dumps({"mcpServers": {"canary": server}}))
    return path


def _traces(daemon: Daemon, path: Path, name: str = "web") -> set[str]:
    """What acted during one run."""
    for trace in ("hook-ran", "server-ran"):
        (path / trace).unlink(missing_ok=True)
    ended = daemon.run({"env": ["CANARY"]}, project=name)
    assert ended["state"] == "completed"
    found = {trace for trace in ("hook-ran", "server-ran") if (path / trace).exists()}
    if json.loads(ended["result"])["values"]["CANARY"] == "sings":
        found.add("variable")
    return found


def test_s25_nothing_an_untrusted_project_brings_runs(daemon: Daemon) -> None:
    path = _canaries(daemon)
    report = daemon.call("project.inspect", project="web")
    assert report["hooks"]
    assert report["mcp_servers"]
    assert _traces(daemon, path) == set()
    assert daemon.call("execution.list")["items"][0]["trusted"] is False


def test_s25_a_trusted_project_brings_what_it_has(daemon: Daemon) -> None:
    path = _canaries(daemon)
    report = daemon.call("project.inspect", project="web")
    project = daemon.call("project.trust", project="web", hash=report["hash"])
    assert project["trust"] == "trusted"
    assert _traces(daemon, path) >= {"hook-ran", "variable"}
    daemon.call("project.untrust", project="web")
    assert _traces(daemon, path) == set()


def test_s25_a_change_after_trust_stops_the_project_until_somebody_looks(daemon: Daemon) -> None:
    path = _canaries(daemon)
    daemon.call("project.trust", project="web")
    hook = {"hooks": [{"type": "command", "command": f"touch {path}/evil-ran"}]}
    settings = {"hooks": {"UserPromptSubmit": [hook]}}
    (path / ".claude" / "settings.json").write_text(json.dumps(settings))
    with pytest.raises(RpcError) as caught:
        daemon.execute("hello")
    assert caught.value.code == "TRUST_CHANGED"
    assert not (path / "evil-ran").exists()
    assert daemon.mock_starts() == []
    daemon.call("project.trust", project="web")
    assert daemon.run("hello")["state"] == "completed"
    assert (path / "evil-ran").exists()


def test_s25_a_change_while_a_prompt_waits_stops_it_before_it_starts(daemon: Daemon) -> None:
    path = _canaries(daemon)
    daemon.call("project.trust", project="web")
    live = daemon.execute({"hang": True})
    daemon.wait_state(live, "running")
    waiting = daemon.execute("later")
    hook = {"hooks": [{"type": "command", "command": f"touch {path}/evil-ran"}]}
    settings = {"hooks": {"UserPromptSubmit": [hook]}}
    (path / ".claude" / "settings.json").write_text(json.dumps(settings))
    daemon.call("kill", execution=live, mode="kill")
    ended = daemon.wait(waiting)
    assert (ended["state"], ended["cause"]) == ("failed", "spawn_failed")
    assert "trusted" in ended["message"]
    assert not (path / "evil-ran").exists()


def test_s25_trust_is_given_to_what_was_looked_at(daemon: Daemon) -> None:
    path = _canaries(daemon)
    report = daemon.call("project.inspect", project="web")
    (path / ".mcp.json").write_text('{"mcpServers": {}}')
    with pytest.raises(RpcError) as caught:
        daemon.call("project.trust", project="web", hash=report["hash"])
    assert caught.value.code == "TRUST_CHANGED"


def test_a_directory_that_is_gone_puts_the_project_in_error_until_it_is_moved(
    daemon: Daemon,
) -> None:
    path = Path(daemon.call("project.get", project="web")["path"])
    moved = path.with_name("moved")
    path.rename(moved)
    with pytest.raises(RpcError) as caught:
        daemon.execute("hello")
    assert caught.value.code == "PATH_CHANGED"
    assert daemon.call("project.get", project="web")["state"] == "error"
    project = daemon.call("project.update", project="web", path=str(moved))
    assert (project["path"], project["error"], project["state"]) == (str(moved), None, "idle")
    assert daemon.run("hello")["state"] == "completed"


def test_another_directory_at_the_same_path_is_not_the_project(daemon: Daemon) -> None:
    path = Path(daemon.call("project.get", project="web")["path"])
    path.rename(path.with_name("old"))
    path.mkdir()
    with pytest.raises(RpcError) as caught:
        daemon.execute("hello")
    assert caught.value.code == "PATH_CHANGED"


def test_a_deleted_project_keeps_its_directory_and_loses_its_runs(daemon: Daemon) -> None:
    path = Path(daemon.call("project.get", project="web")["path"])
    (path / "mine.txt").write_text("keep me")
    live = daemon.execute({"hang": True})
    daemon.wait_state(live, "running")
    with pytest.raises(RpcError) as caught:
        daemon.call("project.delete", project="web")
    assert caught.value.code == "PROJECT_BUSY"
    daemon.call("project.delete", project="web", force=True)
    assert (path / "mine.txt").read_text() == "keep me"
    assert not daemon.shims()
    with pytest.raises(RpcError) as caught:
        daemon.execute("hello")
    assert caught.value.code == "PROJECT_NOT_FOUND"
    again = daemon.project("web")
    assert daemon.run("hello", project=again["id"])["state"] == "completed"
    daemon.restart()
    assert [p["id"] for p in daemon.call("project.list")["items"]] == [again["id"]]


def test_a_purged_project_leaves_no_log(daemon: Daemon) -> None:
    daemon.run("hello")
    id_ = daemon.call("project.get", project="web")["id"]
    daemon.call("project.delete", project="web", purge=True)
    daemon.restart()
    left = [path for path in (daemon.home / "state" / "log").rglob("*") if id_ in path.name]
    assert left == []


def test_the_log_of_a_project_can_be_read_by_kind_and_text(daemon: Daemon) -> None:
    daemon.run({"text": "the needle is here", "think": True})
    daemon.run("something else")
    found = daemon.call("get_messages", project="web", grep="NEEDLE", types=["message"])["items"]
    assert found
    assert all(event["type"] == "message" for event in found)
    told = history.read(daemon, project="web")
    last = daemon.call("get_messages", project="web", order="desc", limit=3)["items"]
    assert [e["seq"] for e in last] == [e["seq"] for e in reversed(told.events[-3:])]
    prompts = daemon.call("get_messages", project="web", direction="in")["items"]
    assert {e["data"]["kind"] for e in prompts} >= {"prompt"}
