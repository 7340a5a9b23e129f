"""S16: programs that a repository makes git run (filters) are nobody's persons, and none of them outlives git."""

from __future__ import annotations

import os
import sys
import textwrap
from pathlib import Path

import pytest

from hivectl.engine.git import Git
from hivectl.kit.clock import SystemClock
from hivectl.procs import shim
from hivectl.procs.host import LocalHost
from hivectl.server import peers
from tests.harness.repo import Repo
from tests.harness.waiting import eventually

pytestmark = pytest.mark.skipif(not shim.SYSTEM.inherits, reason="orphans cannot be had here")

EVIL = textwrap.dedent(
    """
    #!{python} -IS
    import os, sys, time
    sys.stdout.buffer.write(sys.stdin.buffer.read())
    sys.stdout.flush()
    if not os.fork():
        os.setsid()
        if os.fork():
            os._exit(0)
        null = os.open("/dev/null", os.O_RDWR)
        for fd in range(3):
            os.dup2(null, fd)
        program = "import os, time; open({out!r}, 'w').write(str(os.getpid())); time.sleep(1000)"
        os.execve({python!r}, [{python!r}, "-IS", "-c", program], {{}})
    os.wait()
    time.sleep({stays})
    """
).lstrip()
"""A filter that leaves its parents, its session and its environment behind."""


class Trap:
    """A repository whose filter leaves something behind."""

    def __init__(self, place: Path, *, stays: float) -> None:
        self.repo = Repo(place / "repo")
        self.out = place / "evil.pid"
        evil = place / "evil"
        evil.write_text(EVIL.format(python=sys.executable, out=str(self.out), stays=stays))
        evil.chmod(0o755)
        self.repo.commit({".gitattributes": "*.txt filter=x\n", "b.txt": "two\n"})
        self.repo.git("config", "filter.x.smudge", str(evil))
        self.tree = place / "tree"

    def pid(self) -> int | None:
        """The process that was left, once it is there."""
        text = self.out.read_text() if self.out.exists() else ""
        return int(text) if text else None


def contained(place: Path) -> Git:
    host = LocalHost(place / "runs", clock=SystemClock())
    return Git({"PATH": os.environ["PATH"], "HOME": "/nonexistent"}, host.contain)


def is_alive(pid: int) -> bool:
    return bool(shim.SYSTEM.start_of(pid)) and not shim.SYSTEM.look(pid).is_dead


async def test_s16_what_a_filter_leaves_is_gone_when_git_has_ended(tmp_path: Path) -> None:
    trap = Trap(tmp_path, stays=1.0)
    said = await contained(tmp_path).must(
        trap.repo.path, "worktree", "add", "--quiet", "--detach", str(trap.tree), "HEAD"
    )
    assert said.code == 0
    assert (trap.tree / "b.txt").read_text() == "two\n"
    pid = trap.pid()
    assert pid is not None, "it ran"
    assert not is_alive(pid)


async def test_s16_while_it_runs_it_counts_as_an_execution(tmp_path: Path) -> None:
    import asyncio

    trap = Trap(tmp_path, stays=30.0)
    words = ("worktree", "add", "--quiet", "--detach", str(trap.tree), "HEAD")
    running = asyncio.create_task(contained(tmp_path).must(trap.repo.path, *words))
    pid = await asyncio.to_thread(eventually, trap.pid, within_s=20)

    def of_pid(other: int) -> str | None:
        """As the daemon's composition has it."""
        if other == os.getpid():
            return None  # here it would hide what is looked at
        words = shim.SYSTEM.arguments(other)
        return "unknown" if any(word.endswith(b"/procs/shim.py") for word in words) else None

    ancestry = peers.Ancestry(kin=shim.SYSTEM, of_pid=of_pid)
    assert shim.SYSTEM.environment(pid)[:1] in ([], [b""]), "it has emptied its environment"
    await asyncio.to_thread(
        eventually, lambda: shim.SYSTEM.look(pid).session != os.getsid(0), within_s=5
    )
    assert peers.execution_of_process(pid, ancestry) == peers.UNKNOWN_EXECUTION
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    eventually(
        lambda: not is_alive(pid), within_s=5, what="the cancelled git leaves nothing either"
    )


async def test_a_contained_program_ends_as_it_would_alone(tmp_path: Path) -> None:
    repo = Repo(tmp_path / "repo")
    alone = Git({"PATH": os.environ["PATH"], "HOME": "/nonexistent"})
    for words in (("status", "--porcelain"), ("merge", "nowhere"), ("diff", "--no-such-flag")):
        expected = await alone.ask(repo.path, *words)
        assert await contained(tmp_path).ask(repo.path, *words) == expected
