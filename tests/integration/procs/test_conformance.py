"""What every ProcessHost promises, held by the real one and by the fake."""

import asyncio
import time

import pytest

from hivectl.model.errors import HiveError
from hivectl.ports import StopMode, StopReason
from tests.integration.procs.worlds import World, eventually, output


async def test_a_child_is_started_read_written_and_ends_with_its_code(world: World) -> None:
    handle = await world.host.start("pr_a", world.launch())
    assert handle.process == "pr_a"
    assert handle.pid
    assert await handle.write("f1", b"hello\nerr oops\nquit 3\n")
    ended = await handle.wait_exit()
    assert (ended.code, ended.signal, ended.reason) == (3, None, StopReason.EXITED)
    assert handle.read("out", 0, 1000) == b"ready\ngot hello 5\n"
    assert handle.read("err", 0, 1000) == b"oops\n"
    assert (ended.out_bytes, ended.err_bytes) == (18, 5)
    assert handle.exit == ended
    assert ended.rungs == ()


async def test_reading_honours_offset_and_limit(world: World) -> None:
    handle = await world.host.start("pr_a", world.launch())
    await output(handle, b"ready\n")
    assert handle.read("out", 2, 3) == b"ady"
    assert handle.read("out", 6, 100) == b""


async def test_a_frame_is_written_once_per_id_across_daemons(world: World) -> None:
    handle = await world.host.start("pr_a", world.launch())
    assert await handle.write("f1", b"one\n")
    assert await handle.write("f1", b"one\n")
    await world.restart()
    again = await world.host.adopt("pr_a")
    assert again is not None
    assert await again.write("f1", b"one\n")
    assert await again.write("f2", b"two\nquit 0\n")
    await again.wait_exit()
    assert again.read("out", 0, 1000) == b"ready\ngot one 3\ngot two 3\n"


async def test_an_adopted_process_keeps_output_and_exit_code(world: World) -> None:
    await world.host.start("pr_a", world.launch())
    await world.restart()
    handle = await world.host.adopt("pr_a")
    assert handle is not None
    assert handle.pid
    assert handle.exit is None
    await handle.write("f", b"quit 7\n")
    assert (await handle.wait_exit()).code == 7
    await world.restart()
    later = await world.host.adopt("pr_a")
    assert later is not None
    assert later.exit is not None
    assert later.exit.code == 7
    assert await later.wait_exit() == later.exit
    assert later.read("out", 0, 100) == b"ready\n"
    assert not await later.write("g", b"more\n")


async def test_what_was_never_started_is_not_adopted(world: World) -> None:
    assert await world.host.adopt("pr_nobody") is None


async def test_a_process_is_never_started_twice(world: World) -> None:
    handle = await world.host.start("pr_a", world.launch())
    with pytest.raises(HiveError):
        await world.host.start("pr_a", world.launch())
    await handle.write("f", b"quit 0\n")
    await handle.wait_exit()
    with pytest.raises(HiveError):
        await world.host.start("pr_a", world.launch())


async def test_closing_stdin_ends_the_input_after_what_was_written(world: World) -> None:
    handle = await world.host.start("pr_a", world.launch())
    await handle.write("f", b"last\n")
    await handle.close_stdin(hang=False)
    assert (await handle.wait_exit()).code == 0
    assert handle.read("out", 0, 100) == b"ready\ngot last 4\n"
    assert not await handle.write("g", b"late\n")


async def test_a_child_that_stays_after_its_input_ended_is_a_hang(world: World) -> None:
    handle = await world.host.start("pr_a", world.launch("stays", hang_s=0.3))
    await handle.close_stdin(hang=True)
    ended = await handle.wait_exit()
    assert (ended.reason, ended.signal) == (StopReason.HANG, 15)
    assert ended.rungs == ("term",)


async def test_closing_without_hang_sets_no_clock(world: World) -> None:
    handle = await world.host.start("pr_a", world.launch("stays", hang_s=0.1))
    await handle.close_stdin(hang=False)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await handle.wait_exit()
    await handle.stop(StopMode.KILL, StopReason.USER)
    assert (await handle.wait_exit()).reason is StopReason.USER


async def test_the_ladder_begins_with_the_interrupt_frame(world: World) -> None:
    handle = await world.host.start("pr_a", world.launch(interrupt_frame=b"quit 5\n"))
    await output(handle, b"ready\n")
    await handle.stop(StopMode.TERMINATE, StopReason.SHUTDOWN)
    ended = await handle.wait_exit()
    assert (ended.code, ended.reason, ended.rungs) == (5, StopReason.SHUTDOWN, ("interrupt",))


async def test_an_interrupt_alone_goes_no_further(world: World) -> None:
    handle = await world.host.start("pr_a", world.launch(interrupt_frame=b"please\n"))
    await handle.stop(StopMode.INTERRUPT, StopReason.USER)
    assert b"got please" in await output(handle, b"please")
    await asyncio.sleep(1.2)  # longer than the whole ladder: nothing may happen
    assert handle.exit is None
    await handle.write("f", b"quit 0\n")
    ended = await handle.wait_exit()
    assert (ended.reason, ended.code, ended.rungs) == (StopReason.EXITED, 0, ("interrupt",))


