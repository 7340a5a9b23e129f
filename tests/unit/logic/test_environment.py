"""S26: the child's environment is an allow-list."""

import pytest

from hivectl.logic.environment import environment, is_on, validate_additions
from hivectl.model.errors import HiveError

DAEMON = {
    "PATH": "/usr/bin", "HOME": "/home/dev", "LC_ALL": "C", "XDG_RUNTIME_DIR": "/run/user/1",
    "HTTPS_PROXY": "http://proxy", "SSH_AUTH_SOCK": "/run/agent", "ANTHROPIC_API_KEY": "key",
    "CLAUDE_CONFIG_DIR": "/c", "CLAUDE_CODE_OAUTH_TOKEN": "t",
}  # fmt: skip
CANARIES = {
    "GITHUB_TOKEN": "canary", "DATABASE_URL": "canary", "AWS_SECRET_ACCESS_KEY": "canary",
    "GOOGLE_APPLICATION_CREDENTIALS": "canary", "CLOUD_ML_REGION": "canary", "CLAUDECODE": "canary",
    "HIVECTL_TOKEN": "canary", "HIVECTL_EXECUTION": "canary", "NODE_OPTIONS": "canary",
    "LD_PRELOAD": "canary", "PYTHONPATH": "canary", "IS_SANDBOX": "canary", "EDITOR": "canary",
}  # fmt: skip


def test_s26_only_allowed_variables_of_the_daemon_reach_the_child() -> None:
    env = environment({**DAEMON, **CANARIES}, {}, {}, "x_1")
    assert "canary" not in env.values()
    assert env == {
        **DAEMON,
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "HIVECTL_EXECUTION": "x_1",
    }


@pytest.mark.parametrize("switch", ["CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX"])
def test_cloud_credentials_go_along_only_when_a_cloud_is_in_use(switch: str) -> None:
    clouds = {"AWS_PROFILE": "p", "GOOGLE_CLOUD_PROJECT": "g", "CLOUD_ML_REGION": "r"}
    for value, expected in (("1", True), ("true", True), ("0", False), ("", False), ("off", False)):
        for daemon, config in (({switch: value}, {}), ({}, {switch: value})):
            env = environment({**clouds, **daemon}, config, {}, "x_1")
            assert (clouds.items() <= env.items()) is expected
    assert not is_on({}, switch)


def test_the_project_wins_over_the_configuration_and_both_over_the_daemon() -> None:
    env = environment({"LANG": "a"}, {"LANG": "b", "TERM": "b", "NEW": "b"}, {"LANG": "c"}, "x_1")
    assert (env["LANG"], env["TERM"], env["NEW"]) == ("c", "b", "b")


def test_what_keeps_a_child_in_hand_cannot_be_switched_off() -> None:
    env = environment({}, {"DISABLE_AUTOUPDATER": "0"}, {}, "x_1")
    assert env["DISABLE_AUTOUPDATER"] == "1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("A=B", "x"),
        ("", "x"),
        ("1A", "x"),
        ("A B", "x"),
        ("HIVECTL_EXECUTION", "x_2"),
        ("A", "\0"),
        ("A", "\ud800"),
    ],
)
def test_additions_that_cannot_be_are_refused(name: str, value: str) -> None:
    with pytest.raises(HiveError) as caught:
        environment({}, {}, {name: value}, "x_1")
    assert caught.value.code == "INVALID_PARAMS"
    assert caught.value.details["errors"][0]["field"].startswith("env.")


def test_the_field_of_a_wrong_addition_can_be_named_by_the_caller() -> None:
    with pytest.raises(HiveError, match=r"claude\.env\.HIVECTL_X"):
        validate_additions({"HIVECTL_X": "1"}, field="claude.env")
