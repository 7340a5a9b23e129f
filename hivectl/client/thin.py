"""One request by plain HTTP (POST /rpc) without the weight of a client: for the hot commands.

Imports nothing that costs: no json, socket, typing or configuration module. Only the local socket; every
case that is not plain (TCP, no daemon, a strange answer) is left to the full client by raising NotPlain
before anything was asked for.
"""

from __future__ import annotations

import os

try:
    import _socket as socket
except ImportError:  # another Python than CPython
    import socket  # type: ignore[no-redef]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

TIMEOUT_S = 60.0
_CHUNK = 65536
_LONGEST_PATH = 100


class NotPlain(Exception):  # noqa: N818  it names a case, not a failure
    """Nothing was asked for yet: take the full client."""


class Refused(Exception):  # noqa: N818
    """The daemon answered with an error; `args[0]` is the error object of the wire."""


def socket_path(env: Mapping[str, str]) -> str:
    """Where `config.find_places(env).socket` is; the two are held equal by a test."""
    if root := env.get("HIVECTL_HOME"):
        return os.path.join(os.path.abspath(os.path.expanduser(root)), "run", "api.sock")  # noqa: PTH100, PTH111, PTH118  pathlib costs 5 ms
    runtime = env.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isdir(runtime):  # noqa: PTH112
        return os.path.join(runtime, "hivectl", "api.sock")  # noqa: PTH118
    home = env.get("HOME") or os.path.expanduser("~")  # noqa: PTH111
    state = env.get("XDG_STATE_HOME") or os.path.join(home, ".local/state")  # noqa: PTH118
    return os.path.join(state, "hivectl", "run", "api.sock")  # noqa: PTH118


def call(env: Mapping[str, str], method: str, params: dict[str, Any]) -> Any:
    """The result of one request. Raises NotPlain, Refused, or ConnectionError when it broke midway."""
    path = socket_path(env)
    if env.get("HIVECTL_URL") or len(os.fsencode(path)) > _LONGEST_PATH:
        raise NotPlain
    body = encode({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        peer.settimeout(TIMEOUT_S)
        try:
            peer.connect(path)
        except OSError:
            raise NotPlain from None
        head = (
            "POST /rpc HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        _send(peer, head.encode() + body)
        return _result(*_read(peer))
    finally:
        peer.close()


def _send(peer: socket.socket, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[peer.send(view) :]
        except OSError as exc:
            raise ConnectionError(str(exc)) from exc


def _read(peer: socket.socket) -> tuple[bytes, bytes]:
    """Head and body: as long as the head says, or up to the end of the connection."""
    head, mark, wanted = b"", b"", -1
    body = bytearray()
    while not mark or wanted < 0 or len(body) < wanted:
        try:
            chunk = peer.recv(_CHUNK)
        except OSError as exc:
            raise ConnectionError(str(exc)) from exc
        if not chunk:
            break
        body += chunk
        if not mark:
            head, mark, rest = bytes(body).partition(b"\r\n\r\n")
            if mark:
                body, wanted = bytearray(rest), _length(head)
    return head, bytes(body)


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return -1


def _result(head: bytes, body: bytes) -> Any:
    if b"transfer-encoding: chunked" in head.lower():
        body = _joined(body)
    try:
        answer = decode(body.decode())
        is_answer = isinstance(answer, dict) and ("result" in answer or "error" in answer)
    except (ValueError, StopIteration):
        is_answer, answer = False, {}
    if not is_answer:
        if head.split(b" ", 2)[1:2] == [b"404"]:
            raise NotPlain  # a daemon without this route
        raise ConnectionError("the daemon's answer is no answer")
    if "error" in answer:
        raise Refused(answer["error"])
    return answer["result"]


def _joined(body: bytes) -> bytes:
    whole = bytearray()
    while body:
        line, _, body = body.partition(b"\r\n")
        length = int(line.split(b";")[0], 16)
        whole += body[:length]
        body = body[length + 2 :]
        if length == 0:
            break
    return bytes(whole)


class _Plain:
    """What the C scanner of the json module wants to know; the module itself costs 6 ms (it imports re)."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo: dict[str, str] = {}  # noqa: RUF012


def decode(text: str) -> Any:
    """A JSON text. Raises ValueError or StopIteration."""
    try:
        from _json import make_scanner  # noqa: PLC0415
    except ImportError:
        import json  # noqa: PLC0415

        return json.loads(text)
    value, _ = make_scanner(_Plain)(text.strip(), 0)  # type: ignore[arg-type]  # typeshed wants itself
    return value


def encode(value: object) -> str:
    """JSON for texts, finite numbers, booleans, None, lists and dictionaries of them; ASCII only."""
    try:
        from _json import encode_basestring_ascii as quoted  # noqa: PLC0415
    except ImportError:
        import json  # noqa: PLC0415

        return json.dumps(value)
    if isinstance(value, str):
        return str(quoted(value))
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quoted(k)}: {encode(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(encode(item) for item in value) + "]"
    raise TypeError(f"{type(value).__name__} is not for here")
