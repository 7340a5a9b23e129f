r"""Rules that answer Claude's permission requests instead of a person. First match wins; nothing matches: ask.

A rule names a tool (a glob) and globs for input fields, each held against the field's whole value,
never against rendered text. It fails closed:

- An *allow* rule covers a call only if every named field is a plain value that matches. A wild card in
  a command never stands for a character that has a meaning to the shell, in a path not for `..`, a
  hidden name or a way out through a link, in a URL not for another scheme, host or port. No allow rule
  covers a question.
- A *deny* or *ask* rule is read broadly: any simple command inside a compound one, without quotes,
  assignments and words such as `sudo` before it, by its name or its path; a path in any of its
  spellings, a value too long to be looked at. `bash -c`, variables and aliases still hide a command.

`git *` still lets every git command with every option through: a rule is no sandbox.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

import msgspec

from hivectl.logic import glob
from hivectl.logic.options import invalid
from hivectl.logic.redact import excerpt

Action = Literal["allow", "deny", "ask"]
ACTIONS: tuple[Action, ...] = ("allow", "deny", "ask")

VALUE_MAX = 32_768
"""Characters of a value that a rule looks at."""
CONDITIONS_MAX = 20

QUESTIONS = frozenset({"AskUserQuestion", "ExitPlanMode"})
COMMAND_FIELDS = frozenset({"command"})
PATH_FIELDS = frozenset({"file_path", "notebook_path", "path"})
URL_FIELDS = frozenset({"url"})
RISKY_FIELDS = frozenset({"dangerouslyDisableSandbox"})
"""Set in an input, they are covered only by a rule that names them."""

_SHELL = frozenset(";&|<>$`(){}\\#")
_QUOTES = frozenset("'\"")
_SEPARATORS = re.compile(r"[;&|\n\r(){}`<>]|\$\(")
_UNQUOTED = str.maketrans("", "", "'\"\\")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
# fmt: off
_WRAPPERS = frozenset([
    "!", "builtin", "chrt", "command", "do", "doas", "else", "env", "eval", "exec", "if", "ionice", "nice", "nohup",
    "setsid", "stdbuf", "sudo", "then", "time", "timeout", "until", "while", "xargs",
])
# fmt: on
"""Words that start the command behind them."""
_WRAPPED_MAX = 8
_FIELD = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_HOST = re.compile(r"(\*\.)?[a-z0-9._:-]+")
_UP = re.compile(r"(\.|%2e){2}", re.IGNORECASE)
_TOOL = re.compile(r"[A-Za-z0-9_*?.:-]{1,200}")


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A rule. `project` None means every project."""

    id: str
    action: Action
    tool: str
    match: Mapping[str, str] = msgspec.field(default_factory=dict)
    project: str | None = None
    timeout_s: float | None = None
    on_timeout: Literal["wait", "deny", "allow"] | None = None
    """Of a rule that asks: what happens when nobody answers in time; None: what is configured."""


class Verdict(msgspec.Struct, frozen=True):
    """What the rules say, and which one said it (None: no rule, so a person is asked)."""

    action: Action
    policy_id: str | None = None


class Place(msgspec.Struct, frozen=True):
    """The project a call is made in. `resolve` follows the links of an absolute path (pure rooms do no
    I/O); without it paths are compared as they are written."""

    id: str
    path: str
    resolve: Callable[[str], str] | None = None


ASK = Verdict("ask")


def decide(
    policies: Sequence[Policy],
    tool: str,
    input_: Mapping[str, Any],
    *,
    is_question: bool,
    place: Place,
) -> Verdict:
    """What the first rule that matches says; `ask` when none does."""
    is_question = is_question or tool in QUESTIONS
    for policy in policies:
        if policy.project not in {None, place.id} or (is_question and policy.action == "allow"):
            continue
        if covers(policy, tool, input_, place):
            return Verdict(policy.action, policy.id)
    return ASK


def covers(policy: Policy, tool: str, input_: Mapping[str, Any], place: Place) -> bool:
    """Whether the rule's tool and fields match the call; whose project and whether it asks is not looked at."""
    is_allow = policy.action == "allow"
    try:
        if not glob.matches(glob.parse(policy.tool), tool):
            return False
        if is_allow and any(input_.get(name) and name not in policy.match for name in RISKY_FIELDS):
            return False
        covers = _allows if is_allow else _strikes
        return all(
            name in input_ and covers(name, pattern, input_[name], place)
            for name, pattern in policy.match.items()
        )
    except ValueError:
        # A rule that cannot be read: it allows nothing, and what it should stop is stopped.
        return not is_allow


# --- allow: narrow ---------------------------------------------------------------------------------


