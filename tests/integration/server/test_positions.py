"""Where a follower starts, and what it is told when it cannot start there."""

from __future__ import annotations

import asyncio

import pytest

from hivectl.engine.bus import Bus
from hivectl.journal.writer import JournalLimits
from hivectl.kit.clock import format_us
from hivectl.model.errors import HiveError
from hivectl.testing.server_world import CallError, ServerWorld

A, B = "project:p_a", "project:p_b"
SHORT = JournalLimits(segment_lines=100, retention_bytes=1, ring_lines=10, ring_bytes=1000)


async def test_a_position_of_another_epoch_starts_at_the_oldest_event_and_says_why() -> None:
    async with ServerWorld.open() as world, world.connect() as client:
        world.append(A, 3)
        result = await client.call("subscribe", streams=[A], since={"epoch": "e_old", "seq": 2})
        assert (result["recovered"], result["reason"]) == (False, "epoch_changed")
        assert [event["seq"] for event in await client.events(3)] == [1, 2, 3]


async def test_a_position_beyond_the_end_cannot_be_recovered() -> None:
    async with ServerWorld.open() as world, world.connect() as client:
        world.append(A, 3)
        epoch = world.journal.open(A).epoch
        with pytest.raises(CallError) as caught:
            await client.call("subscribe", streams=[A], since={"epoch": epoch, "seq": 9})
        assert caught.value.code == "UNRECOVERABLE_POSITION"
        assert caught.value.error["data"]["details"]["next"] == {"epoch": epoch, "seq": 4}


async def test_a_position_that_retention_overtook_starts_at_the_oldest_event_kept() -> None:
    async with ServerWorld.open(journal=SHORT) as world, world.connect() as client:
        for _ in range(5):
            world.append(A, 100, size=100)
        await world.journal.settle()
        log = world.journal.open(A)
        assert log.first_seq > 1
        since = {"epoch": log.epoch, "seq": 0}
        result = await client.call("subscribe", streams=[A], since=since)
        assert (result["recovered"], result["reason"]) == (False, "retention")
        assert (await client.events(1))[0]["seq"] == log.first_seq
        started = await client.call("subscribe", streams=[A], since="start")
        assert started["recovered"] is True


async def test_retention_that_overtakes_a_reader_resets_it() -> None:
    flags = {"limits.held_bytes": "64K"}
    async with (
        ServerWorld.open(flags, journal=SHORT) as world,
        world.connect(max_queue=1) as client,
    ):
        for _ in range(3):
            world.append(A, 100, size=2000)
        await client.call("subscribe", streams=[A], since="start")
        for _ in range(200):
            world.append(A, 100, size=2000)
            await asyncio.sleep(0)
        await world.journal.settle()
        reset = await client.next("reset")
        assert (reset["stream"], reset["reason"]) == (A, "retention")
        assert (await client.events(1))[0]["seq"] == reset["next"]["seq"]


async def test_last_and_time_and_now() -> None:
    async with ServerWorld.open() as world, world.connect() as client:
        world.append(A, 5)
        await asyncio.sleep(0.01)
        middle = format_us(world.clock.now_us())
        world.append(A, 5)

        async def first(since: object, stream: str = A) -> int:
            sub = await client.call("subscribe", streams=[stream], since=since)
            seq: int = (await client.events(1))[0]["seq"]
            await client.call("unsubscribe", sub=sub["sub"])
            client.frames.clear()
            return seq

        assert await first({"last": 3}) == 8
        assert await first({"last": 100}) == 1
        assert await first({"time": middle}) == 6
        assert await first({"time": "1h"}) == 1
        with pytest.raises(CallError) as caught:
            await client.call("subscribe", streams=[A], since={"time": "yesterday"})
        assert caught.value.code == "INVALID_PARAMS"
        await client.call("subscribe", streams=[A], since={"last": 0})
        world.append(A, 1)
        assert (await client.events(1))[0]["seq"] == 11


async def test_one_position_cannot_stand_for_several_streams() -> None:
    async with ServerWorld.open() as world, world.connect() as client:
        world.append(A)
        world.append(B)
        since = {"epoch": "e", "seq": 1}
        for streams in (["*"], [A, B]):
            with pytest.raises(CallError) as caught:
                await client.call("subscribe", streams=streams, since=since)
            assert caught.value.code == "INVALID_PARAMS"


async def test_streams_that_do_not_exist_are_named() -> None:
    async with ServerWorld.open() as world, world.connect() as client:
        for name, code in (("project:nope", "PROJECT_NOT_FOUND"), ("task:t_1", "STREAM_NOT_FOUND")):
            with pytest.raises(CallError) as caught:
                await client.call("subscribe", streams=[name])
            assert caught.value.code == code


async def test_a_stream_that_is_removed_ends_for_its_followers() -> None:
    async with ServerWorld.open() as world, world.connect() as client:
        await client.call("subscribe", streams=["*"])
        world.append(A, 2)
        await client.events(2)
        world.journal.remove(A)
        world.append(B, 1)
        assert (await client.events(1))[0]["stream"] == B
        async with world.connect() as another:
            result = await another.call("subscribe", streams=["*"], since="start")
            assert sorted(result["positions"]) == [B, "system"]


async def test_the_bus_shows_nothing_before_it_is_told() -> None:
    async with ServerWorld.open() as world:
        world.append(A, 2)
        log = world.journal.open(A)
        bus = Bus(world.journal, world.clock)
        assert bus.head(A).last_seq == 2
        bus.follow(A)
        from hivectl.journal.record import Draft

        log.append([Draft("message", b"{}", 1)])
        assert bus.head(A).last_seq == 2
        assert bus.frames(A, 0, 10, 1 << 20)[-1].seq == 2
        bus.notify(A)
        assert [frame.seq for frame in bus.frames(A, 1, 10, 1 << 20)] == [2, 3]
        assert [frame.seq for frame in bus.frames(A, 2, 10, 1 << 20)] == [3]
        assert bus.newest(A, 2, 10, 1 << 20) is not None
        assert bus.newest(A, 1, 10, 1 << 20) is None
        with pytest.raises(HiveError):
            bus.head("project:unknown")
