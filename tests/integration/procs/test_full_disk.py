"""DESIGN's row 9 for processes: a full disk pauses, loses nothing, and hinders neither kill nor end."""

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

INNER = str(Path(__file__).with_name("full_disk.py"))
ROOT = str(Path(__file__).parents[3])
CASES = ["pauses", "kills", "survives", "lost", "refuses"]


@pytest.mark.parametrize("case", CASES)
async def test_a_full_disk(case: str, tmp_path: Path) -> None:
    check = subprocess.run(["unshare", "-Urm", "true"], check=False, capture_output=True)
    if check.returncode:
        pytest.skip("a mount namespace cannot be made here: " + check.stderr.decode())
    place = tmp_path / "disk"
    place.mkdir()
    program = ["unshare", "-Urm", sys.executable, INNER, ROOT, str(place), case]
    done = await asyncio.to_thread(
        subprocess.run, program, check=False, capture_output=True, text=True, timeout=50
    )
    assert done.stdout.strip() == "passed", done.stderr
