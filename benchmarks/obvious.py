"""What one would write first: a daemon that runs Claude and shows what she says: `python -m benchmarks.obvious`

    PORT CLAUDE LOG

It reads line by line, decodes, checks with pydantic, appends to a log and flushes, and awaits sending to each viewer in
turn. Starlette under uvicorn, on loopback. The body of POST /run is a prompt, and so is a text from any viewer. No
authentication, no resuming, nothing survives it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import IO, Any

import uvicorn
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

FLAGS = ("-p", "--input-format=stream-json", "--output-format=stream-json", "--verbose")


class Event(BaseModel):
    """One line of Claude's as the viewers get it."""

    seq: int
    ts: float
    type: str
    data: dict[str, Any]


class Daemon:
    """All of it."""

    def __init__(self, claude: str, log: IO[str]) -> None:
        self._claude = claude
        self._log = log
        self._seq = 0
        self._viewers: list[WebSocket] = []
        self._runs: set[asyncio.Task[None]] = set()

    async def follow(self, viewer: WebSocket) -> None:
        await viewer.accept()
        self._viewers.append(viewer)
        try:
            while True:
                self.start(await viewer.receive_text())
        except WebSocketDisconnect:
            self._viewers.remove(viewer)

    async def run(self, request: Request) -> PlainTextResponse:
        self.start((await request.body()).decode())
        return PlainTextResponse("started")

    def start(self, prompt: str) -> None:
        run = asyncio.get_running_loop().create_task(self._run(prompt))
        self._runs.add(run)
        run.add_done_callback(self._runs.discard)

    async def _run(self, prompt: str) -> None:
        process = await asyncio.create_subprocess_exec(
            self._claude,
            *FLAGS,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=1 << 24,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        message = {"type": "user", "message": {"role": "user", "content": prompt}}
        process.stdin.write(json.dumps(message).encode() + b"\n")
        process.stdin.close()
        while line := await process.stdout.readline():
            self._seq += 1
            event = Event(seq=self._seq, ts=time.time(), type="message", data=json.loads(line))
            text = event.model_dump_json()
            self._log.write(text + "\n")
            self._log.flush()
            for viewer in self._viewers:
                await viewer.send_text(text)
        await process.wait()


def main(port: str, claude: str, log: str) -> None:
    with Path(log).open("a", encoding="utf-8") as file:
        daemon = Daemon(claude, file)
        routes = [
            Route("/run", daemon.run, methods=["POST"]),
            WebSocketRoute("/ws", daemon.follow),
        ]
        uvicorn.run(
            Starlette(routes=routes),
            host="127.0.0.1",
            port=int(port),
            log_level="warning",
            lifespan="off",
            ws="websockets-sansio",
            ws_per_message_deflate=False,
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
