"""What events tell people, and how several become one message."""

from typing import Any

import pytest

from hivectl.logic import notices
from hivectl.model.notification import NOTICE_KINDS, Notice, Notification


def made(type_: str, data: dict[str, Any], **more: Any) -> Notice | None:
    given = {"project": "web", "execution": "x_1", **more}
    return notices.notice_of(type_, data, **given)


def stored(number: int, kind: str = "approval", **more: Any) -> Notification:
    given: dict[str, Any] = {
        "id": f"n_{number:04}", "kind": kind, "dedupe": "k", "project": "p", "execution": None, "subject": None,
        "title": f"web: Claude asks to use T{number}", "text": "npm test", "hint": f"hivectl approve a_{number}",
        "payload": None, "repeats": 0, "created_us": number,
    }  # fmt: skip
    return Notification(**{**given, **more})


@pytest.mark.parametrize(
    ("type_", "data", "kind", "words"),
    [
        ("approval.requested", {"id": "a_1", "kind": "permission", "tool": "Bash", "summary": "Bash: ls"}, "approval", ["web: Claude asks to use Bash", "Bash: ls", "hivectl approve a_1 | hivectl deny a_1"]),
        ("approval.requested", {"id": "a_1", "kind": "question", "tool": "AskUserQuestion", "summary": "Which?"}, "question", ["Which?", "a_1"]),
        ("question.asked", {"id": "q_1", "question": "Which colour?"}, "question", ["Which colour?", "hivectl answer q_1"]),
        ("question.asked", {"id": "q_1", "text": "Which?", "choices": ["red", "blue"]}, "question", ["Which? [1 red, 2 blue]"]),
        ("approval.requested", {"id": "a_1", "kind": "question", "summary": "Ask: Which?", "input": {"questions": [{"question": "Which?", "options": [{"label": "red"}, {"label": "blue"}]}]}}, "question", ["Ask: Which? [1 red, 2 blue]", "hivectl answer a_1"]),
        ("execution.ended", {"state": "failed", "cause": "auth", "message": "Log in."}, "failed", ["execution failed", "auth: Log in.", "hivectl logs x_1"]),
        ("execution.ended", {"state": "timed_out", "cause": "timeout"}, "failed", ["timed out"]),
        ("execution.ended", {"state": "failed", "cause": "usage_limit"}, "usage_limit", []),
        ("execution.ended", {"state": "failed", "cause": "budget"}, "budget", []),
        ("execution.ended", {"state": "failed", "cause": "api_error", "order_state": "dead", "work_order": "o_1"}, "dead", ["hivectl queue retry o_1"]),
        ("execution.ended", {"state": "failed", "cause": "api_error", "order_state": "queued"}, None, []),
        ("execution.ended", {"state": "completed", "result": "All done."}, "completed", ["All done."]),
        ("execution.ended", {"state": "cancelled", "cause": "killed"}, "cancelled", []),
        ("work_order.state", {"state": "dead", "work_order": "o_1"}, "dead", ["o_1"]),
        ("work_order.state", {"state": "queued", "work_order": "o_1"}, None, []),
        ("usage_limit.hit", {"kind": "five_hour", "resets_at": 1}, "usage_limit", ["five_hour"]),
        ("budget.exceeded", {"scope": "project", "name": "web", "message": "5 of 5 dollars"}, "budget", ["5 of 5 dollars"]),
        ("budget.warning", {"scope": "project", "name": "web", "used": 4, "limit": 5}, "budget", ["4 of 5"]),
        ("system.notice", {"code": "STORAGE_ERROR", "message": "It was damaged.", "hint": "Look."}, "notice", ["It was damaged."]),
        ("system.notice", {"code": notices.OWN_CODE, "message": "x"}, None, []),
        ("message", {}, None, []),
    ],
)  # fmt: skip
def test_an_event_tells(
    type_: str, data: dict[str, Any], kind: str | None, words: list[str]
) -> None:
    notice = made(type_, data)
    assert (notice.kind if notice else None) == kind
    text = f"{notice.title}\n{notice.text}\n{notice.hint}" if notice else ""
    assert [word for word in words if word not in text] == []


