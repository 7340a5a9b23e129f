"""What macOS promises, with its ways tried here: reading and writing instead of splice, no subreaper, no pidfd.

Only the process table is this machine's (`shim.Procfs`); `shim.Darwin` reads another, and does the rest alike.
`test_conformance.py` holds the host to its other promises in both ways.
"""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from hivectl.ports import StopMode, StopReason
from tests.integration.procs.hostile import TREES
from tests.integration.procs.test_hostile_trees import holders, many_rounds
from tests.integration.procs.worlds import LocalWorld, eventually, launch, living, output, record

ESCAPE_AT_ONCE = {"daemon_clean", "subreaper"}
"""They leave their parents and their environment before anybody has looked."""
TOO_QUICK = {"hop", "hop_setsid"}
"""A new process thousands of times a second is gone whenever it is looked at, where orphans do not come to the shim.
(And their zombies, which go to a pid 1 that may be slow to reap, would take all pids of the machine.)"""


@pytest.mark.parametrize("tree", sorted(TREES.keys() - ESCAPE_AT_ONCE - TOO_QUICK - {"stay"}))
async def test_no_descendant_that_keeps_its_environment_survives_a_kill(
    mac: LocalWorld, tree: str, tmp_path: Path
) -> None:
    await many_rounds(mac, tree, tmp_path / "held", 2, 5.0, 5.0)


CLEAN_LATER = """
import os, sys, time
os.set_inheritable(os.open(sys.argv[1], os.O_RDONLY), True)
if not os.fork():
    os.setsid()
    if os.fork():
        os._exit(0)
    time.sleep(2.5)
    os.execve(sys.executable, [sys.executable, "-c", "import time; time.sleep(1000)"], {})
os.wait()
print("left", flush=True)
time.sleep(1000)
"""


async def test_who_was_seen_once_is_found_wherever_it_goes(mac: LocalWorld, tmp_path: Path) -> None:
    held = tmp_path / "held"
    held.touch()
    handle = await mac.host.start("pr_a", launch("-c", CLEAN_LATER, str(held)))
    await output(handle, b"left\n")
    await asyncio.sleep(3.5)  # it has daemonised, was seen, and has emptied its environment since
    assert len(holders(held)) == 2
    await handle.stop(StopMode.KILL, StopReason.USER)
    assert (await handle.wait_exit()).swept == 1
    assert holders(held) == []


async def test_nobody_who_merely_has_the_childs_old_number_is_touched(
    mac: LocalWorld, tmp_path: Path
) -> None:
    stranger = await asyncio.create_subprocess_exec("/bin/sleep", "1000", start_new_session=True)
    try:
        handle = await mac.host.start("pr_a", mac.launch("deaf", "stays"))
        await output(handle, b"ready\n")
        await handle.stop(StopMode.KILL, StopReason.USER)
        await handle.wait_exit()
        assert stranger.returncode is None
    finally:
        stranger.kill()
        await stranger.wait()


async def test_a_child_whose_shim_is_killed_goes_on_and_its_end_is_seen(mac: LocalWorld) -> None:
    made = mac.launch()
    handle = await mac.host.start("pr_a", made)
    await output(handle, b"ready\n")
    os.kill(int(record(mac.runs, "pr_a")["shim"]), signal.SIGKILL)
    await eventually(lambda: not handle.is_supervised)
    assert await handle.write("f", b"hello\nleave\n")
    await output(handle, b"left\n")
    assert await handle.write("g", b"quit 7\n")
    ended = await handle.wait_exit()
    assert ended.shim_lost
    assert (ended.code, ended.signal) == (None, None), (
        "its parent is somebody else, who tells nobody"
    )
    assert ended.swept == 1
    assert living(made.mark) == []


async def test_a_child_whose_shim_is_killed_can_be_stopped(mac: LocalWorld) -> None:
    made = mac.launch("deaf", "stays")
    handle = await mac.host.start("pr_a", made)
    await output(handle, b"ready\n")
    os.kill(int(record(mac.runs, "pr_a")["shim"]), signal.SIGKILL)
    await eventually(lambda: not handle.is_supervised)
    await handle.stop(StopMode.TERMINATE, StopReason.USER)
    ended = await handle.wait_exit()
    assert (ended.shim_lost, ended.reason) == (True, StopReason.USER)
    assert "sweep" in ended.rungs
    assert living(made.mark) == []


async def test_much_output_arrives_whole(mac: LocalWorld) -> None:
    handle = await mac.host.start("pr_a", mac.launch())
    await handle.write("f", b"spam 5000000\nerr oops\nquit 0\n")
    ended = await handle.wait_exit()
    assert (ended.out_bytes, ended.err_bytes) == (5_000_006, 5)
    assert handle.read("out", 0, 1 << 30) == b"ready\n" + b"x" * 5_000_000


async def test_an_idle_child_wakes_its_shim_once_a_second(mac: LocalWorld) -> None:
    handle = await mac.host.start("pr_a", mac.launch())
    await output(handle, b"ready\n")
    shim = record(mac.runs, "pr_a")["shim"]

    def switches() -> int:
        text = Path(f"/proc/{shim}/status").read_text()
        return int(text.partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    before, began = switches(), time.monotonic()
    await asyncio.sleep(3.2)
    assert switches() - before <= 2 * (time.monotonic() - began) + 2
    await handle.write("f", b"quit 0\n")
    await handle.wait_exit()
