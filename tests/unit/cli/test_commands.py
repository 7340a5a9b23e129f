import json
import re

import pytest
import yaml

from hivectl.model.errors import HiveError

CREATED = "2026-11-21T03:00:00Z"


def asked(script, method):
    return [params for name, params in script.daemon.requests if name == method][-1]


def test_ps_shows_what_is_not_over(hive, script):
    ran = hive("ps")
    assert asked(script, "execution.list")["states"] == [
        "pending",
        "starting",
        "running",
        "waiting",
    ]
    assert "x_1" in ran.out
    assert hive("ps", "-a").code == 0
    assert "states" not in asked(script, "execution.list")


def test_nothing_to_show_is_said_on_stderr(hive, script):
    script.daemon.answers["execution.list"] = lambda params: {"items": [], "next_cursor": None}
    ran = hive("ps", "-o", "wide")
    assert (ran.out, ran.code) == ("", 0)
    assert "nothing runs" in ran.err
    assert "nothing runs" in hive("ps").err


@pytest.mark.parametrize("words", [("ps",), ("project", "list"), ("inbox",)])
def test_every_format_of_a_list(hive, script, words):
    found = json.loads(hive(*words, "--json").out)
    assert len(found["items"]) == 1
    assert yaml.safe_load(hive(*words, "-o", "yaml").out) == found
    assert json.loads(hive("-o", "json", *words).out) == found
    name = hive(*words, "-o", "name").out.strip()
    assert name in {"x_1", "web", "a_1"}
    assert name in hive(*words, "-o", "wide").out


def test_an_unknown_format_is_refused(hive, script):
    ran = hive("project", "list", "-o", "xml")
    assert ran.code == 2
    assert "table, wide, json, yaml, name" in ran.err


def test_global_options_may_stand_anywhere(hive, script):
    for words in (
        ("--json", "project", "list"),
        ("project", "--json", "list"),
        ("project", "list", "--json"),
    ):
        assert json.loads(hive(*words).out)["items"]


def test_an_unknown_command_gets_a_did_you_mean(hive, script):
    ran = hive("projct", "list")
    assert ran.code == 2
    assert "Did you mean `project`?" in ran.err
    assert "Did you mean `list`?" in hive("project", "lst").err


def test_an_unknown_option_gets_a_did_you_mean(hive, script):
    ran = hive("wait", "x_1", "--timeot", "3s")
    assert ran.code == 2
    assert "--timeout" in ran.err


def test_without_a_command_help_is_shown(hive, script):
    ran = hive()
    assert ran.code == 2
    assert "exec" in ran.err


def test_show_takes_an_id_or_the_project_s_newest(hive, script):
    assert "fix the failing test" in hive("show", "x_1").out
    assert "fix the failing test" in hive("show", "web").out
    assert json.loads(hive("show", "x_1", "--json").out)["execution"] == "x_1"


def test_wait_exits_with_the_worst_outcome(hive, script, kit):
    ends = {
        "x_1": kit.execution("x_1", state="completed", cause="ok"),
        "x_2": kit.execution("x_2", state="failed", cause="claude_error"),
        "x_3": kit.execution("x_3", state="lost", cause="shim_lost"),
    }
    script.daemon.answers["execution.wait"] = lambda params: ends[params["execution"]]
    assert hive("wait", "x_1").code == 0
    assert hive("wait", "x_1", "x_2").code == 1
    ran = hive("wait", "x_1", "x_2", "x_3")
    assert ran.code == 11
    assert ran.out.splitlines() == [
        "x_1  completed",
        "x_2  failed (claude_error)",
        "x_3  lost (shim_lost)",
    ]
    assert [
        item["execution"] for item in json.loads(hive("wait", "x_1", "x_2", "--json").out)["items"]
    ] == ["x_1", "x_2"]


def test_wait_gives_up_after_its_timeout(hive, script):
    def late(params):
        raise HiveError("WAIT_TIMEOUT")

    script.daemon.answers["execution.wait"] = late
    ran = hive("wait", "x_1", "--timeout", "2s")
    assert ran.code == 7
    assert asked(script, "execution.wait")["timeout_s"] == 2.0


