"""The manual of the mock's own features, built from the tables that drive them.

`python -m mock_claude.manual PAGE` renews the tables in a Markdown page.
"""

import sys

from mock_claude import failures, noise, scenario, trees

INTRO = """\
mock_claude behaves as Claude Code's headless command line does. What the pretended model does is
written in the prompt, anywhere in it, as one JSON object after `mock:`

    mock_claude -p 'Try this mock: {"events": 5, "delay_ms": 200}' </dev/null

or in a file, by name or path: `mock: @tool-and-question`. Without a directive it answers politely.
"""
VARIABLES = (
    ("MOCK_CLAUDE_SCENARIO", "scenario (name or path) for prompts without a directive"),
    ("MOCK_CLAUDE_SCENARIOS", "a folder where `mock: @name` looks first for name.json"),
    ("MOCK_CLAUDE_SEED", "a number: all ids repeat from run to run"),
    ("MOCK_CLAUDE_RECORD", "a file that gets one JSON line per start: argv, cwd, env names, input"),
)


def directive_table() -> str:
    """All directives as a Markdown table."""
    rows = [f"| `{d.name}` | {_cell(d.takes)} | {_cell(d.does)} |" for d in scenario.DIRECTIVES]
    return "\n".join(["| Key | Value | What happens |", "|---|---|---|", *rows])


def tree_table() -> str:
    """All process trees as a Markdown table."""
    rows = [f"| `{name}` | {_cell(tree.__doc__ or '')} |" for name, tree in trees.TREES.items()]
    return "\n".join(["| Name | Processes |", "|---|---|", *rows])


def variable_table() -> str:
    """The environment variables as a Markdown table."""
    rows = [f"| `{name}` | {_cell(does)} |" for name, does in VARIABLES]
    return "\n".join(["| Variable | Effect |", "|---|---|", *rows])


def refresh(page: str) -> str:
    """The page with the text between `<!-- name -->` and `<!-- end -->` made anew."""
    tables = {
        "directives": directive_table(),
        "trees": tree_table(),
        "variables": variable_table(),
        "errors": ", ".join(f"`{name}`" for name in failures.FAILURES),
        "garbage": ", ".join(f"`{name}`" for name in noise.LINES),
    }
    for name, table in tables.items():
        head, mark, rest = page.partition(f"<!-- {name} -->")
        _old, end, tail = rest.partition("<!-- end -->")
        if mark and end:
            page = f"{head}{mark}\n{table}\n{end}{tail}"
    return page


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def text() -> str:
    """What `mock_claude --mock-help` prints."""
    width = max(len(directive.name) for directive in scenario.DIRECTIVES)
    lines = [INTRO, "Keys of a directive:"]
    for directive in scenario.DIRECTIVES:
        does = directive.does.replace("`", "")
        lines.append(f"  {directive.name:{width}}  {directive.takes}: {does}")
    lines += ["", "Process trees for `spawn` (each ends by itself within two minutes):"]
    lines += [f"  {name:{width}}  {tree.__doc__}" for name, tree in trees.TREES.items()]
    lines += ["", f"Kinds of `error`: {', '.join(failures.FAILURES)}"]
    lines += [f"Kinds of `garbage`: {', '.join(noise.LINES)}"]
    lines += ["", "Environment:"]
    lines += [f"  {name:22} {does.replace('`', '')}" for name, does in VARIABLES]
    lines += ["", f"Scenario files are looked for in: {', '.join(scenario.folders())}", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    with open(sys.argv[1], encoding="utf-8") as old:
        renewed = refresh(old.read())
    with open(sys.argv[1], "w", encoding="utf-8") as new:
        new.write(renewed)
