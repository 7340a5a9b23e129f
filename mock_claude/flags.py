"""The command line: the table of flags, reading it, and refusing what the real CLI refuses.

The texts of the refusals are the real ones. It must not touch anything but files named by flags.
"""

import json
import os
from typing import NamedTuple

from mock_claude import ids, machine
from mock_claude.machine import Json

SWITCH, VALUE, MANY, OPTIONAL = "switch", "value", "many", "optional"
OUTPUT_FORMATS = ("text", "json", "stream-json")
MODES = ("acceptEdits", "auto", "bypassPermissions", "manual", "dontAsk", "plan")
EFFORTS = ("low", "medium", "high", "xhigh", "max")


class UsageError(Exception):
    """The command line was refused; the text goes to stderr and the exit code is 1."""


class Flag(NamedTuple):
    """One accepted option: its names, what it takes, and how usage errors show it."""

    names: tuple[str, ...]
    takes: str = SWITCH
    shown: str = ""
    choices: tuple[str, ...] = ()
    number: str = ""


def _flag(names: str, takes: str = SWITCH, shown: str = "") -> Flag:
    return Flag(tuple(names.split()), takes, shown)


FLAGS = (
    _flag("--print -p"),
    Flag(("--output-format",), VALUE, "--output-format <format>", OUTPUT_FORMATS),
    Flag(("--input-format",), VALUE, "--input-format <format>", ("text", "stream-json")),
    _flag("--verbose"),
    _flag("--include-partial-messages"),
    _flag("--include-hook-events"),
    _flag("--replay-user-messages"),
    _flag("--forward-subagent-text"),
    _flag("--model", VALUE, "--model <model>"),
    _flag("--fallback-model", VALUE, "--fallback-model <model>"),
    Flag(("--effort",), VALUE, "--effort <level>", EFFORTS),
    _flag("--session-id", VALUE, "--session-id <uuid>"),
    _flag("--resume -r", OPTIONAL, "-r, --resume [value]"),
    _flag("--continue -c"),
    _flag("--fork-session"),
    _flag("--resume-session-at", VALUE, "--resume-session-at <message id>"),
    _flag("--no-session-persistence"),
    _flag("--name -n", VALUE, "-n, --name <name>"),
    Flag(("--permission-mode",), VALUE, "--permission-mode <mode>", MODES),
    _flag("--dangerously-skip-permissions"),
    _flag("--allow-dangerously-skip-permissions"),
    _flag("--permission-prompt-tool", VALUE, "--permission-prompt-tool <tool>"),
    Flag(("--permission-prompts",), VALUE, "--permission-prompts <who>", ("host", "none")),
    _flag("--allowedTools --allowed-tools", MANY, "--allowedTools, --allowed-tools <tools...>"),
    _flag(
        "--disallowedTools --disallowed-tools",
        MANY,
        "--disallowedTools, --disallowed-tools <tools...>",
    ),
    _flag("--tools", MANY, "--tools <tools...>"),
    _flag("--add-dir", MANY, "--add-dir <directories...>"),
    Flag(("--max-turns",), VALUE, "--max-turns <turns>", number="must be a number"),
    Flag(
        ("--max-budget-usd",),
        VALUE,
        "--max-budget-usd <amount>",
        number="must be a positive number greater than 0",
    ),
    _flag("--json-schema", VALUE, "--json-schema <schema>"),
    _flag("--system-prompt", VALUE, "--system-prompt <prompt>"),
    _flag("--system-prompt-file", VALUE, "--system-prompt-file <file>"),
    _flag("--append-system-prompt", VALUE, "--append-system-prompt <prompt>"),
    _flag("--append-system-prompt-file", VALUE, "--append-system-prompt-file <file>"),
    _flag("--mcp-config", MANY, "--mcp-config <configs...>"),
    _flag("--strict-mcp-config"),
    _flag("--mcp-debug"),
    _flag("--agents", VALUE, "--agents <json>"),
    _flag("--agent", VALUE, "--agent <agent>"),
    _flag("--settings", VALUE, "--settings <file-or-json>"),
    _flag("--setting-sources", VALUE, "--setting-sources <sources>"),
    _flag("--plugin-dir", VALUE, "--plugin-dir <path>"),
    _flag("--betas", MANY, "--betas <betas...>"),
    _flag("--bare"),
    _flag("--safe-mode"),
    _flag("--restricted"),
    _flag("--ide"),
    _flag("--disable-slash-commands"),
    _flag("--max-thinking-tokens", VALUE, "--max-thinking-tokens <tokens>"),
    _flag("--thinking", VALUE, "--thinking <mode>"),
    _flag("--thinking-display", VALUE, "--thinking-display <display>"),
    _flag("--task-budget", VALUE, "--task-budget <tokens>"),
    _flag("--session-mirror"),
    _flag("--debug -d", OPTIONAL, "-d, --debug [filter]"),
    _flag("--debug-file", VALUE, "--debug-file <path>"),
    _flag("--debug-to-stderr -d2e"),
    _flag("--version -v"),
    _flag("--help -h"),
    _flag("--mock-help"),
)
BY_NAME = {name: flag for flag in FLAGS for name in flag.names}


