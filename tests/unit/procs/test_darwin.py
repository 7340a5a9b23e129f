"""What is read of macOS's process table, from bytes laid out as its headers say; never run on a Mac."""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys

import pytest

from hivectl.procs import shim

ENDIAN = "<" if sys.byteorder == "little" else ">"


def bsdinfo(*, status: int = 2, parent: int = 1, uid: int | None = None, group: int = 50, start: tuple[int, int] = (1700, 25)) -> bytes:  # fmt: skip
    """struct proc_bsdinfo of <sys/proc_info.h>."""
    uid = os.getuid() if uid is None else uid
    head = struct.pack(ENDIAN + "12I", 0, status, 0, 50, parent, uid, 20, uid, 20, uid, 20, 0)
    names = b"claude".ljust(16, b"\0") + b"claude".ljust(32, b"\0")
    tail = struct.pack(ENDIAN + "5Ii2Q", 7, group, 0, 0, 0, 0, *start)
    return head + names + tail


def procargs(argv: list[bytes], env: list[bytes]) -> bytes:
    count = len(argv).to_bytes(4, sys.byteorder)
    return count + b"/usr/bin/x\0\0\0\0" + b"".join(item + b"\0" for item in [*argv, *env])


class Watch:
    """A kqueue, as far as it is used."""

    def __init__(self) -> None:
        self.read, self.write = os.pipe()
        self.is_closed = False

    def fileno(self) -> int:
        return self.read

    def close(self) -> None:
        os.close(self.read)
        os.close(self.write)
        self.is_closed = True


class FakeLibc:
    """The calls of macOS, answered from a table."""

    def __init__(self) -> None:
        self.processes: dict[int, bytes] = {}
        self.args: dict[int, bytes] = {}
        self.watches: list[Watch] = []

    def sysctl_by_name(self, name: bytes, size: int) -> bytes:
        assert name == b"kern.bootsessionuuid"
        return b"4C2B-UUID\0"

    def procargs(self, pid: int, size: int) -> bytes:
        if pid not in self.args:
            raise OSError(errno.EINVAL, "Invalid argument")
        return self.args[pid]

    def all_pids(self) -> list[int]:
        return [0, *self.processes]

    def bsdinfo(self, pid: int, size: int) -> bytes:
        return self.processes.get(pid, b"")

    def peer_uid(self, fd: int) -> int:
        return 501

    def watch_exit(self, pid: int) -> Watch | None:
        if pid not in self.processes:
            return None
        self.watches.append(Watch())
        return self.watches[-1]


@pytest.fixture
def libc() -> FakeLibc:
    return FakeLibc()


@pytest.fixture
def mac(libc: FakeLibc) -> shim.Darwin:
    return shim.Darwin(libc)  # type: ignore[arg-type]  # the seam


def test_the_struct_has_the_size_the_kernel_fills() -> None:
    assert len(bsdinfo()) == shim.Darwin.BSDINFO_BYTES == 136


def test_a_process_is_read_from_the_kernels_struct(mac: shim.Darwin, libc: FakeLibc) -> None:
    libc.processes = {50: bsdinfo(parent=7, group=49, start=(1_700_000_000, 25)), 51: bsdinfo(status=5, uid=0)}  # fmt: skip
    entry = mac.look(50)
    assert (entry.parent, entry.group, entry.start) == (7, 49, "1700000000.000025")
    assert (entry.is_dead, entry.is_ours) == (False, True)
    assert (mac.look(51).is_dead, mac.look(51).is_ours) == (True, os.getuid() == 0)
    with pytest.raises(ProcessLookupError):
        mac.look(52)
    assert (mac.start_of(50), mac.start_of(52)) == ("1700000000.000025", "")
    assert mac.pids() == [50, 51]
    assert list(mac.table()) == [50]
    libc.processes[53] = bsdinfo(parent=50)
    assert mac.children(50) == [53]


def test_two_starts_are_told_apart_by_a_microsecond_and_ordered(mac: shim.Darwin, libc: FakeLibc) -> None:  # fmt: skip
    libc.processes = {1: bsdinfo(start=(5, 9)), 2: bsdinfo(start=(5, 10)), 3: bsdinfo(start=(10, 0))}  # fmt: skip
    starts = [mac.start_of(pid) for pid in (1, 2, 3)]
    assert len(set(starts)) == 3
    assert sorted(starts, key=float) == starts