def test_wait_can_return_for_a_person(hive, script, kit):
    script.daemon.answers["execution.wait"] = lambda params: kit.execution(state="waiting")
    assert hive("wait", "x_1", "--no-wait-approval").code == 8
    assert asked(script, "execution.wait")["or_waiting"] is True


def test_a_duration_that_is_none_is_refused(hive, script):
    ran = hive("wait", "x_1", "--timeout", "soon")
    assert ran.code == 2
    assert "1h30m" in ran.err


@pytest.mark.parametrize(
    ("words", "mode"), [((), "terminate"), (("--force",), "kill"), (("--interrupt",), "interrupt")]
)
def test_kill_says_what_died(hive, script, kit, words, mode):
    dead = kit.execution(state="cancelled", cause="killed")
    script.daemon.answers["kill"] = lambda params: {"executions": [dead], "survivors": 0}
    ran = hive("kill", "x_1", "--reason", "enough", *words)
    assert ran.code == 0
    assert ran.out == "x_1  web  cancelled\n"
    assert asked(script, "kill") == {"execution": "x_1", "mode": mode, "reason": "enough"}


@pytest.mark.parametrize(
    ("words", "hint"),
    [(("--interrupt",), "hivectl kill x_1"), ((), "hivectl kill --force x_1")],
)
def test_what_did_not_stop_is_named_with_what_ends_it(hive, script, kit, words, hint):
    deaf = kit.execution(state="running")
    script.daemon.answers["kill"] = lambda params: {"executions": [deaf], "survivors": 0}
    ran = hive("kill", "x_1", *words)
    assert ran.code == 6
    assert ran.out == f"x_1  web  running: it did not stop; end it with: {hint}\n"
    assert hive("kill", "x_1", "--json", *words).code == 6


def test_wait_takes_a_project(hive, script, kit):
    script.daemon.answers["execution.wait"] = lambda params: kit.execution(state="completed")
    assert hive("wait", "web").code == 0
    assert asked(script, "execution.wait")["execution"] == "x_1"


def test_kill_takes_a_project_and_several(hive, script, kit):
    script.daemon.answers["kill"] = lambda params: {"executions": [], "survivors": 0}
    ran = hive("kill", "web", "x_2")
    assert "nothing was running" in ran.out
    assert {"project": "web", "mode": "terminate", "reason": ""} in [
        p for n, p in script.daemon.requests if n == "kill"
    ]


def test_kill_with_survivors_fails_loudly(hive, script):
    script.daemon.answers["kill"] = lambda params: {"executions": [], "survivors": 2}
    ran = hive("kill", "web")
    assert ran.code == 1
    assert "2 processes could not be ended" in ran.out


def test_kill_of_what_has_ended_says_so_once(hive, script):
    def gone(params):
        raise HiveError("PROCESS_NOT_FOUND", "x_1 has ended already.")

    script.daemon.answers["kill"] = gone
    ran = hive("kill", "x_1")
    assert ran.code == 5
    assert sum(name == "kill" for name, _ in script.daemon.requests) == 1


def test_approve_sends_the_version_that_was_looked_at(hive, script, kit):
    script.daemon.answers["approval.decide"] = lambda params: kit.approval(
        state="decided", decision="allow"
    )
    ran = hive("approve", "a_1", "--always")
    assert ran.out == "allowed  a_1  Bash rm -rf build\n"
    assert asked(script, "approval.decide") == {
        "id": "a_1",
        "version": 1,
        "decision": "allow",
        "remember": True,
    }


def test_approve_with_other_input(hive, script, kit, tmp_path, monkeypatch):
    script.daemon.answers["approval.decide"] = lambda params: kit.approval(decision="allow")
    hive("approve", "a_1", "--input", '{"command": "ls"}')
    assert asked(script, "approval.decide")["input"] == {"command": "ls"}
    editor = tmp_path / "ed.sh"
    editor.write_text('#!/bin/sh\nsed -i s/build/dist/ "$1"\n')
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    hive("approve", "a_1", "--edit")
    assert asked(script, "approval.decide")["input"] == {"command": "rm -rf dist"}


