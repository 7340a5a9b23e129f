"""Rules about the code itself that no linter knows."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hivectl import config
from hivectl.kit import failpoint
from hivectl.model.errors import TABLE
from hivectl.model.event import EVENTS
from tests.arch import source
from tests.arch.source import at, calls, nodes

ALL = source.python_files("hivectl", "mock_claude", "tests", "examples", "docs", "benchmarks")
SHIPPED = source.python_files(*source.SHIPPED)
HIVECTL = source.python_files("hivectl")

SHELL_CALLS = re.compile(
    r"(^|\.)(os\.system|os\.popen|subprocess\.getoutput|subprocess\.getstatusoutput"
    r"|create_subprocess_shell|subprocess_shell)$"
)
SHELLS = {"sh", "bash", "zsh", "dash", "/bin/sh", "/bin/bash"}


def test_s21_no_shell_anywhere() -> None:
    found = []
    for path in ALL:
        for called, node in calls(path):
            by_keyword = any(
                keyword.arg == "shell"
                and not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
                for keyword in node.keywords
            )
            if by_keyword or SHELL_CALLS.search(called):
                found.append(at(path, node))
    assert found == []


def test_s21_no_argument_list_of_hivectl_starts_a_shell() -> None:
    found = []
    for path in HIVECTL:
        for node in nodes(path):
            if isinstance(node, ast.List | ast.Tuple) and len(node.elts) >= 2:
                words = [e.value if isinstance(e, ast.Constant) else None for e in node.elts[:2]]
                if words[0] in SHELLS and words[1] in {"-c", "-lc", "-ec"}:
                    found.append(at(path, node))
    assert found == []


def test_no_mocks() -> None:
    found = []
    for path in ALL:
        for node in nodes(path):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            if any(name.split(".")[0] in {"unittest", "mock"} for name in names):
                found.append(at(path, node))
    assert found == []


ASKS_THE_SYSTEM = {"hivectl/kit/system.py", "hivectl/procs/shim.py"}
"""Where it is chosen once; the shim stands alone."""


def test_what_differs_between_systems_is_asked_in_two_places_only() -> None:
    found = {
        source.name(path)
        for path in SHIPPED
        if re.search(r"sys\.platform|platform\.system\(|os\.uname\(", path.read_text("utf-8"))
    }
    assert found <= ASKS_THE_SYSTEM


UNDONE = re.compile(r"raise NotImplementedEr{2}or|\bTO[D]O\b|\bFIX[M]E\b|\bXX[X]\b")


def test_nothing_is_left_undone() -> None:
    found = [source.name(path) for path in SHIPPED if UNDONE.search(path.read_text("utf-8"))]
    assert found == []


def test_every_module_says_what_it_is_for() -> None:
    silent = [source.name(path) for path in SHIPPED if not ast.get_docstring(source.tree(path))]
    assert silent == []


def test_rooms_load_nothing_by_themselves() -> None:
    lazy = {source.ROOT / "hivectl/__init__.py", source.ROOT / "hivectl/client/__init__.py"}
    rooms = [path for path in HIVECTL if path.name == "__init__.py" and path not in lazy]
    assert [source.name(path) for path in rooms if len(source.tree(path).body) != 1] == []


def imported_by_tests() -> Iterator[str]:
    for path in source.python_files("tests"):
        for node in nodes(path):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            if isinstance(node, ast.ImportFrom) and node.module:
                yield node.module
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_room_has_tests_of_its_own() -> None:
    tested = {".".join(name.split(".")[:2]) for name in imported_by_tests()}
    folders = {path.parent.name for path in source.python_files("tests")}
    rooms = {
        path.relative_to(source.ROOT).parts[1] for path in HIVECTL if path.parent.name != "hivectl"
    }
    missing = [
        room for room in sorted(rooms) if f"hivectl.{room}" not in tested and room not in folders
    ]
    assert missing == []


def constants_given_to(path: Path, last_names: set[str]) -> Iterator[tuple[str, str, ast.Call]]:
    """(function, first argument, call) where that argument is a literal string."""
    for called, node in calls(path):
        if called.rpartition(".")[2] in last_names and node.args:
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                yield called, first.value, node


def test_raised_codes_are_in_the_table() -> None:
    found = [
        f"{at(path, node)} {code}"
        for path in SHIPPED
        for _, code, node in constants_given_to(path, {"HiveError"})
        if code not in TABLE
    ]
    assert found == []


READERS = {"seconds", "seconds_or_none", "number", "text", "flag", "strings"}


def test_settings_that_are_read_exist() -> None:
    found = [
        f"{at(path, node)} {key}"
        for path in HIVECTL
        for called, key, node in constants_given_to(path, READERS)
        if "settings" in called and key not in config.BY_KEY
    ]
    assert found == []


def test_every_setting_is_read_somewhere() -> None:
    assert [key for key in config.BY_KEY if source.strings("hivectl")[key] < 2] == []


def test_every_event_is_made_somewhere() -> None:
    assert [event for event in EVENTS if source.strings("hivectl")[event] < 2] == []


def test_failpoints_that_are_passed_are_the_published_ones() -> None:
    known = {*failpoint.NAMES, *failpoint.SHIM_NAMES}
    found = [
        f"{at(path, node)} {name}"
        for path in HIVECTL
        for called, name, node in constants_given_to(path, {"hit"})
        if "failpoint" in called and name not in known
    ]
    assert found == []


def test_every_published_failpoint_is_passed_somewhere() -> None:
    known = [*failpoint.NAMES, *failpoint.SHIM_NAMES]
    assert [name for name in known if source.strings("hivectl")[name] < 2] == []


def tracked_text_files() -> list[Path]:
    try:
        listed = subprocess.run(
            ["git", "-C", str(source.ROOT), "ls-files", "-z"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    return [path for name in listed if name and (path := source.ROOT / name).is_file()]


PRIVATE = re.compile(
    r"/wo[r]k/(?:main|shared)|/tmp/bri[e]f|\b(?:SPEC|DECISIONS|DESIGN|STYLE|CONTRACT|BENCHMARKS)\.md\b"
    r"|\b(?:extra-)?index-[u]rl\b"
)


def test_no_file_speaks_of_the_place_where_it_was_written() -> None:
    is_telling = len(source.ROOT.parts) > 2
    here = re.compile(re.escape(str(source.ROOT)) + r"\b") if is_telling else PRIVATE
    found = []
    for path in tracked_text_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for pattern in (PRIVATE, here):
            found += [f"{source.name(path)}: {match[0]}" for match in pattern.finditer(text)]
    assert found == []
