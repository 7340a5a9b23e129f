"""What only the real host promises: starts, privacy, big frames, leaks, limits of the machine."""

import asyncio
import hashlib
import json
import os
import resource
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from hivectl.kit.clock import SystemClock
from hivectl.model.errors import HiveError
from hivectl.ports import Launch, StopMode, StopReason
from hivectl.procs import shim
from hivectl.procs.host import LocalHost
from tests.integration.procs.worlds import LocalWorld, eventually, launch, living, output, record

ROOT = str(Path(__file__).parents[3])


async def failure(local: LocalWorld, made: Launch) -> HiveError:
    with pytest.raises(HiveError) as caught:
        await local.host.start("pr_bad", made)
    assert local.host.list_processes() == []
    assert await local.host.adopt("pr_bad") is None
    return caught.value


async def test_a_missing_program_is_named(local: LocalWorld) -> None:
    error = await failure(local, launch("/no/such/program"))
    assert (error.code, error.details["reason"]) == ("SPAWN_FAILED", "not_found")
    assert error.details["errno"] == "ENOENT"


async def test_a_file_that_is_not_executable_is_told_from_a_missing_one(
    local: LocalWorld, tmp_path: Path
) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    assert (await failure(local, launch(str(program)))).details["reason"] == "not_executable"
    program.chmod(0o755)
    program.write_text("no interpreter line\n")
    assert (await failure(local, launch(str(program)))).details["errno"] == "ENOEXEC"


