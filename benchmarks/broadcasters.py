"""Servers that tell many viewers the same: `python -m benchmarks.broadcasters KIND EVENTS RATE SIZE [PORT]`.

KIND `hivectl`: the daemon's own journal, publisher, bus, hub and WebSocket server on TCP, with their real
authentication and subscriptions; each event is numbered, logged, and only then shown. Not in it: the database, Claude and
her shim, the reading of her output. `websockets`: `websockets.broadcast()`. `fastapi`: `await send_text()` over a list,
the loop of FastAPI's manual. `nats`: no server but the publisher that speaks to one at PORT.

Each prints its port (hivectl: and token, and stream), waits for a line of input, and then makes EVENTS events whose
messages on the wire have SIZE bytes: RATE a second, or flat out when RATE is 0. It ends with its input. Flat out,
hivectl's publisher stays at most WINDOW events ahead of the viewer who has got most, as nats makes its publisher wait;
with RATE -1 it waits for nobody.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

BATCH = 16
WINDOW = 1024
TOKEN = "hive_" + "b" * 43
STREAM = "project:p_a"


async def paced(events: int, rate: int) -> AsyncIterator[int]:
    """Numbers 1, 2, 3 ...: RATE of them a second, or one each turn of the loop."""
    began = time.monotonic()
    for seq in range(1, events + 1):
        await asyncio.sleep(max(0.0, began + seq / rate - time.monotonic()) if rate > 0 else 0)
        yield seq


def message(seq: int, size: int) -> str:
    head = f'{{"seq":{seq},"t":{time.monotonic_ns()},"text":"'
    return f'{head}{"x" * (size - len(head) - 2)}"}}'


async def input_line() -> None:
    """Wait for the word to begin."""
    await asyncio.to_thread(sys.stdin.readline)


async def input_end() -> None:
    while await asyncio.to_thread(sys.stdin.readline):
        continue


# --- hivectl ----------------------------------------------------------------------------------------------


class Source:
    """Makes events and publishes them, as a runner does with what Claude says."""

    def __init__(self, publish: Callable[[list[Any]], object], size: int) -> None:
        from hivectl.journal.record import Draft

        self._draft = Draft
        self._publish = publish
        self.last = 0
        # What the envelope takes of a message of `size` bytes.
        self._padding = "x" * max(0, size - 245)

    def make(self, count: int) -> None:
        now_us = time.time_ns() // 1000
        text = self._padding
        drafts = [
            self._draft(
                "message", b'{"t":%d,"text":"%b"}' % (time.monotonic_ns(), text.encode()), now_us
            )
            for _ in range(count)
        ]
        self._publish(drafts)
        self.last += count


@asynccontextmanager
async def hivectl_server(root: Path) -> AsyncIterator[tuple[Any, Any]]:
    from hivectl import config
    from hivectl.engine.bus import Bus
    from hivectl.engine.publisher import Publisher
    from hivectl.journal.writer import Journal
    from hivectl.kit.aio import Nursery
    from hivectl.kit.clock import SystemClock
    from hivectl.procs.shim import SYSTEM
    from hivectl.server.app import Server
    from hivectl.server.peers import Ancestry

    flags = {
        "limits.connections": 10_000,
        "limits.unauthenticated": 10_000,
        "listen.tcp": "127.0.0.1:0",
    }
    settings = config.load(flags, {"HIVECTL_HOME": str(root), "HOME": str(root)})
    journal = Journal(root / "journal", clock=SystemClock(), boot_id="boot")
    journal.open("system")
    bus = Bus(journal, SystemClock())
    bus.ensure(STREAM)
    nursery = Nursery(lambda _name, _error: None)
    publisher = Publisher(journal, bus, nursery)
    server = Server(
        settings,
        {},
        bus,
        resolve_stream=lambda _caller, _ref: STREAM,
        token=TOKEN,
        ancestry=Ancestry(kin=SYSTEM),
    )
    await server.start()
    try:
        yield server, publisher
    finally:
        await server.stop()
        await nursery.close(within_s=1)
        await journal.close()


async def run_hivectl(events: int, rate: int, size: int) -> None:
    with tempfile.TemporaryDirectory(prefix="hb-") as root:
        async with hivectl_server(Path(root)) as (server, publisher):
            port = server.addresses.tcp.rpartition(":")[2]
            print(port, TOKEN, STREAM, flush=True)
            await input_line()
            source = Source(lambda drafts: publisher.append(STREAM, drafts), size)
            if rate > 0:
                async for _ in paced(events, rate):
                    source.make(1)
            allowed = events if rate < 0 else WINDOW
            while source.last < events:
                if source.last < allowed:
                    source.make(min(BATCH, events - source.last))
                    await asyncio.sleep(0)
                else:
                    await asyncio.sleep(0.001)
                    allowed = server.shown(STREAM) + WINDOW
            await input_end()


# --- what others do ---------------------------------------------------------------------------------------


async def run_websockets(events: int, rate: int, size: int) -> None:
    from websockets.asyncio.server import ServerConnection, broadcast, serve

    connections: set[ServerConnection] = set()

    async def handler(connection: ServerConnection) -> None:
        connections.add(connection)
        await connection.wait_closed()
        connections.discard(connection)

    async with serve(handler, "127.0.0.1", 0, compression=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await input_line()
        async for seq in paced(events, rate):
            broadcast(connections, message(seq, size))
        await input_end()


async def run_fastapi(events: int, rate: int, size: int) -> None:
    import uvicorn
    from fastapi import FastAPI, WebSocket, WebSocketDisconnect

    globals()["WebSocket"] = WebSocket  # where FastAPI looks the name of the annotation up
    app = FastAPI()
    active: list[WebSocket] = []

    @app.websocket("/ws")
    async def follow(websocket: WebSocket) -> None:
        await websocket.accept()
        active.append(websocket)
        try:
            while True:
                await websocket.receive_text()
        except WebSocketDisconnect:
            active.remove(websocket)

    listener = socket.create_server(("127.0.0.1", 0))
    settings = uvicorn.Config(
        app,
        log_level="warning",
        lifespan="off",
        ws="websockets-sansio",
        ws_per_message_deflate=False,
    )
    server = uvicorn.Server(settings)
    serving = asyncio.get_running_loop().create_task(server.serve([listener]))
    print(listener.getsockname()[1], flush=True)
    await input_line()

    async def publish() -> None:
        async for seq in paced(events, rate):
            text = message(seq, size)
            for connection in active:
                await connection.send_text(text)

    # Kept, so that they live; they may wait for a viewer for ever, and end with the process.
    tasks = [serving, asyncio.get_running_loop().create_task(publish())]
    await input_end()
    os._exit(len(tasks) - 2)


def publish_to_nats(events: int, rate: int, size: int, port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as server:
        server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\nPING\r\n')
        threading.Thread(target=_swallow, args=[server], daemon=True).start()
        print(port, flush=True)
        sys.stdin.readline()
        began = time.monotonic()
        for first in range(1, events + 1, BATCH if rate <= 0 else 1):
            count = min(BATCH if rate <= 0 else 1, events + 1 - first)
            if rate > 0:
                time.sleep(max(0.0, began + first / rate - time.monotonic()))
            said = [message(seq, size) for seq in range(first, first + count)]
            try:
                server.sendall("".join([f"PUB s {size}\r\n{text}\r\n" for text in said]).encode())
            except OSError:
                return  # the server was ended
        while sys.stdin.readline():
            continue


def _swallow(server: socket.socket) -> None:
    try:
        while data := server.recv(65536):
            for _ in range(data.count(b"PING")):
                server.sendall(b"PONG\r\n")
    except OSError:
        return


def main(kind: str, events: str, rate: str, size: str, port: str = "0") -> None:
    numbers = (int(events), int(rate), int(size))
    if kind == "nats":
        publish_to_nats(*numbers, int(port))
        return
    run = {"hivectl": run_hivectl, "websockets": run_websockets, "fastapi": run_fastapi}[kind]
    asyncio.run(run(*numbers))


if __name__ == "__main__":
    main(*sys.argv[1:])