def test_what_was_changed_or_answered_is_told(hive, script, kit):
    changed = kit.approval(
        state="decided", decision="allow", decided_by="user:me", changed_input={"command": "ls"}
    )
    script.daemon.answers["approval.decide"] = lambda params: changed
    shown = hive("approve", "a_1", "--input", '{"command": "ls"}').out.splitlines()
    assert shown == ["allowed  a_1  Bash rm -rf build", "  changed command: ls"]
    answered = kit.approval(
        id="a_2", state="decided", decision="allow", decided_by="user:me",
        answers={"Which colour?": "Blue"},
    )  # fmt: skip
    for item in (changed, answered):
        script.daemon.publish(
            "project:p_1", "approval.decided", item, project="p_1", execution="x_1"
        )
    assert hive("logs", "x_1").out.splitlines() == [
        "  allowed by user:me", "    changed command: ls",
        "  allowed by user:me", "    Which colour? Blue",
    ]  # fmt: skip


def test_the_whole_inbox_says_who_decided_what(hive, script, kit):
    items = [
        kit.approval(state="decided", decision="deny", decided_by="user:me"),
        kit.approval(id="a_2", state="decided", decision="allow", decided_by="policy:po_1"),
        kit.approval(id="a_3", state="withdrawn"),
        kit.approval(id="a_4"),
    ]
    script.daemon.answers["approval.list"] = lambda params: {"items": items, "next_cursor": None}
    for words in (("inbox", "-a"), ("inbox", "-a", "-o", "wide")):
        shown = hive(*words).out
        for text in (
            "DECIDED",
            "denied by user:me",
            "allowed by policy:po_1",
            "withdrawn",
            "waits",
        ):
            assert text in shown


@pytest.mark.parametrize("text", ["{", "[]", "3"])
def test_input_that_is_no_object_is_refused(hive, script, text):
    ran = hive("approve", "a_1", "--input", text)
    assert ran.code == 2
    assert all(name != "approval.decide" for name, _ in script.daemon.requests)


def test_deny_tells_why(hive, script, kit):
    script.daemon.answers["approval.decide"] = lambda params: kit.approval(decision="deny")
    ran = hive("deny", "a_1", "-m", "not now", "--interrupt")
    assert ran.out == "denied  a_1  Bash rm -rf build; x_1 was told to stop\n"
    assert asked(script, "approval.decide") == {
        "id": "a_1", "version": 1, "decision": "deny", "message": "not now", "interrupt": True, "remember": False,
    }  # fmt: skip


QUESTIONS = {
    "questions": [
        {
            "question": "Which colour?",
            "options": [{"label": "Red"}, {"label": "Blue"}],
            "multiSelect": False,
        },
        {
            "question": "Which sizes?",
            "options": [{"label": "S"}, {"label": "M"}],
            "multiSelect": True,
        },
    ]
}


def test_a_question_is_answered_by_number_label_or_words(hive, script, kit):
    asked_one = kit.approval(kind="question", tool="AskUserQuestion", input=QUESTIONS)
    script.daemon.answers["approval.get"] = lambda params: asked_one
    script.daemon.answers["approval.decide"] = lambda params: kit.approval(decision="allow")
    hive("approve", "a_1", "--answer", "2", "--answer", "1,2")
    assert asked(script, "approval.decide")["answers"] == {
        "Which colour?": "Blue",
        "Which sizes?": "S, M",
    }
    hive("approve", "a_1", "--answer", "Which sizes?=none of them")
    assert asked(script, "approval.decide")["answers"] == {"Which sizes?": "none of them"}


@pytest.mark.parametrize("answer", ["nonsense=foo", "7", "0"])
def test_an_answer_that_looks_mistaken_is_refused(hive, script, kit, answer):
    asked_one = kit.approval(kind="question", tool="AskUserQuestion", input=QUESTIONS)
    script.daemon.answers["approval.get"] = lambda params: asked_one
    script.daemon.answers["approval.decide"] = lambda params: kit.approval(decision="allow")
    ran = hive("approve", "a_1", "--answer", answer)
    assert ran.code == 2
    assert f"Which colour?={answer}" in ran.err
    assert all(name != "approval.decide" for name, _ in script.daemon.requests)
    assert hive("approve", "a_1", "--answer", f"Which colour?={answer}").code == 0
    assert asked(script, "approval.decide")["answers"] == {"Which colour?": answer}


