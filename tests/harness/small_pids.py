"""Run as pid 1's child of a pid namespace with few pids: runs are killed and found again while pids come round.

    python -m tests.harness.small_pids ROOT RUNS

Strangers are born all the time, so that every pid that hivectl remembers soon means one of them. Each
leaves by itself with a code of its own; one that died of a signal was signalled by mistake. Prints JSON.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.harness import history
from tests.harness.daemon import Daemon

PID_MAX = 600
AT_ONCE = 60
CODE = 7
LIVES_S = (0.05, 0.6)


class Strangers:
    """Processes that are none of hivectl's business; as many as leave the pids scarce."""

    def __init__(self) -> None:
        self.born = 0
        self.highest = 0
        self.signalled: list[int] = []
        self._chance = random.Random(19)
        self._living: list[subprocess.Popen[bytes]] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Strangers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        for one in self._living:
            self._leave(one)

    def _run(self) -> None:
        while not self._is_over.wait(0.005):
            for one in [one for one in self._living if one.poll() is not None]:
                self._living.remove(one)
                self._leave(one)
            if len(self._living) < AT_ONCE:
                seconds = self._chance.uniform(*LIVES_S)
                one = subprocess.Popen(
                    ["sh", "-c", f"sleep {seconds:.2f}; exit {CODE}"], env={}, cwd="/"
                )
                self._living.append(one)
                self.born += 1
                self.highest = max(self.highest, one.pid)

    def _leave(self, one: subprocess.Popen[bytes]) -> None:
        # 2: the shell itself found no pid for its sleep; above 128: its sleep was signalled.
        if one.wait() < 0 or one.returncode > 128:
            self.signalled.append(one.returncode)


def live(daemon: Daemon, runs: int) -> int:
    """Runs that end, are killed, lose their shim or their daemon; how often the daemon was killed."""
    chance = random.Random(20)
    for number in range(runs):
        tree = {"spawn": ["plain", "deaf_setsid"], "events": 3, "delay_ms": 30, "text": "done"}
        match number % 4:
            case 0:
                assert daemon.run(tree, session="new")["state"] == "completed"
            case 1:
                execution = daemon.execute({**tree, "hang": True}, session="new")
                daemon.wait_state(execution, "running")
                killed = daemon.call("kill", execution=execution, mode="kill")
                assert killed["survivors"] == 0
            case 2:
                execution = daemon.execute(tree, session="new")
                time.sleep(chance.uniform(0, 0.2))
                daemon.restart()
                assert daemon.wait(execution)["state"] == "completed"
            case _:
                execution = daemon.execute({**tree, "hang": 0.3}, session="new")
                found = daemon.wait_state(execution, "running")
                daemon.shim_of(found).kill()
                time.sleep(chance.uniform(0, 0.2))
                daemon.restart()
                assert daemon.wait(execution)["state"] in ("completed", "lost")
    history.read(daemon, project="web").check()
    return daemon.kills


def main() -> None:
    """Needs to own the namespace."""
    root, runs = Path(sys.argv[1]), int(sys.argv[2])
    Path("/proc/sys/kernel/pid_max").write_text(str(PID_MAX))
    daemon = Daemon(root)
    with Strangers() as strangers:
        daemon.start()
        daemon.project()
        kills = live(daemon, runs)
        daemon.close()
    print(
        json.dumps(
            {
                "runs": runs,
                "kills": kills,
                "strangers": strangers.born,
                "highest": strangers.highest,
                "signalled": strangers.signalled,
                "pid": os.getpid(),
            }
        )
    )


if __name__ == "__main__":
    main()