class Options:
    """What the command line said; values are keyed by the flag's first name without dashes."""

    def __init__(self) -> None:
        self.values: dict[str, list[str]] = {}
        self.words: list[str] = []

    def has(self, name: str) -> bool:
        """Whether the flag was given."""
        return name in self.values

    def value(self, name: str, default: str = "") -> str:
        """The last value of a flag."""
        given = self.values.get(name)
        return given[-1] if given else default

    def many(self, name: str) -> list[str]:
        """All values of a list flag, split at commas and blanks outside of parentheses."""
        return [item for text in self.values.get(name, []) for item in split_list(text)]

    @property
    def output_format(self) -> str:
        """`text`, `json` or `stream-json`."""
        return self.value("output-format", "text")

    @property
    def is_streaming_input(self) -> bool:
        """Whether stdin carries one JSON message per line."""
        return self.value("input-format", "text") == "stream-json"


def split_list(text: str) -> list[str]:
    """Split `Bash(git *),Edit Write` into its rules."""
    items, depth, start = [], 0, 0
    for index, char in enumerate(text + ","):
        depth += (char == "(") - (char == ")")
        if depth <= 0 and char in ", ":
            items.append(text[start:index])
            start = index + 1
    return [item for item in items if item]


def parse(argv: list[str]) -> Options:
    """Read the arguments after the program's name. Raises UsageError."""
    options = Options()
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            options.words += rest
            break
        if word.startswith("-") and word != "-":
            _take_flag(options, word, rest)
        else:
            options.words.append(word)
    return options


def _take_flag(options: Options, word: str, rest: list[str]) -> None:
    name, equals, attached = word.partition("=")
    flag = BY_NAME.get(name)
    if flag is None:
        raise UsageError(f"error: unknown option '{name}'")
    key = flag.names[0].lstrip("-")
    values = options.values.setdefault(key, [])
    if flag.takes == SWITCH:
        return
    if equals:
        values.append(attached)
    elif flag.takes == VALUE or (flag.takes == MANY and not values):
        if not rest or (flag.takes == MANY and rest[0].startswith("-")):
            raise UsageError(f"error: option '{flag.shown}' argument missing")
        values.append(rest.pop(0))
    elif flag.takes == OPTIONAL and rest and not rest[0].startswith("-"):
        values.append(rest.pop(0))
    if flag.takes == MANY and not equals:
        while rest and not rest[0].startswith("-"):
            values.append(rest.pop(0))
    _check_value(flag, values[-1] if values else "")


def _check_value(flag: Flag, value: str) -> None:
    refused = f"error: option '{flag.shown}' argument '{value}' is invalid."
    hidden = flag.names[0] == "--permission-mode" and value == "default"
    if flag.choices and value not in flag.choices and not hidden:
        raise UsageError(f"{refused} Allowed choices are {', '.join(flag.choices)}.")
    if flag.number:
        try:
            number = float(value)
        except ValueError:
            raise UsageError(f"{refused} {flag.number}") from None
        if "positive" in flag.number and not number > 0:
            raise UsageError(f"{refused} {flag.number}")


def check(options: Options) -> None:
    """Refuse combinations and values that cannot work, in the real CLI's order and words."""
    prints = options.has("print") or not os.isatty(1)
    if not options.is_streaming_input:
        if options.output_format == "stream-json" and prints and not options.has("verbose"):
            raise UsageError(
                "Error: When using --print, --output-format=stream-json requires --verbose"
            )
    elif options.output_format != "stream-json":
        raise UsageError("Error: --input-format=stream-json requires output-format=stream-json.")
    elif not options.has("verbose"):
        raise UsageError(
            "Error: When using --print, --output-format=stream-json requires --verbose"
        )
    if _skips_permissions(options) and os.getuid() == 0 and machine.env("IS_SANDBOX") != "1":
        raise UsageError(
            "--dangerously-skip-permissions cannot be used with root/sudo privileges "
            "for security reasons"
        )
    _check_session(options)
    mcp_servers(options)
    settings(options)


def _skips_permissions(options: Options) -> bool:
    return (
        options.has("dangerously-skip-permissions")
        or options.value("permission-mode") == "bypassPermissions"
    )


def _check_session(options: Options) -> None:
    session_id = options.value("session-id")
    if not session_id:
        return
    if not ids.is_uuid(session_id):
        raise UsageError("Error: Invalid session ID. Must be a valid UUID.")
    if (options.has("resume") or options.has("continue")) and not options.has("fork-session"):
        raise UsageError(
            "Error: --session-id with --continue or --resume also needs --fork-session."
        )


def mcp_servers(options: Options) -> Json:
    """The servers of every `--mcp-config`, which names a file or holds JSON."""
    servers: Json = {}
    for given in options.values.get("mcp-config", []):
        text = given
        if not given.lstrip().startswith("{"):
            try:
                with open(given, encoding="utf-8") as file:
                    text = file.read()
            except OSError:
                raise UsageError(
                    f"Error: Invalid MCP configuration:\nMCP config file not found: {given}"
                ) from None
        try:
            servers.update(json.loads(text)["mcpServers"])
        except (ValueError, TypeError, KeyError):
            raise UsageError(
                f"Error: Invalid MCP configuration:\nmcpServers: Invalid input: {given[:80]}"
            ) from None
    return servers


def settings(options: Options) -> Json:
    """The object of `--settings`, which names a file or holds JSON."""
    given = options.value("settings")
    if not given:
        return {}
    if given.lstrip().startswith("{"):
        try:
            loaded = json.loads(given)
        except ValueError:
            raise UsageError("Error: Invalid JSON provided to --settings") from None
    else:
        try:
            with open(given, encoding="utf-8") as file:
                loaded = json.load(file)
        except OSError:
            raise UsageError(f"Error: Settings file not found: {given}") from None
        except ValueError:
            raise UsageError(f"Error: Invalid JSON in settings file: {given}") from None
    return loaded if isinstance(loaded, dict) else {}