def test_a_question_without_an_answer_says_how_to_give_one(hive, script, kit):
    script.daemon.answers["approval.get"] = lambda params: kit.approval(
        kind="question", input=QUESTIONS
    )
    ran = hive("approve", "a_1")
    assert ran.code == 2
    assert "--answer" in ran.err


def test_a_plan_is_approved_without_an_answer(hive, script, kit):
    plan = kit.approval(kind="question", tool="ExitPlanMode", input={"plan": "# Plan\n1. do it"})
    script.daemon.answers["approval.get"] = lambda params: plan
    script.daemon.answers["approval.decide"] = lambda params: {**plan, "decision": "allow"}
    assert hive("approve", "a_1").code == 0
    assert "answers" not in asked(script, "approval.decide")
    refused = hive("approve", "a_1", "--answer", "yes")
    assert refused.code == 2
    assert "a_1 is a plan" in refused.err


def test_a_plan_is_named_so_in_the_inbox_and_readable_in_the_log(hive, script, kit):
    plan = kit.approval(kind="question", tool="ExitPlanMode", input={"plan": "# Plan\n1. do it"})
    script.daemon.answers["approval.list"] = lambda params: {"items": [plan], "next_cursor": None}
    assert " plan " in hive("inbox").out
    block = {"type": "tool_use", "id": "t1", "name": "ExitPlanMode", "input": plan["input"]}
    raw = {"type": "assistant", "message": {"content": [block]}}
    data = {"kind": "assistant", "raw": raw}
    script.daemon.publish("project:p_1", "message", data, project="p_1", execution="x_1")
    assert hive("tail", "web").out.splitlines() == ["● ExitPlanMode", "  # Plan", "  1. do it"]


def test_an_answer_to_what_is_no_question_is_refused(hive, script):
    assert hive("approve", "a_1", "--answer", "yes").code == 2


