"""What stands in a project's directory: the facts that are checked before anything runs there.

Reads only, bounded, and never through a link that leads out of the directory.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from msgspec.structs import replace

from hivectl.logic import trust
from hivectl.logic.trust import TrustReport
from hivectl.model.errors import HiveError
from hivectl.model.project import Project

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
INSTRUCTIONS = frozenset({"CLAUDE.md", "CLAUDE.local.md", ".claude/CLAUDE.md"})
"""By their whole path: a command or an agent that is called CLAUDE.md can run something."""


def check_identity(project: Project) -> None:
    """The directory is the one that was registered. Raises HiveError PATH_CHANGED."""
    try:
        found = os.stat(project.path)  # noqa: PTH116  device and inode, links resolved
    except OSError as exc:
        raise HiveError(
            "PATH_CHANGED",
            f"The directory of project {project.name!r} cannot be entered: {project.path}: {exc.strerror}.",
            details={"path": project.path},
        ) from None
    real = os.path.realpath(project.path)
    if (found.st_dev, found.st_ino) != (project.dev, project.ino) or real != project.path:
        raise HiveError(
            "PATH_CHANGED",
            f"Another directory stands at {project.path} than the one registered as {project.name!r}.",
            details={"path": project.path, "real": real},
        )


def inspect(directory: Path) -> TrustReport:
    """What the directory brings that would run something or steer Claude, with the hash that trust is tied to.

    Scripts that its hooks and servers name are part of it; instructions (CLAUDE.md) are shown but not
    hashed, because Claude itself is often asked to write them. Raises HiveError RESOURCE_LIMIT when the
    machine has no descriptor or memory left: that says nothing about the directory.
    """
    files, unreadable = _everything(directory)
    shown = trust.inspect(files, unreadable)
    hashed = {name: content for name, content in files.items() if name not in INSTRUCTIONS}
    return replace(shown, hash=trust.digest(hashed, unreadable))


def differing(directory: Path, copy: Path) -> list[str]:
    """What counts for trust in `copy` and is not the same in `directory`, or cannot be read.

    Raises HiveError RESOURCE_LIMIT as `inspect` does."""
    ours, _ = _everything(directory)
    theirs, unreadable = _everything(copy)
    other = {name for name, content in theirs.items() if ours.get(name) != content}
    return sorted((other - INSTRUCTIONS) | set(unreadable))


def _everything(directory: Path) -> tuple[dict[str, bytes], dict[str, str]]:
    """Content, or the reason why there is none, of all that counts."""
    try:
        files, unreadable = _collect(
            directory, [p for pattern in trust.RELEVANT for p in sorted(directory.glob(pattern))]
        )
        more, unreadable_too = _collect(
            directory, [directory / name for name in trust.scripts(files)]
        )
    except OSError as exc:
        if exc.errno not in EXHAUSTED:
            raise
        raise HiveError(
            "RESOURCE_LIMIT",
            f"{directory} cannot be looked at now: {exc.strerror}.",
            hint="Try again; `hivectl doctor` shows the limits.",
            retry_after_ms=1000,
        ) from exc
    return files | more, unreadable | unreadable_too


def vouch(directory: Path) -> TrustReport:
    """The report that trust may be tied to. Raises HiveError PROJECT_UNTRUSTED when not all could be read."""
    report = inspect(directory)
    if not report.is_complete:
        raise HiveError(
            "PROJECT_UNTRUSTED",
            f"{directory} cannot be trusted: not all it brings could be read.",
            hint="Mend or remove: " + "; ".join(report.problems[:5]),
            details={"problems": list(report.problems)},
        )
    return report


def _collect(directory: Path, paths: list[Path]) -> tuple[dict[str, bytes], dict[str, str]]:
    files: dict[str, bytes] = {}
    unreadable: dict[str, str] = {}
    for path in paths[: trust.FILES_MAX]:
        name = str(path.relative_to(directory))
        try:
            if (content := _read(directory, path)) is not None:
                files[name] = content
        except OSError as exc:
            if exc.errno in EXHAUSTED:
                raise
            unreadable[name] = exc.strerror or str(exc)
    if len(paths) > trust.FILES_MAX:
        unreadable["(more)"] = f"{len(paths) - trust.FILES_MAX} further files were not read"
    return files, unreadable


def _read(directory: Path, path: Path) -> bytes | None:
    """The head of a regular file, one byte more than is looked at; None for what is no file."""
    if not path.resolve().is_relative_to(directory.resolve()):
        raise OSError(errno.EXDEV, "a link that leads out of the project")
    if path.is_symlink() and path.is_dir():
        raise OSError(errno.EISDIR, "a link to a directory, which is not followed")
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        return os.read(fd, trust.FILE_BYTES_MAX + 1)
    finally:
        os.close(fd)


def is_trusted(project: Project) -> bool:
    """Whether the project's own settings may take effect now.

    Raises HiveError TRUST_CHANGED when it was trusted and what it brings has changed since.
    """
    if project.trust_hash is None:
        return False
    if project.trust_broken or inspect(Path(project.path)).hash != project.trust_hash:
        raise HiveError(
            "TRUST_CHANGED",
            f"What project {project.name!r} brings has changed since it was trusted.",
            hint=f"Look with `hivectl project inspect {project.name}`, then `hivectl project trust {project.name}`"
            " (or `untrust` to go on without its settings).",
            details={"project": project.id},
        )
    return True
