"""TLS on the TCP port: S02, S03, S04, S35, S36, S39 behind a certificate, over raw sockets."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
import struct
import time
from asyncio.sslproto import SSLProtocol
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from websockets.asyncio.client import connect

from hivectl.server import door, limits, tcp, ws
from hivectl.testing.server_world import TOKEN, Client, ServerWorld
from tests.harness.certificates import Authority, authority, settings_of

PATIENCE_S = 60.0
"""Only a fault waits that long: a machine under load may be slow."""
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return authority(tmp_path / "ca")


@asynccontextmanager
async def tls_world(ca: Authority, *names: str, **flags: object) -> AsyncIterator[ServerWorld]:
    given = {key.replace("__", "."): value for key, value in flags.items()}
    async with ServerWorld.open({**settings_of(*ca.issue("one", *names)), **given}) as world:
        yield world


@asynccontextmanager
async def viewer(world: ServerWorld, ca: Authority) -> AsyncIterator[Client]:
    url = f"wss://127.0.0.1:{world.port}/ws"
    async with connect(
        url,
        ssl=ca.client_context(),
        proxy=None,
        compression=None,
        max_size=None,
        close_timeout=PATIENCE_S,
    ) as opened:
        client = Client(opened)
        await client.authenticate(TOKEN)
        yield client


async def ask(world: ServerWorld, ca: Authority, raw: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port, ssl=ca.client_context())
    try:
        writer.write(raw.encode("latin-1"))
        async with asyncio.timeout(PATIENCE_S):
            return await reader.read(65536)
    finally:
        writer.close()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


async def plain(world: ServerWorld, data: bytes, *, within_s: float = PATIENCE_S) -> bytes:
    """Raw bytes, no TLS; everything that comes back until the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    try:
        writer.write(data)
        async with asyncio.timeout(within_s):
            return await reader.read(-1)
    except ConnectionResetError:
        return b"(reset)"
    finally:
        writer.close()


async def assert_serves(world: ServerWorld, ca: Authority) -> None:
    host = f"Host: 127.0.0.1:{world.port}\r\n"
    assert status(await ask(world, ca, f"GET /healthz HTTP/1.1\r\n{host}\r\n")) == 200
    async with viewer(world, ca) as client:
        assert (await client.call("ping"))["time"]


async def test_http_and_websocket_share_the_port_and_the_unix_socket_stays_plain(
    ca: Authority,
) -> None:
    async with tls_world(ca) as world:
        await assert_serves(world, ca)
        async with world.connect() as local:
            assert (await local.call("whoami"))["peer"].startswith("unix")
        async with viewer(world, ca) as client:
            assert (await client.call("whoami"))["peer"].startswith("tcp 127.0.0.1")
            world.append("project:p_a", 300, size=2000)
            await client.call("subscribe", streams=["project:p_a"], since="start")
            events = await client.events(300)
            assert [event["seq"] for event in events] == list(range(1, 301))


