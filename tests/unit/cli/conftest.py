"""A scripted daemon with one project, and the CLI run inside this process."""

from __future__ import annotations

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from hivectl.cli.main import main
from hivectl.model.errors import HiveError
from hivectl.testing.daemon import FakeDaemon

USAGE = {
    "turns": 2,
    "input_tokens": 1200,
    "output_tokens": 345,
    "cache_read_tokens": 10_000,
    "cache_creation_tokens": 0,
    "cost_usd": 0.0123,
    "duration_ms": 4200,
}
CREATED = "2026-11-21T03:00:00.000000Z"

HEALTH = {
    "status": "degraded", "problems": ["The disk is nearly full: 1.2 GiB are left."], "version": "0.1.0",
    "protocol": 1, "node": "here", "pid": 4711, "uptime_s": 7200.0, "home": "/h", "socket": "/run/hivectl/api.sock",
    "tcp": "127.0.0.1:4483", "cpu_percent": 1.5, "rss_bytes": 52_000_000, "loop_lag_ms": 0.3,
    "disk": {"path": "/h/state", "free_bytes": 1_300_000_000, "log_bytes": 8192}, "storage": {"commit_ms": 0.156},
    "claude": {"found": True, "path": "/usr/bin/claude", "version": "2.1.329", "problem": None},
    "executions": {"running": 2, "pending": 1, "waiting": 0}, "connections": 3, "self_approval_possible": True,
}  # fmt: skip


def execution(name="x_1", **fields):
    """An execution as the wire shows it."""
    return {
        "execution": name,
        "work_order": "o_1",
        "project": "p_1",
        "project_name": "web",
        "process": None,
        "state": "running",
        "cause": None,
        "message": "",
        "attempt": 1,
        "lane": "p_1",
        "place": None,
        "prompt": "fix the failing test",
        "session": "11111111-2222-3333-4444-555555555555",
        "model": "claude-opus-5-5",
        "exit_code": None,
        "signal": None,
        "subtype": None,
        "result": None,
        "structured": None,
        "stderr": "",
        "stalled": None,
        "retrying": None,
        "waiting_for": [],
        "resets_at": None,
        "trusted": True,
        "usage": USAGE,
        "cost_usd": 0.0123,
        "pid": None,
        "priority": "normal",
        "actor": "user:tester",
        "options": {},
        "created_at": CREATED,
        "started_at": CREATED,
        "ended_at": None,
        "duration_ms": 4200,
        "waited_ms": 0,
        "stream": "project:p_1",
        "epoch": "e_1",
        "seq": 0,
        **fields,
    }


def project(**fields):
    return {
        "id": "p_1",
        "name": "web",
        "path": "/home/tester/web",
        "state": "idle",
        "error": None,
        "trust": "trusted",
        "version": 1,
        "session": None,
        "execution": None,
        "pending": 0,
        "defaults": {},
        "env": {},
        "stream": "project:p_1",
        "totals": {"executions": 3, "cost_usd": 1.5, "output_tokens": 10},
        "created_at": CREATED,
        "last_activity_at": CREATED,
        **fields,
    }


def approval(**fields):
    return {
        "id": "a_1",
        "version": 1,
        "state": "pending",
        "kind": "permission",
        "project": "p_1",
        "project_name": "web",
        "execution": "x_1",
        "session": None,
        "tool": "Bash",
        "input": {"command": "rm -rf build"},
        "description": "Remove the build directory",
        "summary": "rm -rf build",
        "suggestions": [],
        "decision": None,
        "decided_by": None,
        "message": "",
        "created_at": CREATED,
        "decided_at": None,
        "directory": "/home/tester/web",
        "rule": None,
        "expires_at": None,
        "on_timeout": None,
        "timed_out": False,
        "delivered": False,
        "risk": "high",
        "risk_reason": "rm deletes whole directories",
        **fields,
    }


@dataclass
class Ran:
    code: int
    out: str
    err: str


