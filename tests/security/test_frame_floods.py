"""Floods of frames before and after `auth`: each ends with its code, and none takes the loop for long (S36, S39)."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hivectl.protocol.closing import Close
from hivectl.server import limits, ws
from hivectl.testing.server_world import TOKEN, ServerWorld
from tests.harness.certificates import authority, settings_of

MOST_A_TURN = limits.FRAMES_A_TURN + limits.SLICE_BYTES // 6 + 1
FLOOD = 30_000
AUTH = b'{"jsonrpc":"2.0","id":"a","method":"auth","params":{"token":"%s"}}' % TOKEN.encode()


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + struct.pack("!H", size)
    return bytes([0x80 * fin | opcode]) + length + b"\0\0\0\0" + payload


FLOODS = {
    "fragments of one byte": (
        frame(1, b"a", fin=False) + frame(0, b"a", fin=False) * FLOOD,
        Close.TOO_BIG,
    ),
    "empty fragments": (frame(1, fin=False) + frame(0, fin=False) * FLOOD, Close.TOO_BIG),
    "empty texts": (frame(1) * FLOOD, Close.BAD_MESSAGE),
    "tiny texts": (frame(1, b"{}") * FLOOD, Close.RATE_LIMITED),
    "empty binaries": (frame(2) * FLOOD, Close.BINARY),
    "pings": (frame(9) * FLOOD, Close.RATE_LIMITED),
    "pongs nobody asked for": (frame(10) * FLOOD, Close.RATE_LIMITED),
    "pings between fragments": (
        frame(1, b"a", fin=False) + frame(9) * FLOOD,
        Close.RATE_LIMITED,
    ),
}


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many frames each turn of a connection parsed."""
    counted: list[int] = []
    take, handle = ws.Socket._take, ws.Socket._handle_events

    def taking(self: ws.Socket, data: bytes) -> None:
        counted.append(0)
        take(self, data)

    def handling(self: ws.Socket) -> int:
        seen = handle(self)
        counted[-1:] = [sum(counted[-1:]) + seen]
        return seen

    monkeypatch.setattr(ws.Socket, "_take", taking)
    monkeypatch.setattr(ws.Socket, "_handle_events", handling)
    return counted


@asynccontextmanager
async def opened(
    way: str, tmp_path: Path
) -> AsyncIterator[tuple[ServerWorld, asyncio.StreamReader, asyncio.StreamWriter]]:
    """A raw connection behind its upgrade."""
    ca = authority(tmp_path / "ca") if way == "tls" else None
    flags = settings_of(*ca.issue("one")) if ca is not None else {}
    async with ServerWorld.open(flags) as world:
        if way == "unix":
            reader, writer = await asyncio.open_unix_connection(str(world.socket))
        else:
            context = ca.client_context() if ca is not None else None
            reader, writer = await asyncio.open_connection("127.0.0.1", world.port, ssl=context)
        writer.write(
            b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            % world.port
        )
        await reader.readuntil(b"\r\n\r\n")
        yield world, reader, writer
        writer.close()


async def closing_code(reader: asyncio.StreamReader) -> int:
    """Read frames up to the close frame."""
    async with asyncio.timeout(30):
        while True:
            first, size = await reader.readexactly(2)
            if size == 126:
                (size,) = struct.unpack("!H", await reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await reader.readexactly(8))
            payload = await reader.readexactly(size)
            if first & 15 == 8:
                return int.from_bytes(payload[:2], "big")


@pytest.mark.parametrize("name", FLOODS)
@pytest.mark.parametrize("is_known", [False, True], ids=["stranger", "known"])
async def test_s36_a_flood_of_frames_ends_with_its_code_and_in_small_turns(
    turns: list[int], tmp_path: Path, name: str, is_known: bool
) -> None:
    data, code = FLOODS[name]
    async with opened("unix", tmp_path) as (world, reader, writer), world.connect() as bystander:
        if is_known:
            writer.write(frame(1, AUTH))
        writer.write(data)
        assert await closing_code(reader) == code
        assert (await bystander.call("ping"))["time"]
    assert max(turns) <= MOST_A_TURN


@pytest.mark.parametrize("way", ["unix", "tcp", "tls"])
async def test_s36_every_door_parses_in_turns(turns: list[int], tmp_path: Path, way: str) -> None:
    data, code = FLOODS["fragments of one byte"]
    async with opened(way, tmp_path) as (_, reader, writer):
        writer.write(data)
        assert await closing_code(reader) == code
    assert max(turns) <= MOST_A_TURN


async def test_s36_a_stranger_may_send_few_fragments(turns: list[int], tmp_path: Path) -> None:
    most = limits.BEFORE_AUTH_BYTES // limits.FRAGMENT_BYTES
    ping = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
    async with opened("unix", tmp_path) as (_, reader, writer):
        writer.write(frame(1, ping, fin=False) + frame(0, fin=False) * (most - 2) + frame(0))
        answer = await reader.readuntil(b'"time"')
        assert b'"id":1' in answer
        writer.write(frame(1, ping, fin=False) + frame(0, fin=False) * most)
        await reader.readuntil(b"}}")
        assert await closing_code(reader) == Close.TOO_BIG
    assert sum(turns) < most * 3


async def test_s36_what_is_put_off_comes_whole_and_in_order(
    turns: list[int], tmp_path: Path
) -> None:
    """Fragments enough for many turns, then a request right behind them, in one write."""
    most = 8 * 1024
    ping = b'{"jsonrpc":"2.0","id":"%s","method":"ping"}'
    first = frame(1, ping % b"one", fin=False) + frame(0, fin=False) * (most - 2) + frame(0)
    async with opened("unix", tmp_path) as (_, reader, writer):
        writer.write(frame(1, AUTH) + first + frame(1, ping % b"two"))
        async with asyncio.timeout(30):
            answers = await reader.readuntil(b'"id":"two"')
        assert b'"id":"one"' in answers
        writer.write(frame(1, ping % b"three"))
        async with asyncio.timeout(30):
            await reader.readuntil(b'"id":"three"')
    assert len([turn for turn in turns if turn >= limits.FRAMES_A_TURN]) > 3


async def test_s36_who_floods_on_behind_the_close_frame_is_not_listened_to(
    turns: list[int], tmp_path: Path
) -> None:
    async with opened("unix", tmp_path) as (_, reader, writer):
        writer.write(frame(2) * FLOOD)
        assert await closing_code(reader) == Close.BINARY
        async with asyncio.timeout(30):
            assert await reader.read(-1) == b"", "the end follows at once"
    assert sum(turns) <= 2 * MOST_A_TURN, "the rest was read, not parsed"
