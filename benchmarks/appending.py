"""Lines are appended to the journal, and as one would first write it: CPU of the thread that appends, and a pipe."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from benchmarks import figures
from benchmarks.long_log import raw_line, read_together
from hivectl.journal.stream import StreamLog

BATCH = 64
READ_BYTES = 256 * 1024
BATCHED, READ = "append, batches of 64, CPU", "append, reads of 256 KiB, CPU"
FLUSHED, ENCODED = "write+flush, CPU", "json+write+flush, CPU"
PIPED, READLINE = "ingest from a pipe", "readline+json+flush from a pipe"


def cpu_us(work: Callable[[], None], lines: int) -> float:
    """Of the thread that appends; syncing and compressing are done by others."""
    start = time.thread_time()
    work()
    return (time.thread_time() - start) / lines * 1e6


def append_batches(log: StreamLog, raw: list[bytes], batch: int) -> None:
    """As the daemon does with what it reads: the lines of one look at a spool are one batch."""
    for at in range(0, len(raw), batch):
        some = raw[at : at + batch]
        log.append([read_together(some, list(range(at, at + len(some))))])


def write_and_flush(path: Path, raw: list[bytes]) -> None:
    with path.open("w") as out:
        for number, data in enumerate(raw):
            out.write(f'{{"seq":{number},"ts":17,"type":"message","data":{data.decode()}}}\n')
            out.flush()


def decode_encode_write_flush(path: Path, raw: list[bytes]) -> None:
    with path.open("w") as out:
        for number, data in enumerate(raw):
            line = {"seq": number, "ts": 17, "type": "message", "data": json.loads(data)}
            out.write(json.dumps(line) + "\n")
            out.flush()


class Head(msgspec.Struct):
    """What an agent reader has to know of each line."""

    type: str


def ingest(log: StreamLog, source: int) -> int:
    """Pipe, split, parse, envelope, log: chunk by chunk."""
    decoder = msgspec.json.Decoder(Head)
    rest = b""
    offset = lines = 0
    while chunk := os.read(source, READ_BYTES):
        *whole, rest = (rest + chunk).split(b"\n")
        ends = []
        for line in whole:
            decoder.decode(line)
            offset += len(line) + 1
            ends.append(offset)
        log.append([read_together(whole, ends)])
        lines += len(whole)
    return lines


def ingest_readline(path: Path, source: int) -> int:
    lines = 0
    with os.fdopen(os.dup(source)) as pipe, path.open("w") as out:
        for lines, text in enumerate(pipe, 1):
            line = {"seq": lines, "ts": 17, "type": "message", "data": json.loads(text)}
            out.write(json.dumps(line) + "\n")
            out.flush()
    return lines


def through_pipe(path: Path, work: Callable[[int], int]) -> float:
    """Microseconds of wall time a line."""
    feeder = subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE)
    assert feeder.stdout is not None
    start = time.perf_counter()
    lines = work(feeder.stdout.fileno())
    taken = time.perf_counter() - start
    feeder.stdout.close()
    feeder.wait()
    return taken / lines * 1e6


def measure(report: figures.Report, log: StreamLog, root: Path, lines: int) -> None:
    """One round."""
    raw = [raw_line(number) for number in range(lines)]
    spool = root / "spool"
    spool.write_bytes(b"\n".join([*raw, b""]))
    read = max(1, READ_BYTES * lines // spool.stat().st_size)
    for name, append in (
        (BATCHED, lambda: append_batches(log, raw, BATCH)),
        (READ, lambda: append_batches(log, raw, read)),
        (FLUSHED, lambda: write_and_flush(root / "flushed", raw)),
        (ENCODED, lambda: decode_encode_write_flush(root / "encoded", raw)),
    ):
        report.add(name, cpu_us(append, lines), "us/line")
    report.add(PIPED, through_pipe(spool, lambda fd: ingest(log, fd)), "us/line")
    report.add(
        READLINE, through_pipe(spool, lambda fd: ingest_readline(root / "piped", fd)), "us/line"
    )
