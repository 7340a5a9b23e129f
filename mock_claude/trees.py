"""Process trees that are hard to kill, for tests of those who promise to kill them all.

Invariant: every process started here ends by itself, at the latest after MAX_S seconds, so that a
failing test never leaves anything behind for ever.
"""

import ctypes
import os
import shutil
import signal
import time
from collections.abc import Callable
from typing import NamedTuple

from mock_claude import machine, scenario
from mock_claude.bash import become_plain
from mock_claude.cli import Cli
from mock_claude.machine import Json

MAX_S = 120.0
FOREVER_S = 60.0  # all hops of an endless fork together
HOP_S = 0.01
WIDE, DEEP, PANES = 200, 52, 3
PR_SET_CHILD_SUBREAPER = 36
IGNORED_BY_DEAF = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1)


class Tree(NamedTuple):
    """How long the processes live, their environment, and whether they keep our stdout."""

    seconds: float
    environment: dict[str, str]
    is_holding: bool


def _sleep(tree: Tree, environment: dict[str, str] | None = None) -> None:
    """Become `sleep`: the smallest process that ends by itself."""
    chosen = tree.environment if environment is None else environment
    os.execve("/bin/sleep", ["sleep", f"{tree.seconds:g}"], chosen)  # noqa: S606


def _fork(tree: Tree, work: Callable[[], None]) -> int:
    """Do the work in a child that never returns; its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        become_plain()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 2) if tree.is_holding else (0, 1, 2):
            os.dup2(null, fd)
        os.closerange(3, 64)
        work()
    finally:
        os._exit(0)


def _twice(tree: Tree, work: Callable[[], None]) -> None:
    """Daemonise: the parent of the worker is gone when this returns."""

    def middle() -> None:
        os.setsid()
        _fork(tree, work)

    os.waitpid(_fork(tree, middle), 0)


def _deafen() -> None:
    for number in IGNORED_BY_DEAF:
        signal.signal(number, signal.SIG_IGN)


# -- the trees, by name


def plain(tree: Tree) -> None:
    """A child."""
    _fork(tree, lambda: _sleep(tree))


def deaf(tree: Tree) -> None:
    """A child that ignores every signal it can."""

    def work() -> None:
        _deafen()
        _sleep(tree)

    _fork(tree, work)


def stopped(tree: Tree) -> None:
    """A stopped child; its parent ends it in time, since it cannot do so itself."""

    def freeze() -> None:
        os.kill(os.getpid(), signal.SIGSTOP)
        _sleep(tree)

    def guard() -> None:
        pid = _fork(tree, freeze)
        time.sleep(tree.seconds)
        os.kill(pid, signal.SIGKILL)

    _fork(tree, guard)


def setsid(tree: Tree) -> None:
    """A child in a session of its own."""

    def work() -> None:
        os.setsid()
        _sleep(tree)

    _fork(tree, work)


def deaf_setsid(tree: Tree) -> None:
    """Both."""

    def work() -> None:
        os.setsid()
        _deafen()
        _sleep(tree)

    _fork(tree, work)


def nested_subreaper(tree: Tree) -> None:
    """A child that adopts orphans itself, with an orphan below it (Linux)."""

    def work() -> None:
        os.setsid()
        if hasattr(os, "pidfd_open"):
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        _twice(tree, lambda: _sleep(tree))
        _sleep(tree)

    _fork(tree, work)


def double_fork(tree: Tree) -> None:
    """A daemon."""
    _twice(tree, lambda: _sleep(tree))


def double_fork_env_i(tree: Tree) -> None:
    """A daemon with an empty environment."""
    _twice(tree, lambda: _sleep(tree, {}))


def _hop(deadline: float, *, new_session: bool) -> None:
    while True:
        if new_session and os.getpid() != os.getsid(0):
            os.setsid()
        if os.fork():
            os._exit(0)
        if machine.now() >= deadline:
            os._exit(0)
        time.sleep(HOP_S)


def fork_forever(tree: Tree) -> None:
    """A process that is replaced by its child a hundred times a second."""
    deadline = machine.now() + min(tree.seconds, FOREVER_S)
    pid = _fork(tree, lambda: _hop(deadline, new_session=False))
    os.waitpid(pid, 0)


def fork_forever_setsid(tree: Tree) -> None:
    """The same, each in a session of its own."""
    deadline = machine.now() + min(tree.seconds, FOREVER_S)
    pid = _fork(tree, lambda: _hop(deadline, new_session=True))
    os.waitpid(pid, 0)


def wide(tree: Tree) -> None:
    """Two hundred children."""
    for _number in range(WIDE):
        _fork(tree, lambda: _sleep(tree))


def deep(tree: Tree) -> None:
    """A chain of fifty-two, each in a session of its own."""

    def level(left: int) -> None:
        os.setsid()
        if left > 1:
            _fork(tree, lambda: level(left - 1))
        _sleep(tree)

    _fork(tree, lambda: level(DEEP))


def tmux(tree: Tree) -> None:
    """A server that daemonised, with panes in sessions of their own."""

    def pane() -> None:
        os.setsid()
        _sleep(tree)

    def server() -> None:
        for _number in range(PANES):
            _fork(tree, pane)
        _sleep(tree)

    _twice(tree, server)


def userns(tree: Tree) -> None:
    """A child in user and pid namespaces of its own, where the system allows it."""
    unshare = shutil.which("unshare")
    if unshare is None:
        machine.complain("mock_claude: spawn userns: there is no `unshare` here")
        return
    argv = ["unshare", "-Urpf", "/bin/sleep", f"{tree.seconds:g}"]
    _fork(tree, lambda: os.execve(unshare, argv, tree.environment))  # noqa: S606


def mcp(tree: Tree) -> None:
    """A server on our pipe that stays when we are gone."""
    read_end, write_end = os.pipe()
    command = f"cat >/dev/null; exec sleep {tree.seconds:g}"
    argv = ["/bin/sh", "-c", command]
    pid = os.fork()
    if not pid:
        try:
            become_plain()
            os.dup2(read_end, 0)
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 1)
            os.dup2(null, 2)
            os.closerange(3, 64)
            os.execve("/bin/sh", argv, tree.environment)  # noqa: S606
        finally:
            os._exit(127)
    os.close(read_end)
    os.set_inheritable(write_end, False)  # noqa: FBT003 - it stays open until we end


TREES: dict[str, Callable[[Tree], None]] = {
    tree.__name__: tree
    for tree in (
        plain,
        deaf,
        stopped,
        setsid,
        deaf_setsid,
        nested_subreaper,
        double_fork,
        double_fork_env_i,
        fork_forever,
        fork_forever_setsid,
        wide,
        deep,
        tmux,
        userns,
        mcp,
    )
}


def spawn(cli: Cli, given: object) -> None:
    """Start the named trees. Raises ScenarioError for an unknown name."""
    for item in given if isinstance(given, list) else [given]:
        fields: Json = item if isinstance(item, dict) else {"name": item}
        start = TREES.get(str(fields.get("name")))
        if start is None:
            known = ", ".join(TREES)
            raise scenario.ScenarioError(f"unknown tree '{fields.get('name')}'; known: {known}")
        seconds = min(float(fields.get("seconds", MAX_S / 2)), MAX_S)
        environment = machine.child_env(cli.session.id)
        start(Tree(seconds, environment, bool(fields.get("hold"))))
