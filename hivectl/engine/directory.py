"""What stands in a project's directory: the facts that are checked before anything runs there.

Reads only, bounded, and never through a link that leads out of the directory.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hivectl.logic import trust
from hivectl.logic.trust import TrustReport
from hivectl.model.errors import HiveError
from hivectl.model.project import Project

MAX_FILE_BYTES = 1024 * 1024
MAX_FILES = 500


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


def read_relevant(directory: Path) -> dict[str, bytes]:
    """The files that would run something or steer Claude, by their path below `directory`."""
    found: dict[str, bytes] = {}
    for pattern in trust.RELEVANT:
        for path in sorted(directory.glob(pattern)):
            if len(found) >= MAX_FILES:
                return found
            name = str(path.relative_to(directory))
            content = _read(directory, path)
            if content is not None:
                found[name] = content
    return found


def _read(directory: Path, path: Path) -> bytes | None:
    try:
        if not path.resolve().is_relative_to(directory):
            return b"<a link that leads out of the project>"
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        return os.read(fd, MAX_FILE_BYTES)
    except OSError:
        return None
    finally:
        os.close(fd)


def inspect(directory: Path) -> TrustReport:
    """What the directory brings, with the hash that trust is tied to."""
    return trust.report(read_relevant(directory))


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
