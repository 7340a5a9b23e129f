"""Processes found by mark and by parents; the parser of what macOS tells."""

import asyncio
import os
import signal
import sys

from hivectl.procs import shim, trees


def procargs(argv: list[bytes], env: list[bytes]) -> bytes:
    count = len(argv).to_bytes(4, sys.byteorder)
    return count + b"/usr/bin/x\0\0\0\0" + b"".join(item + b"\0" for item in [*argv, *env])


def test_the_environment_is_found_behind_the_arguments() -> None:
    data = procargs([b"x", b"--a"], [b"A=1", b"HIVECTL_EXECUTION=x_1"])
    assert trees.parse_procargs(data)[:2] == [b"A=1", b"HIVECTL_EXECUTION=x_1"]
    assert trees.parse_procargs(b"") == []


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


async def test_a_pid_with_another_start_time_is_another_process() -> None:
    process = await sleeper("x_unit_trees_3")
    try:
        started = shim.process_start(process.pid)
        fd = trees.open_process(process.pid, started)
        assert fd is not None
        os.close(fd)
        assert trees.open_process(process.pid, str(int(started) + 1)) is None
        assert trees.open_process(process.pid, "") is None
        assert trees.is_alive(process.pid, started)
    finally:
        process.kill()
        await process.wait()
    assert not trees.is_alive(process.pid, started)
    assert trees.open_process(process.pid, started) is None


def test_children_are_found_without_the_kernel_list_too() -> None:
    pid = os.posix_spawn("/bin/sleep", ["sleep", "1000"], {})
    try:
        assert pid in shim.list_children(os.getpid())
        assert pid in shim._scan_children(os.getpid())
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
