"""Row 15: the machine's clock is set to and fro, over a change to summer time, or the machine was suspended."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.harness import history, processes
from tests.harness.daemon import ROOT, Daemon
from tests.harness.soak import Report, full
from tests.harness.waiting import eventually

Make = Callable[..., Daemon]
HOUR = 3600.0
LIMIT_S = 4.0
SLACK_S = 6.0
"""How much later than its limit a run may have ended on a busy machine; an hour it is not."""
TO_SUMMER = datetime(2027, 3, 28, 0, 59, 59, tzinfo=UTC).timestamp()
"""A second before the clocks of Europe go from two to three."""
LADDER = {"execution.interrupt_s": 0.3, "execution.close_s": 0.2, "execution.term_s": 0.3}


class LeapingDaemon:
    """A daemon, and the clock of its machine."""

    def __init__(self, make_daemon: Make, root: Path) -> None:
        self.file = root / "leap"
        self.set(0)
        leaping = ROOT / "tests" / "harness" / "leaping"
        env = {
            "PYTHONPATH": f"{leaping}:{ROOT}",
            "LEAP_FILE": str(self.file),
            "TZ": "Europe/Berlin",
        }
        self.daemon = make_daemon(env=env, settings=LADDER).start()
        self.set(HOUR)
        told = datetime.fromisoformat(self.daemon.call("ping")["time"]).timestamp()
        assert abs(told - time.time() - HOUR) < 60, "its clock can be set"
        self.set(0)

    def set(self, seconds: float) -> None:
        """The clock is off by so many seconds from now on."""
        new = self.file.with_suffix(".new")
        new.write_text(str(seconds))
        new.rename(self.file)

    def leap(self, chance: random.Random) -> None:
        """An hour ahead, an hour back, right again, or over the change to summer time."""
        summer = TO_SUMMER - time.time()
        self.set(chance.choice([HOUR, -HOUR, 0, summer, summer + 2]))


def _leaps(leaping: LeapingDaemon, *, rounds: int, leaps: int, seed: int) -> None:
    """In each round one run has a limit, one asks a person, one just writes; the clock leaps under them."""
    daemon, chance = leaping.daemon, random.Random(seed)
    for name in ("timed", "asking", "plain"):
        daemon.project(name)
    for _ in range(rounds):
        begun = time.monotonic()
        timed = daemon.execute(
            {"events": 2, "hang": True}, project="timed", options={"timeout_s": LIMIT_S}
        )
        half = {"events": 40, "delay_ms": 10}
        asking = daemon.execute(
            {"steps": [half, {"permission": True}, half]},
            project="asking",
            options={"timeout_s": 120},
        )
        plain = daemon.execute({"events": 200, "delay_ms": 10}, project="plain")
        for _ in range(leaps):
            leaping.leap(chance)
            time.sleep(0.25)
        assert daemon.get(asking)["state"] == "waiting", "who thinks is not hurried"
        daemon.decide(daemon.wait_approval(asking))
        assert daemon.wait(asking)["state"] == "completed"
        assert daemon.wait(plain)["state"] == "completed"
        ended = daemon.wait(timed)
        took = time.monotonic() - begun
        assert (ended["state"], ended["cause"]) == ("timed_out", "timeout")
        assert LIMIT_S <= took < LIMIT_S + SLACK_S
        leaping.set(0)
    for name in ("timed", "asking", "plain"):
        history.read(daemon, project=name).check()
    history.read(daemon, stream="system").check_dense()


@pytest.mark.timeout(120)
def test_leaps_of_the_clock_move_no_timeout(make_daemon: Make, tmp_path: Path) -> None:
    _leaps(LeapingDaemon(make_daemon, tmp_path), rounds=1, leaps=12, seed=3)


@pytest.mark.timeout(120)
def test_a_suspended_machine_goes_on_where_it_stood(make_daemon: Make, tmp_path: Path) -> None:
    """Linux does not count a suspended machine's time on the monotonic clock, only on the wall's."""
    leaping = LeapingDaemon(make_daemon, tmp_path)
    daemon = leaping.daemon
    daemon.project()
    execution = daemon.execute(
        {"steps": [{"events": 30, "delay_ms": 10}, {"permission": True}, {"events": 30}]},
        options={"timeout_s": 60},
    )
    eventually(lambda: history.read(daemon, project="web").texts(execution))
    everybody = processes.belonging_to(daemon.root)
    for process in everybody:
        process.kill(signal.SIGSTOP)
    leaping.set(HOUR)
    for process in everybody:
        process.kill(signal.SIGCONT)
    daemon.decide(daemon.wait_approval(execution))
    assert daemon.wait(execution)["state"] == "completed"
    told = history.read(daemon, project="web").check()
    assert len([text for text in told.texts(execution) if text.startswith("event ")]) == 60


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_a_hundred_leaps_of_the_clock_move_no_timeout(
    make_daemon: Make, tmp_path: Path, report: Report
) -> None:
    leaping = LeapingDaemon(make_daemon, tmp_path)
    rounds = full(10)
    _leaps(leaping, rounds=rounds, leaps=10, seed=15)
    report.count("leaps", rounds * 10)
    report.count("limits kept", rounds)