class Script:
    """The usual answers, and an execution that can be made to run to its end."""

    def __init__(self, daemon):
        self.daemon = daemon
        self.state = execution(state="pending")
        self.project = project()
        self.on_execute = self.finish
        daemon.answers |= {
            "project.get": self.find_project,
            "project.list": lambda params: {"items": [self.project], "next_cursor": None},
            "project.inspect": lambda params: self.report(),
            "execute": self.execute,
            "execution.get": lambda params: self.state,
            "execution.wait": lambda params: self.state,
            "execution.list": self.listing,
            "get_messages": self.messages,
            "approval.list": lambda params: {"items": [approval()], "next_cursor": None},
            "approval.get": lambda params: approval(),
            "question.list": lambda params: {"items": [], "next_cursor": None},
            "policy.test": lambda params: {
                "remember": {"tool": "Bash", "match": {"command": "rm -rf build"}},
                "remember_problem": "",
            },
        }

    def find_project(self, params):
        if params["project"] not in {"web", "p_1"}:
            raise HiveError(
                "PROJECT_NOT_FOUND",
                f"There is no project '{params['project']}'.",
                details={"project": params["project"]},
            )
        return self.project

    def report(self, **fields):
        return {
            "path": self.project["path"],
            "hash": "h1",
            "hooks": ["PreToolUse: ./check.sh"],
            "mcp_servers": ["github"],
            "env": [],
            "permissions": [],
            "claude_md": ["CLAUDE.md"],
            "other": [],
            "problems": [],
            **fields,
        }

    def execute(self, params):
        self.find_project(params)
        seq = len(self.daemon.streams.get("project:p_1", []))
        self.daemon._loop.call_soon(self.on_execute)
        return {
            "execution": "x_1",
            "work_order": "o_1",
            "project": "p_1",
            "state": "pending",
            "place": None,
            "stream": "project:p_1",
            "epoch": self.daemon.epoch,
            "seq": seq,
            "replayed": False,
        }

    def listing(self, params):
        return {"items": [self.state], "next_cursor": None}

    def messages(self, params):
        stream = params.get("stream") or f"project:{params['project']}"
        log = self.daemon.streams.get(stream, [])
        kept = [
            event
            for event in log
            if event["seq"] > params.get("after", 0)
            and event["seq"] < params.get("before", 10**9)
            and params.get("execution") in {None, event.get("execution")}
            and params.get("grep", "") in str(event["data"])
        ]
        if params.get("order") == "desc":
            kept.reverse()
        page = kept[: params.get("limit", 100)]
        return {
            "items": page,
            "next": page[-1]["seq"] if len(page) < len(kept) else None,
            "stream": stream,
            "epoch": self.daemon.epoch,
            "first_seq": 1,
            "last_seq": len(log),
        }

    # -- what happens in the daemon's own loop ---------------------------------------------------

    def emit(self, kind, data, **fields):
        """Publish from within the daemon's loop."""
        fields.setdefault("execution", "x_1")
        work = self.daemon._publish("project:p_1", kind, data, {"project": "p_1", **fields})
        self.daemon.start_task(work)

    def say(self, text):
        raw = {"type": "assistant", "message": {"content": [{"type": "text", "text": text}]}}
        self.emit("message", {"kind": "assistant", "direction": "out", "text": text, "raw": raw})

    def use(self, name, given, tool_id="t1"):
        block = {"type": "tool_use", "id": tool_id, "name": name, "input": given}
        raw = {"type": "assistant", "message": {"content": [block]}}
        self.emit("message", {"kind": "assistant", "direction": "out", "raw": raw})

    def got(self, text, *, tool_id="t1", is_error=False):
        block = {
            "type": "tool_result",
            "tool_use_id": tool_id,
            "content": text,
            "is_error": is_error,
        }
        raw = {"type": "user", "message": {"content": [block]}}
        self.emit("message", {"kind": "user", "direction": "out", "raw": raw})

    def end(self, state="completed", **fields):
        fields = {"cause": "ok", "exit_code": 0, "result": "All done.", **fields}
        self.state = execution(state=state, ended_at=CREATED, seq=10**6, **fields)
        self.emit("execution.ended", {**self.state, "usage": USAGE})

    def finish(self):
        """The usual run: some text, a tool, more text."""
        self.emit("execution.state", {"state": "running", "from": "starting"})
        self.say("I will look at the test first.")
        self.use("Bash", {"command": "npm test"})
        self.got("1 failing\nstack", is_error=True)
        self.use("Edit", {"file_path": "src/app.js", "old_string": "a", "new_string": "b"}, "t2")
        self.got("ok", tool_id="t2")
        self.say("All done.")
        self.end()


@pytest.fixture
def daemon(tmp_path, monkeypatch):
    for name in ("NO_COLOR", "HIVECTL_PROJECT", "HIVECTL_URL", "HIVECTL_TOKEN", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HIVECTL_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HIVECTL_AUTOSTART", "0")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.chdir(tmp_path)
    with FakeDaemon(tmp_path) as fake:
        yield fake


@pytest.fixture
def script(daemon):
    return Script(daemon)


class FakeTerminal:
    """Makes a captured stream say that it is a terminal."""

    def __init__(self, stream):
        self._stream = stream

    def isatty(self):
        return True

    def __getattr__(self, name):
        return getattr(self._stream, name)


@pytest.fixture
def hive(capsys, monkeypatch):
    """Run the CLI: `hive("ps", "--json")`; `tty=True` makes stdout and stderr a terminal."""

    def run(*argv, tty=False, stdin=None):
        capsys.readouterr()
        with monkeypatch.context() as patch:
            if tty:
                patch.setattr(sys, "stdout", FakeTerminal(sys.stdout))
                patch.setattr(sys, "stderr", FakeTerminal(sys.stderr))
            if stdin is not None:
                patch.setattr(sys, "stdin", stdin)
            # In a thread of its own: asyncio.run would take the loop that a plugin of pytest made.
            with ThreadPoolExecutor(1) as thread:
                code = thread.submit(main, list(argv)).result(30)
        captured = capsys.readouterr()
        return Ran(code, captured.out, captured.err)

    return run


def plain(text):
    """Without colours and status lines."""
    text = re.sub(r"\r\x1b\[2K[^\n\r]*(?=\r)", "", text)
    return re.sub(r"\r?\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.fixture
def kit():
    """The makers of wire objects above, for tests that need no daemon."""
    return sys.modules[__name__]