def _allows(name: str, pattern: str, value: Any, place: Place) -> bool:
    text = _plain(value)
    if text is None or len(text) > VALUE_MAX:
        return False
    if name in COMMAND_FIELDS:
        return _allows_command(pattern, text)
    if name in PATH_FIELDS:
        return _allows_path(pattern, text, place)
    if name in URL_FIELDS:
        return _allows_url(pattern, text)
    return glob.matches(glob.parse(pattern), text)


def _plain(value: Any) -> str | None:
    match value:
        case str():
            return value
        case bool() | int() | float():
            return json.dumps(value)
        case _:
            return None


def _allows_command(pattern: str, text: str) -> bool:
    tokens = glob.parse(pattern)
    # Quotes group words and do no more, but two wild cards could hide what stands between them in one.
    is_only_last = glob.wildcards(tokens) == 1 and tokens[-1] == glob.STAR
    refused = _SHELL if is_only_last and not _SHELL & set(pattern) else _SHELL | _QUOTES
    return glob.matches(tokens, text, lambda c: c.isprintable() and c not in refused)


def _allows_path(pattern: str, text: str, place: Place) -> bool:
    names = _names(text, place.path)
    if names is None:
        return False
    if not _path_matches(pattern, names, place.path, hidden=False):
        return False
    if place.resolve is None:
        return True
    real = _names(place.resolve("/" + "/".join(names)), "/")
    home = place.resolve(place.path)
    return real is not None and _path_matches(pattern, real, home, hidden=False)


def _names(path: str, base: str) -> list[str] | None:
    """The names of a path from the root on; None when it has a second spelling or is none."""
    if not path.startswith("/"):
        path = f"{base.rstrip('/')}/{path}"
    names = path[1:].split("/")
    is_plain = all(name not in {"", ".", ".."} and name.isprintable() for name in names)
    return names if is_plain else None


def _path_matches(pattern: str, names: list[str], base: str, *, hidden: bool) -> bool:
    parts = [part for part in pattern.split("/") if part]
    if any(part in {".", ".."} for part in parts):
        raise ValueError("a path pattern has no . or ..")
    # The project's own directory is met exactly, whatever its name looks like.
    if not pattern.startswith("/"):
        start = [name for name in base.split("/") if name]
        if names[: len(start)] != start:
            return False
        names = names[len(start) :]
    return glob.matches_path(parts, names, hidden=hidden)


def _allows_url(pattern: str, text: str) -> bool:
    if pattern == "*":
        return _url(text) is not None
    wanted, given = _url(pattern), _url(text)
    if wanted is None or given is None:
        return False
    if (wanted.scheme, wanted.port) != (given.scheme, given.port) or _UP.search(given.path):
        return False
    if not _host_matches(wanted.hostname or "", given.hostname or ""):
        return False
    return glob.matches(glob.parse(_rest(wanted) or "/"), _rest(given) or "/")


def _host_matches(wanted: str, given: str) -> bool:
    """`*.example.org` stands for every host below example.org; there is no other wild card."""
    if wanted.startswith("*."):
        return given.endswith(wanted[1:]) and len(given) >= len(wanted)
    return wanted == given


def _url(text: str) -> SplitResult | None:
    """The parts of an http(s) URL without tricks; None for anything else."""
    if not text.isprintable() or not text.isascii() or " " in text:
        return None
    # A backslash is an escape in a pattern and a slash to browsers: neither has a place before the path.
    head = text.split("://", 1)[-1].split("/", 1)[0]
    if "\\" in head or "@" in head:
        return None
    try:
        parts = urlsplit(text)
        host = parts.hostname or ""
        is_sound = parts.scheme in {"http", "https"} and _HOST.fullmatch(host) is not None
        _ = parts.port  # raises for a port that is none
    except ValueError:
        return None
    return parts if is_sound else None


def _rest(parts: SplitResult) -> str:
    query = f"?{parts.query}" if parts.query else ""
    return parts.path + query


# --- deny and ask: broad ---------------------------------------------------------------------------


def _strikes(name: str, pattern: str, value: Any, place: Place) -> bool:
    return any(_strikes_text(name, pattern, text, place) for text in _texts(value))


