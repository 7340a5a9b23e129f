"""Which conversation a prompt goes on in, and what may be kept warm."""

from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest

from hivectl import config
from hivectl.engine import starting
from hivectl.model.session import Session, SessionState
from hivectl.model.work import Options

CURRENT, OTHER = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


def order(session="current", *, fork=False):
    return SimpleNamespace(session=session, fork=fork)


@pytest.mark.parametrize(
    ("wanted", "current", "expected"),
    [
        (order(), CURRENT, (CURRENT, True, None)),
        (order(OTHER), CURRENT, (OTHER, True, None)),
        (order(), None, (None, False, None)),
        (order("new"), CURRENT, (None, False, None)),
        (order(fork=True), CURRENT, (None, False, CURRENT)),
        (order(OTHER, fork=True), CURRENT, (None, False, OTHER)),
    ],
)
def test_a_prompt_goes_on_begins_or_forks(wanted, current, expected):
    session, resume, fork_from = starting._choose_session(wanted, current)
    assert (resume, fork_from) == expected[1:]
    if expected[0] is None:
        assert session not in (CURRENT, OTHER)
    else:
        assert session == expected[0]


def world(**flags):
    settings = config.load(
        {name.replace("__", "."): value for name, value in flags.items()},
        env={"HOME": "/nowhere", "HIVECTL_HOME": "/nowhere/h"},
    )
    return SimpleNamespace(settings=lambda: settings)


def session(state):
    values = dict.fromkeys(field.name for field in fields(Session))
    return Session(**{**values, "id": CURRENT, "project": "p_1", "state": state})


@pytest.mark.parametrize("state", list(SessionState))
@pytest.mark.parametrize("on_expiry", ["resume", "fresh"])
def test_only_an_ended_conversation_is_begun_afresh_and_only_if_so_configured(state, on_expiry):
    kept = starting._kept(world(session__on_expiry=on_expiry), session(state), is_copy=False)
    is_fresh = state is SessionState.ENDED and on_expiry == "fresh"
    assert kept == (None if is_fresh else CURRENT)


def test_a_copy_of_an_ended_conversation_is_a_copy_of_that_one():
    fresh = world(session__on_expiry="fresh")
    assert starting._kept(fresh, session(SessionState.ENDED), is_copy=True) == CURRENT


@pytest.mark.parametrize(
    ("flags", "defaults", "options", "expected"),
    [
        ({}, {}, {}, False),
        ({"session__warm": True}, {}, {}, True),
        ({"session__warm": True}, {"warm": False}, {}, False),
        ({}, {"warm": True}, {}, True),
        ({}, {"warm": True}, {"no_output_timeout_s": 5.0}, False),
        ({"execution__no_output_timeout_s": 5}, {"warm": True}, {}, False),
        ({}, {"warm": True}, {"max_budget_usd": 1.0}, False),
        ({}, {"warm": True}, {"timeout_s": 5.0, "model": "opus"}, True),
    ],
)
def test_what_is_kept_warm_was_asked_for_and_has_no_limit_that_counts_for_its_process(
    flags, defaults, options, expected
):
    spec = SimpleNamespace(options=Options(**options), cwd=Path("/p"))
    project = SimpleNamespace(defaults=defaults, path="/p")
    assert starting._is_warm(world(**flags), spec, project) is expected
    beside = SimpleNamespace(options=Options(**options), cwd=Path("/elsewhere"))
    assert starting._is_warm(world(**flags), beside, project) is False


def test_stored_options_become_options_again():
    stored = {"model": "opus", "allowed_tools": ["Read", "Bash(git *)"], "max_turns": None}
    assert starting.options_of(stored) == Options(
        model="opus", allowed_tools=("Read", "Bash(git *)")
    )
