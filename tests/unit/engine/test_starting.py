"""Which conversation a prompt goes on in, and what may be kept warm."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from msgspec.structs import fields, replace

from hivectl import config
from hivectl.engine import starting
from hivectl.model.session import Session, SessionState
from hivectl.model.work import Options

CURRENT, OTHER = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"


def order(session="current", *, fork=False):
    return SimpleNamespace(session=session, fork=fork)


def world(**flags):
    settings = config.load(
        {name.replace("__", "."): value for name, value in flags.items()},
        env={"HOME": "/nowhere", "HIVECTL_HOME": "/nowhere/h"},
    )
    return SimpleNamespace(settings=lambda: settings)


def session(state=SessionState.IDLE, **changes):
    values = dict.fromkeys(field.name for field in fields(Session))
    known = {"id": CURRENT, "project": "p_1", "state": state, "last_execution": "x_1"}
    return Session(**{**values, **known, **changes})


COPY = session(SessionState.FORKED, last_execution=None, forked_from=OTHER)
"""Asked for, and begun by nobody."""


@pytest.mark.parametrize(
    ("wanted", "named", "expected"),
    [
        (order(), session(), (CURRENT, True, None)),
        (order(OTHER), session(id=OTHER), (OTHER, True, None)),
        (order(OTHER), None, (OTHER, True, None)),
        (order(OTHER, fork=True), None, (None, False, OTHER)),
        (order(), None, (None, False, None)),
        (order("new"), None, (None, False, None)),
        (order(fork=True), session(), (None, False, CURRENT)),
        (order(OTHER, fork=True), session(id=OTHER), (None, False, OTHER)),
        (order(), COPY, (CURRENT, False, OTHER)),
        (order(CURRENT), COPY, (CURRENT, False, OTHER)),
        (order(fork=True), COPY, (None, False, OTHER)),
        (order(), replace(COPY, last_execution="x_1"), (CURRENT, True, None)),
        (order(fork=True), replace(COPY, last_execution="x_1"), (None, False, CURRENT)),
    ],
)
def test_a_prompt_goes_on_begins_or_forks(wanted, named, expected):
    chosen, resume, fork_from = starting._choose_session(world(), wanted, named)
    assert (resume, fork_from) == expected[1:]
    if expected[0] is None:
        assert chosen not in (CURRENT, OTHER)
    else:
        assert chosen == expected[0]


@pytest.mark.parametrize("state", list(SessionState))
@pytest.mark.parametrize("on_expiry", ["resume", "fresh"])
def test_only_an_ended_conversation_is_begun_afresh_and_only_if_so_configured(state, on_expiry):
    configured = world(session__on_expiry=on_expiry)
    is_fresh = state is SessionState.ENDED and on_expiry == "fresh"
    chosen, resume, _ = starting._choose_session(configured, order(), session(state))
    assert (chosen == CURRENT, resume) == (not is_fresh, not is_fresh)
    named, *_ = starting._choose_session(configured, order(CURRENT), session(state))
    assert named == CURRENT, "one that is named is always resumed"


def test_a_copy_of_an_ended_conversation_is_a_copy_of_that_one():
    fresh = world(session__on_expiry="fresh")
    ended = session(SessionState.ENDED)
    assert starting._choose_session(fresh, order(fork=True), ended)[2] == CURRENT


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
