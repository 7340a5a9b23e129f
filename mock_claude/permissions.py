"""Who may call which tool: modes, rules, and what would be asked. Pure decisions, no questions."""

import os

from mock_claude.machine import Json

SAFE_COMMANDS = frozenset(
    [
        "echo",
        "ls",
        "pwd",
        "cat",
        "head",
        "tail",
        "wc",
        "true",
        "false",
        "grep",
        "printf",
        "date",
        "whoami",
    ]
)
FILE_COMMANDS = frozenset(["touch", "rm", "mkdir", "mv", "cp", "rmdir", "ln", "chmod", "sed"])
FILE_TOOLS = ("Write", "Edit", "NotebookEdit")
ASKING_MODES = ("default", "acceptEdits")
SHELL_MARKS = set(";&|<>$`\n(){}")

# What kind of call each mode allows without asking; bypassPermissions and auto allow all.
ALLOWED = {
    "default": {"safe"},
    "acceptEdits": {"safe", "edit", "files"},
    "plan": {"safe"},
    "dontAsk": {"safe"},
}


def kind_of(tool: str, tool_input: Json, cwd: str, directories: list[str]) -> str:
    """`safe`, `edit` (inside a working directory), `files` (Bash, the same) or `other`."""
    if tool == "Bash":
        return _kind_of_command(str(tool_input.get("command", "")))
    if tool in FILE_TOOLS:
        path = os.path.realpath(os.path.join(cwd, str(tool_input.get("file_path", ""))))
        roots = [os.path.realpath(root) for root in (cwd, *directories)]
        inside = any(path == root or path.startswith(root + "/") for root in roots)
        return "edit" if inside else "other"
    if tool.startswith("mcp__") or tool in ("WebFetch", "WebSearch"):
        return "other"
    return "safe"


def _kind_of_command(command: str) -> str:
    words = command.split()
    if not words or SHELL_MARKS & set(command):
        return "other"
    if words[0] in SAFE_COMMANDS:
        return "safe"
    leaves = any(word.startswith(("/", "~", "..")) for word in words[1:])
    return "files" if words[0] in FILE_COMMANDS and not leaves else "other"


def matches(rule: str, tool: str, tool_input: Json, cwd: str) -> bool:
    """Whether a rule such as `Bash(git *)`, `Edit` or `Read(//etc/**)` covers a call."""
    name, bracket, pattern = rule.partition("(")
    if name != tool and not (name.endswith("*") and tool.startswith(name[:-1])):
        return False
    pattern = pattern.removesuffix(")")
    if not bracket or pattern in ("*", ""):
        return True
    if tool == "Bash":
        command = str(tool_input.get("command", ""))
        for ending in (":*", " *", "*"):
            if pattern.endswith(ending):
                stem = pattern.removesuffix(ending)
                return command == stem or command.startswith(stem + (" " if ending != "*" else ""))
        return command == pattern
    target = os.path.normpath(os.path.join(cwd, str(tool_input.get("file_path", ""))))
    return matches_path(pattern, target, cwd)


def matches_path(pattern: str, target: str, cwd: str) -> bool:
    """Whether a path rule covers an absolute path, or a directory above it: `//abs`, `~/home`, relative.

    As in the real CLI `*` stays within one name, `**` does not, `[!a]` means those two letters, and
    case does not count.
    """
    if pattern.startswith("//"):
        pattern = pattern[1:]
    elif pattern.startswith("~"):
        pattern = os.path.expanduser(pattern)
    else:
        pattern = os.path.join(cwd, pattern.lstrip("/").removeprefix("./"))
    import re

    parts = re.findall(r"\\.|\[[^]]*\]|/\*\*(?=/)|\*\*|.", pattern.removesuffix("/**"))
    wanted = "".join(_as_regex(part) for part in parts)
    return re.match(f"{wanted}(/|$)", target, re.IGNORECASE) is not None


def _as_regex(part: str) -> str:
    import re

    wild = {"*": "[^/]*", "?": "[^/]", "**": ".*", "/**": "(/.*)?"}
    if part in wild:
        return wild[part]
    if len(part) > 1 and part[0] == "[":
        return f"[{part[1:-1].replace('^', chr(92) + '^')}]"
    return re.escape(part[1:] if len(part) > 1 else part)


def suggestions(tool: str, tool_input: Json, cwd: str) -> list[Json]:
    """What the CLI proposes to allow from now on."""
    accept_edits = {"type": "setMode", "mode": "acceptEdits", "destination": "session"}
    if tool in FILE_TOOLS:
        return [accept_edits]
    if tool != "Bash":
        rule = {"toolName": tool}
    else:
        command = str(tool_input.get("command", ""))
        is_simple = _kind_of_command(command) == "files"
        rule = {"toolName": "Bash", "ruleContent": f"{command} *" if is_simple else command}
    added = {
        "type": "addRules",
        "rules": [rule],
        "behavior": "allow",
        "destination": "localSettings",
    }
    if tool == "Bash" and _kind_of_command(str(tool_input.get("command", ""))) == "files":
        directories = {"type": "addDirectories", "directories": [cwd], "destination": "session"}
        return [added, directories, accept_edits]
    return [added]


def blocked_path(tool: str, tool_input: Json, cwd: str) -> str | None:
    """The file a simple shell command would change, which the request names."""
    words = str(tool_input.get("command", "")).split() if tool == "Bash" else []
    if len(words) > 1 and words[0] in FILE_COMMANDS:
        return os.path.normpath(os.path.join(cwd, words[-1]))
    return None


def refusal_text(tool: str, tool_input: Json) -> str:
    """What a call is told when nobody can be asked."""
    if tool in FILE_TOOLS:
        path = tool_input.get("file_path", "")
        return f"Claude requested permissions to write to {path}, but you haven't granted it yet."
    if tool == "Bash":
        return "This command requires approval"
    return f"Claude requested permissions to use {tool}, but you haven't granted it yet."


def normalise(tool: str, tool_input: Json, cwd: str) -> Json:
    """The input as a request and a denial show it: absolute paths."""
    if tool in FILE_TOOLS and isinstance(tool_input.get("file_path"), str):
        path = os.path.normpath(os.path.join(cwd, tool_input["file_path"]))
        return {**tool_input, "file_path": path}
    return dict(tool_input)


def decide(tool: str, kind: str, mode: str, rules: tuple[bool, bool]) -> tuple[str, str]:
    """`allow`, `deny` or `ask`, with the reason type; `rules` = (denied, allowed) by a rule."""
    denied, allowed = rules
    if denied:
        return "deny", "rule"
    if mode in ("bypassPermissions", "auto"):
        return "allow", "mode"
    if allowed:
        return "allow", "rule"
    if kind in ALLOWED.get(mode, set()):
        return "allow", "subcommandResults" if tool == "Bash" and kind == "safe" else "mode"
    return ("ask", "mode") if mode in ASKING_MODES else ("deny", "mode")
