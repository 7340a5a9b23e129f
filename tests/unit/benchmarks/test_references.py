"""References are found, and installed by the ordinary clients: npm and pip as real processes, here without a network."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from benchmarks import references

ROOT = Path(__file__).resolve().parents[3]
NPM = """#!/bin/sh
echo "$PWD $*" >>"{log}"
{act}
"""
MAKES_IT = """mkdir -p "node_modules/@siteboon/claude-code-ui"
echo '{"version": "1.2.3"}' >"node_modules/@siteboon/claude-code-ui/package.json"
"""


def run(root: Path, *argv: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.references", "--dir", str(root / "refs"), *argv],
        cwd=ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.fixture
def bin_with_npm(tmp_path: Path) -> Path:
    """A PATH with a fake npm, which does what is written into it."""
    made = tmp_path / "bin"
    made.mkdir()
    put_npm(made, MAKES_IT)
    return made


def put_npm(made: Path, act: str) -> None:
    (made / "npm").write_text(NPM.format(log=made / "log", act=act))
    (made / "npm").chmod(0o700)


def with_path(made: Path) -> str:
    return f"{made}:{os.environ['PATH']}"


def test_npm_installs_a_package_once_into_a_directory_of_its_own(
    bin_with_npm: Path, tmp_path: Path
) -> None:
    path = with_path(bin_with_npm)
    done = run(tmp_path, "--install", "claude-code-ui", PATH=path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "claude-code-ui   1.2.3" in done.stdout
    again = run(tmp_path, "--install", "claude-code-ui", PATH=path)
    assert "installing" not in again.stdout
    (called,) = (bin_with_npm / "log").read_text().splitlines()
    assert called.startswith(f"{tmp_path}/refs/claude-code-ui install --omit=optional")
    assert called.endswith("@siteboon/claude-code-ui@^1.12.0")


def test_an_installation_that_fails_says_why_and_leaves_the_reference_missing(
    bin_with_npm: Path, tmp_path: Path
) -> None:
    put_npm(bin_with_npm, f"{MAKES_IT}\necho 'no such package' >&2; exit 7")
    done = run(tmp_path, "--install", "claude-code-ui", PATH=with_path(bin_with_npm))
    assert done.returncode == 1
    assert "claude-code-ui: not installed: npm ended with 7: no such package" in done.stdout
    assert "claude-code-ui   not here (make bench-refs)" in done.stdout


def test_without_npm_the_line_says_how_to_get_it(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run(tmp_path, "--install", "typescript-sdk", PATH=str(tmp_path / "empty"))
    assert done.returncode == 1
    assert "there is no npm; on Debian and Ubuntu: apt install nodejs npm" in done.stdout


def test_a_program_of_the_system_is_only_looked_for(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run(tmp_path, "--install", "nats-server", PATH=str(tmp_path / "empty"))
    assert done.returncode == 1
    assert "it comes with the system: apt install nats-server" in done.stdout
    (tmp_path / "empty" / "nats-server").write_text("#!/bin/sh\necho nats-server: v9\n")
    (tmp_path / "empty" / "nats-server").chmod(0o700)
    done = run(tmp_path, "--install", "nats-server", PATH=str(tmp_path / "empty"))
    assert (done.returncode, done.stdout) == (0, "nats-server      nats-server: v9\n")


@pytest.mark.slow
def test_pip_installs_into_an_environment_of_its_own(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    put_wheel(wheels, "claude_agent_sdk", "98.7")
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels), "PIP_CONFIG_FILE": os.devnull}
    done = run(tmp_path, "--install", "python-sdk", **offline)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "python-sdk       98.7" in done.stdout
    found = references.find("python-sdk", tmp_path / "refs")
    assert found == tmp_path / "refs" / "python" / "bin" / "python"


def put_wheel(folder: Path, name: str, version: str) -> None:
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": "",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in {**files, f"{info}/RECORD": record}.items():
            wheel.writestr(path, text)


def test_what_is_not_here_is_told_once_and_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert references.find("typescript-sdk", tmp_path) is None
    assert references.find("typescript-sdk", tmp_path) is None
    told = "skipped: typescript-sdk is not here (make bench-refs)\n"
    assert capsys.readouterr().err == told


def test_versions_name_only_what_is_here(tmp_path: Path) -> None:
    assert "claude-code-ui" not in references.versions(tmp_path)


def test_an_unknown_reference_is_refused() -> None:
    with pytest.raises(SystemExit):
        references.main(["sqlite"])
