"""Hosts that leave nothing behind, whatever a test does."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from hivectl.procs import shim
from tests.integration.procs.worlds import FakeWorld, LocalWorld, World


@pytest_asyncio.fixture(params=["local", "as on macOS", "fake"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    made: World = FakeWorld()
    if request.param != "fake":
        is_usual = request.param == "local"
        made = LocalWorld(tmp_path / "runs", shim.SYSTEM.name if is_usual else "procfs")
    yield made
    await made.end()


@pytest_asyncio.fixture
async def local(tmp_path: Path) -> AsyncIterator[LocalWorld]:
    made = LocalWorld(tmp_path / "runs")
    yield made
    await made.end()


@pytest_asyncio.fixture
async def mac(tmp_path: Path) -> AsyncIterator[LocalWorld]:
    """This machine by the ways of macOS: no splice, no subreaper, no pidfd."""
    made = LocalWorld(tmp_path / "runs", "procfs")
    yield made
    await made.end()
