"""Find the daemon, and start it when none runs.

Knows where a daemon listens and how one is started; knows nothing of what is said to it. Two commands
that start a daemon at once are kept apart by a lock of their own; were that lock lost, the daemon's
lock would still let only one of them live.
"""

from __future__ import annotations

import fcntl
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

import hivectl
from hivectl.config import Settings
from hivectl.kit.clock import SystemClock
from hivectl.kit.files import ensure_private_dir
from hivectl.kit.system import SYSTEM
from hivectl.model.errors import HiveError

ANOTHER_DAEMON_HOLDS_THE_LOCK = 75
UNIT_NAME = "hivectl.service"
AGENT_LABEL = "hivectl.daemon"
AGENT_FILE = f"{AGENT_LABEL}.plist"
_PLACES = (
    "HIVECTL_HOME",
    "HIVECTL_CONFIG",
    "XDG_STATE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
)
_POLL_S = 0.02
_PROBE_S = 2.0
_WORDS_BYTES = 4096
_TOLD = re.compile(r"hivectl: (?P<what>.+)(?:\n  why:  .*)?(?:\n  next: (?P<step>.+))?")
"""What `python -m hivectl.daemon` says when it will not start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a daemon listens. `socket` None means TCP, by `url`."""

    url: str
    socket: Path | None = None
    token: str | None = field(default=None, repr=False)
    ca_file: Path | None = None
    """What is trusted instead of the system's store, for wss."""

    @property
    def label(self) -> str:
        """For people."""
        return str(self.socket) if self.socket else self.url

    @property
    def is_tls(self) -> bool:
        """Whether it is reached by wss."""
        return self.url.startswith("wss:")

    @property
    def is_local(self) -> bool:
        """Whether a daemon could be started for it here."""
        return self.socket is not None


def find_endpoint(settings: Settings) -> Endpoint:
    """HIVECTL_URL, else the local socket. Raises HiveError CONFIG_INVALID for a URL that is none."""
    env = settings.environment
    wanted = env.get("HIVECTL_URL")
    if not wanted:
        return Endpoint(url="ws://localhost/ws", socket=settings.places.socket)
    scheme, host, place = _parts(wanted)
    token = env.get("HIVECTL_TOKEN") or _own_token(settings, host)
    ca = env.get("HIVECTL_CA_FILE")
    ca_file = Path(ca).expanduser().absolute() if ca else None
    return Endpoint(url=f"{scheme}://{place}/ws", token=token, ca_file=ca_file)


def _parts(wanted: str) -> tuple[str, str, str]:
    """(ws or wss, host, host with port) of a URL."""
    with suppress(ValueError):  # brackets without an address, a port that is none
        parts = urlsplit(wanted)
        scheme = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}.get(parts.scheme)
        if scheme and parts.hostname and parts.port != 0:
            return scheme, parts.hostname, parts.netloc
    raise HiveError(
        "CONFIG_INVALID",
        f"HIVECTL_URL = {wanted!r} is no address of a daemon",
        hint="Give it as http://127.0.0.1:4483.",
    )


def _own_token(settings: Settings, host: str) -> str | None:
    """The token file's content, for this machine only: it must not travel to an address from a URL."""
    try:
        is_here = ip_address(host).is_loopback
    except ValueError:
        is_here = host == "localhost"
    if not is_here:
        return None
    with suppress(OSError, UnicodeDecodeError):
        return settings.places.token_file.read_text().strip() or None
    return None