def test_arguments_and_environment_are_told_apart(mac: shim.Darwin, libc: FakeLibc) -> None:
    libc.processes = {50: bsdinfo(), 51: bsdinfo(uid=12345)}
    libc.args[50] = procargs([b"x", b"--a"], [b"A=1", b"HIVECTL_EXECUTION=x_1"])
    assert mac.arguments(50) == [b"x", b"--a"]
    assert mac.environment(50)[:2] == [b"A=1", b"HIVECTL_EXECUTION=x_1"]


def test_another_users_environment_is_denied_and_a_gone_process_is_gone(
    mac: shim.Darwin, libc: FakeLibc
) -> None:
    libc.processes = {50: bsdinfo(), 51: bsdinfo(uid=12345)}
    with pytest.raises(PermissionError):
        mac.environment(51)
    with pytest.raises(ProcessLookupError):
        mac.environment(52)
    with pytest.raises(OSError, match="Invalid argument"):
        mac.environment(50)


def test_a_process_is_held_by_its_start_with_a_watch_for_its_end(mac: shim.Darwin, libc: FakeLibc) -> None:  # fmt: skip
    libc.processes = {50: bsdinfo(start=(5, 9))}
    held = mac.hold(50, "5.000009")
    assert held is not None
    assert held.fd == libc.watches[0].read
    assert not held.has_ended()
    libc.processes[50] = bsdinfo(start=(6, 0))
    assert held.has_ended(), "another process has its number now"
    with pytest.raises(ProcessLookupError):
        held.signal(9)
    held.close()
    assert libc.watches[0].is_closed
    assert mac.hold(50, "5.000009") is None
    assert libc.watches[1].is_closed
    assert mac.hold(51, "1") is None


def test_the_rest_is_asked_of_the_kernel(mac: shim.Darwin) -> None:
    assert mac.boot_id() == "4C2B-UUID"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert mac.peer_uid(ours) == 501
    assert mac.reach(3, "/a/b/sock") == "/a/b/sock"
    assert isinstance(mac.family(50, "x_1"), shim.Clan)
    assert (mac.can_splice, mac.inherits, mac.spawns_sessions) == (False, False, False)


def test_a_shim_does_as_whoever_starts_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shim, "SYSTEM", shim.SYSTEM)
    before = shim.SYSTEM
    shim.use_system("")
    shim.use_system(before.name)
    assert shim.SYSTEM is before
    shim.use_system("procfs")
    assert shim.SYSTEM.name == "procfs"


def test_a_clan_forgets_a_session_whose_number_may_be_anothers(monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    table: dict[int, shim.Entry] = {}

    class Table(shim.Procfs):
        def table(self) -> dict[int, shim.Entry]:
            return table

        def environment(self, pid: int) -> list[bytes]:
            return [b"HIVECTL_EXECUTION=x_1"] if pid == 90 else []

    monkeypatch.setattr(shim, "SYSTEM", Table())
    clan = shim.Clan(50, "x_1")

    def entry(parent: int, session: int, start: str) -> shim.Entry:
        return shim.Entry(parent, session, session, start, is_dead=False, is_ours=True)

    table |= {50: entry(40, 50, "1"), 51: entry(50, 50, "2"), 60: entry(51, 60, "3"), 70: entry(1, 70, "1")}  # fmt: skip
    clan._note(0.0)
    assert set(clan._known) == {51, 60}, "by the session, and below it"
    clan.is_ended = True
    del table[50]
    table[52] = entry(1, 50, "4")
    clan._note(1.0)
    assert set(clan._known) == {51, 52, 60}, (
        "somebody of the session lives: it is still the child's"
    )
    del table[51], table[52]
    clan._note(2.0)
    table[53] = entry(1, 50, "9")
    table[60] = entry(1, 60, "8")
    table[90] = entry(1, 90, "9")
    clan._note(3.0)
    assert set(clan._known) == {90}, (
        "a stranger leads it now, another has 60; the mark is found anywhere"
    )
