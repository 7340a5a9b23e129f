"""Conversations that end by themselves, with a real daemon and short limits."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import QUICK
from tests.harness.daemon import Daemon, mock
from tests.harness.waiting import eventually


@pytest.fixture
def brief(tmp_path: Any) -> Iterator[Daemon]:
    """A daemon that lets go of a conversation after half a second."""
    made = Daemon(tmp_path, settings={**QUICK, "session.idle_s": 0.5})
    made.start()
    made.project()
    yield made
    made.close()


def state(daemon: Daemon, session: str) -> str:
    found: str = daemon.call("session.get", session=session)["state"]
    return found


def test_an_idle_conversation_ends_and_the_next_prompt_resumes_it(brief: Daemon) -> None:
    first = brief.run("My name is Ada")
    eventually(lambda: state(brief, first["session"]) == "ended")
    accepted = brief.accept("Who? " + mock(memory=True))
    assert "this prompt resumes it" in accepted["warnings"][0]
    second = brief.wait(accepted["execution"])
    assert second["session"] == first["session"]
    assert "Ada" in second["result"]
    assert state(brief, first["session"]) in {"idle", "ended"}


def test_with_fresh_the_next_prompt_remembers_nothing(brief: Daemon) -> None:
    brief.stop()
    brief.configure({**QUICK, "session.idle_s": 0.5, "session.on_expiry": "fresh"}, {})
    brief.start()
    first = brief.run("My name is Ada")
    eventually(lambda: state(brief, first["session"]) == "ended")
    accepted = brief.accept("Who? " + mock(memory=True))
    assert "begins a fresh one" in accepted["warnings"][0]
    second = brief.wait(accepted["execution"])
    assert second["session"] != first["session"]
    assert "Ada" not in second["result"]