async def test_a_missing_interpreter_is_named(local: LocalWorld, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    assert (await failure(local, launch(str(program)))).details["reason"] == "bad_interpreter"


async def test_a_directory_that_is_gone_is_named(local: LocalWorld, tmp_path: Path) -> None:
    error = await failure(local, launch("/bin/true", cwd=tmp_path / "gone"))
    assert error.details["reason"] == "cwd"
    assert str(tmp_path / "gone") in error.message


async def test_a_failed_start_can_be_tried_again(local: LocalWorld) -> None:
    await failure(local, launch("/no/such/program"))
    handle = await local.host.start("pr_bad", local.launch())
    await handle.write("f", b"quit 0\n")
    assert (await handle.wait_exit()).code == 0


@pytest.mark.parametrize("name", ["../x", "a/b", "lock", "shim.new", ".hidden", ""])
async def test_a_private_file_cannot_leave_its_directory(local: LocalWorld, name: str) -> None:
    with pytest.raises(ValueError, match="private file"):
        await local.host.start("pr_a", local.launch(files={name: b"x"}))


@pytest.mark.parametrize("process", ["../x", "pr_", "PR_1", "pr_a/b", ""])
async def test_a_process_id_cannot_leave_the_directory(local: LocalWorld, process: str) -> None:
    with pytest.raises(ValueError, match="process id"):
        await local.host.adopt(process)


CHECK = """
import json, os, signal, stat
out = {
    "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")),
    "session": os.getsid(0) == os.getpid() == os.getpgid(0),
    "cwd": os.getcwd(),
    "umask": os.umask(0),
    "env": dict(os.environ),
    "ignored": [s for s in range(1, 32) if signal.getsignal(s) == signal.SIG_IGN],
    "oom": int(open("/proc/self/oom_score_adj").read()),
    "parent_oom": int(open(f"/proc/{os.getppid()}/oom_score_adj").read()),
    "argv": __import__("sys").argv,
    "file": open(__import__("sys").argv[1].partition("=")[2]).read(),
}
print(json.dumps(out))
"""


async def test_s28_the_child_inherits_nothing_but_what_it_was_given(
    local: LocalWorld, tmp_path: Path
) -> None:
    leaked = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    try:
        made = launch(
            "-c",
            CHECK,
            "--file={run_dir}/notes.txt",
            "{run_dir}/notes.txt",
            "see {run_dir}/notes.txt",
            cwd=tmp_path,
            env={"ONE": "1", "PLACE": "{run_dir}/notes.txt"},
            files={"notes.txt": b"private"},
        )
        handle = await local.host.start("pr_a", made)
        ended = await handle.wait_exit()
    finally:
        os.close(leaked)
    assert ended.code == 0, handle.read("err", 0, 2000)
    seen = json.loads(handle.read("out", 0, 100_000))
    notes = str(local.runs / "pr_a" / "notes.txt")
    assert seen["fds"] == [0, 1, 2]
    assert seen["session"]
    assert seen["cwd"] == str(tmp_path)
    assert seen["umask"] == 0o022
    assert set(seen["env"]) - {"LC_CTYPE"} == {"PATH", "ONE", "PLACE", "HIVECTL_EXECUTION"}
    assert seen["env"]["HIVECTL_EXECUTION"] == made.mark
    assert seen["env"]["PLACE"] == notes
    # python itself ignores SIGPIPE and SIGXFSZ; nothing else may be
    assert set(seen["ignored"]) <= {13, 25}
    assert seen["oom"] == min(1000, seen["parent_oom"] + 500)
    assert seen["argv"][1:] == [f"--file={notes}", notes, "see {run_dir}/notes.txt"]
    assert seen["file"] == "private"
    assert stat.S_IMODE(Path(notes).stat().st_mode) == 0o600


async def test_s33_everything_in_a_run_directory_is_private(local: LocalWorld) -> None:
    old = os.umask(0)
    try:
        made = local.launch(env={"ANTHROPIC_API_KEY": "sk-canary"}, files={"note": b"x"})
        handle = await local.host.start("pr_a", made)
        await output(handle, b"ready\n")
    finally:
        os.umask(old)
    run_dir = local.runs / "pr_a"
    assert stat.S_IMODE(run_dir.stat().st_mode) == 0o700
    for path in run_dir.iterdir():
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600, path
        if path.is_file():
            assert b"sk-canary" not in path.read_bytes(), path
    command = Path(f"/proc/{record(local.runs, 'pr_a')['shim']}/environ").read_bytes()
    assert b"sk-canary" not in command


async def test_a_path_longer_than_a_socket_address_is_no_problem(tmp_path: Path) -> None:
    runs = tmp_path / ("deep" * 30) / ("deeper" * 20)
    local = LocalWorld(runs)
    try:
        handle = await local.host.start("pr_a", local.launch())
        await local.restart()
        again = await local.host.adopt("pr_a")
        assert again is not None
        await again.write("f", b"quit 0\n")
        assert (await again.wait_exit()).code == 0
        assert handle.exit is None
    finally:
        await local.end()


async def test_a_frame_of_8_mib_goes_in_whole_and_in_order(local: LocalWorld) -> None:
    code = (
        "import os, time, hashlib\n"
        "os.write(1, b'ready\\n')\n"
        "time.sleep(0.3)\n"
        "data = b''\n"
        "while part := os.read(0, 1 << 20): data += part\n"
        "print(len(data), hashlib.sha256(data).hexdigest())"
    )
    big = os.urandom(8 << 20)
    handle = await local.host.start("pr_a", launch("-c", code))
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(handle.write(f"f{n}", data))
            for n, data in enumerate([b"a", big, b"z"])
        ]
        await asyncio.sleep(0)
        began = time.monotonic()
        await handle.set_deadline(60)  # answered while the frame waits for its reader
        assert time.monotonic() - began < 2
    assert all(task.result() for task in tasks)
    await handle.close_stdin(hang=False)
    await handle.wait_exit()
    digest = hashlib.sha256(b"a" + big + b"z").hexdigest()
    assert handle.read("out", 6, 1000) == f"{len(big) + 2} {digest}\n".encode()


async def test_a_frame_is_refused_once_the_child_has_closed_its_input(local: LocalWorld) -> None:
    code = "import os, time\nos.close(0)\nos.write(1, b'ready')\ntime.sleep(1000)"
    handle = await local.host.start("pr_a", launch("-c", code))
    await output(handle, b"ready")
    assert not await handle.write("f", b"hello\n")
    await handle.stop(StopMode.KILL, StopReason.USER)
    await handle.wait_exit()


async def test_a_frame_waiting_for_a_child_that_ends_is_refused(local: LocalWorld) -> None:
    handle = await local.host.start("pr_a", launch("/bin/sleep", "1000"))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(handle.write("f", b"x" * (1 << 20)))
        await asyncio.sleep(0.1)
        assert not task.done()
        await handle.stop(StopMode.KILL, StopReason.USER)
    assert task.result() is False


