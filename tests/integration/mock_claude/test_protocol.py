"""The conversation with a host: requests at any moment, queues, uuids, tools, permissions."""

import json
from pathlib import Path

import pytest

UUIDS = [f"00000000-0000-4000-8000-00000000000{n}" for n in range(4)]


def mock(**directive):
    return f"mock: {json.dumps(directive)}"


def bash(command):
    return {"name": "Bash", "input": {"command": command}}


def states(running, uuid):
    return [e["state"] for e in running.events if e.get("command_uuid") == uuid]


def test_requests_are_answered_while_a_turn_runs(desk):
    running = desk.talk()
    running.user(mock(events=20, delay_ms=30))
    running.until("assistant")
    running.control("get_context_usage")
    assert running.until("control_response")["response"]["response"]["totalTokens"] > 0
    assert "result" not in [event["type"] for event in running.events]
    running.until("result")


def test_harmless_lines_are_ignored(desk):
    running = desk.talk()
    for line in ("", "  ", "[]", "42", '{"type":"keep_alive"}', '{"type":"new_thing"}'):
        running.send(line)
    running.send({"type": "control_response", "response": {"request_id": "stray"}})
    running.send({"type": "control_cancel_request", "request_id": "stray"})
    running.user(mock(text="fine"))
    assert running.finish() == 0
    assert running.texts() == ["fine"]


def test_a_line_of_five_megabytes_is_read(desk):
    running = desk.talk()
    running.user(mock(text="fine") + "x" * 5_000_000)
    assert running.finish() == 0
    assert running.texts() == ["fine"]


def test_content_may_be_a_list_of_blocks(desk):
    running = desk.talk()
    content = [{"type": "text", "text": mock(text="fine")}, {"type": "image", "source": {}}]
    running.send({"type": "user", "message": {"role": "user", "content": content}})
    running.finish()
    assert running.texts() == ["fine"]


def test_a_uuid_seen_before_is_not_run_again_even_after_resume(desk):
    running = desk.talk()
    running.user("Hello", uuid=UUIDS[1])
    session_id = running.until("result")["session_id"]
    running.user("Hello again", uuid=UUIDS[1])
    running.finish()
    assert len([e for e in running.events if e["type"] == "result"]) == 1
    assert states(running, UUIDS[1]) == ["queued", "started", "completed"]
    again = desk.talk("--resume", session_id)
    again.user("Hello", uuid=UUIDS[1])
    again.finish()
    assert again.events == []


def test_a_message_during_a_tool_joins_the_running_turn(desk, eventually):
    running = desk.talk("--dangerously-skip-permissions")
    gate = desk.cwd / "gate"
    running.user(mock(tool=bash(f"while [ ! -e {gate} ]; do sleep 0.02; done")), uuid=UUIDS[1])
    running.until("assistant")
    running.user(mock(text="the second"), uuid=UUIDS[2])
    running.until("command_lifecycle")
    gate.touch()
    result = running.until("result")
    assert running.finish() == 0
    assert result["user_message_uuids"] == UUIDS[1:3]
    assert result["result"] == "the second"
    assert states(running, UUIDS[2]) == ["queued", "started", "completed"]
    assert len([e for e in running.events if e["type"] == "result"]) == 1


def test_an_interrupt_names_the_queued_messages_and_they_run_next(desk):
    running = desk.talk()
    running.user(mock(hang=True))
    running.until("system", "init")
    running.user(mock(text="next"), uuid=UUIDS[1])
    running.until("command_lifecycle")
    running.control("interrupt")
    response = running.until("control_response")["response"]["response"]
    assert response == {"still_queued": [UUIDS[1]]}
    assert running.until("result")["is_error"]
    assert running.until("result")["result"] == "next"


def test_a_queued_message_can_be_cancelled(desk):
    running = desk.talk()
    running.user(mock(events=3, delay_ms=100))
    running.until("system", "init")
    running.user("never", uuid=UUIDS[1])
    running.control("cancel_async_message", message_uuid=UUIDS[1])
    response = running.until("control_response")["response"]["response"]
    running.finish()
    assert response == {"cancelled": True, "message_uuid": UUIDS[1]}
    assert states(running, UUIDS[1]) == ["queued", "cancelled"]


