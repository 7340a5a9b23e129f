"""Lines too long for the log: their bytes in a file of their own, named by a reference in the record."""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

from hivectl.journal.disk import Disk, open_read
from hivectl.journal.segment import BLOBS
from hivectl.journal.stream import StreamLog
from hivectl.kit import ids

_NAME = re.compile(r"[0-9]{16}-b_[0-9a-z]{20}\.blob")


class BlobRef(TypedDict):
    """What a record keeps of a spilled line."""

    blob: str
    """File name within the stream's blobs."""
    size: int
    sha256: str


def write_blob(log: StreamLog, data: bytes) -> BlobRef:
    """Keep `data` beside the log; append the record that names it at once, in the same thread.

    It is made durable with that record. Raises OSError: nothing is kept then."""
    directory = log.directory / BLOBS
    log.disk.make_dir(directory)
    name = f"{log.last_seq + 1:016d}-{ids.make_id('b')}.blob"
    fd = log.disk.create(directory / name)
    try:
        log.disk.write(fd, [data])
    except BaseException:
        os.close(fd)
        log.disk.unlink(directory / name)
        raise
    log.add_blob(fd, len(data))
    return BlobRef(blob=name, size=len(data), sha256=hashlib.sha256(data).hexdigest())


def read_blob(log: StreamLog, name: str, offset: int, limit: int) -> bytes:
    """At most `limit` bytes of a blob from `offset` on; empty behind its end. From any thread.

    Raises FileNotFoundError when there is none such (retention, or no blob's name)."""
    if not _NAME.fullmatch(name):
        raise FileNotFoundError(f"no such blob: {name[:80]!r}")
    fd = open_read(log.directory / BLOBS / name)
    try:
        return os.pread(fd, max(0, limit), max(0, offset))
    finally:
        os.close(fd)


def remove_before(disk: Disk, directory: Path, seq: int) -> int:
    """Delete blobs written before record `seq`; how many bytes that freed."""
    freed = 0
    with suppress(FileNotFoundError), os.scandir(directory / BLOBS) as found:
        for item in found:
            if _NAME.fullmatch(item.name) and int(item.name[:16]) < seq:
                freed += item.stat(follow_symlinks=False).st_size
                disk.unlink(Path(item.path))
    return freed
