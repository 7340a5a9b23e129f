"""Desktop, ntfy, Slack, e-mail and some hundred other services, by the library apprise.

It runs in a process of its own for each message: the daemon does not carry its 40 MB, a service that hangs
is killed, and addresses (they hold secrets) travel through standard input only.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec

from hivectl.ports import Message, Undelivered

MISSING = "the library apprise is not installed; `make install EXTRAS=notify` or `pip install apprise` brings it"
ERROR_CHARS = 300
_GRACE_S = 1.0
"""How much earlier than its parent's the child's own limit strikes."""
_PASSED = re.compile(
    r"PATH|HOME|USER|LANG|LC_\w+|TZ|TMPDIR|DISPLAY|WAYLAND_DISPLAY|DBUS_SESSION_BUS_ADDRESS|XDG_\w+"
    r"|SSL_CERT_\w+|REQUESTS_CA_BUNDLE|(?:https?|all|no)_proxy|PYTHONPATH|VIRTUAL_ENV",
    re.IGNORECASE,
)


def is_available() -> bool:
    """Whether apprise is installed; does not import it."""
    return find_spec("apprise") is not None


class PeopleOutlet:
    """Fulfils `ports.Outlet` for the addresses of apprise."""

    def __init__(self, env: Mapping[str, str]) -> None:
        """`env` is the daemon's; only what a notification needs is passed on."""
        self._env = {name: value for name, value in env.items() if _PASSED.fullmatch(name)}

    async def send(self, url: str, message: Message, *, within_s: float) -> None:
        """Send by a child process. Raises Undelivered."""
        if not is_available():
            raise Undelivered(MISSING)
        limit_s = max(within_s - _GRACE_S, 0.5)
        request = {"url": url, "title": message.title, "text": message.text, "limit_s": limit_s}
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "hivectl.outlets.apprise_child",
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env=self._env, start_new_session=True, cwd="/",
        )  # fmt: skip
        try:
            async with asyncio.timeout(within_s):
                answer, _ = await child.communicate(json.dumps(request).encode())
        except TimeoutError:
            raise Undelivered(f"no answer within {within_s:g} s") from None
        finally:
            if child.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                await child.wait()
        _judge(answer, child.returncode, url, limit_s)


def _judge(answer: bytes, code: int | None, url: str, limit_s: float) -> None:
    if code == -signal.SIGALRM:
        raise Undelivered(f"no answer within {limit_s:g} s")
    try:
        found = json.loads(answer)
        is_sent, why = bool(found["is_sent"]), str(found["why"])
    except (ValueError, KeyError, TypeError):
        raise Undelivered(f"the sender ended without an answer (exit code {code})") from None
    if not is_sent:
        raise Undelivered(hide(why, url)[:ERROR_CHARS] or "the service did not take it")


def hide(text: str, url: str) -> str:
    """`text` without the pieces of an address: libraries like to quote what they were given."""
    _, _, rest = url.partition("://")
    pieces = {url, *re.split(r"[/:@?&=,]", rest)}
    for piece in sorted(pieces, key=len, reverse=True):
        if len(piece) > 3 and piece.lower() not in {"localhost", "http", "https", "json"}:
            text = text.replace(piece, "***")
    return text
