"""One daemon for each file of stories, made empty for each of them: most need no daemon of their own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.harness.daemon import Daemon

QUICK = {
    "execution.interrupt_s": 0.6,
    "execution.close_s": 0.3,
    "execution.term_s": 0.6,
    "execution.hang_after_result_s": 0.5,
}
"""A short stop ladder: what a story waits for is not how long each rung may take."""


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    made = Daemon(tmp_path_factory.mktemp("stories"), settings=QUICK)
    yield made
    made.close()


@pytest.fixture
def daemon(lasting: Daemon) -> Daemon:
    """A running daemon with one empty project, `web`, and nothing else."""
    if not lasting.is_running():
        lasting.start()
    for project in lasting.call("project.list")["items"]:
        lasting.call("project.delete", project=project["id"], force=True, purge=True)
    for rule in lasting.call("policy.list")["items"]:
        lasting.call("policy.remove", id=rule["id"])
    lasting.call("queue.resume", now=True)
    lasting.record.unlink(missing_ok=True)
    for folder in ("projects", "claude"):
        shutil.rmtree(lasting.root / folder, ignore_errors=True)
    lasting.project()
    return lasting
