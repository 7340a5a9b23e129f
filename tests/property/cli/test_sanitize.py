"""S42: whatever a model, tool, file or user wrote, a terminal obeys none of it."""

import time
import unicodedata

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hivectl.cli.sanitize import one_line, reveal, sanitize

_PIECES = st.sampled_from(
    [
        "\x1b[31m", "\x1b[2J", "\x1b]0;title\x07", "\x1b]8;;http://x\x1b\\", "\x1bPq\x1b\\", "\x1b_a\x1b\\",
        "\x1b^p\x1b\\", "\x1bXs\x1b\\", "\x9b1;2H", "\x9dtitle\x9c", "\x90dcs\x9c", "\x1bc", "\x1b(0", "\x1b#8",
        "\x1b[?1049h", "\x1b[", "\x1b]", "\x1b", "\x9b", "\x9d", "\x07", "\x08", "\x0b", "\x0e", "\x7f", "\r",
        "\r\n", "\n", "\t", "\u202e", "\u2066", "\u200b", "\u200f", "\ufeff", "\u2028", "\ud800", "\udfff",
        "\U000e0041", "\u061c", "0;evil", "[31m", "\\", "é", "日本", "👩‍💻",
    ]
)  # fmt: skip
_HOSTILE = st.lists(st.one_of(_PIECES, st.text(max_size=5), st.characters()), max_size=30).map(
    "".join
)

ALLOWED_CONTROLS = {"\n", "\t"}


def is_obeyed(char):
    kind = unicodedata.category(char)
    return kind in {"Cc", "Cs", "Zl", "Zp"} and char not in ALLOWED_CONTROLS


BIDI_AND_INVISIBLE = set(
    "\u061c\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069\ufeff"
)


@settings(max_examples=3000, deadline=None)
@given(_HOSTILE)
def test_s42_nothing_a_terminal_obeys_remains_and_twice_is_once(text):
    clean = sanitize(text)
    assert not any(is_obeyed(char) for char in clean)
    assert not BIDI_AND_INVISIBLE.intersection(clean)
    clean.encode("utf-8")
    assert sanitize(clean) == clean


@settings(max_examples=3000, deadline=None)
@given(_HOSTILE)
def test_s42_a_screen_keeps_its_title_modes_and_charsets(text):
    screen = pyte.Screen(80, 24)
    before = (set(screen.mode), screen.title, screen.icon_name, screen.charset, screen.margins)
    pyte.Stream(screen).feed(sanitize(text).replace("\n", "\r\n"))
    assert (
        set(screen.mode),
        screen.title,
        screen.icon_name,
        screen.charset,
        screen.margins,
    ) == before
    attributes = {
        (cell.fg, cell.bg, cell.bold) for row in screen.buffer.values() for cell in row.values()
    }
    assert attributes <= {("default", "default", False)}


@settings(max_examples=500, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cc", "Cf", "Cs", "Zl", "Zp"))))
def test_plain_text_is_left_alone(text):
    kept = sanitize(text)
    assert kept == text.replace("\u00ad", "")


@settings(max_examples=500, deadline=None)
@given(_HOSTILE)
def test_one_line_is_one_line(text):
    assert not {"\n", "\t"} & set(one_line(text))


@settings(max_examples=500, deadline=None)
@given(_HOSTILE)
def test_what_is_revealed_is_safe_and_hides_nothing(text):
    shown = reveal(text)
    assert not any(is_obeyed(char) for char in shown)
    assert len(shown) >= len(text)


@pytest.mark.parametrize(
    ("hostile", "clean"),
    [
        ("a\x1b[31mb\x1b[0mc", "abc"),
        ("a\x1b]0;owned\x07b", "ab"),
        ("a\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "alink"),
        ("a\x1bP1$r\x1b\\b", "ab"),
        ("a\x1b_apc\x1b\\b\x1b^pm\x1b\\c\x1bXsos\x1b\\d", "abcd"),
        ("a\x9b31mb\x9dtitle\x9cc", "abc"),
        ("50%\rdone", "50%\ndone"),
        ("one\r\ntwo", "one\ntwo"),
        ("a\u202egnp.exe", "agnp.exe"),
        ("zero\u200bwidth", "zerowidth"),
        ("lone\ud800surrogate", "lone\ufffdsurrogate"),
        ("tab\tand\nnewline", "tab\tand\nnewline"),
        ("never closed \x1b]0;title", "never closed 0;title"),
        ("[red]markup[/x] stays", "[red]markup[/x] stays"),
    ],
)
def test_each_kind_of_sequence_goes(hostile, clean):
    assert sanitize(hostile) == clean


def test_a_hidden_command_shows_when_it_is_asked_about():
    assert reveal("echo ok #\x1b]0;\nrm -rf ~\n\x07") == "echo ok #\\x1b]0;\nrm -rf ~\n\\x07"


@pytest.mark.parametrize(
    "hostile", ["\x1b]", "\x9d", "\x1b[", "\x1b[1;", "\x1b]0;x", "\u202e", "\r", "\x1b\x1b]"]
)
def test_it_takes_linear_time(hostile):
    def took(count):
        text = hostile * count
        started = time.perf_counter()
        sanitize(text)
        return time.perf_counter() - started

    small, large = min(took(20_000) for _ in range(3)), min(took(200_000) for _ in range(3))
    assert large < max(small, 0.002) * 40
