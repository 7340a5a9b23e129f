"""Fixtures every folder may use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.harness.daemon import Daemon

# A busy machine is slow; that is no property of the code.
settings.register_profile("hivectl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hivectl")


@pytest.fixture(scope="session", autouse=True)
def one_loop_when_none_runs() -> Iterator[None]:
    """pytest-asyncio asks for the current loop; before Python 3.14 that makes one which nobody closes,
    and whichever test runs when it is collected fails for it."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture
def make_daemon(tmp_path: Path) -> Iterator[Callable[..., Daemon]]:
    """Builds daemons, not started; each is ended at the end, and nothing of it may be left."""
    made: list[Daemon] = []

    def make(name: str = "", **how: Any) -> Daemon:
        root = tmp_path / (name or f"d{len(made)}")
        root.mkdir()
        made.append(Daemon(root, **how))
        return made[-1]

    yield make
    errors = []
    for daemon in reversed(made):
        try:
            daemon.close()
        except AssertionError as error:
            errors.append(error)
    if errors:
        raise errors[0]


@pytest.fixture
def daemon(make_daemon: Callable[..., Daemon]) -> Daemon:
    """A running daemon with one project, `web`."""
    made = make_daemon().start()
    made.project()
    return made
