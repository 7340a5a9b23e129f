"""Trust in a daemon reached by wss, and what people are told when there is none: over real sockets."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hivectl import config
from hivectl.client import Client, SyncClient, trust
from hivectl.client.link import open_link
from hivectl.client.transport import find_endpoint
from hivectl.model.errors import ExitCode, HiveError
from hivectl.testing.server_world import TOKEN, ServerWorld
from tests.harness.certificates import Authority, authority, settings_of


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return authority(tmp_path / "ca")


@asynccontextmanager
async def serving(
    ca: Authority, *names: str, days: float = 90, begins: float = -9
) -> AsyncIterator[ServerWorld]:
    files = ca.issue("one", *names, days=days, begins_in_days=begins)
    async with ServerWorld.open(settings_of(*files)) as world:
        yield world


def settings(home: Path, url: str, **env: str) -> config.Settings:
    return config.load(
        env={"HIVECTL_HOME": str(home), "HOME": str(home), "PATH": os.environ["PATH"], "HIVECTL_URL": url,
             "HIVECTL_TOKEN": TOKEN, **env}
    )  # fmt: skip


async def refusal(home: Path, url: str, **env: str) -> HiveError:
    with pytest.raises(HiveError) as caught:
        await open_link(find_endpoint(settings(home, url, **env)), name="test")
    return caught.value


async def test_the_daemons_own_certificate_or_its_signers_is_enough(
    ca: Authority, tmp_path: Path
) -> None:
    async with serving(ca) as world:
        leaf = ca.root / "leaf.pem"
        leaf.write_text((ca.root / "one.pem").read_text())
        for scheme in ("https", "wss"):
            for file in (ca.file, leaf):
                url = f"{scheme}://127.0.0.1:{world.port}"
                given = settings(tmp_path, url, HIVECTL_CA_FILE=str(file))
                async with Client(given) as hive:
                    assert (await hive.call("whoami"))["actor"]


async def test_the_blocking_client_speaks_tls_too(ca: Authority, tmp_path: Path) -> None:
    def ask(url: str) -> str:
        with SyncClient(settings(tmp_path, url, HIVECTL_CA_FILE=str(ca.file))) as hive:
            return str(hive.call("whoami")["peer"])

    async with serving(ca) as world:
        peer = await asyncio.to_thread(ask, f"https://localhost:{world.port}")
        assert peer.startswith("tcp 127.0.0.1:")


async def test_who_is_not_known_is_refused_with_the_way_out(ca: Authority, tmp_path: Path) -> None:
    other = authority(tmp_path / "other")
    async with serving(ca) as world:
        url = f"https://127.0.0.1:{world.port}"
        for found in (
            await refusal(tmp_path, url),
            await refusal(tmp_path, url, HIVECTL_CA_FILE=str(other.file)),
        ):
            assert found.code == "CERTIFICATE_UNTRUSTED"
            assert found.kind.exit == ExitCode.NOT_ALLOWED
            assert not found.kind.retryable
            assert "nobody this machine knows" in found.message
            assert "HIVECTL_CA_FILE" in found.hint


@pytest.mark.parametrize(
    ("names", "days", "begins", "words", "hint"),
    [
        (("hive.example",), 90, -9, "is not for", "name of the certificate"),
        (("127.0.0.1",), -3, -9, "has expired", "Renew it"),
        (("127.0.0.1",), 90, 3, "not valid yet", "clocks"),
    ],
)
async def test_names_and_dates_are_told_apart(
    ca: Authority,
    tmp_path: Path,
    names: tuple[str],
    days: float,
    begins: float,
    words: str,
    hint: str,
) -> None:
    async with serving(ca, *names, days=days, begins=begins) as world:
        for host in ("127.0.0.1", "localhost"):
            url = f"https://{host}:{world.port}"
            found = await refusal(tmp_path, url, HIVECTL_CA_FILE=str(ca.file))
            assert found.code == "CERTIFICATE_UNTRUSTED"
            if host in names or "hive.example" in names:
                assert words in found.message
                assert hint in found.hint


async def test_http_to_a_tls_port_and_https_to_a_plain_one_name_the_other(
    ca: Authority, tmp_path: Path
) -> None:
    async with serving(ca) as world:
        found = await refusal(tmp_path, f"http://127.0.0.1:{world.port}")
        assert "speaks TLS" in found.message
        assert "https://" in found.hint
    async with ServerWorld.open() as plain:
        found = await refusal(tmp_path, f"https://127.0.0.1:{plain.port}")
        assert found.code == "UNAVAILABLE"
        assert "does not speak TLS" in found.message
        assert "http://" in found.hint


@pytest.mark.parametrize("content", [None, "", "nonsense", "-----BEGIN CERTIFICATE-----\n"])
def test_a_wrong_file_is_named(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(HiveError) as caught:
        trust.make_context(file)
    assert caught.value.code == "CONFIG_INVALID"
    assert "HIVECTL_CA_FILE" in caught.value.message
    assert str(file) in caught.value.message


def test_verification_is_never_off(ca: Authority) -> None:
    for context in (trust.make_context(None), trust.make_context(ca.file)):
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname


def test_what_has_nothing_to_do_with_tls_is_not_explained() -> None:
    assert trust.explain(ConnectionRefusedError(), "x") is None
