"""A report for every long test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.soak import Report


@pytest.fixture
def report(request: pytest.FixtureRequest) -> Iterator[Report]:
    """What the test tried, how often, and what it measured."""
    made = Report(request.node.name)
    failed = request.session.testsfailed
    yield made
    made.close("passed" if request.session.testsfailed == failed else "failed")
