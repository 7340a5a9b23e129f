"""One table of options feeds the quick reader and Typer."""

import pytest
import typer

from hivectl.cli import grammar
from hivectl.cli.app import app


def options_of(name):
    """Spellings and help of a command's options as Typer has them."""
    command = typer.main.get_command(app).commands[name]
    return {
        frozenset(param.opts): (param.help, param.metavar)
        for param in command.params
        if param.param_type_name == "option"
    }


@pytest.mark.parametrize("name", sorted(grammar.HOT))
def test_typer_has_every_option_of_the_table_with_its_words(name):
    known = options_of(name)
    for option in grammar.HOT[name].values():
        text, metavar = known[frozenset(option.spellings)]
        assert text == option.help
        assert option.metavar is None or metavar == option.metavar


def test_the_options_of_every_command_stand_in_the_table_too():
    known = {frozenset(param.opts): param.help for param in typer.main.get_command(app).params}
    for option in grammar.EVERYWHERE.values():
        assert known[frozenset(option.spellings)] == option.help


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["web", "-a"], ({"everything": "-a"}, ["web"])),
        (["-o", "name", "web"], ({"output": "name"}, ["web"])),
        (["--output", "json"], ({"output": "json"}, [])),
        (["-a", "--all"], None), (["--nothing"], None), (["-o"], None), (["-o", "--json"], None), ([""], None),
        (["-oname"], None), (["--output=name"], None), (["--"], None), (["w\udc80"], None),
    ],
)  # fmt: skip
def test_what_is_plain(words, found):
    assert grammar.split("ps", words) == found
