"""What can be reached, by whom: rows S01 to S09, S17 of the security baseline, over raw sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from pathlib import Path

import pytest

from hivectl.model.errors import HiveError
from hivectl.protocol.methods import METHODS
from hivectl.server import listen
from hivectl.server.app import SOCKET_METHODS
from hivectl.server.security import parse_listen
from hivectl.testing.server_world import TOKEN, CallError, ServerWorld

UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
BEARER = f"Authorization: Bearer {TOKEN}\r\n"
ROUTES = {
    "health": ("GET /healthz", ""),
    "ready": ("GET /readyz", ""),
    "rpc": (
        "POST /rpc",
        BEARER + "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    ),
    "socket": ("GET /ws", UPGRADE + BEARER),
    "unknown": ("GET /nowhere", ""),
    "root": ("OPTIONS /", ""),
}


async def ask(world: ServerWorld, raw: str | bytes, *, unix: bool = False) -> bytes:
    """Send raw bytes; the head (and what came with it) of the answer."""
    if unix:
        reader, writer = await asyncio.open_unix_connection(str(world.socket))
    else:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.port)
    try:
        writer.write(raw.encode("latin-1") if isinstance(raw, str) else raw)
        async with asyncio.timeout(15):
            return await reader.read(65536)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def build(route: str, headers: str, target: str | None = None) -> str:
    line, rest = ROUTES[route]
    if target is not None:
        line = line.split(" ", maxsplit=1)[0] + " " + target
    end = "" if "\r\n\r\n" in rest else "\r\n"
    return f"{line} HTTP/1.1\r\n{headers}{rest}{end}"


GOOD_HOSTS = [
    "127.0.0.1:{p}", "localhost:{p}", "LOCALHOST:{p}", "localhost.:{p}", "[::1]:{p}",
    "[0:0:0:0:0:0:0:1]:{p}", "  127.0.0.1:{p}  ", "friend.example", "friend.example:{p}",
    "other.example:8080",
]  # fmt: skip
BAD_HOSTS = [
    "", "evil.example", "evil.example:{p}", "127.0.0.1", "localhost", "127.0.0.1:1", "localhost:",
    "127.0.0.1:{p}x", "127.0.0.1:{p}:{p}", "user@127.0.0.1:{p}", "127.0.0.1:{p}@evil.example",
    "127.0.0.1.evil.example:{p}", "evil.example#127.0.0.1:{p}", "0x7f000001:{p}", "2130706433:{p}",
    "127.1:{p}", "[::1", "::1:{p}", "[::ffff:127.0.0.1]:{p}", "[::1%lo]:{p}", "0.0.0.0:{p}",
    "localhost..:{p}", ".localhost:{p}", "127.0.0.1:{p}, evil.example", "127.0.0.1:0{p}00000",
    "other.example", "other.example:{p}", "127.0.0.1 :{p}", "localhost:+{p}", "\xff:{p}",
]  # fmt: skip


async def test_s03_hosts_are_compared_exactly_on_every_route() -> None:
    flags = {"listen.allowed_hosts": ["friend.example", "other.example:8080"]}
    wrong: list[tuple[str, str, int]] = []
    async with ServerWorld.open(flags) as world:
        for route in ROUTES:
            for host in GOOD_HOSTS:
                got = status(
                    await ask(world, build(route, f"Host: {host.format(p=world.port)}\r\n"))
                )
                if got in {400, 403, 421} and route != "rpc":
                    wrong.append((route, host, got))
            for host in BAD_HOSTS:
                got = status(
                    await ask(world, build(route, f"Host: {host.format(p=world.port)}\r\n"))
                )
                if got not in {400, 421}:
                    wrong.append((route, host, got))
    assert wrong == []


@pytest.mark.parametrize(
    ("headers", "target"),
    [
        ("", None),
        ("Host: 127.0.0.1:{p}\r\nHost: 127.0.0.1:{p}\r\n", None),
        ("Host: 127.0.0.1:{p}\r\nhost: evil.example\r\n", None),
        ("Host: 127.0.0.1:{p}\r\n", "http://evil.example/healthz"),
        ("Host: 127.0.0.1:{p}\r\n", "http://127.0.0.1:1/healthz"),
        ("Host: 127.0.0.1:{p}\r\n", "https://127.0.0.1:{p}/healthz"),
        ("Host: 127.0.0.1:{p}\r\n", "http://127.0.0.1:{p}@evil.example/healthz"),
        ("Host: evil.example\r\n", "http://127.0.0.1:{p}/healthz"),
        ("Host: 127.0.0.1:{p}\r\n", "evil"),
        ("Host: evil.example\r\nX-Forwarded-Host: 127.0.0.1:{p}\r\n", None),
    ],
)
async def test_s03_missing_doubled_and_absolute_forms_are_refused(
    headers: str, target: str | None
) -> None:
    async with ServerWorld.open() as world:
        for route in ROUTES:
            raw = build(route, headers.format(p=world.port), target and target.format(p=world.port))
            assert status(await ask(world, raw)) in {400, 421}, route


async def test_s03_an_absolute_target_of_our_own_is_served() -> None:
    async with ServerWorld.open() as world:
        raw = build(
            "health", f"Host: 127.0.0.1:{world.port}\r\n", f"http://localhost:{world.port}/healthz"
        )
        assert status(await ask(world, raw)) == 200


BAD_ORIGINS = [
    "null", "", "http://evil.example", "http://127.0.0.1", "https://127.0.0.1:{p}", "http://127.0.0.1:1",
    "http://127.0.0.1:{p}/", "http://127.0.0.1:{p}.evil.example", "http://user@127.0.0.1:{p}",
    "http://127.0.0.1:{p}@evil.example", "127.0.0.1:{p}", "file://", "http://[::1]", "http://0.0.0.0:{p}",
    "http://LOCALHOST:1", "ws://127.0.0.1:{p}", "http://app.example.evil", "https://app.example:444",
    "http://127.0.0.1:{p} http://evil.example", "chrome-extension://abcdef",
]  # fmt: skip
GOOD_ORIGINS = [
    "http://127.0.0.1:{p}", "http://localhost:{p}", "http://LocalHost:{p}", "http://[::1]:{p}",
    "https://app.example", "https://app.example:443", "HTTPS://APP.example",
]  # fmt: skip


async def test_s04_origins_are_compared_as_parts_on_every_route() -> None:
    wrong: list[tuple[str, str, int]] = []
    async with ServerWorld.open({"listen.public_origins": ["https://app.example"]}) as world:
        for route in ROUTES:
            host = f"Host: 127.0.0.1:{world.port}\r\n"
            for origin in BAD_ORIGINS:
                raw = build(route, host + f"Origin: {origin.format(p=world.port)}\r\n")
                got = status(await ask(world, raw))
                if got != 403:
                    wrong.append((route, origin, got))
            for origin in GOOD_ORIGINS:
                raw = build(route, host + f"Origin: {origin.format(p=world.port)}\r\n")
                got = status(await ask(world, raw))
                if got == 403:
                    wrong.append((route, origin, got))
            good = f"Origin: http://127.0.0.1:{world.port}\r\n"
            if status(await ask(world, build(route, host + good + good))) != 403:
                wrong.append((route, "two", 0))
    assert wrong == []


async def test_s04_an_origin_on_the_unix_socket_is_refused_and_any_host_accepted() -> None:
    async with ServerWorld.open() as world:
        assert status(await ask(world, build("health", "Host: whatever\r\n"), unix=True)) == 200
        raw = build("health", "Host: localhost\r\nOrigin: http://localhost\r\n")
        assert status(await ask(world, raw, unix=True)) == 403
        raw = build("socket", "Host: localhost\r\nOrigin: http://localhost\r\n")
        assert status(await ask(world, raw, unix=True)) == 403


async def test_s05_no_cors_header_is_ever_sent() -> None:
    async with ServerWorld.open() as world:
        for route in ROUTES:
            for origin in ("http://evil.example", f"http://127.0.0.1:{world.port}", "null"):
                headers = (
                    f"Host: 127.0.0.1:{world.port}\r\nOrigin: {origin}\r\n"
                    "Access-Control-Request-Method: POST\r\n"
                )
                assert b"access-control" not in (await ask(world, build(route, headers))).lower()


async def test_s01_the_default_listener_is_loopback_only() -> None:
    async with ServerWorld.open() as world:
        assert world.server is not None
        assert str(world.server.addresses.tcp).startswith("127.0.0.1:")


@pytest.mark.parametrize("text", ["0.0.0.0:0", "192.0.2.1:80", "[::]:0", "[2001:db8::1]:80"])
def test_s02_a_reachable_address_needs_an_express_wish(text: str) -> None:
    with pytest.raises(HiveError) as caught:
        parse_listen(text, insecure_plain_http=False)
    assert caught.value.code == "CONFIG_INVALID"
    assert "insecure_plain_http" in caught.value.hint
    assert parse_listen(text, insecure_plain_http=True) is not None


@pytest.mark.parametrize(
    "text", ["", "4483", "127.0.0.1", "localhost:x", "127.0.0.1:99999", "a.example:1", ":1"]
)
def test_s02_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(HiveError):
        parse_listen(text, insecure_plain_http=True)


async def test_s07_the_socket_is_private_from_the_first_byte() -> None:
    async with ServerWorld.open() as world:
        assert stat.S_IMODE(world.socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(world.socket.parent.stat().st_mode) == 0o700
        assert [path.name for path in world.socket.parent.iterdir()] == ["api.sock"]
    assert not world.socket.exists()


def test_s07_what_is_not_our_socket_is_refused(short_path: Path) -> None:
    path = short_path / "run" / "api.sock"
    listen.bind_unix(path).close()
    again = listen.bind_unix(path)
    with pytest.raises(HiveError) as caught:
        listen.bind_unix(path)
    assert caught.value.code == "UNAVAILABLE"
    again.close()
    path.unlink()
    for plant in (
        lambda: path.symlink_to("/nowhere"),
        lambda: path.write_text("x"),
        path.mkdir,
    ):
        plant()
        with pytest.raises(HiveError) as caught:
            listen.bind_unix(path)
        assert caught.value.code == "CONFIG_INVALID"
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()


def test_s07_a_link_instead_of_the_directory_is_refused(short_path: Path) -> None:
    (short_path / "elsewhere").mkdir()
    (short_path / "run").symlink_to(short_path / "elsewhere")
    with pytest.raises(HiveError):
        listen.bind_unix(short_path / "run" / "api.sock")


async def test_s09_every_method_but_auth_and_ping_needs_a_credential() -> None:
    async with ServerWorld.open() as world:
        host = f"Host: 127.0.0.1:{world.port}\r\nContent-Type: application/json\r\n"
        for name in METHODS:
            body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": name, "params": {}})
            head = f"POST /rpc HTTP/1.1\r\n{host}Content-Length: {len(body)}\r\n\r\n"
            answer = await ask(world, head + body)
            assert status(answer) == 401, name
            if name in {"auth", "ping"}:
                continue
            async with world.connect(tcp=True, auth=False) as client:
                await client.next("hello")
                answer_frame = await client.answer(await client.send(name))
                assert answer_frame["error"]["data"]["code"] == "UNAUTHENTICATED", name
                assert await client.closed() == 4401


def test_s09_every_method_names_its_scope() -> None:
    assert {name for name, row in METHODS.items() if row.scope is None} == {"auth", "ping"}
    assert METHODS.keys() >= SOCKET_METHODS
    assert {name for name, row in METHODS.items() if row.socket_only} == SOCKET_METHODS


@pytest.mark.parametrize(
    "header",
    ["Bearer wrong", "Bearer ", "Basic {t}", "{t}", "Bearer {t}x", "Bearer {t} {t}", "bearer\t{t}"],
)
async def test_s09_a_wrong_token_is_refused_before_the_upgrade(header: str) -> None:
    async with ServerWorld.open() as world:
        line = f"Authorization: {header.format(t=TOKEN)}\r\n"
        raw = f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{world.port}\r\n{UPGRADE}{line}\r\n"
        assert status(await ask(world, raw)) == 401
        doubled = (
            f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{world.port}\r\n{UPGRADE}{BEARER}{BEARER}\r\n"
        )
        assert status(await ask(world, doubled)) == 401


async def test_s14_scopes_a_client_claims_are_refused() -> None:
    async with ServerWorld.open() as world, world.connect(auth=False) as client:
        await client.next("hello")
        with pytest.raises(CallError) as caught:
            await client.call("auth", scopes=["admin"])
        assert caught.value.code == "INVALID_PARAMS"


async def test_s17_a_token_in_the_query_is_refused() -> None:
    async with ServerWorld.open() as world:
        raw = f"GET /ws?token={TOKEN} HTTP/1.1\r\nHost: 127.0.0.1:{world.port}\r\n{UPGRADE}\r\n"
        assert status(await ask(world, raw)) == 400


async def test_s18_no_cookie_is_ever_set() -> None:
    async with ServerWorld.open() as world:
        for route in ROUTES:
            answer = await ask(world, build(route, f"Host: 127.0.0.1:{world.port}\r\n"))
            assert b"set-cookie" not in answer.lower()
            assert b"x-content-type-options: nosniff" in answer.lower()


async def test_a_busy_default_port_is_a_warning_and_a_busy_configured_one_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HiveError) as caught:
            async with ServerWorld.open({"listen.tcp": f"127.0.0.1:{port}"}):
                pass
        assert caught.value.code == "CONFIG_INVALID"


async def test_the_socket_is_bound_again_when_it_disappears() -> None:
    async with ServerWorld.open() as world, world.connect() as client:
        world.socket.unlink()
        async with asyncio.timeout(5):
            while not world.socket.exists():
                await asyncio.sleep(0.01)
        async with world.connect() as another:
            assert (await another.call("ping"))["time"]
        assert (await client.call("ping"))["time"]


async def test_the_socket_of_another_daemon_is_not_removed_at_the_end() -> None:
    async with ServerWorld.open({"listen.tcp": "off"}) as world:
        world.socket.rename(world.socket.with_name("moved"))
        await world.stop()
    assert not world.home.exists()
