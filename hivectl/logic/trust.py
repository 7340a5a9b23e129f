"""What a repository would make Claude do by itself: hooks, servers, variables, permissions, instructions (S25).

Pure: the content of the files comes in, a report for people and a hash of everything comes out. The
hash covers whole files, so any change drops the trust, also one this module does not understand. All
text in a report is the repository's and hostile.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

RELEVANT = (
    ".mcp.json",
    "CLAUDE.md",
    "CLAUDE.local.md",
    ".claude/**/*",
)
"""Globs, below the project and as pathlib takes them, of what Claude reads by itself. Whoever reads them follows no link out of
the project and passes over nothing: what cannot be read is reported with its reason."""

FILE_BYTES_MAX = 1 << 20
FILES_MAX = 2000
TEXT_MAX = 200
ITEMS_MAX = 100

_SETTINGS = (".claude/settings.json", ".claude/settings.local.json")
_SERVERS = ".mcp.json"
_INSTRUCTIONS = frozenset({"CLAUDE.md", "CLAUDE.local.md", ".claude/CLAUDE.md"})
_RUNS = frozenset(
    {"apiKeyHelper", "awsAuthRefresh", "awsCredentialExport", "otelHeadersHelper", "statusLine"}
)
"""Settings whose value is a command."""
_SHOWN = frozenset({"$schema", "hooks", "env", "permissions"})
"""Settings that are reported under their own head, or mean nothing."""
_PLACE = re.compile(r"(URL|HOST|PROXY|PATH|ENDPOINT)S?$")
"""Variables whose value must be seen: it says where something goes. Others may be secrets."""
_UNFIT = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]+"
)
_SCRIPT = re.compile(
    r"[\w./-]*[\w-]\.(?:sh|bash|zsh|py|js|mjs|cjs|ts|rb|pl|php)\b|[\w.-]*/[\w./-]+"
)
_PROJECT_DIR = re.compile(r"\$\{?CLAUDE_PROJECT_DIR\}?\"?/")


class TrustReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, one line each, for a person to look at."""

    hooks: tuple[str, ...] = ()
    mcp_servers: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    permissions: tuple[str, ...] = ()
    claude_md: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    """Other settings, agents, commands, skills."""
    problems: tuple[str, ...] = ()
    """What could not be read or understood."""
    hash: str
    """Of the content of every file; trust holds as long as it stays the same."""

    @property
    def is_empty(self) -> bool:
        """The repository brings nothing of its own."""
        found = (self.hooks, self.mcp_servers, self.env, self.permissions, self.claude_md)
        return not any((*found, self.other, self.problems))

    @property
    def is_complete(self) -> bool:
        """Everything could be read, so that the hash says all."""
        return not self.problems


class _Findings(msgspec.Struct):
    hooks: list[str] = msgspec.field(default_factory=list)
    mcp_servers: list[str] = msgspec.field(default_factory=list)
    env: list[str] = msgspec.field(default_factory=list)
    permissions: list[str] = msgspec.field(default_factory=list)
    claude_md: list[str] = msgspec.field(default_factory=list)
    other: list[str] = msgspec.field(default_factory=list)
    problems: list[str] = msgspec.field(default_factory=list)


def inspect(files: Mapping[str, bytes], unreadable: Mapping[str, str] | None = None) -> TrustReport:
    """The report on `files` (path below the project -> content) and on those that could not be read
    (path -> reason)."""
    found = _Findings()
    for path in sorted(files):
        _inspect_file(path, files[path], found)
    found.problems += [
        f"{_fit(path)}: {_fit(why)}" for path, why in sorted((unreadable or {}).items())
    ]
    if len(files) > FILES_MAX:
        found.problems.append(f"more than {FILES_MAX} files")
    lists = {
        "hooks": found.hooks,
        "mcp_servers": found.mcp_servers,
        "env": found.env,
        "permissions": found.permissions,
        "claude_md": found.claude_md,
        "other": found.other,
        "problems": found.problems,
    }
    return TrustReport(
        hash=digest(files, unreadable or {}),
        **{name: _bounded(items) for name, items in lists.items()},
    )


def digest(files: Mapping[str, bytes], unreadable: Mapping[str, str]) -> str:
    """SHA-256 over every path and content; lengths keep two files from passing for another two."""
    hashed = hashlib.sha256()
    for kind, entries in (
        (b"file", dict(files)),
        (b"unreadable", {path: _bytes(why) for path, why in unreadable.items()}),
    ):
        for path in sorted(entries):
            name = _bytes(path)
            hashed.update(b"%s %d %d\n" % (kind, len(name), len(entries[path])))
            hashed.update(name)
            hashed.update(entries[path])
    return hashed.hexdigest()


