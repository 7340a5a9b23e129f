"""S22, S23, S24, S25, S27: what reaches Claude's command line."""

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hivectl.agents import claude_argv, claude_frames
from hivectl.model.errors import HiveError
from hivectl.model.work import Options
from hivectl.ports import AgentInfo, RunSpec

INFO = AgentInfo(path=Path("/usr/bin/claude"), version="2.1.329")
SESSION = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"
SPEC = RunSpec(
    execution="x_1",
    prompt="hello",
    prompt_uuid="00000000-0000-4000-8000-000000000001",
    cwd=Path("/home/dev/project"),
    session=SESSION,
    resume=False,
    options=Options(),
    trusted=True,
    slash_commands=True,
    deny_read=("/home/dev/.ssh",),
    env={"PATH": "/usr/bin"},
)


def argv(**changes: object) -> tuple[str, ...]:
    return claude_argv.build(replace(SPEC, **changes), INFO).argv  # type: ignore[arg-type]


def with_options(**fields: object) -> tuple[str, ...]:
    return argv(options=Options(**fields))  # type: ignore[arg-type]


def test_the_smallest_command_line() -> None:
    assert argv() == (
        "/usr/bin/claude",
        "-p",
        "--output-format=stream-json",
        "--input-format=stream-json",
        "--verbose",
        "--permission-prompt-tool=stdio",
        f"--session-id={SESSION}",
        "--settings={run_dir}/settings.json",
    )


@pytest.mark.parametrize(
    ("fields", "flag"),
    [
        ({"model": "sonnet"}, "--model=sonnet"),
        ({"model": "claude-opus-5-5[1m]"}, "--model=claude-opus-5-5[1m]"),
        ({"fallback_model": "sonnet,haiku"}, "--fallback-model=sonnet,haiku"),
        ({"permission_mode": "plan"}, "--permission-mode=plan"),
        ({"allowed_tools": ("Bash(git *)", "Edit")}, "--allowedTools=Bash(git *),Edit"),
        ({"disallowed_tools": ("mcp__x__*",)}, "--disallowedTools=mcp__x__*"),
        ({"max_turns": 3}, "--max-turns=3"),
        ({"effort": "high"}, "--effort=high"),
        ({"json_schema": {"type": "object"}}, '--json-schema={"type":"object"}'),
        ({"add_dirs": ("/srv/data", "/srv/more")}, "--add-dir=/srv/more"),
        ({"partials": True}, "--include-partial-messages"),
    ],
)
def test_every_option_is_one_element(fields: dict[str, object], flag: str) -> None:
    assert flag in with_options(**fields)


def test_s22_free_text_goes_into_private_files() -> None:
    options = Options(append_system_prompt="--settings={} ä", system_prompt="Be brief.")
    launch = claude_argv.build(replace(SPEC, options=options), INFO)
    assert "--append-system-prompt-file={run_dir}/append-system-prompt.txt" in launch.argv
    assert "--system-prompt-file={run_dir}/system-prompt.txt" in launch.argv
    assert launch.files["append-system-prompt.txt"] == "--settings={} ä".encode()
    assert launch.files["system-prompt.txt"] == b"Be brief."
    assert not any("Be brief" in part for part in launch.argv)


def test_s22_no_element_is_a_bare_value() -> None:
    everything = Options(
        model="opus", fallback_model="haiku", permission_mode="auto", allowed_tools=("Read",),
        disallowed_tools=("Bash",), append_system_prompt="a", system_prompt="b", max_turns=1,
        effort="low", json_schema={"a": 1}, add_dirs=("/a", "/b"), partials=True,
    )  # fmt: skip
    launch = claude_argv.build(
        replace(SPEC, options=everything, trusted=False, slash_commands=False, fork_from=OTHER),
        INFO,
    )
    assert all(part.startswith("--") or part == "-p" for part in launch.argv[1:])
    assert len(set(launch.argv)) == len(launch.argv)


@given(st.text(st.characters(codec=None)))
def test_s22_argv_and_environment_do_not_depend_on_the_prompt(prompt: str) -> None:
    assert claude_argv.build(replace(SPEC, prompt=prompt), INFO) == claude_argv.build(SPEC, INFO)


@pytest.mark.parametrize(
    "prompt",
    ["--version", '--settings={"hooks":{}}', "-x", "a\0b", "/config model=x", "p" * 5_000_000],
)
def test_s22_the_prompt_is_in_no_argument_variable_or_file(prompt: str) -> None:
    launch = claude_argv.build(replace(SPEC, prompt=prompt), INFO)
    places = (*launch.argv, *launch.env.values(), *map(repr, launch.files.values()))
    assert not any(prompt in place for place in places)


