"""Subscriptions over real sockets: replay, live, overlap, lag."""

from __future__ import annotations

import asyncio

import pytest

from hivectl.journal.record import Draft
from hivectl.journal.writer import StreamLog
from hivectl.testing.server_world import CallError, Client, HistoryChecker, ServerWorld

A, B = "project:p_a", "project:p_b"


async def seqs(client: Client, count: int) -> list[int]:
    return [event["seq"] for event in await client.events(count)]


async def test_replay_then_caught_up_then_live() -> None:
    async with ServerWorld.open() as world, world.connect() as client:
        world.append(A, 5)
        result = await client.call("subscribe", streams=["project:web"], since="start")
        assert result["positions"][A]["seq"] == 5
        assert result["recovered"] is True
        assert await seqs(client, 5) == [1, 2, 3, 4, 5]
        caught_up = await client.next("caught_up")
        assert caught_up["positions"][A]["seq"] == 5
        world.append(A, 2)
        assert await seqs(client, 2) == [6, 7]


async def test_an_event_frame_carries_the_envelope_and_the_data_unchanged() -> None:
    async with ServerWorld.open() as world, world.connect() as client:
        await client.call("subscribe", streams=["*"])
        world.append(A, execution="x_1", session="s", request="r_1", actor="user:me")
        event = (await client.events(1))[0]
        assert event["stream"] == A
        assert event["project"] == "p_a"
        assert (event["execution"], event["session"]) == ("x_1", "s")
        assert (event["request"], event["actor"]) == ("r_1", "user:me")
        assert event["type"] == "message"
        assert event["data"] == {"n": 1, "text": ""}
        assert event["ts"].endswith("Z")


async def test_a_view_of_everything_includes_streams_that_appear_later() -> None:
    async with ServerWorld.open() as world, world.connect() as client:
        await client.call("subscribe", streams=["*"])
        world.append(A, 2)
        world.append(B, 1)
        seen = [(event["stream"], event["seq"]) for event in await client.events(3)]
        assert sorted(seen) == [(A, 1), (A, 2), (B, 1)]


async def test_logs_are_opened_one_by_one_for_a_view_and_one_that_is_removed_meanwhile_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with ServerWorld.open() as world, world.connect() as client:
        names = [f"project:p_{number:02}" for number in range(20)]
        for name in names:
            world.journal.open(name).append([Draft("message", b"{}", 0)])
        opened: list[int] = []
        turn = 0
        open_log = world.journal.open

        def noted(stream: str) -> StreamLog:
            opened.append(turn)
            if stream == names[4]:
                world.journal.remove(names[9])
            return open_log(stream)

        async def count() -> None:
            nonlocal turn
            while True:
                turn += 1
                await asyncio.sleep(0)

        monkeypatch.setattr(world.journal, "open", noted)
        counting = asyncio.get_running_loop().create_task(count())
        result = await client.call("subscribe", streams=["*"], since="start")
        counting.cancel()
        assert len(opened) == len(set(opened)) >= 19, "others had the loop in between"
        assert set(names) - set(result["positions"]) == {names[9]}
        assert len(await client.events(19)) == 19


async def test_the_inbox_shows_only_what_people_must_answer() -> None:
    async with ServerWorld.open() as world, world.connect() as client:
        await client.call("subscribe", streams=["inbox"])
        world.append(A, 3)
        world.append(A, 1, kind="approval.requested")
        event = (await client.events(1))[0]
        assert (event["type"], event["seq"]) == ("approval.requested", 4)


async def test_overlapping_subscriptions_show_an_event_once() -> None:
    async with ServerWorld.open() as world, world.connect() as client:
        world.append(A, 2)
        await client.call("subscribe", streams=[A], types=["message"])
        await client.call("subscribe", streams=["*"], since="start")
        await client.call("tail", projects=["web"], last=1)
        assert sorted(await seqs(client, 2)) == [1, 2]
        world.append(A, 1)
        world.append(A, 1, kind="stderr")
        world.append(A, 1)
        assert await seqs(client, 3) == [3, 4, 5]


async def test_unsubscribe_ends_it() -> None:
    async with ServerWorld.open() as world, world.connect() as client:
        first = await client.call("subscribe", streams=[A])
        second = await client.call("subscribe", streams=[B])
        await client.call("unsubscribe", sub=first["sub"])
        world.append(A, 1)
        world.append(B, 1)
        assert (await client.events(1))[0]["stream"] == B
        with pytest.raises(CallError):
            await client.call("unsubscribe", sub=first["sub"])
        await client.call("unsubscribe", sub=second["sub"])


async def test_last_counts_wanted_types_only() -> None:
    async with ServerWorld.open() as world, world.connect() as client:
        for _ in range(3):
            world.append(A, 1, kind="stderr")
            world.append(A, 4)
        await client.call("tail", projects=["web"], last=2, types=["stderr"])
        assert await seqs(client, 2) == [6, 11]