def _texts(value: Any) -> Iterator[str]:
    """Every plain value in `value`, which is JSON and so has an end; nesting is walked without recursion."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
        elif (text := _plain(item)) is not None:
            yield text


def _strikes_text(name: str, pattern: str, text: str, place: Place) -> bool:
    if len(text) > VALUE_MAX:
        return True
    tokens = glob.parse(pattern)
    if glob.matches(tokens, text):
        return True
    if name in COMMAND_FIELDS:
        return any(
            glob.matches(tokens, spelling)
            for part in _SEPARATORS.split(text)
            for spelling in _spellings(part)
        )
    if name in PATH_FIELDS:
        return _strikes_path(pattern, text, place)
    if name in URL_FIELDS:
        return _allows_url(pattern, text.lower())
    return False


def _spellings(command: str) -> Iterator[str]:
    """A simple command as it stands, and in the ways that mean the same to a shell."""
    yield command.strip()
    words = command.translate(_UNQUOTED).split()
    while words and _ASSIGNMENT.match(words[0]):
        del words[0]
    starts = 1
    if words and posixpath.basename(words[0]) in _WRAPPERS:
        # How many words belong to the wrapper (options, their values) only it knows.
        starts = _WRAPPED_MAX
    for start in range(min(starts, len(words))):
        rest = words[start:]
        yield " ".join(rest)
        yield " ".join([posixpath.basename(rest[0]), *rest[1:]])


def _strikes_path(pattern: str, text: str, place: Place) -> bool:
    written = posixpath.normpath(posixpath.join(place.path, text)).lstrip("/")
    spellings = [("/" + written, place.path)]
    if place.resolve is not None:
        spellings.append((place.resolve("/" + written), place.resolve(place.path)))
    return any(
        _path_matches(pattern, [name for name in path.split("/") if name], base, hidden=True)
        for path, base in spellings
    )


# --- making rules ----------------------------------------------------------------------------------


def validate_policy(policy: Policy) -> None:
    """Refuse a rule that could not be read later: HiveError INVALID_PARAMS."""
    problems: list[tuple[str, str, str]] = []
    if policy.action not in ACTIONS:
        problems.append(("action", "is not known", ", ".join(ACTIONS)))
    if not _TOOL.fullmatch(policy.tool):
        problems.append(("tool", "is no tool", "a tool's name, with * and ? as wild cards"))
    if len(policy.match) > CONDITIONS_MAX:
        problems.append(("match", "has too many fields", f"at most {CONDITIONS_MAX}"))
    for name, pattern in policy.match.items():
        problems += _condition_problems(name, pattern)
    if problems:
        raise invalid(problems)


def _condition_problems(name: str, pattern: str) -> Iterator[tuple[str, str, str]]:
    where = f"match.{excerpt(name, 80)}"
    if not _FIELD.fullmatch(name):
        yield where, "is no input field", "a name such as command or file_path"
        return
    try:
        # A backslash may not hide the slash between two names.
        for part in pattern.split("/") if name in PATH_FIELDS else [pattern]:
            glob.parse(part)
    except ValueError as error:
        yield where, str(error), "a glob with * and ?"
        return
    if name in PATH_FIELDS and {".", ".."} & set(pattern.split("/")):
        yield where, "has . or .. in it", "a path such as src/** (below the project) or /srv/data/*"
    if name in URL_FIELDS and pattern != "*" and _url(pattern) is None:
        yield where, "is no URL", "* or a URL such as https://docs.python.org/*"


def remember(tool: str, input_: Mapping[str, Any], *, project: str | None = None) -> Policy:
    """The allow rule for calls like this one (its `id` is empty): this very command or file, every page
    of this host, every call of this MCP tool or of the web search, and else exactly this call.

    Raises HiveError INVALID_PARAMS for a question, and for a call no rule should let through for ever.
    """
    if tool in QUESTIONS:
        raise invalid([("remember", "cannot answer questions", "false for a question")])
    if any(input_.get(name) for name in RISKY_FIELDS):
        raise invalid([("remember", "would leave the sandbox for ever", "false for this call")])
    match = _telling_fields(input_)
    if not match and not tool.startswith("mcp__") and tool != "WebSearch":
        match = _every_field(input_)
    is_narrow = bool(match) or tool.startswith("mcp__") or tool == "WebSearch"
    policy = Policy(id="", action="allow", tool=glob.escape(tool), match=match, project=project)
    if not is_narrow or not covers(policy, tool, input_, Place(project or "", "/")):
        raise invalid([("remember", "cannot be made a rule", "false for this call")])
    validate_policy(policy)
    return policy


def _telling_fields(input_: Mapping[str, Any]) -> dict[str, str]:
    match: dict[str, str] = {}
    for name in sorted(COMMAND_FIELDS | PATH_FIELDS):
        if isinstance(value := input_.get(name), str):
            match[name] = glob.escape(value)
    for name in URL_FIELDS:
        value = input_.get(name)
        parts = _url(value) if isinstance(value, str) and "*" not in value else None
        if parts is not None:
            match[name] = f"{parts.scheme}://{parts.netloc}/*"
    return match


def _every_field(input_: Mapping[str, Any]) -> dict[str, str]:
    """All fields as they are; none when one of them cannot be put into words."""
    texts = {name: _plain(value) for name, value in input_.items()}
    plain = {name: glob.escape(text) for name, text in texts.items() if text is not None}
    return plain if len(plain) == len(texts) else {}
