"""`hivectl top` in a terminal of its own, looked at through pyte, against a scripted daemon."""

import os
import pty
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

import pyte
import pytest

from tests.unit.cli.conftest import approval, execution

ROOT = Path(__file__).parents[3]
_TAKE_TERMINAL = (
    "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "os.execv(sys.executable, [sys.executable, '-m', 'hivectl', *sys.argv[1:]])"
)
STATS = {
    "states": {"queued": 0, "claimed": 2, "completed": 0, "failed": 0, "cancelled": 0, "dead": 0}, "holds": {}, "priorities": {},
    "projects": {}, "oldest_wait_s": 0.0, "pauses": [], "parked": [], "slots": 4, "slots_busy": 2, "slots_draining": 0,
    "wanting_slot": 0,
}  # fmt: skip
USED = {"cost_usd": 1.25, "estimated_usd": 0.0}


class Looked:
    """A command whose terminal is looked at."""

    def __init__(self, *argv, columns=120, lines=20):
        self.master, self.slave = pty.openpty()
        termios.tcsetwinsize(self.slave, (lines, columns))
        self.before = termios.tcgetattr(self.slave)
        self.screen = pyte.Screen(columns, lines)
        self.stream = pyte.ByteStream(self.screen)
        self.bytes = b""
        env = {k: v for k, v in os.environ.items() if k not in {"COLUMNS", "LINES"}}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *argv],
            stdin=self.slave, stdout=self.slave, stderr=self.slave, start_new_session=True,
            env={**env, "PYTHONPATH": str(ROOT), "TERM": "xterm"},
        )  # fmt: skip

    @property
    def text(self):
        return "\n".join(line.rstrip() for line in self.screen.display)

    def read(self, for_s):
        ready, _, _ = select.select([self.master], [], [], for_s)
        if ready:
            data = os.read(self.master, 65536)
            self.bytes += data
            self.stream.feed(data)
        return bool(ready)

    def until(self, check, within_s=8.0):
        deadline = time.monotonic() + within_s
        while not check(self.text):
            if time.monotonic() > deadline:
                raise AssertionError(f"not seen:\n{self.text}")
            self.read(0.1)

    def type(self, text):
        os.write(self.master, text.encode())

    def resize(self, columns, lines):
        termios.tcsetwinsize(self.slave, (lines, columns))
        self.screen.resize(lines, columns)

    def end(self):
        deadline = time.monotonic() + 15
        while self.process.poll() is None and time.monotonic() < deadline:
            self.read(0.1)
        while self.read(0.1):
            pass
        return self.process.wait(1)

    @property
    def is_restored(self):
        is_main = self.bytes.rfind(b"\x1b[?1049l") > self.bytes.rfind(b"\x1b[?1049h")
        has_cursor = self.bytes.rfind(b"\x1b[?25h") > self.bytes.rfind(b"\x1b[?25l")
        return is_main and has_cursor and termios.tcgetattr(self.slave) == self.before

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def looked(script):
    running = [
        execution("x_1", worker="slot-1"),
        execution("x_2", state="waiting", project="p_2", project_name="api", waiting_for=["a_1"]),
    ]
    script.running = running
    script.daemon.answers |= {
        "execution.list": lambda params: {"items": list(running), "next_cursor": None},
        "queue.list": lambda params: {"items": [], "next_cursor": None},
        "queue.stats": lambda params: STATS,
        "usage": lambda params: {"by": "day", "items": [USED], "total": USED, "budgets": []},
    }
    opened = []

    def look(*argv, **size):
        opened.append(Looked(*argv, **size))
        return opened[-1]

    script.has_begun = lambda text: sum(m == "queue.stats" for m, _ in script.daemon.requests) > 1
    yield look
    for one in opened:
        one.close()


def test_it_shows_what_runs_and_leaves_the_terminal_as_it_was(looked):
    top = looked("top")
    top.until(lambda text: "1 running · 1 waiting" in text and "slot-1" in text)
    assert "2/4 workers busy · today $1.25" in top.text
    lines = [line for line in top.text.splitlines() if "x_" in line]
    assert [line.split()[:2] for line in lines] == [["api", "x_2"], ["web", "x_1"]]
    top.type("q")
    assert top.end() == 0
    assert top.is_restored


