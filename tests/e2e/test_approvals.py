"""Permissions and questions, from Claude's request to what it does with the answer."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.harness import history
from tests.harness.daemon import Daemon, RpcError, mock
from tests.harness.waiting import eventually

Make = Callable[..., Daemon]
WRITE = {"name": "Write", "input": {"file_path": "made.txt", "content": "hello\n"}}


def _path(daemon: Daemon, name: str) -> Path:
    return Path(daemon.call("project.get", project="web")["path"]) / name


def _ask(daemon: Daemon, *, tool: Any = WRITE, then: str = "thanks") -> tuple[str, dict[str, Any]]:
    execution = daemon.execute({"steps": [{"permission": tool}, {"text": then}]})
    return execution, daemon.wait_approval(execution)


def test_an_allowed_call_is_made(daemon: Daemon) -> None:
    execution, approval = _ask(daemon)
    assert (approval["tool"], approval["kind"], approval["state"]) == (
        "Write",
        "permission",
        "pending",
    )
    waiting = daemon.get(execution)
    assert (waiting["state"], waiting["waiting_for"]) == ("waiting", [approval["id"]])
    assert daemon.call("project.get", project="web")["state"] == "waiting"
    assert not _path(daemon, "made.txt").exists()
    decided = daemon.decide(approval)
    assert (decided["state"], decided["decision"]) == ("decided", "allow")
    assert decided["decided_by"].startswith("user:")
    assert daemon.wait(execution)["result"] == "thanks"
    assert _path(daemon, "made.txt").read_text() == "hello\n"
    told = history.read(daemon, project="web").check()
    types = [e["type"] for e in told.of(execution) if e["type"].startswith("approval.")]
    assert types == ["approval.requested", "approval.decided"]


def test_a_changed_input_is_what_happens(daemon: Daemon) -> None:
    execution, approval = _ask(daemon)
    changed = {**approval["input"], "content": "changed\n"}
    decided = daemon.decide(approval, input=changed)
    assert (decided["input"], decided["changed_input"]) == (approval["input"], changed)
    assert daemon.wait(execution)["state"] == "completed"
    told = history.read(daemon, project="web").of_type("approval.decided")
    assert told[-1]["data"]["changed_input"] == changed
    assert _path(daemon, "made.txt").read_text() == "changed\n"


def test_a_denied_call_is_not_made_and_claude_hears_why(daemon: Daemon) -> None:
    execution, approval = _ask(daemon)
    daemon.decide(approval, "deny", message="not in this directory")
    ended = daemon.wait(execution)
    assert (ended["state"], ended["result"]) == ("completed", "thanks")
    assert not _path(daemon, "made.txt").exists()
    told = history.read(daemon, project="web").check()
    heard = [
        e for e in told.of(execution) if e["type"] == "message" and e["data"]["kind"] == "user"
    ]
    assert any("not in this directory" in str(event["data"]["raw"]) for event in heard)


def test_a_denial_with_interrupt_ends_the_turn(daemon: Daemon) -> None:
    execution, approval = _ask(daemon)
    daemon.decide(approval, "deny", message="stop it", interrupt=True)
    ended = daemon.wait(execution)
    assert (ended["state"], ended["cause"]) == ("cancelled", "killed")
    assert "stop it" in ended["message"]


def test_a_remembered_answer_becomes_a_rule_for_the_next_time(daemon: Daemon) -> None:
    execution, approval = _ask(daemon)
    daemon.decide(approval, remember=True)
    daemon.wait(execution)
    rules = daemon.call("policy.list")["items"]
    assert [(rule["action"], rule["tool"]) for rule in rules] == [("allow", "Write")]
    _path(daemon, "made.txt").unlink()
    again = daemon.run({"steps": [{"permission": WRITE}, {"text": "by rule"}]})
    assert (again["state"], again["result"]) == ("completed", "by rule")
    assert again["waited_ms"] == 0
    assert _path(daemon, "made.txt").exists()
    told = history.read(daemon, project="web").check()
    assert told.of_type("approval.decided")[-1]["data"]["decided_by"] == f"policy:{rules[0]['id']}"


def test_two_people_at_once_make_one_decision(daemon: Daemon) -> None:
    execution, approval = _ask(daemon)

    def answer(decision: str) -> str:
        try:
            daemon.decide(approval, decision)
        except RpcError as error:
            return f"{error.code} by {error.data['details']['decided_by'].partition(':')[0]}"
        return "done"

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(answer, ["allow", "deny"] * 3))
    assert sorted(outcomes) == ["ALREADY_DECIDED by user"] * 5 + ["done"]
    daemon.wait(execution)
    told = history.read(daemon, project="web").check()
    assert len(told.of_type("approval.decided")) == 1


def test_an_answer_to_an_older_version_is_refused(daemon: Daemon) -> None:
    execution, approval = _ask(daemon)
    with pytest.raises(RpcError) as caught:
        daemon.call("approval.decide", id=approval["id"], version=99, decision="allow")
    assert caught.value.code == "VERSION_CONFLICT"
    daemon.decide(approval)
    assert daemon.wait(execution)["state"] == "completed"


def test_an_approval_is_withdrawn_when_its_run_ends(daemon: Daemon) -> None:
    execution, approval = _ask(daemon)
    daemon.call("kill", execution=execution, mode="kill")
    found = daemon.call("approval.get", id=approval["id"])
    assert found["state"] == "withdrawn"
    with pytest.raises(RpcError) as caught:
        daemon.decide(approval)
    assert caught.value.code == "ALREADY_DECIDED"
    told = history.read(daemon, project="web").check()
    assert len(told.of_type("approval.expired")) == 1


def test_a_wait_survives_the_death_of_the_daemon(daemon: Daemon) -> None:
    execution, approval = _ask(daemon)
    for _ in range(2):
        daemon.restart()
        assert daemon.get(execution)["state"] == "waiting"
        assert daemon.call("approval.list")["items"] == [approval]
    daemon.decide(approval)
    assert daemon.wait(execution)["result"] == "thanks"
    history.read(daemon, project="web").check()
    assert len(daemon.mock_starts()) == 1


def test_an_answer_right_after_a_restart_is_heard(daemon: Daemon) -> None:
    execution, approval = _ask(daemon)
    daemon.kill()
    daemon.start()
    daemon.decide(approval)
    assert daemon.wait(execution)["result"] == "thanks"


def test_rules_are_tried_in_order_and_the_rest_is_asked(daemon: Daemon) -> None:
    daemon.call("policy.add", action="deny", tool="Bash", match={"command": "rm *"})
    daemon.call("policy.add", action="allow", tool="Bash", match={"command": "touch *"})
    for command, made in (("touch ok.txt", True), ("rm -r /nowhere", False)):
        ended = daemon.run(
            {
                "steps": [
                    {"permission": {"name": "Bash", "input": {"command": command}}},
                    {"text": "x"},
                ]
            }
        )
        assert ended["waited_ms"] == 0
        assert _path(daemon, "ok.txt").exists() is (made or _path(daemon, "ok.txt").exists())
    execution, approval = _ask(daemon, tool={"name": "Bash", "input": {"command": "mkdir -p z"}})
    daemon.decide(approval, "deny")
    daemon.wait(execution)
    decisions = [
        e["data"]["decision"]
        for e in history.read(daemon, project="web").of_type("approval.decided")
    ]
    assert decisions == ["allow", "deny", "deny"]


@pytest.mark.parametrize(("default", "exists"), [("deny", False), ("allow", True)])
def test_the_default_answers_where_no_rule_does(
    make_daemon: Make, default: str, exists: bool
) -> None:
    daemon = make_daemon(settings={"approval.default": default}).start()
    daemon.project()
    ended = daemon.run({"steps": [{"permission": WRITE}, {"text": "done"}]})
    assert ended["state"] == "completed"
    assert _path(daemon, "made.txt").exists() is exists


# --- questions


QUESTIONS = [
    {"question": "Which colour?", "header": "Colour", "multiSelect": False,
     "options": [{"label": "Red", "description": ""}, {"label": "Blue", "description": ""}]},
    {"question": "Which size?", "header": "Size", "multiSelect": False,
     "options": [{"label": "S", "description": ""}, {"label": "L", "description": ""}]},
]  # fmt: skip


def test_a_question_is_answered_in_the_users_words(daemon: Daemon) -> None:
    execution = daemon.execute({"steps": [{"ask": QUESTIONS}, {"text": "thanks"}]})
    question = daemon.wait_approval(execution)
    assert (question["kind"], question["tool"]) == ("question", "AskUserQuestion")
    with pytest.raises(RpcError) as caught:
        daemon.decide(question, answers={"Which colour?": "Red"})
    assert caught.value.code == "INVALID_PARAMS"
    assert "Which size?" in str(caught.value)
    with pytest.raises(RpcError):
        daemon.decide(question)
    answers = {"Which colour?": "Blue", "Which size?": "something else"}
    decided = daemon.decide(question, answers=answers)
    assert (decided["answers"], decided["changed_input"]) == (answers, None)
    ended = daemon.wait(execution)
    assert ended["result"] == "thanks"
    told = history.read(daemon, project="web").check()
    heard = [str(e["data"].get("raw")) for e in told.of(execution) if e["type"] == "message"]
    assert any("Blue" in text and "something else" in text for text in heard[1:])


def test_a_question_can_be_refused_with_a_reason(daemon: Daemon) -> None:
    execution = daemon.execute({"steps": [{"ask": True}, {"text": "as I like, then"}]})
    daemon.decide(daemon.wait_approval(execution), "deny", message="decide yourself")
    assert daemon.wait(execution)["result"] == "as I like, then"


def test_no_allow_rule_answers_a_question_or_a_plan(daemon: Daemon) -> None:
    daemon.call("policy.add", action="allow", tool="*")
    execution = daemon.execute({"steps": [{"ask": True}, {"text": "thanks"}]})
    question = daemon.wait_approval(execution)
    daemon.decide(question, answers={"Which colour do you want?": "Red"})
    assert daemon.wait(execution)["state"] == "completed"


@pytest.mark.parametrize("decision", ["allow", "deny"])
def test_a_plan_waits_for_a_person(daemon: Daemon, decision: str) -> None:
    execution = daemon.execute(
        {"steps": [{"plan": "1. look 2. change"}, {"text": "planned"}]},
        options={"permission_mode": "plan"},
    )
    plan = daemon.wait_approval(execution)
    assert (plan["kind"], plan["tool"]) == ("question", "ExitPlanMode")
    assert plan["input"]["plan"] == "1. look 2. change"
    daemon.decide(plan, decision, **({"message": "not yet"} if decision == "deny" else {}))
    assert daemon.wait(execution)["state"] == "completed"


@pytest.mark.parametrize("decision", ["approve", "deny"])
def test_a_plan_is_decided_by_command_like_a_permission(daemon: Daemon, decision: str) -> None:
    execution = daemon.execute({"steps": [{"plan": "# Plan\n1. do it"}, {"text": "planned"}]})
    plan = daemon.wait_approval(execution)
    done = subprocess.run(
        [sys.executable, "-m", "hivectl", decision, plan["id"]],
        env=daemon.env, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    decided = daemon.call("approval.get", id=plan["id"])
    assert decided["decision"] == ("allow" if decision == "approve" else "deny")
    assert daemon.wait(execution)["state"] == "completed"


def test_the_inbox_shows_what_waits_in_every_project(daemon: Daemon) -> None:
    daemon.project("api")
    first = daemon.execute({"permission": WRITE})
    second = daemon.execute({"permission": WRITE}, project="api")
    eventually(lambda: len(daemon.call("approval.list")["items"]) == 2)
    items = daemon.call("approval.list")["items"]
    assert {item["execution"] for item in items} == {first, second}
    assert {item["project_name"] for item in items} == {"web", "api"}
    assert len(daemon.call("approval.list", project="api")["items"]) == 1
    for item in items:
        daemon.decide(item)
    for execution in (first, second):
        assert daemon.wait(execution)["state"] == "completed"
    assert daemon.call("approval.list")["items"] == []


def test_many_questions_in_one_run_are_all_heard(daemon: Daemon) -> None:
    steps = [
        {"permission": {"name": "Write", "input": {"file_path": f"f{n}", "content": ""}}}
        for n in range(6)
    ]
    execution = daemon.execute(mock(steps=[*steps, {"text": "all done"}]))
    seen: set[str] = set()

    def over() -> bool:
        for approval in daemon.call("approval.list", execution=execution)["items"]:
            seen.add(approval["id"])
            daemon.decide(approval)
        return bool(daemon.get(execution)["ended_at"])

    eventually(over, within_s=30)
    assert daemon.get(execution)["result"] == "all done"
    assert len(seen) == 6
    assert all(_path(daemon, f"f{n}").exists() for n in range(6))
