"""How Claude Code is started: one table of flags, every value in the same element as its flag (S22).

Pure. The prompt is never looked at here: it goes to stdin (see claude_frames). Free text goes into
private files. Whoever wants a further flag adds a row, never a place where argv is put together.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from hivectl.agents import claude_frames
from hivectl.logic.environment import FORCED, MARK, environment
from hivectl.logic.options import invalid, is_session_id, schema_text, validate_options
from hivectl.model.work import Options
from hivectl.ports import AgentInfo, Launch, RunSpec

__all__ = ["build", "environment", "secret_paths", "validate_options"]

APPEND_FILE = "append-system-prompt.txt"
SYSTEM_FILE = "system-prompt.txt"
SETTINGS_FILE = "settings.json"

ALWAYS = (
    "-p",
    "--output-format=stream-json",
    "--input-format=stream-json",
    "--verbose",
    "--permission-prompt-tool=stdio",
)
UNTRUSTED = ("--setting-sources=user", "--strict-mcp-config")
"""Stops hooks, MCP servers and environment overrides of the repository, and its CLAUDE.md (S25)."""

_FLAGS: tuple[tuple[str, str, Callable[[Options], str | None]], ...] = (
    ("--model=", "model", lambda o: o.model),
    ("--fallback-model=", "fallback_model", lambda o: o.fallback_model),
    ("--permission-mode=", "permission_mode", lambda o: o.permission_mode),
    ("--allowedTools=", "allowed_tools", lambda o: ",".join(o.allowed_tools) or None),
    ("--disallowedTools=", "disallowed_tools", lambda o: ",".join(o.disallowed_tools) or None),
    ("--max-turns=", "max_turns", lambda o: None if o.max_turns is None else str(o.max_turns)),
    ("--effort=", "effort", lambda o: o.effort),
    (
        "--json-schema=",
        "json_schema",
        lambda o: None if o.json_schema is None else schema_text(o.json_schema),
    ),
)
"""Flag, the field of Options it comes from, its value or None."""

_SECRETS_OF_HOME = (
    ".ssh",
    ".aws",
    ".claude*",
    ".config/gh",
    ".gnupg",
    ".netrc",
    ".password-store",
    ".local/share/keyrings",
    "Library/Keychains",
)


def secret_paths(home: Path, *others: Path) -> tuple[str, ...]:
    """What no tool and no @mention may read by default (S24): `deny_read` of a RunSpec.

    `others` are hivectl's own directories. A `*` in a path is a wild card.
    """
    return (
        *(str(other) for other in others),
        *(str(home / name) for name in _SECRETS_OF_HOME),
        "/**/.env*",
    )


def settings_bytes(deny_read: tuple[str, ...]) -> bytes:
    """The generated settings file: a deny rule wins over every allow rule, also for @mentions."""
    rules: list[str] = []
    for path in deny_read:
        # `//` marks an absolute path in Claude's rules; one rule for the name, one for all below it.
        pattern = "//" + _escape(path.strip("/"))
        for tool in ("Read", "Edit"):
            rules += [f"{tool}({pattern})", f"{tool}({pattern}/**)"]
    return json.dumps({"permissions": {"deny": rules}}, ensure_ascii=True, indent=1).encode()


def _escape(path: str) -> str:
    return "".join(f"\\{letter}" if letter in "\\()[]{}?!" else letter for letter in path)


def _session_flags(spec: RunSpec) -> list[str]:
    wrong = [
        (field, "is no session id", "a UUID")
        for field, value in (("session", spec.session), ("fork_from", spec.fork_from))
        if value is not None and not is_session_id(value)
    ]
    if wrong:
        raise invalid(wrong)
    if spec.fork_from is not None:
        return [f"--resume={spec.fork_from}", "--fork-session", f"--session-id={spec.session}"]
    return [f"--resume={spec.session}" if spec.resume else f"--session-id={spec.session}"]


def build(spec: RunSpec, info: AgentInfo, *, prefix: tuple[str, ...] = ()) -> Launch:
    """How to start Claude for `spec`; `prefix` follows the executable (an interpreter's arguments).

    Raises HiveError INVALID_PARAMS for options or ids that may not reach a command line.
    """
    validate_options(spec.options)
    options = spec.options
    argv = [str(info.path), *prefix, *ALWAYS, *_session_flags(spec)]
    for flag, _, value_of in _FLAGS:
        value = value_of(options)
        if value is not None:
            argv.append(flag + value)
    argv += [f"--add-dir={path}" for path in options.add_dirs]

    files = {SETTINGS_FILE: settings_bytes(spec.deny_read)}
    argv.append(f"--settings={{run_dir}}/{SETTINGS_FILE}")
    # A resumed or forked conversation keeps the system prompt it began with: Claude (2.1.329) takes
    # these flags then, in every form, and does nothing with them.
    for flag, name, text in (
        ("--append-system-prompt-file=", APPEND_FILE, options.append_system_prompt),
        ("--system-prompt-file=", SYSTEM_FILE, options.system_prompt),
    ):
        if text is not None:
            files[name] = text.encode()
            argv.append(f"{flag}{{run_dir}}/{name}")

    if options.partials:
        argv.append("--include-partial-messages")
    if not spec.trusted:
        argv += UNTRUSTED
    if not spec.slash_commands:
        argv.append("--disable-slash-commands")
    return Launch(
        argv=tuple(argv),
        env={**spec.env, **FORCED, MARK: spec.execution},
        cwd=spec.cwd,
        mark=spec.execution,
        interrupt_frame=claude_frames.interrupt()[1],
        files=files,
    )
