"""Names of failures, and exit files that come back as they were."""

import errno
from pathlib import Path

import pytest

from hivectl.ports import Exit, Launch, StopReason
from hivectl.procs import rundir, shim

LAUNCH = Launch(argv=("/bin/sh",), env={}, cwd=Path("/"), mark="x")


@pytest.mark.parametrize(
    "ended",
    [
        Exit(reason=StopReason.EXITED, code=0, out_bytes=5),
        Exit(reason=StopReason.USER, signal=9, swept=3, denied=1, rungs=("term", "sweep")),
        Exit(reason=StopReason.LEASE, shim_lost=True, host_rebooted=True, out_unflushed=True),
    ],
)
def test_an_exit_comes_back_as_it_was(ended: Exit) -> None:
    assert rundir.parse_exit(shim.unpack(shim.pack(rundir.build_exit(ended)))) == ended


@pytest.mark.parametrize(
    ("stage", "code", "reason"),
    [
        ("shim", errno.EMFILE, "too_many_files"),
        ("setup", errno.ENFILE, "too_many_files"),
        ("setup", errno.ENOMEM, "no_memory"),
        ("setup", errno.EAGAIN, "too_many_processes"),
        ("exec", errno.E2BIG, "arguments_too_long"),
        ("exec", errno.EACCES, "not_executable"),
        ("exec", errno.ENOENT, "bad_interpreter"),
        ("chdir", errno.ENOENT, "cwd"),
        ("setup", errno.EIO, "other"),
    ],
)
def test_a_failed_start_has_a_reason(stage: str, code: int, reason: str) -> None:
    error = rundir.start_error(stage, code, LAUNCH)
    assert error.code == "SPAWN_FAILED"
    assert error.details["reason"] == reason
    assert error.details["errno"] == errno.errorcode[code]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_no_room_is_an_error_of_its_own(code: int) -> None:
    assert rundir.start_error("setup", code, LAUNCH).code == "STORAGE_FULL"


def test_a_torn_exit_file_is_no_exit(tmp_path: Path) -> None:
    directory = rundir.RunDir(tmp_path, "pr_a")
    directory.path.mkdir()
    directory.write_exit(rundir.build_exit(Exit(reason=StopReason.EXITED, code=3)))
    found = directory.read_exit()
    assert found is not None
    assert found.code == 3
    path = directory.file(shim.EXIT)
    path.write_bytes(path.read_bytes()[:20])
    assert directory.read_exit() is None
