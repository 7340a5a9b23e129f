"""One connection to a shim: lines out, lines in.

Knows the wire, nothing of what is done with it; a lost connection is an event, never an error.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from hivectl.model.errors import HiveError
from hivectl.procs import shim
from hivectl.procs.shim import SYSTEM

if TYPE_CHECKING:
    from hivectl.procs.shim import System

HELLO_LIMIT_S = 10.0


class Hello(msgspec.Struct, frozen=True):
    """How a shim introduces itself."""

    shim: int
    child: int
    is_stalled: bool
    is_stdin_open: bool


class Link(asyncio.Protocol):
    """The connection; `on_line` hears every line after the hello, `closed` says that it is gone."""

    def __init__(self, on_line: Callable[[list[str]], None]) -> None:
        self._on_line = on_line
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._hello: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            words = line.decode("ascii", "replace").split(" ")
            if self._hello.done():
                self._on_line(words)
            else:
                self._hello.set_result(words)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  a reset is an end too
        """Called by the loop."""
        if not self._hello.done():
            self._hello.cancel()
        self.closed.set()

    async def hello(self) -> Hello:
        """The shim's first line.

        Raises ConnectionError when none came in time, HiveError for a shim of another protocol."""
        try:
            async with asyncio.timeout(HELLO_LIMIT_S):
                await asyncio.wait([self._hello])
        except TimeoutError:
            raise ConnectionError("the shim says nothing") from None
        if self._hello.cancelled():
            raise ConnectionError("the shim has closed the connection")
        words = self._hello.result()
        if words[:2] != ["hello", str(shim.VERSION)]:
            raise HiveError(
                "PROTOCOL_MISMATCH", f"the shim speaks another protocol: {' '.join(words[:2])}"
            )
        return Hello(int(words[2]), int(words[3]), words[6] == "1", words[7] == "1")

    def send(self, *parts: bytes) -> None:
        """Send, or nothing when the connection is gone."""
        if self._transport is not None and not self.closed.is_set():
            self._transport.writelines(parts)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.abort()


async def connect(
    run_dir: Path, on_line: Callable[[list[str]], None], system: System = SYSTEM
) -> Link:
    """Connect to the shim in `run_dir`, on Linux however long its path is.

    Elsewhere the path must fit into a socket address; a shorter HIVECTL_HOME helps. Raises OSError."""
    directory = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        path = system.reach(directory, os.fspath(run_dir / shim.SOCKET))
        loop = asyncio.get_running_loop()
        _, link = await loop.create_unix_connection(lambda: Link(on_line), path)
        return link
    finally:
        os.close(directory)
