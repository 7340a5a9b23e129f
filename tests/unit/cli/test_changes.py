"""A patch for people: styled by its lines, with nothing hidden and nothing a terminal would obey."""

import pytest

from hivectl.cli import changes


@pytest.mark.parametrize(
    ("line", "style"),
    [
        ("+new", "good"),
        ("-old", "bad"),
        ("+++ b/x", "bold"),
        ("--- a/x", "bold"),
        ("@@ -1 +1 @@", "tool"),
        ("diff --git a/x b/x", "bold"),
        (" same", ""),
    ],
)
def test_a_line_has_the_style_of_what_it_is(line, style):
    assert changes.style_of(line) == style


def test_controls_in_lines_and_names_are_shown_as_escapes():
    ((_, text), *_) = changes.pieces("+rm \x1b[8m-rf\x1b[0m /\r+ok")
    assert text == "+rm \\x1b[8m-rf\\x1b[0m /\\x0d+ok\n"
    file = {"path": "a\x1b]0;x\x07", "from": None, "status": "A", "added": 1, "deleted": 0}
    lines = changes.stat({"files": [file], "files_total": 1, "added": 1, "deleted": 0})
    assert lines[0] == "A  a\\x1b]0;x\\x07  +1 -0"


def test_renames_binary_files_and_what_is_left_out_are_told():
    renamed = {"path": "b", "from": "a", "status": "R", "added": None, "deleted": None}
    lines = changes.stat({"files": [renamed], "files_total": 3, "added": 0, "deleted": 0})
    assert lines == ["R  a => b  binary", "... and 2 more files", "3 files, +0 -0"]
