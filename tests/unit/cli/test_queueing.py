"""queue …: what is asked for is asked for once, and in the words of the command line."""

import pytest


@pytest.mark.parametrize(
    "where", [(), ("--first", "--last"), ("--last", "--priority", "high"), ("--first", "--before", "o_2")]
)  # fmt: skip
def test_a_move_goes_to_one_place(hive, script, where):
    ran = hive("queue", "move", "o_1", *where)
    assert ran.code == 2
    assert "exactly one of --first, --last, --before and --priority" in ran.err
    assert "queue.move" not in [name for name, _ in script.daemon.requests]


@pytest.mark.parametrize("what", [(), ("web", "--all"), ("--yes",)])
def test_a_clear_says_of_what_before_it_asks(hive, script, what):
    ran = hive("queue", "clear", *what)
    assert ran.code == 2
    assert "either a project or --all" in ran.err
    assert script.daemon.requests == []


@pytest.mark.parametrize(("count", "said"), [(0, "goes on\n"), (1, "1 stopped by a usage limit is taken"), (2, "limit are taken")])  # fmt: skip
def test_a_resume_says_how_much_it_took_up(hive, script, count, said):
    script.daemon.answers["queue.resume"] = lambda params: {
        "project": None,
        "orders": count,
        "accounts": [],
    }
    assert said in hive("queue", "resume").out
