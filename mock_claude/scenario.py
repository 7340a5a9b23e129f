"""Directives: what a prompt or a scenario file tells the mock to do. The one table of them all.

A directive is a JSON object after `mock:` anywhere in a prompt, or `mock: @name` for a file.
It must not know how anything is played.
"""

import json
import os
from typing import NamedTuple

from mock_claude import machine
from mock_claude.machine import Json

MARK = "mock:"


class ScenarioError(Exception):
    """A directive or scenario file that cannot be understood; the process exits with 1."""


class Directive(NamedTuple):
    """One key of a directive: its name, the values it takes, what it does."""

    name: str
    takes: str
    does: str


DIRECTIVES = (
    Directive("text", "string", "the answer; with `events` the last of the texts"),
    Directive("events", "number", "exactly so many assistant text events (0: an empty answer)"),
    Directive("delay_ms", "number", "wait before each text, thought and tool call"),
    Directive("stamp", "true", "each text ends with the monotonic time it was written at"),
    Directive("bytes", "number", "size of each text in bytes"),
    Directive("think", "true, string", "a thinking block before the answer"),
    Directive(
        "partial",
        "true, number",
        "stream in so many pieces (true: 4) and send `stream_event`s even without "
        "`--include-partial-messages`",
    ),
    Directive(
        "tool",
        'name, {"name","input"}, list',
        "call tools; Bash, Write, Edit and Read really act; a list is called in one message",
    ),
    Directive("turns", "number", "so many API round trips: all but the last call `Bash echo`"),
    Directive(
        "permission",
        "true, name, call",
        "a call that asks the host under the usual rules (true: Write mock-permission.txt)",
    ),
    Directive("ask", "true, list of questions", "AskUserQuestion"),
    Directive(
        "ask_human",
        'true, question, {"question","choices","multi","context"}',
        "a call of the tool `ask_human` of whichever MCP server offers it",
    ),
    Directive("plan", "true, string", "ExitPlanMode with this plan"),
    Directive("background", "true, command", "a Bash command with run_in_background"),
    Directive(
        "subagent",
        'true, {"background","tool","text"}',
        "an Agent call, in the foreground unless `background` is true",
    ),
    Directive("structured", "any JSON", "what is given to StructuredOutput under --json-schema"),
    Directive("memory", "true", "the answer lists the earlier prompts of the session"),
    Directive(
        "env",
        "true, list of names",
        "the answer is JSON: argv, cwd, the names of all environment variables, values of the "
        "named ones",
    ),
    Directive("argv", "true", "the answer is JSON: argv and cwd"),
    Directive("system", "true", "the answer is JSON: model and system prompts in effect"),
    Directive(
        "error",
        'kind, {"kind","message","retries","recovers"}',
        "an API error: 400, 401, 403, 404, 413, 429, 500, 529, no_credentials, connection, "
        "timeout, credit, prompt_too_long, refusal",
    ),
    Directive("retries", "number", "api_retry events before an error is final"),
    Directive("retry_delay_ms", "number", "wait of each retry (default: as the real CLI)"),
    Directive("limit", 'true, "warning", "allowed", window', "a usage limit of a subscription"),
    Directive("resets_in_s", "number", "when the limit resets (default 3600)"),
    Directive(
        "hang",
        'true, "start", "init", "stream", "end", seconds',
        "stop: before anything, after init (true), in the middle of a text, before the result; "
        "a number waits so long after init",
    ),
    Directive("hang_after_result", "true, seconds", "stay alive after the result, deaf to stdin"),
    Directive(
        "ignore_signals",
        'true, "all", list',
        "ignore SIGINT, SIGTERM, SIGHUP; a list may also name `interrupt` and `eof`; `all` is both",
    ),
    Directive(
        "spawn",
        'name, {"name","seconds","hold"}, list',
        "start a process tree that is hard to kill (see below); `hold` keeps our stdout open",
    ),
    Directive(
        "garbage",
        'true, name, {"kinds","bytes"}, list',
        "lines that are no events: text, json, utf8, nul, blank, unknown, half, deep, giant, "
        "giant_text, truncated (true: all but the last three)",
    ),
    Directive("stderr", "string, number of bytes", "write to stderr"),
    Directive("exit_code", "number", "exit with this code whatever the result"),
    Directive("crash", "true, signal name", "kill itself by this signal (true: SIGSEGV)"),
    Directive(
        "times",
        "number",
        "error, limit, hang and crash of the step only the first so many times this prompt is sent in its session",
    ),
    Directive("model", "string", "the model of this turn"),
    Directive("cost_usd", "number", "what the first API call of the turn costs"),
    Directive("heartbeat_s", "number", "seconds between tool_progress events (30)"),
    Directive("title", "string", "give the session a title"),
    Directive("seed", "number", "same seed, same ids and texts (also MOCK_CLAUDE_SEED)"),
    Directive("about", "string", "a remark; ignored"),
    Directive("steps", "list of directives", "play these one after the other in one turn"),
)
NAMES = {directive.name for directive in DIRECTIVES}


