import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from hivectl.cli import service
from hivectl.cli.session import Globals, Session

TEMPLATE = """[Unit]
Description=hivectl daemon

[Service]
Type=notify
ExecStart=%h/.local/bin/hivectl daemon run
Restart=on-failure

[Install]
WantedBy=default.target
"""


@pytest.fixture
def usual(monkeypatch, tmp_path):
    """The usual places, below a home of the test's own; and no systemd."""
    monkeypatch.delenv("HIVECTL_HOME", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", '/opt/claude "x"/bin:/usr/bin')
    called = []
    monkeypatch.setattr(service, "_systemctl", lambda *words: called.append(words) or True)
    monkeypatch.setattr(service, "_lingers", lambda: False)
    monkeypatch.setattr(service, "template", lambda _name: TEMPLATE)
    return called


def test_the_unit_starts_this_interpreter_with_this_path(usual):
    text = service.render_unit(TEMPLATE, Session(options=Globals()))
    assert f"ExecStart={sys.executable} -P -m hivectl.daemon run\n" in text
    assert 'Environment="PATH=/opt/claude \\"x\\"/bin:/usr/bin"\n' in text
    assert "%h/.local" not in text
    assert text.count("ExecStart=") == 1
    assert "Restart=on-failure" in text


def test_install_writes_enables_and_speaks_of_lingering(hive, usual, tmp_path):
    ran = hive("daemon", "install")
    unit = tmp_path / ".config/systemd/user/hivectl.service"
    assert ran.code == 0, ran.err
    assert "ExecStart=" in unit.read_text()
    assert usual == [("daemon-reload",), ("enable", "--now", "hivectl.service")]
    assert "loginctl enable-linger" in ran.err
    assert hive("daemon", "uninstall").code == 0
    assert not unit.exists()
    assert "not installed" in hive("daemon", "uninstall").out


def test_install_under_a_private_home_is_refused(hive, daemon):
    ran = hive("daemon", "install")
    assert ran.code == 6
    assert "HIVECTL_HOME" in ran.err


def test_stop_returns_when_the_daemon_is_gone(hive, daemon):
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])

    def stopping(params):
        threading.Timer(0.3, lambda: process.send_signal(signal.SIGKILL)).start()
        return {"pid": process.pid, "runs": params["runs"], "live": ["x_1", "x_2"]}

    daemon.answers["daemon.stop"] = stopping
    ran = hive("daemon", "stop", "--runs", "wait", "--timeout", "10s")
    assert ran.code == 0, ran.err
    assert ran.out == "stopped; 2 runs waited for\n"
    assert process.wait(5) == -signal.SIGKILL
    assert daemon.wait_for("daemon.stop") == {"runs": "wait", "timeout_s": 10.0}


def test_stopping_what_does_not_run_is_fine(hive, daemon):
    daemon.stop()
    ran = hive("daemon", "stop", "--json")
    assert ran.code == 0
    assert json.loads(ran.out) == {"running": False, "stopped": False}


def test_start_finds_a_running_daemon(hive, daemon):
    assert hive("daemon", "start").out == "a daemon was running already\n"


def test_run_becomes_the_daemon(hive, daemon, monkeypatch):
    became = []

    def execve(path, argv, env):
        became.append((path, argv, env))
        raise SystemExit(0)

    monkeypatch.setattr(os, "execve", execve)
    with pytest.raises(SystemExit):
        hive("daemon", "run", "--foreground-log", "json")
    path, argv, env = became[0]
    assert path == sys.executable
    assert argv[1:] == ["-P", "-m", "hivectl.daemon", "run", "--foreground-log", "json"]
    assert "PYTHONPATH" in env


def test_logs_show_the_last_lines_for_people_and_programs(hive, daemon, tmp_path):
    assert hive("daemon", "logs").code == 3
    state = tmp_path / "state"
    state.mkdir(exist_ok=True)
    rows = [
        {"ts": f"2026-11-21T03:00:{n:02}.000000Z", "level": "info", "message": f"event {n}", "n": n}
        for n in range(60)
    ]
    (state / "daemon.log").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = hive("daemon", "logs", "-n", "2")
    assert [line.split()[2:4] for line in ran.out.splitlines()] == [
        ["event", "58"],
        ["event", "59"],
    ]
    assert json.loads(hive("daemon", "logs", "-n", "1", "--json").out)["n"] == 59
    assert hive("daemon", "logs", "-n", "0").out == ""


def test_new_log_lines_are_found_across_a_rotation(tmp_path):
    path = tmp_path / "daemon.log"
    path.write_text("one\ntwo\n")
    rows, inode, position = service._last_lines(path, 1)
    assert rows == ["two"]
    shown = []

    class Hive:
        is_json = True

        class screen:  # noqa: N801
            result = staticmethod(shown.append)

    with path.open("a") as file:
        file.write("three\nhalf")
    inode, position = service._print_new(Hive, path, inode, position)
    assert shown == ["three"]
    path.rename(tmp_path / "daemon.log.1")
    path.write_text("four\n")
    service._print_new(Hive, path, inode, position)
    assert shown == ["three", "four"]
