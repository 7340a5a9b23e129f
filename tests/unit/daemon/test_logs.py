import asyncio
import errno
import io
import json
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hivectl import config
from hivectl.daemon import logs
from hivectl.kit import files
from hivectl.kit.clock import FakeClock

TOKEN = "hive_" + "a1B2" * 11


@pytest.fixture
def state(tmp_path: Path) -> Path:
    files.ensure_private_dir(tmp_path / "state")
    return tmp_path / "state"


@pytest.fixture
def settings(tmp_path: Path, state: Path) -> config.Settings:
    env = {"HIVECTL_HOME": str(tmp_path), "HOME": str(tmp_path), "HIVECTL_DAEMON_LOG_BYTES": "64K"}
    return config.load(env=env | {"HIVECTL_DAEMON_LOG_FILES": "2"})


@pytest.fixture
def log(settings: config.Settings) -> Iterator[logging.Logger]:
    logger = logging.getLogger("hivectl.test_logs")
    before = logging.raiseExceptions
    logs.configure(settings, terminal="none")
    yield logger
    logs.close()
    logging.captureWarnings(capture=False)
    logging.raiseExceptions = before


def lines(state: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (state / "daemon.log").read_text().splitlines()]


def test_line_carries_time_level_logger_message_and_extras(
    log: logging.Logger, state: Path
) -> None:
    log.info("execution ended", extra={"state": "completed", "execution": "x_1", "project": "p_1"})
    (line,) = lines(state)
    assert line.pop("ts").endswith("Z")
    assert list(line.items()) == [
        ("level", "info"),
        ("logger", "hivectl.test_logs"),
        ("msg", "execution ended"),
        ("project", "p_1"),
        ("execution", "x_1"),
        ("state", "completed"),
    ]


def test_s45_newline_and_escape_sequences_forge_no_line(log: logging.Logger, state: Path) -> None:
    nasty = 'web\n{"level":"info","msg":"forged"}\r\x1b[2J\x9b31m\u2028\u202e'
    log.warning("project %s", nasty, extra={"project": nasty})
    raw = (state / "daemon.log").read_bytes()
    assert raw.count(b"\n") == 1
    assert raw.isascii()
    assert all(byte >= 32 for byte in raw.rstrip(b"\n"))
    assert lines(state)[0]["project"] == nasty


def test_s45_secrets_never_reach_the_file(log: logging.Logger, state: Path) -> None:
    try:
        raise ValueError(f"token {TOKEN}")
    except ValueError:
        log.exception("with %s", TOKEN, extra={"api_key": "plainsecret", "more": {"a": [TOKEN]}})
    text = (state / "daemon.log").read_text()
    assert TOKEN not in text
    assert "plainsecret" not in text
    assert "ValueError" in lines(state)[0]["traceback"]


@pytest.mark.parametrize("name", sorted(logs.WITHHELD))
def test_s45_prompts_and_environments_are_only_counted(
    name: str, log: logging.Logger, state: Path
) -> None:
    log.error("odd", extra={name: "write a poem"})
    assert lines(state)[0][name] == "<withheld, size 12>"


def test_extra_cannot_replace_the_standard_fields(log: logging.Logger, state: Path) -> None:
    log.info("true", extra={"level": "x", "ts": "y", "logger": "z"})
    line = lines(state)[0]
    assert (line["level"], line["msg"], line["logger"]) == ("info", "true", "hivectl.test_logs")


def test_broken_format_arguments_do_not_raise(log: logging.Logger, state: Path) -> None:
    log.info("%d apples", "many")
    assert lines(state)[0]["msg"] == "%d apples"


def test_endless_line_is_shortened_and_says_so(log: logging.Logger, state: Path) -> None:
    log.info("x" * 1_000_000, extra={"execution": "x_1", "big": ["y" * 100_000]})
    line = lines(state)[0]
    assert len(json.dumps(line)) < 8192
    assert (line["shortened"], line["execution"]) == (True, "x_1")


def test_debug_is_silent_until_the_level_says_so(log: logging.Logger, state: Path) -> None:
    log.debug("a")
    logs.set_level("debug")
    log.debug("b")
    assert [line["msg"] for line in lines(state)] == ["b"]


def test_libraries_are_heard_from_warning_on(log: logging.Logger, state: Path) -> None:
    logging.getLogger("uvicorn.error").info("chatter")
    logging.getLogger("uvicorn.error").warning("trouble")
    assert [line["msg"] for line in lines(state)] == ["trouble"]


