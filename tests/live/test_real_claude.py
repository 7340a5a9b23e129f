"""The real Claude Code through a real daemon: tools, approvals, sessions, stops, crashes, API errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hivectl import config
from hivectl.client import Client
from tests.harness import history
from tests.harness.waiting import eventually
from tests.live.scripted import Api, LiveDaemon, bash, nap, script, text, tool

pytestmark = [pytest.mark.live, pytest.mark.timeout(180)]

BASH = {"allowed_tools": ["Bash"]}


def ended_as(ended: dict[str, Any]) -> tuple[str, str]:
    return ended["state"], ended["cause"]


def started(live: LiveDaemon, mark: str) -> None:
    """Wait until the command with this mark runs."""
    eventually(lambda: live.in_project(mark), within_s=30, what=f"{mark} runs")


def gone(live: LiveDaemon, mark: str) -> None:
    eventually(lambda: not live.in_project(mark), within_s=10, what=f"no {mark} is left")


# --- answers and tools -----------------------------------------------------------------------------


def test_a_plain_answer_comes_with_session_model_and_costs(live: LiveDaemon) -> None:
    accepted = live.accept("[[text say=morning]]")
    ended = live.wait(accepted["execution"])
    assert ended_as(ended) == ("completed", "ok")
    assert (ended["result"], ended["exit_code"], ended["stderr"]) == ("morning", 0, "")
    assert accepted["warnings"] == []
    assert ended["model"].startswith("claude-")
    assert ended["usage"]["turns"] == 1
    assert ended["cost_usd"] > 0
    told = history.read(live, project="web").check()
    told.check_ended(ended["execution"])
    assert told.texts(ended["execution"]) == ["morning"]


def test_a_harmless_command_runs_without_asking(live: LiveDaemon) -> None:
    ended = live.run(script(bash("echo mark-$((40+2))"), text("ran")))
    assert ended_as(ended) == ("completed", "ok")
    assert ended["result"] == "ran"
    assert live.tool_results(ended["execution"]) == ["mark-42"]


def test_thoughts_and_pieces_of_text_are_shown_while_they_come(live: LiveDaemon) -> None:
    async def watch() -> tuple[list[str], dict[str, Any]]:
        kinds: list[str] = []
        async with Client(config.load(env=live.env), autostart=False) as client:
            accepted = await client.execute(
                project="web", prompt="[[think]]", options={"partials": True}
            )
            async with client.follow(accepted, partials=True) as events:
                async for event in events:
                    if event["type"] == "partial":
                        kinds.append(event["data"]["raw"]["event"]["type"])
                    if event["type"] == "execution.ended":
                        break
            return kinds, await client.execution_get(execution=accepted["execution"])

    kinds, ended = asyncio.run(watch())
    assert ended["result"] == "The answer is 4."
    assert {"message_start", "content_block_delta", "message_stop"} <= set(kinds)
    logged = live.said(ended["execution"], "assistant")
    blocks = [line["message"]["content"][0]["type"] for line in logged]
    assert blocks == ["thinking", "text"]
    assert not live.said(ended["execution"], "stream_event"), "pieces are not kept"


def test_the_number_of_turns_is_bounded(live: LiveDaemon) -> None:
    ended = live.run("[[loop]]", options={"max_turns": 2})
    assert ended_as(ended) == ("failed", "max_turns")
    assert "(2)" in ended["message"]


def test_a_json_schema_brings_a_structured_answer(live: LiveDaemon) -> None:
    schema = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"],
    }
    ended = live.run("[[structured]]", options={"json_schema": schema})
    assert ended["structured"] == {"name": "Ada", "age": 36}


# --- approvals -------------------------------------------------------------------------------------


def test_an_allowed_call_runs(live: LiveDaemon) -> None:
    execution = live.execute("[[write path=out.txt]]")
    approval = live.wait_approval(execution)
    assert (approval["kind"], approval["tool"]) == ("permission", "Write")
    assert not (live.place / "out.txt").exists()
    live.decide(approval)
    assert ended_as(live.wait(execution)) == ("completed", "ok")
    assert (live.place / "out.txt").read_text() == "fake content\n"


def test_an_allowed_call_runs_with_the_input_that_was_given(live: LiveDaemon) -> None:
    execution = live.execute("[[write path=out.txt]]")
    approval = live.wait_approval(execution)
    live.decide(approval, input={**approval["input"], "content": "changed\n"})
    live.wait(execution)
    assert (live.place / "out.txt").read_text() == "changed\n"


def test_claude_hears_why_a_call_was_denied_and_goes_on(live: LiveDaemon) -> None:
    execution = live.execute("[[write path=out.txt]]")
    live.decide(live.wait_approval(execution), "deny", message="not on a Sunday")
    ended = live.wait(execution)
    assert ended_as(ended) == ("completed", "ok")
    assert "not on a Sunday" in live.tool_results(execution)[0]
    assert not (live.place / "out.txt").exists()


def test_a_denial_with_interrupt_ends_the_turn(live: LiveDaemon) -> None:
    execution = live.execute("[[write path=out.txt]]")
    live.decide(live.wait_approval(execution), "deny", message="stop it", interrupt=True)
    assert ended_as(live.wait(execution)) == ("cancelled", "killed")
    assert not (live.place / "out.txt").exists()


def test_a_remembered_decision_answers_the_next_time(live: LiveDaemon) -> None:
    first = live.execute(script(bash("touch a.txt"), text("done")))
    live.decide(live.wait_approval(first), remember=True)
    live.wait(first)
    second = live.run(script(bash("touch a.txt"), text("again")))
    assert ended_as(second) == ("completed", "ok")
    asked = live.call("approval.list", execution=second["execution"], state="all")["items"]
    assert [item["decision"] for item in asked] == ["allow"]
    assert asked[0]["decided_by"].startswith("policy:")


def test_a_question_of_claude_is_answered(live: LiveDaemon) -> None:
    execution = live.execute("[[ask]]")
    approval = live.wait_approval(execution)
    assert approval["kind"] == "question"
    question = approval["input"]["questions"][0]
    live.decide(approval, answers={question["question"]: "Blue"})
    assert ended_as(live.wait(execution)) == ("completed", "ok")
    assert '="Blue"' in live.tool_results(execution)[0]


def test_a_question_of_claude_is_refused_with_a_reason(live: LiveDaemon) -> None:
    execution = live.execute("[[ask]]")
    live.decide(live.wait_approval(execution), "deny", message="decide yourself")
    assert ended_as(live.wait(execution)) == ("completed", "ok")
    assert "decide yourself" in live.tool_results(execution)[0]


def test_a_rule_that_allows_everything_answers_no_question(live: LiveDaemon) -> None:
    live.call("policy.add", action="allow", tool="*")
    execution = live.execute("[[ask]]")
    live.decide(live.wait_approval(execution), "deny", message="decide yourself")
    live.wait(execution)


@pytest.mark.parametrize("decision", ["allow", "deny"])
def test_a_plan_waits_for_its_approval(live: LiveDaemon, decision: str) -> None:
    execution = live.execute("[[plan]]", options={"permission_mode": "plan"})
    approval = live.wait_approval(execution)
    assert (approval["tool"], approval["kind"]) == ("ExitPlanMode", "question")
    live.decide(approval, decision, message="" if decision == "allow" else "too long")
    ended = live.wait(execution)
    assert ended_as(ended) == ("completed", "ok")
    assert ended["result"] == "after plan"
    assert (decision == "deny") == ("too long" in live.tool_results(execution)[0])


def test_two_calls_in_one_message_are_asked_one_after_the_other(live: LiveDaemon) -> None:
    calls = [bash("touch one.txt"), bash("touch two.txt")]
    execution = live.execute(script({"blocks": calls}, text("both")))
    first = live.wait_approval(execution)
    live.decide(first)
    second = live.wait_approval(execution)
    assert second["id"] != first["id"]
    live.decide(second)
    assert live.wait(execution)["result"] == "both"
    assert {path.name for path in live.place.glob("*.txt")} == {"one.txt", "two.txt"}


# --- stops -----------------------------------------------------------------------------------------


def test_an_interrupt_stops_the_turn_and_the_conversation_goes_on(live: LiveDaemon) -> None:
    execution = live.execute("[[slow n=200 delay=0.2]]")
    eventually(lambda: live.api.requests("[[slow"), what="the model is asked")
    live.wait_state(execution, "running")
    live.call("kill", execution=execution, mode="interrupt")
    stopped = live.wait(execution)
    assert ended_as(stopped) == ("cancelled", "killed")
    assert stopped["subtype"] == "error_during_execution"
    after = live.run("plain words")
    assert after["session"] == stopped["session"]
    assert "plain words" in after["result"]
    assert live.api.requests("plain words")[-1]["body"]["messages"][0]["content"] is not None
    assert "[[slow" in str(live.api.requests("plain words")[-1]["body"]["messages"])


@pytest.mark.parametrize("mode", ["terminate", "kill"])
def test_a_kill_while_a_command_runs_leaves_no_process(live: LiveDaemon, mode: str) -> None:
    execution = live.execute(script(bash(nap("nap-k")), text("never")), options=BASH)
    started(live, "nap-k")
    begun = time.monotonic()
    killed = live.call("kill", execution=execution, mode=mode)
    assert time.monotonic() - begun < 15
    assert killed["survivors"] == 0
    assert ended_as(live.wait(execution)) == ("cancelled", "killed")
    gone(live, "")


def test_a_descendant_that_detached_itself_is_swept(live: LiveDaemon) -> None:
    command = f"setsid nohup {nap('nap-d')} >/dev/null 2>&1 & echo left it"
    ended = live.run(script(bash(command), text("done")), options=BASH)
    assert ended_as(ended) == ("completed", "ok")
    assert "left it" in live.tool_results(ended["execution"])[0]
    gone(live, "nap-d")


def test_a_command_in_the_background_is_none(live: LiveDaemon) -> None:
    call = tool("Bash", command=nap("nap-b", 2), description="nap", run_in_background=True)
    begun = time.monotonic()
    ended = live.run(script(call, text("done")), options=BASH)
    assert ended_as(ended) == ("completed", "ok")
    assert time.monotonic() - begun < 20
    assert len(live.said(ended["execution"], "result")) == 1
    assert not [
        line for line in live.said(ended["execution"], "system") if line["subtype"] == "task_notification"
    ]  # fmt: skip
    gone(live, "nap-b")


def test_an_execution_that_takes_too_long_is_ended(live: LiveDaemon) -> None:
    ended = live.run("[[hang]]", options={"timeout_s": 3})
    assert ended_as(ended) == ("timed_out", "timeout")
    gone(live, "")


# --- crashes of the daemon -------------------------------------------------------------------------


def test_a_permission_that_was_pending_when_the_daemon_died_is_answered_later(
    live: LiveDaemon,
) -> None:
    execution = live.execute("[[write path=out.txt]]")
    asked = live.wait_approval(execution)
    live.restart()
    approval = live.wait_approval(execution)
    assert approval["id"] == asked["id"]
    live.decide(approval)
    ended = live.wait(execution)
    assert (ended_as(ended), ended["result"]) == (("completed", "ok"), "file written")
    assert (live.place / "out.txt").read_text() == "fake content\n"
    history.read(live, project="web").check().check_ended(execution)


def test_a_command_that_runs_when_the_daemon_dies_is_finished(live: LiveDaemon) -> None:
    steps = script(bash("python3 -c 'import time; time.sleep(4)'; echo slept"), text("finished"))
    execution = live.execute(steps, options=BASH)
    started(live, "time.sleep(4)")
    live.restart()
    ended = live.wait(execution)
    assert (ended_as(ended), ended["result"]) == (("completed", "ok"), "finished")
    assert live.tool_results(execution) == ["slept"]
    told = history.read(live, project="web").check()
    told.check_ended(execution)
    assert told.texts(execution) == ["finished"]
    assert len(live.api.requests("time.sleep(4)")) >= 2


def test_claude_answers_while_no_daemon_lives_and_nothing_is_lost(live: LiveDaemon) -> None:
    execution = live.execute("[[slow n=20 delay=0.1]]")
    live.wait_state(execution, "running")
    live.kill()

    def is_answered() -> bool:
        return any(b"terminal_reason" in path.read_bytes() for path in live.home.rglob("out.spool"))

    eventually(is_answered, within_s=30, what="Claude gives its result")
    live.start()
    ended = live.wait(execution)
    assert ended_as(ended) == ("completed", "ok")
    assert ended["result"].endswith("word19")
    history.read(live, project="web").check().check_ended(execution)


# --- conversations ---------------------------------------------------------------------------------


def test_the_next_prompt_goes_on_with_the_conversation(live: LiveDaemon) -> None:
    first = live.run("my name is Ada")
    second = live.run("what is my name")
    assert second["session"] == first["session"]
    assert "my name is Ada" in str(live.api.requests("what is my name")[-1]["body"]["messages"])
    assert 0 < second["cost_usd"] < 1.5 * first["cost_usd"], "only its own turn"


def test_a_new_session_knows_nothing_of_the_old_one(live: LiveDaemon) -> None:
    first = live.run("my name is Ada")
    second = live.run("what is my name", session="new")
    assert second["session"] != first["session"]
    assert "Ada" not in str(live.api.requests("what is my name")[-1]["body"]["messages"])


def test_a_fork_knows_the_past_and_leaves_the_original_alone(live: LiveDaemon) -> None:
    first = live.run("my name is Ada")
    forked = live.run("only the fork hears this", session=first["session"], fork=True)
    assert forked["session"] != first["session"]
    asked = live.api.requests("only the fork hears this")[-1]
    assert "my name is Ada" in str(asked["body"]["messages"])
    live.run("back again", session=first["session"])
    history_sent = str(live.api.requests("back again")[-1]["body"]["messages"])
    assert "my name is Ada" in history_sent
    assert "only the fork hears this" not in history_sent


def test_a_copy_is_made_by_its_first_prompt_under_the_id_it_was_given(live: LiveDaemon) -> None:
    first = live.run("my name is Ada")
    copy = live.call("session.fork", session=first["session"])
    in_copy = live.run("only the copy hears this")
    assert (ended_as(in_copy), in_copy["session"]) == (("completed", "ok"), copy["session"])
    assert 0 < in_copy["cost_usd"] < 3 * first["cost_usd"], "its own share"
    live.restart()
    second = live.run("who am I")
    assert second["session"] == copy["session"]
    sent = str(live.api.requests("who am I")[-1]["body"]["messages"])
    assert "my name is Ada" in sent
    assert "only the copy hears this" in sent
    live.run("back again", session=first["session"])
    sent = str(live.api.requests("back again")[-1]["body"]["messages"])
    assert "my name is Ada" in sent
    assert "only the copy hears this" not in sent


def test_a_copy_that_claude_made_unseen_costs_one_prompt(live: LiveDaemon) -> None:
    first = live.run("my name is Ada")
    copy = live.call("session.fork", session=first["session"])
    [path] = (live.user / ".claude" / "projects").rglob(f"{first['session']}.jsonl")
    made = path.with_name(f"{copy['session']}.jsonl")
    made.write_text(path.read_text().replace(first["session"], copy["session"]))
    taken = live.run("in the copy")
    assert taken["state"] == "failed"
    assert "already in use" in taken["message"]
    after = live.run("in the copy again")
    assert (ended_as(after), after["session"]) == (("completed", "ok"), copy["session"])
    assert "my name is Ada" in str(live.api.requests("in the copy again")[-1]["body"]["messages"])


def test_a_conversation_that_is_gone_is_an_error_with_claudes_words(live: LiveDaemon) -> None:
    first = live.run("my name is Ada")
    for path in (live.user / ".claude" / "projects").rglob(f"{first['session']}.jsonl"):
        path.unlink()
    second = live.run("what is my name")
    assert second["state"] == "failed"
    assert "No conversation found" in second["message"]
    assert "No conversation found" in second["stderr"]


def test_a_killed_conversation_is_resumed(live: LiveDaemon) -> None:
    execution = live.execute(script(bash(nap("nap-r")), text("never")), options=BASH)
    started(live, "nap-r")
    live.call("kill", execution=execution, mode="kill")
    killed = live.wait(execution)
    after = live.run("and now")
    assert (ended_as(after), after["session"]) == (("completed", "ok"), killed["session"])
    assert "nap-r" in str(live.api.requests("and now")[-1]["body"]["messages"])


def test_system_prompts_reach_a_new_conversation_only(live: LiveDaemon) -> None:
    said = {"append_system_prompt": "Speak like a pirate."}
    first = live.accept("begin here", options=said)
    live.wait(first["execution"])
    assert first["warnings"] == []
    assert "Speak like a pirate." in str(live.api.requests("begin here")[-1]["body"]["system"])

    other = {"append_system_prompt": "Speak like a judge."}
    second = live.accept("go on here", options=other)
    live.wait(second["execution"])
    assert "Speak like a judge." not in str(live.api.requests("go on here")[-1]["body"])
    assert len(second["warnings"]) == 1
    assert "system prompt" in second["warnings"][0]

    third = live.accept("start over", options=other, session="new")
    live.wait(third["execution"])
    assert third["warnings"] == []
    assert "Speak like a judge." in str(live.api.requests("start over")[-1]["body"]["system"])


# --- the API ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("marker", "cause", "says"),
    [
        ("400", "api_error", "something is wrong"),
        ("401", "auth", "Invalid API key"),
        ("403", "auth", "403"),
        ("404", "api_error", "selected model"),
        ("too_large", "api_error", "too large"),
        ("429", "api_error", "429"),
        ("500", "api_error", "500"),
        ("529", "api_error", "529"),
        ("credit", "api_error", "Credit balance is too low"),
        ("too_long", "prompt_too_long", "too long"),
        ("refusal", "api_error", "safeguards"),
    ],
)
def test_an_error_of_the_api_fails_with_its_cause_and_reason(
    live: LiveDaemon, marker: str, cause: str, says: str
) -> None:
    ended = live.run(f"[[{marker}]]")
    assert ended_as(ended) == ("failed", cause)
    assert ended["exit_code"] == 1
    assert says in ended["message"]
    assert "Message ID" not in ended["message"].split(":", 1)[0]


def test_an_api_that_is_not_there_fails(make_live: Callable[..., LiveDaemon], api: Api) -> None:
    live = make_live(env={"ANTHROPIC_BASE_URL": "http://127.0.0.1:9"})
    live.start()
    live.project()
    ended = live.run("hello")
    assert ended_as(ended) == ("failed", "api_error")
    assert not api.requests()


def test_retries_are_shown_while_they_last(make_live: Callable[..., LiveDaemon]) -> None:
    live = make_live(env={"CLAUDE_CODE_MAX_RETRIES": "4"})
    live.start()
    live.project()
    execution = live.execute("[[500 times=3]]")
    shown = eventually(lambda: live.get(execution)["retrying"], within_s=20, what="a retry")
    assert shown is not None
    assert " of 4: server_error" in shown
    ended = live.wait(execution)
    assert (ended_as(ended), ended["result"]) == (("completed", "ok"), "recovered")
    assert ended["retrying"] is None


def test_a_subscription_without_login_is_named(make_live: Callable[..., LiveDaemon]) -> None:
    live = make_live()
    live.login = {}
    live.start()
    live.project()
    ended = live.run("hello")
    assert ended_as(ended) == ("failed", "auth")
    assert "Not logged in" in ended["message"]


@pytest.fixture
def subscribed(make_live: Callable[..., LiveDaemon]) -> LiveDaemon:
    """With a subscription's token instead of an API key."""
    daemon = make_live()
    daemon.login = {"CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat01-fake"}
    daemon.start()
    daemon.project()
    return daemon


