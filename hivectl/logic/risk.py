"""How much harm a call could do, in one word and a reason: for people's eyes, to sort and to filter by.

It never decides. It reads the structured input of a tool and, of a shell command, each simple command by
its words; what hides behind a variable, an alias or a script is not seen, so what is not known is medium.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from hivectl.logic.policy import PATH_FIELDS, QUESTIONS, RISKY_FIELDS, VALUE_MAX, Place

Level = Literal["low", "medium", "high"]
LEVELS: tuple[Level, ...] = ("low", "medium", "high")


class Risk(msgspec.Struct, frozen=True):
    """A level and why, in words."""

    level: Level
    reason: str


# fmt: off
_READERS = frozenset(["Glob", "Grep", "LS", "NotebookRead", "Read"])
_WRITERS = frozenset(["Edit", "MultiEdit", "NotebookEdit", "Write"])
_NETWORK_TOOLS = frozenset(["WebFetch", "WebSearch"])
_HARMLESS = frozenset(["Agent", "BashOutput", "KillShell", "Skill", "Task", "TaskOutput", "TodoWrite"])

_LOOKING = frozenset([
    "[", "basename", "cat", "cd", "cmp", "cut", "date", "df", "diff", "dirname", "du", "echo", "expr", "false", "file", "find",
    "grep", "head", "hostname", "id", "jq", "ls", "nl", "printf", "pwd", "realpath", "rg", "sha256sum", "sleep", "sort",
    "stat", "tail", "test", "tr", "tree", "true", "type", "uname", "uniq", "wc", "which", "whoami",
])
_MAKING = frozenset(["cp", "ln", "mkdir", "mv", "rm", "rmdir", "tee", "touch", "truncate", "install", "unlink"])
_NETWORK = frozenset(["curl", "ftp", "nc", "ncat", "ping", "telnet", "wget"])
_REMOTE = frozenset(["rsync", "scp", "sftp", "ssh"])
_MACHINE = frozenset([
    "chattr", "crontab", "dd", "fdisk", "halt", "iptables", "kill", "killall", "launchctl", "mkfs", "mount", "passwd", "pkill",
    "poweroff", "reboot", "shutdown", "systemctl", "umount", "useradd", "userdel", "visudo",
])
_RIGHTS = frozenset(["chgrp", "chmod", "chown"])
_ROOT = frozenset(["doas", "pkexec", "su", "sudo"])
_SHELLS = frozenset(["bash", "dash", "eval", "fish", "ksh", "node", "perl", "python", "python3", "ruby", "sh", "source", "zsh", "."])
_WRAPPERS = frozenset(["!", "builtin", "command", "do", "else", "env", "exec", "if", "nice", "nohup", "setsid", "stdbuf", "then",
    "time", "timeout", "until", "while", "xargs"])
_INSTALLERS = {
    "apt": ["install"], "apt-get": ["install"], "brew": ["install"], "bun": ["add", "install"], "bundle": ["install"],
    "cargo": ["add", "install"], "conda": ["install"], "dnf": ["install"], "gem": ["install"], "go": ["get", "install"],
    "npm": ["ci", "i", "install"], "npx": [""], "pip": ["install"], "pip3": ["install"], "pipx": ["install", "run"],
    "pnpm": ["add", "install"], "poetry": ["add", "install"], "uv": ["add", "pip", "sync"], "uvx": [""], "yarn": ["add", "install"],
}
_OUTWARD = {
    "cargo": ["publish", "yank"], "docker": ["login", "push"], "flit": ["publish"], "gem": ["push"], "gh": ["api", "pr", "release", "repo"],
    "helm": ["install", "uninstall", "upgrade"], "hub": [""], "kubectl": ["apply", "delete", "exec", "patch", "scale"],
    "mvn": ["deploy"], "npm": ["publish", "unpublish"], "pnpm": ["publish"], "poetry": ["publish"], "terraform": ["apply", "destroy"],
    "tofu": ["apply", "destroy"], "twine": ["upload"], "uv": ["publish"], "yarn": ["publish"],
}
_GIT_LOOKS = frozenset(["blame", "branch", "describe", "diff", "grep", "log", "ls-files", "ls-tree", "rev-parse", "shortlog", "show", "status"])
_GIT_NETWORK = frozenset(["clone", "fetch", "ls-remote", "pull", "submodule"])
# fmt: on

_SECRETS = re.compile(
    r"(^|/)(\.ssh|\.gnupg|\.aws|\.azure|\.kube|\.docker|\.netrc|\.pgpass|\.npmrc|\.pypirc|\.git-credentials|\.env(\.[\w.-]+)?"
    r"|id_(rsa|dsa|ecdsa|ed25519)|shadow|credentials(\.json)?|secrets?(\.\w+)?|[^/]*\.(pem|key|p12|pfx|keystore))(/|$)"
)
_RUN_LATER = re.compile(
    r"(^|/)(\.git|\.claude|\.husky|\.vscode|\.github/workflows|\.mcp\.json|\.envrc)(/|$)"
)
_PARTS = re.compile(r"\|\||&&|[;&|\n\r(){}`]|\$\(")
_REDIRECT = re.compile(r"(?:\d|&)?>{1,2}\|?\s*([^\s;&|<>()]+)")
_UNQUOTED = str.maketrans("", "", "'\"\\")
_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\+?=")
_NUMBER = re.compile(r"\d+(\.\d+)?[smhd]?")
_INTO_SHELL = re.compile(r"\|\s*(?:sudo\s+)?(?:\S{0,200}/)?(?:ba|da|z|k)?sh\b")
_LOOKS = re.compile(r"(?:.*__)?(?:get|list|read|search|find|describe|query|show)(?:_|$|[A-Z])")
_WIDE = frozenset(["/", "~", "*", ".", "..", "$HOME", "/*", "~/*"])


def assess(tool: str, input_: Mapping[str, Any], *, place: Place) -> Risk:
    """The greatest risk that is seen in the call; of equal ones the first."""
    found = max(_all(tool, input_, place), key=lambda risk: LEVELS.index(risk.level), default=None)
    return found or Risk("medium", f"what {tool} does is not known")


def _all(tool: str, input_: Mapping[str, Any], place: Place) -> Iterator[Risk]:
    if any(input_.get(name) for name in RISKY_FIELDS):
        yield Risk("high", "it leaves Claude's sandbox")
    command = input_.get("command")
    if tool == "ExitPlanMode":
        yield Risk("medium", "it lets Claude carry out its plan")
    elif tool in QUESTIONS or tool in _HARMLESS:
        yield Risk("low", "it changes nothing by itself")
    elif tool in _NETWORK_TOOLS:
        yield Risk("medium", "it uses the network")
    elif tool in _READERS:
        yield from _reads(input_, place)
    elif tool in _WRITERS:
        yield from _writes(input_, place)
    elif tool.startswith("mcp__"):
        name = tool.rpartition("__")[2]
        looks = _LOOKS.match(name) is not None
        yield Risk(
            "medium" if looks else "high", "what this tool of an MCP server does is not known"
        )
    elif isinstance(command, str):
        yield from _command(command, place)


def _paths(input_: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(PATH_FIELDS):
        if isinstance(value := input_.get(name), str) and value:
            yield value


def _reads(input_: Mapping[str, Any], place: Place) -> Iterator[Risk]:
    yield Risk("low", "it only reads")
    for path in _paths(input_):
        if _SECRETS.search(path):
            yield Risk("high", f"{_short(path)} may hold secrets")
        elif not _is_inside(path, place):
            yield Risk("medium", f"it reads {_short(path)}, outside the project")


def _writes(input_: Mapping[str, Any], place: Place) -> Iterator[Risk]:
    yield Risk("low", "it changes a file of the project")
    for path in _paths(input_):
        if not _is_inside(path, place):
            yield Risk("high", f"it writes {_short(path)}, outside the project")
        elif _RUN_LATER.search(path):
            yield Risk("high", f"{_short(path)} changes what runs later by itself")
        elif _SECRETS.search(path):
            yield Risk("high", f"{_short(path)} may hold secrets")


def _is_inside(path: str, place: Place) -> bool:
    """Whether a path lies in the project, links followed."""
    if path.startswith(("~", "$")):
        return False
    whole, home = posixpath.normpath(posixpath.join(place.path, path)), place.path
    if place.resolve is not None:
        whole, home = place.resolve(whole), place.resolve(home)
    return whole == home or whole.startswith(home.rstrip("/") + "/")


def _command(text: str, place: Place) -> Iterator[Risk]:
    if len(text) > VALUE_MAX:
        yield Risk("high", "the command is too long to be looked at")
        return
    if _INTO_SHELL.search(text):
        yield Risk("high", "it runs what another command prints")
    for target in _REDIRECT.findall(text):
        yield from _target(target.translate(_UNQUOTED), place)
    for part in _PARTS.split(_REDIRECT.sub(" ", text)):
        words = _program(part.translate(_UNQUOTED).split())
        if words:
            yield from _simple(posixpath.basename(words[0]), words[1:], place)


def _program(words: list[str]) -> list[str]:
    """The words of the command itself: without assignments, `timeout 30`, `bash -c` and the like before it."""
    at = 0
    while at < len(words):
        if _ASSIGNMENT.match(words[at]):
            at += 1
        elif posixpath.basename(words[at]) in _SHELLS and "-c" in words[at + 1 : at + 4]:
            at = words.index("-c", at + 1) + 1
        elif words[at] in _WRAPPERS:
            at += 1
            while at < len(words) and (words[at].startswith("-") or _NUMBER.fullmatch(words[at])):
                at += 1
        else:
            break
    return words[at:]


def _target(path: str, place: Place) -> Iterator[Risk]:
    if (
        path.startswith("&")
        or path in {"/dev/null", "/dev/stdout", "/dev/stderr"}
        or path.isdigit()
    ):
        return
    if not _is_inside(path, place):
        yield Risk("high", f"it writes {_short(path)}, outside the project")
    else:
        yield Risk("medium", f"it writes {_short(path)}")


def _simple(name: str, args: list[str], place: Place) -> Iterator[Risk]:
    flags = "".join(arg.lstrip("-") for arg in args if re.fullmatch(r"-[A-Za-z]+", arg))
    plain = [arg for arg in args if not arg.startswith("-")]
    if any(_SECRETS.search(arg) for arg in args):
        yield Risk("high", f"{name} is given a file that may hold secrets")
    if name == "rm":
        yield _removes(flags, args, plain)
    elif name == "git":
        yield _git(plain[0] if plain else "", args, flags)
    else:
        yield _of_name(name, args, flags, plain[0] if plain else "")
    if name in _MAKING or (name == "sed" and "i" in flags):
        outside = next((arg for arg in plain if not _is_inside(arg, place)), None)
        if outside is not None:
            yield Risk("high", f"{name} acts on {_short(outside)}, outside the project")


def _of_name(name: str, args: list[str], flags: str, verb: str) -> Risk:
    whole = f"{name} {verb}".rstrip()
    is_deep = "R" in flags or "--recursive" in args
    changes = {"-delete", "-exec", "-execdir", "-ok", "-okdir"} & set(args)
    rows: tuple[tuple[bool, Level, str], ...] = (
        (name in _ROOT, "high", f"{name}: it acts as another user"),
        (name in _RIGHTS and is_deep, "high", f"{name} -R changes the rights of whole directories"),
        (
            name in _MACHINE or name.startswith("mkfs"),
            "high",
            f"{name} acts on the machine, not on the project",
        ),
        (name in _REMOTE, "high", f"{name} acts on another machine"),
        (
            _has(_OUTWARD, name, verb),
            "high",
            f"{whole}: others see it, and it is hard to take back",
        ),
        (name == "find" and bool(changes), "high", "find changes what it finds"),
        (name in _NETWORK or _has(_INSTALLERS, name, verb), "medium", f"{whole} uses the network"),
        (name in _SHELLS, "medium", f"{name} runs a program of its own"),
        (name in _MAKING, "medium", f"{name} changes files of the project"),
        (name in _LOOKING, "low", "it only looks"),
    )
    found = next((Risk(level, reason) for is_so, level, reason in rows if is_so), None)
    return found or Risk("medium", f"what {name[:40]} does is not known")


def _has(verbs: Mapping[str, list[str]], name: str, verb: str) -> bool:
    known = verbs.get(name, [])
    return verb in known or "" in known


def _removes(flags: str, args: list[str], plain: list[str]) -> Risk:
    if "r" in flags.lower() or "--recursive" in args:
        wide = next((arg for arg in plain if arg.rstrip("/") in _WIDE or arg == "/"), None)
        return Risk("high", f"rm deletes {wide or 'whole directories'}")
    return Risk("medium", "rm deletes files")


def _git(verb: str, args: list[str], flags: str) -> Risk:
    is_forced = "f" in flags or "--force" in args or "--hard" in args
    if verb == "push":
        return Risk(
            "high", "git push: others see it" + (", and it overwrites" if is_forced else "")
        )
    if verb in {"clean", "reset", "checkout", "restore", "stash", "rebase"} and (
        is_forced or verb in {"clean", "restore"}
    ):
        return Risk("high", f"git {verb} drops work that is not committed")
    if verb in {"config", "filter-branch", "update-ref", "gc", "reflog"}:
        return Risk("high", f"git {verb} changes the repository itself")
    if verb in _GIT_NETWORK:
        return Risk("medium", f"git {verb} uses the network")
    if verb in _GIT_LOOKS and not {"-D", "-d", "--delete", "-m", "-M"} & set(args):
        return Risk("low", "it only looks")
    return Risk("medium", f"git {verb} changes the repository".replace("  ", " "))


def _short(path: str) -> str:
    return path if len(path) <= 60 else f"…{path[-59:]}"
