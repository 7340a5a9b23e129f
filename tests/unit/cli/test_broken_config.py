"""A configuration that is wrong is named, and stands in the way of nothing that can do without it."""

import json

import pytest

from hivectl.client import transport
from hivectl.config import survey


@pytest.fixture(params=["x = [", "[execution]\nmax_live = 'many'\n", "lonely = 1\n"])
def broken(request, tmp_path, daemon, kit):
    (tmp_path / "config.toml").write_text(request.param)
    daemon.answers["health"] = lambda params: kit.HEALTH
    return tmp_path / "config.toml"


@pytest.mark.parametrize(
    "words", [("daemon", "status"), ("config", "show"), ("version",), ("project", "list")]
)
def test_a_wrong_configuration_is_a_warning_where_a_daemon_runs(hive, script, broken, words):
    ran = hive(*words)
    assert ran.code == 0, ran.err
    assert ran.out or words == ("project", "list")
    assert str(broken) in ran.err
    assert ran.err.count("warning: ") == 1


def test_stop_works_with_a_wrong_configuration(hive, daemon, broken):
    daemon.answers["daemon.stop"] = lambda params: {"pid": 2**22 + 1, "live": []}
    ran = hive("daemon", "stop")
    assert (ran.code, ran.out) == (0, "stopped\n")
    daemon.stop()
    ran = hive("daemon", "stop")
    assert (ran.code, ran.out) == (0, "no daemon was running\n")


def test_a_restart_that_could_not_start_stops_nothing(hive, daemon, broken):
    stopped = []
    daemon.answers["daemon.stop"] = lambda params: stopped.append(params) or {"pid": 2**22 + 1}
    ran = hive("daemon", "restart")
    assert ran.code == 2
    assert str(broken) in ran.err
    assert stopped == []


def test_no_daemon_is_started_with_a_wrong_configuration(hive, daemon, broken, monkeypatch):
    daemon.stop()
    monkeypatch.delenv("HIVECTL_AUTOSTART")
    spawned = []
    monkeypatch.setattr(transport, "_spawn", lambda settings: spawned.append(1))
    ran = hive("project", "list")
    assert ran.code == 2
    assert "CONFIG_INVALID" in ran.err
    assert str(broken) in ran.err
    assert "warning" not in ran.err
    assert spawned == []


def test_the_line_of_a_file_that_is_no_toml_is_named_with_its_remedy(tmp_path):
    env = {"HIVECTL_HOME": str(tmp_path), "HOME": str(tmp_path)}
    for text, line in (
        (b"a = 1\nx = [\n", 2),
        (b"[log]\nb\n", 2),
        (b"# \n#\n\xff\n", 3),
        (b"x = [", 1),
    ):
        (tmp_path / "config.toml").write_bytes(text)
        (fault,) = survey(env=env).faults
        assert fault.details["line"] == line
        assert f"config.toml, line {line}, is not TOML" in fault.message
        assert f"Mend line {line}" in fault.hint


def test_set_mends_a_wrong_value_and_names_the_line_of_a_broken_file(hive, daemon, tmp_path):
    file = tmp_path / "config.toml"
    file.write_text("[execution]\nmax_live = 'many'\n")
    assert hive("config", "set", "execution.max_live", "3").code == 0
    assert survey().faults == ()
    file.write_text("[execution]\nmax_live = [\n")
    ran = hive("config", "set", "execution.max_live", "3")
    assert ran.code == 2
    assert "line " in ran.err


def test_a_wrong_variable_of_the_daemon_does_not_stop_a_command_to_a_running_one(
    hive, script, monkeypatch
):
    monkeypatch.setenv("HIVECTL_EXECUTION_MAX_LIVE", "x")
    ran = hive("exec", "web", "fix it")
    assert ran.code == 0
    assert ran.out == "All done.\n"
    assert ran.err.count("HIVECTL_EXECUTION_MAX_LIVE") == 1


def test_doctor_says_a_wrong_setting_and_an_unknown_variable_once(hive, daemon, monkeypatch, kit):
    daemon.answers["health"] = lambda params: {**kit.HEALTH, "status": "ok", "problems": []}
    monkeypatch.setenv("HIVECTL_EXECUTION_MAX_LIVE", "x")
    monkeypatch.setenv("HIVECTL_NO_SUCH", "1")
    ran = hive("doctor")
    assert ran.code == 1
    whole = ran.out + ran.err
    assert whole.count("HIVECTL_NO_SUCH") == 1
    assert whole.count("from environment HIVECTL_EXECUTION_MAX_LIVE") == 1
    names = [check["name"] for check in json.loads(hive("doctor", "--json").out)["checks"]]
    assert {"config", "disk", "state dir", "claude"} <= set(names)


def test_a_daemon_gets_relative_places_as_absolute_ones(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"HIVECTL_HOME": "./here", "HIVECTL_CONFIG": "mine.toml", "HOME": str(tmp_path)}
    settings = survey(env=given)
    env = transport.daemon_env(settings)
    assert env["HIVECTL_HOME"] == str(tmp_path / "here")
    assert env["HIVECTL_CONFIG"] == str(tmp_path / "mine.toml")
    monkeypatch.chdir("/")
    assert survey(env=env).places == settings.places
