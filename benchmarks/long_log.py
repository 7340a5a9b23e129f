"""A long log and pages of it: out of its files, out of the daemon by HTTP, and out of a plain file of the same lines."""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import socket
import string
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import home
from hivectl import config
from hivectl.journal import reader, record
from hivectl.journal.record import Lines
from hivectl.journal.stream import StreamLog
from hivectl.journal.writer import Journal, JournalLimits
from hivectl.kit import files
from hivectl.kit.clock import SystemClock
from tests.harness.daemon import Daemon

PAGE = 100
BATCH = 1024
"""Lines written at once while a long log is made: what the daemon finds in one read of a busy spool."""
DISK_BYTES_A_LINE = 700
"""Free space a long log wants: the plain file half of it, the log as much until it is compressed."""
RAW = (
    b'{"type":"assistant","message":{"id":"msg_01","role":"assistant","content":[{"type":"text",'
    b'"text":"%b"}]},"session_id":"0b0c8f6e-7b6f-4a6c-9a52-2f5cbb2a1f11"}'
)
PROCESS, EXECUTION = "pr_06gzrec3f2t0vm54gc0g", "x_06gzrec3f2t0vm54gc0g"


def _words(chance: random.Random, count: int) -> list[str]:
    return [
        "".join(chance.choices(string.ascii_lowercase, k=2 + number % 8)) for number in range(count)
    ]


def _texts(count: int) -> list[bytes]:
    """Of 10 to 90 bytes. No two near each other are the same: they shrink about as prose does, not to nothing."""
    chance = random.Random(1)
    words = _words(chance, 1000)
    wholes = [" ".join(chance.choices(words, k=32)) for _ in range(count)]
    return [whole[: 10 + number * 2 % 81].encode() for number, whole in enumerate(wholes)]


SAID = [RAW % text for text in _texts(4096)]


def raw_line(number: int) -> bytes:
    """What Claude says, 170 to 250 bytes: an object of its own, as if just read."""
    return bytes(bytearray(SAID[number % len(SAID)]))


def read_together(data: list[bytes], ends: list[int]) -> Lines:
    """Lines of one look at a spool."""
    return Lines("message", 17, EXECUTION, None, PROCESS, "o", data, ends)


def open_log(root: Path, stream: str) -> tuple[Journal, StreamLog]:
    """Without the ring: nothing of it is in memory."""
    limits = JournalLimits(ring_lines=0)
    journal = Journal(root, clock=SystemClock(), limits=limits, boot_id=files.boot_id())
    return journal, journal.open(stream)


# --- made ---------------------------------------------------------------------------------------------


def fill(root: Path, stream: str, lines: int, plain: Path) -> None:
    """Append until the stream has so many; the plain file gets all of them. Ended segments are compressed."""
    journal, log = open_log(root, stream)
    with plain.open("wb") as out:
        out.writelines(line + b"\n" for line in reader.lines_after(log, 0, PAGE))
        log.on_append = lambda _log, _first, new: out.write(b"\n".join([*new, b""])) and None
        while (count := min(BATCH, lines - log.last_seq)) > 0:
            numbers = range(log.last_seq + 1, log.last_seq + 1 + count)
            said = [SAID[number % len(SAID)] for number in numbers]
            log.append([read_together(said, list(numbers))])
    log.on_append = None
    asyncio.run(journal.settle())
    asyncio.run(journal.close())


@dataclass(frozen=True)
class LongLog:
    """The same lines three times."""

    log: StreamLog
    """Opened anew."""
    plain: Path
    client: Client
    """Of a daemon that has it."""
    pid: int
    """The daemon's."""
    lines: int


@contextmanager
def made(root: Path, lines: int) -> Iterator[LongLog]:
    """In the home of a daemon that runs, whose limit of requests a second is out of the way, and in a copy."""
    free = shutil.disk_usage(root).free
    if free < lines * DISK_BYTES_A_LINE:
        raise SystemExit(
            f"{lines:,} lines want {lines * DISK_BYTES_A_LINE / 1e9:.1f} GB, and {root} has {free / 1e9:.1f}:"
            " name another place with --dir, or fewer with --lines."
        )
    settings = {
        "limits.messages_per_s": 1_000_000,
        "limits.messages_burst": 1_000_000,
        "listen.tcp": "127.0.0.1:0",
    }
    with home.daemon(root, settings) as daemon:
        project = daemon.start().project("long")["id"]
        daemon.stop("keep")
        stream = f"project:{project}"
        journals, plain = config.load(env=daemon.env).places.journal, root / "plain.jsonl"
        fill(journals, stream, lines, plain)
        name = stream.replace(":", ".")
        shutil.copytree(journals / name, root / "copy" / name)
        daemon.start(within_s=60)
        journal, log = open_log(root / "copy", stream)
        try:
            assert daemon.process is not None
            yield LongLog(log, plain, Client.of(daemon, project), daemon.process.pid, lines)
        finally:
            asyncio.run(journal.close())


# --- pages --------------------------------------------------------------------------------------------


def by_iterating(plain: Path, after: int) -> list[bytes]:
    found: list[bytes] = []
    with plain.open("rb") as source:
        for number, line in enumerate(source, 1):
            if number > after:
                found.append(line)
                if len(found) == PAGE:
                    break
    return found


def by_binary_search(plain: Path, after: int) -> list[bytes]:
    with plain.open("rb") as source:
        low, high = 0, source.seek(0, os.SEEK_END)
        while high - low > 4096:
            middle = (low + high) // 2
            source.seek(middle)
            source.readline()
            if record.seq_of(source.readline()) > after:
                high = middle
            else:
                low = middle
        source.seek(low)
        if low:
            source.readline()
        found: list[bytes] = []
        for line in source:
            if record.seq_of(line) > after:
                found.append(line)
                if len(found) == PAGE:
                    break
        return found


@dataclass(frozen=True)
class Client:
    """The cheapest honest one: get_messages by POST /rpc with the token, over TCP on loopback."""

    port: int
    token: str
    project: str

    @classmethod
    def of(cls, daemon: Daemon, project: str) -> Client:
        """Of a daemon that runs."""
        address = json.loads((daemon.home / "run" / "daemon.json").read_text())["tcp"]
        token = next(daemon.home.rglob("token")).read_text().strip()
        return cls(int(address.rpartition(":")[2]), token, project)

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """A connection that stays for many requests."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield peer

    def page(self, peer: socket.socket, after: int) -> bytes:
        """The body of the answer, whole and not looked at. Raises ConnectionError when it is not 200."""
        params = b'{"project":"%b","after":%d,"limit":%d}' % (self.project.encode(), after, PAGE)
        body = b'{"jsonrpc":"2.0","id":1,"method":"get_messages","params":%b}' % params
        peer.sendall(
            b"POST /rpc HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %b\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (self.port, self.token.encode(), len(body), body)
        )
        held = bytearray()
        while (end := held.find(b"\r\n\r\n")) < 0:
            held += _received(peer)
        head = bytes(held[:end]).lower()
        size = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
        while len(held) < end + 4 + size:
            held += _received(peer)
        if not head.startswith(b"http/1.1 200"):
            raise ConnectionError(bytes(held[:500]).decode(errors="replace"))
        return bytes(held[end + 4 :])


def _received(peer: socket.socket) -> bytes:
    if not (data := peer.recv(1 << 18)):
        raise ConnectionError("the daemon ended the connection")
    return data


def numbers_of(body: bytes) -> list[int]:
    """The sequence numbers on a page that came by HTTP."""
    return [item["seq"] for item in json.loads(body)["result"]["items"]]