def test_project_create_sends_absolute_paths_and_defaults(hive, script, tmp_path):
    script.daemon.answers["project.create"] = lambda params: script.project
    ran = hive(
        "project", "create", "sub", "--name", "web", "--mkdir", "--trust", "--default", "model=opus",
        "--default", "timeout_s=10m", "--default", "max_turns=3", "--default", "allowed_tools=Read,Edit",
        "--default", "slash_commands=true", "--env", "A=b=c",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert asked(script, "project.create") == {
        "path": str(tmp_path / "sub"),
        "name": "web",
        "mkdir": True,
        "trust": True,
        "defaults": {
            "model": "opus",
            "timeout_s": 600.0,
            "max_turns": 3,
            "allowed_tools": ["Read", "Edit"],
            "slash_commands": True,
        },
        "env": {"A": "b=c"},
    }
    assert ran.out == "registered web /home/tester/web (trusted)\n"


def test_an_unknown_default_gets_a_did_you_mean(hive, script):
    ran = hive("project", "create", ".", "--default", "modle=opus")
    assert ran.code == 2
    assert "`model`" in ran.err


def test_without_a_terminal_a_new_project_stays_untrusted(hive, script):
    script.project["trust"] = "untrusted"
    script.daemon.answers["project.create"] = lambda params: script.project
    ran = hive("project", "create", ".")
    assert ran.code == 0
    assert "not trusted" in ran.err
    assert all(name != "project.trust" for name, _ in script.daemon.requests)


def test_trust_shows_what_it_brings_and_trusts_exactly_that(hive, script):
    script.daemon.answers["project.trust"] = lambda params: script.project
    refused = hive("project", "trust", "web")
    assert refused.code == 2
    assert "--yes" in refused.err
    ran = hive("project", "trust", "web", "--yes")
    assert "PreToolUse: ./check.sh" in ran.err
    assert asked(script, "project.trust") == {"project": "web", "hash": "h1"}


def test_inspect_takes_a_project_or_a_path(hive, script, tmp_path):
    assert "hooks" in hive("project", "inspect", "web").out
    hive("project", "inspect", "./x")
    assert asked(script, "project.inspect") == {"path": str(tmp_path / "x")}


def test_project_update_delete_untrust(hive, script, tmp_path):
    script.daemon.answers["project.update"] = lambda params: script.project
    script.daemon.answers["project.delete"] = lambda params: {"id": "p_1"}
    script.daemon.answers["project.untrust"] = lambda params: script.project
    hive("project", "update", "web", "--path", "moved", "--env", "A=", "--default", "model=")
    assert asked(script, "project.update") == {
        "project": "web", "path": str(tmp_path / "moved"), "defaults": {"model": None}, "env": {"A": None},
    }  # fmt: skip
    assert "untouched" in hive("project", "delete", "web", "--force", "--purge").out
    assert asked(script, "project.delete") == {"project": "web", "force": True, "purge": True}
    assert hive("project", "untrust", "web").code == 0


def test_project_exec_and_kill_are_the_same_commands(hive, script):
    assert hive("project", "exec", "web", "fix it").out == "All done.\n"
    script.daemon.answers["kill"] = lambda params: {"executions": [], "survivors": 0}
    assert hive("project", "kill", "web").code == 0


def test_sessions(hive, script):
    item = {
        "session": "s-1", "project": "p_1", "project_name": "web", "state": "idle", "is_current": True,
        "executions": 1, "last_execution": "x_1", "cost_usd": 0.1, "model": None,
        "created_at": "2026-11-21T03:00:00Z", "last_activity_at": "2026-11-21T03:00:00Z",
    }  # fmt: skip
    script.daemon.answers["session.list"] = lambda params: {"items": [item], "next_cursor": None}
    script.daemon.answers["session.get"] = lambda params: item
    script.daemon.answers["session.new"] = lambda params: script.project
    assert "s-1" in hive("session", "list", "web").out
    assert "idle" in hive("session", "show", "s-1").out
    assert "fresh conversation" in hive("session", "new", "web").out


def test_a_conversation_is_ended_by_its_id_or_by_its_project(hive, script):
    id_ = "11111111-2222-4333-8444-555555555555"
    asked = []

    def end(params):
        asked.append(params["session"])
        return {
            "session": id_, "project": "p_1", "project_name": "web", "state": "ended", "end_reason": "user", "is_current": True,
            "is_warm": False, "process": None, "execution": None, "work_order": None, "worker": None, "executions": 2,
            "last_execution": "x_1", "cost_usd": 0.0, "model": "opus", "created_at": CREATED, "last_activity_at": CREATED,
            "ended_at": CREATED, "expires_at": None,
        }  # fmt: skip

    script.daemon.answers["session.end"] = end
    assert "ended (user)" in hive("session", "end", id_).out
    script.project["session"] = id_
    assert hive("session", "end", "web").code == 0
    assert asked == [id_, id_]
    script.project["session"] = None
    failed = hive("session", "end", "web")
    assert (failed.code, "no current conversation" in failed.err) == (5, True)


def test_a_copy_is_asked_for_by_conversation_or_project_and_once_for_one_key(hive, script):
    id_, copy = "11111111-2222-4333-8444-555555555555", "66666666-2222-4333-8444-555555555555"
    asked = []

    def fork(params):
        asked.append(params)
        return {
            "session": copy, "project": "p_1", "project_name": "web", "state": "forked", "forked_from": id_, "is_current": True,
            "is_warm": False, "executions": 0, "last_execution": None, "cost_usd": 0.0, "model": "opus", "created_at": CREATED,
            "last_activity_at": CREATED,
        }  # fmt: skip

    script.daemon.answers["session.fork"] = fork
    script.project["session"] = id_
    said = hive("session", "fork", id_).out
    assert said.split(": ") == [f"the next prompt in web goes on in a copy of {id_}", f"{copy}\n"]
    assert hive("-o", "name", "session", "fork", "web").out == f"{copy}\n"
    hive("session", "fork", id_, "--idempotency-key", "k")
    assert [params["session"] for params in asked] == [id_] * 3
    assert len({params["idempotency_key"] for params in asked}) == 3
    assert asked[2]["idempotency_key"] == "k"


def test_a_warm_conversation_is_told_as_such(hive, script):
    item = {
        "session": "s-1", "project": "p_1", "project_name": "web", "state": "idle", "is_current": True, "is_warm": True,
        "process": "pr_1", "execution": None, "worker": None, "executions": 2, "last_execution": "x_1", "cost_usd": 0.01,
        "model": "opus", "created_at": CREATED, "last_activity_at": CREATED, "expires_at": CREATED,
    }  # fmt: skip
    script.daemon.answers["session.list"] = lambda params: {"items": [item], "next_cursor": None}
    script.daemon.answers["session.get"] = lambda params: item
    assert "idle (current, warm)" in hive("session", "list").out
    shown = hive("session", "show", "s-1").out
    assert "pr_1 (warm: it waits for the next prompt)" in shown
    assert [line.split() for line in shown.splitlines() if line.startswith("ends")] == [
        ["ends", CREATED]
    ]


def test_lists_are_read_to_their_last_page(hive, script):
    pages = {None: ("a", "1"), "1": ("b", "2"), "2": ("c", None)}

    def listing(params):
        name, following = pages[params.get("cursor")]
        return {"items": [{**script.project, "name": name}], "next_cursor": following}

    script.daemon.answers["project.list"] = listing
    assert hive("project", "list", "-o", "name").out.split() == ["a", "b", "c"]


def test_the_audit_is_whole_or_says_where_it_is_not(hive, script):
    noted = "3:" + "a" * 64
    found = {"is_whole": True, "entries": 3, "anchor": noted, "fault": None}
    script.daemon.answers["audit.verify"] = lambda params: found
    ran = hive("audit", "verify")
    assert (ran.code, ran.out) == (0, f"whole: 3 entries\n{noted}\n")
    assert "--anchor" in ran.err
    fault = {"id": 2, "why": "was changed, or what stood before it was"}
    found |= {"is_whole": False, "entries": 1, "fault": fault}
    ran = hive("audit", "verify", "--anchor", noted)
    assert asked(script, "audit.verify") == {"anchor": noted}
    assert (ran.code, ran.out) == (1, "entry 2 was changed, or what stood before it was\n")
    assert json.loads(hive("audit", "verify", "--json").out) == found


def test_policies(hive, script):
    rule = {
        "id": "y_1", "action": "allow", "tool": "Bash", "match": {}, "project": None, "note": "",
        "position": 1, "created_by": "user:me", "created_at": "2026-11-21T03:00:00Z",
    }  # fmt: skip
    script.daemon.answers["policy.list"] = lambda params: {"items": [rule], "default": "ask"}
    script.daemon.answers["policy.add"] = lambda params: rule
    script.daemon.answers["policy.remove"] = lambda params: {"id": params["id"]}
    ran = hive("policy", "list")
    assert "y_1" in ran.out
    assert "when no rule matches: ask" in ran.err
    rule["project"] = "p_1"
    assert " web " in hive("policy", "list").out
    assert json.loads(hive("policy", "list", "--json").out)["items"] == [rule]
    rule["project"] = "p_gone"
    assert " p_gone " in hive("policy", "list", "-o", "wide").out
    hive(
        "policy",
        "add",
        "allow",
        "Bash",
        "--match",
        "command=git diff*",
        "-p",
        "web",
        "--first",
        "--note",
        "ok",
    )
    assert asked(script, "policy.add") == {
        "action": "allow", "tool": "Bash", "match": {"command": "git diff*"}, "project": "web", "first": True, "note": "ok",
    }  # fmt: skip
    assert hive("policy", "add", "allow", "Bash", "--match", "nonsense").code == 2
    assert hive("policy", "remove", "y_1").out == "removed y_1\n"


def test_prune(hive, script):
    script.daemon.answers["log.prune"] = lambda params: {
        "freed_bytes": 2048, "streams": {"project:p_1": 2048}, "dry_run": params["dry_run"],
    }  # fmt: skip
    assert hive("prune").code == 2
    ran = hive("prune", "web", "--older-than", "30d", "--keep", "1G", "--dry-run")
    assert asked(script, "log.prune") == {
        "project": "web", "older_than_s": 2592000.0, "keep_bytes": 2**30, "dry_run": True,
    }  # fmt: skip
    assert "would free 2.0 KiB" in ran.out
    assert hive("prune", "--keep", "much").code == 2


def fill(script, count=30):
    for number in range(1, count + 1):
        text = f"line {number}"
        raw = {"type": "assistant", "message": {"content": [{"type": "text", "text": text}]}}
        data = {"kind": "assistant", "text": text, "raw": raw}
        script.daemon.publish("project:p_1", "message", data, project="p_1", execution="x_1")


def test_tail_json_is_one_event_a_line(hive, script):
    fill(script)
    lines = hive("tail", "web", "-n", "5", "--json").out.splitlines()
    events = [json.loads(line) for line in lines]
    assert [event["seq"] for event in events] == [26, 27, 28, 29, 30]
    assert {event["type"] for event in events} == {"message"}


def test_tail_shows_people_the_last_lines(hive, script):
    fill(script)
    assert hive("tail", "web", "-n", "3").out.splitlines() == ["line 28", "line 29", "line 30"]
    assert hive("tail", "web", "-n", "0").out == ""


def hide(script, count=60, stream="project:p_1"):
    """Events that people are not shown."""
    for _ in range(count):
        data = {"state": "running", "from": "starting"}
        script.daemon.publish(stream, "execution.state", data, project="p_1", execution="x_1")


def test_the_last_lines_are_those_that_are_shown(hive, script):
    fill(script, 5)
    hide(script)
    assert hive("tail", "web", "-n", "2").out.splitlines() == ["line 4", "line 5"]
    raw = hive("tail", "web", "-n", "2", "--raw").out.splitlines()
    assert [json.loads(line)["message"]["content"][0]["text"] for line in raw] == [
        "line 4",
        "line 5",
    ]
    assert hive("logs", "x_1", "-n", "2").out.splitlines() == ["line 4", "line 5"]


def test_the_last_lines_are_those_of_each_project(hive, script, kit):
    fill(script, 3)
    data = {"kind": "prompt", "text": "from api"}
    script.daemon.publish("project:p_2", "message", data, project="p_2", execution="x_2")
    other = kit.project(id="p_2", name="api", stream="project:p_2")
    script.daemon.answers["project.list"] = lambda params: {
        "items": [script.project, other],
        "next_cursor": None,
    }
    shown = hive("tail", "--all", "-n", "1").out.splitlines()
    assert sorted(shown) == ["api | > from api", "web | line 3"]
    events = [
        json.loads(line) for line in hive("tail", "--all", "-n", "1", "--json").out.splitlines()
    ]
    assert {event["project"] for event in events} == {"p_1", "p_2"}
    assert len(events) == 2


def test_tail_finds_text(hive, script):
    fill(script)
    assert hive("tail", "web", "--grep", "line 7", "--since", "1h").out == "line 7\n"
    assert asked(script, "get_messages")["since"] == "1h"


def test_tail_raw_prints_claude_s_lines_but_never_to_a_terminal(hive, script):
    fill(script, 2)
    lines = hive("tail", "web", "--raw").out.splitlines()
    assert [json.loads(line)["type"] for line in lines] == ["assistant", "assistant"]
    refused = hive("tail", "web", "--raw", tty=True)
    assert refused.code == 2
    assert "terminal" in refused.err


def test_logs_follow_to_the_end(hive, script):
    fill(script, 3)
    script.daemon._loop.call_soon_threadsafe(script.daemon._loop.call_later, 0.3, script.end)
    ran = hive("logs", "x_1", "-f")
    assert ran.code == 0
    assert ran.out.splitlines()[:3] == ["line 1", "line 2", "line 3"]
    assert "completed" in ran.out


def test_logs_say_where_the_beginning_was_pruned(hive, script):
    fill(script, 2)
    for words in ((), ("--json",), ("-n", "1")):
        told = hive("logs", "x_1", *words).err
        assert ("no longer holds its beginning" in told) == (not words)
    script.daemon.publish("project:p_1", "execution.created", {}, project="p_1", execution="x_1")
    assert hive("logs", "x_1").err == ""


def test_attach_shows_what_was_and_what_comes(hive, script):
    fill(script, 3)
    script.state = script.state | {"state": "running"}
    script.daemon._loop.call_soon_threadsafe(script.daemon._loop.call_later, 0.3, script.finish)
    ran = hive("attach", "x_1", tty=True)
    assert ran.code == 0
    assert re.sub(r"\x1b\[[0-9;]*[a-zA-Z]|\r", "", ran.out).splitlines() == [
        "line 1", "line 2", "line 3", "I will look at the test first.", "All done.",
    ]  # fmt: skip


def test_attach_to_what_is_over_shows_it_whole(hive, script):
    fill(script, 2)
    script.daemon._run(_later(script.end))
    ran = hive("attach", "x_1")
    assert ran.code == 0
    assert ran.out == "All done.\n"


async def _later(work):
    import asyncio

    work()
    await asyncio.sleep(0.05)


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("degraded", 0), ("failing", 1)])
def test_health_and_its_exit_code(hive, script, kit, status, code):
    script.daemon.answers["health"] = lambda params: {**kit.HEALTH, "status": status}
    assert hive("health").code == code
    assert hive("health", "-o", "wide").code == code
    assert hive("daemon", "status").out.startswith("status")


