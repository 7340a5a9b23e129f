import asyncio
import contextlib

import pytest

from hivectl import config
from hivectl.client import Client, HiveError, Notice
from hivectl.testing.daemon import FakeDaemon


@pytest.fixture
def daemon(tmp_path):
    with FakeDaemon(tmp_path) as fake:
        yield fake


def settings_of(daemon, **env):
    return config.load(env={"HIVECTL_HOME": str(daemon.home), "HOME": str(daemon.home), **env})


def client_of(daemon, **options):
    return Client(settings_of(daemon), autostart=False, **options)


async def test_a_call_returns_the_result_and_sends_what_was_given(daemon):
    daemon.answers["project.get"] = lambda params: {"id": "p_1", "name": params["project"]}
    async with client_of(daemon) as hive:
        assert (await hive.project_get("web"))["name"] == "web"
        assert hive.info["actor"] == "user:tester"
    assert ("project.get", {"project": "web"}) in daemon.requests


async def test_an_error_arrives_with_its_code_hint_and_details(daemon):
    def refuse(params):
        raise HiveError(
            "PROJECT_BUSY", "Project web is busy", details={"execution": "x_1"}, retry_after_ms=3000
        )

    daemon.answers["execute"] = refuse
    async with client_of(daemon) as hive:
        with pytest.raises(HiveError) as caught:
            await hive.execute("web", "hello", if_busy="fail")
    assert caught.value.code == "PROJECT_BUSY"
    assert caught.value.details["execution"] == "x_1"
    assert caught.value.retry_after_ms == 3000


async def test_answers_find_their_requests_whatever_the_order(daemon):
    async def slow(params):
        await asyncio.sleep(0.05 if params["execution"] == "x_1" else 0)
        return {"execution": params["execution"]}

    daemon.answers["execution.get"] = slow
    async with client_of(daemon) as hive, asyncio.TaskGroup() as group:
        tasks = [group.create_task(hive.execution_get(f"x_{n}")) for n in (1, 2, 3)]
    assert [task.result()["execution"] for task in tasks] == ["x_1", "x_2", "x_3"]


async def test_without_a_daemon_the_error_says_where_it_was_looked_for(tmp_path):
    settings = config.load(env={"HIVECTL_HOME": str(tmp_path), "HOME": str(tmp_path)})
    with pytest.raises(HiveError) as caught:
        await Client(settings, autostart=False).connect()
    assert caught.value.code == "UNAVAILABLE"
    assert str(tmp_path) in caught.value.message


async def test_another_protocol_version_is_refused_by_name(tmp_path):
    with FakeDaemon(tmp_path, protocol=7) as daemon, pytest.raises(HiveError) as caught:
        await client_of(daemon).connect()
    assert caught.value.code == "PROTOCOL_MISMATCH"


async def test_a_read_is_repeated_after_the_connection_was_cut(daemon):
    seen = []

    async def answer(params):
        seen.append(params)
        if len(seen) == 1:
            daemon._loop.call_soon(
                lambda: [c.writer.transport.abort() for c in daemon._connections]
            )
            await asyncio.sleep(5)
        return {"execution": "x_1"}

    daemon.answers["execution.get"] = answer
    async with client_of(daemon) as hive:
        assert (await hive.execution_get("x_1"))["execution"] == "x_1"
    assert len(seen) == 2


async def test_a_change_is_not_repeated_after_the_connection_was_cut(daemon):
    seen = []

    async def answer(params):
        seen.append(params)
        daemon._loop.call_soon(lambda: [c.writer.transport.abort() for c in daemon._connections])
        await asyncio.sleep(5)

    daemon.answers["kill"] = answer
    async with client_of(daemon) as hive:
        with pytest.raises(HiveError) as caught:
            await hive.kill(execution="x_1")
    assert caught.value.code == "UNAVAILABLE"
    assert len(seen) == 1


async def test_an_execute_with_a_key_is_repeated(daemon):
    seen = []

    async def answer(params):
        seen.append(params["idempotency_key"])
        if len(seen) == 1:
            daemon._loop.call_soon(
                lambda: [c.writer.transport.abort() for c in daemon._connections]
            )
            await asyncio.sleep(5)
        return {"execution": "x_1"}

    daemon.answers["execute"] = answer
    async with client_of(daemon) as hive:
        await hive.execute("web", "hi", idempotency_key="k")
    assert seen == ["k", "k"]


