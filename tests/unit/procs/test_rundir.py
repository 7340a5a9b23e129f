"""Names of failures, and exit files that come back as they were."""

import errno
import importlib.util
import os
import py_compile
from pathlib import Path

import pytest

from hivectl.ports import Exit, Launch, StopReason
from hivectl.procs import rundir, shim

BY_TIME = py_compile.PycInvalidationMode.TIMESTAMP
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


def shim_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the shim that was never imported."""
    source = tmp_path / "shim.py"
    source.write_text("pass\n")
    monkeypatch.setattr(shim, "__file__", str(source))
    return source


def test_the_shim_is_started_compiled_and_still_named_by_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = shim_at(tmp_path, monkeypatch)
    compiled = py_compile.compile(str(source), invalidation_mode=BY_TIME)
    assert rundir.shim_words("/run") == [compiled, "/run", str(source)]


def test_a_shim_that_was_never_compiled_is_started_from_its_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = shim_at(tmp_path, monkeypatch)
    assert rundir.shim_words("/run") == [str(source), "/run"]


@pytest.mark.parametrize(
    "damage", ["newer source", "other size", "other python", "torn", "by hash"]
)
def test_a_compiled_shim_of_another_source_is_not_started(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = shim_at(tmp_path, monkeypatch)
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH if damage == "by hash" else BY_TIME
    py_compile.compile(str(source), invalidation_mode=mode)
    compiled = Path(importlib.util.cache_from_source(str(source)))
    status = source.stat()
    match damage:
        case "newer source":
            os.utime(source, (status.st_atime, status.st_mtime + 10))
        case "other size":
            source.write_text("pass  # longer\n")
            os.utime(source, (status.st_atime, status.st_mtime))
        case "other python":
            compiled.write_bytes(b"0000" + compiled.read_bytes()[4:])
        case "torn":
            compiled.write_bytes(compiled.read_bytes()[:10])
    assert rundir.shim_words("/run") == [str(source), "/run"]