def test_a_session_is_begun_resumed_or_forked_with_an_id_of_ours() -> None:
    assert f"--session-id={SESSION}" in argv()
    resumed = argv(resume=True)
    assert f"--resume={SESSION}" in resumed
    assert not any(part.startswith("--session-id") for part in resumed)
    forked = argv(fork_from=OTHER)
    assert {f"--resume={OTHER}", "--fork-session", f"--session-id={SESSION}"} <= set(forked)


@pytest.mark.parametrize("field", ["session", "fork_from"])
@pytest.mark.parametrize(
    "wrong", ["", "latest", f"{SESSION} --x", SESSION.replace("1", "G", 1), SESSION + "\n"]
)
def test_what_is_no_uuid_never_becomes_a_session(field: str, wrong: str) -> None:
    with pytest.raises(HiveError) as caught:
        argv(**{field: wrong})
    assert caught.value.code == "INVALID_PARAMS"
    assert caught.value.details["errors"][0]["field"] == field


def test_s23_slash_commands_are_off_unless_allowed() -> None:
    assert "--disable-slash-commands" in argv(slash_commands=False)
    assert "--disable-slash-commands" not in argv(slash_commands=True)


def test_s24_the_settings_file_denies_reading_secrets() -> None:
    paths = claude_argv.secret_paths(Path("/home/dev"), Path("/home/dev/.local/state/hivectl"))
    launch = claude_argv.build(replace(SPEC, deny_read=paths), INFO)
    deny = json.loads(launch.files["settings.json"])["permissions"]["deny"]
    for path in (
        "/home/dev/.local/state/hivectl", "/home/dev/.ssh", "/home/dev/.aws", "/home/dev/.claude.*",
        "/home/dev/.config/gh", "/**/.env*",
    ):  # fmt: skip
        for tool in ("Read", "Edit"):
            assert f"{tool}(/{path})" in deny
            assert f"{tool}(/{path}/**)" in deny


def _as_regex(pattern: str) -> str:
    """As Claude reads a pattern: within one name, classes without negation, any case."""
    marks = {"*": "[^/]*", "?": "[^/]"}
    parts = re.findall(r"\[[^]]*\]|.", pattern)
    return "".join(
        marks.get(part) or (part if part[0] == "[" else re.escape(part)) for part in parts
    )


@pytest.mark.parametrize("home", ["/home/dev/.claude", "/srv/claude"])
def test_s24_of_claudes_own_directory_only_long_outputs_can_be_read(home: str) -> None:
    paths = claude_argv.secret_paths(Path("/home/dev"), claude_home=Path("/srv/claude"))
    deny = json.loads(claude_argv.settings_bytes(paths))["permissions"]["deny"]
    assert f"Edit(/{home}/**)" in deny
    closed = [
        re.compile(_as_regex(rule[6:-1].removesuffix("/**")), re.IGNORECASE)
        for rule in deny
        if rule.startswith(f"Read(/{home}")
    ]

    def is_closed(path: str) -> bool:
        place = Path(home, path)
        return any(rule.fullmatch(str(p)) for p in (place, *place.parents) for rule in closed)

    for name in (
        ".credentials.json", "settings.json", "settings.local.json", "history.jsonl", "backups/x",
        "plans/p.md", "Projects2/x", "projects2/x", "p", "_new", "projects/-a/s.jsonl",
        "projects/-a/memory/m.md", "projects/-a/s/subagents/x", "projects/-a/s/tool-results2/x",
        "projects/-a/s/tool_results/x",
    ):  # fmt: skip
        assert is_closed(name), name
    assert not is_closed("projects/-a-b/0f0d/tool-results/b1.txt")


def test_s24_a_bracket_in_a_denied_path_cannot_end_the_rule() -> None:
    rules = json.loads(claude_argv.settings_bytes(("/srv/a) b[1]",)))["permissions"]["deny"]
    assert rules[0] == "Read(//srv/a\\) b\\[1\\])"


def test_s25_an_untrusted_project_brings_nothing_of_its_own() -> None:
    assert set(claude_argv.UNTRUSTED) <= set(argv(trusted=False))
    assert not set(claude_argv.UNTRUSTED) & set(argv(trusted=True))


def test_s27_no_option_bypasses_permissions() -> None:
    with pytest.raises(HiveError, match="permission_mode"):
        with_options(permission_mode="bypassPermissions")


def test_the_child_is_marked_and_kept_from_background_work() -> None:
    launch = claude_argv.build(SPEC, INFO)
    assert launch.env == {
        "PATH": "/usr/bin",
        "DISABLE_AUTOUPDATER": "1",
        "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
        "HIVECTL_EXECUTION": "x_1",
    }
    assert (launch.mark, launch.cwd) == ("x_1", SPEC.cwd)
    assert launch.interrupt_frame == claude_frames.interrupt()[1]


def test_an_interpreter_comes_before_the_flags() -> None:
    launch = claude_argv.build(SPEC, INFO, prefix=("-m", "mock_claude"))
    assert launch.argv[:4] == ("/usr/bin/claude", "-m", "mock_claude", "-p")
