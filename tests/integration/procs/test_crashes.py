"""DESIGN's rows 1, 2, 5, 6: whoever is killed, no byte is lost or doubled and no exit code is wrong."""

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from pathlib import Path

import pytest

from hivectl.kit import files
from hivectl.kit.clock import SystemClock
from hivectl.model.errors import HiveError
from hivectl.ports import Exit, StopMode, StopReason
from hivectl.procs import shim
from hivectl.procs.host import LocalHost
from tests.integration.procs import talker
from tests.integration.procs.worlds import (
    CHILD,
    RUNGS,
    LocalWorld,
    eventually,
    launch,
    living,
    output,
    record,
    sweep_runs,
)

DAEMON = str(Path(__file__).with_name("small_daemon.py"))
ROOT = str(Path(__file__).parents[3])
KNOWS_CODES = sys.platform == "linux" and tuple(
    int(part) for part in os.uname().release.split(".")[:2]
) >= (6, 15)


async def start_daemon(
    runs: Path, process: str, lines: int, answers: Path, failpoints: str = ""
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        DAEMON,
        str(runs),
        process,
        str(lines),
        str(answers),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": ROOT, "HIVECTL_FAILPOINT": failpoints},
    )


async def killed_often(runs: Path, process: str, lines: int, chance: random.Random) -> int:
    """Daemons killed at random until one sees the end; how many were killed."""
    answers = runs.with_name(f"{process}.answers")
    kills = 0
    while True:
        daemon = await start_daemon(runs, process, lines, answers)
        assert daemon.stdout is not None
        await daemon.stdout.readline()
        try:
            async with asyncio.timeout(chance.uniform(0.02, 0.3)):
                said = await daemon.stdout.read()
        except TimeoutError:
            kills += 1
            with contextlib.suppress(ProcessLookupError):
                daemon.kill()
            await daemon.communicate()
            continue
        await daemon.wait()
        assert said == b"42 None 0\n"
        assert (runs / process / shim.SPOOLS["out"]).read_bytes() == talker.expected(lines)
        assert answers.read_bytes() == talker.expected_answers(lines)
        return kills


