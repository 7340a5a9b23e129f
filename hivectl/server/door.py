"""The TLS listener: whoever connects has a short time to shake hands, and only then becomes a connection.

asyncio's own server would keep one certificate for ever, answer plain HTTP with silence, and let any
number of half-open handshakes wait for a minute. A peer's first byte tells what it speaks.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from asyncio.sslproto import SSLProtocol
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

from hivectl.kit.aio import Nursery
from hivectl.model.errors import HiveError
from hivectl.server.limits import CLOSE_GRACE_S, HANDSHAKE_S, HANDSHAKES
from hivectl.server.problem import StandardHeaders, raw_response

if TYPE_CHECKING:
    import ssl

_log = logging.getLogger(__name__)

_HELLO = b"\x16"
"""The first byte of every TLS client."""
_BUFFER_BYTES = 32 * 1024
"""What a TLS connection reads into, two records long. asyncio's own 256 KiB are most of what a viewer costs."""
_ACCEPT_AGAIN_S = 1.0
"""After an accept that failed for want of descriptors."""


class Door:
    """Accepts at one listening socket until `close`."""

    def __init__(
        self,
        listener: socket.socket,
        *,
        context: Callable[[], ssl.SSLContext],
        factory: Callable[[], asyncio.Protocol],
        headers: StandardHeaders,
        nursery: Nursery,
    ) -> None:
        """`context()` is asked for each connection: a new certificate counts from the next one on."""
        SSLProtocol.max_size = _BUFFER_BYTES
        self._listener = listener
        self._context = context
        self._factory = factory
        self._headers = headers
        self._nursery = nursery
        self._handshakes: dict[asyncio.Task[None], None] = {}
        self.failed = 0
        """Handshakes that came to nothing, since the start."""
        self._accepting = nursery.start(self._accept(), name="accept TLS")

    def close(self) -> None:
        """Accept no more, and drop who is still shaking hands."""
        self._accepting.cancel()
        for task in list(self._handshakes):
            task.cancel()
        self._listener.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                peer, _ = await loop.sock_accept(self._listener)
            except OSError as exc:
                _log.warning("a connection cannot be accepted", extra={"error": str(exc)})
                await asyncio.sleep(_ACCEPT_AGAIN_S)
                continue
            if len(self._handshakes) >= HANDSHAKES:
                # Who is slowest makes room: an honest peer needs a fraction of its time.
                oldest = next(iter(self._handshakes))
                del self._handshakes[oldest]
                oldest.cancel()
                self.failed += 1
            task = self._nursery.start(self._admit(peer), name="TLS handshake")
            self._handshakes[task] = None
            task.add_done_callback(lambda done: self._handshakes.pop(done, None))
            # A burst that waits is accepted without a pause otherwise, and nobody else has a turn.
            await asyncio.sleep(0)

    async def _admit(self, peer: socket.socket) -> None:
        """From the first byte to a connection, within HANDSHAKE_S. Every failure is the peer's own."""
        loop = asyncio.get_running_loop()
        is_handed_over = False
        try:
            peer.settimeout(0)
            async with asyncio.timeout(HANDSHAKE_S):
                first = await _peek(peer)
                if first == _HELLO:
                    is_handed_over = True
                    await loop.connect_accepted_socket(
                        self._factory,
                        peer,
                        ssl=self._context(),
                        ssl_handshake_timeout=HANDSHAKE_S,
                        ssl_shutdown_timeout=CLOSE_GRACE_S,
                    )
                elif first:
                    await self._decline(peer)
        except (OSError, TimeoutError) as exc:
            # Anybody can cause these, so a line each would be a way to fill the disk.
            self.failed += 1
            _log.debug("no TLS handshake", extra={"error": str(exc) or "too slow"})
        finally:
            if not is_handed_over:
                peer.close()

    async def _decline(self, peer: socket.socket) -> None:
        """Tell who speaks plain HTTP what is spoken here, and read on a little, lest a reset takes it away."""
        loop = asyncio.get_running_loop()
        error = HiveError(
            "INVALID_REQUEST",
            "This port speaks TLS, and was spoken to without.",
            hint="Use https:// or wss:// in the address.",
        )
        await loop.sock_sendall(peer, raw_response(400, error, self._headers.build()))
        peer.shutdown(socket.SHUT_WR)
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_GRACE_S):
                while await loop.sock_recv(peer, 65536):
                    pass


async def _peek(peer: socket.socket) -> bytes:
    """The first byte, left where it is; empty when the peer leaves."""
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    loop.add_reader(peer, arrived.set)
    try:
        await arrived.wait()
    finally:
        loop.remove_reader(peer)
    return peer.recv(1, socket.MSG_PEEK)
