import os
import resource
from pathlib import Path

import pytest

from hivectl import config
from hivectl.daemon import lifecycle
from hivectl.kit import files
from hivectl.model.errors import HiveError


def places(home: Path) -> config.Places:
    return config.find_places({"HIVECTL_HOME": str(home), "HOME": str(home)})


def test_s33_missing_places_are_made_private(tmp_path: Path) -> None:
    found = places(tmp_path / "new/deep")
    lifecycle.secure_places(found)
    assert {oct(path.stat().st_mode & 0o777) for path in (found.state, found.runtime)} == {"0o700"}


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701, 0o777])
@pytest.mark.parametrize("which", ["state", "runtime"])
def test_s33_loose_directory_refuses_the_start_and_names_the_remedy(
    tmp_path: Path, mode: int, which: str
) -> None:
    found = places(tmp_path)
    path: Path = getattr(found, which)
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(HiveError, match=f"mode {mode:04o}") as caught:
        lifecycle.secure_places(found)
    assert caught.value.code == "CONFIG_INVALID"
    assert caught.value.hint == f"Run `chmod 700 {path}` and start again."


def test_s33_link_or_file_in_the_place_of_a_directory_is_refused(tmp_path: Path) -> None:
    found = places(tmp_path)
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    found.state.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(HiveError, match="not a directory"):
        lifecycle.secure_places(found)
    found.state.unlink()
    found.state.write_text("")
    with pytest.raises(HiveError, match="not a directory"):
        lifecycle.secure_places(found)


def test_s33_parent_where_others_may_write_is_refused_unless_sticky(tmp_path: Path) -> None:
    home = tmp_path / "shared"
    home.mkdir()
    home.chmod(0o777)
    with pytest.raises(HiveError, match="others can replace it"):
        lifecycle.secure_places(places(home))
    home.chmod(0o1777)
    lifecycle.secure_places(places(home))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_s33_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    found = places(tmp_path)
    found.state.mkdir(mode=0o700)
    os.chown(found.state, 12345, 12345)
    with pytest.raises(HiveError, match="belongs to user 12345"):
        lifecycle.secure_places(found)


def test_s33_place_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HiveError, match="cannot be used") as caught:
        lifecycle.secure_places(places(tmp_path / "file/below"))
    assert caught.value.code == "CONFIG_INVALID"


def test_s08_held_lock_tells_the_holder(tmp_path: Path) -> None:
    found = places(tmp_path)
    lifecycle.secure_places(found)
    fd = lifecycle.take_lock(found)
    with pytest.raises(lifecycle.AlreadyRunning) as caught:
        lifecycle.take_lock(found)
    assert caught.value.args[0] == str(os.getpid())
    os.close(fd)
    os.close(lifecycle.take_lock(found))


def test_s08_stale_lock_file_of_any_content_is_taken(tmp_path: Path) -> None:
    found = places(tmp_path)
    lifecycle.secure_places(found)
    found.lock.write_text("1\n")
    fd = lifecycle.take_lock(found)
    assert found.lock.read_text() == f"{os.getpid()}\n"
    assert files.is_locked(found.lock)
    os.close(fd)


def test_descriptor_limit_is_never_lowered() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert lifecycle.raise_fd_limit() >= before[0]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def settings(tmp_path: Path, **flags: str) -> config.Settings:
    named = {key.replace("__", "."): value for key, value in flags.items()}
    return config.load(named, {"HIVECTL_HOME": str(tmp_path), "HOME": str(tmp_path)})


def test_reload_takes_only_what_may_change_while_running(tmp_path: Path) -> None:
    old = settings(tmp_path)
    new = settings(tmp_path, execution__max_live="9", limits__connections="7")
    merged, now, later = lifecycle.reloaded(old, new)
    assert (now, later) == (["execution.max_live"], ["limits.connections"])
    assert merged["execution.max_live"] == 9
    assert merged.origins["execution.max_live"] == "flag"
    assert merged["limits.connections"] == old["limits.connections"]


def test_reload_without_a_change_changes_nothing(tmp_path: Path) -> None:
    merged, now, later = lifecycle.reloaded(settings(tmp_path), settings(tmp_path))
    assert (merged.values, now, later) == (settings(tmp_path).values, [], [])


def test_s10_token_is_not_shown_by_the_control_it_travels_in() -> None:
    fields = lifecycle.Control.__dataclass_fields__
    assert fields["token"].repr is False


def test_long_home_keeps_its_sockets_in_a_short_private_place_of_its_own(tmp_path: Path) -> None:
    def found(name: str, **more: str) -> config.Places:
        return config.find_places({"HIVECTL_HOME": str(tmp_path / name), "HOME": "/home/a"} | more)

    long, other = found("a" * 90), found("b" * 90)
    assert long.state == tmp_path / ("a" * 90) / "state"
    assert long.runtime.parent == Path("/home/a/.local/state/hivectl")
    assert len(os.fsencode(long.socket)) <= config.SOCKET_PATH_BYTES
    assert long.runtime == found("a" * 90).runtime != other.runtime
    assert found("c" * 90, XDG_RUNTIME_DIR=str(tmp_path)).runtime.parent == tmp_path / "hivectl"
    assert found("short", HIVECTL_HOME="/h").runtime == Path("/h/run")