def test_three_messages_at_start_make_two_turns(desk):
    running = desk.talk()
    lines = [{"type": "user", "message": {"role": "user", "content": f"m{n}"}} for n in range(3)]
    running.send("\n".join(json.dumps(line) for line in lines))
    running.finish()
    results = [e["result"] for e in running.events if e["type"] == "result"]
    assert [text.split(".")[0] for text in results] == ['You said: "m0"', 'You said: "m1 m2"']


def test_the_exit_code_is_that_of_the_last_result(desk):
    running = desk.talk()
    running.user(mock(error="400"))
    assert running.until("result")["is_error"]
    running.user("Hello")
    assert not running.until("result")["is_error"]
    assert running.finish() == 0


@pytest.mark.parametrize(
    ("mode", "tool", "ran"),
    [
        ("default", "Write", False),
        ("acceptEdits", "Write", True),
        ("plan", "Write", False),
        ("dontAsk", "Write", False),
        ("bypassPermissions", "Write", True),
        ("default", "echo x > made", False),
        ("acceptEdits", "touch made", True),
        ("acceptEdits", 'python3 -c \'open("made","w")\'', False),
        ("plan", "touch made", False),
    ],
)
def test_modes_decide_as_the_real_ones(desk, mode, tool, ran):
    call = bash(tool)
    if tool == "Write":
        call = {"name": "Write", "input": {"file_path": "made", "content": ""}}
    running = desk.ask(mock(tool=call), "--permission-mode", mode)
    assert (desk.cwd / "made").exists() == ran
    assert bool(running.result()["permission_denials"]) == (not ran)
    assert running.exit_code == 0


@pytest.mark.parametrize(
    ("flags", "ran"),
    [
        (["--allowedTools", "Bash(touch *)"], True),
        (["--allowedTools", "Bash(rm *),Write"], False),
        (["--allowedTools", "Bash", "--disallowedTools", "Bash(touch:*)"], False),
        (["--dangerously-skip-permissions", "--disallowedTools", "Bash(touch *)"], False),
        (["--settings", '{"permissions":{"allow":["Bash(touch made)"]}}'], True),
    ],
)
def test_rules_decide_and_deny_wins(desk, flags, ran):
    desk.ask(mock(tool=bash("touch made")), *flags)
    assert (desk.cwd / "made").exists() == ran


def test_a_tool_that_was_removed_does_not_exist(desk):
    running = desk.ask(mock(tool=bash("ls")), "--disallowedTools", "Bash")
    init, *_rest = running.events
    results = [e["tool_use_result"] for e in running.events if e["type"] == "user"]
    assert "Bash" not in init["tools"]
    assert results == ["Error: No such tool available: Bash"]


def test_an_accepted_suggestion_is_written_to_the_project(desk):
    running = desk.host()
    running.user(mock(steps=[{"tool": bash("touch made")}, {"tool": bash("touch made more")}]))
    request = running.until("control_request")
    suggestion = request["request"]["permission_suggestions"][0]
    running.answer(request, {"behavior": "allow", "updatedPermissions": [suggestion]})
    running.until("result")
    assert running.finish() == 0
    stored = json.loads((desk.cwd / ".claude" / "settings.local.json").read_text())
    assert stored == {"permissions": {"allow": ["Bash(touch made *)"]}}
    assert [e["type"] for e in running.events].count("control_request") == 1


def test_a_changed_input_is_what_runs(desk):
    running = desk.host()
    running.user(mock(tool=bash("touch made")))
    answer = {"behavior": "allow", "updatedInput": {"command": "touch other"}}
    running.answer(running.until("control_request"), answer)
    running.finish()
    assert [path.name for path in desk.cwd.iterdir()] == ["other"]


@pytest.mark.parametrize("answer", [{}, {"behavior": "maybe"}, {"behavior": "deny"}, "yes"])
def test_an_answer_that_makes_no_sense_denies(desk, answer):
    running = desk.host()
    running.user(mock(permission=True))
    running.answer(running.until("control_request"), answer)
    assert "invalid permission result" in str(running.until("user"))
    assert running.finish() == 0