def check(directive: object, where: str) -> Json:
    """The directive, if every key is known. Raises ScenarioError."""
    if not isinstance(directive, dict):
        raise ScenarioError(f"{where}: expected a JSON object")
    for key, value in directive.items():
        if key not in NAMES:
            raise ScenarioError(f"{where}: unknown directive '{key}'; see mock_claude --mock-help")
        if key == "steps":
            for step in value:
                check(step, where)
    return directive


def extract(prompt: str) -> tuple[str, list[Json]]:
    """Split a prompt into what a person wrote and the directives in it. Raises ScenarioError."""
    visible, directives, position = "", [], 0
    while (mark := prompt.find(MARK, position)) >= 0:
        start = mark + len(MARK)
        rest = prompt[start:].lstrip(" \t")
        at = len(prompt) - len(rest)
        if rest.startswith("{"):
            directive, length = _decode(rest)
        elif rest.startswith("@"):
            name = rest[1:].split(maxsplit=1)[0] if len(rest) > 1 else ""
            directive, length = {"steps": load(name, turn=0)}, len(name) + 1
        else:
            visible += prompt[position:start]
            position = start
            continue
        directives.append(directive)
        visible += prompt[position:mark]
        position = at + length
    return (visible + prompt[position:]).strip(), directives


def _decode(text: str) -> tuple[Json, int]:
    try:
        directive, length = json.JSONDecoder().raw_decode(text)
    except ValueError as error:
        raise ScenarioError(f"directive is not JSON: {error}") from None
    return check(directive, "directive"), length


def folders() -> list[str]:
    """Where `mock: @name` looks, in order."""
    here = os.path.dirname(os.path.abspath(__file__))
    own = os.path.join(os.path.dirname(here), "examples", "scenarios")
    given = machine.env("MOCK_CLAUDE_SCENARIOS")
    return [*([given] if given else []), os.path.join(here, "scenarios"), own]


def load(name: str, *, turn: int) -> list[Json]:
    """The directives of a scenario file, by short name or path, for the given turn of the run.

    A file holds one directive, or a list with one per turn, the last of which repeats.
    """
    paths = [name, *(os.path.join(folder, f"{name}.json") for folder in folders())]
    path = next((path for path in paths if os.path.isfile(path)), None)
    if path is None:
        raise ScenarioError(f"no scenario '{name}' in {', '.join(folders())}")
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError) as error:
        raise ScenarioError(f"{path}: {error}") from None
    if isinstance(content, list):
        content = content[min(turn, len(content) - 1)] if content else {}
    return [check(content, path)]


def flatten(directives: list[Json]) -> list[Json]:
    """Directives as single steps: `steps` are unfolded, after the keys they stand beside."""
    steps: list[Json] = []
    for directive in directives:
        inner = directive.get("steps")
        outer = {key: value for key, value in directive.items() if key not in ("steps", "about")}
        if outer or inner is None:
            steps.append(outer)
        steps += flatten(inner) if inner else []
    return steps


def setting(steps: list[Json], key: str) -> object:
    """The first value of a key that holds for a whole turn, or None."""
    return next((step[key] for step in steps if key in step), None)
