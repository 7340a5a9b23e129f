"""Servers one would compare the daemon with, each in a few lines: `python servers.py KIND SOCKET`.

KIND: `websockets` (its own server), `uvicorn` (with websockets, a Starlette app), `hello` (Starlette under
uvicorn, HTTP alone), `broadcast` (websockets' own server; each line of standard input is numbered and goes to all
connections by `websockets.broadcast`); `fastapi` and `starlette-msgspec` under uvicorn, HTTP alone, which takes
httptools and uvloop by itself where they are installed. All listen on a UNIX socket, as the daemon does, or on a port of
127.0.0.1 when SOCKET is a number. /healthz answers `ok`, as the daemon's does; /json a small object.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

ABOUT = {"status": "ok", "version": "1.0"}


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


def serve_by_uvicorn(app: Any, where: str) -> None:
    import uvicorn

    place: dict[str, Any] = {"port": int(where)} if where.isdigit() else {"uds": where}
    settings = {"log_level": "warning", "access_log": False, "lifespan": "off", "ws": "none"}
    uvicorn.run(app, **place, **settings)


def run_fastapi(where: str) -> None:
    from fastapi import FastAPI
    from fastapi.responses import PlainTextResponse

    app = FastAPI()

    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        return "ok\n"

    @app.get("/json")
    async def about() -> dict[str, str]:
        return ABOUT

    serve_by_uvicorn(app, where)


def run_starlette(where: str) -> None:
    import msgspec
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse, Response
    from starlette.routing import Route

    async def healthz(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def about(_request: Request) -> Response:
        return Response(msgspec.json.encode(ABOUT), media_type="application/json")

    serve_by_uvicorn(Starlette(routes=[Route("/healthz", healthz), Route("/json", about)]), where)


if __name__ == "__main__":
    kind, where = sys.argv[1:]
    if kind == "websockets":
        asyncio.run(run_websockets(where))
    elif kind == "broadcast":
        asyncio.run(run_broadcast(where))
    elif kind == "fastapi":
        run_fastapi(where)
    elif kind == "starlette-msgspec":
        run_starlette(where)
    else:
        run_uvicorn(where, has_websocket=kind == "uvicorn")
