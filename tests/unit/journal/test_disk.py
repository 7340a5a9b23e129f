from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from hivectl.journal.disk import Disk, open_read


@pytest.fixture
def open_umask() -> object:
    old = os.umask(0)
    yield
    os.umask(old)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.usefixtures("open_umask")
def test_files_and_directories_are_private_whatever_the_umask(tmp_path: Path) -> None:
    disk = Disk()
    disk.make_dir(tmp_path / "d")
    for name, opener in (("a", disk.create), ("b", disk.open_write)):
        os.close(opener(tmp_path / "d" / name))
        assert mode_of(tmp_path / "d" / name) == 0o600
    assert mode_of(tmp_path / "d") == 0o700


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for opener in (Disk().create, Disk().open_write, open_read):
        with pytest.raises(OSError, match="symbolic"):
            opener(tmp_path / "link")
    assert (tmp_path / "real").read_text() == "x"


def test_descriptors_are_not_inherited(tmp_path: Path) -> None:
    fd = Disk().create(tmp_path / "a")
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_any_number_of_parts_is_written_in_order(tmp_path: Path) -> None:
    parts = [b"%d," % number for number in range(3000)]
    fd = Disk().create(tmp_path / "a")
    Disk().write(fd, parts)
    os.close(fd)
    assert (tmp_path / "a").read_bytes() == b"".join(parts)


def test_removing_what_is_gone_is_no_error(tmp_path: Path) -> None:
    Disk().unlink(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
