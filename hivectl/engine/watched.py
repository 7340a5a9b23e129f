"""A directory that is listened to: which of its directories, and what the system tells of them.

Links are never followed: each directory is given to the system by itself, so that a link to `/` costs
nothing. All of this blocks, and is called in threads.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from watchfiles import Change, DefaultFilter
from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from hivectl.kit.system import SYSTEM

CHUNK = 1000
"""Directories given to the system at once: no other thread runs meanwhile (25 ms)."""
MOST_LISTENERS = 4
"""What was added bit by bit is put together beyond so many: each takes an inotify instance."""
MOST_MENDED = 20
"""How often a listener is begun again that failed."""
STEP_MS = 5
"""How long one look at what was told takes at least."""
_VCS = frozenset({".git", ".hg", ".svn", ".jj", ".bzr", "CVS", "_darcs"})
_IS_RECURSIVE = SYSTEM.watches_trees
"""FSEvents watches whole trees, follows no links, and is slow with many directories."""


class Watched:
    """The directories below `root` that are listened to, by paths relative to it; the root itself is ``""``."""

    def __init__(self, root: Path, *, most: int) -> None:
        """Nothing is opened before `listen`. `most` is how many directories at most."""
        self.root = str(root)
        self.directories: set[str] = set()
        self.is_cut = False
        """There are more directories than `most`."""
        self._most = most
        # Noise in every project: VCS, caches, dependencies, editors' swap files.
        self._filter = DefaultFilter(ignore_dirs=(*DefaultFilter.ignore_dirs, *_VCS))
        self._listeners: list[RustNotify] = []
        self._mended = 0
        self._closing = threading.Event()
        self._lock = threading.Lock()

    def is_noise(self, path: str) -> bool:
        """Whether changes of a relative path are of no interest anywhere."""
        return not self._filter(Change.modified, os.sep + path)

    def scan(self, parents: Iterable[str]) -> tuple[list[str], list[str]]:
        """Directories and files directly in `parents`; without noise, links to directories, and other repositories."""
        directories: list[str] = []
        files: list[str] = []
        for parent in parents:
            if self._closing.is_set():
                break
            try:
                with os.scandir(os.path.join(self.root, parent)) as entries:  # noqa: PTH118
                    for entry in entries:
                        path = f"{parent}/{entry.name}" if parent else entry.name
                        if self.is_noise(path):
                            continue
                        is_directory = entry.is_dir(follow_symlinks=False)
                        (directories if is_directory else files).append(path)
            except OSError:
                continue  # it is gone, or closed to us: nothing to see
        return [path for path in directories if not self._is_repository(path)], files

    def _is_repository(self, path: str) -> bool:
        return os.path.lexists(os.path.join(self.root, path, ".git"))  # noqa: PTH118

    def take(self, found: Sequence[str]) -> list[str]:
        """Those of `found` that there is room for."""
        room = self._most - len(self.directories)
        new = [path for path in found if path not in self.directories]
        self.is_cut = self.is_cut or len(new) > room
        new = new[: max(room, 0)]
        self.directories.update(new)
        return new

    def listen(self, directories: Sequence[str]) -> None:
        """Hear of changes in these from now on. Raises OSError, or another error of watchfiles, at a limit."""
        if _IS_RECURSIVE:
            if "" in directories:
                self._add([""])
            return
        for start in range(0, len(directories), CHUNK):
            self._add(directories[start : start + CHUNK])

    def _add(self, directories: Sequence[str]) -> None:
        paths = [os.path.join(self.root, path) for path in directories]  # noqa: PTH118
        listener = RustNotify(paths, False, False, 0, _IS_RECURSIVE, True)  # noqa: FBT003
        with self._lock:
            if not self._closing.is_set():
                self._listeners.append(listener)
                return
        _end(listener)

    def hear(self) -> dict[str, set[Change]]:
        """What was told since the last time, by relative path. Raises like `listen`."""
        told: dict[str, set[Change]] = {}
        listeners = list(self._listeners)
        are_sound = [self._hear(listener, told) for listener in listeners]
        if (not all(are_sound) or len(listeners) > MOST_LISTENERS) and not self._closing.is_set():
            self.listen(sorted(self.directories))
            for listener in listeners:  # what came while the new ones began
                self._hear(listener, told)
                with suppress(ValueError), self._lock:
                    self._listeners.remove(listener)
                _end(listener)
        return told

    def _hear(self, listener: RustNotify, told: dict[str, set[Change]]) -> bool:
        """False when it is of no more use: one name that is no UTF-8 spoils a listener."""
        if self._closing.is_set():
            return True
        try:
            found = listener.watch(1, STEP_MS, 1, None)
        except WatchfilesRustInternalError:
            if self._mended >= MOST_MENDED:
                raise
            self._mended += 1
            return False
        if not isinstance(found, set):
            return True
        before = len(self.root) + 1
        for change, path in found:
            if path.startswith(self.root + os.sep) and not self.is_noise(path[before:]):
                told.setdefault(path[before:], set()).add(Change(change))
        return True

    def settle(self, told: Mapping[str, set[Change]]) -> tuple[dict[str, str], list[str]]:
        """What became of each path: kinds by file, and directories to be listened to."""
        kinds: dict[str, str] = {}
        new: list[str] = []
        for path, changes in told.items():
            mode = _mode(os.path.join(self.root, path))  # noqa: PTH118
            is_directory = mode is not None and stat.S_ISDIR(mode)
            if path in self.directories and (not is_directory or Change.added in changes):
                self._forget(path)  # gone; or another one has its name
            if is_directory:
                if Change.added in changes and not self._is_repository(path):
                    new.append(path)
            elif mode is not None:
                is_new = Change.added in changes and Change.deleted not in changes
                kinds[path] = "added" if is_new else "modified"
            elif Change.added not in changes and path not in self.directories:
                kinds[path] = "deleted"
        return kinds, new

    def _forget(self, directory: str) -> None:
        below = directory + "/"
        self.directories = {
            path for path in self.directories if path != directory and not path.startswith(below)
        }

    def close(self) -> None:
        """Listen no more. Idempotent; from any thread."""
        self._closing.set()
        with self._lock:
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            _end(listener)


def _mode(path: str) -> int | None:
    try:
        return os.lstat(path).st_mode
    except OSError:
        return None


def _end(listener: RustNotify) -> None:
    with suppress(RuntimeError):  # a thread is just hearing it: it ends when that lets go of it
        listener.close()
