import json

import pytest

from hivectl.cli import hot


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


def test_an_error_looks_like_any_other(hive, script, monkeypatch):
    from hivectl.model.errors import HiveError

    def busy(params):
        raise HiveError("QUEUE_FULL")

    script.daemon.answers["execute"] = busy
    ran = hive("exec", "-d", "web", "hi", "--json")
    assert ran.code == 6
    assert json.loads(ran.err)["error"]["code"] == "QUEUE_FULL"


def test_a_connection_that_breaks_midway_is_told_and_not_repeated(hive, script):
    def broken(params):
        for connection in list(script.daemon._connections):
            connection.writer.transport.abort()

    script.daemon.answers["kill"] = broken
    ran = hive("kill", "x_1")
    assert ran.code == 3
    assert "did not come" in ran.err
    assert sum(name == "kill" for name, _ in script.daemon.requests) == 1


def test_an_unknown_project_gets_its_did_you_mean(hive, script):
    ran = hive("exec", "-d", "wep", "hi")
    assert ran.code == 5
    assert "Did you mean `web`?" in ran.err
