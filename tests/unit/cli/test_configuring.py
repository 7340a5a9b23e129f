import json
import tomllib

import pytest

from hivectl import config


def test_a_value_is_written_and_comments_stay(hive, daemon, tmp_path):
    file = tmp_path / "config.toml"
    file.write_text(
        "# mine\n[execution]\n# how long\ntimeout_s = 60 # a minute\nmax_live = 2\n\n[log]\n# end\n"
    )
    ran = hive("config", "set", "execution.timeout_s", "1h30m")
    assert ran.code == 0, ran.err
    text = file.read_text()
    for comment in ("# mine", "# how long", "# a minute", "# end"):
        assert comment in text
    found = config.load()
    assert found["execution.timeout_s"] == 5400
    assert found["execution.max_live"] == 2


@pytest.mark.parametrize("setting", config.SETTINGS, ids=lambda s: s.key)
def test_every_setting_can_be_set_to_its_default_and_read_back(hive, daemon, tmp_path, setting):
    text = (
        ",".join(setting.default) if setting.kind == "list"
        else ",".join(f"{k}={v}" for k, v in setting.default.items()) if setting.kind == "table"
        else str(setting.default)
    )  # fmt: skip
    ran = hive("config", "set", setting.key, text)
    assert ran.code == 0, ran.err
    tomllib.loads((tmp_path / "config.toml").read_text())
    assert (
        config.load(env={"HIVECTL_HOME": str(tmp_path), "HOME": str(tmp_path)})[setting.key]
        == setting.default
    )


def test_the_file_is_made_private(hive, daemon, tmp_path):
    hive("config", "set", "execution.max_live", "3")
    assert (tmp_path / "config.toml").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("execution.max_live", "many", "whole number"),
        ("execution.max_live", "0", "least"),
        ("log.durability", "maybe", "normal, strict"),
        ("execution.timeout", "3", "execution.timeout_s"),
    ],
)
def test_a_wrong_value_is_refused_and_nothing_is_written(hive, daemon, tmp_path, key, value, part):
    ran = hive("config", "set", key, value)
    assert ran.code == 2
    assert part in ran.err
    assert not (tmp_path / "config.toml").exists()


def test_a_file_that_is_no_toml_is_left_alone(hive, daemon, tmp_path):
    (tmp_path / "config.toml").write_text("not toml [")
    ran = hive("config", "set", "execution.max_live", "3")
    assert ran.code == 2
    assert (tmp_path / "config.toml").read_text() == "not toml ["


def test_show_tells_origins(hive, daemon, tmp_path, monkeypatch):
    (tmp_path / "config.toml").write_text("[execution]\nmax_live = 2\n")
    monkeypatch.setenv("HIVECTL_EXECUTION_TIMEOUT_S", "90")
    found = {
        item["key"]: item for item in json.loads(hive("config", "show", "--json").out)["items"]
    }
    assert found["execution.max_live"]["origin"] == str(tmp_path / "config.toml")
    assert found["execution.timeout_s"]["origin"] == "environment HIVECTL_EXECUTION_TIMEOUT_S"
    assert found["log.durability"]["origin"] == "default"
    assert "environment HIVECTL_EXECUTION_TIMEOUT_S" in hive("config", "show", "--origin").out
    assert hive("config", "show", "execution.max_live").out == "2\n"
    assert hive("config", "show", "execution.max_lve").code == 2


def test_set_says_when_the_environment_still_wins(hive, daemon, monkeypatch):
    monkeypatch.setenv("HIVECTL_EXECUTION_MAX_LIVE", "7")
    assert "still wins" in hive("config", "set", "execution.max_live", "3").err


def test_path(hive, daemon, tmp_path):
    assert hive("config", "path").out.strip() == str(tmp_path / "config.toml")
