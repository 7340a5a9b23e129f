import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hivectl.daemon.notify import Notifier, handed_over_fds


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    name = str(tmp_path / "n") if request.param == "path" else f"\0hivectl-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(name)
        receiver.settimeout(5)
        yield receiver, name.replace("\0", "@")


def test_ready_names_status_and_pid(manager: tuple[socket.socket, str]) -> None:
    receiver, address = manager
    Notifier({"NOTIFY_SOCKET": address}).ready("3 live\nWATCHDOG=trigger")
    text = receiver.recv(1000).decode()
    assert text.splitlines() == [
        "READY=1",
        "STATUS=3 live WATCHDOG=trigger",
        f"MAINPID={os.getpid()}",
    ]


def test_without_a_manager_nothing_happens() -> None:
    notifier = Notifier({})
    notifier.ready("x")
    assert notifier.watchdog_s is None


def test_vanished_manager_disturbs_nobody(tmp_path: Path) -> None:
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).alive("x")


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "30000000"}, 30.0),
        (
            {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())},
            30.0,
        ),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "soon"}, None),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "30000000"}, None),
    ],
)
def test_watchdog_counts_only_when_it_is_ours(
    environment: dict[str, str], seconds: float | None
) -> None:
    assert Notifier(environment).watchdog_s == seconds


def test_sockets_meant_for_another_process_are_left_alone() -> None:
    assert handed_over_fds({"LISTEN_FDS": "1", "LISTEN_PID": "1"}) == ()
    assert handed_over_fds({"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())}) == ()
    assert handed_over_fds({}) == ()


def test_handed_over_sockets_are_not_inherited_further() -> None:
    environment = {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
    if handed := [fd for fd in (3,) if _is_open(fd)]:
        before = fcntl.fcntl(handed[0], fcntl.F_GETFD)
        assert handed_over_fds(environment) == (3,)
        fcntl.fcntl(handed[0], fcntl.F_SETFD, before)
        return
    fd = os.open("/dev/null", os.O_RDONLY)
    os.dup2(fd, 3, inheritable=True)
    try:
        assert handed_over_fds(environment) == (3,)
        assert fcntl.fcntl(3, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    finally:
        os.close(3)
        if fd != 3:
            os.close(fd)


def _is_open(fd: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_GETFD)
    except OSError:
        return False
    return True
