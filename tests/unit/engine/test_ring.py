"""The newest frames of a stream: dense, and bounded by count and by bytes."""

from __future__ import annotations

from hivectl.engine.ring import Frame, Ring


def frames(first: int, count: int, size: int = 10) -> list[Frame]:
    return [Frame(seq, "message", None, b"x" * size) for seq in range(first, first + count)]


def seqs(found: list[Frame] | None) -> list[int] | None:
    return None if found is None else [frame.seq for frame in found]


def test_a_page_follows_a_position_and_is_bounded_by_count_and_by_bytes() -> None:
    ring = Ring(0)
    ring.extend(frames(1, 10))
    assert seqs(ring.page(4, 3, 1000)) == [5, 6, 7]
    assert seqs(ring.page(4, 100, 25)) == [5, 6]
    assert seqs(ring.page(4, 100, 1)) == [5], "one, however large"
    assert seqs(ring.page(10, 100, 1000)) == []


def test_beyond_its_bounds_the_oldest_go_and_are_no_longer_known() -> None:
    ring = Ring(0)
    ring.extend(frames(1, 10))
    ring.trim(4, 1000)
    assert (ring.size_bytes, seqs(ring.page(6, 100, 1000))) == (40, [7, 8, 9, 10])
    assert ring.page(5, 100, 1000) is None
    ring.trim(4, 25)
    assert (ring.size_bytes, seqs(ring.page(8, 100, 1000))) == (20, [9, 10])
    ring.trim(4, 0)
    assert (ring.size_bytes, ring.last, seqs(ring.page(10, 100, 1000))) == (0, 10, [])


def test_what_does_not_follow_begins_it_anew() -> None:
    ring = Ring(0)
    ring.extend(frames(1, 3))
    ring.extend(frames(8, 2))
    assert (ring.last, ring.size_bytes) == (9, 20)
    assert ring.page(3, 100, 1000) is None
    assert seqs(ring.page(7, 100, 1000)) == [8, 9]
