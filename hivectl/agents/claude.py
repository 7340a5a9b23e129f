"""Claude Code as an agent: which executable it is, whether it may be started, how it is logged in.

The configured path is kept and looked at again before each start, because Claude replaces itself;
its version is asked again only when the file behind the path is another one. Nothing here starts a
conversation, and no credential is ever read.
"""

from __future__ import annotations

import asyncio
import grp
import importlib.util
import os
import pwd
import re
import shutil
import signal
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from hivectl.agents import claude_argv
from hivectl.agents.claude_stream import ClaudeConversation
from hivectl.logic.environment import CLOUD_SWITCHES, inherited, is_on
from hivectl.model.errors import HiveError
from hivectl.ports import AgentInfo, Launch, RunSpec

MIN_VERSION = "2.1.197"
PROBE_LIMIT_S = 10.0
PROBE_BYTES_MAX = 4096
MOCK = "mock"

_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})\.(\d{1,9})")
_LOGIN_VARIABLES = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "CLAUDE_CODE_OAUTH_TOKEN")
_ADMIN_GROUPS = frozenset({"root", "wheel", "admin", "sudo"})
"""Their members can become root anyway; Homebrew's directories belong to `admin`."""

_FileKey = tuple[str, int, int, int, int]


class ClaudeAgent:
    """Fulfils `hivectl.ports.Agent` for the Claude CLI, and for the mock with `bin_path="mock"`."""

    def __init__(
        self,
        bin_path: str,
        *,
        env: Mapping[str, str],
        additions: Mapping[str, str] | None = None,
        min_version: str = MIN_VERSION,
        mock_config: Path | None = None,
    ) -> None:
        """`bin_path` is a name to look up in PATH, an absolute path, or the word `mock`.

        `env` is the daemon's own environment, of which only the allow-list is used; `additions` are
        the configuration's `[env]`. `mock_config`: where the mock keeps its conversations when nothing else
        is said, so that trying hivectl leaves no trace in Claude's own directory.
        """
        self._bin = bin_path
        self._env = {**inherited(env, {**env, **(additions or {})}), **(additions or {})}
        self._min_version = min_version
        self._mock_config = mock_config
        self._resolved: Path | None = None
        self._versions: dict[_FileKey, str] = {}
        self._prefix: tuple[str, ...] = ()
        if bin_path == MOCK:
            # -P: a directory of the project may not pass for a module.
            self._prefix = ("-P", "-m", "mock_claude")
            self._env = _with_mock_path(self._env)

    async def probe(self) -> AgentInfo:
        """Find and check the executable; its version is cached by inode, size and time of change.

        Raises HiveError CLAUDE_NOT_FOUND, CLAUDE_VERSION or SPAWN_FAILED (owner, mode, no answer).
        """
        path = self._find()
        key = _checked(path)
        version = self._versions.get(key)
        if version is None:
            version = await self._ask_version(path)
            self._versions = {key: version}
        return AgentInfo(path=path, version=version, login=self._login())

    def launch(self, spec: RunSpec, info: AgentInfo) -> Launch:
        """How to start it. Raises HiveError INVALID_PARAMS for options that may not reach argv."""
        launch = claude_argv.build(spec, info, prefix=self._prefix)
        if self._bin == MOCK:
            launch.env.update(_with_mock_path(launch.env))
            if self._mock_config is not None:
                launch.env.setdefault("CLAUDE_CONFIG_DIR", str(self._mock_config))
        return launch

    def conversation(self, spec: RunSpec, *, offset: int = 0) -> ClaudeConversation:
        """A fresh reader of the output from `offset` on."""
        return ClaudeConversation(spec, offset=offset)

    # --- the executable ----------------------------------------------------------------------------

    def _find(self) -> Path:
        if self._bin == MOCK:
            return Path(sys.executable)
        if "/" in self._bin:
            path = Path(self._bin).expanduser()
            if not path.is_absolute():
                raise _not_found(self._bin, "the configured path is not absolute")
            return path
        if self._resolved is None or not self._resolved.exists():
            search = self._env.get("PATH", os.defpath)
            found = shutil.which(self._bin, path=search)
            if found is None or not found.startswith("/"):
                raise _not_found(self._bin, f"it is in no directory of PATH ({search})")
            self._resolved = Path(found)
        return self._resolved

    async def _ask_version(self, path: Path) -> str:
        code, output = await self._run_version(path)
        if self._bin == MOCK and code != 0:
            raise _not_found(self._bin, "the module mock_claude cannot be run")
        if code != 0:
            raise HiveError(
                "SPAWN_FAILED",
                f"`{path} --version` ended with exit code {code}.",
                hint=f"Run `{path} --version` yourself to see why; `hivectl doctor` checks it again.",
                details={"path": str(path), "exit_code": code},
            )
        found = _VERSION.match(output.strip())
        if found is None:
            raise HiveError(
                "CLAUDE_VERSION",
                f"{path} does not say which version it is: it printed {output.strip()[:80]!r}.",
                hint="Is `claude.bin` really the Claude CLI? `hivectl config show --origin` tells.",
                details={"path": str(path), "minimum": self._min_version},
            )
        if _parts(found[0]) < _parts(self._min_version):
            raise HiveError(
                "CLAUDE_VERSION",
                f"{path} is version {found[0]}; at least {self._min_version} is needed.",
                details={"path": str(path), "version": found[0], "minimum": self._min_version},
            )
        return found[0]

    async def _run_version(self, path: Path) -> tuple[int, str]:
        # A pipe of our own: the one asyncio makes is not closed when its reader is paused.
        read_end, write_end = os.pipe()
        reader = asyncio.StreamReader(limit=PROBE_BYTES_MAX)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(read_end, "rb", 0)
        )
        child: asyncio.subprocess.Process | None = None
        try:
            async with asyncio.timeout(PROBE_LIMIT_S):
                try:
                    child = await self._start_version(path, write_end)
                finally:
                    os.close(write_end)
                output = await _first_line(reader)
                return await child.wait(), output
        except TimeoutError as error:
            raise HiveError(
                "SPAWN_FAILED",
                f"`{path} --version` did not answer within {PROBE_LIMIT_S:.0f} s.",
                details={"path": str(path)},
            ) from error
        finally:
            transport.close()
            if child is not None:
                await _end(child)

    async def _start_version(self, path: Path, stdout: int) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                str(path),
                *self._prefix,
                "--version",
                env=self._env,
                cwd="/",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stdout,
                stderr=asyncio.subprocess.DEVNULL,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise HiveError(
                "SPAWN_FAILED",
                f"{path} could not be started: {getattr(error, 'strerror', None) or error}.",
                details={"path": str(path)},
            ) from error

    # --- the login ---------------------------------------------------------------------------------

    def _login(self) -> str:
        """How it is logged in, from what exists; a key chain or a helper cannot be seen from here."""
        if self._bin == MOCK:
            return MOCK
        for switch in CLOUD_SWITCHES:
            if is_on(self._env, switch):
                return switch.removeprefix("CLAUDE_CODE_USE_").lower()
        for name in _LOGIN_VARIABLES:
            if self._env.get(name):
                return name
        config = self._env.get("CLAUDE_CONFIG_DIR") or f"{self._env.get('HOME', '')}/.claude"
        try:
            return "credentials file" if Path(config, ".credentials.json").is_file() else ""
        except (OSError, ValueError):
            return ""


