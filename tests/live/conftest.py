"""The real Claude Code and a scripted API, where the environment names them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.scripted import API_VARIABLE, CLAUDE_VARIABLE, Api, LiveDaemon


def _named(variable: str, what: str) -> Path:
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} is not set: the path of {what}")
    path = Path(value).resolve()
    if not path.is_file():
        pytest.fail(f"{variable}: {value} is no file")
    return path


@pytest.fixture(scope="session")
def claude() -> Path:
    """The executable of Claude Code."""
    return _named(CLAUDE_VARIABLE, "the executable of Claude Code")


@pytest.fixture(scope="session")
def api_program() -> Path:
    return _named(API_VARIABLE, "a scripted Messages API on loopback that understands [[markers]]")


@pytest.fixture
def api(api_program: Path, tmp_path: Path) -> Iterator[Api]:
    """A scripted API of this test's own."""
    made = Api(api_program, tmp_path / "api.out")
    yield made
    made.close()


@pytest.fixture
def make_live(tmp_path: Path, claude: Path, api: Api) -> Iterator[Callable[..., LiveDaemon]]:
    """Builds daemons, not started; each is ended at the end, and nothing of it may be left."""
    made: list[LiveDaemon] = []

    def make(**how: Any) -> LiveDaemon:
        root = tmp_path / f"d{len(made)}"
        root.mkdir()
        made.append(LiveDaemon(root, claude, api, **how))
        return made[-1]

    yield make
    for daemon in reversed(made):
        daemon.close()


@pytest.fixture
def live(make_live: Callable[..., LiveDaemon]) -> LiveDaemon:
    """A running daemon with one project, `web`."""
    daemon = make_live()
    daemon.start()
    daemon.project()
    return daemon
