"""Keys from bytes, and a terminal that is given back on every way out."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hivectl.cli.keys import PASTE_MAX, Decoder, Paste


def keys(*parts: bytes) -> list[str]:
    decoder = Decoder()
    found = [key for part in parts for key in decoder.feed(part)]
    return found + decoder.flush()


@pytest.mark.parametrize(
    ("data", "wanted"),
    [
        (b"yn", ["y", "n"]), (b"\x1b[A\x1b[B\x1bOA", ["up", "down", "up"]), (b"\r\n\x7f\x15", ["enter", "enter", "backspace", "clear"]),
        (b"\x1b", ["esc"]), (b"\x1by", ["esc", "y"]), ("ä€".encode(), ["ä", "€"]), (b"\x03", ["quit"]), (b"\x1b[5~", ["pageup"]),
        (b"\x1b[99;99Zy", ["y"]), (b"\x00\x01y", ["y"]), (b"\x1b[" + b"1" * 40 + b"y", ["1"] * 10 + ["y"]),
    ],
)  # fmt: skip
def test_bytes_are_keys(data: bytes, wanted: list[str]) -> None:
    assert keys(data) == wanted


def test_a_key_may_come_in_pieces() -> None:
    assert keys(b"\x1b", b"[", b"A", b"\xc3", b"\xa4") == ["up", "ä"]


def test_pasted_text_is_no_key_whatever_it_says() -> None:
    found = keys(b"\x1b[200~y\ry", b"es\x1b[20", b"1~n")
    assert found == ["y\ryes", "n"]
    assert isinstance(found[0], Paste)
    assert not isinstance(found[1], Paste)


def test_a_paste_without_an_end_takes_no_end_of_memory() -> None:
    decoder = Decoder()
    decoder.feed(b"\x1b[200~")
    for _ in range(50):
        assert decoder.feed(b"x" * 4096) == []
    (paste,) = decoder.feed(b"\x1b[201~")
    assert len(paste) == PASTE_MAX


@given(st.lists(st.binary(max_size=20), max_size=10))
def test_no_bytes_raise_and_cutting_them_changes_nothing(parts: list[bytes]) -> None:
    decoder = Decoder()
    whole = decoder.feed(b"".join(parts)) + decoder.flush()
    assert keys(*parts) == whole


PROGRAM = """
import asyncio, sys
from hivectl.cli.keys import Terminal
async def main(how):
    async with Terminal() as terminal:
        print("ready", flush=True)
        if how == "raise":
            raise RuntimeError("no")
        while (key := await terminal.read()) != "quit":
            print("key", key, flush=True)
asyncio.run(main(sys.argv[1]))
"""


def run(how: str, act: object) -> tuple[bytes, list[object], list[object], int]:
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, how], stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )  # fmt: skip
    seen, deadline = b"", time.monotonic() + 20
    try:
        while b"ready" not in seen and time.monotonic() < deadline:
            seen += os.read(master, 4096)
        assert callable(act)
        act(process, master)
        while process.poll() is None and time.monotonic() < deadline:
            if select.select([master], [], [], 0.05)[0]:
                with suppress(OSError):
                    seen += os.read(master, 4096)
        while select.select([master], [], [], 0)[0]:
            seen += os.read(master, 4096)
        return seen, before, termios.tcgetattr(slave), process.wait(5)
    finally:
        process.kill()
        process.wait()
        os.close(slave)
        os.close(master)


@pytest.mark.parametrize(
    ("how", "act"),
    [
        ("keys", lambda process, master: os.write(master, b"y\x03")),
        ("keys", lambda process, master: process.send_signal(signal.SIGTERM)),
        ("keys", lambda process, master: process.send_signal(signal.SIGHUP)),
        ("keys", lambda process, master: process.send_signal(signal.SIGINT)),
        ("raise", lambda process, master: None),
    ],
    ids=["ctrl-c", "sigterm", "sighup", "sigint", "exception"],
)
def test_the_terminal_is_as_before_however_it_ends(how: str, act: object) -> None:
    seen, before, after, code = run(how, act)
    assert after == before
    assert seen.rfind(b"\x1b[?1049l") > seen.rfind(b"\x1b[?1049h") >= 0
    assert seen.rfind(b"\x1b[?25h") > seen.rfind(b"\x1b[?25l") >= 0
    assert (code == 0) is (how == "keys")
