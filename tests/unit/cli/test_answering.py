"""Questions and threads at the terminal: asked in place, answered by number or words, live chat."""

import json

import pytest

from hivectl.cli import questions, views
from hivectl.model.errors import HiveError
from tests.unit.cli.test_interactive import Terminal

CREATED = "2026-11-21T03:00:00.000000Z"


def question(id_="q_1", **fields):
    text, choices = fields.pop("text", "Which?"), fields.pop("choices", ["Red", "Blue"])
    multi = fields.get("multi", False)
    asked = [{"question": text, "header": "", "choices": [{"label": c, "description": ""} for c in choices], "multi": multi}]  # fmt: skip
    return {
        "id": id_, "version": 1, "state": "pending", "kind": "question", "source": "ask_human", "asker": "execution:x_1",
        "execution": "x_1", "project": "p_1", "project_name": "web", "session": None, "thread": "ch_1", "message_id": "m_1",
        "text": text, "choices": choices, "multi": False, "context": "why", "questions": asked, "answer": None, "answers": None,
        "declined": False, "answered_by": None, "reason": "", "on_timeout": "wait", "expires_at": None, "created_at": CREATED,
        "answered_at": None, "waited_ms": 1000, **fields,
    }  # fmt: skip


def two(**fields):
    asked = [{"question": t, "header": "", "choices": [], "multi": False} for t in ("Which?", "When?")]  # fmt: skip
    return question(id_="a_1", source="ask_user_question", questions=asked, choices=[], **fields)


def event(**fields):
    """A question as events have it."""
    return {
        **{k: v for k, v in question(**fields).items() if k not in {"questions", "source"}},
        "claude_request": "r",
        "claude_rpc": "1",
    }


def message(id_="m_1", **fields):
    return {
        "id": id_, "thread": "ch_1", "author": "execution:x_1", "role": "worker", "type": "request", "parent": None,
        "question": "q_1", "text": "Which?\n1. Red\n2. Blue", "created_at": CREATED, **fields,
    }  # fmt: skip


def thread(**fields):
    return {
        "thread": "ch_1", "title": "fix it", "owner": "execution:x_1", "project": "p_1", "project_name": "web", "execution": "x_1",
        "execution_state": "waiting", "task": None, "messages": 1, "unread": 1, "waiting_for": ["q_1"], "waiting_since": CREATED,
        "waiting_ms": 65_000, "created_at": CREATED, "last_activity_at": CREATED, "idle_ms": 65_000, **fields,
    }  # fmt: skip


@pytest.fixture
def asked(script):
    """A daemon with one question in one thread."""
    script.waiting = question()
    script.daemon.answers |= {
        "question.get": lambda params: script.waiting,
        "question.list": lambda params: {"items": [script.waiting], "next_cursor": None},
        "question.answer": lambda params: answered(script, params),
        "chat.list": lambda params: {"items": [thread()], "next_cursor": None},
        "chat.read": lambda params: thread(),
        "chat.messages": lambda params: {"thread": "ch_1", "items": [message()], "next": None},
        "chat.send": lambda params: sent(script, params),
    }
    return script


def answered(script, params):
    text = params.get("text") or ", ".join((params.get("answers") or {}).values())
    script.waiting = question(state="answered", answer=text, answered_by="user:tester")
    script.emit("question.answered", {**event(), "state": "answered", "answer": text})
    script.end()
    return script.waiting


def sent(script, params):
    is_answer = params.get("parent") == "m_1"
    said = message("m_2", author="user:tester", role="human", text=params["text"])
    if is_answer:
        script.waiting = question(state="answered")
        script.emit("question.answered", {**event(), "state": "answered"})
    return {"message": said, "answered": "q_1" if is_answer else None}


@pytest.fixture
def terminal(asked):
    opened = []

    def start(*argv):
        opened.append(Terminal(argv))
        return opened[-1]

    yield start
    for item in opened:
        item.close()


# --- answer


def test_an_answer_is_given_on_the_command_line(hive, asked):
    ran = hive("answer", "q_1", "-c", "2", "with care")
    assert (ran.code, ran.err) == (0, "")
    assert asked.daemon.wait_for("question.answer") == {
        "id": "q_1", "version": 1, "text": "with care", "choices": [2],
    }  # fmt: skip
    assert ran.out == "answered  q_1  with care\n"


def test_declining_says_so(hive, asked):
    hive("answer", "q_1", "--decline", "not today")
    sent = asked.daemon.wait_for("question.answer")
    assert (sent["decline"], sent["text"]) == (True, "not today")


def test_several_questions_are_answered_in_order_or_by_name(hive, asked):
    asked.waiting = two()
    hive("answer", "a_1", "--answer", "the red one", "--answer", "When?=now")
    assert asked.daemon.wait_for("question.answer")["answers"] == {
        "Which?": "the red one",
        "When?": "now",
    }
    asked.waiting = two()
    ran = hive("answer", "a_1", "whatever")
    assert ran.code == 2
    assert "--answer" in ran.err


def test_without_a_terminal_an_answer_must_be_given(hive, asked):
    ran = hive("answer", "q_1")
    assert ran.code == 2
    assert "hivectl answer q_1" in ran.err
    ran = hive("answer", "q_1", "--json", "yes")
    assert json.loads(ran.out)["state"] == "answered"


