"""Conversations through the protocol: memory, new ones, named ones, forks."""

from __future__ import annotations

import uuid

import pytest

from tests.harness import history
from tests.harness.daemon import Daemon, RpcError, mock


def test_a_prompt_runs_from_acceptance_to_its_result(daemon: Daemon) -> None:
    accepted = daemon.accept("Hello there " + mock(text="Good morning"))
    assert accepted["state"] == "pending"
    ended = daemon.wait(accepted["execution"])
    assert (ended["state"], ended["cause"], ended["result"]) == ("completed", "ok", "Good morning")
    assert ended["exit_code"] == 0
    assert ended["usage"]["turns"] == 1
    assert ended["cost_usd"] > 0
    told = history.read(daemon, project="web").check()
    told.check_ended(ended["execution"])
    assert told.events[-1]["type"] == "project.state"
    assert len(daemon.mock_starts()) == 1


def test_the_next_prompt_remembers_the_one_before(daemon: Daemon) -> None:
    first = daemon.run("My name is Ada " + mock(text="Hello Ada"))
    second = daemon.run("What did I say? " + mock(memory=True))
    assert second["session"] == first["session"]
    assert "My name is Ada" in second["result"]
    assert daemon.call("project.get", project="web")["session"] == first["session"]


def test_a_new_session_remembers_nothing(daemon: Daemon) -> None:
    first = daemon.run("My name is Ada")
    second = daemon.run("What did I say? " + mock(memory=True), session="new")
    assert second["session"] != first["session"]
    assert "Ada" not in second["result"]
    third = daemon.run("And now? " + mock(memory=True))
    assert third["session"] == second["session"], "the new one became the current one"


def test_session_new_makes_the_next_prompt_start_fresh(daemon: Daemon) -> None:
    first = daemon.run("My name is Ada")
    assert daemon.call("session.new", project="web")["session"] is None
    second = daemon.run("What did I say? " + mock(memory=True))
    assert second["session"] != first["session"]
    assert "Ada" not in second["result"]


def test_an_earlier_session_can_be_named(daemon: Daemon) -> None:
    first = daemon.run("My name is Ada")
    daemon.run("My name is Grace", session="new")
    third = daemon.run("Who? " + mock(memory=True), session=first["session"])
    assert third["session"] == first["session"]
    assert "Ada" in third["result"]
    assert "Grace" not in third["result"]


def test_a_fork_leaves_the_forked_session_as_it_was(daemon: Daemon) -> None:
    first = daemon.run("My name is Ada")
    fork = daemon.run("In the fork " + mock(memory=True), session=first["session"], fork=True)
    assert fork["session"] != first["session"]
    assert "Ada" in fork["result"]
    again = daemon.run("Back " + mock(memory=True), session=first["session"])
    assert "In the fork" not in again["result"]


def test_an_unknown_session_is_refused_before_anything_is_stored(daemon: Daemon) -> None:
    with pytest.raises(RpcError) as caught:
        daemon.execute("hello", session=str(uuid.uuid4()))
    assert caught.value.code == "SESSION_NOT_FOUND"
    assert daemon.call("execution.list")["items"] == []


def test_sessions_are_listed_newest_first_with_their_totals(daemon: Daemon) -> None:
    first = daemon.run("one")
    daemon.run("two")
    second = daemon.run("three", session="new")
    items = daemon.call("session.list", project="web")["items"]
    assert [item["session"] for item in items] == [second["session"], first["session"]]
    assert [item["executions"] for item in items] == [1, 2]
    assert [item["is_current"] for item in items] == [True, False]
    one = daemon.call("session.get", session=first["session"])
    assert one["cost_usd"] > 0
    assert one["state"] == "idle"


def test_a_conversation_goes_on_after_the_daemon_was_killed(daemon: Daemon) -> None:
    first = daemon.run("My name is Ada")
    daemon.restart()
    second = daemon.run("Who? " + mock(memory=True))
    assert second["session"] == first["session"]
    assert "Ada" in second["result"]


def test_a_conversation_whose_file_is_gone_costs_one_prompt_and_not_the_night(
    daemon: Daemon,
) -> None:
    first = daemon.run("hello " + mock(text="hi"))
    for path in daemon.root.rglob(f"{first['session']}.jsonl"):
        path.unlink()
    lost = daemon.run("again " + mock(text="hi"))
    assert (lost["state"], lost["cause"]) == ("failed", "claude_error")
    assert "fresh conversation" in lost["message"]
    fresh = daemon.run("once more " + mock(text="hi"))
    assert fresh["state"] == "completed"
    assert fresh["session"] != first["session"]
