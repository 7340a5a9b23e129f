"""queue …: what is asked for is asked for once, and in the words of the command line."""

import pytest

from hivectl.model.errors import HiveError


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


@pytest.mark.parametrize("word", ["cancel", "retry"])
def test_what_was_done_is_told_also_when_a_later_one_is_refused(hive, script, word):
    def answer(params):
        if params["work_order"] == "o_2":
            raise HiveError("INVALID_STATE", "Work order o_2 is completed.")
        return {
            "work_order": params["work_order"],
            "state": "cancelled",
            "place": None,
            "hold": None,
        }

    script.daemon.answers[f"queue.{word}"] = answer
    ran = hive("queue", word, "o_1", "o_2", "o_3")
    assert ran.code == 6
    assert ran.out == "o_1 cancelled\n"
    assert "o_2 is completed" in ran.err