async def test_the_ladder_goes_to_its_end_for_a_deaf_child(world: World) -> None:
    flags = ("deaf", "stays")
    handle = await world.host.start("pr_a", world.launch(*flags, interrupt_frame=b"please\n"))
    await output(handle, b"ready\n")
    began = time.monotonic()
    await handle.stop(StopMode.TERMINATE, StopReason.USER)
    ended = await handle.wait_exit()
    assert ended.rungs == ("interrupt", "close", "term", "sweep")
    assert (ended.signal, ended.code, ended.reason) == (9, None, StopReason.USER)
    assert 0.85 < time.monotonic() - began < 5


async def test_a_kill_during_the_ladder_does_not_wait(world: World) -> None:
    handle = await world.host.start("pr_a", world.launch("deaf", "stays"))
    await output(handle, b"ready\n")
    await handle.stop(StopMode.TERMINATE, StopReason.USER)
    await handle.stop(StopMode.KILL, StopReason.SHUTDOWN)
    ended = await handle.wait_exit()
    assert (ended.signal, ended.reason) == (9, StopReason.USER)
    assert "term" not in ended.rungs


async def test_the_deadline_ends_the_child(world: World) -> None:
    handle = await world.host.start("pr_a", world.launch(deadline_s=0.3))
    ended = await handle.wait_exit()
    assert ended.reason is StopReason.TIMEOUT


async def test_a_lifted_deadline_never_strikes_and_a_new_one_does(world: World) -> None:
    handle = await world.host.start("pr_a", world.launch(deadline_s=1.0, no_output_s=1.0))
    await handle.set_deadline(None)
    await asyncio.sleep(1.3)  # past both limits
    assert handle.exit is None
    await handle.set_deadline(0.1)
    assert (await handle.wait_exit()).reason is StopReason.TIMEOUT


async def test_a_silent_child_is_ended_and_a_talking_one_is_not(world: World) -> None:
    handle = await world.host.start("pr_a", world.launch(no_output_s=1.0))
    for number in range(6):
        await asyncio.sleep(0.2)
        assert await handle.write(f"f{number}", b"talk\n")
    assert handle.exit is None
    assert (await handle.wait_exit()).reason is StopReason.NO_OUTPUT


async def test_too_much_output_ends_the_child(world: World) -> None:
    handle = await world.host.start("pr_a", world.launch(max_output_bytes=1000))
    await handle.write("f", b"spam 990\n")
    await output(handle, 996)
    assert handle.exit is None
    await handle.write("g", b"spam 100\n")
    assert (await handle.wait_exit()).reason is StopReason.OUTPUT_LIMIT


async def test_descendants_are_swept_after_the_linger(world: World) -> None:
    handle = await world.host.start("pr_a", world.launch(linger_s=0.3))
    await handle.write("f", b"leave\nquit 0\n")
    began = time.monotonic()
    ended = await handle.wait_exit()
    assert (ended.code, ended.swept, ended.reason) == (0, 1, StopReason.EXITED)
    assert 0.25 < time.monotonic() - began < 1.3


async def test_a_change_wakes_the_waiter_and_silence_times_out(world: World) -> None:
    handle = await world.host.start("pr_a", world.launch())
    await output(handle, b"ready\n")
    await handle.wait_change(0.2)
    began = time.monotonic()
    await handle.wait_change(0.2)
    assert time.monotonic() - began > 0.15
    await handle.write("f", b"hello\n")
    began = time.monotonic()
    await handle.wait_change(5)
    assert time.monotonic() - began < 2
    await handle.write("g", b"quit 0\n")
    await handle.wait_exit()
    await handle.wait_change(5)
    await handle.wait_change(5)
    assert time.monotonic() - began < 4


async def test_removing_forgets_an_ended_process_only(world: World) -> None:
    handle = await world.host.start("pr_a", world.launch())
    with pytest.raises(HiveError):
        world.host.remove("pr_a")
    assert world.host.list_processes() == ["pr_a"]
    await handle.write("f", b"quit 0\n")
    await handle.wait_exit()
    world.host.remove("pr_a")
    assert world.host.list_processes() == []
    assert await world.host.adopt("pr_a") is None
    world.host.remove("pr_a")


async def test_a_closed_host_leaves_its_children_alone(world: World) -> None:
    handle = await world.host.start("pr_a", world.launch())
    await output(handle, b"ready\n")
    await world.restart()
    with pytest.raises(HiveError) as caught:
        await handle.write("f", b"quit 1\n")
    assert caught.value.code == "SHUTTING_DOWN"
    again = await world.host.adopt("pr_a")
    assert again is not None
    await again.write("f", b"quit 9\n")
    assert (await again.wait_exit()).code == 9
    await eventually(lambda: again.exit)
