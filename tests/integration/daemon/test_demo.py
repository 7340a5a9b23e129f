"""`make demo` is what a newcomer sees first; it checks its own claims and leaves nothing behind."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[3] / "examples/demo/demo.py"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_demo_holds_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(DEMO)],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Nothing is left behind." in done.stdout
    assert done.stdout.count("checked:") >= 8
    assert list(tmp_path.iterdir()) == []