def test_the_end_and_the_death_of_an_order_are_the_same_thing() -> None:
    ended = made("execution.ended", {"state": "failed", "order_state": "dead", "work_order": "o_1"})
    died = made("work_order.state", {"state": "dead", "work_order": "o_1"})
    assert ended is not None
    assert died is not None
    assert ended.key == died.key


def test_every_type_that_is_looked_at_is_known() -> None:
    assert set(notices._MAKERS) | notices.ANSWERED == notices.TELLING


TOKEN = "ghp_" + "a1B2" * 9
REMAINS = ("a1B2", "ghp_")
CUTS = [notices.STRING_CHARS - n for n in (1, 4, 5, 20, 39, 40, 41, 600)]


@pytest.mark.parametrize("most", [notices.TITLE_CHARS, notices.TEXT_CHARS, notices.LINE_CHARS])
@pytest.mark.parametrize("before", range(0, 2400, 97))
def test_s45_secrets_go_before_a_notice_is_cut(before: int, most: int) -> None:
    text = "." * before + " " + TOKEN
    for type_, data in (
        ("approval.requested", {"id": "a_1", "tool": text, "summary": text}),
        ("system.notice", {"code": "X", "message": text, "hint": text}),
    ):
        notice = made(type_, data)
        assert notice is not None
        assert not any(part in repr(notice) for part in REMAINS)


@pytest.mark.parametrize("before", CUTS)
def test_s45_secrets_go_before_texts_of_webhooks_are_cut(before: int) -> None:
    text = "." * (before - 1) + " " + TOKEN + " " + "y" * 5000
    found = repr(notices.bounded({"a": [text], text[-3000:]: 1, text[before - 195 :]: 2}))
    assert not any(part in found for part in REMAINS)
    assert "…" in found


def test_s45_values_of_telling_names_are_masked_for_webhooks_at_any_depth() -> None:
    given = {"a": [{"api_key": "abc", "password": ["x"], "input_tokens": 5, "token": 7}]}
    masked = {"a": [{"api_key": "[redacted]", "password": "[redacted]", "input_tokens": 5, "token": 7}]}  # fmt: skip
    assert notices.bounded(given) == masked


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\x1b[31mb\r\nc", "a [31mb c"),
        ("a\u202eb\u200bc", "a b c"),
        ("hi @everyone and @here", "hi at everyone and at here"),
        ("<!channel> <@U1>", "< !channel> < @U1>"),
        ("x" * 10, "x" * 10),
        ("mail me@example.org", "mail me@example.org"),
    ],
)
def test_text_of_models_calls_nobody_and_steers_nothing(text: str, expected: str) -> None:
    assert notices.plain(text) == expected


def test_text_is_bounded() -> None:
    assert len(notices.plain("y" * 10_000_000)) == notices.TEXT_CHARS
    assert notices.plain("y" * 1000).endswith("…")


def test_one_is_told_whole() -> None:
    title, text = notices.compose([stored(1)])
    assert title == "web: Claude asks to use T1"
    assert text == "npm test\nhivectl approve a_1"


def test_many_are_told_in_one_message_with_a_limit() -> None:
    title, text = notices.compose([stored(n) for n in range(25)])
    assert title == "hivectl: 25 requests wait for you"
    assert text.count("hivectl approve") == notices.LISTED
    assert "and 15 more: hivectl notify list" in text


def test_a_digest_begins_with_what_needs_a_person() -> None:
    items = [
        stored(1, "failed"),
        stored(2),
        stored(3, "summary", title="s"),
        stored(4, "failed", repeats=3),
    ]
    title, text = notices.compose(items, is_digest=True)
    assert title == "In the quiet hours: 1 request waits for you, 2 executions failed, summary"
    assert text.index("T2") < text.index("T1")
    assert "(and 3 more times)" in text


def test_every_kind_has_words_for_one_and_for_many() -> None:
    assert all(
        kind.one and kind.meaning and (kind.many.format(n=2)) for kind in NOTICE_KINDS.values()
    )


def test_json_for_webhooks_is_bounded() -> None:
    deep: Any = "x"
    for _ in range(100):
        deep = {"a": [deep]}
    found = notices.bounded({"long": "y" * 100_000, "list": list(range(1000)), "deep": deep})
    assert len(found["long"]) == notices.STRING_CHARS + 1
    assert len(found["list"]) == notices.LIST_ITEMS
    assert len(str(found["deep"])) < 200
