"""The CLI in a terminal of its own, against a scripted daemon: answers, Ctrl-C, signals."""

import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from hivectl.model.errors import HiveError

ROOT = Path(__file__).parents[3]
_TAKE_TERMINAL = (
    "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
    "signal.signal(signal.SIGINT, signal.SIG_DFL);"  # as a terminal's shell; who runs the tests may ignore it
    "os.execv(sys.executable, [sys.executable, '-m', 'hivectl', *sys.argv[1:]])"
)


class Terminal:
    """A command on a pseudo terminal: `expect` waits for a text, `type` sends keys."""

    def __init__(self, argv, columns=100):
        self.master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (40, columns))
        env = {**os.environ, "COLUMNS": str(columns), "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _TAKE_TERMINAL, *argv],
            stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True,
        )  # fmt: skip
        os.close(slave)
        self.text = ""
        self._read_to = 0

    def expect(self, wanted, within_s=15.0):
        """Wait until `wanted` appears after what was expected before."""
        deadline = time.monotonic() + within_s
        while wanted not in self.text[self._read_to :]:
            if not self._read(deadline):
                raise AssertionError(f"{wanted!r} did not appear in:\n{self.text}")
        self._read_to = self.text.index(wanted, self._read_to) + len(wanted)

    def type(self, text):
        os.write(self.master, text.encode())

    def end(self, within_s=15.0):
        """The exit code, when it ends."""
        deadline = time.monotonic() + within_s
        while self._read(deadline):
            pass
        return self.process.wait(max(deadline - time.monotonic(), 0.1))

    def _read(self, deadline):
        ready, _, _ = select.select([self.master], [], [], max(deadline - time.monotonic(), 0))
        if not ready:
            return False
        try:
            data = os.read(self.master, 65536)
        except OSError:
            return False
        text = data.decode(errors="replace").replace("\r\n", "\n")
        self.text += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
        return bool(data)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)


@pytest.fixture
def terminal(script):
    opened = []

    def start(*argv, **options):
        opened.append(Terminal(argv, **options))
        return opened[-1]

    yield start
    for item in opened:
        item.close()


@pytest.fixture
def asking(script, kit):
    """An execution that asks, and goes on when it is answered."""

    def decide(params):
        done = kit.approval(state="decided", decision=params["decision"], decided_by="user:tester")
        script.emit("approval.decided", done)
        script.end()
        return done

    script.approval = kit.approval()
    script.daemon.answers["approval.decide"] = decide
    script.on_execute = lambda: script.emit("approval.requested", script.approval)
    return script


def test_y_allows(terminal, asking):
    shell = terminal("exec", "web", "fix it")
    shell.expect("Claude wants to use Bash")
    shell.expect("command: rm -rf build")
    shell.expect("[y]es")
    shell.type("y\n")
    shell.expect("✓ completed")
    assert shell.end() == 0
    assert asking.daemon.wait_for("approval.decide") == {
        "id": "a_1",
        "version": 1,
        "decision": "allow",
    }
    assert "answered elsewhere" not in shell.text


def test_n_denies_with_a_reason(terminal, asking):
    shell = terminal("exec", "web", "fix it")
    shell.expect("[y]es")
    shell.type("n\n")
    shell.expect("reason")
    shell.type("not today\n")
    assert shell.end() == 0
    sent = asking.daemon.wait_for("approval.decide")
    assert (sent["decision"], sent["message"]) == ("deny", "not today")


def test_a_writes_a_rule(terminal, asking):
    shell = terminal("exec", "web", "fix it")
    shell.expect("[y]es")
    shell.type("what?\n")
    shell.expect("type y, n, e or a")
    shell.type("a\n")
    shell.expect("where command is rm -rf build")
    shell.type("n\n")
    shell.expect("[y]es")
    shell.type("a\n")
    shell.expect("write this rule?")
    shell.type("y\n")
    assert shell.end() == 0
    assert asking.daemon.wait_for("approval.decide")["remember"] is True


