"""`make demo` is what a newcomer sees first; it checks its own claims and leaves nothing behind."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[3] / "examples/demo/demo.py"


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_demo_holds_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Its sockets' paths are too long here, so they come to lie below the home."""
    place = tmp_path / ("a" * 40)
    place.mkdir()
    with tempfile.TemporaryDirectory(prefix="hv") as home:
        environment = {k: v for k, v in os.environ.items() if k != "XDG_RUNTIME_DIR"}
        done = subprocess.run(
            [sys.executable, str(DEMO)],
            env=environment | {"TMPDIR": str(place), "HOME": home},
            capture_output=True,
            text=True,
            timeout=170,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert [path for path in Path(home).rglob("*") if not path.is_dir()] == []
        assert list(Path(home).glob(".local/state/hivectl/*")) == []
    assert "Nothing is left behind." in done.stdout
    assert done.stdout.count("checked:") >= 8
    assert list(place.iterdir()) == []