async def test_a_big_frame_cut_by_the_loss_of_the_shim_is_finished(local: LocalWorld) -> None:
    code = (
        "import os, time, hashlib\n"
        "os.read(0, 1)\n"
        "os.write(1, b'ready\\n')\n"
        "time.sleep(0.4)\n"
        "data = b'x'\n"
        "while len(data) < 1 << 20: data += os.read(0, 1 << 20)\n"
        "print(len(data), hashlib.sha256(data).hexdigest())"
    )
    data = b"x" + os.urandom((1 << 20) - 1)
    handle = await local.host.start("pr_a", launch("-c", code))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(handle.write("f", data))
        await output(handle, b"ready\n")
        os.kill(int(record(local.runs, "pr_a")["shim"]), 9)
    assert task.result()
    ended = await handle.wait_exit()
    assert ended.shim_lost
    assert handle.read("out", 6, 1000) == f"{1 << 20} {hashlib.sha256(data).hexdigest()}\n".encode()


async def test_bytes_are_kept_as_they_are(local: LocalWorld) -> None:
    code = "import os\nos.write(1, bytes(range(256)) * 3 + b'\\n\\0no newline')"
    handle = await local.host.start("pr_a", launch("-c", code))
    await handle.wait_exit()
    assert handle.read("out", 0, 10_000) == bytes(range(256)) * 3 + b"\n\0no newline"


async def test_runaway_output_stops_near_its_limit(local: LocalWorld) -> None:
    limit = 1 << 20
    handle = await local.host.start("pr_a", launch("/bin/cat", "/dev/zero", max_output_bytes=limit))
    ended = await handle.wait_exit()
    assert ended.reason is StopReason.OUTPUT_LIMIT
    assert limit < ended.out_bytes <= limit + shim.OUTPUT_GRACE_BYTES + shim.PIPE_BYTES


async def test_the_output_of_descendants_in_the_linger_is_kept(local: LocalWorld) -> None:
    code = (
        "import os, time\n"
        "if os.fork(): os.write(1, b'main\\n'); os._exit(0)\n"
        "time.sleep(0.2); os.write(1, b'late\\n')"
    )
    handle = await local.host.start("pr_a", launch("-c", code, linger_s=5))
    began = time.monotonic()
    ended = await handle.wait_exit()
    assert handle.read("out", 0, 100) == b"main\nlate\n"
    assert ended.swept == 0
    assert time.monotonic() - began < 3


def census() -> tuple[int, int, int]:
    """(descriptors, threads, children) of this process."""
    return (
        len(list(Path("/proc/self/fd").iterdir())),
        threading.active_count(),
        len(shim.SYSTEM.children(os.getpid())),
    )


async def short_runs(local: LocalWorld, count: int, at_once: int) -> None:
    async def one(number: int) -> None:
        handle = await local.host.start(f"pr_{number}", launch("/bin/echo", str(number)))
        ended = await handle.wait_exit()
        assert ended.code == 0
        assert handle.read("out", 0, 100) == f"{number}\n".encode()
        local.host.remove(f"pr_{number}")

    for first in range(0, count, at_once):
        async with asyncio.TaskGroup() as group:
            for number in range(first, first + at_once):
                group.create_task(one(number))


@pytest.mark.timeout(120)
async def test_three_hundred_short_runs_leave_nothing(local: LocalWorld) -> None:
    await short_runs(local, 12, 6)  # thread pool and loop are at their size now
    before = census()
    await short_runs(local, 300, 6)
    await eventually(lambda: census()[2] <= before[2])
    fds, threads, _ = census()
    assert fds == before[0]
    assert threads <= before[1] + 6
    assert local.host.list_processes() == []


