"""All wire attacks at once against a whole daemon: its memory and the others' time stay what they were (S35, S36)."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness.daemon import Daemon, RpcError
from tests.harness.waiting import eventually

GROWTH_BYTES = 20 << 20
ATTACKERS = 6
KINDS = 11
P99_S = 0.05
LOADED = 4
"""How much slower a bystander may be than just before the attacks, where the machine itself is slow."""
PATIENCE_S = 120.0
"""By then the attacks must be made."""
HANG_S = 0.3
UPGRADE = (
    "GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def attacks(host: str, chance: random.Random) -> Iterator[bytes]:
    """One after the other, for ever."""
    head = f"POST /rpc HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    upgrade = UPGRADE.format(host=host).encode()
    while True:
        yield (head + "Content-Length: 60000\r\n\r\n").encode() + b"[" * 60_000
        yield (head + "Content-Length: 99999999999\r\n\r\n").encode() + b"x" * 65536
        yield (head + "Transfer-Encoding: chunked\r\n\r\n").encode() + b"8000\r\n" + b"a" * 0x8000
        yield f"GET /healthz HTTP/1.1\r\nHost: {host}\r\nX: ".encode() + b"y" * 70_000
        yield b"GET /healthz HTTP/1.1\r\nHost: evil.test\r\n\r\n" * 50
        yield upgrade + b"\x81\xff" + (1 << 40).to_bytes(8, "big") + b"aaaa" + b"z" * 65536
        yield upgrade + (b"\x01\x81\0\0\0\0a" + b"\x00\x81\0\0\0\0a" * 9000)
        yield upgrade + b"\x89\xfd" * 5000
        yield upgrade + chance.randbytes(30_000)
        yield chance.randbytes(40_000)
        yield b""


def attack(host: str, seed: int, is_over: threading.Event, made: list[int]) -> None:
    """Open, send, mostly leave without a word."""
    chance = random.Random(seed)
    name, _, port = host.rpartition(":")
    for data in attacks(host, chance):
        if is_over.is_set():
            return
        with (
            suppress(OSError),
            socket.create_connection((name, int(port)), timeout=HANG_S) as sock,
        ):
            sock.sendall(data)
            if chance.random() < 0.5:
                sock.recv(4096)
            made[seed] += 1


def resident(daemon: Daemon) -> int:
    assert daemon.process is not None
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(next(x for x in status.splitlines() if x.startswith("VmRSS")).split()[1]) * 1024


def calls(daemon: Daemon, is_over: Callable[[], bool]) -> list[float]:
    """How long each call of a bystander took, sorted."""
    delays = []
    while not is_over() or len(delays) < 2:
        begun = time.monotonic()
        with suppress(RpcError):
            daemon.call("project.list")
        delays.append(time.monotonic() - begun)
        time.sleep(0.01)
    return sorted(delays)


def p99(delays: list[float]) -> float:
    return delays[len(delays) * 99 // 100]


def mix(daemon: Daemon, seconds: float, at_least: int) -> tuple[int, int, list[float]]:
    """Attacks made, bytes grown, and how long each call of a bystander took."""
    host = daemon.call("health")["tcp"]
    is_over, made = threading.Event(), [0] * ATTACKERS
    threads = [
        threading.Thread(target=attack, args=(host, seed, is_over, made))
        for seed in range(ATTACKERS)
    ]
    threads[0].start()
    # The first of each makes what stays: buffers, caches, modules.
    eventually(lambda: made[0] >= KINDS, within_s=PATIENCE_S)
    before = resident(daemon)
    for thread in threads[1:]:
        thread.start()
    began = time.monotonic()

    def is_enough() -> bool:
        took = time.monotonic() - began
        return took >= PATIENCE_S or (took >= seconds and sum(made) >= at_least)

    try:
        delays = calls(daemon, is_enough)
    finally:
        is_over.set()
        for thread in threads:
            thread.join()
    return sum(made), resident(daemon) - before, delays


def started(make_daemon: Callable[..., Daemon]) -> Daemon:
    daemon = make_daemon().start()
    daemon.project()
    return daemon


def check(daemon: Daemon, seconds: float, at_least: int) -> list[float]:
    made, grown, delays = mix(daemon, seconds, at_least)
    assert made >= at_least
    assert grown < GROWTH_BYTES, f"{grown >> 20} MiB more after {made} attacks"
    assert "Traceback" not in daemon.log
    assert daemon.run("still here")["state"] == "completed"
    print(f"{made} attacks, {grown >> 10} KiB more, p99 {p99(delays):.3f} s")
    return delays


def test_s35_s36_a_mix_of_attacks_costs_no_memory_and_nobody_is_refused(
    make_daemon: Callable[..., Daemon],
) -> None:
    check(started(make_daemon), 4, 50)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_s35_s36_a_minute_of_attacks_leaves_a_bystander_his_50_ms(
    make_daemon: Callable[..., Daemon],
) -> None:
    daemon = started(make_daemon)
    ends = time.monotonic() + 20
    quiet = p99(calls(daemon, lambda: time.monotonic() >= ends))
    assert p99(check(daemon, 60, 2000)) < max(P99_S, LOADED * quiet)