async def test_leaving_takes_no_time_though_tls_has_no_half_close(
    ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waited for the grace, or for a half-close, would wait longer than the test does."""
    monkeypatch.setattr(ws, "CLOSE_GRACE_S", 10 * PATIENCE_S)
    async with tls_world(ca) as world, asyncio.timeout(PATIENCE_S / 2):
        for _ in range(3):
            async with viewer(world, ca):
                pass


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1:{p}", 200), ("localhost:{p}", 200), ("[::1]:{p}", 200), ("hive.example:{p}", 200),
        ("HIVE.example.:{p}", 200), ("hive.example", 421), ("evil.example:{p}", 421),
        ("a.wild.example:{p}", 421), ("*.wild.example:{p}", 400), ("[2001:db8::7]:{p}", 200), ("127.0.0.1", 421),
    ],
)  # fmt: skip
async def test_s03_hosts_of_the_certificate_are_ours_and_no_others(
    ca: Authority, host: str, expected: int
) -> None:
    names = ("127.0.0.1", "hive.example", "*.wild.example", "2001:db8::7")
    async with tls_world(ca, *names) as world:
        raw = f"GET /healthz HTTP/1.1\r\nHost: {host.format(p=world.port)}\r\n\r\n"
        got = status(await ask(world, ca, raw))
        assert got == expected or {got, expected} == {400, 421}


@pytest.mark.parametrize(
    ("target", "expected"), [("https://127.0.0.1:{p}/healthz", 200), ("http://127.0.0.1:{p}/healthz", 421)]
)  # fmt: skip
async def test_s03_an_absolute_target_has_the_scheme_of_the_port(
    ca: Authority, target: str, expected: int
) -> None:
    async with tls_world(ca) as world:
        raw = f"GET {target.format(p=world.port)} HTTP/1.1\r\nHost: 127.0.0.1:{world.port}\r\n\r\n"
        assert status(await ask(world, ca, raw)) == expected


@pytest.mark.parametrize(
    ("origin", "is_good"),
    [
        ("https://127.0.0.1:{p}", True), ("https://hive.example:{p}", True), ("https://app.example", True),
        ("http://127.0.0.1:{p}", False), ("https://127.0.0.1", False), ("wss://127.0.0.1:{p}", False),
        ("https://evil.example", False), ("null", False), ("https://a.wild.example:{p}", False),
    ],
)  # fmt: skip
async def test_s04_only_https_origins_are_our_own(
    ca: Authority, origin: str, is_good: bool
) -> None:
    names = ("127.0.0.1", "hive.example", "*.wild.example")
    async with tls_world(ca, *names, listen__public_origins=["https://app.example"]) as world:
        head = f"Host: 127.0.0.1:{world.port}\r\nOrigin: {origin.format(p=world.port)}\r\n"
        bearer = f"Authorization: Bearer {TOKEN}\r\n"
        got = status(await ask(world, ca, f"GET /ws HTTP/1.1\r\n{head}{bearer}{UPGRADE}\r\n"))
        assert got == (101 if is_good else 403)


async def test_plain_http_is_told_what_is_spoken_here(
    ca: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async with tls_world(ca) as world:
        for request in (f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{world.port}\r\n\r\n", "x"):
            answer = await plain_then_leave(world, request.encode())
            assert status(answer) == 400
            assert b"This port speaks TLS" in answer
            assert b"https://" in answer
        await assert_serves(world, ca)
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def plain_then_leave(world: ServerWorld, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    writer.write(data)
    writer.write_eof()
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.read(-1)
    writer.close()
    return answer


def hello(version: int, body: bytes = b"") -> bytes:
    """A ClientHello of an old version, with nothing modern in it."""
    inner = (
        struct.pack(">H", version)
        + os.urandom(32)
        + b"\0"
        + b"\0\x04\x00\x2f\x00\xff"
        + b"\x01\0"
        + body
    )
    message = b"\x01" + len(inner).to_bytes(3, "big") + inner
    return b"\x16" + struct.pack(">HH", min(version, 0x0301), len(message)) + message


GARBAGE = {
    "ssl 3": hello(0x0300),
    "tls 1.0": hello(0x0301),
    "tls 1.1": hello(0x0302),
    "ssl 2": b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + os.urandom(37),
    "noise": os.urandom(4096),
    "noise in a record": b"\x16\x03\x01\x02\x00" + os.urandom(512),
    "a record larger than any": b"\x16\x03\x03\xff\xff" + b"\0" * 65535,
    "an empty record": b"\x16\x03\x01\x00\x00" * 100,
    "a hello that is too long": b"\x16\x03\x01\x40\x00\x01\xff\xff\xff" + b"\0" * 16380,
    "an alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "data before the handshake": b"\x17\x03\x03\x00\x05hello",
    "zeros": b"\0" * 100_000,
    "a newline": b"\r\n\r\n",
}


@pytest.mark.parametrize("name", GARBAGE)
async def test_s36_what_is_no_tls_of_today_disturbs_nobody(
    ca: Authority, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    async with tls_world(ca) as world, viewer(world, ca) as bystander:
        for _ in range(20):
            await plain(world, GARBAGE[name])
            assert (await bystander.call("ping"))["time"]
        await assert_serves(world, ca)
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
async def test_a_client_that_speaks_old_versions_only_is_refused(
    ca: Authority, version: str
) -> None:
    async with tls_world(ca) as world:
        old = ca.client_context()
        old.set_ciphers("ALL:@SECLEVEL=0")
        with pytest.warns(DeprecationWarning, match="TLSv1"):
            old.minimum_version = old.maximum_version = ssl.TLSVersion[version]
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", world.port, ssl=old)
        for newer in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            new = ca.client_context()
            new.minimum_version = new.maximum_version = newer
            _, writer = await asyncio.open_connection("127.0.0.1", world.port, ssl=new)
            writer.close()


async def test_s35_half_a_handshake_ends_in_time(
    ca: Authority, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(door, "HANDSHAKE_S", 0.4)
    async with tls_world(ca) as world:
        whole = client_hello(ca)
        for part in (b"", whole[:1], whole[:60], whole):
            begun = time.monotonic()
            assert b"HTTP" not in await plain(world, part)
            assert time.monotonic() - begun > 0.2
        assert await trickle(world, whole, 0.05) < len(whole)
        await assert_serves(world, ca)
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


def client_hello(ca: Authority) -> bytes:
    """What a client says first, and then nothing more."""
    out = ssl.MemoryBIO()
    side = ca.client_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        side.do_handshake()
    return out.read()


async def trickle(world: ServerWorld, data: bytes, pause_s: float) -> int:
    """Send byte by byte; after how many the server had enough."""
    reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    sent = 0
    for byte in data:
        sent += 1
        writer.write(bytes([byte]))
        if reader.at_eof() or writer.is_closing():
            break
        await asyncio.sleep(pause_s)
    writer.close()
    return sent


def test_the_time_for_a_handshake_is_that_of_s39() -> None:
    assert limits.HANDSHAKE_S <= 5.0
    assert door.HANDSHAKE_S == limits.HANDSHAKE_S


async def test_s39_half_open_handshakes_are_counted_and_the_oldest_makes_room(
    ca: Authority,
) -> None:
    async with tls_world(ca) as world, viewer(world, ca) as bystander:
        half = client_hello(ca)[:100]
        opened = []
        for _ in range(limits.HANDSHAKES * 3):
            reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
            writer.write(half)
            opened.append((reader, writer))
        assert (await bystander.call("ping"))["time"]
        await assert_serves(world, ca)
        gone = 0
        async with asyncio.timeout(PATIENCE_S):
            while gone < limits.HANDSHAKES:
                await asyncio.sleep(0.02)
                gone = sum(r.at_eof() or r.exception() is not None for r, _ in opened)
        for _, writer in opened:
            writer.close()


async def test_s39_a_burst_of_connections_is_bounded_too(ca: Authority) -> None:
    async with tls_world(ca) as world, viewer(world, ca) as bystander:
        assert world.server is not None
        opened = world.server._tcp._door
        assert opened is not None
        # Nobody else has a turn meanwhile: all of them wait in the backlog.
        peers = [socket.create_connection(("127.0.0.1", world.port)) for _ in range(300)]
        most = 0
        async with asyncio.timeout(PATIENCE_S):
            while opened.failed < 300 - limits.HANDSHAKES:
                await asyncio.sleep(0)
                most = max(most, len(opened._handshakes))
        assert most == limits.HANDSHAKES
        assert (await bystander.call("ping"))["time"]
        assert (world.server.tls() or {})["handshakes_failed"] == opened.failed
        for peer in peers:
            peer.close()


async def test_s39_connections_that_shook_hands_and_say_nothing_are_counted_too(
    ca: Authority,
) -> None:
    async with tls_world(ca, limits__unauthenticated=2) as world:
        raw = f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{world.port}\r\n{UPGRADE}\r\n"
        held = [
            await asyncio.open_connection("127.0.0.1", world.port, ssl=ca.client_context())
            for _ in range(3)
        ]
        answers = []
        for reader, writer in held:
            writer.write(raw.encode())
            await reader.readuntil(b"\r\n\r\n")
            answers.append(await reader.read(4096))
        assert [b"too many unauthenticated" in answer for answer in answers] == [False, False, True]
        for _, writer in held:
            writer.close()


async def test_renegotiation_is_refused(ca: Authority) -> None:
    """Asked for with the openssl command, where there is one: ssl of Python cannot ask."""
    async with tls_world(ca) as world:
        try:
            child = await asyncio.create_subprocess_exec(
                "openssl", "s_client", "-connect", f"127.0.0.1:{world.port}", "-tls1_2", "-CAfile", str(ca.file),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
        except FileNotFoundError:
            pytest.skip("there is no openssl command")
        assert child.stdin is not None
        await asyncio.sleep(0.3)
        child.stdin.write(b"R\n")
        async with asyncio.timeout(PATIENCE_S):
            out, _ = await child.communicate()
        assert b"RENEGOTIATING" in out
        assert b"no renegotiation" in out.lower()
        await assert_serves(world, ca)


async def test_a_peer_that_vanishes_or_breaks_its_records_is_only_gone(
    ca: Authority, caplog: pytest.LogCaptureFixture
) -> None:
    async with tls_world(ca) as world, viewer(world, ca) as bystander:
        for breaks in (False, True):
            raw = socket.create_connection(("127.0.0.1", world.port))
            wrapped = await asyncio.to_thread(
                ca.client_context().wrap_socket, raw, server_hostname="127.0.0.1"
            )
            inner = socket.socket(fileno=wrapped.detach())
            if breaks:
                inner.send(b"\x17\x03\x03\x00\x20" + os.urandom(32))
                inner.settimeout(PATIENCE_S)
                with suppress(ConnectionResetError):
                    while await asyncio.to_thread(inner.recv, 4096):
                        pass
            else:
                inner.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            inner.close()
            assert (await bystander.call("ping"))["time"]
        await assert_serves(world, ca)
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


async def test_s35_a_head_and_a_body_that_are_too_large_are_answered(ca: Authority) -> None:
    async with tls_world(ca) as world:
        host = f"Host: 127.0.0.1:{world.port}\r\n"
        head = f"GET /healthz HTTP/1.1\r\n{host}X-Long: {'x' * 20000}\r\n\r\n"
        assert status(await ask(world, ca, head)) == 431
        body = f"POST /rpc HTTP/1.1\r\n{host}Content-Length: 90000\r\n\r\n{'x' * 80000}"
        assert status(await ask(world, ca, body)) == 413
        await assert_serves(world, ca)


async def test_s40_a_viewer_that_stalls_is_let_go_and_costs_the_others_nothing(
    ca: Authority,
) -> None:
    async with tls_world(ca, limits__write_stall_s=1.0) as world, viewer(world, ca) as bystander:
        await bystander.call("subscribe", streams=["project:p_a"], since="start")
        raw = socket.create_connection(("127.0.0.1", world.port))
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled = await asyncio.to_thread(
            ca.client_context().wrap_socket, raw, server_hostname="127.0.0.1"
        )
        request = f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{world.port}\r\nAuthorization: Bearer {TOKEN}\r\n{UPGRADE}\r\n"
        await asyncio.to_thread(stalled.sendall, request.encode())
        await asyncio.to_thread(stalled.recv, 65536)
        for text in ('{"jsonrpc":"2.0","id":1,"method":"auth","params":{}}',
                     '{"jsonrpc":"2.0","id":2,"method":"subscribe","params":{"streams":["project:p_a"],"since":"start"}}'):  # fmt: skip
            await asyncio.to_thread(stalled.sendall, masked(text.encode()))
        world.append("project:p_a", 3000, size=4000)
        assert [event["seq"] for event in await bystander.events(3000)] == list(range(1, 3001))
        assert world.server is not None
        async with asyncio.timeout(PATIENCE_S):
            while world.server.connections > 1:
                await asyncio.sleep(0.05)
        stalled.close()


def masked(payload: bytes) -> bytes:
    assert len(payload) < 65536
    size = (
        bytes([0x80 | len(payload)])
        if len(payload) < 126
        else b"\xfe" + struct.pack(">H", len(payload))
    )
    return b"\x81" + size + b"\0\0\0\0" + payload


async def seen_by_a_client(world: ServerWorld, ca: Authority) -> bytes:
    _, writer = await asyncio.open_connection("127.0.0.1", world.port, ssl=ca.client_context())
    found: bytes = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return found


async def test_a_new_certificate_counts_for_new_connections_and_disturbs_no_old_one(
    ca: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tcp, "CERTIFICATE_LOOK_S", 0.05)
    async with tls_world(ca) as world, viewer(world, ca) as living:
        assert world.server is not None
        first = await seen_by_a_client(world, ca)
        ca.issue("one", "127.0.0.1", "new.example")
        async with asyncio.timeout(PATIENCE_S):
            while await seen_by_a_client(world, ca) == first:
                await asyncio.sleep(0.02)
        assert (await living.call("ping"))["time"]
        raw = f"GET /healthz HTTP/1.1\r\nHost: new.example:{world.port}\r\n\r\n"
        assert status(await ask(world, ca, raw)) == 200
        second = await seen_by_a_client(world, ca)
        (ca.root / "one.pem").write_text("broken")
        world.server.reload()
        assert "the one before stays" in world.server.problems[0]
        assert await seen_by_a_client(world, ca) == second
        assert (await living.call("ping"))["time"]
        ca.issue("one")
        world.server.reload()
        assert world.server.problems == []
        assert await seen_by_a_client(world, ca) not in {first, second}
        assert (await living.call("ping"))["time"]


async def test_a_tls_connection_has_no_buffer_that_is_larger_than_it_needs(ca: Authority) -> None:
    async with tls_world(ca), asyncio.timeout(PATIENCE_S):
        made = SSLProtocol(
            asyncio.get_running_loop(),
            asyncio.Protocol(),
            ca.client_context(),
            None,
            server_hostname="x",
        )
        assert len(made.get_buffer(1)) == door._BUFFER_BYTES
        made.connection_lost(None)


async def test_a_stop_ends_tls_connections_and_handshakes_with_a_goodbye(ca: Authority) -> None:
    async with tls_world(ca) as world:
        _, half = await asyncio.open_connection("127.0.0.1", world.port)
        half.write(client_hello(ca)[:100])
        async with viewer(world, ca) as client:
            stopping = asyncio.ensure_future(world.stop())
            assert await client.closed() == 1012
            async with asyncio.timeout(PATIENCE_S):
                await stopping
        half.close()
