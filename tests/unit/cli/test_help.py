import subprocess
import sys
from pathlib import Path

import pytest
import typer

from hivectl.cli.app import app
from hivectl.cli.main import hoist
from hivectl.cli.reference import render
from hivectl.model.errors import EXIT_MEANINGS, TABLE, ExitCode

ROOT = Path(__file__).parents[3]
HEAVY = (
    "pydantic", "rich", "websockets", "yaml", "asyncio", "tomlkit",
    "hivectl.config", "hivectl.client.aio", "hivectl.protocol.params",
)  # fmt: skip


def loaded_after(*argv):
    """Which heavy modules a command line loads."""
    code = (
        "import sys, os; from hivectl.cli.main import main;"
        "sys.stdout = sys.stderr = open(os.devnull, 'w');"
        f"main({list(argv)!r}); sys.stdout = sys.__stdout__;"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=30,
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    "argv", [("--help",), ("exec", "--help"), ("project", "--help"), ("--version",)]
)
def test_help_loads_none_of_the_heavy_modules(argv):
    # Typer itself loads pydantic to look at any option that is no flag, on the way to a sub-command's help.
    allowed = {"rich"} if argv == ("--version",) else {"pydantic"} if len(argv) > 1 else set()
    assert set(loaded_after(*argv)) <= allowed


def test_a_hot_command_loads_nothing_but_itself(daemon, script):
    code = (
        "import sys; from hivectl.cli.main import main; main(['ps']);"
        "bad = [n for n in ('typing', 're', 'json', 'typer', 'dataclasses', 'asyncio') if n in sys.modules];"
        "print(*bad, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}"],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    assert "x_1" in done.stdout
    assert done.stderr.split() == []


def commands(group, path=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_says_what_it_does(path):
    command = ALL[path]
    assert command.help
    for parameter in command.params:
        assert parameter.help, parameter.name


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_shows_its_help(hive, path):
    ran = hive(*path, "--help")
    assert ran.code == 0
    assert ran.out.startswith("Usage: hivectl")


def test_s20_no_command_takes_a_password_or_token():
    for path, command in ALL.items():
        for parameter in command.params:
            assert not {"token", "password", "secret"} & set(parameter.name.split("_")), path


def test_the_reference_page_is_the_one_that_is_written():
    assert (ROOT / "docs" / "cli.md").read_text() == render()


def test_the_reference_names_every_command_and_exit_code():
    page = render()
    for path in ALL:
        assert f"# hivectl {' '.join(path)}\n" in page
    for code in ExitCode:
        assert f"| {int(code)} | {EXIT_MEANINGS[code]} |" in page
    for name in TABLE:
        assert f"`{name}`" in page


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (["ps", "--json"], ["--json", "ps"]),
        (["tail", "-o", "json", "web"], ["-o", "json", "tail", "web"]),
        (["exec", "web", "--", "-v"], ["exec", "web", "--", "-v"]),
        (["ps", "--output=wide", "-v"], ["--output=wide", "-v", "ps"]),
        (["ps", "-o"], ["ps", "-o"]),
    ],
)
def test_global_options_are_brought_to_the_front(before, after):
    assert hoist(before) == after
