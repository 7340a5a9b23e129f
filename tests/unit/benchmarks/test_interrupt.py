"""Whoever interrupts the benchmarks has none of their processes left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness import processes
from tests.harness.waiting import eventually

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_benchmark_ends_what_it_started(number: int, tmp_path: Path) -> None:
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    argv = [sys.executable, "-m", "benchmarks", "--rounds", "50", "idle"]
    with subprocess.Popen(argv, cwd=ROOT, env=env, stderr=subprocess.DEVNULL) as running:
        try:
            eventually(
                lambda: any(one.is_daemon for one in processes.belonging_to(tmp_path)),
                within_s=30,
                what="the daemon of the benchmark runs",
            )
        finally:
            running.send_signal(number)
        assert running.wait(40) == 130
    assert [one.argv for one in processes.belonging_to(tmp_path)] == []
