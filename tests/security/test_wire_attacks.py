"""Attacks on the wire against a real daemon: rows S04, S09, S35, S36, S39, S41."""

from __future__ import annotations

import json
import random
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.harness.daemon import Daemon
from tests.harness.waiting import eventually

UPGRADE = (
    "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
)


class Target:
    """A daemon's TCP port and its token."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.host = daemon.call("health")["tcp"]
        self.port = int(self.host.rpartition(":")[2])
        self.token = (daemon.view / "state" / "token").read_text().strip()

    def send(self, data: bytes, *, wait_s: float = 10.0) -> bytes:
        """Everything that is answered until the end of the connection (or `wait_s` of silence)."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait_s) as sock:
            got = b""
            with suppress(OSError):
                sock.sendall(data)
                while part := sock.recv(65536):
                    got += part
            return got

    def rpc(self, body: bytes, *headers: str, line: str = "POST /rpc HTTP/1.1") -> bytes:
        lines = [line, f"Host: {self.host}", f"Content-Length: {len(body)}", *headers]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    @property
    def bearer(self) -> str:
        return f"Authorization: Bearer {self.token}"

    def executions(self) -> int:
        return len(self.daemon.call("execution.list")["items"])


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    daemon = Daemon(tmp_path_factory.mktemp("w")).start()
    daemon.project()
    yield Target(daemon)
    daemon.close()


EXECUTE = b'{"jsonrpc":"2.0","id":1,"method":"execute","params":{"project":"web","prompt":"x"}}'
JSON = "Content-Type: application/json"
END = "Connection: close"


def statuses(answer: bytes) -> list[int]:
    return [
        int(part.split(b" ", 2)[1]) for part in answer.split(b"\r\n") if part.startswith(b"HTTP/1.")
    ]


@pytest.mark.parametrize(
    "media_type",
    [
        "Content-Type: text/plain",
        "Content-Type: text/plain; x=application/json",
        "Content-Type: application/x-www-form-urlencoded",
        "Content-Type: multipart/form-data; boundary=application/json",
        "Content-Type: application/jsonp",
        "X: y",
    ],
)
def test_s04_what_a_page_can_post_without_asking_does_nothing(
    target: Target, media_type: str
) -> None:
    before = target.executions()
    # Even with the token, which no page has.
    answer = target.send(target.rpc(EXECUTE, media_type, target.bearer, END))
    assert statuses(answer) == [400]
    for origin in ("http://evil.example", "null", f"http://localhost:{target.port + 1}"):
        answer = target.send(target.rpc(EXECUTE, JSON, target.bearer, END, f"Origin: {origin}"))
        assert statuses(answer) == [403]
    assert target.executions() == before


def test_s04_a_page_cannot_even_begin_a_conversation(target: Target) -> None:
    for more in ("Origin: http://evil.example\r\n", "Origin: null\r\n", "Origin: file://\r\n"):
        answer = target.send(UPGRADE.format(host=target.host, more=more).encode())
        assert statuses(answer) == [403]
        assert b"hello" not in answer
    rebound = UPGRADE.format(host=f"evil.example:{target.port}", more="").encode()
    assert statuses(target.send(rebound)) == [421]
    preflight = target.rpc(
        b"", "Origin: http://evil.example", "Access-Control-Request-Method: POST", END,
        line="OPTIONS /rpc HTTP/1.1",
    )  # fmt: skip
    assert statuses(target.send(preflight)) == [403]


SMUGGLED = b"POST /rpc HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    "headers",
    [
        ("Transfer-Encoding: chunked",),
        ("Transfer-Encoding: chunked, identity",),
        ("Transfer-Encoding: identity",),
        ("Transfer-Encoding: xchunked",),
        ("Transfer-Encoding : chunked",),
        ("Transfer-Encoding:\x0bchunked",),
        ("Content-Length: 0",),
        ("Content-Length: 5, 5",),
        ("Content-Length: +5",),
        ("Content-Length: -1",),
        ("Content-Length: 0x10",),
        ("X: a\r\n Content-Length: 3",),
        ("X: a\nContent-Length: 3",),
        ("X\0: a",),
        ("X: a\0b",),
        (": x",),
        ("no colon",),
    ],
)
def test_s35_a_head_with_two_readings_is_refused_and_nothing_behind_it_is_read(
    target: Target, headers: tuple[str, ...]
) -> None:
    before = target.executions()
    behind = target.rpc(EXECUTE, JSON, target.bearer)
    answer = target.send(target.rpc(b"{}", JSON, target.bearer, *headers) + behind, wait_s=3)
    assert statuses(answer) == [400] or not answer, answer[:200]
    assert target.executions() == before


def test_s35_pipelined_requests_are_each_held_to_the_rules(target: Target) -> None:
    before = target.executions()
    good = target.rpc(b'{"jsonrpc":"2.0","id":1,"method":"ping"}', JSON, target.bearer)
    stranger = target.rpc(EXECUTE, JSON)
    evil = good.replace(target.host.encode(), b"evil.example")
    answer = target.send(good + stranger, wait_s=3)
    assert b"HTTP/1.1 401" in answer
    # A head that is refused ends it: what came before it in the same breath is not answered either.
    assert statuses(target.send(good + evil + good, wait_s=3))[-1] == 421
    assert target.executions() == before


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
def test_s41_a_compressed_body_is_never_unpacked(target: Target, encoding: str) -> None:
    import gzip

    body = gzip.compress(b"[" * 10_000_000)
    answer = target.send(
        target.rpc(body, JSON, target.bearer, END, f"Content-Encoding: {encoding}")
    )
    assert statuses(answer) == [400]