def is_answering(path: Path) -> bool:
    """Whether somebody listens at this socket."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(_PROBE_S)
            probe.connect(str(path))
    except OSError:
        return False
    return True


def daemon_argv(*arguments: str) -> list[str]:
    """The command that runs `hivectl.daemon`, never importing from the current directory."""
    return [sys.executable, "-P", "-m", "hivectl.daemon", *arguments]


def daemon_env(settings: Settings) -> dict[str, str]:
    """The environment for it: ours, and the way to this very package when it is not installed.

    It runs in another directory: what is relative to ours is told from the root."""
    env = dict(settings.environment)
    for name in _PLACES:
        if given := env.get(name):
            path = Path(given).expanduser() if name == "HIVECTL_HOME" else Path(given)
            env[name] = str(path.absolute())
    root = str(Path(hivectl.__file__).resolve().parent.parent)
    known = env.get("PYTHONPATH", "").split(os.pathsep)
    if Path(root).name not in {"site-packages", "dist-packages"} and root not in known:
        env["PYTHONPATH"] = os.pathsep.join([root, *filter(None, known)])
    return env


def user_unit(settings: Settings) -> Path:
    """Where the systemd user unit lies when it is installed."""
    env = settings.environment
    home = Path(env.get("HOME") or Path.home())
    return Path(env.get("XDG_CONFIG_HOME") or home / ".config") / "systemd/user" / UNIT_NAME


def user_agent(settings: Settings) -> Path:
    """Where the launchd agent lies when it is installed (macOS)."""
    home = Path(settings.environment.get("HOME") or Path.home())
    return home / "Library/LaunchAgents" / AGENT_FILE


def ensure_running(settings: Settings, *, autostart: bool, say: Callable[[str], None]) -> bool:
    """Return when a local daemon answers, starting one if none does and `autostart` allows it.

    True when it was started by this call. `say` gets one notice for people. Raises HiveError
    CONFIG_INVALID when one would have to be started with wrong settings,
    UNAVAILABLE when there is none, or when it is not ready within `client.start_timeout_s`. Blocks.
    """
    path = settings.places.socket
    if is_answering(path):
        return False
    if not autostart:
        raise HiveError("UNAVAILABLE", f"No daemon answers at {path}.")
    if settings.environment.get("HIVECTL_EXECUTION"):
        # It would be the execution's own daemon: its environment, and swept away at its end.
        raise HiveError(
            "UNAVAILABLE",
            f"No daemon answers at {path}, and an execution does not start one.",
            hint="Start it from a terminal of your own: `hivectl daemon start`.",
        )
    if settings.faults:
        # The daemon would refuse them too, where nobody sees it.
        raise settings.faults[0]
    say("starting the hivectl daemon")
    _start(settings)
    return True


def _start(settings: Settings) -> None:
    clock = SystemClock()
    limit = settings.seconds("client.start_timeout_s")
    deadline = clock.monotonic() + limit
    attempt = _Start(settings)
    try:
        while not is_answering(settings.places.socket):
            if clock.monotonic() > deadline:
                raise HiveError(
                    "UNAVAILABLE",
                    f"The daemon was started but did not answer within {limit:g} s.",
                    hint="`hivectl daemon logs` tells what it is doing; `client.start_timeout_s` is the limit.",
                )
            attempt.advance()
            time.sleep(_POLL_S)
    finally:
        attempt.close()


class _Start:
    """One command's part in starting the daemon: hold the start lock and spawn, or wait for who does."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._words = -1
        self._is_unit_started = False
        state = settings.places.state
        try:
            ensure_private_dir(state)
            self._lock = os.open(
                state / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
        except OSError as exc:
            raise HiveError(
                "UNAVAILABLE",
                f"The daemon cannot be started: {state}: {exc.strerror or exc}",
                hint="Check the directory, or put everything elsewhere with HIVECTL_HOME.",
            ) from exc
        self._has_lock = False

    def advance(self) -> None:
        """Spawn when it is our turn; raise when what we spawned ended for a reason of its own."""
        if not self._has_lock:
            with suppress(BlockingIOError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._has_lock = True
            return
        if self._is_unit_started:
            return
        if self._process is None:
            self._is_unit_started = _start_unit(self._settings)
            if not self._is_unit_started:
                self._forget_words()
                self._process, self._words = _spawn(self._settings)
            return
        code = self._process.poll()
        if code is None or code == 0:
            return
        if code == ANOTHER_DAEMON_HOLDS_THE_LOCK:
            self._process = None
            time.sleep(_POLL_S * 5)
            return
        what, step = self._told()
        raise HiveError(
            "UNAVAILABLE",
            f"The daemon ended at once, with code {code}{f': {what}' if what else '.'}",
            hint=step or "`hivectl daemon run` shows why; so does `hivectl daemon logs`.",
            details={"exit_code": code},
        )

    def _told(self) -> tuple[str, str]:
        """What the daemon said for its end, and the next step; empty where it said nothing."""
        told = ""
        with suppress(BlockingIOError):  # what it left behind may hold the other end open
            told = os.read(self._words, _WORDS_BYTES).decode(errors="replace")
        found = _TOLD.match(told)
        return (found["what"], found["step"] or "") if found else ("", "")

    def _forget_words(self) -> None:
        if self._words >= 0:
            os.close(self._words)
            self._words = -1

    def close(self) -> None:
        """Let others have their turn."""
        self._forget_words()
        os.close(self._lock)
        if self._process is not None and self._process.poll() is None:
            # A long-lived program may have started it: somebody must take its exit code one day.
            threading.Thread(target=self._process.wait, daemon=True).start()


def _start_unit(settings: Settings) -> bool:
    """Start the installed unit or agent; False when there is none or its manager will not."""
    if settings.places.is_private:
        return False
    if SYSTEM.name == "darwin":
        installed, argv = (
            user_agent(settings),
            ["launchctl", "kickstart", f"gui/{os.getuid()}/{AGENT_LABEL}"],
        )
    else:
        installed, argv = user_unit(settings), ["systemctl", "--user", "start", UNIT_NAME]
    if not installed.exists():
        return False
    with suppress(OSError):
        done = subprocess.run(argv, env=daemon_env(settings), capture_output=True, check=False)
        return done.returncode == 0
    return False


def _spawn(settings: Settings) -> tuple[subprocess.Popen[bytes], int]:
    """The daemon's process, and where to read why it would not start. Neither end ever blocks: a daemon
    outlives who started it, and must not wait for somebody to read."""
    told, says = os.pipe()
    try:
        os.set_blocking(told, False)
        os.set_blocking(says, False)
        process = subprocess.Popen(
            daemon_argv("run"),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=says,
            start_new_session=True,
            cwd="/",
            env=daemon_env(settings),
        )
    except BaseException:
        os.close(told)
        raise
    finally:
        os.close(says)
    return process, told