@pytest.mark.timeout(120)
async def test_a_daemon_killed_at_random_loses_and_doubles_nothing(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    chance = random.Random(20)
    try:
        tasks = []
        async with asyncio.TaskGroup() as group:
            for number in range(2):
                work = killed_often(runs, f"pr_{number}", 30_000, chance)
                tasks.append(group.create_task(work))
        assert sum(task.result() for task in tasks) >= 4
    finally:
        sweep_runs(runs)


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_a_daemon_killed_a_thousand_times_loses_and_doubles_nothing(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    chance = random.Random(21)
    kills = number = 0
    try:
        while kills < 1000:
            tasks = []
            async with asyncio.TaskGroup() as group:
                for _ in range(4):
                    number += 1
                    work = killed_often(runs, f"pr_{number}", 60_000, chance)
                    tasks.append(group.create_task(work))
            kills += sum(task.result() for task in tasks)
    finally:
        sweep_runs(runs)


@pytest.mark.parametrize("point", ["run_dir_made", "shim_forked"])
async def test_a_daemon_killed_around_the_start_starts_exactly_one_child(
    tmp_path: Path, point: str
) -> None:
    runs, answers = tmp_path / "runs", tmp_path / "answers"
    try:
        for number in range(4):
            process = f"pr_{number}"
            first = await start_daemon(runs, process, 600, answers, f"{point}:kill")
            assert await first.wait() == -signal.SIGKILL
            second = await start_daemon(runs, process, 600, answers)
            said, _ = await second.communicate()
            assert said.splitlines()[-1] == b"42 None 0"
            spool = (runs / process / shim.SPOOLS["out"]).read_bytes()
            assert spool == talker.expected(600)
            assert answers.read_bytes() == talker.expected_answers(600)
            answers.unlink()
    finally:
        sweep_runs(runs)


async def kill_shim_in_mid_run(local: LocalWorld, process: str, after_s: float) -> Exit:
    answers = local.runs.with_name(f"{process}.answers")
    lines = 3000
    handle = await local.host.start(
        process, launch("-c", RUN, talker.__file__ or "", str(lines), str(answers))
    )

    async def answer_all() -> None:
        data, offset = b"", 0
        while handle.exit is None:
            part = handle.read("out", offset, 1 << 16)
            offset += len(part)
            *found, data = (data + part).split(b"\n")
            for line in found:
                if line.startswith(b"ask "):
                    number = line.split()[1].decode()
                    assert await handle.write(f"a-{number}", f"answer {number}\n".encode())
            if not part:
                await handle.wait_change(1)

    async def kill_later() -> None:
        found = record(local.runs, process)
        await asyncio.sleep(after_s)
        os.kill(int(found["shim"]), signal.SIGKILL)

    async with asyncio.TaskGroup() as group:
        group.create_task(answer_all())
        group.create_task(kill_later())
    ended = await handle.wait_exit()
    assert (local.runs / process / shim.SPOOLS["out"]).read_bytes() == talker.expected(lines)
    assert answers.read_bytes() == talker.expected_answers(lines)
    assert ended.out_bytes == len(talker.expected(lines))
    return ended


RUN = "import sys, runpy; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"


async def test_a_shim_killed_under_its_daemon_loses_nothing(local: LocalWorld) -> None:
    chance = random.Random(5)
    for number in range(12):
        ended = await kill_shim_in_mid_run(local, f"pr_{number}", chance.uniform(0, 0.08))
        assert ended.shim_lost
        assert (ended.code, ended.signal) == (42, None)
        again = await LocalHost(local.runs, clock=SystemClock()).adopt(f"pr_{number}")
        assert again is not None
        assert again.exit == ended


async def test_a_shim_of_an_earlier_daemon_killed_still_leaves_the_code(local: LocalWorld) -> None:
    handle = await local.host.start("pr_a", local.launch())
    await local.restart()
    again = await local.host.adopt("pr_a")
    assert again is not None
    os.kill(int(record(local.runs, "pr_a")["shim"]), signal.SIGKILL)
    assert await again.write("f", b"quit 42\n")
    ended = await again.wait_exit()
    assert ended.shim_lost
    assert ended.code == 42
    assert handle.exit is None


@pytest.mark.skipif(not KNOWS_CODES, reason="needs Linux 6.15 for codes of strangers' children")
async def test_the_kernel_tells_the_code_of_a_child_that_was_reaped_by_another() -> None:
    pid = os.posix_spawn("/bin/sh", ["/bin/sh", "-c", "exit 7"], {})
    fd = os.pidfd_open(pid)
    try:
        assert os.waitpid(pid, 0)[1] == 7 << 8
        assert shim.Pidfd(fd).status() == 7 << 8
    finally:
        os.close(fd)


async def test_both_killed_keeps_a_prefix_and_sweeps_strays(local: LocalWorld) -> None:
    made = local.launch("stays", "deaf")
    handle = await local.host.start("pr_a", made)
    await handle.write("f", b"leave\nhello\n")
    seen = await output(handle, b"hello")
    await local.restart()
    found = record(local.runs, "pr_a")
    for who in ("shim", "child"):
        os.kill(int(found[who]), signal.SIGKILL)
    assert living(made.mark)
    began = time.monotonic()
    again = await local.host.adopt("pr_a")
    assert again is not None
    ended = await again.wait_exit()
    assert time.monotonic() - began < 2
    assert ended.shim_lost
    assert ended.code is None
    assert ended.signal in (None, signal.SIGKILL)  # known when we were its next parent
    assert ended.swept == 1
    assert again.read("out", 0, 1000) == seen
    assert living(made.mark) == []


async def test_output_survives_the_death_of_daemon_and_shim_while_the_child_lives(
    local: LocalWorld,
) -> None:
    code = "import os, time\nos.write(1, b'a' * 60000)\ntime.sleep(0.6)\nos.write(1, b'b' * 9)"
    made = launch("-c", code)
    handle = await local.host.start("pr_a", made)
    await output(handle, 60000)
    await local.restart()
    os.kill(int(record(local.runs, "pr_a")["shim"]), signal.SIGKILL)
    again = await local.host.adopt("pr_a")
    assert again is not None
    await again.wait_exit()
    assert again.read("out", 0, 1 << 20) == b"a" * 60000 + b"b" * 9


async def test_the_ladder_goes_on_when_the_shim_dies_on_it(local: LocalWorld) -> None:
    handle = await local.host.start("pr_a", local.launch("deaf", "stays"))
    await output(handle, b"ready\n")
    await handle.stop(StopMode.TERMINATE, StopReason.USER)
    os.kill(int(record(local.runs, "pr_a")["shim"]), signal.SIGKILL)
    ended = await handle.wait_exit()
    assert ended.shim_lost
    assert ended.reason is StopReason.USER
    assert ended.rungs == ("close", "term", "sweep")


async def test_limits_hold_when_the_shim_is_lost(local: LocalWorld) -> None:
    handle = await local.host.start("pr_a", local.launch(deadline_s=0.6))
    os.kill(int(record(local.runs, "pr_a")["shim"]), signal.SIGKILL)
    assert (await handle.wait_exit()).reason is StopReason.TIMEOUT


async def test_a_daemon_killed_in_the_middle_of_the_ladder_changes_nothing(
    local: LocalWorld,
) -> None:
    handle = await local.host.start("pr_a", local.launch("deaf", "stays"))
    await output(handle, b"ready\n")
    await handle.stop(StopMode.TERMINATE, StopReason.USER)
    await local.restart()  # to the shim, as good as a death
    await eventually((local.runs / "pr_a" / shim.EXIT).exists)
    again = await local.host.adopt("pr_a")
    assert again is not None
    assert again.exit is not None
    assert again.exit.rungs == ("close", "term", "sweep")


async def test_limits_hold_with_no_daemon(local: LocalWorld) -> None:
    limits = {
        "pr_a": ({"deadline_s": 0.4}, StopReason.TIMEOUT),
        "pr_b": ({"no_output_s": 0.4}, StopReason.NO_OUTPUT),
        "pr_c": ({"max_output_bytes": 3}, StopReason.OUTPUT_LIMIT),
    }
    for process, (limit, _) in limits.items():
        await local.host.start(process, local.launch(**limit))
    await local.restart()
    for process, (_, reason) in limits.items():
        await eventually((local.runs / process / shim.EXIT).exists)
        again = await local.host.adopt(process)
        assert again is not None
        assert again.exit is not None
        assert again.exit.reason is reason


async def test_a_frozen_shim_does_not_stop_a_kill(
    local: LocalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hivectl.procs.handle.ACK_LIMIT_S", 0.3)
    made = local.launch("deaf", "stays")
    handle = await local.host.start("pr_a", made)
    await output(handle, b"ready\n")
    os.kill(int(record(local.runs, "pr_a")["shim"]), signal.SIGSTOP)
    await handle.stop(StopMode.KILL, StopReason.USER)
    ended = await handle.wait_exit()
    assert ended.shim_lost
    assert ended.reason is StopReason.USER
    assert living(made.mark) == []


def host_with(runs: Path, failpoints: str) -> LocalHost:
    return LocalHost(runs, clock=SystemClock(), times=RUNGS, failpoints=failpoints)


async def test_a_shim_that_dies_before_its_child_starts_is_a_failed_start(
    local: LocalWorld,
) -> None:
    local.host = host_with(local.runs, "shim_start:kill")
    with pytest.raises(HiveError) as caught:
        await local.host.start("pr_a", local.launch())
    assert caught.value.code == "SPAWN_FAILED"
    assert await local.host.adopt("pr_a") is None
    local.host = host_with(local.runs, "")
    handle = await local.host.start("pr_a", local.launch())
    await handle.write("f", b"quit 0\n")
    assert (await handle.wait_exit()).code == 0


async def test_a_shim_that_dies_before_the_exit_file_leaves_the_code(local: LocalWorld) -> None:
    local.host = host_with(local.runs, "shim_exit:kill")
    handle = await local.host.start("pr_a", local.launch())
    await handle.write("f", b"quit 6\n")
    ended = await handle.wait_exit()
    assert ended.shim_lost
    assert ended.code == (6 if KNOWS_CODES else None)
    assert handle.read("out", 0, 100) == b"ready\n"


async def test_a_shim_killed_at_each_of_its_moves_loses_nothing(local: LocalWorld) -> None:
    for number in range(1, 12):
        local.host = host_with(local.runs, f"shim_splice@{number}:kill")
        handle = await local.host.start(f"pr_{number}", local.launch())
        for name in ("a", "b", "c", "d"):
            await handle.write(name, b"spam 100\n")
        await handle.write("end", b"quit 3\n")
        ended = await handle.wait_exit()
        assert ended.out_bytes == 406
        assert ended.code == 3
        await local.host.close()


async def test_a_full_disk_stalls_the_output_and_loses_nothing(local: LocalWorld) -> None:
    errors = ",".join(f"shim_splice@{n}:error=ENOSPC" for n in (3,))
    local.host = host_with(local.runs, errors)
    handle = await local.host.start("pr_a", local.launch())
    await handle.write("a", b"spam 1000\nquit 0\n")
    ended = await handle.wait_exit()
    assert ended.out_bytes == 1006
    assert not ended.out_unflushed


async def test_an_error_at_the_end_is_tried_again(local: LocalWorld) -> None:
    local.host = host_with(local.runs, "shim_exit@1:error=ENOSPC")
    handle = await local.host.start("pr_a", local.launch())
    await handle.write("a", b"quit 4\n")
    ended = await handle.wait_exit()
    assert (ended.code, ended.shim_lost) == (4, False)


async def test_a_reboot_is_told_from_a_loss(local: LocalWorld) -> None:
    handle = await local.host.start("pr_a", local.launch())
    await output(handle, b"ready\n")
    await local.restart()
    found = record(local.runs, "pr_a")
    for who in ("shim", "child"):
        os.kill(int(found[who]), signal.SIGKILL)
    path = local.runs / "pr_a" / shim.SHIM
    path.write_bytes(path.read_bytes().replace(found["boot"].encode(), b"another-boot"))
    await eventually(lambda: not files.is_locked(local.runs / "pr_a" / shim.LOCK))
    for _ in range(2):
        again = await local.host.adopt("pr_a")
        assert again is not None
        assert again.exit is not None
        assert again.exit.host_rebooted
        assert again.exit.shim_lost
        assert again.exit.out_bytes == 6
        await local.restart()


async def test_a_recycled_pid_is_never_signalled(local: LocalWorld) -> None:
    handle = await local.host.start("pr_a", local.launch("stays"))
    await output(handle, b"ready\n")
    await local.restart()
    found = record(local.runs, "pr_a")
    for who in ("shim", "child"):
        os.kill(int(found[who]), signal.SIGKILL)
    stranger = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", CHILD, "stays", stdin=asyncio.subprocess.PIPE
    )
    try:
        path = local.runs / "pr_a" / shim.SHIM
        text = path.read_text().replace(f"child {found['child']}\n", f"child {stranger.pid}\n")
        path.write_text(text)
        await eventually(lambda: not files.is_locked(local.runs / "pr_a" / shim.LOCK))
        again = await local.host.adopt("pr_a")
        assert again is not None
        await again.stop(StopMode.KILL, StopReason.USER)
        ended = await again.wait_exit()
        assert ended.code is None
        assert stranger.returncode is None
    finally:
        stranger.kill()
        await stranger.wait()


async def test_a_shim_of_another_protocol_is_refused_politely(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    run_dir = runs / "pr_a"
    files.ensure_private_dir(run_dir)
    lock = files.acquire_lock(run_dir / shim.LOCK)
    fields = {
        "boot": shim.SYSTEM.boot_id(),
        "shim": 1,
        "shim_start": 1,
        "child": 1,
        "child_start": 1,
    }
    (run_dir / shim.SHIM).write_bytes(shim.pack(dict(fields)))

    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello 99 something new\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(greet, run_dir / shim.SOCKET)
    host = LocalHost(runs, clock=SystemClock())
    try:
        with pytest.raises(HiveError) as caught:
            await host.adopt("pr_a")
        assert caught.value.code == "PROTOCOL_MISMATCH"
    finally:
        server.close()
        os.close(lock)
        await host.close()
