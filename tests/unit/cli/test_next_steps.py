"""What a new user met: hints that fit, and short answers."""

import pytest

from hivectl.model.errors import EXIT_MEANINGS, HiveError


def test_an_update_of_nothing_is_refused(hive, script):
    ran = hive("project", "update", "web")
    assert ran.code == 2
    assert "nothing to change" in ran.err
    assert "--path" in ran.err


@pytest.mark.parametrize(("before", "after", "is_told"), [("trusted", "untrusted", True), ("changed", "untrusted", True), ("trusted", "trusted", False), ("untrusted", "untrusted", False)])  # fmt: skip
def test_trust_that_does_not_move_along_is_told(hive, script, kit, before, after, is_told):
    script.project = kit.project(trust=before)
    script.daemon.answers["project.update"] = lambda params: kit.project(trust=after)
    ran = hive("project", "update", "web", "--path", "/elsewhere")
    assert ran.code == 0, ran.err
    assert ("no longer trusted" in ran.err) == is_told
    assert ("hivectl project trust web" in ran.err) == is_told


def test_a_deleted_project_is_named_as_it_was_asked_for(hive, script):
    script.daemon.answers["project.delete"] = lambda params: {"id": "p_1"}
    assert hive("project", "delete", "web").out == "deleted web; its directory is untouched\n"


def test_an_unknown_project_gets_one_did_you_mean(hive, script):
    def refuse(params):
        raise HiveError(
            "PROJECT_NOT_FOUND", "There is no project 'wep'.", hint="Did you mean `web`?", details={"project": "wep"}
        )  # fmt: skip

    script.daemon.answers["project.get"] = refuse
    assert hive("project", "show", "wep").err.count("Did you mean") == 1


def test_a_prompt_with_a_dash_is_told_about_the_double_dash(hive, script):
    ran = hive("exec", "web", "-x")
    assert ran.code == 2
    assert "`--`" in ran.err
    near = hive("exec", "web", "--detch", "fix it").err
    assert "--detach" in near


def test_a_daemon_elsewhere_is_not_to_be_started_here(hive, daemon, monkeypatch):
    monkeypatch.setenv("HIVECTL_URL", "http://127.0.0.1:1")
    ran = hive("ps")
    assert ran.code == 3
    assert "daemon start" not in ran.err
    assert "HIVECTL_URL" in ran.err


def test_the_status_of_the_daemon_is_short(hive, daemon, kit):
    daemon.answers["health"] = lambda params: kit.HEALTH
    short = hive("daemon", "status").out
    assert len(short.splitlines()) == 7
    for part in (
        "pid 4711",
        "up 2h",
        "0.1.0",
        "/run/hivectl/api.sock",
        "127.0.0.1:4483",
        "2 running",
        "nearly full",
    ):
        assert part in short
    assert "loop lag" not in short
    assert "loop lag" in hive("daemon", "status", "-v").out


@pytest.mark.parametrize("runs", [True, False])
def test_doctor_lists_the_daemon_once(hive, daemon, kit, runs):
    daemon.answers["health"] = lambda params: kit.HEALTH
    if not runs:
        daemon.stop()
    rows = [line.split()[2] for line in hive("doctor").out.splitlines() if line[0] in "✓!✗"]
    assert rows.count("daemon") == 1
    assert rows.count("health") == (1 if runs else 0)


def test_the_help_needs_no_other_page(hive, daemon):
    text = " ".join(hive("--help").out.split())
    assert "docs/" not in text
    for code, meaning in EXIT_MEANINGS.items():
        assert f"{int(code)} {meaning.partition(':')[0]}" in text
