"""The table of `hivectl top`, without a terminal: events in, rows out."""

from hivectl.cli.board import Board, said
from hivectl.cli.table import width_of

NOW_S = 1_795_233_660.0
TS = "2026-11-21T03:00:00.000000Z"


def event(kind, execution="x_1", project="p_1", /, **data):
    return {"type": kind, "execution": execution, "project": project, "ts": TS, "stream": f"project:{project}", "data": data}  # fmt: skip


def created(execution="x_1", project="p_1", prompt="fix it"):
    return event("execution.created", execution, project, work_order="o_1", prompt=prompt)


def spoken(*blocks, execution="x_1"):
    raw = {"message": {"content": list(blocks)}}
    return event("message", execution, kind="assistant", raw=raw)


def listed(name="x_1", state="running", **fields):
    return {
        "execution": name, "project": "p_1", "project_name": "web", "state": state, "created_at": TS, "started_at": TS,
        "work_order": f"o_{name}", "prompt": "fix it", "waiting_for": [], "place": None, "cost_usd": 0.5, "usage": None, **fields,
    }  # fmt: skip


def board(*events):
    made = Board(names={"p_1": "web", "p_2": "api"})
    for item in events:
        made.apply(item)
    return made


def test_an_execution_comes_runs_says_something_and_goes():
    table = board(created())
    assert [(r.execution, r.state, r.prompt) for r in table.shown()] == [
        ("x_1", "pending", "fix it")
    ]
    table.apply(event("execution.state", state="running", worker="slot-1"))
    table.apply(spoken({"type": "tool_use", "name": "Bash", "input": {"command": "make\ntest"}}))
    row = table.shown()[0]
    assert (row.state, row.worker, row.last) == ("running", "slot-1", "Bash make test")
    table.apply(event("execution.ended", state="completed"))
    assert table.shown() == []


def test_what_needs_a_person_stands_first_and_the_queue_last_by_place():
    table = Board()
    table.load(
        [listed("x_3", "pending", place=2), listed("x_2", "pending", place=1), listed("x_1"), listed("x_4", "waiting", waiting_for=["a_1"])],
        [{"execution": "x_3", "hold": "retry", "not_before": TS, "attempt": 2, "message": "Overloaded."}],
        {"slots": 4, "slots_busy": 1, "states": {"queued": 2}},
    )  # fmt: skip
    assert [row.execution for row in table.shown()] == ["x_4", "x_1", "x_2", "x_3"]
    assert table.rows["x_3"].why == "again at 03:00:00 UTC, attempt 2: Overloaded."
    assert table.header() == ["1 running · 1 waiting · 2 queued · 1/4 workers busy · today $0"]
    assert not table.needs_lists


def test_an_event_of_the_queue_asks_for_the_lists_again_and_a_message_does_not():
    table = board(created())
    table.load([listed()], [], {})
    table.apply(spoken({"type": "text", "text": "hello\nworld"}))
    assert not table.needs_lists
    assert table.rows["x_1"].last == "world"
    table.apply(event("queue.changed", "", action="scaled"))
    assert table.needs_lists


def test_money_of_today_grows_by_what_is_used_now():
    table = board(created())
    table.cost_today = 1.0
    for cost in (0.25, 0.5):
        table.apply(
            event("usage.updated", cost_usd=cost, usage={"input_tokens": 10, "output_tokens": 5})
        )
    assert table.cost_today == 1.5
    assert (table.rows["x_1"].tokens, table.rows["x_1"].cost_usd) == ("10/5", 0.5)


def test_a_filter_and_a_project_narrow_it_and_the_selection_follows():
    table = board(created(), created("x_2", "p_2", "write docs"), created("x_3", "p_2", "fix docs"))
    table.filter = "DOCS"
    assert [row.execution for row in table.shown()] == ["x_2", "x_3"]
    table.move(1)
    assert table.chosen().execution == "x_3"
    table.move(99)
    assert table.chosen().execution == "x_3"
    table.filter, table.only = "", "p_1"
    assert table.chosen().execution == "x_1"
    table.apply(event("execution.ended"))
    assert table.chosen() is None
    assert table.header()[-1] == "shown: only web"


def test_pauses_and_usage_limits_stand_above_the_table():
    table = Board(
        stats={"pauses": [{"project_name": None}], "parked": [{"account": "me", "until": TS}]}
    )
    assert table.header()[1:] == ["paused: the whole queue", "usage limit of me: parked until 2026-11-21 03:00 UTC"]  # fmt: skip


def test_every_line_fits_also_with_wide_characters_and_nothing_reaches_the_terminal():
    table = board(created(prompt="漢字" * 100 + "\x1b[2J\x1b]0;evil\x07\nnext"))
    table.names["p_1"] = "wéb\x1b[31m"
    table.apply(spoken({"type": "text", "text": "漢" * 300 + "\x1b[H\u202e"}))
    for _, line in table.table(NOW_S, 60):
        assert width_of(line) <= 60
        assert "\x1b" not in line
        assert "\u202e" not in line
    assert "evil" not in table.rows["x_1"].prompt


def test_messages_that_say_nothing_change_nothing():
    assert said({"kind": "user", "raw": {}}) == ""
    assert (
        said(
            {"kind": "assistant", "raw": {"message": {"content": [{"type": "thinking"}, 7]}}},
        )
        == ""
    )
    assert said({"kind": "assistant", "raw": {"message": {"content": "plain"}}}) == "plain"
    table = board(created())
    assert table.apply(event("message", kind="user", raw={})) is False


def test_more_executions_than_are_kept_do_no_harm(monkeypatch):
    monkeypatch.setattr("hivectl.cli.board.MOST_ROWS", 2)
    table = board(created("x_1"), created("x_2"), created("x_3"))
    assert len(table.rows) == 2
    table.load([listed(f"x_{n}") for n in range(9)], [], {})
    assert len(table.rows) == 2
