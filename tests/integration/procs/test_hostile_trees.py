"""S28, DESIGN's row 7: a kill leaves no descendant, whatever the tree does. `soak` has the 100 rounds."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hivectl.ports import StopMode, StopReason
from tests.integration.procs.hostile import TREES
from tests.integration.procs.worlds import LocalWorld, launch, living, output

PROGRAM = str(Path(__file__).with_name("hostile.py"))
NAMES = [name for name in TREES if name != "stay"]


def holders(held: Path) -> list[int]:
    """Processes that have `held` open."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                links = [fd.readlink() for fd in (process / "fd").iterdir()]
            except OSError:
                continue
            if held in links:
                found.append(int(process.name))
    return found


def can_unshare() -> bool:
    return subprocess.run(["unshare", "-Urpf", "true"], check=False).returncode == 0


async def one_round(local: LocalWorld, tree: str, number: int, held: Path) -> float:
    """Start the tree, kill it, look for survivors; how long the kill took."""
    process = f"pr_{tree.replace('_', '')}{number}"
    handle = await local.host.start(process, launch("-c", RUN, PROGRAM, tree, str(held)))
    await output(handle, b"ready\n")
    began = time.monotonic()
    await handle.stop(StopMode.KILL, StopReason.USER)
    ended = await handle.wait_exit()
    took = time.monotonic() - began
    assert holders(held) == [], (tree, number)
    assert ended.denied == 0
    assert (ended.reason, ended.signal) == (StopReason.USER, 9)
    local.host.remove(process)
    return took


RUN = "import sys,runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


async def many_rounds(
    local: LocalWorld, tree: str, held: Path, rounds: int, budget_s: float, p99_s: float
) -> None:
    held.touch()
    if tree == "namespaces" and not can_unshare():
        pytest.skip("unprivileged user namespaces are switched off here")
    until = time.monotonic() + budget_s
    times = []
    for number in range(rounds):
        times.append(await one_round(local, tree, number, held))
        if time.monotonic() > until:
            break
    times.sort()
    assert times[int((len(times) - 1) * 0.99)] < p99_s, times


@pytest.mark.parametrize("tree", NAMES)
async def test_s28_no_descendant_survives_a_kill(
    local: LocalWorld, tree: str, tmp_path: Path
) -> None:
    await many_rounds(local, tree, tmp_path / "held", 6, 1.5, 3.0)


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("tree", NAMES)
async def test_s28_no_descendant_survives_a_hundred_kills(
    local: LocalWorld, tree: str, tmp_path: Path
) -> None:
    await many_rounds(local, tree, tmp_path / "held", 100, 500, 0.5)


@pytest.mark.parametrize("tree", ["daemon_clean", "hop_setsid", "setsid"])
async def test_s28_nor_the_normal_end_of_the_child(
    local: LocalWorld, tree: str, tmp_path: Path
) -> None:
    held = tmp_path / "held"
    held.touch()
    program = f"import os\nif not os.fork():\n  {RUN}\nos.read(0, 1)"
    handle = await local.host.start(
        "pr_a", launch("-c", program, PROGRAM, tree, str(held), linger_s=0.2)
    )
    await output(handle, b"ready\n")
    assert holders(held) != []
    await handle.close_stdin(hang=False)
    ended = await handle.wait_exit()
    assert ended.code == 0
    assert ended.swept >= 1
    assert holders(held) == []


@pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")
async def test_s28_a_tmux_server_goes_too(local: LocalWorld, tmp_path: Path) -> None:
    made = launch(
        "/bin/sh",
        "-c",
        f"tmux -S {tmp_path}/t new-session -d 'sleep 1000' && echo ready && exec sleep 1000",
        env={"TERM": "xterm", "HOME": str(tmp_path)},
    )
    handle = await local.host.start("pr_a", made)
    await output(handle, b"ready\n")
    await handle.stop(StopMode.KILL, StopReason.USER)
    await handle.wait_exit()
    assert living(made.mark) == []


async def test_a_kept_descendant_lives_on_after_a_normal_end_only(
    local: LocalWorld,
) -> None:
    made = local.launch(linger_s=0.2, keep_descendants=True)
    handle = await local.host.start("pr_a", made)
    await handle.write("f", b"leave\nquit 0\n")
    ended = await handle.wait_exit()
    assert (ended.code, ended.swept) == (0, 0)
    (left,) = living(made.mark)
    os.kill(left, 9)  # ours: it carries the mark of this test and was seen alive just now
    made = local.launch(keep_descendants=True)
    handle = await local.host.start("pr_b", made)
    await handle.write("f", b"leave\n")
    await output(handle, b"left\n")
    await handle.stop(StopMode.KILL, StopReason.USER)
    assert (await handle.wait_exit()).swept == 1
    assert living(made.mark) == []


async def test_servers_left_by_the_child_are_gone_within_the_linger_and_a_second(
    local: LocalWorld,
) -> None:
    made = local.launch(linger_s=0.3)
    handle = await local.host.start("pr_a", made)
    await handle.write("f", b"leave\nleave\nleave\n")
    await output(handle, b"left\nleft\nleft\n")
    began = time.monotonic()
    await handle.write("g", b"quit 0\n")
    assert (await handle.wait_exit()).swept == 3
    assert time.monotonic() - began < 1.3
    assert living(made.mark) == []


SHIM_OF_NOBODY = """
import os, signal, sys, time
sys.path.insert(0, sys.argv[1])
from hivectl.procs import shim
hold_r, hold_w = os.pipe()
stranger = os.fork()
if not stranger:
    os.close(hold_w)
    os.read(hold_r, 1)  # root's own process, until this test's process is gone
    os._exit(0)
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
child = os.fork()
if not child:
    signal.pause()
family = shim.Family(child)
began = time.monotonic()
while not family.sweep(time.monotonic()):
    time.sleep(0.01)
print(len(family.denied), family.denied == {stranger}, family.status, family.is_alone)
assert time.monotonic() - began < 5
os.kill(os.getpid(), 9) if os.waitpid(stranger, os.WNOHANG)[0] else os._exit(0)
"""


async def test_a_descendant_of_another_user_is_counted_and_not_waited_for() -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, to make a process its shim may not signal")
    program = [sys.executable, "-c", SHIM_OF_NOBODY, str(Path(__file__).parents[3])]
    done = await asyncio.to_thread(
        subprocess.run, program, capture_output=True, text=True, timeout=30
    )
    assert done.stdout.split() == ["1", "True", "9", "False"], done.stderr
    assert done.returncode == 0
