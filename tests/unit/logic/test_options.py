"""S22, S27: every option has a strict pattern, and the refusal names the field, why, and what is allowed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import fields

from hivectl.logic import options
from hivectl.model.errors import HiveError
from hivectl.model.work import Options

CYCLE: dict[str, Any] = {}
CYCLE["self"] = CYCLE
DEEP: dict[str, Any] = {}
for _ in range(100_000):
    DEEP = {"a": DEEP}

GOOD: list[tuple[str, Any]] = [
    ("model", "sonnet"),
    ("model", "claude-opus-5-5[1m]"),
    ("model", "arn:aws:bedrock:us-east-1:123:inference-profile/us.anthropic.claude-v1:0"),
    ("model", "claude-opus-4@20250514"),
    ("fallback_model", "sonnet,haiku"),
    ("permission_mode", "acceptEdits"),
    (
        "allowed_tools",
        ("Bash(git *)", "Edit", "mcp__server__*", "WebFetch(domain:docs.python.org)"),
    ),
    ("disallowed_tools", ("Bash",)),
    ("append_system_prompt", "--settings={} is only text\n"),
    ("system_prompt", "ä"),
    ("max_turns", 1),
    ("effort", "max"),
    ("timeout_s", 0.5),
    ("no_output_timeout_s", 604_800),
    ("json_schema", {"type": "object"}),
    ("add_dirs", ("/srv/data dir/ä",)),
    ("partials", True),
]
BAD: list[tuple[str, Any]] = [
    ("model", ""),
    ("model", "-p"),
    ("model", "a b"),
    ("model", "a\n"),
    ("model", "a,b"),
    ("model", "x" * 201),
    ("fallback_model", "a,,b"),
    ("fallback_model", "a,--x"),
    ("permission_mode", "bypassPermissions"),
    ("permission_mode", ""),
    ("allowed_tools", ("",)),
    ("allowed_tools", ("--settings={}",)),
    ("allowed_tools", ("Bash(a),Edit",)),
    ("allowed_tools", ("Bash(a",)),
    ("allowed_tools", ("Bash(a) --x",)),
    ("allowed_tools", ("Bash(\n)",)),
    ("allowed_tools", ("Bash(\ud800)",)),
    ("allowed_tools", ("Edit",) * 201),
    ("disallowed_tools", ("Bash(" + "x" * 999 + ")",) * 100),
    ("append_system_prompt", " \n"),
    ("append_system_prompt", "a\0b"),
    ("system_prompt", "\ud800"),
    ("system_prompt", "x" * (1 << 20) + "x"),
    ("max_turns", 0),
    ("max_turns", 100_001),
    ("max_turns", True),
    ("max_turns", "3"),
    ("effort", "extreme"),
    ("timeout_s", 0),
    ("timeout_s", -1.0),
    ("timeout_s", float("nan")),
    ("timeout_s", float("inf")),
    ("timeout_s", True),
    ("timeout_s", "5"),
    ("no_output_timeout_s", 604_801),
    ("json_schema", {}),
    ("json_schema", [1]),
    ("json_schema", {"a": float("nan")}),
    ("json_schema", {"a": {1, 2}}),
    ("json_schema", CYCLE),
    ("json_schema", DEEP),
    ("json_schema", {"a": "x" * 65_536}),
    ("add_dirs", ("relative",)),
    ("add_dirs", ("/srv/../etc",)),
    ("add_dirs", ("/a\nb",)),
    ("add_dirs", ("/a\ud800",)),
    ("add_dirs", ("/" + "x" * 4096,)),
    ("add_dirs", ("/a",) * 21),
]


@pytest.mark.parametrize(("field", "value"), GOOD, ids=lambda v: repr(v)[:40])
def test_what_is_allowed_passes(field: str, value: Any) -> None:
    options.validate_options(Options(**{field: value}))


@pytest.mark.parametrize(("field", "value"), BAD, ids=lambda v: str(type(v)))
def test_what_is_not_allowed_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(HiveError) as caught:
        options.validate_options(Options(**{field: value}))
    assert caught.value.code == "INVALID_PARAMS"
    (error,) = caught.value.details["errors"]
    assert error["field"] == field
    assert error["reason"]
    assert error["allowed"] in caught.value.message


def test_all_wrong_fields_are_told_at_once() -> None:
    with pytest.raises(HiveError) as caught:
        options.validate_options(Options(model="", effort="x", max_turns=0))
    assert [error["field"] for error in caught.value.details["errors"]] == [
        "model", "max_turns", "effort",
    ]  # fmt: skip


def test_every_option_has_a_check() -> None:
    assert {field.name for field in fields(Options)} - {"partials"} == set(options.CHECKS)


@given(st.text(st.characters(codec=None), max_size=30))
def test_s27_no_model_or_tool_can_pass_for_a_flag_or_hide_a_character(text: str) -> None:
    for field, value in (("model", text), ("allowed_tools", (text,))):
        try:
            options.validate_options(Options(**{field: value}))  # type: ignore[arg-type]
        except HiveError:
            continue
        assert text
        assert not text.startswith("-")
        assert not any(ord(letter) < 32 for letter in text)
        text.encode()


def test_session_ids_are_lower_case_uuids() -> None:
    good = "11111111-1111-4111-8111-abcdefabcdef"
    assert options.is_session_id(good)
    for wrong in ("", good.upper(), good + "\n", good[:-1], "latest", f"--{good}"):
        assert not options.is_session_id(wrong)
