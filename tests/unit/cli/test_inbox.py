"""The live inbox without a terminal: no key meant for one request ever hits another."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivectl.cli import inbox_rows
from hivectl.cli.inbox import SETTLE_S, Decide, Edit, Inbox, Preview, Quit
from hivectl.cli.keys import Paste
from tests.unit.cli.conftest import approval

LATER = 100.0
QUESTIONS = {
    "questions": [
        {"question": "Which?", "options": [{"label": "Red"}, {"label": "Blue"}], "multiSelect": False},
        {"question": "Why?", "options": []},
    ]
}  # fmt: skip
ASKED = {"kind": "question", "tool": "AskUserQuestion", "input": QUESTIONS}


def box(*items: dict[str, Any]) -> Inbox:
    found = Inbox()
    for item in items:
        found.put(item, 0.0)
    draw(found)
    return found


def draw(inbox: Inbox) -> None:
    inbox_rows.rows(inbox, {}, size=(80, 24), now_s=0.0)


def press(inbox: Inbox, *keys: str, now_s: float = LATER) -> Any:
    wish = None
    for key in keys:
        wish = inbox.key(key, now_s)
        draw(inbox)
    return wish


def two() -> Inbox:
    return box(approval(id="a_1"), approval(id="a_2", created_at="2026-11-22T03:00:00.000000Z"))


def test_y_allows_what_is_shown() -> None:
    wish = press(box(approval()), "y")
    assert isinstance(wish, Decide)
    assert (wish.item["id"], wish.item["version"]) == ("a_1", 1)
    assert wish.params == {"decision": "allow"}


def test_n_asks_for_a_message_and_i_ends_the_turn_too() -> None:
    for key, interrupt in (("n", False), ("i", True)):
        wish = press(box(approval()), key, "n", "o", "!", "backspace", "enter")
        assert wish.params == {"decision": "deny", "message": "no", "interrupt": interrupt}


def test_escape_leaves_a_dialogue_and_decides_nothing() -> None:
    inbox = box(approval())
    assert press(inbox, "n", "x", "esc") is None
    assert (inbox.mode, inbox.line, inbox.bound) == ("list", "", None)


def test_e_edits_and_a_looks_up_the_rule_first() -> None:
    assert isinstance(press(box(approval()), "e"), Edit)
    inbox = box(approval())
    wish = press(inbox, "a")
    assert isinstance(wish, Preview)
    inbox.offer(
        wish.item, {"remember": {"tool": "Bash", "match": {"command": "rm -rf build"}}}, LATER - 1
    )
    shown = text(inbox)
    assert "where command is rm -rf build" in shown
    assert press(inbox, "a", "e", "x") is None, "only y agrees"
    wish = press(inbox, "y")
    assert wish.params == {"decision": "allow", "remember": True}


def test_s16_without_a_look_at_the_rule_none_is_written() -> None:
    inbox = box(approval())
    assert isinstance(press(inbox, "a", "y"), Decide), "y of the list: allowed once"
    inbox = box(approval())
    wish = press(inbox, "a")
    inbox.offer(wish.item, {"remember": None, "remember_problem": "it cannot"}, LATER)
    assert inbox.mode == "list"
    assert "it cannot" in inbox.news[-1]


def test_s16_a_key_typed_before_the_rule_was_seen_does_not_write_it() -> None:
    inbox = box(approval())
    wish = press(inbox, "a")
    inbox.offer(wish.item, {"remember": {"tool": "Bash", "match": {}}}, LATER)
    assert press(inbox, "y", now_s=LATER + SETTLE_S / 2) is None
    assert inbox.mode == "always"
    assert press(inbox, "y", now_s=LATER + SETTLE_S).params["remember"] is True


def test_moving_chooses_another() -> None:
    inbox = two()
    assert press(inbox, "j", "y").item["id"] == "a_2"
    assert press(inbox, "k", "y").item["id"] == "a_1"
    assert press(inbox, "j", "j", "j", "y").item["id"] == "a_2"
    assert press(inbox, "home", "y").item["id"] == "a_1"


def test_what_somebody_else_decided_stays_in_view_and_takes_no_key() -> None:
    inbox = two()
    done = approval(id="a_1", state="decided", decision="deny", decided_by="user:ann")
    inbox.close(done, LATER)
    draw(inbox)
    assert "denied by user:ann" in inbox.news[-1]
    assert "denied by user:ann" in text(inbox)
    for key in "yneai":
        assert press(inbox, key) is None
        assert inbox.mode == "list"
    assert press(inbox, "j", "y").item["id"] == "a_2"


def test_a_key_typed_before_the_change_was_drawn_hits_nothing() -> None:
    inbox = two()
    inbox.put(approval(id="a_1", version=2), LATER)
    assert inbox.key("y", LATER + 10) is None
    draw(inbox)
    assert press(inbox, "y", now_s=LATER + 10).item["version"] == 2


def test_after_our_own_answer_the_keys_rest_for_a_moment() -> None:
    inbox = two()
    press(inbox, "y")
    inbox.close(
        approval(id="a_1", state="decided", decision="allow", decided_by="user:me"),
        LATER,
        by_us=True,
    )
    draw(inbox)
    assert inbox.chosen == "a_2"
    assert press(inbox, "y", now_s=LATER + SETTLE_S / 2) is None
    assert press(inbox, "y", now_s=LATER + SETTLE_S).item["id"] == "a_2"


def test_a_dialogue_ends_when_what_it_is_about_is_decided_elsewhere() -> None:
    inbox = box(approval())
    press(inbox, "n", "b", "e")
    inbox.close(approval(state="withdrawn"), LATER)
    draw(inbox)
    assert inbox.mode == "list"
    assert press(inbox, "enter", "y") is None


def test_pasted_text_decides_nothing() -> None:
    inbox = box(approval())
    assert press(inbox, Paste("y")) is None
    assert inbox.mode == "list"
    wish = press(inbox, "n", Paste("not\nnow"), "enter")
    assert wish.params["message"] == "not now"


def test_questions_are_answered_one_after_the_other() -> None:
    inbox = box(approval(**ASKED))
    assert press(inbox, "y", "2", "enter") is None
    wish = press(inbox, *"because", "enter")
    assert wish.params == {"decision": "allow", "answers": {"Which?": "Blue", "Why?": "because"}}


def test_a_number_that_is_no_choice_is_sent_only_when_meant() -> None:
    inbox = box(
        approval(
            kind="question", tool="AskUserQuestion", input={"questions": QUESTIONS["questions"][:1]}
        )
    )
    assert press(inbox, "y", "7", "enter") is None
    assert "no choice 7" in inbox.news[-1]
    assert press(inbox, "enter").params["answers"] == {"Which?": "7"}


def test_a_question_is_not_edited_and_has_no_rule() -> None:
    inbox = box(approval(**ASKED))
    assert press(inbox, "e") is None
    assert press(inbox, "a") is None
    assert "answered with y" in inbox.news[-1]


def test_after_the_daemon_was_away_only_what_waits_is_left() -> None:
    inbox = two()
    inbox.replace([approval(id="a_3", created_at="2026-11-23T03:00:00.000000Z")], LATER)
    draw(inbox)
    assert list(inbox.items) == ["a_3"]
    assert press(inbox, "y") is None, "the chosen one is gone"
    assert press(inbox, "j", "y").item["id"] == "a_3"


@pytest.mark.parametrize("key", ["q", "quit", "eof"])
def test_q_leaves(key: str) -> None:
    assert isinstance(press(box(approval()), key), Quit)
    assert isinstance(press(box(), key), Quit)


def test_details_scroll_and_end() -> None:
    inbox = box(approval(input={"command": "\n".join(f"line {n}" for n in range(100))}))
    press(inbox, "d", "pagedown")
    assert "line 20" in text(inbox)
    press(inbox, *["pagedown"] * 30)
    assert "line 99" in text(inbox)
    press(inbox, "esc")
    assert inbox.mode == "list"


def text(inbox: Inbox) -> str:
    rows = inbox_rows.rows(inbox, {}, size=(80, 24), now_s=0.0)
    return "\n".join("".join(part for _, part in row) for row in rows)


_STEP = st.one_of(
    st.tuples(st.just("key"), st.sampled_from([*"yneaidjkq", "enter", "esc", "up", "down"])),
    st.tuples(st.just("put"), st.tuples(st.integers(1, 4), st.integers(1, 3))),
    st.tuples(st.just("close"), st.integers(1, 4)), st.tuples(st.just("draw"), st.none()),
)  # fmt: skip


@given(st.lists(_STEP, max_size=40))
def test_a_decision_is_always_about_what_was_drawn_when_its_key_began_it(steps: list[Any]) -> None:
    inbox, now_s = box(approval()), 0.0
    drawn, begun = inbox.drawn, None
    for kind, what in steps:
        now_s += 1.0
        if kind == "draw":
            draw(inbox)
            drawn = inbox.drawn
        elif kind == "put":
            inbox.put(approval(id=f"a_{what[0]}", version=what[1]), now_s)
        elif kind == "close":
            inbox.close(approval(id=f"a_{what}", state="withdrawn"), now_s)
        else:
            before = inbox.mode
            wish = inbox.key(what, now_s)
            if before in {"list", "details"}:
                begun = drawn
            if isinstance(wish, Decide | Edit | Preview):
                assert (wish.item["id"], wish.item["version"]) == begun