async def test_a_slow_reader_falls_back_to_the_log_and_loses_nothing() -> None:
    async with (
        ServerWorld.open() as world,
        world.connect(max_queue=1) as slow,
        world.connect() as quick,
    ):
        await slow.call("subscribe", streams=[A])
        await quick.call("subscribe", streams=[A])
        checker, witness = HistoryChecker(), HistoryChecker()
        for _ in range(60):
            world.append(A, 200, size=1000)
            for event in await quick.events(200):
                witness.feed(event)
        last = world.journal.open(A).last_seq
        assert witness.check({A: last}) == []
        lagged = 0
        while (checker.position(A) or {"seq": 0})["seq"] < last:
            frame = await slow.receive()
            lagged += frame["method"] == "lagged"
            if frame["method"] == "event":
                checker.feed(frame["params"])
        assert lagged >= 1
        assert checker.check({A: last}) == []
        assert checker.repeats == 0


async def test_nothing_is_shown_to_a_connection_that_is_being_closed() -> None:
    async with ServerWorld.open() as world, world.connect() as client:
        world.append(A, 100, size=30_000)
        await client.call("subscribe", streams=["*"], since="start")
        assert world.server is not None
        assert world.server.subscriptions == 1
        await client.socket.send(b"binary is refused")
        assert await client.closed() == 1003
        assert world.server.subscriptions == 0


async def test_partials_come_only_to_who_asked_and_after_what_was_numbered_before() -> None:
    async with ServerWorld.open() as world, world.connect() as asking, world.connect() as other:
        await asking.call("subscribe", streams=[A], partials=True)
        await other.call("subscribe", streams=[A])
        world.append(A, 1)
        world.bus.ephemeral(A, "partial", {"raw": {"t": "a"}}, execution="x_1")
        world.append(A, 1)
        world.bus.ephemeral(A, "partial", {"raw": {"t": "b"}}, execution="x_1")
        got = [await asking.next("event") for _ in range(4)]
        assert [event.get("seq", "p") for event in got] == [1, "p", 2, "p"]
        assert [event["data"]["after_seq"] for event in got if "seq" not in event] == [1, 2]
        assert await seqs(other, 2) == [1, 2]
        await asyncio.sleep(0)
        assert not other.frames


async def test_presence_is_seen_by_who_follows() -> None:
    async with ServerWorld.open() as world, world.connect() as one:
        joined = await one.call("project.join", project="web")
        assert joined["project"] == "p_a"
        assert len(joined["present"]) == 1
        async with world.connect() as two:
            await two.call("project.join", project="web")
            seen = [await one.next("event"), await one.next("event")]
            assert {event["type"] for event in seen} == {"presence.joined"}
            left = await two.call("project.leave", project="web")
            assert len(left["present"]) == 1
            assert (await one.next("event"))["type"] == "presence.left"


async def test_subscriptions_are_limited() -> None:
    async with ServerWorld.open({"limits.subscriptions": 2}) as world, world.connect() as client:
        await client.call("subscribe", streams=[A])
        await client.call("subscribe", streams=[A])
        with pytest.raises(CallError) as caught:
            await client.call("subscribe", streams=[A])
        assert caught.value.code == "RESOURCE_LIMIT"
        assert caught.value.error["data"]["details"]["limit"] == "limits.subscriptions"


async def test_overlapping_subscriptions_of_a_reader_that_stalls_show_each_event_once_and_in_order() -> (
    None
):
    """It takes nothing while everything is written, changes what it follows, then reads what is due."""
    async with ServerWorld.open() as world, world.connect(max_queue=1) as client:
        world.append(A, 50, size=2000)
        await client.call("subscribe", streams=[A], since="start")
        second = await client.call("subscribe", streams=["*"], since="start")
        await client.call("subscribe", streams=[A, B], since="start")
        await client.call("subscribe", streams=[A], since="now", types=["stderr"])
        for _ in range(40):
            world.append(A, 50, size=2000)
            world.append(B, 50, size=2000)
            world.append(A, 1, kind="stderr")
            await asyncio.sleep(0)
        # Behind 8 MB that nobody has read.
        leaving = await client.send("unsubscribe", sub=second["sub"])
        coming = await client.send("subscribe", streams=["*"], since="start")
        for _ in range(10):
            world.append(B, 50, size=2000)
            world.append(A, 50, size=2000)
            await asyncio.sleep(0)
        assert "result" in await client.answer(leaving)
        assert "result" in await client.answer(coming)
        last = {stream: world.journal.open(stream).last_seq for stream in (A, B)}
        checker = HistoryChecker()

        async def read_up_to(last: dict[str, int]) -> None:
            while any((checker.position(name) or {"seq": 0})["seq"] < last[name] for name in last):
                frame = client.frames.popleft() if client.frames else await client.receive()
                if frame.get("method") == "event":
                    checker.feed(frame["params"])

        await read_up_to(last)
        world.append(A, 1)
        world.append(B, 1)
        newest = {name: seq + 1 for name, seq in last.items()}
        await read_up_to(newest)
        assert checker.check(newest) == []
        assert checker.repeats == 0
