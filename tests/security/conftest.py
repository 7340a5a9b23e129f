"""Short paths: those of sockets are limited."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory with a short name."""
    path = Path(tempfile.mkdtemp(prefix="hs"))
    yield path
    shutil.rmtree(path, ignore_errors=True)
