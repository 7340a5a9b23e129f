import io
import json
import tomllib

import pytest

from hivectl import config
from hivectl.model.errors import HiveError


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
        ",".join(setting.default) if isinstance(setting.default, list)
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


@pytest.mark.parametrize(
    "before", ["", "[claude]\nbin = 'mock' # ours\n", "[claude.env]\nA = 'b' # ours\n", "[claude]\nenv = {A = 'b'} # ours\n"]
)  # fmt: skip
def test_an_entry_of_a_table_is_set_and_removed(hive, daemon, tmp_path, before):
    file = tmp_path / "config.toml"
    file.write_text(before)
    old = config.load()["claude.env"]
    ran = hive("config", "set", "claude.env.FOO", "bar=1")
    assert ran.code == 0, ran.err
    assert ran.out.startswith("claude.env.FOO = ***  (")
    assert config.load()["claude.env"] == {**old, "FOO": "bar=1"}
    assert hive("config", "set", "claude.env.FOO", "").code == 0
    assert config.load()["claude.env"] == old
    assert ("# ours" in file.read_text()) == bool(before)


@pytest.mark.parametrize("output", [[], ["--json"]])
@pytest.mark.parametrize(
    ("key", "value", "typed"),
    [
        ("claude.env.API_KEY", "hiddenpart", ""),
        ("claude.env.API_KEY", "-", "hiddenpart\n"),
        ("claude.env", "API_KEY=hiddenpart", ""),
        ("claude.env", "-", "API_KEY=hiddenpart\n"),
    ],
)
def test_s45_the_value_of_a_variable_is_not_repeated(hive, daemon, output, key, value, typed):
    ran = hive("config", "set", *output, key, value, stdin=io.StringIO(typed))
    assert ran.code == 0, ran.err
    assert config.load()["claude.env"]["API_KEY"] == "hiddenpart"
    ran_again = hive("config", "show", "claude.env", *output)
    for shown in (ran.out + ran.err, ran_again.out + ran_again.err):
        assert "hiddenpart" not in shown
        assert "***" in shown
        assert "API_KEY" in shown


@pytest.mark.parametrize("value", ["hiddenpart", ["hiddenpart"], {"A": 1, "B": "hiddenpart"}])
def test_s45_nor_is_it_when_it_is_wrong(value):
    with pytest.raises(HiveError) as caught:
        config.parse_value("claude.env", value, "the file")
    assert "hiddenpart" not in str(caught.value)


@pytest.mark.parametrize("name", ["1X", "HIVECTL_HOME", "A-B", ""])
def test_an_entry_with_a_name_that_cannot_be_is_refused(hive, daemon, tmp_path, name):
    ran = hive("config", "set", f"claude.env.{name}", "bar")
    assert ran.code == 2
    assert not (tmp_path / "config.toml").exists()


def test_a_price_is_checked_before_it_is_written(hive, daemon, tmp_path):
    ran = hive("config", "set", "usage.prices.opus", "cheap")
    assert (ran.code, "is no price" in ran.err) == (2, True)
    assert not (tmp_path / "config.toml").exists()
    assert hive("config", "set", "usage.prices.opus", "4/20").code == 0
    assert config.load()["usage.prices"] == {"opus": "4/20"}
    assert hive("config", "set", "usage.prices", "opus=4/20,haiku=x").code == 2


def test_a_section_that_is_none_is_left_alone(hive, daemon, tmp_path):
    (tmp_path / "config.toml").write_text("claude = 1\n")
    ran = hive("config", "set", "claude.bin", "mock")
    assert (ran.code, "is no section" in ran.err) == (2, True)
    assert (tmp_path / "config.toml").read_text() == "claude = 1\n"


@pytest.mark.parametrize(
    ("key", "text", "shown"),
    [
        ("execution.timeout_s", "1h30m", "1h30m, that is 5400 s"),
        ("execution.timeout_s", "90", "90"),
        ("log.segment_bytes", "1M", "1M, that is 1048576 bytes"),
        ("claude.bin", "mock", "mock"),
        ("client.autostart", "yes", "true"),
    ],
)
def test_set_repeats_what_was_typed_and_what_it_means(hive, daemon, tmp_path, key, text, shown):
    ran = hive("config", "set", key, text)
    assert ran.out == f"{key} = {shown}  ({tmp_path / 'config.toml'})\n"


@pytest.mark.parametrize(
    "words", [("show", "nope"), ("set", "nope", "x"), ("show", "log.durabilty")]
)
def test_a_setting_that_is_none_is_told_without_a_value_or_an_origin(hive, daemon, words):
    ran = hive("config", *words)
    assert ran.code == 2
    assert f"There is no setting '{words[1]}'" in ran.err
    assert "None" not in ran.err
    assert "`hivectl config show` lists the settings." in ran.err
    assert ("Did you mean `log.durability`?" in ran.err) == (words[1] != "nope")


def test_secrets_are_shown_by_no_command_and_in_no_error(hive, daemon, tmp_path):
    ran = hive("config", "set", "notify.targets", "ntfy://hiddenpart")
    assert ran.code == 2
    assert "config set notify.targets -" in ran.err
    assert "hiddenpart" not in ran.out + ran.err
    ran = hive("config", "set", "notify.targets", "-", stdin=io.StringIO("ntfy://hiddenpart\n"))
    assert ran.code == 0
    assert "hiddenpart" not in ran.out + ran.err
    assert "hiddenpart" in (tmp_path / "config.toml").read_text()
    for words in (["show"], ["show", "notify.targets"], ["show", "--origin"], ["show", "--json"]):
        ran = hive("config", *words)
        assert "***" in ran.out
        assert "hiddenpart" not in ran.out + ran.err
    ran = hive("config", "set", "webhook.urls", "-", stdin=io.StringIO("ftp://hiddenpart\n"))
    assert ran.code != 0
    assert "webhook.urls" in ran.err
    assert "hiddenpart" not in ran.err


@pytest.mark.parametrize(
    ("key", "value", "part"),
    [
        ("notify.events", "approval,nonsense", "allowed: approval"),
        ("notify.quiet_hours", "late", "no time window such as 22:00-07:00"),
        ("summary.at", "noon", "no time of the day such as 07:00"),
    ],
)
def test_settings_of_notifications_say_what_is_allowed(hive, daemon, key, value, part):
    ran = hive("config", "set", key, value)
    assert ran.code != 0
    assert part in ran.err


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("queue.retry_base_s", "2", "`hivectl daemon restart`, which touches nothing that runs, or a SIGHUP"),
        ("queue.max_orders", "9", "`hivectl daemon restart`, which touches nothing that runs\n"),
    ],
)  # fmt: skip
def test_a_changed_setting_says_when_a_running_daemon_takes_it_up(hive, daemon, key, value, said):
    assert said in hive("config", "set", key, value).err
