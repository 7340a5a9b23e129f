"""Standard streams that are closed, full or endless, and a directory that is gone: real processes."""

import subprocess
import sys
from pathlib import Path

import pytest


def run(shell: str, home: Path) -> tuple[int, str]:
    """(exit code, standard error) of a line of shell in which `hivectl` is this one; its daemon is off."""
    line = f'hivectl() {{ "{sys.executable}" -m hivectl "$@"; }}; {shell}'
    done = subprocess.run(
        ["/bin/bash", "-c", line],
        env={
            "HIVECTL_HOME": str(home),
            "HIVECTL_AUTOSTART": "0",
            "PYTHONPATH": str(Path(__file__).parents[3]),
        },
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("command", ["config show", "config show --json", "config path"])
def test_a_full_disk_is_told_and_is_no_fault_of_ours(tmp_path: Path, command: str) -> None:
    code, told = run(f"hivectl {command} > /dev/full", tmp_path)
    assert code == 125
    assert "STORAGE_FULL" in told
    assert "Traceback" not in told
    assert "Exception ignored" not in told


@pytest.mark.parametrize(("streams", "code"), [(">&-", 0), ("2>&-", 0), (">&- 2>&- <&-", 0)])
def test_output_that_nobody_wants_goes_nowhere(tmp_path: Path, streams: str, code: int) -> None:
    assert run(f"hivectl config show {streams}", tmp_path) == (code, "")


def test_an_error_keeps_its_code_where_nobody_reads_it(tmp_path: Path) -> None:
    assert run("hivectl nope 2>&-", tmp_path)[0] == 2


@pytest.mark.parametrize(
    "words", ["run - < /dev/zero", "run /dev/zero", "exec --json-schema /dev/zero x"]
)
def test_what_has_no_end_is_not_read_to_its_end(tmp_path: Path, words: str) -> None:
    code, told = run(f"ulimit -v 1000000; hivectl {words}", tmp_path)
    assert (code, "TOO_LARGE" in told) == (2, True)


@pytest.mark.parametrize("command", ["project create .", "project inspect ."])
def test_a_directory_that_is_gone_is_told(tmp_path: Path, command: str) -> None:
    code, told = run(f"mkdir gone; cd gone; rmdir ../gone; hivectl {command}", tmp_path)
    assert (code, "The current directory is gone." in told) == (2, True)
