"""Watching with real processes: what Claude changes is told, retries are followed, a stop is quick."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

from tests.harness.daemon import Daemon
from tests.harness.waiting import eventually

WRITES = {
    "steps": [
        {"text": "let me", "delay_ms": 700},
        {"tool": {"name": "Write", "input": {"file_path": "new.txt", "content": "x"}}},
        {"text": "done", "delay_ms": 300},
    ]
}
HANGS = {"steps": [{"text": "busy"}, {"hang": "end"}]}
FAILS_ONCE = {"steps": [{"error": "500", "retries": 0, "times": 1}, {"text": "at last"}]}


def told(daemon: Daemon, project: str = "web") -> list[Mapping[str, Any]]:
    """The data of all file.changed events of a project."""
    stream = daemon.call("project.get", project=project)["stream"]
    items = daemon.call("get_messages", stream=stream, limit=1000)["items"]
    return [item["data"] for item in items if item["type"] == "file.changed"]


def hivectl(daemon: Daemon, *words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-P", "-m", "hivectl", *words]
    return subprocess.run(
        argv, check=False, env=daemon.env, capture_output=True, text=True, timeout=60
    )


def test_what_claude_writes_is_told_before_the_end(daemon: Daemon) -> None:
    ended = daemon.run(WRITES, options={"permission_mode": "acceptEdits"})
    assert ended["state"] == "completed"
    assert [change for data in told(daemon) for change in data["changes"]] == [
        {"path": "new.txt", "kind": "added"}
    ]


def test_an_adopted_run_is_watched_and_the_daemon_ends_at_once(daemon: Daemon) -> None:
    execution = daemon.execute(HANGS)
    daemon.wait_state(execution, "running")
    begun = time.monotonic()
    daemon.stop(runs="keep")
    assert time.monotonic() - begun < 3
    daemon.start()
    place = daemon.root / "projects" / "web" / "by-hand"

    def is_told() -> bool:
        place.write_text(str(time.monotonic()))
        return bool(told(daemon))

    eventually(is_told, within_s=15, what="a change is told")
    daemon.call("kill", execution=execution, mode="kill")


def test_exec_goes_on_through_a_retry_and_ends_with_the_last_attempt(daemon: Daemon) -> None:

    ran = hivectl(daemon, "exec", "web", "--retries", "2", f"mock: {json.dumps(FAILS_ONCE)}")
    assert (ran.returncode, ran.stdout.strip()) == (0, "at last")
    assert "attempt 1 failed (api_error)" in ran.stderr
    assert "attempt 2" in ran.stderr