async def _first_line(reader: asyncio.StreamReader) -> str:
    """What comes first; whoever goes on writing fills its pipe and runs out of time."""
    head = b""
    while b"\n" not in head and len(head) < PROBE_BYTES_MAX:
        chunk = await reader.read(PROBE_BYTES_MAX)
        if not chunk:
            break
        head += chunk
    return head.decode("utf-8", "replace")


async def _end(child: asyncio.subprocess.Process) -> None:
    """Its own session: what it started goes with it, and nothing else does."""
    if child.returncode is not None:
        # Its number may be somebody else's by now; the group can only be told by a living leader.
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    await child.wait()


def _with_mock_path(env: Mapping[str, str]) -> dict[str, str]:
    """The mock can be imported also where it is not installed (a checkout)."""
    home = _mock_home()
    return {**env, "PYTHONPATH": home} if home else dict(env)


def _mock_home() -> str:
    """The directory that holds the mock's package; empty when there is none."""
    found = importlib.util.find_spec("mock_claude")
    places = list(found.submodule_search_locations or ()) if found else []
    return str(Path(places[0]).parent) if places else ""


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _not_found(name: str, why: str) -> HiveError:
    return HiveError(
        "CLAUDE_NOT_FOUND", f"The Claude CLI {name!r} was not found: {why}.", details={"bin": name}
    )


# --- may it be started -----------------------------------------------------------------------------


def _checked(path: Path) -> _FileKey:
    """Check the file behind `path`: executable, and nobody but us and root can change it (S29)."""
    try:
        real = path.resolve(strict=True)
        found = real.stat()
        directories = {path.parent: path.parent.stat(), real.parent: real.parent.stat()}
    except (OSError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _not_found(str(path), reason) from error
    if not stat.S_ISREG(found.st_mode):
        raise _not_found(str(path), "it is no file")
    if not os.access(real, os.X_OK):
        raise _refused(path, "is not executable", f"chmod +x {real}")
    for place, facts in ((real, found), *directories.items()):
        _check_owner(path, place, facts)
    return str(real), found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size


def _check_owner(path: Path, place: Path, facts: os.stat_result) -> None:
    what = "" if place == path else f": {place}"
    if facts.st_uid not in {0, os.getuid()}:
        raise _refused(
            path, f"belongs to another user{what}", f"chown it, or install your own: {place}"
        )
    if facts.st_mode & stat.S_IWOTH:
        raise _refused(path, f"can be changed by every user{what}", f"chmod o-w {place}")
    if facts.st_mode & stat.S_IWGRP and not _is_safe_group(facts.st_gid):
        raise _refused(path, f"can be changed by its group{what}", f"chmod g-w {place}")


def _is_safe_group(gid: int) -> bool:
    """A group that gives nobody new rights: root's, administrators', or the user's own private one."""
    if gid == 0:
        return True
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    if group.gr_name in _ADMIN_GROUPS:
        return True
    is_private = group.gr_name == user.pw_name and gid == user.pw_gid
    return is_private and set(group.gr_mem) <= {user.pw_name}


def _refused(path: Path, why: str, remedy: str) -> HiveError:
    return HiveError(
        "SPAWN_FAILED",
        f"{path} is not started because it {why}.",
        hint=f"Mend it ({remedy}) or set `claude.bin` to another executable.",
        details={"path": str(path), "reason": why},
    )
