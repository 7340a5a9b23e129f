"""The webhook sender against real servers, honest and hostile ones."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from hivectl.kit.clock import FakeClock
from hivectl.outlets.webhook import LINE_BYTES, WebhookOutlet, key_of, signature
from hivectl.ports import Message, Undelivered
from tests.harness.receiver import Receiver

MESSAGE = Message("n_1", "t", "", '{"a":1}')
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def outlet(secret: str = "s") -> WebhookOutlet:
    return WebhookOutlet(lambda: secret, FakeClock())


@asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[str]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    made = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{made.sockets[0].getsockname()[1]}/hook"
    finally:
        made.close()


async def refused(url: str, *, within_s: float = 2.0) -> Undelivered:
    with pytest.raises(Undelivered) as found:
        await outlet().send(url, MESSAGE, within_s=within_s)
    return found.value


def test_the_signature_is_that_of_the_published_example() -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    body = b'{"test": 2432232314}'
    found = signature(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, body)
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_is_base64_behind_its_prefix_and_else_text() -> None:
    assert key_of("whsec_" + base64.b64encode(b"key").decode()) == b"key"
    assert key_of("plain words") == b"plain words"
    assert key_of("whsec_***") == b"whsec_***"


async def test_a_post_carries_body_and_headers() -> None:
    with Receiver() as receiver:
        url = receiver.url.replace("http://", "http://me:pass%20word@") + "/a b?c=d&e"
        await outlet().send(url, MESSAGE, within_s=5)
        request = receiver.requests[0]
    assert request.body == b'{"a":1}'
    assert request.path == "/a%20b?c=d&e"
    assert request.headers["content-type"] == "application/json"
    assert request.headers["webhook-id"] == "n_1"
    assert request.headers["authorization"] == "Basic " + base64.b64encode(b"me:pass word").decode()


@pytest.mark.parametrize("code", [302, 307, 400, 404, 429, 500, 503])
async def test_anything_but_2xx_is_not_delivered_and_no_redirect_is_followed(code: int) -> None:
    with Receiver(answers=[code]) as receiver:
        found = await refused(receiver.url)
        assert len(receiver.requests) == 1
    assert str(code) in str(found)
    assert not found.is_final


async def test_gone_is_final() -> None:
    with Receiver(answers=[410]) as receiver:
        assert (await refused(receiver.url)).is_final


@pytest.mark.parametrize(
    "url", ["ftp://h/x", "file:///etc/passwd", "http://", "http://h:99999/", "h"]
)
async def test_other_addresses_are_never_called(url: str) -> None:
    assert (await refused(url)).is_final


@pytest.mark.parametrize(
    "url", ["http://user:s3cret/word@h/", "http://s3cret..h/", f"http://s3cret{'a' * 64}/", "http://h:s3cret/"]
)  # fmt: skip
async def test_s45_an_address_that_cannot_be_read_is_final_and_not_quoted(url: str) -> None:
    found = await refused(url)
    assert found.is_final
    assert "s3cret" not in str(found)


async def test_a_server_that_says_nothing_costs_the_limit_only() -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read()

    begun = time.monotonic()
    async with server(silent) as url:
        found = await refused(url, within_s=0.3)
    assert "no answer within 0.3 s" in str(found)
    assert time.monotonic() - begun < 5


async def test_a_server_that_drips_cannot_hold_us() -> None:
    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 100 Continue\r\n")
        while True:
            writer.write(b"X-A: b\r\n")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with server(drip) as url:
        assert "no answer within" in str(await refused(url, within_s=0.3))


async def test_an_informational_answer_is_followed_by_the_real_one() -> None:
    async def twice(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
        await writer.drain()

    async with server(twice) as url:
        await outlet().send(url, MESSAGE, within_s=5)


@pytest.mark.parametrize(
    ("answer", "why"),
    [(b"", "hung up"), (b"SSH-2.0-x\r\n", "no HTTP"), (b"x" * (LINE_BYTES * 3), "no HTTP"), (b"HTTP/1.1 2", "hung up")],
)  # fmt: skip
async def test_what_is_no_http_is_told(answer: bytes, why: str) -> None:
    async def speak(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()

    async with server(speak) as url:
        assert why in str(await refused(url))


async def test_a_server_that_is_not_there_is_told() -> None:
    assert "Connect" in str(await refused("http://127.0.0.1:1/x"))


async def test_a_certificate_that_nobody_vouches_for_is_no_delivery() -> None:
    async def speak(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

    async with server(speak) as url:
        assert str(await refused(url.replace("http://", "https://")))
