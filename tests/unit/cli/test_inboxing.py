"""The live inbox in a terminal of its own, against a scripted daemon."""

import os
import signal
import stat
import time

import pytest

from hivectl.model.errors import HiveError
from tests.unit.cli.test_interactive import terminal

__all__ = ["terminal"]
SETTLED_S = 0.9


@pytest.fixture
def inbox(script, kit):
    """Two requests that wait; deciding works as in the real daemon."""
    waiting = {
        "a_1": kit.approval(id="a_1"),
        "a_2": kit.approval(id="a_2", input={"command": "make"}, summary="make", created_at="2026-11-21T03:00:01.000000Z"),
    }  # fmt: skip
    closed = {}

    def decide(params):
        if params["id"] in closed:
            raise HiveError(
                "ALREADY_DECIDED", f"Approval {params['id']} is closed: deny by user:ann."
            )
        return close(params["id"], params["decision"], "user:me")

    def close(name, decision, by):
        done = {
            **waiting.pop(name),
            "state": "decided",
            "version": 2,
            "decision": decision,
            "decided_by": by,
        }
        closed[name] = done
        script.emit("approval.decided", done)
        return done

    script.daemon.answers |= {
        "approval.list": lambda params: {"items": list(waiting.values()), "next_cursor": None},
        "approval.get": lambda params: closed.get(params["id"]) or waiting[params["id"]],
        "approval.decide": decide,
        "policy.test": lambda params: {"remember": {"tool": "Bash", "match": {"command": "rm -rf build"}}},
    }  # fmt: skip
    script.waiting, script.close, script.closed = waiting, close, closed
    return script


def decided(inbox):
    return [params for name, params in inbox.daemon.requests if name == "approval.decide"]


def elsewhere(inbox, name, decision="deny", by="user:ann"):
    """Somebody else answers, in the daemon's loop."""
    inbox.daemon._loop.call_soon_threadsafe(inbox.close, name, decision, by)


def opened(terminal, *words):
    shell = terminal("inbox", *words)
    shell.expect("Bash rm -rf build")
    time.sleep(SETTLED_S)
    return shell


def test_y_allows_and_the_next_one_comes_up(terminal, inbox):
    shell = opened(terminal)
    shell.type("y")
    shell.expect("allowed by user:me")
    time.sleep(SETTLED_S)
    shell.type("n")
    shell.expect("why?")
    shell.type("not now\r")
    shell.expect("nothing waits")
    shell.type("q")
    assert shell.end() == 0
    assert [(p["id"], p["version"], p["decision"]) for p in decided(inbox)] == [
        ("a_1", 1, "allow"),
        ("a_2", 1, "deny"),
    ]
    assert decided(inbox)[1]["message"] == "not now"


def test_s16_a_shows_the_rule_and_asks_before_it_is_written(terminal, inbox):
    shell = opened(terminal)
    shell.type("a")
    shell.expect("where command is rm -rf build")
    assert decided(inbox) == []
    time.sleep(SETTLED_S)
    shell.type("y")
    shell.expect("allowed by user:me")
    shell.type("\x03")
    assert shell.end() == 0
    assert decided(inbox)[0]["remember"] is True


def test_what_somebody_else_decided_is_told_and_takes_no_key(terminal, inbox):
    shell = opened(terminal)
    elsewhere(inbox, "a_1")
    shell.expect("denied by user:ann")
    shell.type("y")
    shell.expect("nothing is chosen")
    assert decided(inbox) == []
    shell.type("j")
    shell.type("y")
    shell.expect("allowed by user:me")
    shell.type("q")
    assert shell.end() == 0
    assert [p["id"] for p in decided(inbox)] == ["a_2"]


def test_many_keys_at_once_decide_only_what_was_looked_at(terminal, inbox):
    shell = opened(terminal)
    shell.type("yyyyyyyy")
    shell.expect("allowed by user:me")
    time.sleep(SETTLED_S)
    shell.type("q")
    assert shell.end() == 0
    assert [p["id"] for p in decided(inbox)] == ["a_1"]