async def test_a_cancelled_call_tells_the_daemon(daemon):
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def never(params):
        loop.call_soon_threadsafe(started.set)
        await asyncio.sleep(60)

    daemon.answers["execution.wait"] = never
    async with client_of(daemon) as hive, asyncio.TaskGroup() as group:
        task = group.create_task(hive.execution_wait("x_1"))
        await started.wait()
        task.cancel()
    assert task.cancelled()


async def collect(subscription, count):
    found = []
    async with subscription, contextlib.aclosing(aiter(subscription)) as events:
        async for event in events:
            found.append(event["seq"])
            if len(found) == count:
                return found
    return found


async def test_a_subscription_replays_then_goes_on_live(daemon):
    for n in range(3):
        daemon.publish("project:p_1", "message", {"n": n})
    async with client_of(daemon) as hive, hive.subscribe(["project:p_1"], since="start") as sub:
        seen = []
        async for item in sub.items():
            if isinstance(item, Notice):
                assert item.kind == "caught_up"
                await asyncio.to_thread(daemon.publish, "project:p_1", "message", {"n": 3})
                continue
            seen.append(item["seq"])
            if len(seen) == 4:
                break
    assert seen == [1, 2, 3, 4]


@pytest.mark.parametrize("stream", ["project:p_1", "*"])
async def test_a_restart_neither_loses_nor_repeats_an_event(daemon, stream):
    daemon.repeats_last = 2
    for n in range(3):
        daemon.publish("project:p_1", "message", {"n": n})
    kinds, seen = [], []
    async with client_of(daemon) as hive, hive.subscribe([stream], since="start") as sub:
        async for item in sub.items():
            if isinstance(item, Notice):
                kinds.append(item.kind)
                if kinds == ["caught_up"]:
                    await asyncio.to_thread(daemon.stop)
                    await asyncio.to_thread(daemon.start)
                    for n in range(3, 6):
                        await asyncio.to_thread(daemon.publish, "project:p_1", "message", {"n": n})
                continue
            seen.append(item["seq"])
            if len(seen) == 6:
                break
    assert seen == [1, 2, 3, 4, 5, 6]
    assert kinds[:3] == ["caught_up", "disconnected", "reconnected"]


async def test_another_epoch_is_announced_and_followed(daemon):
    daemon.publish("project:p_1", "message", {})
    kinds, seen = [], []
    async with client_of(daemon) as hive, hive.subscribe(["project:p_1"], since="start") as sub:
        async for item in sub.items():
            if isinstance(item, Notice):
                kinds.append(item.kind)
                if kinds == ["caught_up"]:
                    await asyncio.to_thread(daemon.drop_connections)
                    await asyncio.to_thread(daemon.new_epoch, "project:p_1", "e_2")
                    await asyncio.to_thread(daemon.publish, "project:p_1", "message", {})
                continue
            seen.append((item["epoch"], item["seq"]))
            if len(seen) == 2:
                break
    assert seen == [("e_1", 1), ("e_2", 1)]
    assert "reset" in kinds or "epoch_changed" in kinds


@pytest.mark.parametrize("stream", ["project:p_1", "*"])
async def test_who_began_with_now_misses_nothing_of_an_epoch_that_began_while_it_was_away(
    daemon, stream
):
    daemon.publish("project:p_1", "message", {})
    seen = []
    async with client_of(daemon) as hive, hive.subscribe([stream], since="now") as sub:
        async for item in sub.items():
            if isinstance(item, Notice):
                if item.kind == "caught_up" and not seen:
                    await asyncio.to_thread(daemon.stop)
                    await asyncio.to_thread(daemon.new_epoch, "project:p_1", "e_2")
                    for _ in range(3):
                        await asyncio.to_thread(daemon.publish, "project:p_1", "message", {})
                    await asyncio.to_thread(daemon.start)
                continue
            seen.append((item["epoch"], item["seq"]))
            if len(seen) == 3:
                break
    assert seen == [("e_2", 1), ("e_2", 2), ("e_2", 3)]


async def test_a_subscription_that_may_give_up_does(daemon):
    daemon.publish("project:p_1", "message", {})

    async def follow():
        async with (
            client_of(daemon) as hive,
            hive.subscribe(["*"], since="start", give_up_s=0.0) as sub,
        ):
            async for _ in sub:
                await asyncio.to_thread(daemon.stop)

    with pytest.raises(HiveError) as caught:
        await follow()
    assert caught.value.code == "UNAVAILABLE"


async def test_a_refused_subscription_raises_at_entry(daemon):
    def refuse(params):
        raise HiveError("PROJECT_NOT_FOUND")

    daemon.answers["subscribe"] = refuse
    async with client_of(daemon) as hive:
        with pytest.raises(HiveError):
            async with hive.subscribe(["project:nope"]):
                pass