@pytest.mark.parametrize("key", ["\x03", "\x04"])
def test_other_ways_out_restore_the_terminal_too(looked, key):
    top = looked("top")
    top.until(lambda text: "x_1" in text)
    top.type(key)
    assert top.end() == 0
    assert top.is_restored


def test_sigterm_restores_the_terminal(looked):
    top = looked("top")
    top.until(lambda text: "x_1" in text)
    top.process.terminate()
    assert top.end() == 0
    assert top.is_restored


def test_events_move_it_and_nothing_they_say_is_obeyed(looked, script):
    top = looked("top")
    top.until(script.has_begun)
    raw = {
        "message": {
            "content": [
                {
                    "type": "tool_use",
                    "name": "Bash",
                    "input": {"command": "ls\x1b[2J\x1b]0;evil\x07"},
                }
            ]
        }
    }
    script.daemon.publish(
        "project:p_1", "message", {"kind": "assistant", "raw": raw}, execution="x_1", project="p_1"
    )
    top.until(lambda text: "Bash ls" in text)
    assert b"evil" not in top.bytes
    script.running.pop(0)
    script.daemon.publish(
        "project:p_1", "execution.ended", {"state": "completed"}, execution="x_1", project="p_1"
    )
    top.until(lambda text: "x_1" not in text and "0 running" in text)


def test_a_filter_narrows_it_and_esc_shows_all_again(looked):
    top = looked("top")
    top.until(lambda text: "x_1" in text)
    top.type("/api\r")
    top.until(lambda text: "x_1" not in text and "shown: with 'api'" in text)
    top.type("\x1b")
    top.until(lambda text: "x_1" in text)
    top.type("p")
    top.until(lambda text: "only api" in text and "x_1" not in text)


def test_kill_asks_first(looked, script):
    script.daemon.answers["kill"] = lambda params: {
        "executions": [execution("x_1", state="cancelled", cause="killed")],
        "survivors": 0,
    }
    top = looked("top")
    top.until(lambda text: "x_1" in text)
    top.type("jK")
    top.until(lambda text: "kill x_1 of web? y/n" in text)
    top.type("n")
    top.until(lambda text: "not killed" in text)
    top.type("Ky")
    top.until(lambda text: "cancelled" in text)
    kills = [params for method, params in script.daemon.requests if method == "kill"]
    assert [params["execution"] for params in kills] == ["x_1"]


def test_y_shows_the_oldest_approval_of_the_chosen_one_and_asks(looked, script):
    script.daemon.answers["approval.decide"] = lambda params: approval(
        state="decided", decision="allow"
    )
    top = looked("top")
    top.until(lambda text: "x_2" in text)
    top.type("y")
    top.until(lambda text: "rm -rf build" in text and "allow?" in text)
    top.type("y\n")
    top.until(lambda text: "a_1 is answered" in text)
    decided = [params for method, params in script.daemon.requests if method == "approval.decide"]
    assert decided[0]["decision"] == "allow"
    top.type("q")
    assert top.end() == 0
    assert top.is_restored


def test_attaching_comes_back_to_the_table(looked, script):
    script.state = execution("x_2", state="running")
    top = looked("top")
    top.until(lambda text: "x_2" in text)
    top.type("\r")
    top.until(lambda text: "Ctrl-C goes back" in text)
    time.sleep(0.3)
    top.type("\x03")
    top.until(lambda text: "workers busy" in text)
    top.type("q")
    assert top.end() == 0
    assert top.is_restored


def test_it_follows_the_size_of_the_terminal(looked):
    top = looked("top")
    top.until(lambda text: "x_1" in text)
    top.resize(60, 10)
    top.until(lambda text: "j/k move" in text.splitlines()[-1] and len(text.splitlines()) == 10)


def test_nothing_is_asked_of_the_daemon_while_nothing_happens(looked, script):
    top = looked("top")
    top.until(script.has_begun)
    top.read(0.5)
    before = len(script.daemon.requests)
    deadline = time.monotonic() + 2.5
    while time.monotonic() < deadline:
        top.read(0.1)
    assert len(script.daemon.requests) == before


def test_without_a_terminal_it_is_printed_once(looked, script, hive):
    ran = hive("top")
    assert ran.code == 0
    assert "1 running · 1 waiting" in ran.out
    assert "x_2" in ran.out
    assert '"cost_today_usd":1.25' in hive("top", "--json").out.replace(": ", ":")
    assert hive("top", "-o", "name").out.split() == ["x_2", "x_1"]
