"""WebSocket viewers by raw sockets: they cost the load generator next to nothing. `hivectl` ones log in and follow."""

from __future__ import annotations

import base64
import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import hivectl
from hivectl.protocol.methods import PROTOCOL_VERSION, SUBPROTOCOL


class Viewer:
    """One connection to a UNIX socket, its handshake done."""

    def __init__(self, path: Path, url: str = "/ws", subprotocol: str = "") -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(10)
        self.socket.connect(str(path))
        key = base64.b64encode(os.urandom(16)).decode()
        offered = f"Sec-WebSocket-Protocol: {subprotocol}\r\n" if subprotocol else ""
        self.socket.sendall(
            f"GET {url} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n{offered}\r\n".encode()
        )
        self.held = b""
        while b"\r\n\r\n" not in self.held:
            self._fill()
        head, _, self.held = self.held.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 101"):
            raise ConnectionError(head.decode())

    def _fill(self) -> None:
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the server ended the connection")
        self.held += data

    def send(self, message: dict[str, Any]) -> None:
        """One masked text frame (its mask is zero)."""
        payload = json.dumps(message).encode()
        size = len(payload)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
        self.socket.sendall(b"\x81" + length + bytes(4) + payload)

    def receive(self) -> dict[str, Any]:
        """The next text frame."""
        while True:
            while (frame := self._frame()) is None:
                self._fill()
            opcode, payload = frame
            if opcode == 1:
                found: dict[str, Any] = json.loads(payload)
                return found

    def _frame(self) -> tuple[int, bytes] | None:
        held = self.held
        if len(held) < 2:
            return None
        size, at = held[1], 2
        if size >= 126:
            at = 4 if size == 126 else 10
            size = int.from_bytes(held[2:at], "big")
        if len(held) < at + size:
            return None
        self.held = held[at + size :]
        return held[0] & 15, held[at : at + size]

    def close(self) -> None:
        self.socket.close()


def log_in(path: Path) -> Viewer:
    """A viewer of hivectl that is authenticated."""
    viewer = Viewer(path, "/ws", SUBPROTOCOL)
    viewer.receive()  # hello
    client = {"name": "benchmark", "version": hivectl.__version__}
    params = {"client": client, "protocol": PROTOCOL_VERSION, "capabilities": {"partials": {}}}
    ask(viewer, "auth", params)
    return viewer


def ask(viewer: Viewer, method: str, params: dict[str, Any]) -> Any:
    """The result of a request; events that come before it are dropped."""
    viewer.send({"jsonrpc": "2.0", "id": method, "method": method, "params": params})
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        frame = viewer.receive()
        if frame.get("id") == method:
            if "error" in frame:
                raise ConnectionError(str(frame["error"]))
            return frame["result"]
    raise TimeoutError(method)
