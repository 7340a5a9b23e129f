"""Text that people, models and files give: the terminal's sanitiser, the configuration file, the rules."""

from __future__ import annotations

import tempfile
import time
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyte

from hivectl import config
from hivectl.cli.sanitize import one_line, reveal, sanitize
from hivectl.logic import glob, policy
from hivectl.model.errors import HiveError

_KEPT = frozenset("\n\t")
_LONG = 40
_SLOW_S = 2.0


def sanitiser(data: bytes) -> None:
    """A terminal obeys nothing of what is left; twice is once; a long text takes no more than its length."""
    text = _as_text(data)
    clean = sanitize(text)
    assert not any(_is_obeyed(letter) for letter in clean)
    assert sanitize(clean) == clean
    assert not _KEPT & set(one_line(text))
    shown = reveal(text)
    assert not any(_is_obeyed(letter) for letter in shown)
    assert len(shown) >= len(text)
    _check_screen(clean)
    begun = time.process_time()
    sanitize(text * _LONG)
    assert time.process_time() - begun < _SLOW_S


def _as_text(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _is_obeyed(letter: str) -> bool:
    return unicodedata.category(letter) in {"Cc", "Cs", "Zl", "Zp"} and letter not in _KEPT


class _Screen(pyte.Screen):
    """One that keeps what it would report to whoever asked."""

    said: str

    def write_process_input(self, data: str) -> None:
        self.said = data


def _check_screen(clean: str) -> None:
    screen = _Screen(80, 24)
    screen.said = ""
    before = _state(screen)
    pyte.Stream(screen).feed(clean.replace("\n", "\r\n"))
    assert _state(screen) == before
    assert screen.said == ""


def _state(screen: pyte.Screen) -> tuple[Any, ...]:
    looks = screen.cursor.attrs._replace(data=" ")
    return (set(screen.mode), screen.title, screen.icon_name, screen.charset, screen.margins, looks)


# --- the configuration file ------------------------------------------------------------------------


def settings(data: bytes) -> None:
    """Whatever stands in the file: every value is one that is allowed, and every fault says where it is."""
    with tempfile.NamedTemporaryFile(suffix=".toml") as file:
        file.write(data)
        file.flush()
        folder = str(Path(file.name).parent)
        _check_settings({"HIVECTL_HOME": folder, "HIVECTL_CONFIG": file.name, "HOME": folder})


def _check_settings(env: dict[str, str]) -> None:
    found = config.survey({}, env)
    for fault in found.faults:
        assert fault.code == "CONFIG_INVALID"
        str(fault).encode()
    for key, value in found.values.items():
        assert config.parse_value(key, value, "again") == value
    try:
        assert not config.load({}, env).faults
    except HiveError as exc:
        assert exc.code == "CONFIG_INVALID"  # noqa: PT017
        assert found.faults


# --- rules -----------------------------------------------------------------------------------------


_FIELDS = ("command", "file_path", "url", "pattern")
_PLACE = policy.Place("p_1", "/home/dev/web")
_SHELL = frozenset(";&|<>$`(){}\\#")


def rules(data: bytes) -> None:
    """Parts between zero bytes: the tool of the rule, its pattern, the tool that is called, its value."""
    if not data:
        return
    name, parts = _FIELDS[data[0] % 4], data[1:].split(b"\0")
    tool, pattern, called, value = (
        part.decode("utf-8", "replace") for part in (parts + [b""] * 4)[:4]
    )
    allow = policy.Policy(id="a", action="allow", tool=tool or "*", match={name: pattern})
    deny = policy.Policy(id="d", action="deny", tool=tool or "*", match={name: pattern})
    call = {name: value}
    is_valid = _is_valid(allow)
    allowed = policy.covers(allow, called, call, _PLACE)
    if is_valid and allowed:
        assert policy.covers(deny, called, call, _PLACE), "what a rule allows, its twin denies"
        _check_allowed(name, pattern, value)
    for first in (allow, deny):
        verdict = policy.decide([first], called, call, is_question=False, place=_PLACE)
        assert verdict.action in {first.action, "ask"}
    _check_remembered(called, call)


def _is_valid(rule: policy.Policy) -> bool:
    try:
        policy.validate_policy(rule)
    except HiveError as exc:
        assert exc.code == "INVALID_PARAMS"  # noqa: PT017
        return False
    return True


def _check_allowed(name: str, pattern: str, value: str) -> None:
    if name == "command":
        written = Counter(token for token in glob.parse(pattern) if isinstance(token, str))
        special = Counter(c for c in value if c in _SHELL or not c.isprintable())
        assert special <= written, "a wild card stood for what means something to a shell"
    elif name == "file_path":
        assert ".." not in value.split("/")
        assert value.isprintable() or not pattern.isprintable()
    elif name == "url" and pattern != "*":
        wanted, given = urlsplit(pattern), urlsplit(value)
        assert given.scheme.lower() == wanted.scheme.lower()
        host, glob_ = (given.hostname or ""), (wanted.hostname or "")
        is_below = glob_.startswith("*.") and host.endswith(glob_[1:])
        assert host.rstrip(".") == glob_.rstrip(".") or is_below, (host, glob_)


def _check_remembered(tool: str, call: dict[str, str]) -> None:
    try:
        rule = policy.remember(tool, call, project="p_1")
    except HiveError as exc:
        assert exc.code == "INVALID_PARAMS"  # noqa: PT017
        return
    assert policy.covers(rule, tool, call, policy.Place("p_1", "/"))
    if "command" in call:
        more = {"command": call["command"] + "; rm -rf /"}
        assert not policy.covers(rule, tool, more, policy.Place("p_1", "/"))