def scripts(files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Paths below the project that hooks and servers seem to run: read them too, they are part of it."""
    found: set[str] = set()
    for command in _commands(files):
        for match in _SCRIPT.findall(_PROJECT_DIR.sub("", command)):
            path = match.removeprefix("./")
            if path and not path.startswith("/") and ".." not in path.split("/"):
                found.add(path)
    return tuple(sorted(found)[:ITEMS_MAX])


def _commands(files: Mapping[str, bytes]) -> Iterator[str]:
    for path in (*_SETTINGS, _SERVERS):
        parsed = _object(files.get(path, b"{}"))
        if not isinstance(parsed, dict):
            continue
        yield from (command for _, _, command in _hooks(parsed))
        yield from (_text(value) for name, value in parsed.items() if name in _RUNS)
        yield from (_command_line(server) for _, server in _servers(parsed))


# --- one file --------------------------------------------------------------------------------------


def _inspect_file(path: str, content: bytes, found: _Findings) -> None:
    if len(content) > FILE_BYTES_MAX:
        found.problems.append(f"{_fit(path)}: larger than {FILE_BYTES_MAX} bytes")
    if path in _INSTRUCTIONS:
        found.claude_md.append(f"{path} ({len(content)} bytes)")
    elif path in _SETTINGS or path == _SERVERS:
        parsed = _object(content)
        if not isinstance(parsed, dict):
            found.problems.append(f"{path}: {parsed}")
        elif path == _SERVERS:
            _inspect_servers(path, parsed, found)
        else:
            _inspect_settings(path, parsed, found)
    else:
        found.other.append(_fit(path))


def _object(content: bytes) -> dict[str, Any] | str:
    """The JSON object in a file, or why there is none."""
    if len(content) > FILE_BYTES_MAX:
        return "too large to be looked at"
    try:
        value = json.loads(content.decode(), object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        return f"is not valid JSON ({_fit(str(error))})"
    return value if isinstance(value, dict) else "is not a JSON object"


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    # Parsers differ on which of two counts: what is shown might not be what runs.
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key comes twice")
    return value


def _inspect_settings(path: str, settings: dict[str, Any], found: _Findings) -> None:
    found.hooks += [f"{event} {matcher}: {command}" for event, matcher, command in _hooks(settings)]
    env = settings.get("env")
    if isinstance(env, dict):
        found.env += [_variable(name, value) for name, value in env.items()]
    elif env is not None:
        found.problems.append(f"{path}: env is no object")
    found.permissions += _permissions(settings.get("permissions"))
    for name, value in settings.items():
        if name in _RUNS:
            found.hooks.append(f"{name}: {_json(value)}")
        elif name not in _SHOWN:
            found.other.append(f"{path}: {name} = {_json(value)}")


def _hooks(settings: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(event, matcher, command) of every hook; what has an unknown shape is shown as it is."""
    hooks = settings.get("hooks")
    if not isinstance(hooks, dict):
        if hooks is not None:
            yield "hooks", "", _json(hooks)
        return
    for event, groups in hooks.items():
        for group in groups if isinstance(groups, list) else [groups]:
            inner = group.get("hooks") if isinstance(group, dict) else None
            if not isinstance(inner, list):
                yield event, "", _json(group)
                continue
            for hook in inner:
                command = hook.get("command") if isinstance(hook, dict) else None
                yield (
                    event,
                    _text(group.get("matcher") or "*"),
                    command if isinstance(command, str) else _json(hook),
                )


def _permissions(permissions: Any) -> Iterator[str]:
    if permissions is None:
        return
    if not isinstance(permissions, dict):
        yield _json(permissions)
        return
    for name, value in permissions.items():
        for item in value if isinstance(value, list) else [value]:
            yield f"{name} {_text(item)}"


def _inspect_servers(path: str, parsed: dict[str, Any], found: _Findings) -> None:
    if not isinstance(parsed.get("mcpServers"), dict):
        found.problems.append(f"{path}: has no mcpServers")
    for name, server in _servers(parsed):
        line = _command_line(server)
        found.mcp_servers.append(f"{name}: {line or _text(server.get('url') or server)}")
        env = server.get("env")
        if isinstance(env, dict):
            found.env += [f"{name}: {_variable(key, value)}" for key, value in env.items()]


def _servers(parsed: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    servers = parsed.get("mcpServers")
    for name, server in servers.items() if isinstance(servers, dict) else ():
        yield name, server if isinstance(server, dict) else {"unknown": server}


def _command_line(server: dict[str, Any]) -> str:
    arguments = server.get("args")
    words = [server.get("command"), *(arguments if isinstance(arguments, list) else [])]
    return " ".join(_text(word) for word in words if word is not None)


def _variable(name: str, value: Any) -> str:
    return f"{name}={_text(value)}" if _PLACE.search(name.upper()) else name


def _json(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=True)
    except RecursionError:
        return "(nested too deeply to be shown)"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _fit(text: str) -> str:
    """One line, shortened, without characters that hide or reorder others."""
    line = _UNFIT.sub("\ufffd", text)
    return line if len(line) <= TEXT_MAX else line[: TEXT_MAX - 1] + "…"


def _bounded(items: list[str]) -> tuple[str, ...]:
    fitted = [_fit(item) for item in items]
    more = len(fitted) - ITEMS_MAX
    return tuple(fitted) if more <= 0 else (*fitted[:ITEMS_MAX], f"… and {more} more")
