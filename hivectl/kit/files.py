"""The only durable writes: private files, atomic replacement, locks, descriptors.

Everything is made 0600 or 0700 from the first byte, whatever the umask.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from hivectl.kit.system import SYSTEM


class LockHeld(Exception):  # noqa: N818  it names a state, not a failure
    """Another process holds the lock; `args[0]` is what it wrote about itself."""


def ensure_private_dir(path: Path) -> None:
    """Make `path` (and parents) a directory of mode 0700 that is ours and no link.

    Raises PermissionError when what stands there belongs to somebody else, is a link, or is open to
    group or others and cannot be closed.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        path.mkdir(mode=0o700)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode):
            raise PermissionError(f"{path} is not a directory") from None
        if found.st_uid != os.getuid():
            raise PermissionError(f"{path} belongs to another user") from None
        if stat.S_IMODE(found.st_mode) & 0o077:
            path.chmod(0o700)


def sync_dir(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def data_sync(fd: int) -> None:
    """Make a file's bytes durable: fdatasync, or the full sync of macOS."""
    SYSTEM.data_sync(fd)


def write_all(fd: int, data: bytes) -> None:
    """Write every byte; os.write alone may stop short. Raises OSError."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace `path` by `data`: after a crash either the old or the new content stands there whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    fd = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode
    )
    try:
        try:
            os.fchmod(fd, mode)
            write_all(fd, data)
            data_sync(fd)
        finally:
            os.close(fd)
        temporary.rename(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_dir(path.parent)


def acquire_lock(path: Path, *, note: str = "") -> int:
    """Take the exclusive lock of `path` for the life of the returned descriptor.

    The lock goes with the process, however it ends. `note` is written into the file for people.
    Raises LockHeld when another process has it, OSError for a link, and PermissionError when what stands
    there is no file or another user's, who could hold it and so keep us out.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    found = os.fstat(fd)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        os.close(fd)
        why = "belongs to another user" if stat.S_ISREG(found.st_mode) else "is not a file"
        raise PermissionError(f"{path} {why}")
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(fd, 200, 0).decode(errors="replace").strip()
        os.close(fd)
        raise LockHeld(holder) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, note.encode(), 0)
    return fd


def is_locked(path: Path) -> bool:
    """Whether somebody holds the lock of `path` now; False when the file does not exist."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def set_private_umask() -> None:
    """Files this process and its libraries make are for its user only."""
    os.umask(0o077)


def boot_id() -> str:
    """What changes with every boot of the machine; empty where it cannot be told."""
    return SYSTEM.boot_id()