def test_an_answer_that_came_too_late_says_who_was_first(terminal, inbox):
    shell = opened(terminal)
    done = {
        **inbox.waiting["a_1"],
        "state": "decided",
        "decision": "deny",
        "decided_by": "user:ann",
    }
    inbox.closed["a_1"] = done
    shell.type("y")
    shell.expect("closed: deny by user:ann")
    shell.type("q")
    assert shell.end() == 0


def test_a_new_request_comes_up_by_itself(terminal, inbox, kit):
    inbox.waiting.clear()
    shell = terminal("inbox")
    shell.expect("nothing waits")
    inbox.waiting["a_9"] = kit.approval(id="a_9", input={"command": "whoami"}, summary="whoami")
    inbox.daemon._loop.call_soon_threadsafe(inbox.emit, "approval.requested", inbox.waiting["a_9"])
    shell.expect("command: whoami")
    shell.type("q")
    assert shell.end() == 0


def test_it_outlives_the_daemon(terminal, inbox):
    shell = opened(terminal)
    inbox.daemon.drop_connections()
    shell.expect("the daemon is gone")
    shell.expect("connected again")
    shell.type("y")
    shell.expect("allowed by user:me")
    shell.type("q")
    assert shell.end() == 0


def test_e_changes_the_input_in_an_editor_and_allows_that(terminal, inbox, tmp_path, monkeypatch):
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/rm -rf build/rm -r build/' \"$1\"\n")
    editor.chmod(editor.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.delenv("VISUAL", raising=False)
    shell = opened(terminal)
    shell.type("e")
    shell.expect("allowed")
    shell.type("q")
    assert shell.end() == 0
    assert decided(inbox)[0]["input"] == {"command": "rm -r build"}


def test_an_editor_that_changes_nothing_allows_nothing(terminal, inbox, monkeypatch):
    monkeypatch.setenv("EDITOR", "true")
    monkeypatch.delenv("VISUAL", raising=False)
    shell = opened(terminal)
    shell.type("e")
    shell.expect("nothing was changed")
    shell.type("q")
    assert shell.end() == 0
    assert decided(inbox) == []


def test_sigterm_gives_the_terminal_back(terminal, inbox):
    shell = opened(terminal)
    os.kill(shell.process.pid, signal.SIGTERM)
    assert shell.end() == 0


def test_once_and_to_a_pipe_it_is_a_plain_list(terminal, inbox, hive):
    shell = terminal("inbox", "--once")
    shell.expect("rm -rf build")
    assert shell.end() == 0
    assert "hivectl inbox" not in shell.text
    assert "a_1" in hive("inbox").out


def test_questions_of_ask_human_are_answered_in_it_too(terminal, inbox, kit):
    question = {
        "id": "q_1", "version": 4, "state": "pending", "kind": "question", "source": "ask_human", "asker": "execution:x_1",
        "execution": "x_1", "project": "p_1", "project_name": "web", "text": "Which colour?", "context": "for the logo",
        "questions": [{"question": "Which colour?", "choices": [{"label": "Red", "description": ""}], "multi": False}],
        "declined": False, "answered_by": None, "expires_at": None, "on_timeout": "wait", "created_at": kit.CREATED,
    }  # fmt: skip
    inbox.waiting.clear()
    inbox.daemon.answers |= {
        "question.list": lambda params: {"items": [question], "next_cursor": None},
        "question.answer": lambda params: {
            **question,
            "state": "answered",
            "answered_by": "user:me",
        },
    }
    shell = terminal("inbox")
    shell.expect("for the logo")
    shell.expect("1. Red")
    time.sleep(SETTLED_S)
    shell.type("y")
    shell.expect("your own words")
    shell.type("1\r")
    shell.expect("allowed by user:me")
    shell.type("q")
    assert shell.end() == 0
    assert inbox.daemon.wait_for("question.answer") == {
        "id": "q_1",
        "version": 4,
        "answers": {"Which colour?": "Red"},
    }