@pytest.mark.soak
@pytest.mark.timeout(3600)
async def test_ten_thousand_short_runs_leave_nothing(local: LocalWorld) -> None:
    await short_runs(local, 400, 8)
    before, memory = census(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await short_runs(local, 10_000, 8)
    await eventually(lambda: census()[2] <= before[2])
    assert census()[0] == before[0]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 5 << 10


async def test_an_idle_shim_never_wakes(local: LocalWorld) -> None:
    handle = await local.host.start("pr_a", local.launch(deadline_s=1000, no_output_s=1000))
    await output(handle, b"ready\n")
    status = Path(f"/proc/{record(local.runs, 'pr_a')['shim']}/status")

    def switches() -> str:
        return "".join(line for line in status.read_text().splitlines() if "ctxt" in line)

    await asyncio.sleep(0.3)
    before = switches()
    await asyncio.sleep(1.0)  # the time over which it must not wake
    assert switches() == before


FEW_FILES = """
import asyncio, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from hivectl.kit.clock import SystemClock
from hivectl.model.errors import HiveError
from hivectl.ports import Launch, StopMode, StopReason
from hivectl.procs.host import LocalHost

async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
    host = LocalHost(Path(sys.argv[2]), clock=SystemClock())
    handles, error = [], None
    for number in range(100):
        made = Launch(argv=("/bin/cat",), env={}, cwd=Path("/"), mark=f"x_{number}")
        try:
            handles.append(await host.start(f"pr_{number}", made))
        except HiveError as caught:
            error = caught
            break
    print(len(handles) > 3, error.code, error.details.get("reason"))
    for handle in handles:
        await handle.close_stdin(hang=False)
        assert (await handle.wait_exit()).code == 0
        host.remove(handle.process)
    again = await host.start("pr_again", Launch(argv=("/bin/true",), env={}, cwd=Path("/"), mark="x"))
    left = [await host.adopt(name) for name in host.list_processes() if name != "pr_again"]
    print((await again.wait_exit()).code, [found for found in left if found])
    await host.close()

asyncio.run(main())
"""


async def test_a_limit_of_descriptors_fails_one_start_and_harms_no_other(tmp_path: Path) -> None:
    program = [sys.executable, "-c", FEW_FILES, ROOT, str(tmp_path / "runs")]
    done = await asyncio.to_thread(
        subprocess.run, program, capture_output=True, text=True, timeout=40
    )
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == "True SPAWN_FAILED too_many_files"
    assert second == "0 []"


async def test_orphans_of_kept_processes_leave_no_zombie(
    local: LocalWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hivectl.procs.reaper.STRAY_CHECK_S", 0.1)
    code = "import os, time\nif os.fork(): os._exit(0)\nos.setsid(); time.sleep(0.5)"
    made = launch("-c", code, keep_descendants=True, linger_s=0.05)
    handle = await local.host.start("pr_a", made)
    assert (await handle.wait_exit()).code == 0
    (left,) = living(made.mark)
    await eventually(lambda: left in shim.SYSTEM.children(os.getpid()))  # the shim's heir are we
    await eventually(lambda: not shim.SYSTEM.start_of(left))


async def test_two_daemons_in_turn_may_speak_to_one_shim(local: LocalWorld) -> None:
    first = await local.host.start("pr_a", local.launch())
    other = LocalHost(local.runs, clock=SystemClock())
    try:
        second = await other.adopt("pr_a")
        assert second is not None
        assert await second.write("f", b"one\n")
        assert await first.write("f", b"one\n")
        assert await first.write("g", b"quit 2\n")
        assert (await second.wait_exit()).code == 2
        assert (await first.wait_exit()).code == 2
        assert first.read("out", 0, 100) == b"ready\ngot one 3\n"
    finally:
        await other.close()


async def test_garbage_on_the_socket_ends_that_connection_only(local: LocalWorld) -> None:
    handle = await local.host.start("pr_a", local.launch())
    directory = os.open(local.runs / "pr_a", os.O_RDONLY)
    try:
        for garbage in (
            b"frame f x\n",
            b"\xff\xfe\n",
            b"x" * 20_000,
            b"frame f 999999999\n",
            b"stop\n",
        ):
            reader, writer = await asyncio.open_unix_connection(
                f"/proc/self/fd/{directory}/{shim.SOCKET}"
            )
            assert (await reader.readline()).startswith(b"hello 1 ")
            writer.write(garbage)
            async with asyncio.timeout(5):
                rest = await reader.read()
            assert rest == b""
            writer.close()
    finally:
        os.close(directory)
    assert await handle.write("f", b"quit 0\n")
    assert (await handle.wait_exit()).code == 0
