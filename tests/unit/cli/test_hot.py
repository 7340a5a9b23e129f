import json

import pytest

from hivectl.cli import hot
from hivectl.model.errors import HiveError


@pytest.mark.parametrize(
    "words",
    [
        ["ps", "--help"], ["ps", "-o", "wide"], ["ps", "-o"], ["ps", "a", "b"], ["kill"], ["kill", "x_1", "x_2"],
        ["kill", "x_1", "--interrupt"], ["health", "-v"], ["exec", "web", "hi"], ["exec", "-d", "hi"],
        ["exec", "-d", "web", "-"], ["exec", "-d", "web", ""], ["exec", "-d", "web", "hi", "--new"], ["exec", "-d", "a", "b", "c"],
        ["tail"], [], ["project", "list"], ["ps", "--no-color"], ["exec", "-d", "web", "--", "-x"],
    ],
)  # fmt: skip
def test_what_it_does_not_know_wholly_it_leaves_alone(daemon, words):
    assert hot.run(words) is None
    assert daemon.requests == []


@pytest.mark.parametrize(
    "words",
    [("ps",), ("ps", "-a"), ("ps", "--json"), ("ps", "-o", "name"), ("health",), ("health", "--json"), ("kill", "x_1"), ("kill", "web", "--force", "--json")],
)  # fmt: skip
def test_it_prints_what_the_full_cli_prints(hive, script, kit, monkeypatch, words):
    script.daemon.answers["health"] = lambda params: kit.HEALTH
    script.daemon.answers["kill"] = lambda params: {
        "executions": [kit.execution(state="cancelled")],
        "survivors": 0,
    }
    quick = hive(*words)
    monkeypatch.setattr(hot, "run", lambda arguments: None)
    full = hive(*words)
    assert (quick.code, quick.out) == (full.code, full.out)


def test_detach_makes_a_key_so_that_it_can_be_repeated(hive, script):
    assert hive("exec", "-d", "-p", "web", "hi").out == "x_1\n"
    sent = script.daemon.wait_for("execute")
    assert sent["idempotency_key"].startswith("cli_")


@pytest.mark.parametrize("told", [{"warnings": ["The queue was paused.", "A"]}, {"replayed": True}])
def test_detach_says_what_the_full_cli_says_of_what_was_accepted(hive, script, monkeypatch, told):
    accept = script.daemon.answers["execute"]
    script.daemon.answers["execute"] = lambda params: accept(params) | told
    quick = hive("exec", "-d", "-p", "web", "hi")
    monkeypatch.setattr(hot, "run", lambda arguments: None)
    full = hive("exec", "-d", "-p", "web", "hi")
    assert quick.err.strip()
    assert quick.out == full.out
    assert quick.err in full.err


def test_an_error_looks_like_any_other(hive, script, monkeypatch):
    from hivectl.model.errors import HiveError

    def busy(params):
        raise HiveError("QUEUE_FULL")

    script.daemon.answers["execute"] = busy
    ran = hive("exec", "-d", "web", "hi", "--json")
    assert ran.code == 6
    assert json.loads(ran.err)["error"]["code"] == "QUEUE_FULL"


def test_a_prompt_whose_answer_is_lost_is_told_and_not_repeated(hive, script):
    def broken(params):
        for connection in list(script.daemon._connections):
            connection.writer.transport.abort()

    script.daemon.answers["execute"] = broken
    ran = hive("exec", "-d", "web", "hi")
    assert ran.code == 3
    assert "did not come" in ran.err
    assert sum(name == "execute" for name, _ in script.daemon.requests) == 1


@pytest.mark.parametrize("target", ["x_1", "web"])
@pytest.mark.parametrize("has_ended", [False, True])
@pytest.mark.parametrize("lost", [1, 2])
def test_a_kill_survives_the_death_of_the_daemon(hive, script, kit, target, has_ended, lost):
    """`lost`: the answer of the quick path alone, or that of the full one too."""
    asked = []

    def kill(params):
        asked.append(params)
        if len(asked) <= lost:
            for connection in list(script.daemon._connections):
                connection.writer.transport.abort()
            return None
        script.state = kit.execution(state="cancelled", cause="killed")
        if has_ended:
            raise HiveError("PROCESS_NOT_FOUND", "x_1 has ended already.")
        return {"executions": [script.state], "survivors": 0}

    script.daemon.answers["kill"] = kill
    ran = hive("kill", target)
    assert (ran.code, ran.out) == (0, "x_1  web  cancelled\n")
    assert ran.err.count("the daemon is gone") == 1
    assert len(asked) == lost + 1
    assert asked[-1]["execution"] == "x_1"


def test_a_project_whose_executions_cannot_be_listed_is_not_killed(hive, script):
    def full(params):
        raise HiveError("RESOURCE_LIMIT")

    script.daemon.answers["execution.list"] = full
    ran = hive("kill", "web")
    assert ran.code != 0
    assert [name for name, _ in script.daemon.requests if name == "kill"] == []


def test_a_kill_that_was_only_prepared_when_the_daemon_died_is_begun_anew(hive, script, kit):
    listed = []

    def listing(params):
        listed.append(params)
        if len(listed) == 1:
            for connection in list(script.daemon._connections):
                connection.writer.transport.abort()
        return {"items": [kit.execution()], "next_cursor": None}

    script.daemon.answers["execution.list"] = listing
    script.daemon.answers["kill"] = lambda params: {"executions": [], "survivors": 0}
    ran = hive("kill", "web")
    assert (ran.code, ran.out, ran.err) == (0, "nothing was running\n", "")
    assert len(listed) == 2


def test_an_unknown_project_gets_its_did_you_mean(hive, script):
    ran = hive("exec", "-d", "wep", "hi")
    assert ran.code == 5
    assert "Did you mean `web`?" in ran.err
