"""Hosts that leave nothing behind, whatever a test does."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.integration.procs.worlds import FakeWorld, LocalWorld, World


@pytest_asyncio.fixture(params=["local", "fake"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    made = LocalWorld(tmp_path / "runs") if request.param == "local" else FakeWorld()
    yield made
    await made.end()


@pytest_asyncio.fixture
async def local(tmp_path: Path) -> AsyncIterator[LocalWorld]:
    made = LocalWorld(tmp_path / "runs")
    yield made
    await made.end()