def test_the_files_tools_really_act(desk):
    path = desk.cwd / "notes.txt"
    write = {"name": "Write", "input": {"file_path": str(path), "content": "one two"}}
    edit = {"old_string": "two", "new_string": "three", "file_path": "notes.txt"}
    read = {"name": "Read", "input": {"file_path": "notes.txt"}}
    steps = [{"tool": write}, {"tool": {"name": "Edit", "input": edit}}, {"tool": read}]
    running = desk.ask(mock(steps=steps), "--dangerously-skip-permissions")
    results = [e["message"]["content"][0] for e in running.events if e["type"] == "user"]
    assert path.read_text() == "one three"
    assert results[-1]["content"] == "1\tone three"


def test_children_get_the_environment_of_the_real_cli(desk):
    show = 'echo "$CLAUDECODE $CLAUDE_CODE_SESSION_ID $GIT_EDITOR $MARK"'
    flags = ["--dangerously-skip-permissions"]
    running = desk.ask(mock(tool=bash(show)), *flags, MARK="mine")
    results = [e["message"]["content"][0] for e in running.events if e["type"] == "user"]
    session_id = running.result()["session_id"]
    assert results[0]["content"] == f"1 {session_id} true mine"


def test_long_output_is_kept_in_a_file(desk):
    command = "python3 -c 'print(\"x\" * 40000)'"
    running = desk.ask(mock(tool=bash(command)), "--dangerously-skip-permissions")
    event = next(e for e in running.events if e["type"] == "user")
    assert event["message"]["content"][0]["content"].startswith("<persisted-output>")
    assert event["tool_use_result"]["persistedOutputSize"] == 40001
    kept = event["tool_use_result"]["persistedOutputPath"]
    session_id = running.result()["session_id"]
    assert "/.claude/projects/" in kept
    assert kept.endswith(".txt")
    assert kept.split("/")[-3:-1] == [session_id, "tool-results"]
    assert Path(kept).stat().st_size == 40001
    assert len(event["tool_use_result"]["stdout"]) == 30_000


def test_a_standalone_sleep_is_blocked(desk):
    running = desk.ask(mock(tool=bash("sleep 60")), "--dangerously-skip-permissions")
    assert "Blocked: standalone sleep" in str(running.events)


def test_a_command_over_its_time_is_killed_without_background_tasks(desk, probe):
    call = {"name": "Bash", "input": {"command": f"sleep {probe.mark}; true", "timeout": 100}}
    flags = ["--dangerously-skip-permissions"]
    running = desk.ask(mock(tool=call), *flags, CLAUDE_CODE_DISABLE_BACKGROUND_TASKS="1")
    assert "Exit code 143" in str(running.events)
    probe.is_gone()


def test_slash_commands_work_unless_the_text_is_composed(desk):
    running = desk.talk()
    running.user("/config theme=dark")
    assert running.until("result")["local_command"] == "config"
    running.user("/config theme=light", client_composed=True)
    assert "local_command" not in running.until("result")
    running.user("/unknown thing")
    assert 'You said: "/unknown thing"' in running.until("result")["result"]
    stored = json.loads((desk.home / ".claude" / "settings.json").read_text())
    assert stored == {"theme": "dark"}


def test_slash_commands_can_be_disabled(desk):
    result = desk.ask("/clear", "--disable-slash-commands").result()
    assert "local_command" not in result


def test_budget_and_turns_are_limits(desk):
    spent = desk.ask(mock(turns=3, cost_usd=2), "--max-budget-usd", "1").result()
    assert spent["subtype"] == "error_max_budget_usd"
    enough = desk.ask(mock(turns=3), "--max-turns", "3")
    assert (enough.exit_code, enough.result()["num_turns"]) == (0, 3)


@pytest.mark.parametrize(
    ("flags", "directive", "output"),
    [
        ([], {"text": "fine"}, "fine\n"),
        ([], {"error": "400"}, "API Error: 400 messages: something is wrong\n"),
        (["--max-turns", "1"], {"turns": 3}, "Error: Reached max turns (1)\n"),
        (
            ["--max-budget-usd", "0.5"],
            {"turns": 3, "cost_usd": 6},
            "Error: Exceeded USD budget (0.5)\n",
        ),
    ],
)
def test_text_output_is_the_answer_or_the_error(desk, flags, directive, output):
    assert desk.run("-p", mock(**directive), *flags)[1] == output
