from __future__ import annotations

import asyncio
import errno
import threading
import time
from collections.abc import Iterator

import pytest

from hivectl.journal.syncer import Syncer


class Item:
    """Counts its syncs; may fail, and may be held up."""

    def __init__(self) -> None:
        self.count = 0
        self.error: OSError | None = None
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def sync_files(self) -> None:
        self.entered.set()
        self.gate.wait(10)
        self.count += 1
        if self.error is not None:
            raise self.error


@pytest.fixture
def make_syncer() -> Iterator[object]:
    made: list[Syncer] = []

    def make(interval_s: float) -> Syncer:
        made.append(Syncer(interval_s))
        return made[-1]

    yield make
    for syncer in made:
        syncer.close()


async def until(condition: object) -> None:
    async with asyncio.timeout(5):
        while not condition():  # type: ignore[operator]
            await asyncio.sleep(0.002)


async def test_what_is_marked_is_synced_once_within_the_interval(make_syncer: object) -> None:
    syncer, item = make_syncer(0.05), Item()  # type: ignore[operator]
    start = time.monotonic()
    for _ in range(20):
        syncer.mark(item)
    await until(lambda: item.count)
    assert time.monotonic() - start >= 0.04
    await asyncio.sleep(0.12)  # slow: shows that nothing more happens
    assert item.count == 1


async def test_who_waits_does_not_wait_for_the_interval(make_syncer: object) -> None:
    syncer, item, other = make_syncer(1000), Item(), Item()  # type: ignore[operator]
    syncer.mark(other)
    async with asyncio.timeout(5):
        await syncer.wait(item)
    assert (item.count, other.count) == (1, 0)


async def test_a_wait_that_began_during_a_sync_gets_a_sync_of_its_own(
    make_syncer: object,
) -> None:
    syncer, item = make_syncer(1000), Item()  # type: ignore[operator]
    item.gate.clear()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(syncer.wait(item))
        await until(item.entered.is_set)
        late = [group.create_task(syncer.wait(item)) for _ in range(5)]
        await asyncio.sleep(0)
        item.gate.set()
    assert all(task.done() for task in late)
    assert item.count == 2, "one for the first, one shared by all that came during it"


async def test_a_failed_sync_is_told_to_who_waits_and_the_thread_lives_on(
    make_syncer: object,
) -> None:
    syncer, item = make_syncer(1000), Item()  # type: ignore[operator]
    item.error = OSError(errno.EIO, "broken")
    with pytest.raises(OSError, match="broken") as caught:
        await syncer.wait(item)
    assert caught.value.errno == errno.EIO
    item.error = None
    await syncer.wait(item)
    assert item.count == 2


async def test_closing_syncs_what_is_dirty_and_ends_the_thread(make_syncer: object) -> None:
    syncer, item, forgotten = make_syncer(1000), Item(), Item()  # type: ignore[operator]
    syncer.mark(item)
    syncer.mark(forgotten)
    syncer.forget(forgotten)
    syncer.close()
    assert (item.count, forgotten.count) == (1, 0)
    assert not syncer._thread.is_alive()


async def test_nothing_dirty_means_no_thread_and_no_timer(make_syncer: object) -> None:
    syncer = make_syncer(0.01)  # type: ignore[operator]
    assert syncer._thread is None
    await syncer.wait(Item())
    assert syncer._pause() is None
