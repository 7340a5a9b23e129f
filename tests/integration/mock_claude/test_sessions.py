"""Session files: memory over processes, forks, money, and what a kill leaves behind."""

import json
import os
import signal
import stat

import pytest

MEMORY = 'mock: {"memory": true}'
ID = "11111111-1111-4111-8111-111111111111"
EMPTY = "I remember 0 earlier prompts:"


def remembered(running):
    return running.result()["result"].splitlines()[1:]


def test_a_session_file_is_private_and_lies_where_the_real_one_does(desk):
    session_id = desk.ask("My name is Ada").result()["session_id"]
    slug = "".join(c if c.isalnum() else "-" for c in str(desk.cwd))
    path = desk.home / ".claude" / "projects" / slug / f"{session_id}.jsonl"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    kinds = [json.loads(line)["type"] for line in path.read_text().splitlines()]
    assert {"user", "assistant", "cost-state", "queue-operation"} <= set(kinds)


def test_the_configuration_directory_can_be_elsewhere(desk, tmp_path):
    desk.ask("Hello", CLAUDE_CONFIG_DIR=str(tmp_path / "config"))
    assert list((tmp_path / "config" / "projects").glob("*/*.jsonl"))
    assert desk.sessions() == []


def test_resume_remembers_and_keeps_the_id_from_any_directory(desk, tmp_path):
    desk.ask("My name is Ada", "--session-id", ID)
    running = desk.ask(MEMORY, "--resume", ID, cwd=tmp_path)
    assert remembered(running) == ["1. My name is Ada"]
    assert running.result()["session_id"] == ID
    assert len(desk.sessions()) == 1


def test_resume_works_by_title_and_tells_the_title(desk):
    first = desk.ask("My name is Ada", "--name", "the Ada talk")
    again = desk.ask(MEMORY, "--resume", "the Ada talk")
    assert remembered(again) == ["1. My name is Ada"]
    for running in (first, again):
        assert running.events[0]["subtype"] == "session_title_changed"


def test_continue_takes_the_latest_of_this_directory(desk, tmp_path):
    assert remembered(desk.ask(MEMORY, "--continue")) == []
    desk.ask("The second", "--session-id", ID)
    os.utime(next(path for path in desk.sessions() if ID in path.name), (2**32, 2**32))
    assert remembered(desk.ask(MEMORY, "--continue")) == ["1. The second"]
    assert remembered(desk.ask(MEMORY, "--continue", cwd=tmp_path)) == []


def test_a_fork_has_a_new_id_and_leaves_the_old_session_alone(desk):
    desk.ask("My name is Ada", "--session-id", ID)
    fork = desk.ask(MEMORY, "--resume", ID, "--fork-session")
    fork_id = fork.result()["session_id"]
    assert fork_id != ID
    assert remembered(desk.ask(MEMORY, "--resume", ID)) == ["1. My name is Ada"]
    assert len(remembered(desk.ask(MEMORY, "--resume", fork_id))) == 2


def test_a_session_that_is_not_kept_cannot_be_resumed(desk):
    session_id = desk.ask("Hello", "--no-session-persistence").result()["session_id"]
    assert desk.sessions() == []
    assert desk.ask(MEMORY, "--resume", session_id).exit_code == 1


def test_an_id_without_fork_is_refused_together_with_resume(desk):
    code, _stdout, stderr = desk.run("-p", "x", "--resume", ID, "--session-id", ID)
    assert (code, "also needs --fork-session" in stderr) == (1, True)


def test_money_adds_up_over_resumes_and_deltas_tell_the_turn(desk):
    desk.ask("mock: {}", "--session-id", ID)
    second = desk.ask('mock: {"cost_usd": 2}', "--resume", ID).result()
    assert second["total_cost_usd"] > 2
    delta = sum(entry["costUSD"] for entry in second["model_usage_since_last_result"].values())
    assert delta == 2


def test_sigterm_keeps_the_money_and_sigkill_loses_it(desk):
    for number, kept in ((signal.SIGTERM, 5), (signal.SIGKILL, 5)):
        flags = ["--resume", ID] if desk.sessions() else ["--session-id", ID]
        running = desk.talk(*flags)
        running.user('mock: {"cost_usd": 5}')
        running.until("result")
        running.signal(number)
        running.finish()
        total = desk.ask('mock: {"cost_usd": 0}', "--resume", ID).result()["total_cost_usd"]
        assert total == kept


def test_a_run_killed_in_a_tool_is_resumed_with_its_outcome_unknown(desk, eventually, probe):
    call = {"name": "Bash", "input": {"command": f"sleep {probe.mark}; true"}}
    running = desk.talk("--session-id", ID, "--dangerously-skip-permissions")
    running.user(f"mock: {json.dumps({'tool': call})}")
    eventually(probe.pids)
    running.signal(signal.SIGKILL)
    running.finish()
    assert len(remembered(desk.ask(MEMORY, "--resume", ID))) == 1
    text = desk.sessions()[0].read_text()
    assert "its outcome is unknown" in text
    assert "No response requested." in text


def test_a_torn_last_line_is_tolerated(desk):
    desk.ask("My name is Ada", "--session-id", ID)
    path = desk.sessions()[0]
    path.write_bytes(path.read_bytes() + b'{"type":"user","mess')
    assert remembered(desk.ask(MEMORY, "--resume", ID)) == ["1. My name is Ada"]


def test_history_can_be_cut_at_an_answer(desk):
    running = desk.talk("--session-id", ID)
    uuids = []
    for text in ("one", "two"):
        running.user(text)
        running.until("result")
        uuids.append([e for e in running.events if e["type"] == "assistant"][-1]["uuid"])
    running.finish()
    flags = ["--resume", ID, "--fork-session", "--resume-session-at", uuids[0]]
    assert remembered(desk.ask(MEMORY, *flags)) == ["1. one"]


def test_a_home_that_cannot_be_written_does_not_stop_a_run(desk):
    running = desk.ask("Hello", HOME="/proc/nowhere")
    assert running.exit_code == 0


def test_two_processes_may_continue_the_same_session(desk):
    desk.ask("first", "--session-id", ID)
    both = [desk.talk("--resume", ID) for _ in range(2)]
    for running in both:
        running.user("more")
    assert [running.finish() for running in both] == [0, 0]


@pytest.mark.parametrize("flag", ["--resume", "-r"])
def test_short_flags_do_the_same(desk, flag):
    desk.ask("Hello", "--session-id", ID)
    assert desk.ask(MEMORY, flag, ID).exit_code == 0


SYSTEM = 'mock: {"system": true}'


def test_a_resumed_conversation_keeps_its_system_prompt_and_its_model(desk):
    first = desk.ask(SYSTEM, "--append-system-prompt", "pirate", "--model", "sonnet").result()
    began = json.loads(first["result"])
    assert (began["append_system_prompt"], "sonnet" in began["model"]) == ("pirate", True)
    resume = ["--resume", first["session_id"], "--append-system-prompt", "judge"]
    assert json.loads(desk.ask(SYSTEM, *resume).result()["result"]) == began
    forked = desk.ask(SYSTEM, *resume, "--fork-session", "--system-prompt", "baker")
    assert json.loads(forked.result()["result"]) == began


def test_a_model_that_is_named_is_kept_from_then_on(desk):
    session = desk.ask(SYSTEM, "--model", "sonnet").result()["session_id"]
    named = desk.ask(SYSTEM, "--resume", session, "--model", "haiku").result()
    later = desk.ask(SYSTEM, "--resume", session).result()
    assert "haiku" in named["result"]
    assert later["result"] == named["result"]
