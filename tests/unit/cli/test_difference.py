"""What an edit would change, from files as hostile as they come."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hivectl.cli import difference as differences
from hivectl.cli.difference import Difference, difference


def diff(tool: str, directory: Path, **input_: Any) -> Difference:
    found = difference(tool, input_, str(directory))
    assert found is not None
    return found


def lines(found: Difference) -> list[str]:
    return [line for _, line in found.lines]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_text("one\ntwo\nthree\n")
    return path


def test_a_write_is_compared_with_the_file(file: Path) -> None:
    found = diff("Write", file.parent, file_path="a.txt", content="one\n2\nthree\n")
    assert lines(found)[1:] == [" one", "-two", "+2", " three"]
    assert [style for style, _ in found.lines][2:4] == ["bad", "good"]


def test_a_new_file_says_so(tmp_path: Path) -> None:
    found = diff("Write", tmp_path, file_path="new.txt", content="x\n")
    assert (lines(found)[1:], found.note) == (["+x"], "a new file")


def test_an_edit_shows_its_surroundings(file: Path) -> None:
    found = diff("Edit", file.parent, file_path=str(file), old_string="two", new_string="2")
    assert lines(found)[1:] == [" one", "-two", "+2", " three"]


def test_all_or_one_of_several(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("x\nx\n")
    change = {"file_path": "b", "old_string": "x", "new_string": "y"}
    assert lines(diff("Edit", tmp_path, **change))[1:].count("+y") == 1
    assert lines(diff("Edit", tmp_path, **change, replace_all=True))[1:].count("+y") == 2


def test_an_edit_that_does_not_fit_says_so(file: Path) -> None:
    found = diff("Edit", file.parent, file_path="a.txt", old_string="four", new_string="4")
    assert found.note == "the file has not the text to be replaced"
    assert lines(found)[1:] == ["-four", "+4"]


def test_several_edits_are_made_in_their_order(file: Path) -> None:
    edits = [{"old_string": "two", "new_string": "2"}, {"old_string": "2", "new_string": "II"}]
    assert "+II" in lines(diff("MultiEdit", file.parent, file_path="a.txt", edits=edits))


def test_a_cell_of_a_notebook(tmp_path: Path) -> None:
    cells = [{"id": "c1", "source": ["a\n", "b"]}, {"id": "c2", "source": "z"}]
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": cells}))
    change = {"notebook_path": "n.ipynb", "cell_id": "c1", "new_source": "a\nB"}
    assert lines(diff("NotebookEdit", tmp_path, **change))[1:] == [" a", "-b", "+B"]
    assert lines(diff("NotebookEdit", tmp_path, **change, edit_mode="delete"))[1:] == ["-a", "-b"]
    (tmp_path / "n.ipynb").write_text("[1")
    assert lines(diff("NotebookEdit", tmp_path, **change))[1:] == ["+a", "+B"]


def test_other_tools_have_none() -> None:
    assert difference("Bash", {"command": "ls"}, "/") is None
    assert difference("Write", {"content": "x"}, "/") is None


def test_a_file_elsewhere_is_not_looked_at(file: Path) -> None:
    found = difference(
        "Write", {"file_path": "a.txt", "content": "x"}, str(file.parent), is_here=False
    )
    assert found is not None
    assert found.note == "the file is on another machine"
    assert lines(found)[1:] == ["+x"]


def test_a_path_that_is_no_plain_file_neither_hangs_nor_fills_the_memory(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in ("pipe", "/dev/zero", ".", "a\0b"):
        found = diff("Write", tmp_path, file_path=path, content="x")
        assert found.note, path
        assert "+x" in lines(found)


def test_what_is_read_compared_and_shown_has_an_end(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * (differences.FILE_BYTES + 1))
    assert "more than" in diff("Write", tmp_path, file_path="big", content="x").note
    many = "\n".join(str(n) for n in range(differences.LINES_MAX * 2))
    found = diff("Write", tmp_path, file_path="new", content=many)
    assert "only the beginning" in found.note
    assert len(found.lines) == differences.SHOWN_MAX + 1
    assert "more lines" in lines(found)[-1]
    wide = diff("Write", tmp_path, file_path="new", content="x" * 100_000)
    assert max(map(len, lines(wide))) == differences.CHARS_MAX


def test_s42_controls_in_a_file_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    (tmp_path / "evil").write_bytes(b"\x1b[2Jold\n\xff\n")
    found = diff("Write", tmp_path, file_path="evil", content="\x1b]0;x\x07new\u202e\n")
    assert all(line.isprintable() for line in lines(found))
    assert "+\\x1b]0;x\\x07new\\u202e" in lines(found)
