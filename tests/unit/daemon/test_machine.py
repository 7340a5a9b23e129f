import asyncio
import os
from pathlib import Path

from hivectl import config
from hivectl.daemon.machine import Machine, tree_bytes
from hivectl.kit.clock import FakeClock


def machine(tmp_path: Path, clock: FakeClock | None = None) -> Machine:
    places = config.find_places({"HIVECTL_HOME": str(tmp_path), "HOME": "/"})
    return Machine(places, clock=clock)


def test_uptime_counts_from_the_start(tmp_path: Path) -> None:
    clock = FakeClock()
    found = machine(tmp_path, clock)
    clock.advance(90)
    assert found.uptime_s == 90


def test_cpu_is_a_share_of_the_time_since_the_previous_call(tmp_path: Path) -> None:
    clock = FakeClock()
    found = machine(tmp_path, clock)
    used = os.times().user + os.times().system
    while os.times().user + os.times().system < used + 0.1:
        sum(range(10_000))
    clock.advance(1)
    assert 5 <= found.cpu_percent() <= 60
    clock.advance(1000)
    assert found.cpu_percent() < 5


def test_cpu_asked_twice_at_once_is_no_division_by_zero(tmp_path: Path) -> None:
    assert machine(tmp_path, FakeClock()).cpu_percent() == 0.0


def test_own_memory_descriptors_and_threads_are_counted(tmp_path: Path) -> None:
    found = machine(tmp_path)
    before = found.fds()
    with (tmp_path / "x").open("w"):
        assert found.fds() == before + 1
    assert found.rss_bytes() > 5_000_000
    assert found.threads() >= 1


async def test_loop_lag_is_small_on_an_idle_loop_and_sees_a_blocked_one(tmp_path: Path) -> None:
    found = machine(tmp_path)
    probe = asyncio.get_running_loop().create_task(found.loop_lag_ms())
    await asyncio.sleep(0)
    burn(0.2)
    assert await probe >= 150


def burn(seconds: float) -> None:
    used = os.times().elapsed
    while os.times().elapsed < used + seconds:
        sum(range(1000))


def test_disk_tells_what_each_part_uses(tmp_path: Path) -> None:
    found = machine(tmp_path)
    assert found.disk()["used_bytes"] == 0
    log = tmp_path / "state/log/p_1"
    log.mkdir(parents=True)
    (log / "1.jsonl").write_bytes(b"x" * 100_000)
    (tmp_path / "state/hivectl.db-wal").write_bytes(b"x" * 10_000)
    (tmp_path / "state/daemon.log.1").write_bytes(b"x" * 10_000)
    facts = found.disk()
    assert facts["log_bytes"] >= 100_000
    assert facts["database_bytes"] >= 10_000
    assert facts["daemon_log_bytes"] >= 10_000
    assert facts["used_bytes"] >= 120_000
    assert facts["total_bytes"] > facts["free_bytes"] > 0


def test_links_out_of_a_tree_are_not_followed(tmp_path: Path) -> None:
    big = tmp_path / "big"
    big.mkdir()
    (big / "file").write_bytes(b"x" * 500_000)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "out").symlink_to(big)
    (tree / "loop").symlink_to(tree)
    assert tree_bytes(tree) < 100_000


def test_missing_tree_takes_nothing(tmp_path: Path) -> None:
    assert tree_bytes(tmp_path / "no") == 0
