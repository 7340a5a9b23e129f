"""The HTTP connection itself: one request after the other, on the wire."""

from __future__ import annotations

import asyncio
import json
import re

from hivectl.server.limits import HTTP_CONNECTIONS
from hivectl.testing.server_world import ServerWorld

HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def rpc(method: str, *, headers: bytes = b"") -> bytes:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method}).encode()
    head = b"POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return head + headers + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def exchange(*pieces: bytes) -> bytes:
    """What comes back for these pieces until the server closes."""
    async with ServerWorld.open() as world:
        assert world.server is not None
        reader, writer = await asyncio.open_unix_connection(str(world.server.addresses.socket))
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        return answer


async def test_requests_sent_at_once_are_answered_in_their_order() -> None:
    answer = await exchange(
        HEALTHZ + rpc("ping") + b"GET /no HTTP/1.1\r\nHost: localhost\r\n\r\n" + LAST
    )
    assert re.findall(rb"HTTP/1\.1 (\d+)", answer) == [b"200", b"200", b"404", b"200"]
    assert answer.count(b"connection: close") == 1
    assert answer.index(b'"result"') < answer.index(b"METHOD_NOT_FOUND")


async def test_a_request_may_come_byte_by_byte() -> None:
    answer = await exchange(*[LAST[n : n + 1] for n in range(len(LAST))])
    assert answer.startswith(b"HTTP/1.1 200 OK\r\ndate: ")
    assert answer.endswith(b"\r\n\r\nok\n")


async def test_what_stands_behind_the_last_request_is_not_served() -> None:
    answer = await exchange(LAST + HEALTHZ)
    assert answer.count(b"HTTP/1.1") == 1


async def test_an_old_client_is_answered_and_the_connection_ends() -> None:
    answer = await exchange(b"GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert answer.endswith(b"\r\n\r\nok\n")
    assert b"connection: close" in answer


async def test_connections_beyond_the_limit_are_told_so_until_one_ends() -> None:
    async with ServerWorld.open() as world, asyncio.timeout(30):
        assert world.server is not None
        place = str(world.server.addresses.socket)
        idle = [await asyncio.open_unix_connection(place) for _ in range(HTTP_CONNECTIONS)]
        for reader, writer in idle:  # each of them is served
            writer.write(HEALTHZ)
            assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200 ")

        reader, writer = await asyncio.open_unix_connection(place)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"CONNECTION_LIMIT" in answer
        assert b"\r\nretry-after: 1\r\n" in answer
        writer.close()

        idle.pop()[1].close()
        answer = b""
        while not answer.endswith(b"ok\n"):  # the server hears a little later of the end
            reader, writer = await asyncio.open_unix_connection(place)
            writer.write(LAST)
            answer = await reader.read()
            writer.close()
        for _, writer in idle:
            writer.close()


async def test_head_gets_the_head_and_another_method_is_told_which() -> None:
    head = LAST.replace(b"GET", b"HEAD")
    assert (await exchange(head)).endswith(b"connection: close\r\n\r\n")
    answer = await exchange(LAST.replace(b"GET", b"DELETE"))
    assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\n")
    assert b"\r\nallow: GET\r\n" in answer


async def test_who_waits_before_sending_a_body_is_told_to_go_on() -> None:
    whole = rpc("ping", headers=b"Expect: 100-continue\r\nConnection: close\r\n")
    head, mark, body = whole.partition(b"\r\n\r\n")
    answer = await exchange(head + mark, body)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")


async def test_an_upgrade_behind_another_request_is_refused() -> None:
    upgrade = (
        b"GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    answer = await exchange(HEALTHZ + upgrade)
    assert b"101" not in answer
    assert b"This upgrade is not offered." in answer


async def test_who_does_not_read_its_answers_is_not_served_on() -> None:
    async with ServerWorld.open() as world:
        assert world.server is not None
        reader, writer = await asyncio.open_unix_connection(str(world.server.addresses.socket))
        writer.write(rpc("schema.get") * 40)
        await asyncio.sleep(0.5)
        (connection,) = world.server._state.connections
        assert connection._is_clogged
        assert connection._waiting
        writer.write(LAST)
        async with asyncio.timeout(30):
            answer = await reader.read()
        writer.close()
        assert answer.count(b"HTTP/1.1 200 OK") == 41
