"""Processes found by mark and by parents; the parser of what macOS tells."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time

import pytest

from hivectl.procs import shim, trees


def procargs(argv: list[bytes], env: list[bytes]) -> bytes:
    count = len(argv).to_bytes(4, sys.byteorder)
    return count + b"/usr/bin/x\0\0\0\0" + b"".join(item + b"\0" for item in [*argv, *env])


def test_the_environment_is_found_behind_the_arguments() -> None:
    data = procargs([b"x", b"--a"], [b"A=1", b"HIVECTL_EXECUTION=x_1"])
    assert shim.parse_procargs(data)[1][:2] == [b"A=1", b"HIVECTL_EXECUTION=x_1"]
    assert shim.parse_procargs(b"") == ([], [])


async def sleeper(mark: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        "/bin/sleep", "1000", env={"HIVECTL_EXECUTION": mark}
    )


async def test_only_the_very_mark_is_found_and_killed() -> None:
    ours, other = await sleeper("x_unit_trees"), await sleeper("x_unit_trees_2")
    try:
        assert trees.find_marked("x_unit_trees") == {ours.pid}
        assert {ours.pid, other.pid} <= trees.find_below(os.getpid())
        killed, denied = trees.kill_all({ours.pid, other.pid}, "x_unit_trees")
        assert {pid for pid, _ in killed} == {ours.pid}
        assert denied == set()
        assert await ours.wait() == -signal.SIGKILL
        assert other.returncode is None
    finally:
        other.kill()
        await other.wait()


@pytest.mark.parametrize("system", [shim.SYSTEM, shim.Procfs()], ids=lambda system: system.name)
async def test_a_pid_with_another_start_time_is_another_process(system: shim.System) -> None:
    process = await sleeper("x_unit_trees_3")
    started = system.start_of(process.pid)
    try:
        held = system.hold(process.pid, started)
        assert held is not None
        assert not held.has_ended()
        assert system.hold(process.pid, str(int(started) + 1)) is None
        assert system.hold(process.pid, "") is None
    finally:
        process.kill()
        await process.wait()
    assert held.has_ended()
    with pytest.raises(ProcessLookupError):
        held.signal(signal.SIGTERM)
    held.close()
    assert system.hold(process.pid, started) is None


@pytest.mark.parametrize("system", [shim.SYSTEM, shim.Procfs()], ids=lambda system: system.name)
def test_the_status_of_a_child_is_learnt_by_whom_it_belongs_to(system: shim.System) -> None:
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "read x; exit 7"], {}, file_actions=[(os.POSIX_SPAWN_OPEN, 0, "/dev/null", 0, 0)])  # fmt: skip
    held = system.hold(pid, system.start_of(pid))
    assert held is not None
    while not held.has_ended():
        time.sleep(0.005)
    assert held.status() == 7 << 8
    held.close()


@pytest.mark.parametrize("system", [shim.SYSTEM, shim.Procfs()], ids=lambda system: system.name)
def test_a_group_hears_a_signal_whoever_leads_it(system: shim.System) -> None:
    pids = [os.posix_spawn("/bin/sleep", ["sleep", "1000"], {}, setsid=leads) for leads in (True, False)]  # fmt: skip
    for pid in pids:
        held = system.hold(pid, system.start_of(pid))
        assert held is not None
        held.signal_group(signal.SIGTERM)
        assert os.waitpid(pid, 0)[1] == signal.SIGTERM
        held.close()


def test_children_are_found_without_the_kernel_list_too() -> None:
    pid = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
    try:
        assert pid in shim.Linux().children(os.getpid())
        assert pid in shim.Procfs().children(os.getpid())
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
