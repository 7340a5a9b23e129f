"""Row 19: few pids, so that each one that hivectl remembers soon means somebody else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.harness.daemon import ROOT
from tests.harness.small_pids import PID_MAX
from tests.harness.soak import Report, full

NAMESPACE = [
    "unshare",
    "--user",
    "--map-root-user",
    "--pid",
    "--fork",
    "--kill-child",
    "--mount-proc",
]


def _come_round(root: Path, runs: int, *, within_s: float) -> dict[str, Any]:
    if shutil.which("unshare") is None:
        pytest.skip("needs unshare")
    may = subprocess.run(
        [*NAMESPACE, "sh", "-c", f"echo {PID_MAX} > /proc/sys/kernel/pid_max"],
        capture_output=True,
        check=False,
    )
    if may.returncode:
        pytest.skip("no pid namespace with a limit of its own here (Linux 6.14)")
    before = Path("/proc/sys/kernel/pid_max").read_text()
    assert int(before) > PID_MAX, "it is the namespace's limit, not ours"
    told = subprocess.run(
        [*NAMESPACE, sys.executable, "-P", "-m", "tests.harness.small_pids", str(root), str(runs)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=within_s,
    )
    assert told.returncode == 0, told.stdout + told.stderr[-4000:]
    found: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    assert found["highest"] <= PID_MAX
    assert found["strangers"] > 2 * PID_MAX / 10, "enough of them"
    assert found["signalled"] == [], "a stranger was signalled"
    return found


@pytest.mark.timeout(180)
def test_no_stranger_is_signalled_when_pids_come_round(tmp_path: Path) -> None:
    _come_round(tmp_path, 8, within_s=150)


@pytest.mark.soak
@pytest.mark.timeout(1200)
def test_no_stranger_is_signalled_in_many_rounds_of_pids(tmp_path: Path, report: Report) -> None:
    found = _come_round(tmp_path, full(200, least=4), within_s=1100)
    for what in ("runs", "kills", "strangers"):
        report.count(what if what != "kills" else "daemons killed", found[what])
