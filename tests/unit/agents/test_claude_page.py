"""The page about Claude Code names what Claude is really started with."""

import re
from pathlib import Path

import pytest
from msgspec.structs import replace

from hivectl.agents import claude_argv
from hivectl.agents.claude import MIN_VERSION
from hivectl.model.work import Options
from hivectl.ports import AgentInfo, RunSpec

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "claude-cli.md").read_text(encoding="utf-8")
SESSION = "11111111-2222-4333-8444-555555555555"
FULL = Options(
    model="sonnet",
    fallback_model="haiku",
    permission_mode="plan",
    allowed_tools=("Read",),
    disallowed_tools=("Bash",),
    append_system_prompt="a",
    system_prompt="b",
    max_turns=1,
    max_budget_usd=0.5,
    effort="low",
    json_schema={"type": "object"},
    add_dirs=("/srv",),
    partials=True,
)
SPEC = RunSpec(
    execution="x_1",
    prompt="p",
    prompt_uuid=SESSION,
    cwd=Path("/srv"),
    session=SESSION,
    resume=False,
    fork_from=None,
    options=FULL,
    trusted=False,
    slash_commands=False,
    ask_human=True,
    env={},
)


def used() -> set[str]:
    """Every flag hivectl can put into a command line."""
    specs = [SPEC, replace(SPEC, resume=True), replace(SPEC, fork_from=SESSION)]
    info = AgentInfo(path=Path("/bin/claude"), version="2.1.329", login="")
    lines = [claude_argv.build(spec, info).argv[1:] for spec in specs]
    return {word.partition("=")[0] for line in lines for word in line}


def described() -> set[str]:
    table = PAGE.split("| Flag | From | Why |")[1].split("\n\n")[0]
    heads = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return {word.partition("=")[0] for head in heads for word in re.findall(r"`([^`]+)`", head)}


def test_the_table_of_flags_is_what_claude_is_started_with() -> None:
    assert described() == used()


@pytest.mark.parametrize(
    "name", ["2.1.329", MIN_VERSION, "HIVECTL_LIVE_CLAUDE", "HIVECTL_LIVE_API"]
)
def test_the_page_names_versions_and_variables(name: str) -> None:
    assert name in PAGE
