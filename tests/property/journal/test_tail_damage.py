"""Whatever happens to the tail of a log, opening it works and shows a prefix of what was written."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hivectl.journal import record

STREAM = "project.p_1"
BLOCK_SLACK = 24 * 1024  # a damaged block of 16 KiB, with its snapshot and a long line


@dataclass(frozen=True)
class Written:
    root: Path
    lines: list[bytes]
    epoch: str

    @property
    def newest(self) -> Path:
        return max((self.root / STREAM).glob("*.jsonl"))


def write_log(shelf: Any, draft_of: Callable[..., Any], lines_of: Any, kind: str) -> Written:
    chance = random.Random(kind)
    log = shelf.open()
    shapes = {
        "tiny": [(1, 30)] * 5,
        "singles": [(1, 200)] * 600,
        "batches": [(40, 250)] * 30,
        "mixed": [(chance.randint(1, 90), chance.randint(10, 900)) for _ in range(40)],
        "long lines": [(2, 60_000)] * 6,
        "many segments": [(20, 300)] * 60,
    }
    number = 0
    for count, length in shapes[kind.removesuffix(", closed")]:
        log.append([draft_of(number + at, length, ob=number + at + 1) for at in range(count)])
        number += count
    written = Written(shelf.root, lines_of(log), log.epoch)
    assert len(written.lines) == number
    if kind.endswith("closed"):
        shelf.journal_of(log)._upkeep.settle()
        shelf.close()
    shelf.drop()
    return written


KINDS = ["tiny", "singles", "batches", "mixed", "long lines", "many segments"]
ALL_KINDS = [*KINDS, *(f"{kind}, closed" for kind in KINDS)]


def cut(data: bytearray, chance: random.Random) -> int:
    at = max(0, len(data) - chance.choice([1, 2, 50, 1000, 5000]) + chance.randint(-20, 0))
    del data[at:]
    return at


def zeros(data: bytearray, chance: random.Random) -> int:
    size = chance.choice([1, 100, 4096])
    if chance.random() < 0.5:
        data += bytes(size)
        return len(data) - size
    at = max(0, len(data) - size)
    data[at:] = bytes(len(data) - at)
    return at


def garbage(data: bytearray, chance: random.Random) -> int:
    size = chance.choice([1, 100, 5000])
    junk = chance.randbytes(size)
    if chance.random() < 0.5:
        data += junk
        return len(data) - size
    at = chance.randint(max(0, len(data) - 8000), len(data) - 1)
    data[at : at + size] = junk
    return at


def flip(data: bytearray, chance: random.Random) -> int:
    at = chance.randint(max(0, len(data) - chance.choice([200, 4096, 20_000])), len(data) - 1)
    data[at] ^= 1 << chance.randint(0, 7)
    return at


def old_lines_again(data: bytearray, chance: random.Random) -> int:
    at = len(data)
    start = data.rfind(b"\n", 0, at - 1) + 1
    data += data[start:at] * chance.randint(1, 3)
    return at


DATA_DAMAGE = {
    "cut": cut,
    "zeros": zeros,
    "garbage": garbage,
    "flip": flip,
    "old lines again": old_lines_again,
}


def lose_index(index: bytearray, chance: random.Random) -> None:
    index.clear()


def shorten_index(index: bytearray, chance: random.Random) -> None:
    del index[chance.randint(0, len(index)) :]


def flip_index(index: bytearray, chance: random.Random) -> None:
    index[chance.randrange(len(index))] ^= 1 << chance.randint(0, 7)


def garbage_index(index: bytearray, chance: random.Random) -> None:
    index += chance.randbytes(chance.choice([5, 32, 100]))


INDEX_DAMAGE = {
    "lost": lose_index,
    "short": shorten_index,
    "flipped": flip_index,
    "garbage": garbage_index,
}


def check(written: Written, shelf: Any, lines_of: Any, root: Path, safe_lines: int) -> None:
    log = shelf.open(root)
    found = lines_of(log)
    assert found == written.lines[: len(found)], "not a prefix of what was written"
    assert len(found) >= safe_lines, "more than the damaged tail was set aside"
    assert log.last_seq == len(found)
    assert log.last_outbox == len(found)
    if len(found) < len(written.lines):
        assert log.epoch != written.epoch, "history was lost without a new epoch"
    epoch = log.epoch
    assert log.append([record.Draft("after", b"{}", 5)]) == len(found) + 1
    shelf.drop()
    again = shelf.open(root)
    assert again.epoch == epoch
    assert lines_of(again)[:-1] == found
    assert again.last_seq == len(found) + 1
    assert not [notice for notice in shelf.journal_of(again).notices if notice.kind == "torn"]
    shelf.drop()


def lines_before(data: bytes, at: int) -> int:
    """Highest record number in whole lines that end a block's distance before `at`."""
    head = bytes(data[: max(0, at - BLOCK_SLACK)])
    numbers = [record.seq_of(line) for line in head.split(b"\n")[:-1]]
    return max(numbers, default=0)


