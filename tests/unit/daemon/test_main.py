import json
import os
from pathlib import Path

import pytest

from hivectl.daemon import __main__ as command
from hivectl.daemon import lifecycle
from hivectl.model.errors import ExitCode, HiveError


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("HIVECTL_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HIVECTL_HOME", str(tmp_path))
    return tmp_path


def test_wrong_setting_is_a_usage_error_with_what_why_and_next(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert command.main(["run", "--set", "execution.max_live=0"]) == ExitCode.USAGE
    err = capsys.readouterr().err.splitlines()
    assert err[0] == "hivectl: execution.max_live = '0' (from flag): the least is 1"
    assert err[1].startswith("  why:  ")
    assert err[2].startswith("  next: ")


def test_misspelt_setting_suggests_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["run", "--set", "execution.max_lives=3"]) == ExitCode.USAGE
    assert "Did you mean `execution.max_live`?" in capsys.readouterr().err


def test_flag_without_a_value_is_refused() -> None:
    with pytest.raises(HiveError, match="give KEY=VALUE"):
        command.parse_flags(["execution.max_live"])


def test_value_of_a_flag_may_hold_equal_signs() -> None:
    assert command.parse_flags(["a.b=c=d"]) == {"a.b": "c=d"}


def test_loose_state_directory_is_told_with_its_remedy(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (home / "state").mkdir()
    (home / "state").chmod(0o755)
    assert command.main(["run"]) == ExitCode.USAGE
    assert f"next: Run `chmod 700 {home / 'state'}`" in capsys.readouterr().err


def test_s08_held_lock_exits_with_75_and_names_the_holder(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = command_places(home)
    lifecycle.secure_places(places)
    lock = lifecycle.take_lock(places)
    try:
        assert command.main(["run"]) == 75
    finally:
        os.close(lock)
    assert f"another daemon already runs here (pid {os.getpid()})" in capsys.readouterr().err


def command_places(home: Path) -> lifecycle.Places:
    return lifecycle.config.find_places({"HIVECTL_HOME": str(home), "HOME": "/"})


def test_unknown_failpoint_refuses_the_start(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HIVECTL_FAILPOINT", "nowhere:kill")
    assert command.main(["run"]) == ExitCode.USAGE
    assert "unknown failpoint 'nowhere'" in capsys.readouterr().err


def test_fault_of_ours_is_told_in_one_line_and_its_traceback_is_in_the_log(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(_settings: object, _control: object) -> lifecycle.App:
        raise ZeroDivisionError("hive_" + "a1" * 22)

    monkeypatch.setattr(command, "_build", broken)
    assert command.main(["run"]) == ExitCode.INTERNAL
    err = capsys.readouterr().err
    assert err.startswith("hivectl: the daemon failed: ZeroDivisionError: [redacted]\n")
    assert "Traceback" not in err
    assert "Traceback" in (home / "state/daemon.log").read_text()


def test_doctor_gives_one_json_document(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIVECTL_CLAUDE_BIN", "mock")
    assert command.main(["doctor", "--json", "--offline"]) == ExitCode.OK
    document = json.loads(capsys.readouterr().out)
    assert document["status"] in {"ok", "warn"}
    assert all(set(row) == {"id", "status", "what", "why", "next"} for row in document["checks"])


def test_doctor_fails_when_something_must_be_mended(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIVECTL_CLAUDE_BIN", "/no/such/claude")
    assert command.main(["doctor"]) == ExitCode.FAILED
    assert "fail  claude: " in capsys.readouterr().out
