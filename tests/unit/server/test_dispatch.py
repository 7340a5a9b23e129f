"""From request to answer, without a socket."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from hivectl.model.access import PERSON_SCOPES, Caller, Scope
from hivectl.model.errors import HiveError
from hivectl.protocol.methods import METHODS, params_model
from hivectl.server.dispatch import Dispatcher, parse_params

ME = Caller(actor="user:me", scopes=PERSON_SCOPES, request="r_1")


async def echo(_caller: Caller, params: Any) -> Any:
    return params


async def test_parameters_arrive_as_their_model() -> None:
    dispatcher = Dispatcher({"execute": echo})
    got = await dispatcher.dispatch(ME, METHODS["execute"], {"project": "web", "prompt": "p"})
    assert (got.project, got.session) == ("web", "current")


def test_bindings_without_a_row_are_refused() -> None:
    with pytest.raises(ValueError, match=r"project\.fly"):
        Dispatcher({"project.fly": echo})


async def test_a_scope_that_is_missing_is_named() -> None:
    reader = Caller(actor="user:me", scopes=frozenset({Scope.READ}))
    with pytest.raises(HiveError) as caught:
        await Dispatcher({"execute": echo}).dispatch(reader, METHODS["execute"], {})
    assert (caught.value.code, caught.value.details) == ("FORBIDDEN", {"scope": "execute"})


async def test_local_bindings_come_first() -> None:
    async def local(_caller: Caller, _params: Any) -> str:
        return "local"

    dispatcher = Dispatcher({"ping": echo})
    assert await dispatcher.dispatch(ME, METHODS["ping"], {}, {"ping": local}) == "local"


async def test_a_failing_audit_does_not_undo_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    async def audit(*_what: Any) -> None:
        raise OSError("disk")

    dispatcher = Dispatcher({"kill": echo}, audit=audit)
    assert await dispatcher.dispatch(ME, METHODS["kill"], {"execution": "x_1"})
    assert "audit entry" in caplog.text


async def test_what_is_cancelled_is_audited_too() -> None:
    noted: list[str] = []

    async def audit(_caller: Caller, method: str, target: str, outcome: str) -> None:
        noted.append(f"{method} {target} {outcome}")

    async def never(_caller: Caller, _params: Any) -> None:
        await asyncio.Event().wait()

    dispatcher = Dispatcher({"kill": never}, audit=audit)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await dispatcher.dispatch(ME, METHODS["kill"], {"execution": "x_1"})
    assert noted == ["kill x_1 cancelled"]


async def test_s46_whatever_is_changed_is_named_in_the_audit() -> None:
    noted: list[str] = []

    async def audit(_caller: Caller, _method: str, target: str, _outcome: str) -> None:
        noted.append(target)

    dispatcher = Dispatcher({}, audit=audit)
    names = {"execution", "work_order", "worker", "project", "thread", "id", "session", "path"}
    for method in METHODS.values():
        for name in names & params_model(method).model_fields.keys() if method.changes else ():
            with pytest.raises(HiveError):
                await dispatcher.dispatch(ME, method, {name: "thing", "to": 1})
            assert noted.pop() == "thing", f"{method.name} {name}"


@pytest.mark.parametrize(
    ("method", "params", "pointers"),
    [
        ("execute", {}, {"/project", "/prompt"}),
        ("execute", {"project": 1, "prompt": "p"}, {"/project"}),
        ("execute", {"project": "w", "prompt": "p", "options": {"env": {}}}, {"/options/env"}),
        ("subscribe", {"streams": ["*"], "since": {"epoch": "e"}}, {"/since/seq"}),
        ("subscribe", {"streams": [7]}, {"/streams/0"}),
        ("kill", {}, {""}),
        ("project.create", {"path": "/a", "env": {"a/b": "x"}}, {"/env/a~1b"}),
    ],
)
def test_each_wrong_parameter_is_pointed_at(
    method: str, params: dict[str, Any], pointers: set[str]
) -> None:
    with pytest.raises(HiveError) as caught:
        parse_params(METHODS[method], params)
    found = {error["pointer"] for error in caught.value.details["errors"]}
    assert pointers <= found


@pytest.mark.parametrize(
    ("method", "params", "message"),
    [
        ("project.create", {"path": "/x", "name": "Foo"}, "name: may only have the characters a-z 0-9 . _ - and begins with a letter or digit"),
        ("project.create", {"path": "/x", "env": {"1": "x"}}, "env.1: may only have letters, digits and _ and does not begin with a digit"),
        ("policy.add", {"action": "maybe", "tool": "Bash"}, "action: must be 'allow', 'deny' or 'ask'"),
        ("policy.add", {"action": "deny", "tool": ""}, "tool: must not be empty"),
        ("project.get", {}, "project: must be given"),
        ("project.get", {"project": "web", "zz": 1}, "zz: is not known here"),
        ("execution.list", {"limit": 0}, "limit: must be at least 1"),
        ("execution.list", {"limit": "1"}, "limit: must be a whole number"),
        ("execute", {"project": "w", "prompt": "p", "options": {"timeout_s": -1}}, "options.timeout_s: must be more than 0"),
        ("log.prune", {}, "give older_than_s, keep_bytes or both"),
    ],
)  # fmt: skip
def test_what_is_allowed_is_said_in_words(
    method: str, params: dict[str, Any], message: str
) -> None:
    with pytest.raises(HiveError) as caught:
        parse_params(METHODS[method], params)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("since", "message"),
    [
        ({"last": 10**9}, "since.last: must be at most 100000"),
        ({"last": "x"}, "since.last: must be a whole number"),
        ("never", "since: must be 'now' or 'start'"),
    ],
)
def test_of_what_has_several_forms_the_one_that_was_meant_is_told(since: Any, message: str) -> None:
    with pytest.raises(HiveError) as caught:
        parse_params(METHODS["subscribe"], {"streams": ["system"], "since": since})
    assert caught.value.message == message


def test_no_wrong_parameter_is_told_in_the_words_of_a_library() -> None:
    for method in METHODS.values():
        for wrong in (None, -1, "", [], {}, "x" * 200_000, [None] * 2000):
            names = params_model(method).model_fields
            try:
                parse_params(method, dict.fromkeys(names, wrong))
            except HiveError as exc:
                for error in exc.details["errors"]:
                    assert not error["message"].startswith(("Input", "String", "Value", "List")), (
                        error
                    )


def test_what_was_sent_is_not_repeated_in_the_error() -> None:
    with pytest.raises(HiveError) as caught:
        parse_params(METHODS["auth"], {"token": ["hive_secret"], "client": "hive_secret"})
    assert "hive_secret" not in str(caught.value) + repr(caught.value.details)
