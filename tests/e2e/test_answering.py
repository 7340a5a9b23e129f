"""Approvals that end by themselves, and what somebody answers in another terminal, with real processes."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyte
import pytest

from hivectl.cli.inbox import SETTLE_S
from tests.harness import history
from tests.harness.daemon import Daemon
from tests.harness.waiting import eventually

Make = Callable[..., Daemon]
WRITE = {"name": "Write", "input": {"file_path": "made.txt", "content": "hello\n"}}
DIRECTIVE = {"steps": [{"permission": WRITE}, {"text": "thanks"}]}


def _decided(daemon: Daemon, approval: dict[str, Any]) -> dict[str, Any]:
    found = eventually(
        lambda: (
            (one := daemon.call("approval.get", id=approval["id"]))["state"] == "decided" and one
        ),
        within_s=20.0,
        what="it decides itself",
    )
    assert isinstance(found, dict)
    return found


def _made(daemon: Daemon) -> Path:
    return Path(daemon.call("project.get", project="web")["path"]) / "made.txt"


@pytest.mark.parametrize("action", ["deny", "allow"])
def test_a_rule_answers_when_nobody_does(daemon: Daemon, action: str) -> None:
    rule = daemon.call("policy.add", action="ask", tool="Write", timeout_s=1.0, on_timeout=action)
    execution = daemon.execute(DIRECTIVE)
    approval = daemon.wait_approval(execution)
    assert approval["expires_at"]
    assert (approval["rule"], approval["on_timeout"]) == (rule["id"], action)
    assert daemon.wait(execution)["state"] == "completed"
    decided = _decided(daemon, approval)
    assert (decided["decision"], decided["timed_out"]) == (action, True)
    assert decided["decided_by"] == f"policy:{rule['id']}"
    assert decided["delivered"]
    assert _made(daemon).exists() is (action == "allow")
    told = history.read(daemon, project="web").check().of_type("approval.decided")
    assert [event["data"]["timed_out"] for event in told] == [True]


def test_an_end_that_passed_while_the_daemon_was_dead_counts_after_its_start(
    make_daemon: Make,
) -> None:
    daemon = make_daemon(settings={"approval.timeout_s": 2.0}).start()
    daemon.project()
    execution = daemon.execute(DIRECTIVE)
    approval = daemon.wait_approval(execution)
    daemon.kill()
    expires = datetime.fromisoformat(approval["expires_at"])
    eventually(lambda: datetime.now(UTC) > expires)
    daemon.start()
    decided = _decided(daemon, approval)
    assert (decided["decision"], decided["decided_by"]) == ("deny", "policy:timeout")
    assert daemon.wait(execution)["result"] == "thanks"
    assert not _made(daemon).exists()
    assert len(daemon.mock_starts()) == 1
    history.read(daemon, project="web").check()


def test_silence_answers_no_question(daemon: Daemon) -> None:
    daemon.call("policy.add", action="ask", tool="*", timeout_s=1.0, on_timeout="allow")
    asked = {"question": "Which?", "header": "W", "multiSelect": False, "options": [{"label": "A", "description": ""}]}  # fmt: skip
    execution = daemon.execute({"steps": [{"ask": [asked]}, {"text": "thanks"}]})
    question = daemon.wait_approval(execution)
    assert question["expires_at"] is None
    daemon.project("later")
    assert daemon.run(DIRECTIVE, "later")["state"] == "completed", (
        "asked later, and answered by silence"
    )
    assert daemon.call("approval.get", id=question["id"])["state"] == "pending"
    daemon.decide(question, answers={"Which?": "A"})
    daemon.wait(execution)


class Shell:
    """`hivectl` in a terminal of its own, with a screen to look at."""

    def __init__(self, daemon: Daemon, *words: str) -> None:
        self.screen = pyte.Screen(120, 40)
        self._stream = pyte.ByteStream(self.screen)
        pid, self.master = pty.fork()
        if pid == 0:
            env = {**daemon.env, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
            os.chdir("/")
            os.execvpe(sys.executable, [sys.executable, "-P", "-m", "hivectl", *words], env)
        self.pid = pid

    def see(self, text: str, within_s: float = 20.0) -> None:
        os.set_blocking(self.master, False)

        def seen() -> bool:
            with suppress(OSError):
                while data := os.read(self.master, 65536):
                    self._stream.feed(data)
            return any(text in line for line in self.screen.display)

        eventually(seen, within_s=within_s, what=f"{text!r} on {self.screen.display}")

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def close(self) -> int:
        with suppress(OSError):
            self.type("\x03")
        _, status = os.waitpid(self.pid, 0)
        os.close(self.master)
        return os.waitstatus_to_exitcode(status)


@pytest.fixture
def shell() -> Iterator[Callable[..., Shell]]:
    opened: list[Shell] = []

    def start(*words: Any) -> Shell:
        opened.append(Shell(*words))
        return opened[-1]

    yield start
    for item in opened:
        with suppress(OSError, ChildProcessError):
            item.close()


def test_asked_here_killed_and_answered_in_a_second_terminal(
    daemon: Daemon, shell: Callable[..., Shell]
) -> None:
    execution = daemon.execute(DIRECTIVE)
    approval = daemon.wait_approval(execution)
    inbox = shell(daemon, "inbox")
    inbox.see("made.txt")
    inbox.see("+hello")
    daemon.kill()
    inbox.see("the daemon is gone")
    daemon.start()
    inbox.see("connected again")
    inbox.see("> low")
    time.sleep(SETTLE_S + 0.1)  # until then it takes no decision, and nothing tells the end of that
    inbox.type("y")
    inbox.see("allowed by user:")
    assert inbox.close() == 0
    assert daemon.wait(execution)["result"] == "thanks"
    assert _made(daemon).read_text() == "hello\n"
    assert daemon.call("approval.get", id=approval["id"])["decided_by"].startswith("user:")
    assert len(daemon.mock_starts()) == 1


def test_two_terminals_see_one_decision(daemon: Daemon, shell: Callable[..., Shell]) -> None:
    execution = daemon.execute(DIRECTIVE)
    daemon.wait_approval(execution)
    here, there = shell(daemon, "inbox"), shell(daemon, "inbox")
    for one in (here, there):
        one.see("+hello")
    time.sleep(SETTLE_S + 0.1)  # until then it takes no decision, and nothing tells the end of that
    here.type("n")
    here.see("why?")
    there.type("y")
    there.see("allowed by user:")
    here.see("allowed by user:")
    here.type("too late\r")
    assert daemon.wait(execution)["state"] == "completed"
    told = history.read(daemon, project="web").check().of_type("approval.decided")
    assert [event["data"]["decision"] for event in told] == ["allow"]


def test_a_night_is_approved_in_one_go(daemon: Daemon) -> None:
    push = {"name": "Bash", "input": {"command": "git push"}}
    low = daemon.execute(DIRECTIVE)
    daemon.project("other")
    high = daemon.execute({"steps": [{"permission": push}, {"text": "x"}]}, "other")
    approvals = [daemon.wait_approval(low), daemon.wait_approval(high)]
    assert [item["risk"] for item in approvals] == ["low", "high"]
    done = subprocess.run(
        [sys.executable, "-P", "-m", "hivectl", "approve", "--all", "--yes"],
        env=daemon.env, cwd="/", capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "left out" in done.stderr
    assert "git push" in done.stderr
    assert daemon.wait(low)["state"] == "completed"
    assert daemon.call("approval.get", id=approvals[1]["id"])["state"] == "pending"
    daemon.decide(approvals[1], "deny")
    daemon.wait(high)
