"""Sending through apprise in a process of its own, against a real server."""

from __future__ import annotations

import os
import time

import pytest

from hivectl.outlets import people
from hivectl.outlets.people import PeopleOutlet, hide
from hivectl.ports import Message, Undelivered
from tests.harness.receiver import Receiver

MESSAGE = Message("n_1", "a title", "first line\nsecond <b>line</b>")


@pytest.fixture
def outlet() -> PeopleOutlet:
    return PeopleOutlet({**os.environ, "HIVECTL_TOKEN": "x", "ANTHROPIC_API_KEY": "y"})


async def test_a_message_arrives_word_for_word(outlet: PeopleOutlet) -> None:
    with Receiver() as receiver:
        await outlet.send(receiver.ntfy, MESSAGE, within_s=20)
        told = receiver.requests[0].json
    assert told["topic"] == "secrettopic"
    assert told["title"] == "a title"
    assert told["message"] == "first line\nsecond <b>line</b>"


async def test_a_service_that_refuses_is_told_without_its_address(outlet: PeopleOutlet) -> None:
    with Receiver(answers=[403]) as receiver, pytest.raises(Undelivered) as found:
        await outlet.send(receiver.ntfy, MESSAGE, within_s=20)
    assert "403" in str(found.value)
    assert "secrettopic" not in str(found.value)


async def test_a_service_that_does_not_answer_is_given_up_in_time(outlet: PeopleOutlet) -> None:
    begun = time.monotonic()
    with Receiver(delay_s=30) as receiver, pytest.raises(Undelivered, match="no answer within"):
        await outlet.send(receiver.ntfy, MESSAGE, within_s=2)
    assert time.monotonic() - begun < 10


async def test_an_address_that_nobody_knows_is_told(outlet: PeopleOutlet) -> None:
    with pytest.raises(Undelivered) as found:
        await outlet.send("nonsense://secretpart", MESSAGE, within_s=20)
    assert "secretpart" not in str(found.value)


async def test_without_the_library_the_next_step_is_told(
    outlet: PeopleOutlet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people, "is_available", lambda: False)
    with pytest.raises(Undelivered, match="pip install apprise"):
        await outlet.send("ntfy://x", MESSAGE, within_s=20)


def test_secrets_of_the_daemon_are_not_passed_on(outlet: PeopleOutlet) -> None:
    assert "PATH" in outlet._env
    assert not {"HIVECTL_TOKEN", "ANTHROPIC_API_KEY"} & set(outlet._env)


def test_pieces_of_an_address_are_hidden() -> None:
    url = "slack://TokenA/TokenB@host/#channel?mode=w"
    assert (
        hide("POST to https://hooks/TokenA/TokenB failed", url)
        == "POST to https://hooks/***/*** failed"
    )
