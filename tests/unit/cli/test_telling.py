"""Every type of event has its words, or says nothing; those nobody knows are named."""

import pytest

from hivectl.cli.telling import tell
from hivectl.cli.transcript import Transcript
from hivectl.model.event import EVENTS


def words(kind, data, **flags):
    return ["".join(text for _, text in pieces) for pieces in tell(kind, data, **flags)]


@pytest.mark.parametrize("kind", EVENTS)
def test_every_type_is_told_without_data_too(kind):
    assert isinstance(tell(kind, {}), list)
    assert isinstance(tell(kind, {}, verbose=1), list)


def test_a_type_that_nobody_knows_is_shown_by_name_only():
    assert words("moon.rose", {"secret": 1}) == ["moon.rose"]


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("file.changed", {"changes": [{"path": "src/a.py", "kind": "modified"}, {"path": "b", "kind": "added"}, {"path": "c", "kind": "deleted"}], "more": 3}, "changed  src/a.py, +b, -c  and 3 more"),
        ("question.asked", {"text": "Which?"}, "asks     Which?"),
        ("question.answered", {"answer": "A", "answered_by": "user:a"}, "answer   A  by user:a"),
        ("worker.state", {"name": "slot-1", "status": "idle", "is_draining": True}, "worker   slot-1 is idle, takes nothing new"),
        ("budget.exceeded", {"message": "All used."}, "budget  All used."),
        ("usage_limit.hit", {"kind": "5h", "resets_at": "noon"}, "usage limit  5h until noon"),
        ("queue.changed", {"action": "scaled", "slots": 3}, "queue    scaled to 3 workers"),
        ("worktree.state", {"state": "broken", "problem": "no git"}, "worktree broken: no git"),
        ("work_order.state", {"state": "queued", "from": "claimed", "attempt": 2, "cause": "api_error", "message": "Overloaded.", "hold": "retry", "retry_at": "2030-01-02T03:04:05.000Z"}, "attempt 1 failed (api_error): Overloaded; again at 03:04:05 UTC, attempt 2"),
        ("work_order.state", {"state": "queued", "from": "claimed", "attempt": 2, "cause": "usage_limit", "hold": "usage_limit"}, "attempt 1 failed (usage_limit); kept for you: hivectl queue resume"),
        ("work_order.state", {"state": "dead", "from": "claimed", "cause": "api_error"}, "given up (api_error)  hivectl queue retry"),
    ],
)  # fmt: skip
def test_what_happened_is_one_line(kind, data, said):
    assert words(kind, data) == [said]


@pytest.mark.parametrize(
    "kind", ["usage.updated", "project.state", "session.started", "chat.message"]
)
def test_what_nobody_needs_is_told_only_when_asked_for(kind):
    assert words(kind, {"a": 1}) == []
    assert words(kind, {"a": 1}, verbose=1) == [f'{kind}  {{"a": 1}}']


def test_a_transcript_tells_it():
    shown = Transcript().feed(
        {"type": "file.changed", "data": {"changes": [{"path": "a", "kind": "added"}]}}
    )
    assert shown[0].pieces == (("dim", "changed  +a"),)
    assert shown[0].is_single
