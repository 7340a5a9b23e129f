"""Run inside a mount namespace of its own: `ROOT MOUNT CASE`. A small tmpfs at MOUNT is the full disk."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, sys.argv[1])

import pytest

from hivectl.model.errors import HiveError
from hivectl.ports import StopMode, StopReason
from hivectl.procs import shim
from tests.integration.procs.worlds import LocalWorld, eventually, launch, living

PLACE = Path(sys.argv[2])
LINES = 20_001
COUNT = (
    "import os\n"
    f"for n in range({LINES}):\n"
    "  line = b'%0100d\\n' % n\n"
    "  while line: line = line[os.write(1, line):]"
)


def fill(keep: int) -> None:
    """Leave `keep` bytes of room."""
    found = os.statvfs(PLACE)
    fd = os.open(PLACE / "ballast", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"b" * max(0, found.f_bavail * found.f_frsize - keep))
    os.close(fd)


def free() -> None:
    (PLACE / "ballast").unlink()


async def pauses(local: LocalWorld) -> None:
    """Output waits for room and is then complete."""
    fill(256 << 10)
    handle = await local.host.start("pr_a", launch("-c", COUNT))
    await eventually(lambda: handle.is_stalled)
    await asyncio.sleep(1.0)  # it stays stalled, whatever is tried meanwhile
    assert handle.exit is None
    assert handle.is_stalled
    size = len(handle.read("out", 0, 1 << 30))
    free()
    began = time.monotonic()
    await eventually(lambda: len(handle.read("out", 0, 1 << 30)) > size)
    assert time.monotonic() - began < 1
    ended = await handle.wait_exit()
    assert ended.code == 0
    assert not ended.out_unflushed
    assert not handle.is_stalled
    assert handle.read("out", 0, 1 << 30) == b"".join(b"%0100d\n" % n for n in range(LINES))


async def kills(local: LocalWorld) -> None:
    """A kill works on a full disk; what was in the pipe is still kept when there is room again."""
    fill(256 << 10)
    made = launch("-c", COUNT)
    handle = await local.host.start("pr_a", made)
    await eventually(lambda: handle.is_stalled)
    spooled = len(handle.read("out", 0, 1 << 30))
    await handle.stop(StopMode.KILL, StopReason.USER)
    await eventually(lambda: not living(made.mark))
    assert handle.exit is None
    free()
    ended = await handle.wait_exit()
    assert ended.signal == 9
    assert not ended.out_unflushed
    data = handle.read("out", 0, 1 << 30)
    whole = b"".join(b"%0100d\n" % n for n in range(LINES))
    assert len(data) > spooled  # stalled means that there was output in the pipe
    assert whole.startswith(data)


async def survives(local: LocalWorld) -> None:
    """The exit file is written on a disk with no room at all."""
    handle = await local.host.start("pr_a", local.launch())
    await eventually(lambda: handle.read("out", 0, 10))
    fill(0)
    await handle.write("f", b"quit 5\n")
    ended = await handle.wait_exit()
    assert (ended.code, ended.shim_lost) == (5, False)


async def lost(local: LocalWorld) -> None:
    """So it is by the daemon, in a lost shim's place."""
    handle = await local.host.start("pr_a", local.launch())
    await eventually(lambda: handle.read("out", 0, 10))
    fill(0)
    found = shim.unpack((local.runs / "pr_a" / shim.SHIM).read_bytes())
    os.kill(int(found["shim"]), 9)
    await handle.write("f", b"quit 5\n")
    ended = await handle.wait_exit()
    assert (ended.code, ended.shim_lost) == (5, True)


async def refuses(local: LocalWorld) -> None:
    """A start on a full disk is refused, and possible again when there is room."""
    fill(0)
    with pytest.raises(HiveError) as caught:
        await local.host.start("pr_a", local.launch())
    assert caught.value.code == "STORAGE_FULL"
    assert await local.host.adopt("pr_a") is None
    free()
    handle = await local.host.start("pr_a", local.launch())
    await handle.write("f", b"quit 0\n")
    assert (await handle.wait_exit()).code == 0


CASES = {case.__name__: case for case in (pauses, kills, survives, lost, refuses)}


async def main() -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", PLACE], check=True)
    local = LocalWorld(PLACE / "runs")
    try:
        await CASES[sys.argv[3]](local)
    finally:
        await local.end()
    print("passed")


if __name__ == "__main__":
    asyncio.run(main())
