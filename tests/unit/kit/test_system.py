"""What the daemon asks of the system: on Linux for true, of macOS with the bytes its headers describe."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import struct
import sys
from pathlib import Path

import pytest

from hivectl.kit import system

linux = pytest.mark.skipif(sys.platform != "linux", reason="asks this machine's kernel")


class MacSocket:
    """A socket whose options answer as <sys/un.h> and <sys/ucred.h> say."""

    def getsockopt(self, level: int, name: int, size: int) -> bytes:
        assert level == 0
        if name == 0x002:
            return struct.pack("i", 4711)[:size]
        assert (name, size) == (0x001, 76)
        return struct.pack("IIh", 0, 501, 1).ljust(size, b"\0")


def test_the_peer_of_a_socket_on_macos_is_read_from_its_two_options() -> None:
    assert system.Darwin().credentials(MacSocket()) == (4711, 501)  # type: ignore[arg-type]


def test_macos_holds_no_peer_and_watches_no_names(tmp_path: Path) -> None:
    mac = system.Darwin()
    assert mac.hold_peer(MacSocket()) == -1  # type: ignore[arg-type]
    assert mac.watch_names(tmp_path) == -1
    assert mac.watches_trees


def test_a_file_is_synced_by_the_full_sync_of_macos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(fcntl, "fcntl", lambda fd, command: asked.append((fd, command)))
    system.Darwin().data_sync(7)
    assert asked == [(7, 51)]


@linux
def test_the_peer_of_a_socket_is_this_process() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert system.SYSTEM.credentials(ours) == (os.getpid(), os.getuid())
        fd = system.SYSTEM.hold_peer(ours)
        if fd >= 0:
            assert select.select([fd], [], [], 0)[0] == []
            os.close(fd)


@linux
def test_a_name_that_leaves_a_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "name").touch()
    fd = system.SYSTEM.watch_names(tmp_path)
    try:
        assert select.select([fd], [], [], 0)[0] == []
        (tmp_path / "name").unlink()
        assert select.select([fd], [], [], 5)[0] == [fd]
    finally:
        os.close(fd)
    assert system.SYSTEM.watch_names(tmp_path / "nowhere") == -1


@linux
def test_the_boot_has_a_name() -> None:
    assert len(system.SYSTEM.boot_id()) == 36
