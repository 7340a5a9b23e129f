import os
import socket
from pathlib import Path

import pytest

from hivectl import config
from hivectl.daemon import doctor, doctor_system, lifecycle


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    return {
        "HIVECTL_HOME": str(tmp_path),
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "HIVECTL_CLAUDE_BIN": "mock",
    }


@pytest.fixture
def places(env: dict[str, str]) -> config.Places:
    found = config.find_places(env)
    lifecycle.secure_places(found)
    return found


async def findings(env: dict[str, str], name: str) -> list[doctor.Check]:
    return [check for check in await doctor.run(env=env) if check.id == name]


async def finding(env: dict[str, str], name: str) -> doctor.Check:
    (check,) = await findings(env, name)
    return check


async def test_healthy_machine_has_no_failure(env: dict[str, str]) -> None:
    checks = await doctor.run(env=env)
    assert doctor.worst(checks) != "fail"
    assert {"python", "sqlite", "config", "claude", "state_dir", "disk", "linger"} <= {
        check.id for check in checks
    }


async def test_doctor_changes_nothing(env: dict[str, str], tmp_path: Path) -> None:
    await doctor.run(env=env)
    assert list(tmp_path.iterdir()) == []


async def test_findings_that_are_not_ok_say_why_and_what_next(env: dict[str, str]) -> None:
    for check in await doctor.run(env=env | {"HIVECTL_CLAUDE_BIN": "/none", "HIVECTL_X": "1"}):
        if check.status != "ok":
            assert check.why, check
            assert check.next, check


async def test_missing_claude_fails(env: dict[str, str]) -> None:
    check = await finding(env | {"HIVECTL_CLAUDE_BIN": "/no/claude"}, "claude")
    assert (check.status, "claude.bin" in check.next) == ("fail", True)


async def test_mock_is_named_as_the_mock_with_its_version(env: dict[str, str]) -> None:
    check = await finding(env, "claude")
    assert check.status == "ok"
    assert check.what.startswith("the built-in mock stands in for Claude (it answers as 2.")
    assert await findings(env, "claude_login") == []


@pytest.mark.parametrize("text", ["x = [", "[execution]\nmax_live = 'many'\n", "lonely = 1\n"])
async def test_wrong_configuration_is_a_finding_and_hides_no_other(
    env: dict[str, str], tmp_path: Path, text: str
) -> None:
    (tmp_path / "config.toml").write_text(text)
    checks = await doctor.run(env=env)
    (wrong,) = [check for check in checks if check.id == "config"]
    assert wrong.status == "fail"
    assert str(tmp_path / "config.toml") in wrong.what
    assert {"python", "claude", "daemon", "disk", "self_approval"} <= {check.id for check in checks}


async def test_unknown_variable_is_named(env: dict[str, str]) -> None:
    check = await finding(env | {"HIVECTL_NO_SUCH": "1"}, "environment")
    assert "HIVECTL_NO_SUCH" in check.what


async def test_s33_loose_state_directory_fails(env: dict[str, str], places: config.Places) -> None:
    places.state.chmod(0o755)
    check = await finding(env, "state_dir")
    assert (check.status, "chmod 700" in check.next) == ("fail", True)


async def test_a_place_that_cannot_be_made_is_a_failure(
    env: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    check = await finding(env | {"HIVECTL_HOME": str(tmp_path / "file" / "home")}, "state_dir")
    assert (check.status, str(tmp_path / "file") in check.what) == ("fail", True)


async def test_s33_open_token_fails(env: dict[str, str], places: config.Places) -> None:
    places.token_file.write_text("x")
    places.token_file.chmod(0o644)
    assert (await finding(env, "token")).status == "fail"


async def test_running_daemon_is_named_by_its_pid(
    env: dict[str, str], places: config.Places
) -> None:
    lock = lifecycle.take_lock(places)
    try:
        assert f"pid {os.getpid()}" in (await finding(env, "daemon")).what
    finally:
        os.close(lock)


async def test_runtime_file_without_a_daemon_means_an_unclean_end(
    env: dict[str, str], places: config.Places
) -> None:
    places.runtime_file.write_text("{}")
    assert (await finding(env, "unclean")).status == "warn"


async def test_stale_socket_is_harmless_and_a_stranger_in_its_place_is_not(
    env: dict[str, str], places: config.Places
) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(places.socket))
    assert (await finding(env, "socket")).status == "ok"
    places.socket.unlink()
    places.socket.write_text("")
    assert (await finding(env, "socket")).status == "fail"


async def test_crash_traces_are_pointed_at(env: dict[str, str], places: config.Places) -> None:
    (places.state / "daemon.trace").write_text("Fatal Python error")
    assert (await finding(env, "trace")).status == "warn"


async def test_leftovers_of_repairs_are_listed_and_the_list_is_bounded(
    env: dict[str, str], places: config.Places
) -> None:
    (places.state / "hivectl.db.corrupt-20260101").write_text("x")
    log = places.journal / "p_1"
    log.mkdir(parents=True)
    for number in range(15):
        (log / f"1.jsonl.torn-{number}").write_text("x")
    found = await findings(env, "leftover")
    assert len(found) == 11
    assert "6 more" in found[-1].what
    assert any("corrupt" in check.what for check in found)


async def test_full_disk_is_told(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_FREE_WARN", 1 << 62)
    assert (await finding(env, "disk")).status == "warn"
    monkeypatch.setattr(doctor, "_FREE_FAIL", 1 << 61)
    assert (await finding(env, "disk")).status == "fail"


async def test_broken_check_is_a_finding_and_hides_no_other(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_settings: config.Settings) -> doctor.Check:
        raise RuntimeError("no")

    monkeypatch.setattr(doctor, "_PROBES", (("odd", broken), *doctor._PROBES[-1:]))
    checks = await doctor.run(env=env)
    assert [check.id for check in checks][-2:] == ["odd", "self_approval"]


async def test_s16_possible_self_approval_is_shown(env: dict[str, str]) -> None:
    assert (await finding(env, "self_approval")).status == "warn"


async def test_values_of_the_environment_are_never_shown(env: dict[str, str]) -> None:
    checks = await doctor.run(env=env | {"ANTHROPIC_API_KEY": "plain-value-of-a-key"})
    text = doctor.render(checks)
    assert "ANTHROPIC_API_KEY" in text
    assert "plain-value-of-a-key" not in text


@pytest.mark.parametrize(
    "probe",
    [
        doctor_system.descendants,
        doctor_system.exit_codes,
        doctor_system.namespaces,
        doctor_system.fd_limit,
        doctor_system.root,
    ],
)
def test_each_machine_check_gives_a_row(probe: object) -> None:
    row = probe()  # type: ignore[operator]
    assert len(row) == 5
    assert row[1] in {"ok", "warn", "fail"}


async def test_targets_without_the_library_are_a_failure_with_the_way_to_get_it(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await finding(env, "notify")).status == "ok"
    env["HIVECTL_NOTIFY_TARGETS"] = "ntfy://hiddenpart"
    assert (await finding(env, "notify")).status == "ok"
    monkeypatch.setattr(doctor, "is_available", lambda: False)
    found = await finding(env, "notify")
    assert found.status == "fail"
    assert "EXTRAS=notify" in found.next
    assert "hiddenpart" not in str(found)
