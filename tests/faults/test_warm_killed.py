"""A conversation on warm processes while the daemon, Claude and the shims are killed at random."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest

from tests.e2e.conftest import QUICK
from tests.harness import history
from tests.harness.daemon import Daemon, mock

PROMPTS = int(os.environ.get("HIVECTL_TEST_WARM_PROMPTS", "24"))


def kill_later(daemon: Daemon, delay_s: float) -> threading.Thread:
    """SIGKILL for the daemon in a while."""

    def strike() -> None:
        time.sleep(delay_s)
        daemon.kill()

    thread = threading.Thread(target=strike)
    thread.start()
    return thread


def kill_idle(daemon: Daemon, chance: random.Random) -> None:
    """SIGKILL for Claude or for its shim, while it waits."""
    for found in daemon.call("session.list")["items"]:
        if found["is_warm"]:
            run = daemon.get(found["last_execution"])
            with suppress(ProcessLookupError, StopIteration, AssertionError):
                if chance.random() < 0.5:
                    os.kill(run["pid"], signal.SIGKILL)
                else:
                    os.kill(daemon.shim_of(run).pid, signal.SIGKILL)
                    time.sleep(
                        0.3
                    )  # shim and daemon at once is another story: it is noticed by then


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2])
def test_no_prompt_is_lost_doubled_or_forgotten(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    daemon = Daemon(tmp_path, settings={**QUICK, "session.warm": True, "daemon.log_level": "debug"})
    daemon.start()
    daemon.project()
    told: list[str] = []
    try:
        for number in range(PROMPTS):
            text = f"prompt {seed}-{number}"
            id_ = daemon.execute(text + " " + mock(memory=True, delay_ms=chance.choice([0, 0, 80])))
            match chance.randrange(4):
                case 0:
                    kill_later(daemon, chance.uniform(0, 0.15)).join()
                    daemon.start()
                    run = daemon.wait(id_)
                case 1:
                    run = daemon.wait(id_)
                    kill_idle(daemon, chance)
                case _:
                    run = daemon.wait(id_)
            assert run["state"] == "completed", (
                number,
                run["cause"],
                run["message"],
                run["started_at"],
                run["ended_at"],
            )
            # What was said before is remembered: each prompt, once, in its order.
            assert re.findall(r"^\d+\. (prompt \d+-\d+)", run["result"], re.MULTILINE) == told, (
                number
            )
            told.append(text)
        log = history.read(daemon, project="web").check()
        ends = Counter(event["execution"] for event in log.of_type("execution.ended"))
        assert sorted(ends.values()) == [1] * PROMPTS
        assert len(daemon.mock_starts()) < PROMPTS, "most prompts met a warm process"
    finally:
        daemon.close()
