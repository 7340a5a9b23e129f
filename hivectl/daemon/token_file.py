"""Secrets in files of their own: made at first need, readable by their user only, never logged.

The token for the TCP listener: whoever can read it may do everything the user may; over the UNIX socket
nobody needs it. The secret that signs webhooks.
"""

from __future__ import annotations

import base64
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

from hivectl.kit import files, ids
from hivectl.model.errors import HiveError

_SHAPE = re.compile(r"hive_[A-Za-z0-9_-]{43,128}")
_LIMIT_BYTES = 1024
_WEBHOOK_SHAPE = re.compile(r"whsec_[A-Za-z0-9+/]{32,128}={0,2}")


def load_or_make_webhook_secret(path: Path) -> str:
    """The secret that signs webhooks; as `load_or_make`."""
    return load_or_make(path, make=_make_webhook_secret, shape=_WEBHOOK_SHAPE)


def _make_webhook_secret() -> str:
    return "whsec_" + base64.b64encode(ids.make_key()).decode()


def load_or_make(
    path: Path, *, make: Callable[[], str] = ids.make_token, shape: re.Pattern[str] = _SHAPE
) -> str:
    """The token in `path`; made when there is none. The caller holds the daemon's lock.

    Raises HiveError CONFIG_INVALID when the file is a link, another user's, open to others, or holds
    anything but a token of full length.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        token = make()
        files.write_atomic(path, token.encode() + b"\n")
        return token
    except OSError as exc:
        raise _refused(path, f"it cannot be opened: {exc.strerror}") from None
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise _refused(path, "it is not a file")
        if found.st_uid != os.geteuid():
            raise _refused(path, "it belongs to another user")
        if stat.S_IMODE(found.st_mode) & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            raise _refused(path, f"others may read or change it (mode {mode:04o})")
        text = os.read(fd, _LIMIT_BYTES).decode("ascii", "replace").strip()
    finally:
        os.close(fd)
    if not shape.fullmatch(text):
        raise _refused(path, "it holds no token of full length")
    return text


def _refused(path: Path, why: str) -> HiveError:
    return HiveError(
        "CONFIG_INVALID",
        f"the token file {path} is refused: {why}",
        hint=f"Remove it (`rm {path}`) and start again: a new token is made.",
        details={"why": why},
    )
