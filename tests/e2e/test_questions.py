"""ask_human, from Claude's call to what it does with the answer."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from http.client import HTTPException
from typing import Any

import pytest

from tests.harness import history
from tests.harness.daemon import ROOT, Daemon, RpcError
from tests.harness.waiting import eventually

ASK = {"question": "Which database?", "choices": ["SQLite", "PostgreSQL"], "context": "Both do."}
Make = Callable[..., Daemon]
FULL_NAME = "mcp__hivectl__ask_human"


def _ask(daemon: Daemon, ask: Any = ASK, **params: Any) -> tuple[str, dict[str, Any]]:
    execution = daemon.execute({"steps": [{"ask_human": ask}, {"text": "thanks"}]}, **params)
    found = eventually(
        lambda: daemon.call("question.list", execution=execution)["items"], what="a question"
    )
    return execution, dict(found[0])


def _heard(daemon: Daemon, execution: str) -> list[Any]:
    """What came back from the calls of ask_human."""
    blocks = [
        block
        for event in history.read(daemon, project="web").of(execution)
        if event["type"] == "message" and event["data"]["kind"] == "user"
        for block in event["data"]["raw"]["message"]["content"]
        if block["type"] == "tool_result"
    ]
    return [block["content"] for block in blocks]


def test_a_question_of_claude_is_answered_and_it_goes_on(daemon: Daemon) -> None:
    execution, asked = _ask(daemon)
    assert (asked["text"], asked["choices"], asked["context"]) == (
        "Which database?",
        ["SQLite", "PostgreSQL"],
        "Both do.",
    )
    assert (asked["state"], asked["source"], asked["project_name"]) == (
        "pending",
        "ask_human",
        "web",
    )
    waiting = daemon.get(execution)
    assert (waiting["state"], waiting["waiting_for"]) == ("waiting", [asked["id"]])
    assert daemon.call("approval.list")["items"] == []
    answered = daemon.call("question.answer", id=asked["id"], choices=[2], text="the newest")
    assert (answered["state"], answered["answer"]) == ("answered", "PostgreSQL\nthe newest")
    ended = daemon.wait(execution)
    assert (ended["state"], ended["result"]) == ("completed", "thanks")
    assert _heard(daemon, execution) == [[{"type": "text", "text": "PostgreSQL\nthe newest"}]]
    told = history.read(daemon, project="web").check()
    types = [e["type"] for e in told.of(execution) if e["type"].startswith(("question.", "chat."))]
    assert types == ["chat.message", "question.asked", "chat.message", "question.answered"]
    start = daemon.mock_starts()[0]
    assert f"--allowedTools={FULL_NAME}" in start["argv"]
    assert "--strict-mcp-config" in start["argv"]
    assert {"MCP_TOOL_TIMEOUT", "CLAUDE_CODE_MCP_AUTO_BACKGROUND_MS"} <= set(start["env"])


def test_a_question_survives_the_death_of_the_daemon_and_is_answered_by_a_second_client(
    daemon: Daemon,
) -> None:
    execution, asked = _ask(daemon)
    for _ in range(2):
        daemon.restart()
        assert daemon.get(execution)["state"] == "waiting"
        (again,) = daemon.call("question.list")["items"]
        assert again["id"] == asked["id"]
    daemon.call("question.answer", id=asked["id"], choices=["SQLite"])
    assert daemon.wait(execution)["result"] == "thanks"
    assert _heard(daemon, execution) == [[{"type": "text", "text": "SQLite"}]]
    told = history.read(daemon, project="web").check()
    assert len(told.of_type("question.asked")) == len(told.of_type("question.answered")) == 1
    assert len(daemon.mock_starts()) == 1


def test_an_answer_that_was_stored_when_the_daemon_died_is_heard(daemon: Daemon) -> None:
    execution, asked = _ask(daemon)
    daemon.restart(HIVECTL_FAILPOINT="decision_after_commit:kill")
    with pytest.raises((OSError, EOFError, Exception)):
        daemon.call("question.answer", id=asked["id"], text="whatever you like")
    daemon.wait_end()
    daemon.start()
    assert daemon.wait(execution)["result"] == "thanks"
    assert _heard(daemon, execution) == [[{"type": "text", "text": "whatever you like"}]]


def test_of_two_answers_the_first_counts_and_the_others_hear_whose(daemon: Daemon) -> None:
    execution, asked = _ask(daemon)

    def answer(text: str) -> str:
        try:
            daemon.call("question.answer", id=asked["id"], text=text)
        except RpcError as error:
            return f"{error.code} by {error.data['details']['answered_by'].partition(':')[0]}"
        return "done"

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(answer, "abcdef"))
    assert sorted(outcomes) == ["ALREADY_DECIDED by user"] * 5 + ["done"]
    daemon.wait(execution)
    assert len(history.read(daemon, project="web").check().of_type("question.answered")) == 1


def test_a_question_is_withdrawn_when_its_run_is_killed(daemon: Daemon) -> None:
    execution, asked = _ask(daemon)
    daemon.call("kill", execution=execution)
    found = daemon.call("question.get", id=asked["id"])
    assert found["state"] == "withdrawn"
    with pytest.raises(RpcError) as caught:
        daemon.call("question.answer", id=asked["id"], text="too late")
    assert caught.value.code == "ALREADY_DECIDED"
    told = history.read(daemon, project="web").check()
    assert [e["data"]["state"] for e in told.of_type("question.expired")] == ["withdrawn"]
    (thread,) = daemon.call("chat.list", execution=execution)["items"]
    messages = daemon.call("chat.messages", thread=thread["thread"])["items"]
    assert [m["type"] for m in messages] == ["request", "status"]


@pytest.mark.parametrize(("on_timeout", "is_error"), [("default", False), ("deny", True)])
def test_a_question_nobody_answers_ends_as_the_project_says(
    daemon: Daemon, on_timeout: str, is_error: bool
) -> None:
    defaults = {"question_timeout_s": 0.3, "question_on_timeout": on_timeout}
    daemon.call("project.update", project="web", defaults=defaults)
    execution = daemon.execute({"steps": [{"ask_human": ASK}, {"text": "thanks"}]})
    assert daemon.wait(execution)["result"] == "thanks"
    (asked,) = daemon.call("question.list", state="expired")["items"]
    assert asked["reason"].startswith("Nobody answered in time.")
    (heard,) = _heard(daemon, execution)
    assert "Nobody answered in time" in str(heard)
    assert isinstance(heard, str) is is_error


def test_a_time_that_passed_while_no_daemon_ran_has_passed(daemon: Daemon) -> None:
    defaults = {"question_timeout_s": 1.5, "question_on_timeout": "default"}
    daemon.call("project.update", project="web", defaults=defaults)
    execution, asked = _ask(daemon)
    daemon.kill()
    eventually(lambda: True)
    daemon.start()
    assert daemon.wait(execution)["result"] == "thanks"
    assert daemon.call("question.get", id=asked["id"])["state"] == "expired"


def test_a_reply_in_the_thread_is_the_answer(daemon: Daemon) -> None:
    execution, asked = _ask(daemon)
    (thread,) = daemon.call("chat.list", waiting=True)["items"]
    assert (thread["execution"], thread["unread"], thread["waiting_for"]) == (
        execution,
        1,
        [asked["id"]],
    )
    sent = daemon.call(
        "chat.send", thread=execution, parent=asked["message_id"], text="SQLite, please"
    )
    assert (sent["answered"], sent["message"]["type"]) == (asked["id"], "response")
    assert daemon.wait(execution)["result"] == "thanks"
    assert _heard(daemon, execution) == [[{"type": "text", "text": "SQLite, please"}]]


def test_claudes_own_questions_are_answered_in_the_same_way(daemon: Daemon) -> None:
    execution = daemon.execute({"steps": [{"ask": True}, {"text": "thanks"}]})
    asked = daemon.wait_approval(execution)
    (shown,) = daemon.call("question.list")["items"]
    assert (shown["id"], shown["source"], shown["choices"]) == (
        asked["id"],
        "ask_user_question",
        ["Red", "Blue"],
    )
    answered = daemon.call("question.answer", id=asked["id"], choices=[2])
    assert (answered["state"], answered["answers"]) == (
        "answered",
        {"Which colour do you want?": "Blue"},
    )
    assert daemon.wait(execution)["result"] == "thanks"


def test_a_project_can_do_without_it(daemon: Daemon) -> None:
    daemon.call("project.update", project="web", defaults={"ask_human": False})
    ended = daemon.run({"steps": [{"ask_human": True}, {"text": "alone then"}]})
    assert ended["result"] == "alone then"
    assert daemon.call("question.list", state="all")["items"] == []
    assert not any("mcp-config=" in word for word in daemon.mock_starts()[0]["argv"])


def test_a_call_that_makes_no_sense_is_told_to_claude_and_to_nobody_else(daemon: Daemon) -> None:
    ended = daemon.run({"steps": [{"ask_human": {"question": " "}}, {"text": "sorry"}]})
    assert ended["result"] == "sorry"
    assert "must be a text" in str(_heard(daemon, ended["execution"]))
    assert daemon.call("question.list", state="all")["items"] == []


def test_hostile_text_is_kept_as_it_is_and_answered(daemon: Daemon) -> None:
    evil = "\x1b]0;pwned\x07Which\u202e?\ud83d\x00"
    execution, asked = _ask(daemon, {"question": evil, "choices": ["\x1b[2J", "b"]})
    assert "Which" in asked["text"]
    daemon.call("question.answer", id=asked["id"], text="\x1b[2J\u2028no")
    assert daemon.wait(execution)["result"] == "thanks"
    history.read(daemon, project="web").check()


def test_s16_no_run_answers_a_question_be_it_its_own_or_anothers(daemon: Daemon) -> None:
    first, asked = _ask(daemon)
    daemon.project("api")
    home = f"HIVECTL_HOME={daemon.home} PYTHONPATH={ROOT}"
    answer = f"{home} {sys.executable} -m hivectl answer {asked['id']} yes --json; true"
    steps = [{"permission": {"name": "Bash", "input": {"command": answer}}}, {"text": "tried"}]
    second = daemon.execute({"steps": steps}, project="api")
    daemon.decide(daemon.wait_approval(second))
    assert daemon.wait(second)["result"] == "tried"
    told = history.read(daemon, project="api").of(second)
    assert any("SELF_APPROVAL_DENIED" in str(event["data"].get("raw")) for event in told)
    assert daemon.call("question.get", id=asked["id"])["state"] == "pending"
    daemon.call("question.answer", id=asked["id"], text="no")
    assert daemon.wait(first)["result"] == "thanks"


def test_a_waiting_question_gives_its_slot_to_the_next_run(make_daemon: Make) -> None:
    daemon = make_daemon(settings={"execution.max_live": 1}).start()
    for name in ("web", "api"):
        daemon.project(name)
    first, asked = _ask(daemon)
    assert daemon.run({"text": "meanwhile"}, project="api")["result"] == "meanwhile"
    daemon.call("question.answer", id=asked["id"], choices=[1])
    assert daemon.wait(first)["result"] == "thanks"


def test_a_program_inside_a_run_asks_and_reads_the_answer(daemon: Daemon) -> None:
    home = f"HIVECTL_HOME={daemon.home} PYTHONPATH={ROOT}"
    program = (
        "from hivectl.client import SyncClient; c = SyncClient().__enter__();"
        ' q = c.question_ask(text="Shall I?");'
        ' print(c.question_wait(q["id"], timeout_s=30)["answer"])'
    )
    command = f"{home} {sys.executable} -c '{program}'"
    steps = [{"permission": {"name": "Bash", "input": {"command": command}}}, {"text": "done"}]
    execution = daemon.execute({"steps": steps})
    daemon.decide(daemon.wait_approval(execution))
    (asked,) = eventually(lambda: daemon.call("question.list")["items"], within_s=20)
    assert (asked["source"], asked["execution"]) == ("worker", execution)
    assert daemon.get(execution)["state"] == "running", "it stops nothing"
    daemon.call("question.answer", id=asked["id"], text="go ahead")
    assert daemon.wait(execution)["result"] == "done"
    assert "go ahead" in str(_heard(daemon, execution))


QUESTIONS = 12


def test_questions_one_after_the_other_all_come_through_while_the_daemon_is_killed_again_and_again(
    daemon: Daemon,
) -> None:
    """Somebody answers whatever is asked, also into the kills; each daemon lives for an answer or a few."""
    names = ["web", "api", "app"]
    for name in names[1:]:
        daemon.project(name)
    steps = [{"ask_human": {"question": f"q{number}"}} for number in range(QUESTIONS)]
    runs = [daemon.execute({"steps": [*steps, {"text": "thanks"}]}, name) for name in names]
    is_over = threading.Event()
    answered: list[str] = []

    def answer() -> None:
        while not is_over.wait(0.05):
            with suppress(OSError, HTTPException, RpcError):
                for item in daemon.call("question.list")["items"]:
                    with suppress(RpcError):
                        daemon.call("question.answer", id=item["id"], text=f"to {item['text']}")
                        answered.append(item["id"])

    def more_than(seen: int) -> bool:
        return len(answered) > seen

    answering = threading.Thread(target=answer)
    answering.start()
    try:
        for _ in range(4):
            seen = len(answered)
            eventually(partial(more_than, seen), what="an answer is taken")
            daemon.restart()
        ends = [daemon.wait(run) for run in runs]
    finally:
        is_over.set()
        answering.join()
    assert [end["result"] for end in ends] == ["thanks"] * 3
    for name, run in zip(names, runs, strict=True):
        told = history.read(daemon, project=name).check().of(run)
        heard = [
            block["content"][0]["text"]
            for event in told
            if event["type"] == "message" and event["data"]["kind"] == "user"
            for block in event["data"]["raw"]["message"]["content"]
            if block["type"] == "tool_result"
        ]
        assert heard == [f"to q{number}" for number in range(QUESTIONS)]
        types = [event["type"] for event in told]
        assert types.count("question.asked") == types.count("question.answered") == QUESTIONS
