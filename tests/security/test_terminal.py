"""Nothing that a model, a tool or a user wrote is obeyed by the terminal: row S42, with the real command."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import suppress

import pyte
import pytest

from tests.harness.daemon import Daemon
from tests.harness.waiting import eventually

HOSTILE = (
    "\x1b]0;OWNED\x07\x1b[2J\x1bPq\x1b\\\x9b31m\u202eevil\u2066\x08\r\x1b]8;;http://evil\x07link"
)
NEVER = (
    "\x1b]0",
    "\x1bP",
    "\x9b",
    "\u202e",
    "\u2066",
    "\x08",
    "http://evil\x07",
    "\x1b]8;;http://evil",
)
"""A live screen may erase and ring by itself; nothing of this is its own."""
FORBIDDEN = (
    "\x1b]0", "\x1b[2J", "\x1bP", "\x9b", "\u202e", "\u2066", "\x07", "\x08", "\x1b]8;;http://evil",
)  # fmt: skip


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Daemon, str, str]]:
    """A daemon that holds hostile text wherever text can be: a done run, and one that waits."""
    daemon = Daemon(tmp_path_factory.mktemp("t")).start()
    daemon.project()
    daemon.project("asks")
    daemon.project("more")
    done = daemon.execute(
        {
            "stderr": HOSTILE + "\n",
            "think": HOSTILE,
            "tool": {"name": "Bash", "input": {"command": f"echo '{HOSTILE}'"}},
            "text": HOSTILE,
        },
        options={"allowed_tools": ["Bash"]},
    )
    daemon.wait(done)
    daemon.run(f"{HOSTILE} say it")
    tool = {"name": "Bash", "input": {"command": f"rm x # {HOSTILE}", "description": HOSTILE}}
    waiting = daemon.execute({"permission": tool}, "asks")
    daemon.wait_approval(waiting)
    daemon.call("policy.add", action="deny", tool="Bash", match={"command": HOSTILE}, note=HOSTILE)
    yield daemon, done, waiting
    daemon.close()


def on_terminal(daemon: Daemon, *words: str) -> str:
    """What the command writes to a terminal."""
    ours, theirs = pty.openpty()
    env = {**daemon.env, "TERM": "xterm-256color", "HIVECTL_AUTOSTART": "0"}
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "hivectl", *words],
        env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs,
    ) as process:  # fmt: skip
        os.close(theirs)
        data = b""
        with suppress(OSError):
            while part := os.read(ours, 65536):
                data += part
        os.close(ours)
        process.wait(30)
    return data.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize(
    "words",
    [
        "tail web -n 1000", "tail asks -n 1000", "tail web -n 1000 --all", "logs {done}", "show {done}",
        "show {waiting}", "ps -a", "ps -a -o wide", "inbox", "inbox -o wide", "policy list", "session list",
        "project list -o wide", "project show web", "wait {done}", "attach {done}", "daemon logs",
    ],
)  # fmt: skip
def test_s42_no_command_lets_hostile_text_through_to_a_terminal(
    stage: tuple[Daemon, str, str], words: str
) -> None:
    daemon, done, waiting = stage
    shown = on_terminal(daemon, *words.format(done=done, waiting=waiting).split())
    assert shown.strip()
    assert [sign for sign in FORBIDDEN if sign in shown] == []


@pytest.mark.parametrize(
    "words",
    [
        ("project", "show", HOSTILE), ("show", HOSTILE), ("approve", HOSTILE), ("policy", "remove", HOSTILE),
        ("exec", "-p", HOSTILE, "hi"), ("project", "create", f"/tmp/{HOSTILE}"), (HOSTILE,), ("kill", HOSTILE),
        ("exec", "-p", "web", "--model", HOSTILE, "hi"),
    ],
)  # fmt: skip
def test_s42_nor_does_an_error_that_repeats_it(
    stage: tuple[Daemon, str, str], words: tuple[str, ...]
) -> None:
    shown = on_terminal(stage[0], *words)
    assert shown.strip()
    assert [sign for sign in FORBIDDEN if sign in shown] == []


def live(
    daemon: Daemon, words: str, keys: str, *, sign: str = "more", happens: Callable[[], str] | None = None, ends: int = 0,
    columns: int = 100,
) -> tuple[str, list[str]]:  # fmt: skip
    """What a live command writes while keys are pressed up to the one that ends it, and all that stood on the screen.

    Once `sign` stands there `happens` may do more, and say what is to be seen of that before the keys are pressed."""
    screen = pyte.Screen(columns, 30)
    stream = pyte.ByteStream(screen)
    pid, master = pty.fork()
    if pid == 0:
        env = {**daemon.env, "TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "30"}
        termios.tcsetwinsize(0, (30, columns))
        os.chdir("/")
        os.execvpe(sys.executable, [sys.executable, "-P", "-m", "hivectl", *words.split()], env)
    written = bytearray()
    shown: set[str] = set()
    ended = status = 0

    def read() -> bool:
        """Whether more came, or it has ended."""
        if not select.select([master], [], [], 0.1)[0]:
            return False
        data = b""
        with suppress(OSError):
            data = os.read(master, 65536)
        written.extend(data)
        stream.feed(data)
        shown.update(line.rstrip() for line in screen.display)
        return True

    def is_shown(text: str) -> bool:
        return read() and any(text in line for line in screen.display)

    def has_ended() -> bool:
        nonlocal ended, status
        read()
        ended, status = os.waitpid(pid, os.WNOHANG)
        return bool(ended)

    try:
        eventually(lambda: is_shown(sign), what=f"{sign!r} on the screen")
        if happens is not None:
            last = happens()
            eventually(lambda: is_shown(last), what=f"{last!r} on the screen")
        for key in keys:
            os.write(master, key.encode())
            eventually(read, what=f"it is drawn anew after {key!r}")
        eventually(has_ended, what=f"its end on {screen.display}")
    finally:
        if not ended:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        os.close(master)
    assert os.waitstatus_to_exitcode(status) == ends
    assert (screen.title, screen.icon_name) == ("", "")
    return written.decode("utf-8", "surrogateescape"), sorted(shown)


@pytest.mark.parametrize(("words", "keys"), [("inbox", "jk\r\x03"), ("inbox", "?j\x03")])
def test_s42_nor_does_a_live_screen_while_hostile_events_come(
    stage: tuple[Daemon, str, str], words: str, keys: str
) -> None:
    daemon, _, _ = stage
    choice = {"label": HOSTILE, "description": HOSTILE}
    ask = {
        "question": HOSTILE,
        "header": HOSTILE,
        "multiSelect": False,
        "options": [choice, choice],
    }
    asking = daemon.execute({"about": HOSTILE, "ask": [ask]}, "more")
    try:
        daemon.wait_approval(asking)
        written, shown = live(daemon, words, keys)
    finally:
        daemon.call("kill", execution=asking)
    assert any("evil" in line for line in shown), "it was shown, without what it would do"
    assert [sign for sign in NEVER if sign in written] == []


CLIPBOARD = "\x1b]52;c;T1dORUQ=\x07\x1b]52;c;T1dORUQ=\x1b\\\x9d52;c;T1dORUQ=\x9c"
MOVES = "\x1b[1;1HATHOME\x1b[5A\x1b[99D\x1b[s\x1b[u\x1b7\x1b8\x1b[r\x1bM\x1bc\x1b[?1049h\x1b[?1003h\x1b[6n\x1b[20t\x9b2J\x8dX"
EVIL = f"{HOSTILE}{CLIPBOARD}{MOVES}"
OBEYED = (
    "\x1b]52", "\x9d", "\x1b[1;1HATHOME", "\x1b[99D", "\x1b[?1003h", "\x1b[6n", "\x1b[20t", "\x1bc", "\x8d", "\x1bM",
)  # fmt: skip


def evil_run() -> dict[str, object]:
    tool = {"name": "Bash", "input": {"command": f"echo '{EVIL}'", "description": EVIL}}
    return {"about": EVIL, "stderr": EVIL + "\n", "think": EVIL, "tool": tool, "text": EVIL}


def test_s42_a_live_tail_obeys_nothing_that_comes(stage: tuple[Daemon, str, str]) -> None:
    daemon, _, _ = stage
    daemon.project("tailed")

    def happens() -> str:
        allowed = {"allowed_tools": ["Bash"]}
        daemon.run(evil_run(), "tailed", options=allowed)
        daemon.run("theend", "tailed")
        return "theend"

    first = daemon.run("firstofall", "tailed")
    assert first["state"] == "completed"
    words = "tail tailed -f -n 50"
    written, shown = live(daemon, words, "\x03", sign="firstofall", happens=happens, ends=130)
    assert any("evil" in line for line in shown), "it was shown, without what it would do"
    assert any("ATHOME" in line for line in shown)
    assert not any(line.startswith("ATHOME") for line in shown)
    assert [sign for sign in (*NEVER, *OBEYED) if sign in written] == []


def test_s42_a_live_top_obeys_nothing_that_comes(stage: tuple[Daemon, str, str]) -> None:
    daemon, _, _ = stage
    daemon.project("looked-at")
    started: list[str] = []

    def happens() -> str:
        asks = {**evil_run(), "permission": {"name": "Bash", "input": {"command": EVIL}}}
        started.append(daemon.execute(asks, "looked-at"))
        daemon.wait_approval(started[0])
        return "looked-at"

    try:
        written, shown = live(daemon, "top", "jjkq", sign="asks", happens=happens, columns=220)
    finally:
        for execution in started:
            daemon.call("kill", execution=execution)
    assert any("evil" in line for line in shown), "it was shown, without what it would do"
    assert not any(line.startswith("ATHOME") for line in shown)
    assert [sign for sign in (*NEVER, *OBEYED) if sign in written] == []
