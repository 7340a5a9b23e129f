"""Every change the journal makes on disk goes through a `Disk`: the one place where tests break it.

Files are 0600 and directories 0700 whatever the umask, never followed through a link, never inherited
by a child.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hivectl.kit import files

_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_BUFFERS = 512


class Disk:
    """The real disk. All methods raise OSError."""

    def make_dir(self, path: Path) -> None:
        """Make a private directory; nothing happens when it is there."""
        files.ensure_private_dir(path)

    def create(self, path: Path) -> int:
        """Make an empty private file (an old one is emptied) and open it for reading and writing."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | _FLAGS, 0o600)
        try:
            os.fchmod(fd, 0o600)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def open_write(self, path: Path) -> int:
        """Open a file for reading and writing; an absent one is made."""
        fd = os.open(path, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
        try:
            os.fchmod(fd, 0o600)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def write(self, fd: int, parts: Sequence[bytes]) -> None:
        """Write all bytes at the file's position. What was written before an error stays there."""
        for first in range(0, len(parts), _MOST_BUFFERS):
            some = parts[first : first + _MOST_BUFFERS]
            written = os.write(fd, some[0]) if len(some) == 1 else os.writev(fd, some)
            if written != sum(map(len, some)):
                files.write_all(fd, b"".join(some)[written:])

    def write_at(self, fd: int, data: bytes, offset: int) -> None:
        """Write all bytes at `offset`."""
        view = memoryview(data)
        while view:
            written = os.pwrite(fd, view, offset)
            view = view[written:]
            offset += written

    def truncate(self, fd: int, size: int) -> None:
        """Cut the file to `size` bytes."""
        os.ftruncate(fd, size)

    def sync(self, fd: int) -> None:
        """Make the file's bytes durable."""
        files.data_sync(fd)

    def sync_dir(self, path: Path) -> None:
        """Make the names in a directory durable."""
        files.sync_dir(path)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file its new name, over whatever has it."""
        old.rename(new)

    def unlink(self, path: Path) -> None:
        """Remove a file; nothing happens when it is gone."""
        path.unlink(missing_ok=True)


def open_read(path: Path) -> int:
    """Open a file for reading. Raises OSError."""
    return os.open(path, os.O_RDONLY | _FLAGS)