def test_version(hive, script):
    assert "daemon 0.1.0" in hive("version").out
    script.daemon.stop()
    assert "no daemon runs" in hive("version").out
    assert hive("--version").out.startswith("hivectl ")


def test_without_a_daemon_the_exit_code_is_3(hive, daemon):
    daemon.stop()
    for words in (("ps",), ("exec", "web", "hi"), ("daemon", "status")):
        ran = hive(*words)
        assert ran.code == 3
        assert "hivectl daemon start" in ran.err
    error = json.loads(hive("ps", "--json").err)["error"]
    assert error["code"] == "UNAVAILABLE"


def test_another_protocol_exits_10(hive, script):
    script.daemon.protocol = 2
    assert hive("project", "list").code == 10


def test_another_version_warns_once(hive, script):
    script.daemon.answers["auth"] = lambda params: {
        "actor": "user:t", "scopes": [], "connection": "c", "version": "9.9", "node": "n", "protocol": 1, "expires_at": None,
    }  # fmt: skip
    ran = hive("project", "list")
    assert ran.code == 0
    assert ran.err.count("9.9") == 1


def test_an_unknown_variable_warns(hive, script, monkeypatch):
    monkeypatch.setenv("HIVECTL_TYPO", "1")
    ran = hive("project", "list")
    assert ran.code == 0
    assert "HIVECTL_TYPO" in ran.err


