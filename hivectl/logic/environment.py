"""The environment a child gets: an allow-list of the daemon's own, then the configured additions (S26).

Nothing of a client ever enters it, and no secret of the daemon leaves with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from hivectl.logic.options import invalid
from hivectl.logic.redact import excerpt

MARK = "HIVECTL_EXECUTION"
"""Found in /proc/<pid>/environ of everything a child starts."""

ALLOWED = frozenset(
    [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "LANGUAGE",
        "TERM",
        "COLORTERM",
        "TMPDIR",
        "SHELL",
        "TZ",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "NODE_EXTRA_CA_CERTS",
        "SSH_AUTH_SOCK",
        "CLAUDE_CONFIG_DIR",
        "CLAUDE_CODE_OAUTH_TOKEN",
        "CLAUDE_CODE_MAX_RETRIES",
        "CLAUDE_CODE_USE_BEDROCK",
        "CLAUDE_CODE_USE_VERTEX",
        "CLAUDE_CODE_SKIP_BEDROCK_AUTH",
        "CLAUDE_CODE_SKIP_VERTEX_AUTH",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC",
        "DISABLE_TELEMETRY",
        "DISABLE_ERROR_REPORTING",
        "API_TIMEOUT_MS",
        "CLAUDE_BYTE_STREAM_IDLE_TIMEOUT_MS",
        "MCP_TIMEOUT",
        "BASH_DEFAULT_TIMEOUT_MS",
        "BASH_MAX_TIMEOUT_MS",
    ]
)
ALLOWED_PREFIXES = ("LC_", "XDG_", "ANTHROPIC_")
CLOUD_PREFIXES = ("AWS_", "GOOGLE_", "CLOUD_")
"""Only when one of CLOUD_SWITCHES is on."""
CLOUD_SWITCHES = ("CLAUDE_CODE_USE_BEDROCK", "CLAUDE_CODE_USE_VERTEX")
FORCED = {"DISABLE_AUTOUPDATER": "1", "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1"}
"""A child must not replace its own executable, and gives one result and a prompt exit."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OFF = frozenset({"", "0", "false", "no", "off"})


def is_on(env: Mapping[str, str], name: str) -> bool:
    """Whether a switch is set to something that means yes."""
    return env.get(name, "").strip().lower() not in _OFF


def validate_additions(additions: Mapping[str, str], *, field: str = "env") -> None:
    """Refuse names and values that cannot be, or may not be, in an environment: HiveError INVALID_PARAMS."""
    problems = []
    for name, value in additions.items():
        if not _NAME.fullmatch(name):
            problems.append(
                (f"{field}.{excerpt(name, 80)}", "is no name of a variable", "letters, digits, _")
            )
        elif name.startswith("HIVECTL_"):
            problems.append((f"{field}.{name}", "belongs to hivectl", "names not in HIVECTL_"))
        elif "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
            problems.append((f"{field}.{name}", "cannot be passed on", "text without NUL"))
    if problems:
        raise invalid(problems)


def inherited(daemon_env: Mapping[str, str], switches: Mapping[str, str]) -> dict[str, str]:
    """What of the daemon's own environment a child may see; `switches` tell whether a cloud is in use."""
    in_cloud = any(is_on(switches, name) for name in CLOUD_SWITCHES)
    prefixes = ALLOWED_PREFIXES + (CLOUD_PREFIXES if in_cloud else ())
    return {
        name: value
        for name, value in daemon_env.items()
        if name in ALLOWED or name.startswith(prefixes)
    }


def environment(
    daemon_env: Mapping[str, str],
    config_env: Mapping[str, str],
    project_env: Mapping[str, str],
    execution: str,
) -> dict[str, str]:
    """The child's whole environment; the project's additions win over the configuration's.

    Raises HiveError INVALID_PARAMS for an addition that may not be.
    """
    validate_additions(config_env)
    validate_additions(project_env)
    additions = {**config_env, **project_env}
    kept = inherited(daemon_env, {**daemon_env, **additions})
    return {**kept, **additions, **FORCED, MARK: execution}