def test_s17_nothing_of_a_request_comes_back_in_a_head(target: Target) -> None:
    inject = "x%0d%0aSet-Cookie:%20a=b"
    for line in (f"GET /{inject} HTTP/1.1", f"GET /healthz?{inject} HTTP/1.1"):
        answer = target.send(target.rpc(b"", END, "X-Request-Id: a", line=line))
        head = answer.partition(b"\r\n\r\n")[0].lower()
        assert b"set-cookie" not in head
        assert b"x%0d" not in head


@pytest.mark.parametrize("where", ["unix", "tcp"])
def test_s39_a_flood_of_requests_is_refused_for_a_while_and_others_are_served(
    make_daemon: Callable[..., Daemon], where: str
) -> None:
    slow = {"limits.messages_per_s": 5, "limits.messages_burst": 10}
    target = Target(make_daemon(settings=slow).start())
    ping = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
    request = target.rpc(ping, JSON, target.bearer)
    if where == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(target.daemon.socket))
    else:
        sock = socket.create_connection(("127.0.0.1", target.port))
    seen: list[int] = []
    with sock:
        sock.settimeout(20)
        rest = b""
        deadline = time.monotonic() + 20
        while 429 not in seen and time.monotonic() < deadline:
            sock.sendall(request * 50)
            wanted = len(seen) + 50
            while len(seen) < wanted:
                rest += sock.recv(1 << 20)
                found = list(re.finditer(rb"HTTP/1\.1 (\d{3})", rest))
                seen += [int(match[1]) for match in found]
                rest = rest[found[-1].end() :] if found else rest
    assert set(seen) == {200, 429}
    # It serves again, this very process too, when that waits as it is told.
    target.daemon.keep_calling("daemon.stop", runs="kill")
    assert target.daemon.wait_end() == 0


# --- S36: a live connection is fed with rubbish, and a bystander notices nothing ----------------------


def frame(payload: bytes, *, opcode: int = 1, fin: bool = True, masked: bool = True) -> bytes:
    head = bytes([(0x80 if fin else 0) | opcode])
    size = len(payload)
    bit = 0x80 if masked else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", size)
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", size)
    if not masked:
        return head + payload
    key = b"\1\2\3\4"
    return head + key + bytes(b ^ key[i % 4] for i, b in enumerate(payload))


def rubbish(chance: random.Random) -> bytes:
    """One hostile message: mutated, cut, repeated or random."""
    good = json.dumps(
        {
            "jsonrpc": "2.0",
            "id": chance.choice([1, "a", -1, 2**53 - 1]),
            "method": chance.choice(["ping", "subscribe", "execute", "tail", "$/cancel", "auth"]),
            "params": chance.choice(
                [{}, {"streams": ["*"]}, {"streams": ["project:web"] * 64}, {"project": "\u202e"}]
            ),
        }
    ).encode()
    kind = chance.randrange(7)
    if kind == 0:
        at = chance.randrange(len(good))
        good = good[:at] + bytes([chance.randrange(256)]) + good[at + 1 :]
    elif kind == 1:
        good = good[: chance.randrange(len(good))]
    elif kind == 2:
        good = chance.randbytes(chance.randrange(200))
    elif kind == 3:
        good = b"[" * chance.randrange(1, 3000)
    elif kind == 4:
        good = good * 3
    opcode = chance.choice([1, 1, 1, 1, 0, 2, 8, 9, 10, 3, 15])
    whole = frame(good, opcode=opcode, fin=chance.random() > 0.1, masked=chance.random() > 0.05)
    return whole if chance.random() > 0.1 else whole[: chance.randrange(1, len(whole) + 1)]


@pytest.mark.slow
def test_s36_no_rubbish_on_live_connections_disturbs_a_bystander(target: Target) -> None:
    chance = random.Random(36)
    waits: list[float] = []
    path = str(target.daemon.socket)
    for _ in range(300):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(0.2)
            sock.connect(path)
            with suppress(OSError):
                sock.sendall(UPGRADE.format(host="localhost", more="").encode())
                if chance.random() < 0.7:
                    sock.sendall(frame(b'{"jsonrpc":"2.0","id":0,"method":"auth","params":{}}'))
                for _ in range(chance.randrange(1, 8)):
                    sock.sendall(rubbish(chance))
        began = time.monotonic()
        target.daemon.call("ping")
        waits.append(time.monotonic() - began)
    waits.sort()
    # The machine is shared with other tests: the bound is on most, not on the one unlucky.
    assert waits[int(len(waits) * 0.95)] < 0.25, waits[-20:]
    assert "fault of hivectl" not in target.daemon.log
    assert "Traceback" not in target.daemon.output
    eventually(
        lambda: target.daemon.call("health")["connections"] == 0, within_s=30, what="all are closed"
    )
