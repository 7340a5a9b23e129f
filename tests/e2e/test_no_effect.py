"""What a request asks for in vain is said when it is accepted."""

from __future__ import annotations

import pytest

from tests.harness.daemon import Daemon

PROMPTS = {"append_system_prompt": "Be brief."}


def test_a_new_conversation_takes_a_system_prompt(daemon: Daemon) -> None:
    assert daemon.accept("one", options=PROMPTS)["warnings"] == []
    daemon.accept("two")
    assert daemon.accept("three", options=PROMPTS, session="new")["warnings"] == []


@pytest.mark.parametrize("fork", [False, True])
def test_a_resumed_or_forked_conversation_keeps_the_one_it_has(daemon: Daemon, fork: bool) -> None:
    session = daemon.run("one")["session"]
    for wanted in ("current", session):
        accepted = daemon.accept("two", options=PROMPTS, session=wanted, fork=fork)
        assert len(accepted["warnings"]) == 1
        assert "append_system_prompt will have no effect" in accepted["warnings"][0]


def test_a_default_of_the_project_is_no_reason_to_warn_each_time(daemon: Daemon) -> None:
    daemon.call("project.update", project="web", version=1, defaults=PROMPTS)
    daemon.run("one")
    assert daemon.accept("two")["warnings"] == []
