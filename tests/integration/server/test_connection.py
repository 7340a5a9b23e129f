"""The life of a connection: handshake, heartbeat, goodbye; and plain HTTP beside it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from typing import Any

import pytest
from websockets.asyncio.client import unix_connect

import hivectl
from hivectl.server import follower as follower_module
from hivectl.server import measures as measures_module
from hivectl.testing.server_world import TOKEN, CallError, ServerWorld

A = "project:p_a"


async def test_hello_comes_first_and_auth_tells_who_you_are() -> None:
    async with ServerWorld.open() as world, world.connect(auth=False) as client:
        hello = await client.receive()
        assert hello["method"] == "hello"
        assert hello["params"]["protocol"] == [1]
        assert hello["params"]["limits"]["message_bytes"] == 8 * 1024 * 1024
        who = await client.call("auth", client={"name": "test", "version": "1"})
        assert who["actor"].startswith("user:")
        assert sorted(who["scopes"]) == [
            "admin",
            "approve",
            "ask",
            "execute",
            "manage",
            "read",
            "work",
        ]
        assert who["connection"].startswith("c_")
        assert (who["version"], who["node"]) == (hivectl.__version__, "here")
        again = await client.call("auth")
        assert again["connection"] == who["connection"]
        me = await client.call("whoami")
        assert me["peer"].startswith("unix pid=")
        assert me["execution"] is None


async def test_over_tcp_the_token_counts() -> None:
    async with ServerWorld.open() as world:
        async with world.connect(tcp=True) as client:
            assert (await client.call("whoami"))["peer"].startswith("tcp 127.0.0.1:")
        for token in (None, "hive_" + "u" * 43):
            async with world.connect(tcp=True, auth=False) as client:
                with pytest.raises(CallError) as caught:
                    await client.authenticate(token)
                assert caught.value.code == "UNAUTHENTICATED"
                assert await client.closed() == 4401


async def test_over_tcp_small_messages_do_not_wait_for_an_acknowledgement() -> None:
    async with ServerWorld.open() as world, world.connect(tcp=True):
        assert world.server is not None
        (connection,) = world.server._context.connections
        # asyncio sets it only where the listener's socket names its protocol
        accepted = connection._transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


async def test_no_subprotocol_means_the_first_version_and_an_unknown_one_is_closed() -> None:
    async with ServerWorld.open() as world:
        async with world.connect(subprotocols=None) as client:
            assert client.socket.subprotocol is None
        async with world.connect(subprotocols=["other", "hivectl.v1"]) as client:
            assert client.socket.subprotocol == "hivectl.v1"
        async with world.connect(subprotocols=["hivectl.v9"], auth=False) as client:
            assert await client.closed() == 4404


async def test_another_protocol_version_is_refused() -> None:
    async with ServerWorld.open() as world, world.connect(auth=False) as client:
        await client.next("hello")
        with pytest.raises(CallError) as caught:
            await client.call("auth", protocol=2)
        assert caught.value.code == "PROTOCOL_MISMATCH"
        assert await client.closed() == 4404


async def test_other_paths_are_no_sockets() -> None:
    async with ServerWorld.open() as world:
        with pytest.raises(Exception, match="404"):
            await unix_connect(str(world.socket), "ws://localhost/other")


async def test_a_request_sent_right_behind_auth_is_served() -> None:
    async with ServerWorld.open() as world, world.connect(auth=False) as client:
        first = await client.send("auth")
        second = await client.send("subscribe", streams=[A])
        assert (await client.answer(first))["result"]
        assert (await client.answer(second))["result"]["sub"] == "s1"


async def test_the_reply_comes_before_the_replay() -> None:
    async with ServerWorld.open() as world, world.connect() as client:
        world.append(A, 10)
        request = await client.send("subscribe", streams=[A], since="start")
        assert (await client.receive())["id"] == request


async def test_pings_are_sent_and_a_missing_pong_closes() -> None:
    flags = {"limits.heartbeat_s": 0.2, "limits.pong_s": 0.4}
    async with ServerWorld.open(flags) as world, world.connect() as client:
        await client.call("subscribe", streams=["system"])
        health = await client.next("event")
        assert health["type"] == "connection.health"
        assert health["data"]["rtt_ms"] >= 0
        client.socket.protocol.send_pong = lambda _data: None  # type: ignore[method-assign]
        original = client.socket.protocol.recv_frame

        def deaf(frame: Any) -> None:
            if frame.opcode != 9:
                original(frame)

        client.socket.protocol.recv_frame = deaf  # type: ignore[method-assign]
        assert await client.closed() == 4431


async def test_a_connection_without_any_frame_is_closed() -> None:
    async with ServerWorld.open({"limits.idle_close_s": 1}) as world, world.connect() as client:
        assert await client.closed() == 1001


async def test_before_the_end_everyone_is_told() -> None:
    async with (
        ServerWorld.open() as world,
        world.connect() as client,
        world.connect(tcp=True) as other,
    ):
        waiting = await client.send("execution.wait", execution="x_1")
        await client.call("ping")
        stopping = asyncio.get_running_loop().create_task(world.stop())
        going = await client.next("going_away")
        assert going["reconnect_after_ms"] > 0
        assert await client.closed() == 1012
        assert await other.closed() == 1012
        await stopping
        assert not any(frame.get("id") == waiting for frame in client.frames)


async def test_a_restarted_server_takes_cursors_of_the_one_before() -> None:
    async with ServerWorld.open() as world:
        async with world.connect() as client:
            await client.call("subscribe", streams=[A, "system"])
            world.append(A, 3)
            last = (await client.events(3))[-1]
        await world.stop()
        world.append(A, 2)
        await world.start()
        async with world.connect() as client:
            since = {"positions": {A: {"epoch": last["epoch"], "seq": last["seq"]}}}
            result = await client.call("subscribe", streams=["*"], since=since)
            assert result["recovered"] is True
            assert [event["seq"] for event in await client.events(2)] == [4, 5]


async def test_filtered_followers_get_bookmarks_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower_module, "BOOKMARK_S", 0.2)
    async with ServerWorld.open() as world, world.connect() as client:
        sub = (await client.call("subscribe", streams=[A], types=["approval.*"]))["sub"]
        world.append(A, 4)
        mark = await client.next("bookmark")
        assert mark["sub"] == sub
        while mark["positions"][A]["seq"] != 4:
            mark = await client.next("bookmark")


async def test_stats_are_sent_while_somebody_follows_system(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(measures_module, "STATS_S", 0.2)
    async with ServerWorld.open() as world, world.connect() as client:
        await client.call("subscribe", streams=["system"])
        stats = await client.next("event")
        assert (stats["type"], stats["data"]) == ("stats", {"uptime_s": 1.0})
        assert "seq" not in stats


async def test_an_idle_server_sets_no_timers() -> None:
    async with ServerWorld.open() as world:
        async with world.connect() as client:
            await client.call("ping")
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(5):
            while world.server is None or world.server.connections:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0)
        pending = [t for t in loop._scheduled if not t.cancelled()]  # type: ignore[attr-defined]
        assert [t for t in pending if "hivectl" in repr(t)] == []


# --- plain HTTP ---------------------------------------------------------------------------------------


async def http(
    world: ServerWorld, head: str, body: bytes = b"", *, tcp: bool = False
) -> tuple[int, dict[str, str], bytes]:
    if tcp:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    else:
        reader, writer = await asyncio.open_unix_connection(str(world.socket))
    host = f"127.0.0.1:{world.port}" if tcp else "localhost"
    line, _, rest = head.partition("\r\n")
    text = f"{line} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{rest}"
    if body:
        text += f"Content-Length: {len(body)}\r\n"
    writer.write(text.encode() + b"\r\n" + body)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    top, _, content = answer.partition(b"\r\n\r\n")
    first, *lines = top.decode().split("\r\n")
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines)}
    return int(first.split()[1]), headers, content


def request(method: str, **params: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()


JSON = "POST /rpc\r\nContent-Type: application/json\r\n"


async def test_rpc_serves_one_request_over_plain_http() -> None:
    async with ServerWorld.open() as world:
        status, headers, body = await http(world, JSON, request("project.list"))
        assert (status, json.loads(body)["result"]) == (200, {"ok": True})
        assert headers["content-type"] == "application/json"
        assert headers["date"].endswith("GMT")
        assert "server" not in headers
        bearer = f"Authorization: Bearer {TOKEN}\r\n"
        assert (await http(world, JSON + bearer, request("whoami"), tcp=True))[0] == 200


async def test_rpc_refuses_what_needs_a_connection_that_stays() -> None:
    async with ServerWorld.open() as world:
        for method in ("subscribe", "auth", "tail", "project.join"):
            status, _, body = await http(world, JSON, request(method))
            assert status == 400
            assert json.loads(body)["error"]["data"]["code"] == "INVALID_REQUEST"


async def test_rpc_errors_carry_status_and_headers() -> None:
    async with ServerWorld.open() as world:
        status, headers, body = await http(world, JSON, request("whoami"), tcp=True)
        assert status == 401
        assert headers["www-authenticate"] == "Bearer"
        assert (await http(world, JSON, request("session.list")))[0] == 500
        assert (await http(world, JSON, request("execute")))[0] == 422
        assert (await http(world, JSON, request("nothing")))[0] == 404
        assert (await http(world, "POST /rpc\r\n", request("ping")))[0] == 400
        assert json.loads(body)["error"]["data"]["request_id"].startswith("r_")


async def test_health_and_ready_are_bare() -> None:
    async with ServerWorld.open() as world:
        for path in ("/healthz", "/readyz"):
            status, _, body = await http(world, f"GET {path}\r\n", tcp=True)
            assert (status, body) == (200, b"ok\n")
        status, headers, body = await http(world, "DELETE /healthz\r\n")
        assert (status, headers["content-type"]) == (405, "application/problem+json")
        status, headers, body = await http(world, "GET /nowhere\r\n")
        assert (status, headers["content-type"]) == (404, "application/problem+json")
        assert json.loads(body)["status"] == 404


async def test_a_kept_connection_serves_request_after_request() -> None:
    async with ServerWorld.open() as world:
        reader, writer = await asyncio.open_unix_connection(str(world.socket))
        body = request("ping")
        one = f"POST /rpc HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write((one.encode() + body) * 3)
        got = b""
        async with asyncio.timeout(5):
            while got.count(b'"result"') < 3:
                got += await reader.read(65536)
        writer.close()


async def test_changes_are_audited_and_refused_while_draining() -> None:
    async with ServerWorld.open() as world, world.connect() as client:
        await client.call("execute", project="web", prompt="p")
        with pytest.raises(CallError):
            await client.call("execute", project="web")
        await client.call("project.list")
        actor = (await client.call("whoami"))["actor"]
        assert world.audits == [
            (actor, "execute", "web", "ok"),
            (actor, "execute", "web", "INVALID_PARAMS"),
        ]
        assert world.server is not None
        world.server.drain()
        with pytest.raises(CallError) as caught:
            await client.call("execute", project="web", prompt="p")
        assert caught.value.code == "SHUTTING_DOWN"
        assert caught.value.error["data"]["retryable"] is True
        assert (await client.call("project.list"))["ok"]


async def test_schemas_cover_every_method() -> None:
    from hivectl.protocol.methods import METHODS

    async with ServerWorld.open() as world, world.connect() as client:
        schema = await client.call("schema.get")
        assert set(schema["methods"]) == set(METHODS)
        assert schema["methods"]["execute"]["params"]["additionalProperties"] is False
        assert schema["errors"]["PROJECT_BUSY"]["code"] == -32010
        assert schema["events"]["message"]["durable"] is True


async def test_what_is_left_over_at_the_end_is_cut() -> None:
    async with ServerWorld.open() as world:
        reader, writer = await asyncio.open_unix_connection(str(world.socket))
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        await asyncio.sleep(0)
        async with asyncio.timeout(5):
            await world.stop()
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        writer.close()
