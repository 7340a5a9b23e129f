"""What TLS costs the daemon: its start, a viewer's arrival and memory, and each event sent to one.

    python -m benchmarks.bench_tls [--viewers 20] [--events 2000]

The whole daemon twice in every round, once with a certificate (EC, P-256), once without; the viewers come over TCP on
loopback and follow one run of the mock. All figures but memory are CPU time of the daemon's process, so a busy machine
disturbs them little. The daemon's reading and logging of the run is in both.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from benchmarks import figures, home
from tests.harness.certificates import authority, settings_of
from tests.harness.daemon import Daemon

PLAIN, TLS = "plain", "TLS"


async def arrive(url: str, token: str, context: ssl.SSLContext | None) -> ClientConnection:
    options: dict[str, Any] = {"ssl": context} if context is not None else {}
    socket = await connect(url, compression=None, proxy=None, max_size=None, **options)
    await socket.recv()
    await ask(socket, "auth", {"token": token})
    return socket


async def ask(socket: ClientConnection, method: str, params: dict[str, Any]) -> None:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    await socket.send(json.dumps(request))
    answer = json.loads(await socket.recv())
    if "error" in answer:
        raise RuntimeError(answer)


async def watch(socket: ClientConnection) -> int:
    """Events up to the end of the run."""
    seen = 0
    while True:
        text = await socket.recv(decode=False)
        seen += b'"seq":' in text
        if b'"type":"execution.ended"' in text:
            return seen


async def follow(
    report: figures.Report,
    name: str,
    daemon: Daemon,
    context: ssl.SSLContext | None,
    load: tuple[int, int],
) -> None:
    viewers, events = load
    assert daemon.process is not None
    pid = daemon.process.pid
    stream = f"project:{daemon.project()['id']}"
    token = (daemon.view / "state" / "token").read_text().strip()
    scheme = "wss" if context is not None else "ws"
    url = f"{scheme}://{daemon.call('health')['tcp']}/ws"
    await (await arrive(url, token, context)).close()
    cpu, private = home.cpu_ms(pid), home.private_kb(pid)
    sockets = [await arrive(url, token, context) for _ in range(viewers)]
    report.add(f"{name}, arrival", (home.cpu_ms(pid) - cpu) / viewers, "ms")
    report.add(f"{name}, memory", (home.private_kb(pid) - private) / viewers, "KiB/viewer")
    for socket in sockets:
        await ask(socket, "subscribe", {"streams": [stream]})
    cpu = home.cpu_ms(pid)
    watching = [asyncio.ensure_future(watch(socket)) for socket in sockets]
    await asyncio.to_thread(daemon.execute, f'mock: {{"events": {events}, "bytes": 2000}}')
    seen = await asyncio.gather(*watching)
    if min(seen) < events or len(set(seen)) != 1:
        raise RuntimeError(f"{name}: something was lost: {seen}")
    report.add(f"{name}, CPU", (home.cpu_ms(pid) - cpu) * 1000 / sum(seen), "us/delivery")
    for socket in sockets:
        await socket.close()


def measure(report: figures.Report, name: str, load: tuple[int, int]) -> None:
    """One side of one round."""
    limit = load[0] + 20
    settings: dict[str, Any] = {"limits.connections": limit, "limits.unauthenticated": limit}
    with home.temporary() as root:
        context = None
        if name == TLS:
            ca = authority(root / "ca")
            settings |= settings_of(*ca.issue())
            context = ca.client_context()
        with home.daemon(root, settings) as daemon:
            daemon.start()
            assert daemon.process is not None
            report.add(f"{name}, start", home.cpu_ms(daemon.process.pid), "ms")
            asyncio.run(follow(report, name, daemon, context, load))


def main(argv: Sequence[str] | None = None) -> figures.Report:
    parser = figures.parser(__doc__)
    parser.add_argument("--viewers", type=int, default=20)
    parser.add_argument("--events", type=int, help="lines of the run, 2 KB each (2000; quick: 500)")
    options = figures.parse(parser, argv)
    events = options.given.events or (500 if options.is_quick else 2_000)
    load = (options.given.viewers, events)
    report = figures.Report("tls", f"What TLS costs: {load[0]} viewers, {events:,} events of 2 KB")
    for _ in range(options.rounds):
        for name in (PLAIN, TLS):
            measure(report, name, load)
    for what in ("start", "arrival", "memory", "CPU"):
        report.compare(f"{TLS}, {what}", f"{PLAIN}, {what}")
    report.note("All but memory: CPU time of the daemon, all threads.")
    return figures.finish(report, options)


if __name__ == "__main__":
    main()
