"""The audit chain: whatever is done to a row is named."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hivectl.store import audit
from hivectl.store.audit import Row


def chain(count: int) -> list[Row]:
    rows: list[Row] = []
    for number in range(1, count + 1):
        before = rows[-1].hash if rows else audit.GENESIS
        body = f'{{"n":{number}}}'
        rows.append(Row(number, 1000 + number, body, audit.link(before, 1000 + number, body)))
    return rows


def test_a_whole_chain_has_no_fault() -> None:
    assert audit.verify([]) is None
    rows = chain(5)
    assert audit.verify(rows) is None
    assert audit.verify(rows, anchor=(3, rows[2].hash)) is None


@given(st.integers(1, 8), st.integers(0, 7), st.sampled_from(["at_us", "body", "hash"]))
def test_s46_a_changed_row_is_the_first_one_named(count: int, at: int, name: str) -> None:
    rows = chain(count)
    at %= count
    worse = {"at_us": rows[at].at_us + 1, "body": rows[at].body + " ", "hash": "f" * 64}[name]
    rows[at] = replace(rows[at], **{name: worse})
    fault = audit.verify(rows)
    assert fault is not None
    assert fault.id == at + 1


@given(st.integers(2, 8), st.integers(0, 7))
def test_s46_a_deleted_inserted_or_swapped_row_is_named(count: int, at: int) -> None:
    rows = chain(count)
    at %= count - 1
    deleted = audit.verify(rows[:at] + rows[at + 1 :])
    assert deleted is not None
    assert deleted.id == at + 1
    renumbered = [replace(row, id=n) for n, row in enumerate(rows[:at] + rows[at + 1 :], 1)]
    closed = audit.verify(renumbered)
    assert closed is not None
    assert closed.id == at + 1
    forged = [replace(row, id=n) for n, row in enumerate([*rows[: at + 1], *rows[at:]], 1)]
    doubled = audit.verify(forged)
    assert doubled is not None
    assert doubled.id == at + 2
    swapped = [*rows[:at], rows[at + 1], rows[at], *rows[at + 2 :]]
    assert audit.verify(swapped) is not None


def test_s46_a_cut_end_or_a_chain_written_anew_is_seen_with_an_anchor_only() -> None:
    rows = chain(5)
    assert audit.verify(rows[:3]) is None, "the honest limit: the chain alone does not tell"
    cut = audit.verify(rows[:3], anchor=(5, rows[4].hash))
    assert cut is not None
    assert "cut off" in cut.why
    anew = audit.verify(chain(5), anchor=(5, audit.link("other", 0, "")))
    assert anew is not None
    assert anew.id == 5
    assert audit.verify([], anchor=(1, rows[0].hash)) is not None
