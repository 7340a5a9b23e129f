"""The launchd agent: what is written, and what a `launchctl` (a program of the test's own) is asked, word by word."""

import json
import os
import plistlib
import sys

import pytest

from hivectl import config
from hivectl.cli import launchd, service
from hivectl.client import transport
from hivectl.kit.system import Darwin
from hivectl.model.errors import HiveError

DOMAIN = f"gui/{os.getuid()}"
AGENT = f"{DOMAIN}/hivectl.daemon"

LAUNCHCTL = '''#!{python} -IS
"""Keeps the words of each call, and whether the agent is loaded."""
import json, os, sys
place, words = {place!r}, sys.argv[1:]
with open(place + "/calls", "a") as file:
    file.write(json.dumps(words) + "\\n")
loaded, slow, refuses = (os.path.join(place, name) for name in ("loaded", "slow", "refuses"))
if words[0] in ("bootstrap", "kickstart") and os.path.exists(refuses):
    sys.exit("Bootstrap failed: 125: Domain does not support specified action")
if words[0] == "print":
    if os.path.exists(slow) and not os.path.exists(loaded):
        left = int(open(slow).read())
        if left:
            open(slow, "w").write(str(left - 1))
            sys.exit(0)
    sys.exit(0 if os.path.exists(loaded) else "Could not find service")
if words[0] == "bootstrap":
    if os.path.exists(loaded):
        sys.exit("Bootstrap failed: 5: Input/output error")
    open(loaded, "w").close()
if words[0] == "bootout":
    os.unlink(loaded)
'''


class Mac:
    """A home, a PATH with a launchctl, and what that was asked."""

    def __init__(self, root, hive):
        self.home, self.place, self._hive = root / "ho & <me>", root / "launchctl", hive
        self.home.mkdir()
        self.place.mkdir()
        self.bin = root / "b & in"
        self.bin.mkdir()
        program = self.bin / "launchctl"
        program.write_text(LAUNCHCTL.format(python=sys.executable, place=str(self.place)))
        program.chmod(0o755)

    def __call__(self, *words):
        return self._hive(*words)

    @property
    def path(self):
        return self.home / "Library/LaunchAgents/hivectl.daemon.plist"

    @property
    def agent(self):
        return plistlib.loads(self.path.read_bytes())

    def calls(self):
        """The calls since the last time, in order."""
        kept = self.place / "calls"
        rows = kept.read_text().splitlines() if kept.exists() else []
        kept.unlink(missing_ok=True)
        return [json.loads(row) for row in rows]


@pytest.fixture
def mac(hive, monkeypatch, tmp_path):
    """The usual places on macOS, with spaces and XML's own characters in their names."""
    made = Mac(tmp_path, hive)
    for name in ("HIVECTL_HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME", "CLAUDE_CONFIG_DIR"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(made.home))
    monkeypatch.setenv("PATH", f"{made.bin}:/usr/bin:/bin")
    monkeypatch.setattr(service, "SYSTEM", Darwin())
    monkeypatch.setattr(transport, "SYSTEM", Darwin())
    monkeypatch.setattr(launchd, "_POLL_S", 0.001)
    return made


def test_the_agent_runs_this_interpreter_in_this_environment(mac, monkeypatch):
    monkeypatch.setenv("HIVECTL_CLAUDE_BIN", "/opt/<claude> & co/claude")
    monkeypatch.setenv("SECRET", "not told")
    ran = mac("daemon", "install")
    assert ran.code == 0, ran.err
    agent = mac.agent
    assert agent["ProgramArguments"] == [sys.executable, "-P", "-m", "hivectl.daemon", "run"]
    told = agent["EnvironmentVariables"]
    assert told["PATH"] == f"{mac.bin}:/usr/bin:/bin"
    assert told["HIVECTL_CLAUDE_BIN"] == "/opt/<claude> & co/claude"
    assert told.keys() <= {"PATH", "PYTHONPATH", "HIVECTL_CLAUDE_BIN"}
    logs = mac.home / "Library/Logs/hivectl"
    assert (agent["StandardOutPath"], agent["StandardErrorPath"]) == (
        str(logs / "daemon.out.log"), str(logs / "daemon.err.log"),
    )  # fmt: skip
    assert logs.stat().st_mode & 0o777 == 0o700
    assert mac.path.stat().st_mode & 0o777 == 0o644


def test_the_agent_is_kept_alive_and_its_runs_are_left_alone(mac):
    mac("daemon", "install")
    agent = mac.agent
    assert agent["Label"] == "hivectl.daemon"
    assert agent["KeepAlive"] == {"SuccessfulExit": False}
    assert agent["RunAtLoad"] is True
    assert agent["AbandonProcessGroup"] is True
    assert agent["ProcessType"] == "Interactive"
    assert (agent["ThrottleInterval"], agent["ExitTimeOut"], agent["Umask"]) == (5, 30, 0o077)
    assert agent["SoftResourceLimits"] == {"NumberOfFiles": 8192}


