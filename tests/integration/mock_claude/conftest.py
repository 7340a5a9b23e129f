"""Starting mock_claude and talking to it."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import mock_claude

ROOT = Path(mock_claude.__file__).resolve().parent.parent
STREAM = ["--output-format", "stream-json", "--verbose"]
TALK = ["-p", *STREAM, "--input-format", "stream-json"]
ASKING = [*TALK, "--permission-prompt-tool", "stdio"]
LIMIT_S = 15.0


def environment(home, changes):
    """The variables a mock is started with; None removes one."""
    names = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "TMPDIR": str(home / "tmp"),
        "PYTHONPATH": str(ROOT),
        "ANTHROPIC_API_KEY": "no-key",
        "IS_SANDBOX": "1",
        **changes,
    }
    return {name: value for name, value in names.items() if value is not None}


class Running:
    """One mock process. Every wait has a limit, and the process dies with the test."""

    def __init__(self, argv, *, home, cwd, env, stdin):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mock_claude", *argv],
            stdin=subprocess.PIPE if stdin is None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=environment(home, env),
        )
        self.lines = []
        self.events = []
        self._arrived = queue.Queue()
        self._stderr = []
        self._threads = [
            threading.Thread(target=self._read_stdout, daemon=True),
            threading.Thread(target=self._read_stderr, daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _read_stdout(self):
        for line in self.process.stdout:
            self._arrived.put(line)
        self._arrived.put(None)

    def _read_stderr(self):
        self._stderr.append(self.process.stderr.read())

    @property
    def pid(self):
        return self.process.pid

    def send(self, item):
        """Write one JSON object, or raw text, to stdin."""
        text = item if isinstance(item, str) else json.dumps(item)
        self.process.stdin.write(text.encode() + b"\n")
        self.process.stdin.flush()

    def user(self, text, **more):
        """Send a user message."""
        message = {"role": "user", "content": text}
        self.send({"type": "user", "message": message, "parent_tool_use_id": None, **more})

    def control(self, subtype, request_id="req_1", **fields):
        """Send a control request."""
        request = {"subtype": subtype, **fields}
        self.send({"type": "control_request", "request_id": request_id, "request": request})

    def answer(self, request, response):
        """Answer a control request of the mock."""
        reply = {"subtype": "success", "request_id": request["request_id"], "response": response}
        self.send({"type": "control_response", "response": reply})

    def signal(self, number):
        self.process.send_signal(number)

    def next_line(self, limit_s=LIMIT_S):
        """The next raw line, or None at the end."""
        line = self._arrived.get(timeout=limit_s)
        if line is not None:
            self.lines.append(line)
        return line

    def next_event(self):
        """The next line that is a JSON object with a type, or None at the end."""
        while (line := self.next_line()) is not None:
            try:
                event = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(event, dict) and "type" in event:
                self.events.append(event)
                return event
        return None

    def until(self, kind, subtype=None):
        """The next event of a kind; fails at the end of the output."""
        while (event := self.next_event()) is not None:
            if event["type"] == kind and subtype in (None, event.get("subtype")):
                return event
        raise AssertionError(f"no {kind} {subtype} in {[e['type'] for e in self.events]}")

    def close(self):
        """Close stdin."""
        if self.process.stdin:
            self.process.stdin.close()

    def finish(self):
        """Close stdin, read to the end; the exit code."""
        self.close()
        while self.next_event() is not None:
            pass
        for thread in self._threads:
            thread.join(LIMIT_S)
        return self.process.wait(LIMIT_S)

    @property
    def stderr(self):
        return b"".join(self._stderr).decode()

    def result(self):
        """The last result."""
        return [event for event in self.events if event["type"] == "result"][-1]

    def texts(self):
        """The texts of all assistant events."""
        return [
            block["text"]
            for event in self.events
            if event["type"] == "assistant"
            for block in event["message"]["content"]
            if block["type"] == "text"
        ]

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(LIMIT_S)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            try:
                if stream:
                    stream.close()
            except OSError:
                continue


class Desk:
    """A home, a working directory, and the mocks started there."""

    def __init__(self, folder):
        self.home = folder / "home"
        self.cwd = folder / "project"
        for path in (self.home, self.cwd, self.home / "tmp"):
            path.mkdir()
        self._running = []
        self._unread = []

    def start(self, *argv, stdin=None, cwd=None, **env):
        """Start a mock that listens on stdin."""
        running = Running(argv, home=self.home, cwd=cwd or self.cwd, env=env, stdin=stdin)
        self._running.append(running)
        return running

    def unread(self, *argv):
        """Start a mock whose output nobody reads; a plain Popen."""
        process = subprocess.Popen(
            [sys.executable, "-m", "mock_claude", *argv],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            cwd=self.cwd,
            env=environment(self.home, {}),
        )
        self._unread.append(process)
        return process

    def talk(self, *argv, **env):
        """Start a mock that takes messages, without permission questions."""
        return self.start(*TALK, *argv, **env)

    def host(self, *argv, **env):
        """Start a mock that takes messages and asks for permission."""
        return self.start(*ASKING, *argv, **env)

    def ask(self, prompt, *argv, **env):
        """Run one prompt to its end; the finished process."""
        running = self.start("-p", prompt, *STREAM, *argv, stdin="null", **env)
        running.exit_code = running.finish()
        return running

    def run(self, *argv, **env):
        """Run any command line with an empty stdin to its end: exit code, stdout, stderr."""
        running = self.start(*argv, stdin="null", **env)
        code = running.finish()
        return code, b"".join(running.lines).decode(), running.stderr

    def sessions(self):
        """All session files."""
        return sorted((self.home / ".claude" / "projects").glob("*/*.jsonl"))

    def stop(self):
        for running in self._running:
            running.stop()
        for process in self._unread:
            process.kill()
            process.wait(LIMIT_S)
            process.stdout.close()


def wait_for(condition, limit_s=LIMIT_S):
    """Poll until the condition holds; fails after the limit."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.01)


def command_lines():
    """Pid and command line of every process we may look at."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            continue
        found[int(path.parent.name)] = text
    return found


class Probe:
    """A mark in a command line, by which a test finds and ends the processes it caused."""

    def __init__(self, mark):
        self.mark = mark

    def pids(self):
        return [
            pid
            for pid, line in command_lines().items()
            if self.mark in line and "mock_claude" not in line
        ]

    def is_gone(self):
        """Fail unless no process carries the mark any more; dying may take a moment."""
        wait_for(lambda: self.pids() == [], 5)

    def end(self):
        for pid in self.pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


@pytest.fixture
def desk(tmp_path):
    made = Desk(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def probe(tmp_path):
    """A mark no other test uses: a sleep of a length of its own."""
    number = time.monotonic_ns() % 1_000_000
    made = Probe(f"97.{os.getpid()}{number:06d}")
    yield made
    made.end()


@pytest.fixture
def eventually():
    return wait_for
