"""hivectl.service: packaged, the same at the top of the repository, and as the product promises."""

import configparser
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
UNIT = resources.files("hivectl") / "data" / "hivectl.service"

PROMISED = {
    "Type": "notify",
    "NotifyAccess": "main",
    "Restart": "on-failure",
    "WatchdogSec": "30",
    "KillMode": "process",
    "Delegate": "yes",
    "OOMPolicy": "continue",
    "LimitNOFILE": "65536",
    "TasksMax": "infinity",
    "UMask": "0077",
    "RuntimeDirectory": "hivectl",
    "RuntimeDirectoryMode": "0700",
    "RuntimeDirectoryPreserve": "yes",
}
INHERITED_BY_CLAUDE = (
    "Private",
    "Protect",
    "Restrict",
    "NoNewPrivileges",
    "SystemCall",
    "ReadOnly",
)


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(UNIT.read_text())
    return parser


def test_unit_at_the_top_is_the_packaged_one() -> None:
    assert (ROOT / "hivectl.service").read_text() == UNIT.read_text()


@pytest.mark.parametrize("key", PROMISED)
def test_unit_keeps_each_promise(key: str) -> None:
    assert unit()["Service"][key] == PROMISED[key]


def test_held_lock_and_wrong_configuration_are_not_tried_again() -> None:
    assert set(unit()["Service"]["RestartPreventExitStatus"].split()) == {"75", "2"}


def test_nothing_in_the_unit_is_inherited_by_claude() -> None:
    assert [key for key in unit()["Service"] if key.startswith(INHERITED_BY_CLAUDE)] == []


def test_stop_limit_leaves_room_for_the_daemons_own(tmp_path: Path) -> None:
    from hivectl import config

    own = config.load(env={"HOME": str(tmp_path)}).seconds("daemon.stop_timeout_s")
    assert float(unit()["Service"]["TimeoutStopSec"]) >= own + 5


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    path = tmp_path / "hivectl.service"
    text = UNIT.read_text().replace("%h/.local/bin/hivectl", shutil.which("true") or "/bin/true")
    path.write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path)},
    )
    about_us = [line for line in done.stderr.splitlines() if "hivectl" in line]
    assert about_us == []