def test_a_usage_limit_tells_when_it_resets(subscribed: LiveDaemon) -> None:
    before = time.time()
    ended = subscribed.run("[[usage_limit reset=3600]]")
    assert ended_as(ended) == ("failed", "usage_limit")
    assert "limit" in ended["message"]
    resets = (
        time.mktime(time.strptime(ended["resets_at"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone
    )
    assert before + 3500 < resets < before + 3700
    hits = [e for e in subscribed.events(ended["execution"]) if e["type"] == "usage_limit.hit"]
    assert [hit["data"]["kind"] for hit in hits] == ["five_hour"]


def test_a_warning_about_the_limit_does_not_fail(subscribed: LiveDaemon) -> None:
    ended = subscribed.run("[[limit_warning]]")
    assert ended_as(ended) == ("completed", "ok")
    told = [
        line["rate_limit_info"] for line in subscribed.said(ended["execution"], "rate_limit_event")
    ]
    assert told[-1]["status"] == "allowed_warning"
    assert ended["resets_at"] is None


def test_the_path_of_a_project_may_hold_odd_letters(live: LiveDaemon, tmp_path: Path) -> None:
    place = live.root / "projects" / "a b'ü"
    place.mkdir(parents=True)
    live.call("project.create", path=str(place), name="odd")
    ended = live.run(script(bash("pwd"), text("there")), "odd")
    assert ended_as(ended) == ("completed", "ok")
    assert live.run("and again", "odd")["session"] == ended["session"]


# --- questions by ask_human ------------------------------------------------------------------------


ASK = {"question": "Which database?", "choices": ["SQLite", "PostgreSQL"]}


def asked(live: LiveDaemon, execution: str) -> dict[str, Any]:
    found = eventually(
        lambda: live.call("question.list", execution=execution)["items"],
        within_s=30,
        what="a question",
    )
    return dict(found[0])


def test_claude_asks_a_person_and_hears_the_answer(live: LiveDaemon) -> None:
    prompt = script(tool("mcp__hivectl__ask_human", **ASK), text("thanks"))
    execution = live.execute(prompt)
    question = asked(live, execution)
    assert (question["text"], question["choices"]) == (ASK["question"], ASK["choices"])
    assert live.get(execution)["state"] == "waiting"
    live.call("question.answer", id=question["id"], choices=[2])
    ended = live.wait(execution)
    assert (ended_as(ended), ended["result"]) == (("completed", "ok"), "thanks")
    assert "PostgreSQL" in live.tool_results(execution)[0]
    servers = live.said(execution, "system")[0]["mcp_servers"]
    assert [(s["name"], s["status"]) for s in servers] == [("hivectl", "connected")]


def test_a_question_of_claude_survives_the_daemon(live: LiveDaemon) -> None:
    execution = live.execute(script(tool("mcp__hivectl__ask_human", **ASK), text("thanks")))
    question = asked(live, execution)
    live.kill()
    time.sleep(3)
    live.start()
    live.call("question.answer", id=question["id"], text="neither")
    assert live.wait(execution)["result"] == "thanks"
    assert "neither" in live.tool_results(execution)[0]


def test_a_question_is_withdrawn_when_claude_is_interrupted(live: LiveDaemon) -> None:
    execution = live.execute(script(tool("mcp__hivectl__ask_human", **ASK), text("thanks")))
    question = asked(live, execution)
    live.call("kill", execution=execution, mode="interrupt")
    eventually(
        lambda: live.call("question.get", id=question["id"])["state"] == "withdrawn",
        within_s=15,
        what="it is withdrawn",
    )


def test_a_question_waits_for_longer_than_claude_lets_other_calls_wait(live: LiveDaemon) -> None:
    """Without CLAUDE_CODE_MCP_AUTO_BACKGROUND_MS a call may go to the background after two minutes."""
    execution = live.execute(script(tool("mcp__hivectl__ask_human", **ASK), text("thanks")))
    question = asked(live, execution)
    time.sleep(135)
    assert live.get(execution)["state"] == "waiting"
    live.call("question.answer", id=question["id"], text="at last")
    assert live.wait(execution)["result"] == "thanks"
    assert "at last" in live.tool_results(execution)[0]
