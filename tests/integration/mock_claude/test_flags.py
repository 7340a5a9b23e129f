"""The command line, and the manual made from the mock's own tables."""

from pathlib import Path

import pytest

from mock_claude import VERSION, flags, manual, scenario

DOCS = Path(__file__).resolve().parents[3] / "docs" / "mock-claude.md"


@pytest.mark.parametrize("flag", ["--version", "-v"])
def test_version_is_the_real_one(desk, flag):
    assert desk.run(flag)[:2] == (0, f"{VERSION} (Claude Code)\n")


def test_values_come_after_a_blank_or_an_equals_sign():
    for words in (["--model", "opus"], ["--model=opus"]):
        assert flags.parse(words).value("model") == "opus"


def test_every_flag_is_accepted_by_each_of_its_names():
    samples = {flags.SWITCH: [], flags.OPTIONAL: [], flags.VALUE: ["1"], flags.MANY: ["a", "b"]}
    for name, flag in flags.BY_NAME.items():
        value = [flag.choices[0]] if flag.choices else samples[flag.takes]
        assert flags.parse([name, *value]).has(flag.names[0].lstrip("-"))


def test_a_prompt_after_a_list_is_swallowed_unless_dashes_part_them():
    assert flags.parse(["--allowedTools", "Bash", "prompt"]).words == []
    assert flags.parse(["--allowedTools", "Bash", "--", "-prompt"]).words == ["-prompt"]


def test_lists_are_split_outside_of_parentheses():
    options = flags.parse(["--allowedTools", "Bash(git *),Edit Write", "Read"])
    assert options.many("allowedTools") == ["Bash(git *)", "Edit", "Write", "Read"]


@pytest.mark.parametrize("word", ["--bogus", "--bogus=1", "-z"])
def test_unknown_options_are_refused(word):
    with pytest.raises(flags.UsageError, match="unknown option"):
        flags.parse([word])


@pytest.mark.parametrize("amount", ["0", "-1", "x"])
def test_a_budget_must_be_a_positive_number(desk, amount):
    code, stdout, stderr = desk.run("-p", "Hello", "--max-budget-usd", amount)
    assert (code, stdout) == (1, "")
    assert "--max-budget-usd" in stderr


def test_stream_input_needs_stream_output(desk):
    code, _stdout, stderr = desk.run("-p", "--input-format", "stream-json")
    text = "Error: --input-format=stream-json requires output-format=stream-json.\n"
    assert (code, stderr) == (1, text)


def test_a_prompt_comes_from_the_argument_and_from_stdin(desk):
    running = desk.start("-p", "the argument")
    running.process.stdin.write(b"the input")
    running.close()
    running.finish()
    assert b'"the argument the input"' in running.lines[0]


@pytest.mark.parametrize("size", [200_000, 11 * 1024 * 1024])
def test_piped_text_has_a_limit(desk, size):
    running = desk.start("-p")
    try:
        running.process.stdin.write(b"x " * (size // 2))
        running.close()
    except BrokenPipeError:
        assert size > 1_000_000
    assert running.process.wait(15) == int(size > 10_000_000)


def test_the_manual_names_every_directive(desk):
    code, stdout, _stderr = desk.run("--mock-help")
    assert code == 0
    for directive in scenario.DIRECTIVES:
        assert f"  {directive.name} " in stdout


def test_the_page_holds_the_tables_of_the_code():
    page = DOCS.read_text()
    assert page.count("<!-- end -->") == 5
    assert manual.refresh(page) == page, "run python -m mock_claude.manual docs/mock-claude.md"


def test_every_packaged_scenario_is_on_the_page():
    page = DOCS.read_text()
    names = [path.stem for path in (DOCS.parents[1] / "examples" / "scenarios").glob("*.json")]
    assert [name for name in names if f"`{name}`" not in page] == []
