"""Row 18: the daemon is replaced by one of another revision while runs live, and taken back."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.harness import history
from tests.harness.daemon import ROOT, Daemon, DaemonEnded
from tests.harness.soak import Report
from tests.harness.waiting import eventually

Make = Callable[..., Daemon]
REVISIONS = {
    "before the last change of the shim": ["hivectl/procs/shim.py"],
    "before the last migration": ["hivectl/store/migrations"],
}
"""The parent of the last commit that touched these; where that is not in the history, it is skipped."""
RUN = {"steps": [{"events": 20, "delay_ms": 5}, {"permission": True}, {"events": 20}]}


def _git(*words: str) -> str:
    told = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return told.stdout.strip() if told.returncode == 0 else ""


def _older(tmp_path: Path, paths: list[str]) -> Path:
    """The tree of an older revision."""
    last = _git("log", "-1", "--format=%H", "--", *paths)
    revision = _git("rev-parse", "--verify", "--quiet", f"{last}^") if last else ""
    if not revision:
        pytest.skip("no older revision in this history")
    tree = tmp_path / "older"
    tree.mkdir()
    packed = tmp_path / "older.tar"
    assert not _git("archive", "-o", str(packed), revision, "hivectl", "mock_claude")
    shutil.unpack_archive(packed, tree)
    return tree


def _answer(daemon: Daemon, execution: str) -> None:
    daemon.decide(daemon.wait_approval(execution))
    assert daemon.wait(execution)["state"] == "completed"


def _check(daemon: Daemon, project: str, execution: str) -> None:
    told = history.read(daemon, project=project).check()
    told.check_ended(execution)
    texts = [text for text in told.texts(execution) if text.startswith("event ")]
    assert texts == [f"event {n} of 20" for n in range(1, 21)] * 2


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("what", REVISIONS)
def test_runs_live_through_an_upgrade_and_a_step_back(
    make_daemon: Make, tmp_path: Path, report: Report, what: str
) -> None:
    older = str(_older(tmp_path, REVISIONS[what]))
    daemon = make_daemon().start(PYTHONPATH=older)
    runs = {}
    for name in ("early", "late", "last"):
        daemon.project(name)
        runs[name] = daemon.execute(RUN, project=name)
        daemon.wait_approval(runs[name])
    daemon.restart()
    _answer(daemon, runs["early"])
    daemon.project("young")
    runs["young"] = daemon.execute(RUN, project="young")
    daemon.wait_approval(runs["young"])
    daemon.kill()
    # one step back: it takes all of it over, or says why it does not and harms nothing
    try:
        daemon.start(PYTHONPATH=older)
        _answer(daemon, runs["late"])
        _answer(daemon, runs["young"])
        report.count("steps back taken over")
    except DaemonEnded as ended:
        assert ended.code > 0  # noqa: PT017
        assert "Traceback" not in ended.output  # noqa: PT017
        assert re.search("newer|version|schema", ended.output)  # noqa: PT017
        report.count("steps back refused in words")
    daemon.restart()
    for name in ("late", "young"):
        if daemon.get(runs[name])["state"] != "completed":
            _answer(daemon, runs[name])
    _answer(daemon, runs["last"])
    for name, execution in runs.items():
        _check(daemon, name, execution)
    assert len(daemon.mock_starts()) == len(runs)
    report.count("runs taken over", len(runs))


def _other_protocol(tmp_path: Path) -> Path:
    """This very tree, but that its shims speak another version."""
    tree = tmp_path / "other"
    for package in ("hivectl", "mock_claude"):
        shutil.copytree(
            ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    shim = tree / "hivectl" / "procs" / "shim.py"
    text = shim.read_text()
    assert "\nVERSION = 1\n" in text
    shim.write_text(text.replace("\nVERSION = 1\n", "\nVERSION = 1000\n"))
    return tree


@pytest.mark.timeout(120)
def test_a_shim_of_another_protocol_is_refused_politely(make_daemon: Make, tmp_path: Path) -> None:
    """Its run is left alone and shown with the reason; other work goes on; its own daemon takes it up again."""
    other = str(_other_protocol(tmp_path))
    daemon = make_daemon().start(PYTHONPATH=other)
    daemon.project()
    daemon.project("api")
    execution = daemon.execute(RUN)
    daemon.wait_approval(execution)
    child = daemon.get(execution)["pid"]
    daemon.restart()
    assert daemon.run("and on", project="api")["state"] == "completed"
    time.sleep(0.5)
    assert Path(f"/proc/{child}").exists(), "nobody ended it"
    assert "another protocol" in daemon.log
    daemon.kill()
    daemon.start(PYTHONPATH=other)
    _answer(daemon, execution)
    _check(daemon, "web", execution)
    eventually(lambda: not daemon.shims())
