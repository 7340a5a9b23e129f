"""Results become a summary and the tables of the page; what is written by hand around them stays."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.targets import TARGETS, Target, judge

MACHINE = {
    "date": "2026-11-28T20:00:00.000000Z",
    "cores": 2,
    "kernel": "6.1",
    "machine": "x86_64",
    "python": "3.11.7",
    "load": [0.5, 1, 1],
    "versions": {"hivectl": "0.1.0", "nats-server": "v2"},
}


def series(name: str, *rounds: float, unit: str = "ms") -> dict[str, object]:
    middle = sorted(rounds)[len(rounds) // 2]
    found = {"name": name, "unit": unit, "rounds": rounds, "median": middle}
    return {**found, "min": min(rounds), "max": max(rounds)}


def document(*all_series: dict[str, object]) -> dict[str, object]:
    return {"title": "A title", "machine": MACHINE, "series": all_series, "ratios": []}


def test_a_ratio_is_taken_within_each_round() -> None:
    target = Target("1", "x", "ours", "theirs", most=1.0)
    found = judge(target, document(series("ours", 1, 9, 4), series("theirs", 2, 3, 8)))
    assert (found.figures, found.word) == ((0.5, 3.0, 0.5), "met")
    assert found.measured == "0.5x (0.5 to 3)"


def test_a_figure_below_what_is_wanted_is_missed() -> None:
    target = Target("14", "x", "share", least=100)
    found = judge(target, document(series("share", 99, 99, 100, unit="%")))
    assert (found.word, found.measured) == ("missed", "99 % (99 to 100)")


@pytest.mark.parametrize("results", [None, {}, document(series("ours", 1.0))])
def test_without_a_figure_or_its_reference_nothing_is_said(
    results: dict[str, object] | None,
) -> None:
    assert judge(Target("1", "x", "ours", "theirs", most=1.0), results).word == "not measured"


def test_the_summary_tells_of_the_benchmarks_that_ran() -> None:
    results = {"start": document(series("hivectl, again", 100, 120, 140))}
    lines = report.summary(results, ["start"]).splitlines()
    assert lines[1].split() == [
        *(
            "10",
            "met",
            "hivectl,",
            "again:",
            "120",
            "ms",
            "(100",
            "to",
            "140),",
            "target",
            "<=",
            "250",
        )
    ]
    assert lines[-1].strip() == "1 met, 0 missed, 2 not measured"
    assert len(lines) == 5


def test_the_page_keeps_what_is_written_by_hand(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"by hand\n\n{report.START}old figures\n{report.END}\n\nalso by hand\n")
    results = {"start": document(series("hivectl, again", 100.0))}
    report.write(page, results)
    once = page.read_text()
    assert once.startswith("by hand\n\n<!-- measured -->\n")
    assert once.endswith("<!-- end of measured -->\n\nalso by hand\n")
    assert "old figures" not in once
    assert "| 10 | hivectl, again | 100 ms (100 to 100) | <= 250 | met |" in once
    assert "2026-11-28. 2 cores, x86_64, Linux 6.1, Python 3.11.7." in once
    assert "hivectl 0.1.0, nats-server v2." in once
    report.write(page, results)
    assert page.read_text() == once


def test_a_page_without_marks_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("by hand\n")
    with pytest.raises(ValueError, match="has no <!-- measured -->"):
        report.write(page, {})
    assert page.read_text() == "by hand\n"


def test_the_page_of_the_benchmarks_has_its_marks() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "benchmarks.md").read_text()
    assert text.count(report.START) == text.count(report.END) == 1


def test_a_result_that_cannot_be_read_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "half.json").write_text('{"machine": ')
    (tmp_path / "other.json").write_text("[]")
    (tmp_path / "start.json").write_text(json.dumps(document()))
    assert list(report.read(tmp_path)) == ["start"]


def test_each_target_has_one_limit() -> None:
    for target in TARGETS:
        assert (target.most is None) != (target.least is None), target