def test_a_bug_says_so_and_exits_125(hive, script):
    script.daemon.answers["project.list"] = lambda params: {
        "items": [{"name": "broken"}],
        "next_cursor": None,
    }
    ran = hive("project", "list")
    assert ran.code == 125
    assert "hivectl itself failed" in ran.err
    assert "Traceback" not in ran.err
    assert "Traceback" in hive("project", "list", "-v").err


def test_a_reader_that_leaves_is_no_error(daemon, script):
    import subprocess
    import sys

    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m hivectl project list --json | true; echo ${{PIPESTATUS[0]}}"],
        capture_output=True, text=True, check=True, cwd=_root(),
    )  # fmt: skip
    assert done.stdout.strip() == "0"
    assert "Traceback" not in done.stderr


def _root():
    from pathlib import Path

    return Path(__file__).parents[3]


def test_completion_offers_live_names(daemon, script):
    from hivectl.cli import completing

    assert completing.projects("w") == [("web", "/home/tester/web")]
    assert completing.projects("zzz") == []
    assert [name for name, _ in completing.killable("")] == ["x_1", "web"]
    assert completing.approvals("a_")[0][0] == "a_1"
    assert "listen.tcp" in dict(completing.settings("listen"))
    daemon.stop()
    assert completing.projects("") == []
