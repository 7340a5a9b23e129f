"""Run in a process of its own: it must be the parent of orphans (a subreaper, as process 1 is)."""

import subprocess
import sys
import textwrap

import pytest

PROGRAM = """
import asyncio, ctypes, os, subprocess, sys, time
from hivectl.daemon.reaper import Reaper

ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER

def zombies():
    mine = subprocess.run(["ps", "-o", "stat=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return sum(line.startswith("Z") for line in mine.stdout.split("\\n"))

async def until(condition):
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)

async def main():
    reaper = Reaper(grace_s=0.2)
    reaper.start()
    own = subprocess.Popen(["sh", "-c", "exit 7"])
    orphans = "for i in 1 2 3; do (sh -c 'sleep 0.1; exit 3' &) ; done"
    child = await asyncio.create_subprocess_exec("sh", "-c", orphans)
    assert await child.wait() == 0
{body}
    reaper.stop()

asyncio.run(main())
print("done")
"""


def run(body: str) -> str:
    program = PROGRAM.replace("{body}", textwrap.indent(textwrap.dedent(body), "    "))
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="process 1 of a container is Linux")
def test_orphans_are_reaped_after_the_grace() -> None:
    out = run("""
        await until(lambda: reaper.reaped >= 3)
        own.wait()
        await until(lambda: zombies() == 0)
    """)
    assert out == "done\n"


@pytest.mark.skipif(sys.platform != "linux", reason="process 1 of a container is Linux")
def test_exit_code_stays_with_who_asks_for_it_in_time() -> None:
    out = run("""
        assert own.wait() == 7
        codes = []
        for _ in range(20):
            child = await asyncio.create_subprocess_exec("sh", "-c", "exit 5")
            codes.append(await child.wait())
        assert codes == [5] * 20
    """)
    assert out == "done\n"
