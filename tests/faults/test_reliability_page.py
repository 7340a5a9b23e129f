"""docs/reliability.md says what the tests do."""

from __future__ import annotations

import re
from pathlib import Path

from hivectl.kit import failpoint

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "reliability.md").read_text()


def test_every_named_place_is_in_the_page_with_its_meaning() -> None:
    for name, meaning in {**failpoint.NAMES, **failpoint.SHIM_NAMES}.items():
        assert f"| `{name}` | {meaning} |" in PAGE


def test_every_file_of_fault_tests_is_in_the_page_and_no_other() -> None:
    named = set(re.findall(r"`(test_\w+\.py)`", PAGE))
    there = {path.name for path in Path(__file__).parent.glob("test_*.py")}
    assert named == there - {Path(__file__).name}
