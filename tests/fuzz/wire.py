"""The server's two protocols, fed with anything: every answer is one of the protocol's, and others are served.

The real server with its real journal; only the transport is a pretended one, so that a run takes no system call.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import struct
from contextlib import AsyncExitStack
from typing import Any

from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import OPEN
from websockets.server import ServerProtocol

from hivectl.model.errors import TABLE
from hivectl.protocol.closing import Close
from hivectl.server.security import Gate
from hivectl.testing.server_world import ServerWorld

_UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
_AUTH = b'{"jsonrpc":"2.0","id":"a","method":"auth"}'
_PING = b'{"jsonrpc":"2.0","id":"p","method":"ping"}'
_TURNS = 400
_CLOSES = {1000, 1002, 1003, 1005, 1007, 1009} | {int(code) for code in Close}


class _Transport(asyncio.Transport):
    """Takes everything at once."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__({"socket": sock})
        self.written = bytearray()
        self.protocol: Any = None
        self.has_ended = False
        self._is_closing = False

    def write(self, data: Any) -> None:
        assert not self.has_ended, "written behind the end"
        self.written += data

    def write_eof(self) -> None:
        self.has_ended = True

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        self._is_closing = True

    def abort(self) -> None:
        self._is_closing = True

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        found: asyncio.BaseProtocol = self.protocol
        return found

    def pause_reading(self) -> None:
        return

    def resume_reading(self) -> None:
        return

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        return

    def get_write_buffer_size(self) -> int:
        return 0


class _Faults(logging.Handler):
    """Whatever is logged as an error is a finding."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.found.append(self.format(record))


class _World:
    """One server for all runs of a process."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.faults = _Faults()
        logging.getLogger("hivectl").addHandler(self.faults)
        self.loop.set_exception_handler(lambda _, how: self.faults.found.append(repr(how)))
        self.ours, self.theirs = socket.socketpair()
        self._stack = AsyncExitStack()
        self.world: ServerWorld = self.loop.run_until_complete(self._start())

    async def _start(self) -> ServerWorld:
        flags = {"limits.messages_per_s": 1_000_000, "limits.messages_burst": 1_000_000, "listen.tcp": "off"}  # fmt: skip
        world = await self._stack.enter_async_context(ServerWorld.open(flags))
        world.release.set()

        async def note(_caller: Any, _params: Any) -> dict[str, Any]:
            return {"ok": True}

        assert world.server is not None
        world.server._bindings.update({"session.list": note, "session.get": note})
        world.server._dispatcher._bindings = world.server._bindings
        world.append("project:p_a", 3)
        return world

    def connect(self) -> _Transport:
        assert self.world.server is not None
        transport = _Transport(self.ours)
        protocol = self.world.server._protocol(Gate(port=None))
        transport.protocol = protocol
        protocol.connection_made(transport)
        return transport

    async def settle(self) -> None:
        """Let every request be answered."""
        for turn in range(_TURNS):
            await asyncio.sleep(0 if turn < 30 else 0.001)
            if turn >= 6 and not self._waits():
                return

    def _waits(self) -> bool:
        names = [task.get_name() for task in asyncio.all_tasks(self.loop)]
        return any(" r_" in name for name in names) or bool(self.world.server._state.tasks)  # type: ignore[union-attr]

    async def play(self, pieces: list[bytes]) -> bytes:
        """Feed one connection; what it answered."""
        transport = self.connect()
        for piece in pieces:
            if transport.is_closing():
                break
            transport.protocol.data_received(piece)
        await self.settle()
        if not transport.is_closing():
            transport.protocol.eof_received()
        transport.protocol.connection_lost(None)
        await self.settle()
        return bytes(transport.written)

    def close(self) -> None:
        """Nothing of it is left."""
        self.loop.run_until_complete(self._stack.aclose())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        self.ours.close()
        self.theirs.close()
        logging.getLogger("hivectl").removeHandler(self.faults)