def test_every_question_that_waits_is_asked_at_the_terminal(terminal, asked):
    shell = terminal("answer")
    shell.expect("? Claude asks")
    shell.expect("why")
    shell.expect("Which?")
    shell.expect("1. Red")
    shell.type("7\n")
    shell.expect("there is no choice 7")
    shell.type("n\n")
    shell.expect("own words: ")
    shell.type("2\n")
    shell.expect("answered  q_1  Blue")
    assert shell.end() == 0


def test_hostile_text_is_shown_as_escapes(terminal, asked):
    asked.waiting = question(text="\x1b]0;x\x07Which\u202e?", choices=["\x1b[2J", "b"])
    shell = terminal("answer", "q_1")
    shell.expect("\\x1b]0;x\\x07Which\\u202e?")
    shell.expect("1. \\x1b[2J")
    shell.type("b\n")
    assert shell.end() == 0


def test_a_question_is_asked_in_place_while_its_run_is_watched(terminal, asked):
    asked.on_execute = lambda: asked.emit("question.asked", event())
    shell = terminal("exec", "web", "fix it")
    shell.expect("Which?")
    shell.expect("own words: ")
    shell.type("1\n")
    shell.expect("✓ completed")
    assert shell.end() == 0
    assert asked.daemon.wait_for("question.answer") == {
        "id": "q_1", "version": 1, "answers": {"Which?": "Red"},
    }  # fmt: skip


def test_a_question_answered_elsewhere_is_taken_back(terminal, asked):
    asked.on_execute = lambda: asked.emit("question.asked", event())
    shell = terminal("exec", "web", "fix it")
    shell.expect("own words: ")
    asked.daemon.publish(
        "project:p_1", "question.answered", {**event(), "state": "answered"}, execution="x_1"
    )
    shell.expect("answered elsewhere")
    asked.daemon._loop.call_soon_threadsafe(asked.end)
    assert shell.end() == 0


def test_without_a_terminal_the_command_that_answers_is_shown(hive, asked):
    def ask():
        asked.emit("question.asked", event())
        asked.end()

    asked.on_execute = ask
    assert 'hivectl answer q_1 "…"' in hive("exec", "web", "fix it").err


# --- chat


def test_threads_are_listed_with_what_is_new_and_how_long_it_waits(hive, asked):
    ran = hive("chat")
    assert [line.split() for line in ran.out.splitlines()][1][:4] == ["ch_1", "web", "1", "1m"]
    assert hive("chat", "-o", "name").out == "ch_1\n"
    asked.daemon.answers["chat.list"] = lambda params: {"items": [], "next_cursor": None}
    assert "nobody has asked" in hive("chat", "-w", "-p", "web").err
    assert asked.daemon.wait_for("chat.list", count=3) == {"waiting": True, "project": "web"}


def test_a_thread_is_printed_where_nobody_can_type(hive, asked):
    assert "03:00  claude: Which?" in hive("chat", "x_1").out
    assert json.loads(hive("chat", "ch_1", "--json").out)["items"][0]["id"] == "m_1"


def test_a_message_answers_what_waits(hive, asked):
    assert hive("chat", "x_1", "-m", "2").out == "answered q_1\n"
    assert asked.daemon.wait_for("chat.send") == {
        "thread": "ch_1", "parent": "m_1", "text": "Blue",
    }  # fmt: skip
    assert hive("chat", "x_1", "-m", "7").code == 2
    asked.daemon.answers["chat.read"] = lambda params: thread(waiting_for=[])
    assert hive("chat", "x_1", "-m", "hello").out == "sent\n"


def test_a_live_thread_shows_what_comes_and_sends_what_is_typed(terminal, asked):
    shell = terminal("chat", "ch_1")
    shell.expect("claude: Which?")
    shell.expect("your next line answers q_1")
    shell.type("7\n")
    shell.expect("There is no choice 7")
    shell.type("2\n")
    shell.expect("answered q_1")
    assert asked.daemon.wait_for("chat.send")["text"] == "Blue"
    new = message("m_3", type="status", question=None, text="half\x1b[2J way")
    asked.daemon.publish("project:p_1", "chat.message", new, execution="x_1")
    shell.expect("claude: half\\x1b[2J way")
    asked.daemon.publish("project:p_1", "chat.message", {**new, "id": "m_4", "thread": "ch_2"})
    shell.type("thank you\n")
    asked.daemon.wait_for("chat.send", count=2)
    assert "parent" not in asked.daemon.wait_for("chat.send", count=2)
    shell.type("\x04")
    assert shell.end() == 0


def test_a_thread_that_loses_an_answer_to_somebody_says_so(terminal, asked):
    def late(params):
        raise HiveError("ALREADY_DECIDED", "Question q_1 is closed: answered by user:ada.")

    asked.daemon.answers["chat.send"] = late
    shell = terminal("chat", "ch_1")
    shell.expect("your next line answers q_1")
    shell.type("2\n")
    shell.expect("answered by user:ada")
    shell.type("\x04")
    assert shell.end() == 0


# --- rows


def test_a_question_stands_beside_approvals(kit):
    row = questions.as_row(question(text="Which \x1b[2Jone?"))
    text = views.table("approval", [kit.approval(), row], is_wide=False, now_s=0, width=100)
    assert "q_1" in text
    assert "ask_human" in text
    assert "\x1b" not in text
    closed = questions.as_row(question(state="answered", answered_by="user:ada"))
    assert views.decided(closed) == "allowed by user:ada"


def test_the_shape_of_an_event_is_that_of_a_question():
    found = questions.from_event(event())
    assert found["questions"] == question()["questions"]
    assert found["source"] == "ask_human"
