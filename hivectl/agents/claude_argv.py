"""How Claude Code is started: one table of flags, every value in the same element as its flag (S22).

Pure. The prompt is never looked at here: it goes to stdin (see claude_frames). Free text goes into
private files. Whoever wants a further flag adds a row, never a place where argv is put together.
"""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from hivectl.agents import claude_frames, claude_mcp
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
    (
        "--max-budget-usd=",
        "max_budget_usd",
        lambda o: (
            None if o.max_budget_usd is None else f"{o.max_budget_usd:.6f}".rstrip("0").rstrip(".")
        ),
    ),
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
    ".claude.*",
    ".claude-*",
    ".claude_*",
    ".config/gh",
    ".gnupg",
    ".netrc",
    ".password-store",
    ".local/share/keyrings",
    "Library/Keychains",
)


class ClaudeHome(str):
    """The path of Claude's own directory in a `deny_read`: closed, but for the outputs Claude keeps there.

    Output of a tool above 30,000 characters goes to a file below it, and the model is told to read that
    file. No rule can open what a wider one closes, so the closed parts are spelt out: whatever Claude
    may keep there tomorrow is closed as well.
    """

    __slots__ = ()


_LETTERS = string.ascii_letters + string.digits + "._@+~,=%-"
"""What the names of Claude's own files are made of; the hyphen last, as classes want it."""


def secret_paths(home: Path, *others: Path, claude_home: Path | None = None) -> tuple[str, ...]:
    """What no tool and no @mention may read by default (S24): `deny_read` of a RunSpec.

    `others` are hivectl's own directories, `claude_home` is CLAUDE_CONFIG_DIR where it is set. A `*` in
    a path is a wild card.
    """
    homes = dict.fromkeys((home / ".claude", *([claude_home] if claude_home else [])))
    return (
        *(str(other) for other in others),
        *(str(home / name) for name in _SECRETS_OF_HOME),
        *(ClaudeHome(place) for place in homes),
        "/**/.env*",
    )


def settings_bytes(deny_read: tuple[str, ...]) -> bytes:
    """The generated settings file: a deny rule wins over every allow rule, also for @mentions."""
    rules: list[str] = []
    for path in deny_read:
        # `//` marks an absolute path in Claude's rules; one rule for the name, one for all below it.
        whole = "//" + _escape(path.strip("/"))
        parts = _closed_parts(whole) if isinstance(path, ClaudeHome) else [whole]
        for tool, patterns in (("Read", parts), ("Edit", [whole])):
            for pattern in patterns:
                rules += [f"{tool}({pattern})", f"{tool}({pattern}/**)"]
    return json.dumps({"permissions": {"deny": rules}}, ensure_ascii=True, indent=1).encode()


def _closed_parts(claude_home: str) -> list[str]:
    """Patterns for all of Claude's directory but projects/PROJECT/SESSION/tool-results."""
    projects = f"{claude_home}/projects/*"
    return [
        *_all_but("projects", below=claude_home),
        f"{projects}/*.*",
        f"{projects}/memory",
        *_all_but("tool-results", below=f"{projects}/*"),
    ]


def _all_but(name: str, *, below: str) -> list[str]:
    """Patterns for every name in a directory but one: those that differ first in the nth letter."""
    differing = (f"{name[:at]}{_other_than(letter)}*" for at, letter in enumerate(name))
    shorter = (name[:at] for at in range(1, len(name)))
    return [f"{below}/{pattern}" for pattern in (*differing, *shorter, f"{name}?*")]


def _other_than(letter: str) -> str:
    """A class of the letters of names but this one. Claude knows no negated class, and no difference
    between small and capital letters."""
    kept = (each for each in _LETTERS if each not in (letter.lower(), letter.upper()))
    return f"[{''.join(kept)}]"


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
    if spec.ask_human:
        # Asked for beforehand: the question itself is what a person decides.
        options = replace(options, allowed_tools=(*options.allowed_tools, claude_mcp.FULL_NAME))
    argv = [str(info.path), *prefix, *ALWAYS, *_session_flags(spec)]
    for flag, _, value_of in _FLAGS:
        value = value_of(options)
        if value is not None:
            argv.append(flag + value)
    argv += [f"--add-dir={path}" for path in options.add_dirs]

    files = {SETTINGS_FILE: settings_bytes(spec.deny_read)}
    argv.append(f"--settings={{run_dir}}/{SETTINGS_FILE}")
    if spec.ask_human:
        files[claude_mcp.CONFIG_FILE] = claude_mcp.config_bytes()
        argv.append(f"--mcp-config={{run_dir}}/{claude_mcp.CONFIG_FILE}")
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
        env={
            **(claude_mcp.ENVIRONMENT if spec.ask_human else {}),
            **spec.env,
            **FORCED,
            MARK: spec.execution,
        },
        cwd=spec.cwd,
        mark=spec.execution,
        interrupt_frame=claude_frames.interrupt()[1],
        files=files,
    )
