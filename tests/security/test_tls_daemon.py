"""TLS and S02 on whole daemons: what starts, what is refused, what a reload does, and clients that come back."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hivectl import config
from hivectl.client import Client, Notice
from tests.harness.certificates import Authority, authority, settings_of
from tests.harness.daemon import Daemon
from tests.harness.waiting import eventually

REACHABLE = ["0.0.0.0:0", "[::]:0"]


@pytest.fixture
def ca(tmp_path: Path) -> Authority:
    return authority(tmp_path / "ca")


@pytest.fixture
def daemon(short_path: Path) -> Iterator[Daemon]:
    made = Daemon(short_path)
    yield made
    made.close()


def env_of(daemon: Daemon, **more: str) -> dict[str, str]:
    return {**daemon.env, **more}


def port_of(daemon: Daemon) -> int:
    return int(daemon.call("health")["tcp"].rpartition(":")[2])


def token_of(daemon: Daemon) -> str:
    return (daemon.view / "state" / "token").read_text().strip()


def cli(daemon: Daemon, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", "hivectl", *arguments],
        env=env_of(daemon, **env), capture_output=True, text=True, timeout=40, check=False,
    )  # fmt: skip


def certificate_seen(ca: Authority, port: int) -> bytes:
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as raw,
        ca.client_context().wrap_socket(raw, server_hostname="127.0.0.1") as wrapped,
    ):
        return wrapped.getpeercert(binary_form=True) or b""


@pytest.mark.parametrize("address", REACHABLE)
def test_s02_a_reachable_address_alone_refuses_the_start(daemon: Daemon, address: str) -> None:
    daemon.configure({"listen.tcp": address}, {})
    daemon.spawn()
    assert daemon.wait_end() == 2
    for words in (
        "can be reached from other machines",
        "next:",
        "listen.tls_cert",
        "--insecure-plain-http",
    ):
        assert words in daemon.output
    assert not daemon.socket.exists()


@pytest.mark.parametrize("address", REACHABLE)
@pytest.mark.parametrize("form", ["setting", "variable", "flag"])
def test_s02_an_express_wish_starts_it_with_a_warning(
    daemon: Daemon, address: str, form: str
) -> None:
    wish = {"listen.insecure_plain_http": True} if form == "setting" else {}
    daemon.configure({"listen.tcp": address, **wish}, {})
    daemon.arguments = ["--insecure-plain-http"] if form == "flag" else []
    daemon.start(**({"HIVECTL_LISTEN_INSECURE_PLAIN_HTTP": "1"} if form == "variable" else {}))
    found = daemon.call("health")
    assert found["tcp"].startswith(address.rpartition(":")[0])
    assert "is reachable from other machines, unencrypted" in daemon.log


@pytest.mark.parametrize("address", REACHABLE)
def test_s02_a_certificate_starts_it_without_one(
    daemon: Daemon, ca: Authority, address: str
) -> None:
    daemon.configure({"listen.tcp": address, **settings_of(*ca.issue())}, {})
    daemon.start()
    found = daemon.call("health")
    assert found["tls"]["names"] == ["127.0.0.1", "localhost", "::1"]
    assert found["tls"]["expires_in_days"] == 89
    assert "unencrypted" not in daemon.log
    if address.startswith("0"):
        assert certificate_seen(ca, port_of(daemon))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda cert, key: cert.unlink(), "No such file"),
        (lambda cert, key: key.chmod(0o644), "chmod 600"),
        (lambda cert, key: cert.write_text("nonsense"), "no certificate in PEM form"),
        (lambda cert, key: key.write_text(key.read_text()[:60]), "cannot be used"),
    ],
)
def test_files_that_are_wrong_refuse_the_start_in_words(
    daemon: Daemon, ca: Authority, spoil: Any, words: str
) -> None:
    cert, key = ca.issue()
    spoil(cert, key)
    daemon.configure(settings_of(cert, key), {})
    daemon.spawn()
    assert daemon.wait_end() == 2
    assert "listen.tls_" in daemon.output
    assert words in daemon.output
    assert "next:" in daemon.output


def test_an_expired_certificate_starts_and_is_told_of(daemon: Daemon, ca: Authority) -> None:
    files = ca.issue(days=-3, begins_in_days=-9)
    daemon.configure(settings_of(*files), {})
    daemon.start()
    found = daemon.call("health")
    assert found["status"] == "degraded"
    assert any("expired 3 days ago" in text for text in found["problems"])
    assert "expired 3 days ago" in daemon.log
    doctor = cli(daemon, "doctor")
    assert "expired 3 days ago" in doctor.stdout
    assert doctor.returncode == 0


def test_a_reload_takes_the_new_certificate_and_tells_of_a_broken_one(
    daemon: Daemon, ca: Authority
) -> None:
    cert, key = ca.issue()
    daemon.configure(settings_of(cert, key), {})
    daemon.start()
    assert daemon.process is not None
    port = port_of(daemon)
    first = certificate_seen(ca, port)
    ca.issue()
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: certificate_seen(ca, port) != first, what="the new certificate")
    second = certificate_seen(ca, port)
    cert.write_text("broken")
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: daemon.call("health")["status"] == "degraded", what="the fault is told")
    assert any("the one before stays" in text for text in daemon.call("health")["problems"])
    assert "the one before stays" in daemon.log
    assert certificate_seen(ca, port) == second

    async def notices() -> list[str]:
        async with (
            Client(config.load(env=daemon.env), autostart=False) as hive,
            hive.subscribe(["system"], since="start", types=["system.notice"]) as events,
        ):
            async for event in events:
                return [event["data"]["message"]]
        return []

    assert "the one before stays" in asyncio.run(asyncio.wait_for(notices(), 10))[0]
    ca.issue()
    daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: daemon.call("health")["status"] == "ok", what="all is well again")
    assert certificate_seen(ca, port) not in {first, second}


RELOADS, CLIENTS = 6, 20


async def test_reloads_of_the_certificate_lose_none_of_many_clients_that_connect_all_the_time(
    daemon: Daemon, ca: Authority
) -> None:
    cert, key = ca.issue()
    daemon.configure({**settings_of(cert, key), "limits.unauthenticated": 2 * CLIENTS}, {})
    daemon.start()
    assert daemon.process is not None
    port, context = port_of(daemon), ca.client_context()
    seen: dict[bytes, int] = {}
    is_over = False

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200")
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))

    async def client() -> None:
        while not is_over:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
            found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            seen[found] = seen.get(found, 0) + 1
            await ask(reader, writer)
            writer.close()
            await writer.wait_closed()

    async with asyncio.timeout(90), asyncio.TaskGroup() as clients:
        staying = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        await ask(*staying)
        seen[staying[1].get_extra_info("ssl_object").getpeercert(binary_form=True)] = 1
        for _ in range(CLIENTS):
            clients.create_task(client())
        for number in range(RELOADS):
            before = set(seen)
            ca.issue()
            daemon.process.send_signal(signal.SIGHUP)
            while not set(seen) - before:
                await asyncio.sleep(0.02)
            assert len(seen) <= number + 2, "only certificates that were written are seen"
            await ask(*staying)
        is_over = True
    staying[1].close()
    assert len(seen) == RELOADS + 1
    assert sum(seen.values()) > CLIENTS
    assert daemon.call("health")["status"] == "ok"
    newest = ssl.PEM_cert_to_DER_cert(
        cert.read_text().partition("-----END")[0] + "-----END CERTIFICATE-----\n"
    )
    assert certificate_seen(ca, port) == newest


def test_the_cli_goes_by_https_and_says_why_not(daemon: Daemon, ca: Authority) -> None:
    daemon.configure(settings_of(*ca.issue("one", "127.0.0.1")), {})
    daemon.start()
    port, trusts = port_of(daemon), {"HIVECTL_CA_FILE": str(ca.file)}
    given = {"HIVECTL_URL": f"https://127.0.0.1:{port}", "HIVECTL_TOKEN": token_of(daemon)}
    assert cli(daemon, "ps", **given, **trusts).returncode == 0
    assert "days left" in cli(daemon, "health", **given, **trusts).stdout
    unknown = cli(daemon, "ps", **given)
    assert unknown.returncode == 4
    assert "HIVECTL_CA_FILE" in unknown.stderr
    assert "Traceback" not in unknown.stderr
    named = cli(daemon, "ps", **{**given, "HIVECTL_URL": f"https://localhost:{port}"}, **trusts)
    assert named.returncode == 4
    assert "is not for localhost" in named.stderr
    plain = cli(daemon, "ps", **{**given, "HIVECTL_URL": f"http://127.0.0.1:{port}"})
    assert plain.returncode == 2
    assert "https://" in plain.stderr
    wrong = cli(daemon, "ps", **{**given, "HIVECTL_TOKEN": "hive_" + "x" * 43}, **trusts)
    assert wrong.returncode == 4


async def test_a_follower_over_wss_resumes_after_kill_and_restart(
    daemon: Daemon, ca: Authority
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    daemon.configure({"listen.tcp": f"127.0.0.1:{port}", **settings_of(*ca.issue())}, {})
    await asyncio.to_thread(daemon.start)
    project = await asyncio.to_thread(daemon.project)
    settings = config.load(
        env={**daemon.env, "HIVECTL_URL": f"https://127.0.0.1:{port}", "HIVECTL_TOKEN": token_of(daemon),
             "HIVECTL_CA_FILE": str(ca.file)}
    )  # fmt: skip
    seen: list[int] = []
    kinds: list[str] = []
    ends = 0
    async with (
        Client(settings) as hive,
        hive.subscribe([f"project:{project['id']}"], since="start") as follower,
        asyncio.timeout(50),
    ):
        await hive.execute("web", 'mock: {"events": 20}')
        async for item in follower.items():
            if isinstance(item, Notice):
                kinds.append(item.kind)
                continue
            seen.append(item["seq"])
            if item["type"] == "execution.ended":
                ends += 1
                if ends == 2:
                    break
                await asyncio.to_thread(daemon.restart)
                await hive.execute("web", 'mock: {"events": 20}', idempotency_key="again")
    assert seen == list(range(1, len(seen) + 1))
    assert "disconnected" in kinds
    assert "reconnected" in kinds


def test_without_tls_nothing_of_it_is_loaded(short_path: Path) -> None:
    code = (
        "import sys, hivectl.daemon.compose; "
        "assert not {'hivectl.server.tls', 'hivectl.server.door'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=dict(os.environ), check=False)
    assert done.returncode == 0
    assert ssl.HAS_TLSv1_3