_worlds: list[_World] = []


def clean_up() -> None:
    """End the server of this process."""
    while _worlds:
        _worlds.pop().close()


def _run(pieces: list[bytes]) -> bytes:
    if not _worlds:
        _worlds.append(_World())
    world = _worlds[0]
    answer = world.loop.run_until_complete(world.play(pieces))
    others = world.loop.run_until_complete(world.play([_UPGRADE, _frame(_AUTH), _frame(_PING)]))
    assert b'"id":"p","result"' in others, "another connection was not served"
    found, world.faults.found = world.faults.found, []
    assert not found, found
    return answer


def _frame(payload: bytes, opcode: int = 1) -> bytes:
    size = len(payload)
    if size < 126:
        head = bytes([0x80 | opcode, 0x80 | size])
    elif size < 65536:
        head = bytes([0x80 | opcode, 0xFE]) + struct.pack(">H", size)
    else:
        head = bytes([0x80 | opcode, 0xFF]) + struct.pack(">Q", size)
    return head + bytes(4) + payload


def http(data: bytes) -> None:
    """The first byte says how it is cut; the rest is what somebody sent to the port."""
    if not data:
        return
    step, data = 1 + data[0], data[1:]
    answer = _run([data[at : at + step] for at in range(0, len(data), step)])
    for status in re.findall(rb"^HTTP/1\.1 (\d+) ", answer, re.MULTILINE):
        assert int(status) in {100, 101, 200, 400, 401, 403, 404, 405, 408, 409, 413, 421, 422, 426, 429, 431, 503}, answer  # fmt: skip
    assert b"Traceback" not in answer
    assert b"access-control" not in answer.lower()
    assert b"set-cookie" not in answer.lower()


def frames(data: bytes) -> None:
    """After a handshake: bytes as they are (first byte even), or lines as whole messages after `auth` (odd)."""
    if not data:
        return
    if data[0] & 1:
        pieces = [_frame(_AUTH), *(_frame(line) for line in data[1:].split(b"\n"))]
    else:
        step = 1 + (data[0] >> 1)
        pieces = [data[at : at + step] for at in range(1, len(data), step)]
    answer = _run([_UPGRADE, *pieces])
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    _check_answers(rest, _CLOSES | _closed_with(b"".join(pieces)))


def _closed_with(sent: bytes) -> set[int]:
    """The code with which the client itself says goodbye: it is given back (RFC 6455, 5.5.1)."""
    server = ServerProtocol(state=OPEN, max_size=1 << 24)
    server.receive_data(sent)
    closing = [
        e for e in server.events_received() if isinstance(e, Frame) and e.opcode is Opcode.CLOSE
    ]
    return {int.from_bytes(bytes(frame.data[:2]), "big") for frame in closing}


def _check_answers(rest: bytes, closes: set[int]) -> None:
    """As a client reads it: whole frames, each message of the protocol's form, and a known close code."""
    client = ClientProtocol(_URI, state=OPEN, max_size=1 << 24)
    client.receive_data(rest)
    for frame in client.events_received():
        assert isinstance(frame, Frame)
        if frame.opcode is Opcode.TEXT:
            _check_message(json.loads(bytes(frame.data)))
        elif frame.opcode is Opcode.CLOSE:
            assert int.from_bytes(bytes(frame.data[:2]) or b"\x03\xed", "big") in closes, frame
    assert client.parser_exc is None, client.parser_exc


def _check_message(message: dict[str, Any]) -> None:
    assert message["jsonrpc"] == "2.0"
    assert len({"result", "error", "method"} & message.keys()) == 1
    if "error" in message:
        code = message["error"]["data"]["code"]
        assert code in TABLE
        assert code != "INTERNAL", message


def _make_uri() -> Any:
    from websockets.uri import parse_uri

    return parse_uri("ws://localhost/ws")


_URI = _make_uri()