def test_it_is_loaded_into_the_users_login_session(mac):
    ran = mac("daemon", "install")
    assert f"installed {mac.path}" in ran.out
    assert mac.calls() == [
        ["print", AGENT],
        ["enable", AGENT],
        ["bootstrap", DOMAIN, str(mac.path)],
    ]


def test_installing_the_same_again_only_starts_it(mac):
    mac("daemon", "install")
    before = mac.path.stat()
    mac.calls()
    assert mac("daemon", "install").code == 0
    assert mac.calls() == [["print", AGENT], ["kickstart", AGENT]]
    assert mac.path.stat().st_mtime_ns == before.st_mtime_ns


def test_installing_anew_lets_the_old_one_go_first_and_waits_for_that(mac, monkeypatch):
    mac("daemon", "install")
    mac.calls()
    monkeypatch.setenv("PATH", f"{mac.bin}:/bin")
    (mac.place / "slow").write_text("2")
    assert mac("daemon", "install").code == 0
    assert [words[0] for words in mac.calls()] == [
        "print", "bootout", "print", "print", "print", "enable", "bootstrap"
    ]  # fmt: skip
    assert mac.agent["EnvironmentVariables"]["PATH"] == f"{mac.bin}:/bin"


def test_without_now_it_waits_for_the_next_login(mac):
    ran = mac("--json", "daemon", "install", "--no-now")
    assert json.loads(ran.out) == {"unit": str(mac.path), "enabled": False, "linger": None}
    assert mac.calls() == []


def test_a_launchd_that_refuses_is_quoted_with_what_to_do(mac):
    (mac.place / "refuses").touch()
    ran = mac("daemon", "install")
    assert ran.code == 0
    assert "125: Domain does not support specified action" in ran.err
    assert f"launchctl bootstrap {DOMAIN} '{mac.path}'" in ran.err
    assert mac.path.exists()


def test_without_launchctl_it_is_written_all_the_same(mac, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    ran = mac("daemon", "install")
    assert ran.code == 0
    assert "launchctl cannot be run" in ran.err
    assert mac.agent["EnvironmentVariables"]["PATH"] == "/nowhere"


def test_uninstall_lets_it_go_and_twice_is_once(mac):
    mac("daemon", "install")
    mac.calls()
    ran = mac("daemon", "uninstall")
    assert (ran.code, f"removed {mac.path}" in ran.out) == (0, True)
    assert mac.calls() == [["print", AGENT], ["bootout", AGENT], ["print", AGENT]]
    assert not mac.path.exists()
    again = mac("daemon", "uninstall")
    assert (again.code, "not installed" in again.out) == (0, True)
    assert mac.calls() == [["print", AGENT]]


def test_an_agent_that_will_not_go_is_an_error_that_says_so(mac, monkeypatch):
    mac("daemon", "install")
    (mac.place / "slow").write_text("1000000")
    monkeypatch.setattr(launchd, "LET_GO_S", 0.2)
    ran = mac("daemon", "uninstall")
    assert ran.code != 0
    assert f"launchctl print {AGENT}" in ran.err
    assert mac.path.exists(), "what may still run can be found again"


def test_under_a_private_home_it_is_refused(mac, monkeypatch, tmp_path):
    monkeypatch.setenv("HIVECTL_HOME", str(tmp_path / "private"))
    for command in ("install", "uninstall"):
        ran = mac("daemon", command)
        assert ran.code == 6
        assert "HIVECTL_HOME" in ran.err
    assert mac.calls() == []


def test_what_a_property_list_cannot_hold_is_refused(mac, monkeypatch):
    monkeypatch.setenv("PATH", f"{mac.bin}:/with\x07bell")
    ran = mac("daemon", "install")
    assert ran.code == 6
    assert "property list" in ran.err
    assert "\x07" not in ran.err
    assert not mac.path.exists()


def test_a_command_that_needs_the_daemon_starts_the_agent(mac, monkeypatch):
    settings = config.load(env={"HOME": str(mac.home), "PATH": os.environ["PATH"]})
    assert transport._start_unit(settings) is False, "it is not installed"
    mac("daemon", "install")
    mac.calls()
    assert transport._start_unit(settings) is True
    assert mac.calls() == [["kickstart", AGENT]]
    (mac.place / "refuses").touch()
    assert transport._start_unit(settings) is False


def test_the_shipped_file_is_whole_by_itself():
    shipped = plistlib.loads(service.template(transport.AGENT_FILE).encode())
    assert shipped["Label"] == transport.AGENT_LABEL
    assert shipped["ProgramArguments"][-2:] == ["daemon", "run"]


def test_a_missing_template_says_what_to_do():
    with pytest.raises(HiveError) as caught:
        service.template("nothing.plist")
    assert caught.value.code == "INTERNAL"