def test_log_rotates_by_size_and_keeps_so_many(log: logging.Logger, state: Path) -> None:
    for number in range(2000):
        log.info("line %d", number, extra={"filler": "z" * 200})
    names = sorted(path.name for path in state.iterdir())
    assert names == ["daemon.log", "daemon.log.1", "daemon.log.2"]
    newest_first = [state / name for name in names]
    assert all(path.stat().st_size <= 64 * 1024 for path in newest_first)
    numbers = [
        int(json.loads(line)["msg"].split()[1])
        for path in reversed(newest_first)
        for line in path.read_text().splitlines()
    ]
    assert numbers == list(range(numbers[0], 2000))


def test_s33_log_is_private_under_a_loose_umask(settings: config.Settings, state: Path) -> None:
    old = os.umask(0)
    try:
        logs.configure(settings, terminal="none")
    finally:
        os.umask(old)
        logs.close()
    assert stat.S_IMODE((state / "daemon.log").stat().st_mode) == 0o600


def test_s33_planted_link_is_not_followed(settings: config.Settings, state: Path) -> None:
    victim = state / "victim"
    victim.write_text("keep")
    (state / "daemon.log").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic links"):
        logs.configure(settings, terminal="none")
    assert victim.read_text() == "keep"


def test_full_disk_loses_lines_and_the_next_one_tells(state: Path) -> None:
    handler = logs.RotatingFile(state / "daemon.log", limit_bytes=10**6, keep=1)
    handler.setFormatter(logs.JsonFormatter())
    record = logging.makeLogRecord({"msg": "hello", "levelname": "INFO", "name": "t"})
    good = os.dup(handler._fd)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, handler._fd)
    handler.emit(record)
    handler.emit(record)
    assert handler.lost == 2
    os.dup2(good, handler._fd)
    os.close(good)
    os.close(full)
    handler.emit(record)
    handler.close()
    assert [line.get("lost", line["msg"]) for line in lines(state)] == [2, "hello"]


def test_human_lines_are_short_and_cannot_move_the_cursor(settings: config.Settings) -> None:
    shown = io.StringIO()
    logs.configure(settings, terminal="human", stream=shown)
    try:
        logging.getLogger("hivectl.engine").info("ended \x1b[2J\n", extra={"execution": "x_1"})
    finally:
        logs.close()
    assert shown.getvalue()[8:] == " INFO    engine  ended \\x1b[2J\\n  execution=x_1\n"


def test_vanished_terminal_disturbs_nobody(settings: config.Settings, state: Path) -> None:
    shown = io.StringIO()
    logs.configure(settings, terminal="json", stream=shown)
    shown.close()
    try:
        logging.getLogger("hivectl.x").info("still here")
    finally:
        logs.close()
    assert lines(state)[0]["msg"] == "still here"


@pytest.mark.parametrize(
    ("wanted", "is_tty", "is_pid_1", "picked"),
    [
        (None, True, False, "human"),
        (None, False, False, "none"),
        (None, False, True, "json"),
        (None, True, True, "human"),
        ("json", True, False, "json"),
        ("none", True, True, "none"),
    ],
)
def test_terminal_is_picked_by_wish_then_place(
    wanted: str | None, is_tty: bool, is_pid_1: bool, picked: str
) -> None:
    assert logs.pick_terminal(wanted=wanted, is_tty=is_tty, is_pid_1=is_pid_1) == picked


def test_connections_that_wait_for_descriptors_are_told_once_a_while(
    settings: config.Settings, state: Path
) -> None:
    clock = FakeClock()
    report = logs.LoopReport(clock)
    loop = asyncio.new_event_loop()
    full = {
        "message": "socket.accept() out of system resource",
        "exception": OSError(errno.EMFILE, "Too many open files"),
        "socket": object(),
    }
    logs.configure(settings, terminal="none", stream=io.StringIO())
    try:
        for _ in range(100):
            report(loop, full)
        clock.advance(11)
        report(loop, full)
        report(loop, {"message": "a task died", "exception": OSError(errno.EMFILE, "no socket")})
    finally:
        logs.close()
        loop.close()
    said = [(line["level"], line["msg"]) for line in lines(state)]
    waiting = ("warning", "connections wait: no descriptors or memory")
    assert said == [waiting, waiting, ("error", "unhandled in the loop")]
