"""What may answer at an address that is no daemon's, or no longer."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from hivectl.client.errors import ConnectionLost
from hivectl.client.link import open_link
from hivectl.client.transport import Endpoint
from hivectl.model.errors import HiveError

HELLO = '{"method": "hello", "params": {"protocol": [1]}}'
WELCOME = '{"id": "auth", "result": {}}'


@asynccontextmanager
async def answering(
    *frames: str | bytes, status: int = 0, location: str = ""
) -> AsyncIterator[tuple[Endpoint, list[str]]]:
    """A server that says these frames to whoever comes, or refuses him; and what it was told."""
    heard: list[str] = []

    async def talk(peer: ServerConnection) -> None:
        for frame in frames:
            await peer.send(frame)
        heard.extend([str(text) async for text in peer])

    async def refuse(peer: ServerConnection, _request: Request) -> Response | None:
        if not status:
            return None
        answer = peer.respond(status, "no")  # type: ignore[arg-type]
        if location:
            answer.headers["Location"] = location
        return answer

    async with serve(talk, "127.0.0.1", 0, process_request=refuse, compression=None) as server:  # type: ignore[arg-type]
        port = server.sockets[0].getsockname()[1]
        yield Endpoint(url=f"ws://127.0.0.1:{port}/ws", token="secret"), heard


def _deep(levels: int) -> list[object]:
    found: list[object] = []
    for _ in range(levels):
        found = [found]
    return found


async def refusal(endpoint: Endpoint) -> HiveError:
    with pytest.raises(HiveError) as caught:
        await open_link(endpoint, name="test")
    return caught.value


async def test_no_redirect_is_followed_so_the_token_goes_nowhere_else() -> None:
    async with (
        answering(HELLO, WELCOME) as (elsewhere, heard),
        answering(status=302, location=elsewhere.url) as (endpoint, _),
    ):
        error = await refusal(endpoint)
    assert (error.code, heard) == ("UNAVAILABLE", [])
    assert elsewhere.url in error.hint


async def test_a_redirect_to_https_says_which_address_to_give() -> None:
    async with answering(status=301, location="https://hive.example/ws") as (endpoint, _):
        error = await refusal(endpoint)
    assert "https://hive.example/ws" in error.hint


@pytest.mark.parametrize(
    "frames",
    [
        ['{"method": "hello", "params": 5}'],
        ['{"method": "hello", "params": {"protocol": 1}}'],
        [HELLO, '{"error": "no"}'],
        [HELLO, '{"id": "auth"}'],
        ["{}"],
    ],
)
async def test_what_speaks_json_and_is_no_daemon_is_told_as_such(frames: list[str]) -> None:
    async with answering(*frames) as (endpoint, _):
        error = await refusal(endpoint)
    assert error.code == "PROTOCOL_MISMATCH"
    assert "no hivectl daemon" in error.message


@pytest.mark.parametrize("frame", ["hello", "[]", b"\xff\xfe", "[" * 100_000])
async def test_a_message_that_is_none_ends_the_connection(frame: str | bytes) -> None:
    async with answering(frame) as (endpoint, _):
        assert "no message of a daemon" in (await refusal(endpoint)).message
    async with answering(HELLO, WELCOME, frame) as (endpoint, _):
        link = await open_link(endpoint, name="test")
        with pytest.raises(ConnectionLost):
            await asyncio.wait_for(link.receive(), 5)
        await link.close()


async def test_a_server_of_something_else_is_no_reason_to_start_a_daemon() -> None:
    async with answering(status=500) as (endpoint, _):
        error = await refusal(endpoint)
    assert (error.code, "HIVECTL_URL" in error.hint) == ("UNAVAILABLE", True)


@pytest.mark.parametrize(
    ("params", "code"),
    [({"a": [""] * 10_001}, "TOO_LARGE"), ({"a": _deep(65)}, "PARSE_ERROR")],
)
async def test_what_the_daemon_could_not_answer_by_name_is_refused_here(
    params: dict[str, object], code: str
) -> None:
    async with answering(HELLO, WELCOME) as (endpoint, _):
        link = await open_link(endpoint, name="test")
        with pytest.raises(HiveError) as caught:
            await link.send({"jsonrpc": "2.0", "id": 1, "method": "x", "params": params})
        await link.close()
    assert caught.value.code == code
