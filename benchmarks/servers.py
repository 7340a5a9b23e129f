"""Servers one would compare the daemon with, each in a few lines: `python servers.py KIND SOCKET`.

KIND: `websockets` (its own server), `uvicorn` (with websockets, a Starlette app), `hello` (Starlette under
uvicorn, HTTP alone), `broadcast` (websockets' own server; each line of standard input is numbered and goes to all
connections by `websockets.broadcast`). All listen on a UNIX socket, as the daemon does.
"""

from __future__ import annotations

import asyncio
import sys


async def run_websockets(path: str) -> None:
    from websockets.asyncio.server import ServerConnection, unix_serve

    async def handler(connection: ServerConnection) -> None:
        async for _message in connection:
            continue

    async with unix_serve(handler, path, compression=None):
        await asyncio.Event().wait()


async def run_broadcast(path: str) -> None:
    from websockets.asyncio.server import ServerConnection, broadcast, unix_serve

    connections: set[ServerConnection] = set()

    async def handler(connection: ServerConnection) -> None:
        connections.add(connection)
        await connection.wait_closed()
        connections.discard(connection)

    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    async with unix_serve(handler, path, compression=None):
        seq = 0
        while line := await reader.readline():
            seq += 1
            broadcast(connections, f'{{"seq":{seq},"data":{line.decode().rstrip()}}}')
        broadcast(connections, '{"the":"end"}')
        await asyncio.Event().wait()


def run_uvicorn(path: str, *, has_websocket: bool) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import BaseRoute, Route

    async def hello(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("hello")

    routes: list[BaseRoute] = [Route("/healthz", hello)]
    if has_websocket:
        from starlette.routing import WebSocketRoute
        from starlette.websockets import WebSocket

        async def echo(peer: WebSocket) -> None:
            await peer.accept()
            async for _message in peer.iter_text():
                continue

        routes.append(WebSocketRoute("/ws", echo))
    app = Starlette(routes=routes)
    ws = "websockets" if has_websocket else "none"
    uvicorn.run(app, uds=path, log_level="warning", lifespan="off", ws=ws)


if __name__ == "__main__":
    kind, where = sys.argv[1:]
    if kind == "websockets":
        asyncio.run(run_websockets(where))
    elif kind == "broadcast":
        asyncio.run(run_broadcast(where))
    else:
        run_uvicorn(where, has_websocket=kind == "uvicorn")
