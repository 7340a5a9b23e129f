"""Row 12: giant lines, bytes that are no text, no newline at the end; kept raw, in bounded memory."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness import history
from tests.harness.daemon import Daemon
from tests.harness.soak import Report, full

Make = Callable[..., Daemon]
MIB = 1024 * 1024


def _peak(daemon: Daemon) -> int:
    """The most memory the daemon ever had, in bytes."""
    assert daemon.process is not None
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


def _parts(daemon: Daemon, event: dict[str, Any]) -> Iterator[bytes]:
    """A message's bytes, part by part."""
    offset: int | None = 0
    while offset is not None:
        part = daemon.call(
            "message.get", stream=event["stream"], seq=event["seq"], offset=offset, limit=MIB
        )
        yield base64.b64decode(part["data_b64"])
        offset = part["next_offset"]


def _big_lines(daemon: Daemon, execution: str) -> list[list[dict[str, Any]]]:
    """The events that make up each giant line: one, or pieces of a line above the limit."""
    told = history.read(daemon, project="web").check()
    lines: list[list[dict[str, Any]]] = [[]]
    for event in told.of(execution):
        if event["type"] == "message" and "blob" in event["data"]:
            lines[-1].append(event)
            if event["data"].get("subtype") != "oversized":
                lines.append([])
    return [line for line in lines if line]


def _giant(daemon: Daemon, size: int) -> float:
    """By how many MiB memory grew."""
    baseline = daemon.run("first")
    before = _peak(daemon)
    ended = daemon.run(
        {"garbage": {"kinds": ["giant_text", "giant"], "bytes": size}, "text": "done"}
    )
    assert (ended["state"], ended["result"]) == ("completed", "done")
    grown = _peak(daemon) - before
    assert grown < 64 * MIB + min(size, 64 * MIB)
    lines = _big_lines(daemon, ended["execution"])
    assert len(lines) == 2
    frame = (b'{"type":"mock_giant","padding":"', b'"}')
    for line, (head, tail) in zip(lines, [(b"", b""), frame], strict=True):
        wanted = hashlib.sha256(head)
        left = size - 1 - len(head) - len(tail)
        while left:
            wanted.update(b"x" * min(left, MIB))
            left -= min(left, MIB)
        wanted.update(tail)
        found = hashlib.sha256()
        for event in line:
            for part in _parts(daemon, event):
                found.update(part)
        assert found.hexdigest() == wanted.hexdigest()
    assert baseline["state"] == "completed"
    return grown / MIB


@pytest.mark.timeout(120)
def test_a_line_of_sixty_four_megabytes_is_kept_whole_in_bounded_memory(daemon: Daemon) -> None:
    _giant(daemon, 64 * MIB)


def test_a_line_of_ten_megabytes_is_kept_whole(daemon: Daemon) -> None:
    _giant(daemon, 10 * MIB)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_a_line_of_a_gigabyte_is_kept_whole_in_bounded_memory(
    make_daemon: Make, report: Report
) -> None:
    daemon = make_daemon(settings={"execution.max_output_bytes": "3G"}).start()
    daemon.project()
    size = full(1024, least=16)
    report.figure("memory grew by", _giant(daemon, size * MIB), "MB", most=64)
    report.count(f"lines of {size} MiB", 2)


EXPECTED = {
    "text": [b"this line is not JSON"],
    "utf8": [b'{"type":"mock_garbage","text":"\xff\xfe\xc3("}', b"\xc0\xaf\xed\xa0\x80"],
    "nul": [b"\x00\x00", b'{"type":"mock_garbage","text":"a\x00b"}'],
    "half": [b'{"type":"assistant","message":{"content":[{"type":"te'],
}


@pytest.mark.parametrize("kind", list(EXPECTED))
def test_lines_that_are_no_events_are_kept_byte_for_byte(daemon: Daemon, kind: str) -> None:
    ended = daemon.run({"garbage": kind, "text": "done"})
    assert (ended["state"], ended["result"]) == ("completed", "done")
    told = history.read(daemon, project="web").check()
    kept = [
        base64.b64decode(event["data"]["raw_b64"])
        for event in told.of(ended["execution"])
        if event["type"] == "message" and "raw_b64" in event["data"]
    ]
    assert [line for line in EXPECTED[kind] if line in kept] == EXPECTED[kind]
    raw = next(e for e in told.of(ended["execution"]) if "raw_b64" in e["data"])
    part = daemon.call("message.get", stream=raw["stream"], seq=raw["seq"])
    assert base64.b64decode(part["data_b64"]) == kept[0]


def test_output_without_a_newline_at_its_end_is_kept(daemon: Daemon) -> None:
    ended = daemon.run({"garbage": "truncated", "text": "done"})
    assert ended["state"] == "completed"
    told = history.read(daemon, project="web").check()
    lines = [e["data"].get("raw_b64") for e in told.of(ended["execution"])]
    kept = [base64.b64decode(line) for line in lines if line]
    assert b'{"type":"assistant","message":{"role":"assist' in kept


def test_all_garbage_at_once_ends_no_run(daemon: Daemon) -> None:
    ended = daemon.run({"garbage": True, "text": "done", "stderr": "and \x1b[31mred"})
    assert (ended["state"], ended["result"]) == ("completed", "done")
    history.read(daemon, project="web").check()


def test_more_output_than_allowed_ends_the_run_and_says_so(make_daemon: Make) -> None:
    daemon = make_daemon(settings={"execution.max_output_bytes": 300_000}).start()
    daemon.project()
    ended = daemon.run({"events": 200, "bytes": 10_000})
    assert (ended["state"], ended["cause"]) == ("failed", "output_limit")


def test_a_flood_on_stderr_is_kept_and_its_end_is_the_evidence(daemon: Daemon) -> None:
    ended = daemon.run({"stderr": 3_000_000, "steps": [{"stderr": "last words"}], "text": "done"})
    assert ended["state"] == "completed"
    assert ended["stderr"].rstrip().endswith("last words")
    told = history.read(daemon, project="web").check()
    assert sum(len(e["data"]["text"]) + 1 for e in told.of_type("stderr")) >= 3_000_000


def test_half_a_character_is_kept_and_costs_no_other_line(make_daemon: Make) -> None:
    """Claude escapes what it cut in the middle of a pair: no strict reader takes that as JSON."""
    daemon = make_daemon().start()
    daemon.project()
    half = "half \ud83d"
    ended = daemon.run({"text": half, "partial": True})
    assert ended["state"] == "completed"
    before = history.read(daemon, project="web").check()
    daemon.restart()
    after = history.read(daemon, project="web").check()
    assert after.events[: len(before.events)] == before.events
    (kept,) = [
        event["data"]
        for event in after.of(ended["execution"])
        if event["type"] == "message" and event["data"]["kind"] == "assistant"
    ]
    assert json.loads(base64.b64decode(kept["raw_b64"]))["message"]["content"][0]["text"] == half
