"""How executions end: every cause that Claude can give, told truly."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest

from tests.harness import history
from tests.harness.daemon import Daemon
from tests.harness.waiting import eventually

Make = Callable[..., Daemon]


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        ("400", "api_error"),
        ("401", "auth"),
        ("403", "auth"),
        ("404", "api_error"),
        ("413", "api_error"),
        ("429", "api_error"),
        ("500", "api_error"),
        ("529", "api_error"),
        ("no_credentials", "auth"),
        ("connection", "api_error"),
        ("timeout", "api_error"),
        ("credit", "api_error"),
        ("prompt_too_long", "prompt_too_long"),
        ("refusal", "api_error"),
    ],
)
def test_an_error_of_the_api_is_a_failure_with_its_cause(
    daemon: Daemon, error: str, cause: str
) -> None:
    ended = daemon.run({"error": error, "retries": 0})
    assert (ended["state"], ended["cause"]) == ("failed", cause), ended["message"]
    assert ended["message"], "one clear sentence"
    told = history.read(daemon, project="web").check()
    told.check_ended(ended["execution"], "failed")


def test_a_usage_limit_is_named_with_the_time_it_resets(daemon: Daemon) -> None:
    before = time.time()
    ended = daemon.run({"limit": True, "resets_in_s": 7200})
    assert (ended["state"], ended["cause"]) == ("failed", "usage_limit")
    assert ended["resets_at"] is not None
    hit = history.read(daemon, project="web").check().of_type("usage_limit.hit")
    assert len(hit) == 1
    assert abs(hit[0]["data"]["resets_at"] - before - 7200) < 60


def test_a_warning_about_a_limit_ends_nothing(daemon: Daemon) -> None:
    ended = daemon.run({"limit": "warning", "text": "fine"})
    assert (ended["state"], ended["result"]) == ("completed", "fine")


def test_retries_are_shown_while_they_last(daemon: Daemon) -> None:
    execution = daemon.execute(
        {
            "error": {"kind": "529", "retries": 3, "recovers": True},
            "retry_delay_ms": 400,
            "text": "ok",
        }
    )
    eventually(lambda: "of 3" in (daemon.get(execution)["retrying"] or ""))
    ended = daemon.wait(execution)
    assert (ended["state"], ended["retrying"]) == ("completed", None)


def test_used_up_turns_are_a_cause_of_their_own(daemon: Daemon) -> None:
    ended = daemon.run({"turns": 8, "text": "done"}, options={"max_turns": 2})
    assert (ended["state"], ended["cause"]) == ("failed", "max_turns")


def test_an_answer_by_schema_is_kept_as_data(daemon: Daemon) -> None:
    schema = {
        "type": "object",
        "properties": {"colour": {"type": "string"}, "count": {"type": "integer"}},
        "required": ["colour"],
    }
    wanted = {"colour": "red", "count": 3}
    ended = daemon.run({"structured": wanted}, options={"json_schema": schema})
    assert ended["state"] == "completed"
    assert ended["structured"] == wanted


def test_an_exit_code_does_not_overrule_a_result(daemon: Daemon) -> None:
    ended = daemon.run({"text": "done", "exit_code": 3})
    assert (ended["state"], ended["exit_code"], ended["result"]) == ("completed", 3, "done")


@pytest.mark.parametrize(
    ("directive", "cause"),
    [({"events": 3, "crash": True}, "killed"), ({"events": 3, "crash": "SIGKILL"}, "killed")],
)
def test_a_crash_of_claude_is_told_with_its_signal(
    daemon: Daemon, directive: dict[str, object], cause: str
) -> None:
    ended = daemon.run(directive)
    assert (ended["state"], ended["cause"]) == ("failed", cause)
    assert ended["signal"] in (9, 11)
    history.read(daemon, project="web").check().check_mock_events(ended["execution"], 3)


def test_what_claude_wrote_to_stderr_is_evidence(daemon: Daemon) -> None:
    ended = daemon.run({"stderr": "Error: something specific broke", "crash": "SIGABRT"})
    assert ended["state"] == "failed"
    assert "something specific broke" in ended["stderr"]
    assert "something specific broke" in ended["message"]
    told = history.read(daemon, project="web").check()
    assert [e["data"]["text"] for e in told.of_type("stderr")] == [
        "Error: something specific broke"
    ]


def test_claude_that_cannot_be_found_is_told_before_anything_starts(make_daemon: Make) -> None:
    daemon = make_daemon(env={"HIVECTL_CLAUDE_BIN": "/nowhere/claude"}).start()
    daemon.project()
    ended = daemon.run("hello")
    assert (ended["state"], ended["cause"]) == ("failed", "claude_not_found")
    health = daemon.call("health")
    assert not health["claude"]["found"]
    assert health["status"] == "degraded"


def test_claude_that_is_no_program_fails_with_the_reason(make_daemon: Make) -> None:
    daemon = make_daemon()
    fake = daemon.root / "claude"
    fake.write_text("#!/nowhere/interpreter\n")
    fake.chmod(0o755)
    daemon.extra_env["HIVECTL_CLAUDE_BIN"] = str(fake)
    daemon.start()
    daemon.project()
    ended = daemon.run("hello")
    assert ended["state"] == "failed"
    assert ended["cause"] in ("spawn_failed", "claude_not_found")
    assert ended["message"]
    assert daemon.is_running()


def test_options_reach_claude_as_flags(daemon: Daemon) -> None:
    ended = daemon.run(
        {"argv": True},
        options={
            "model": "opus",
            "append_system_prompt": "be brief",
            "allowed_tools": ["Read"],
            "disallowed_tools": ["WebFetch"],
            "max_turns": 7,
            "effort": "high",
        },
    )
    argv = " ".join(json.loads(ended["result"])["argv"])
    for wanted in ("opus", "append-system-prompt", "Read", "WebFetch", "7", "high"):
        assert wanted in argv


def test_variables_of_project_and_configuration_reach_claude_and_no_others(
    make_daemon: Make,
) -> None:
    daemon = make_daemon(claude_env={"FROM_CONFIG": "1"}, env={"SECRET_OF_DAEMON": "x"}).start()
    daemon.project(env={"FROM_PROJECT": "2"})
    names = ["FROM_CONFIG", "FROM_PROJECT", "SECRET_OF_DAEMON", "HIVECTL_EXECUTION", "HIVECTL_HOME"]
    ended = daemon.run({"env": names})
    values = json.loads(ended["result"])["values"]
    assert values["FROM_CONFIG"] == "1"
    assert values["FROM_PROJECT"] == "2"
    assert values["SECRET_OF_DAEMON"] is None
    assert values["HIVECTL_EXECUTION"] == ended["execution"]


def test_every_turn_adds_to_the_projects_totals(daemon: Daemon) -> None:
    costs = [daemon.run("hello")["cost_usd"] for _ in range(2)]
    totals = daemon.call("project.get", project="web")["totals"]
    assert totals["executions"] == 2
    assert totals["cost_usd"] == pytest.approx(sum(costs))