def test_e_changes_the_input_in_the_editor(terminal, asking, tmp_path, monkeypatch):
    editor = tmp_path / "ed.sh"
    editor.write_text('#!/bin/sh\nsed -i "s/rm -rf build/rm -r build/" "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    shell = terminal("exec", "web", "fix it")
    shell.expect("[e]dit")
    shell.type("e\n")
    assert shell.end() == 0
    assert asking.daemon.wait_for("approval.decide")["input"] == {"command": "rm -r build"}


def test_hidden_controls_of_a_command_are_shown(terminal, asking, kit):
    asking.approval = kit.approval(input={"command": "echo #\x1b]0;x\x07\u202e rm"})
    shell = terminal("exec", "web", "fix it")
    shell.expect("command: echo #\\x1b]0;x\\x07\\u202e rm")
    shell.type("y\n")
    assert shell.end() == 0


def test_a_question_is_answered_by_its_number(terminal, asking, kit):
    choices = [{"label": "Red", "description": "warm"}, {"label": "Blue"}]
    asking.approval = kit.approval(
        kind="question",
        tool="AskUserQuestion",
        input={"questions": [{"question": "Which?", "options": choices}]},
    )
    shell = terminal("exec", "web", "fix it")
    shell.expect("? Which?")
    shell.expect("1. Red  warm")
    shell.expect("own words")
    shell.type("2\n")
    assert shell.end() == 0
    assert asking.daemon.wait_for("approval.decide")["answers"] == {"Which?": "Blue"}


def test_a_number_that_is_no_choice_is_not_taken_for_words(terminal, asking, kit):
    asking.approval = kit.approval(
        kind="question",
        tool="AskUserQuestion",
        input={"questions": [{"question": "Which?", "options": [{"label": "A"}, {"label": "B"}]}]},
    )
    shell = terminal("exec", "web", "fix it")
    shell.expect("own words: ")
    shell.type("7\n")
    shell.expect("there is no choice 7; send it as your own words? [y/N]")
    shell.type("n\n")
    shell.expect("own words: ")
    shell.type("7\n")
    shell.expect("[y/N]")
    shell.type("y\n")
    assert shell.end() == 0
    assert asking.daemon.wait_for("approval.decide")["answers"] == {"Which?": "7"}


def plan_of(kit):
    return kit.approval(
        kind="question", tool="ExitPlanMode", input={"plan": "# Plan\n1. look\n2. change"},
        summary="ExitPlanMode: # Plan 1. look 2. change", description="",
    )  # fmt: skip


def test_a_plan_is_shown_with_its_lines_and_allowed_with_y(terminal, asking, kit):
    asking.approval = plan_of(kit)
    shell = terminal("exec", "web", "fix it")
    shell.expect("? Claude has a plan")
    shell.expect("  # Plan\n  1. look\n  2. change\n")
    shell.expect("[e]dit first: ")
    shell.type("a\n")
    shell.expect("type y, n or e")
    shell.type("y\n")
    assert shell.end() == 0
    assert asking.daemon.wait_for("approval.decide") == {
        "id": "a_1",
        "version": 1,
        "decision": "allow",
    }


def test_a_plan_is_denied_with_a_reason(terminal, asking, kit):
    asking.approval = plan_of(kit)
    shell = terminal("exec", "web", "fix it")
    shell.expect("[y]es")
    shell.type("n\n")
    shell.expect("reason")
    shell.type("smaller steps\n")
    assert shell.end() == 0
    sent = asking.daemon.wait_for("approval.decide")
    assert (sent["decision"], sent["message"]) == ("deny", "smaller steps")


def test_an_answer_that_did_not_fit_is_asked_for_again(terminal, asking):
    decide = asking.daemon.answers["approval.decide"]
    sent = []

    def refuse_first(params):
        sent.append(params["decision"])
        if len(sent) == 1:
            raise HiveError("INVALID_PARAMS", "input: it does not fit.")
        return decide(params)

    asking.daemon.answers["approval.decide"] = refuse_first
    shell = terminal("exec", "web", "fix it")
    shell.expect("[y]es")
    shell.type("y\n")
    shell.expect("it does not fit")
    shell.expect("[y]es")
    shell.type("y\n")
    assert shell.end() == 0
    assert sent == ["allow", "allow"]


def test_a_question_that_is_answered_elsewhere_is_taken_back(terminal, asking, kit):
    shell = terminal("exec", "web", "fix it")
    shell.expect("[y]es")
    done = kit.approval(state="decided", decision="allow", decided_by="user:phone")
    asking.daemon._loop.call_soon_threadsafe(asking.emit, "approval.decided", done)
    shell.expect("answered elsewhere")
    shell.expect("allowed by user:phone")
    asking.daemon._loop.call_soon_threadsafe(asking.end)
    assert shell.end() == 0


def test_two_questions_come_one_after_the_other(terminal, asking, kit):
    decided = []

    def decide(params):
        decided.append(params["id"])
        if len(decided) == 2:
            asking.end()
        return kit.approval(id=params["id"], state="decided", decision="allow")

    asking.daemon.answers["approval.decide"] = decide
    asking.on_execute = lambda: [
        asking.emit("approval.requested", kit.approval(id=name)) for name in ("a_1", "a_2")
    ]
    shell = terminal("exec", "web", "fix it")
    shell.expect("a_1")
    shell.expect("[y]es")
    shell.type("y\n")
    shell.expect("a_2")
    shell.expect("[y]es")
    shell.type("y\n")
    assert shell.end() == 0
    assert decided == ["a_1", "a_2"]


def test_ctrl_c_detaches_and_says_how_to_return(terminal, script):
    script.on_execute = lambda: script.say("working")
    shell = terminal("exec", "web", "fix it")
    shell.expect("working")
    shell.type("\x03")
    shell.expect("hivectl attach x_1")
    shell.expect("Ctrl-C again within 2 s cancels")
    assert shell.end() == 130
    assert all(name != "kill" for name, _ in script.daemon.requests)


def test_ctrl_c_twice_cancels(terminal, script, kit):
    def kill(params):
        script.end("cancelled", cause="killed", result=None)
        return {"executions": [script.state], "survivors": 0}

    script.daemon.answers["kill"] = kill
    script.on_execute = lambda: script.say("working")
    shell = terminal("exec", "web", "fix it")
    shell.expect("working")
    shell.type("\x03")
    shell.expect("again within 2 s")
    shell.type("\x03")
    shell.expect("cancelled (killed)")
    assert shell.end() == 12


def test_ctrl_c_ends_tail_quietly(terminal, script):
    script.on_execute = script.finish
    shell = terminal("tail", "-f", "web")
    script.daemon.wait_for("subscribe")
    script.daemon._loop.call_soon_threadsafe(script.say, "live text")
    shell.expect("live text")
    shell.type("\x03")
    assert shell.end() == 130
    assert "Traceback" not in shell.text


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_without_a_terminal_a_signal_cancels_the_run(script, name):
    def kill(params):
        script.end("cancelled", cause="killed", result=None)
        return {"executions": [script.state], "survivors": 0}

    script.daemon.answers["kill"] = kill
    script.on_execute = lambda: script.say("working")
    process = subprocess.Popen(
        [sys.executable, "-m", "hivectl", "exec", "web", "fix it"],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    script.daemon.wait_for("execution.get")
    process.send_signal(name)
    out, err = process.communicate(timeout=15)
    assert process.returncode == 12
    assert out == ""
    assert "cancelling x_1" in err
    assert script.daemon.wait_for("kill")["execution"] == "x_1"


@pytest.mark.parametrize(("answer", "trusted"), [("y", True), ("", False)])
def test_a_new_project_is_shown_and_asked_about(terminal, script, answer, trusted):
    script.project["trust"] = "untrusted"
    script.daemon.answers["project.create"] = lambda params: script.project
    script.daemon.answers["project.trust"] = lambda params: {**script.project, "trust": "trusted"}
    shell = terminal("project", "create", ".")
    shell.expect("PreToolUse: ./check.sh")
    shell.expect("[y/N]")
    shell.type(f"{answer}\n")
    shell.expect("(trusted)" if trusted else "(untrusted)")
    assert shell.end() == 0
    assert any(name == "project.trust" for name, _ in script.daemon.requests) is trusted


def test_retries_show_as_a_live_line(terminal, script):
    raw = {
        "type": "system",
        "subtype": "api_retry",
        "attempt": 3,
        "max_retries": 10,
        "error": "overloaded",
    }
    script.on_execute = lambda: script.emit("message", {"kind": "system", "raw": raw})
    shell = terminal("exec", "web", "fix it")
    shell.expect("Claude retries, 3 of 10 (overloaded)")
    script.daemon._loop.call_soon_threadsafe(script.end)
    assert shell.end() == 0
