"""What the fake machine offers tests beyond the port; on a virtual clock."""

import asyncio
from pathlib import Path

import pytest

from hivectl.model.errors import HiveError
from hivectl.ports import Launch, StopMode, StopReason
from hivectl.testing.processes import FakeChild, FakeHost, FakeMachine

LAUNCH = Launch(argv=("x",), env={}, cwd=Path("/"), mark="x", deadline_s=3600)

pytestmark = pytest.mark.looptime


async def wait_for_input(child: FakeChild) -> int:
    child.ignores_term = True
    while await child.read() is not None:
        child.emit(b"line\n")
    await asyncio.sleep(10_000)
    return 0


async def test_an_hour_takes_no_time() -> None:
    machine = FakeMachine(wait_for_input)
    handle = await FakeHost(machine).start("pr_a", LAUNCH)
    loop = asyncio.get_running_loop()
    began = loop.time()
    ended = await handle.wait_exit()
    assert (ended.reason, ended.rungs) == (StopReason.TIMEOUT, ("close", "term", "sweep"))
    assert 3600 + 7 <= loop.time() - began < 3600 + 8


async def test_a_lost_process_has_no_code() -> None:
    machine = FakeMachine(wait_for_input)
    host = FakeHost(machine)
    handle = await host.start("pr_a", LAUNCH)
    assert await handle.write("f", b"x")
    await handle.wait_change(5)
    machine.processes["pr_a"].lose(rebooted=True)
    ended = await handle.wait_exit()
    assert (ended.code, ended.signal, ended.shim_lost, ended.host_rebooted) == (
        None,
        None,
        True,
        True,
    )
    assert not await handle.write("g", b"y")
    await machine.switch_off()


async def test_starts_fail_as_told_and_are_counted() -> None:
    machine = FakeMachine(wait_for_input)
    machine.failures.append(HiveError("SPAWN_FAILED"))
    host = FakeHost(machine)
    with pytest.raises(HiveError):
        await host.start("pr_a", LAUNCH)
    handle = await host.start("pr_a", LAUNCH)
    assert machine.starts == ["pr_a"]
    assert machine.processes["pr_a"].deadline_s == 3600
    await handle.stop(StopMode.KILL, StopReason.USER)
    assert (await handle.wait_exit()).signal == 9


async def test_a_script_that_raises_ends_with_code_1() -> None:
    async def broken(child: FakeChild) -> int:
        raise RuntimeError("a fault of the script")

    handle = await FakeHost(FakeMachine(broken)).start("pr_a", LAUNCH)
    assert (await handle.wait_exit()).code == 1
