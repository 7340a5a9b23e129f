"""Row S07 on whole daemons: what somebody else put where the socket and the lock belong is refused, and left alone."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hivectl.model.errors import ExitCode
from tests.harness.daemon import Daemon
from tests.harness.waiting import eventually

OTHER = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@pytest.fixture
def daemon(short_path: Path) -> Iterator[Daemon]:
    made = Daemon(short_path)
    yield made
    made.close()


def bound(path: Path, *, owner: int | None = OTHER, answers: bool = True) -> socket.socket:
    """A socket at `path` that may be somebody else's."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.settimeout(0)
    listener.bind(str(path))
    if answers:
        listener.listen(8)
    path.chmod(0o666)
    if owner is not None:
        os.chown(path, owner, owner)
    return listener


def prepared(daemon: Daemon) -> Path:
    """The place of the socket, in directories as the daemon makes them."""
    for name in ("state", "run"):
        (daemon.home / name).mkdir(mode=0o700)
    return daemon.socket


def refused(daemon: Daemon) -> str:
    """What a start says that comes to nothing."""
    assert daemon.spawn().wait(30) == ExitCode.USAGE
    return daemon.output


def assert_met_nobody(listener: socket.socket) -> None:
    with pytest.raises(BlockingIOError):
        listener.accept()


@needs_root
@pytest.mark.parametrize("answers", [True, False])
def test_s07_a_planted_socket_of_another_user_refuses_the_start(
    daemon: Daemon, answers: bool
) -> None:
    path = prepared(daemon)
    with bound(path, answers=answers) as listener:
        planted = path.lstat()
        assert "belongs to another user" in refused(daemon)
        assert path.lstat() == planted
        if answers:
            assert_met_nobody(listener)
        assert [item.name for item in path.parent.iterdir()] == [path.name]
    path.unlink()
    daemon.start()


@pytest.mark.parametrize("which", ["link", "file", "folder"])
def test_s07_nor_does_it_start_over_what_is_no_socket(daemon: Daemon, which: str) -> None:
    path = prepared(daemon)
    elsewhere = daemon.root / "elsewhere.sock"
    with bound(elsewhere, owner=None) as listener:
        plant: dict[str, Callable[[], object]] = {
            "link": lambda: path.symlink_to(elsewhere),
            "file": lambda: path.write_text("mine"),
            "folder": path.mkdir,
        }
        plant[which]()
        assert "what stands there is no socket" in refused(daemon)
        assert_met_nobody(listener)
    assert os.path.lexists(path)


@needs_root
def test_s07_a_socket_that_takes_the_place_of_a_living_one_is_left_alone_and_told_of(
    daemon: Daemon,
) -> None:
    daemon.start()
    daemon.project()
    running = daemon.execute({"hang": "init"})
    daemon.wait_state(running, "running")
    aside = daemon.socket.with_name("aside")
    foreign = bound(aside)
    aside.rename(daemon.socket)
    eventually(lambda: "the socket cannot be bound again" in daemon.log, what="the daemon finds it")
    assert "belongs to another user" in daemon.log
    assert daemon.socket.lstat().st_uid == OTHER
    assert_met_nobody(foreign)
    assert daemon.is_running()
    foreign.close()
    daemon.socket.unlink()
    eventually(daemon.is_answering, what="it is bound again")
    assert daemon.get(running)["state"] == "running"


@needs_root
@pytest.mark.parametrize("is_held", [True, False])
def test_s07_a_planted_lock_of_another_user_refuses_the_start(
    daemon: Daemon, is_held: bool
) -> None:
    prepared(daemon)
    lock = daemon.home / "state" / "daemon.lock"
    with lock.open("w") as file:
        file.write("1\n")
        file.flush()
        os.chown(lock, OTHER, OTHER)
        lock.chmod(0o666)
        if is_held:
            fcntl.flock(file, fcntl.LOCK_EX)
        said = refused(daemon)
    assert "belongs to another user" in said
    assert "already runs here" not in said
    assert lock.read_text() == "1\n"
    lock.unlink()
    daemon.start()


@pytest.mark.parametrize("which", ["link", "folder", "fifo"])
def test_s07_nor_does_it_start_with_a_lock_that_is_no_file(daemon: Daemon, which: str) -> None:
    prepared(daemon)
    lock = daemon.home / "state" / "daemon.lock"
    victim = daemon.root / "victim"
    victim.write_text("mine")
    plant: dict[str, Callable[[], object]] = {
        "link": lambda: lock.symlink_to(victim),
        "folder": lock.mkdir,
        "fifo": lambda: os.mkfifo(lock),
    }
    plant[which]()
    assert "the lock" in refused(daemon)
    assert victim.read_text() == "mine"


@needs_root
@pytest.mark.parametrize("name", ["run", "state"])
def test_s07_a_directory_of_another_user_refuses_the_start(daemon: Daemon, name: str) -> None:
    prepared(daemon)
    os.chown(daemon.home / name, OTHER, OTHER)
    assert f"it belongs to user {OTHER}" in refused(daemon)
    assert list((daemon.home / name).iterdir()) == []
