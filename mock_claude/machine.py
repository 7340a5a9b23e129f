"""What the mock asks of the machine: clock, environment, locations, child environments.

The only module that reads the clock or the environment; the rest stays testable and portable.
"""

import os
import sys
import time
from typing import Any

Json = dict[str, Any]

ENV: dict[str, str] = dict(os.environ)


def env(name: str, default: str = "") -> str:
    """The environment variable as it was at start, or as project settings changed it."""
    return ENV.get(name, default)


def env_number(name: str, default: float) -> float:
    """A number from the environment; anything unreadable counts as absent."""
    try:
        return float(ENV.get(name, ""))
    except ValueError:
        return default


def now() -> float:
    """Monotonic seconds."""
    return time.monotonic()


def wall_s() -> float:
    """Unix seconds."""
    return time.time()


def iso() -> str:
    """Now as the real CLI writes timestamps: ISO 8601, UTC, milliseconds."""
    wall = time.time()
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(wall))
    return f"{text}.{int(wall * 1000) % 1000:03d}Z"


def clock_text(unix_s: int) -> str:
    """A time of day as the usage-limit message shows it, such as `2:49am (UTC)`."""
    parts = time.gmtime(unix_s)
    hour = parts.tm_hour % 12 or 12
    return f"{hour}:{parts.tm_min:02d}{'am' if parts.tm_hour < 12 else 'pm'} (UTC)"


def config_dir() -> str:
    """Where state goes: `$CLAUDE_CONFIG_DIR`, else `$HOME/.claude`."""
    return env("CLAUDE_CONFIG_DIR") or os.path.join(env("HOME", "/"), ".claude")


def temp_dir() -> str:
    """`$TMPDIR` or /tmp."""
    return env("TMPDIR") or "/tmp"  # noqa: S108 - the real CLI uses the same place


def slug(path: str) -> str:
    """A directory name for a path: every character that is not alphanumeric becomes `-`."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in path)


def project_dir(cwd: str) -> str:
    """The directory that holds the session files of a working directory."""
    return os.path.join(config_dir(), "projects", slug(cwd))


def tasks_dir(cwd: str, session_id: str) -> str:
    """The directory of tool output files of a session; may not exist yet."""
    return os.path.join(temp_dir(), f"claude-{os.getuid()}", slug(cwd), session_id, "tasks")


def child_env(session_id: str) -> dict[str, str]:
    """The environment of everything the mock starts."""
    return {
        **ENV,
        "CLAUDECODE": "1",
        "CLAUDE_CODE_SESSION_ID": session_id,
        "CLAUDE_CODE_CHILD_SESSION": "1",
        "CLAUDE_PID": str(os.getpid()),
        "CLAUDE_CODE_ENTRYPOINT": env("CLAUDE_CODE_ENTRYPOINT", "sdk-cli"),
        "AI_AGENT": "claude-code_2-1-329_agent",
        "GIT_EDITOR": "true",
    }


def complain(text: str) -> None:
    """Write a line to stderr; a closed stderr is nobody's problem."""
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return


def make_private_dir(path: str) -> None:
    """A directory for its user alone, and so every parent that has to be made for it."""
    if not os.path.isdir(path):
        make_private_dir(os.path.dirname(path))
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            return  # another process made it meanwhile