def damage_data(written: Written, root: Path, name: str, chance: random.Random) -> int:
    shutil.copytree(written.root, root)
    path = root / STREAM / written.newest.name
    before = path.read_bytes()
    data = bytearray(before)
    at = DATA_DAMAGE[name](data, chance)
    path.write_bytes(data)
    kept_before_segment = int(path.name[:16]) - 1
    if at >= len(before):
        return len(written.lines)  # nothing but additions: nothing may be lost
    return max(kept_before_segment, lines_before(before, at))


def run_case(
    make_shelf: Any, draft_of: Any, lines_of: Any, tmp_path: Path, kinds: list[str], seeds: range
) -> None:
    chance = random.Random(seeds.start)
    for kind in kinds:
        limits = {"segment_bytes": 100_000} if "segments" in kind else {}
        shelf = make_shelf(**limits)
        written = write_log(shelf, draft_of, lines_of, kind)
        for seed in seeds:
            for name in DATA_DAMAGE:
                root = tmp_path / "case"
                safe = damage_data(written, root, name, chance)
                try:
                    check(written, shelf, lines_of, root, safe)
                except BaseException as exc:
                    exc.add_note(f"{kind}: {name}, seed {seed}")
                    raise
                shutil.rmtree(root)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_damaged_tail_opens_as_a_prefix_of_what_was_written(
    make_shelf: Any, draft_of: Any, lines_of: Any, tmp_path: Path, kind: str
) -> None:
    run_case(make_shelf, draft_of, lines_of, tmp_path, [kind], range(3))


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ALL_KINDS)
def test_two_thousand_damaged_tails_open_as_prefixes(
    make_shelf: Any, draft_of: Any, lines_of: Any, tmp_path: Path, kind: str
) -> None:
    run_case(make_shelf, draft_of, lines_of, tmp_path, [kind], range(100, 134))


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_a_damaged_index_loses_nothing(
    make_shelf: Any, draft_of: Any, lines_of: Any, tmp_path: Path, kind: str
) -> None:
    limits = {"segment_bytes": 100_000} if "segments" in kind else {}
    shelf = make_shelf(**limits)
    written = write_log(shelf, draft_of, lines_of, kind)
    chance = random.Random(kind)
    for name, spoil in INDEX_DAMAGE.items():
        root = tmp_path / "case"
        shutil.copytree(written.root, root)
        path = root / STREAM / written.newest.with_suffix(".idx").name
        index = bytearray(path.read_bytes())
        spoil(index, chance)
        path.write_bytes(index)
        try:
            check(written, shelf, lines_of, root, len(written.lines))
        except BaseException as exc:
            exc.add_note(f"{kind}: {name}")
            raise
        shutil.rmtree(root)


@pytest.mark.parametrize("step", [5, pytest.param(1, marks=pytest.mark.soak)])
def test_a_flipped_bit_anywhere_in_the_last_block_is_found(
    make_shelf: Any, draft_of: Any, lines_of: Any, tmp_path: Path, step: int
) -> None:
    shelf = make_shelf()
    written = write_log(shelf, draft_of, lines_of, "tiny")
    original = written.newest.read_bytes()
    chance = random.Random(1)
    for at in range(original.index(b"\n") + 1, len(original), step):
        root = tmp_path / "case"
        shutil.copytree(written.root, root)
        data = bytearray(original)
        data[at] ^= 1 << chance.randint(0, 6)
        (root / STREAM / written.newest.name).write_bytes(data)
        log = shelf.open(root)
        found = lines_of(log)
        assert len(found) < len(written.lines), at
        assert found == written.lines[: len(found)], at
        torn = list((root / STREAM).glob("*.torn-*"))
        kept = (root / STREAM / written.newest.name).read_bytes()
        assert kept.startswith(data[: data.rindex(torn[0].read_bytes())]), at
        shelf.drop()
        shutil.rmtree(root)


def test_a_damaged_first_snapshot_costs_no_record(
    make_shelf: Any, draft_of: Any, lines_of: Any, tmp_path: Path
) -> None:
    shelf = make_shelf()
    written = write_log(shelf, draft_of, lines_of, "tiny")
    data = bytearray(written.newest.read_bytes())
    data[30] ^= 1
    written.newest.write_bytes(data)
    log = shelf.open()
    assert lines_of(log) == written.lines
    assert log.epoch != written.epoch
