"""Every benchmark runs at its smallest size and says what it measured. Its figures never fail a test."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import figures
from benchmarks.__main__ import NAMES
from benchmarks.targets import TARGETS

ROOT = Path(__file__).resolve().parents[3]
SMALLEST = {
    "agents": ["--events", "40", "--viewers", "3", "--agents", "2"],
    "flat_out": ["--events", "200", "--viewers", "2", "--agents", "2", "--lone", "50"],
    "one_viewer": ["--seconds", "0.05"],
    "cli": ["--runs", "1"],
    "broadcast": ["--events", "20", "--viewers", "5"],
    "daemon_fanout": ["--events", "200", "--viewers", "5"],
    "fanout": ["--events", "200", "--viewers", "5"],
    "first_event": ["--runs", "1"],
    "get": ["--requests", "40", "--connections", "4"],
    "idle": ["--viewers", "3", "--seconds", "0.1"],
    "ingest": ["--events", "200"],
    "journal": ["--lines", "3000", "--append-lines", "1000"],
    "queue": ["--operations", "320", "--orders", "2000"],
    "restart": ["--executions", "2", "--lines", "1000"],
    "stalled": ["--events", "20"],
    "start": ["--runs", "1"],
    "tls": ["--events", "20", "--viewers", "2"],
    "warm": ["--runs", "1"],
}


NEED_A_COMPILER = {"agents", "broadcast", "flat_out", "get", "one_viewer", "fanout", "stalled"}


def test_every_command_is_known_to_the_one_that_runs_all() -> None:
    there = {path.stem.removeprefix("bench_") for path in (ROOT / "benchmarks").glob("bench_*.py")}
    assert there == set(NAMES) == set(SMALLEST)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_command_prints_its_figures_and_writes_them(name: str, tmp_path: Path) -> None:
    if name in NEED_A_COMPILER and shutil.which("cc") is None:
        pytest.skip("its viewers are written in C and there is no cc")
    out = tmp_path / "figures.json"
    argv = [sys.executable, "-m", f"benchmarks.bench_{name}", "--rounds", "1", "--json", str(out)]
    done = subprocess.run(
        [*argv, *SMALLEST[name]], cwd=ROOT, capture_output=True, text=True, timeout=55, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip()
    written = json.loads(out.read_text())
    assert written["machine"]["python"]
    measured = {one["name"] for one in written["series"]}
    assert measured
    wanted = {target.ours for target in TARGETS if target.benchmark == name}
    at_1000 = {one for one in wanted if "1000 viewers" in one}  # not at the smallest size
    assert wanted - at_1000 - {one.replace("5 viewers", "100 viewers") for one in measured} == set()


def test_every_target_names_a_benchmark() -> None:
    assert {target.benchmark for target in TARGETS} <= set(NAMES)


def test_when_the_time_is_over_the_rest_is_left_out_and_named(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "benchmarks", "--minutes", "0", "idle", "start"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 1
    assert "left out: idle; the 0 minutes are over" in done.stderr
    assert "did not finish: idle, start" in done.stderr
    assert "Targets" in done.stdout


def test_a_report_compares_round_by_round() -> None:
    report = figures.Report("x", "Title")
    for ours, theirs in ((1.0, 2.0), (3.0, 3.0), (8.0, 4.0)):
        report.add("ours", ours, "ms")
        report.add("theirs", theirs, "ms")
    report.compare("ours", "theirs", "<= 1x")
    report.compare("ours", "what was not measured")
    (ratio,) = report.document()["ratios"]
    assert (ratio["median"], ratio["min"], ratio["max"]) == (1.0, 0.5, 2.0)
    assert "ours / theirs: 1x (0.5 to 2), target <= 1x" in report.render()
