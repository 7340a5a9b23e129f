"""What the live inbox shows, on a screen that is really one (pyte)."""

from __future__ import annotations

import pyte
import pytest

from hivectl.cli import inbox_rows
from hivectl.cli.difference import Difference
from hivectl.cli.inbox import Inbox
from hivectl.cli.screen import Screen
from hivectl.cli.views import seconds_of
from tests.unit.cli.conftest import CREATED, approval

NOW_S = seconds_of(CREATED) + 300
HOSTILE = "\x1b]0;OWNED\x07\x1b[2J\x9b31m\u202eevil\r\x08\n\x1b[Hx"


def painted(capsys, monkeypatch, box, diffs=None, size=(80, 24)):
    """The screen as a person sees it."""
    monkeypatch.setattr("shutil.get_terminal_size", lambda *_: __import__("os").terminal_size(size))
    display = pyte.Screen(*size)
    Screen(color=False).paint(inbox_rows.rows(box, diffs or {}, size=size, now_s=NOW_S))
    pyte.Stream(display).feed(capsys.readouterr().out)
    return display


def box(*items):
    found = Inbox()
    for item in items:
        found.put(item, 0.0)
    return found


def test_it_shows_command_project_risk_age_and_end(capsys, monkeypatch):
    ends = {"expires_at": "2026-11-21T03:15:00.000000Z", "on_timeout": "deny"}
    display = painted(capsys, monkeypatch, box(approval(**ends)))
    shown = "\n".join(line.rstrip() for line in display.display)
    assert "> high   web            5m  deny 10m  Bash rm -rf build" in shown
    assert "risk: high, rm deletes whole directories" in shown
    assert "in 10m without an answer: deny" in shown
    assert "command: rm -rf build" in shown
    assert "y allow  n deny" in shown


def test_an_edit_is_shown_as_a_diff(capsys, monkeypatch):
    item = approval(tool="Edit", input={"file_path": "a.py", "old_string": "x", "new_string": "y"})
    diff = Difference("a.py", [("dim", "@@ -1 +1 @@"), ("bad", "-x"), ("good", "+y")])
    shown = painted(capsys, monkeypatch, box(item), {"a_1": diff}).display
    assert [line.strip() for line in shown if line.strip().startswith(("-x", "+y"))] == ["-x", "+y"]


def test_an_empty_inbox_says_so(capsys, monkeypatch):
    assert any("nothing waits" in line for line in painted(capsys, monkeypatch, box()).display)


@pytest.mark.parametrize("size", [(80, 24), (20, 5), (200, 60), (40, 10)])
def test_it_fits_any_terminal(capsys, monkeypatch, size):
    items = [approval(id=f"a_{n:02}", input={"command": "x\n" * 200}) for n in range(40)]
    display = painted(capsys, monkeypatch, box(*items), size=size)
    assert display.display[0].startswith("hivectl inbox")
    assert display.cursor.y < size[1]


def test_in_a_long_list_the_chosen_one_is_in_view(capsys, monkeypatch):
    inbox = box(*[approval(id=f"a_{n:02}", summary=f"number {n}") for n in range(40)])
    for at in (0, 7, 20, 39):
        inbox.chosen = f"a_{at:02}"
        shown = painted(capsys, monkeypatch, inbox).display
        assert any(line.startswith(">") and f"number {at}" in line for line in shown), at


def test_s42_nothing_that_is_asked_is_obeyed_and_nothing_of_it_is_hidden(capsys, monkeypatch):
    item = approval(
        tool=f"Bash{HOSTILE}", input={"command": f"ls {HOSTILE}; rm x", HOSTILE: HOSTILE}, description=HOSTILE, summary=HOSTILE,
        project_name=HOSTILE, risk_reason=HOSTILE,
    )  # fmt: skip
    inbox = box(item)
    inbox.tell(HOSTILE)
    inbox.mode, inbox.bound, inbox.line = "message", item, HOSTILE
    display = painted(capsys, monkeypatch, inbox, size=(200, 40))
    assert display.title == ""
    assert display.display[0].startswith("hivectl inbox")
    shown = "\n".join(display.display)
    assert "ls \\x1b]0;OWNED\\x07" in shown
    assert "\u202e" not in shown


def test_s42_a_rule_is_shown_with_its_controls(capsys, monkeypatch):
    item = approval()
    inbox = box(item)
    inbox.offer(item, {"remember": {"tool": "Bash", "match": {"command": HOSTILE}}}, 0.0)
    shown = "\n".join(painted(capsys, monkeypatch, inbox, size=(120, 40)).display)
    assert "where command is \\x1b]0;OWNED\\x07" in shown
