"""`hivectl usage`: the table, its total, budgets on stderr, other formats."""

import json

ROW = {
    "key": "p_1", "name": "web", "runs": 3, "input_tokens": 1200, "output_tokens": 345, "cache_read_tokens": 10_000,
    "cache_creation_tokens": 500, "active_ms": 150_000, "cost_usd": 1.5, "estimated_usd": 0.0,
}  # fmt: skip
KILLED = {**ROW, "key": "p_2", "name": "a\x1b[31mb", "runs": 1, "cost_usd": 0.25, "estimated_usd": 0.25}  # fmt: skip
TOTAL = {**ROW, "key": "", "name": "total", "runs": 4, "cost_usd": 1.75, "estimated_usd": 0.25}
BUDGET = {
    "scope": "project", "key": "p_1", "name": "web", "kind": "usd", "used": 1.5, "limit": 2.0, "is_estimate": False,
    "is_exceeded": False, "until": "2026-11-29T00:00:00.000000Z",
}  # fmt: skip
FULL = {**BUDGET, "scope": "user", "name": "user:t", "kind": "tokens", "used": 2e6, "limit": 1e6, "is_exceeded": True}  # fmt: skip
SHORT = {**BUDGET, "kind": "minutes", "used": 3.25, "limit": 60}


def page(*items, cursor=None, by="project", budgets=()):
    return {
        "by": by, "items": list(items), "total": TOTAL, "since": "2026-10-29T00:00:00.000000Z",
        "until": "2026-11-28T00:00:00.000000Z", "budgets": list(budgets), "next_cursor": cursor,
    }  # fmt: skip


def test_a_table_with_its_total_marks_what_was_worked_out(hive, script):
    script.daemon.answers["usage"] = lambda params: page(ROW, KILLED, budgets=[BUDGET, FULL, SHORT])
    ran = hive("usage")
    lines = ran.out.splitlines()
    assert lines[0].split() == ["PROJECT", "RUNS", "IN", "OUT", "CACHED", "MINUTES", "COST"]
    assert lines[1].split() == ["web", "3", "1,200", "345", "10,500", "2.5", "$1.50"]
    assert lines[2].split()[-1] == "~$0.2500"
    assert lines[3].split() == ["total", "4", "1,200", "345", "10,500", "2.5", "~$1.75"]
    assert "\x1b[31m" not in ran.out
    assert "budget of project web today: $1.50 of $2.00" in ran.err
    assert "budget of user:t today: 2,000,000 tokens of 1,000,000 tokens, used up until" in ran.err
    assert "3.2 minutes of 60.0 minutes" in ran.err


def test_what_is_asked_for_reaches_the_daemon_and_pages_are_put_together(hive, script):
    def answer(params):
        first = "cursor" not in params
        row = {**ROW, "key": "x_2" if first else "x_1"}
        return page(row, cursor="1" if first else None, by="execution")

    script.daemon.answers["usage"] = answer
    ran = hive("usage", "--by", "execution", "--since", "7d", "-p", "web", "--user", "user:t", "--json")  # fmt: skip
    assert [item["key"] for item in json.loads(ran.out)["items"]] == ["x_2", "x_1"]
    asked = [params for name, params in script.daemon.requests if name == "usage"]
    assert asked[0] == {"by": "execution", "since": "7d", "project": "web", "user": "user:t"}
    assert asked[1]["cursor"] == "1"
    assert hive("usage", "--by", "execution", "-o", "name").out.split() == ["x_2", "x_1"]
    assert "PROJECT" in hive("usage", "--by", "execution").out.splitlines()[0]


def test_nothing_used_is_said(hive, script):
    script.daemon.answers["usage"] = lambda params: page()
    assert "nothing was used since 2026-10-29" in hive("usage").out


def test_budgets_of_an_execution_reach_the_daemon(hive, script):
    hive("exec", "-d", "-p", "web", "--budget", "0.5", "--max-tokens", "1000", "hi")
    sent = [params for name, params in script.daemon.requests if name == "execute"][-1]
    assert sent["options"] == {"max_budget_usd": 0.5, "max_total_tokens": 1000}


def test_a_default_may_be_a_fraction(hive, script):
    hive("project", "update", "web", "--default", "budget_usd_per_day=2.5")
    sent = [params for name, params in script.daemon.requests if name == "project.update"][-1]
    assert sent["defaults"] == {"budget_usd_per_day": 2.5}
