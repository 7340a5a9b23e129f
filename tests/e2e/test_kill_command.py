"""`hivectl kill` as a command, against runs that do not listen and a daemon that dies."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.harness.daemon import Daemon
from tests.harness.waiting import eventually

DEAF = {"hang": True, "ignore_signals": "all"}
SLOW = {"execution.interrupt_s": 1.5, "execution.close_s": 0.5, "execution.term_s": 0.5}


def _kill(daemon: Daemon, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "hivectl", "kill", *words],
        env=daemon.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def _is_wanted(daemon: Daemon, execution: str) -> bool:
    """Whether the wish to stop it is stored."""
    (file,) = daemon.home.rglob("*.db")
    with sqlite3.connect(f"file:{file}?mode=ro", uri=True) as db:
        row = db.execute("SELECT stop_mode FROM executions WHERE id = ?", [execution]).fetchone()
    return bool(row and row[0])


@pytest.mark.parametrize("by", ["execution", "project"])
def test_a_kill_is_followed_through_the_death_of_the_daemon(
    make_daemon: Callable[..., Daemon], by: str
) -> None:
    daemon = make_daemon(settings=SLOW).start()
    daemon.project()
    execution = daemon.execute(DEAF)
    daemon.wait_state(execution, "running")
    command = _kill(daemon, execution if by == "execution" else "web")
    try:
        eventually(lambda: _is_wanted(daemon, execution))
        daemon.kill()
        daemon.start()
        out, err = command.communicate(timeout=60)
    finally:
        command.kill()
    assert command.returncode == 0, err
    assert out.split()[:3] == [execution, "web", "cancelled"]
    assert "asked for again" in err
    assert daemon.wait(execution)["state"] == "cancelled"


def test_a_run_that_does_not_hear_an_interrupt_is_a_conflict(
    make_daemon: Callable[..., Daemon],
) -> None:
    daemon = make_daemon(settings=SLOW).start()
    daemon.project()
    execution = daemon.execute(DEAF)
    daemon.wait_state(execution, "running")
    command = _kill(daemon, "--interrupt", execution)
    out, err = command.communicate(timeout=60)
    assert command.returncode == 6, err
    assert f"it did not stop; end it with: hivectl kill {execution}" in out
    daemon.call("kill", execution=execution, mode="kill")
