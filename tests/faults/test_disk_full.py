"""Row 9: the disk runs full at the worst moment; nothing is lost, and work goes on by itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.harness import history
from tests.harness.daemon import Daemon, DaemonEnded, RpcError
from tests.harness.disk import SmallDisk
from tests.harness.waiting import eventually

Make = Callable[..., Daemon]


@pytest.fixture
def daemon(make_daemon: Make) -> Daemon:
    made = make_daemon(disk="24m").start()
    made.project()
    return made


@pytest.fixture
def disk(daemon: Daemon) -> SmallDisk:
    return daemon.disk


def _fill_until_blocked(daemon: Daemon, disk: SmallDisk) -> None:
    """Fill the disk, again and again, until the daemon says that it cannot write."""

    def is_blocked() -> bool:
        disk.fill()
        with pytest.raises(RpcError) as caught:
            daemon.execute("one more")
        return caught.value.code == "STORAGE_FULL"

    eventually(is_blocked, what="execute is refused")


def test_output_waits_for_room_and_is_whole_afterwards(daemon: Daemon, disk: SmallDisk) -> None:
    execution = daemon.execute({"events": 600, "bytes": 8000, "delay_ms": 2})
    eventually(lambda: len(history.read(daemon, project="web").texts(execution)) > 20)
    disk.fill(leave=1 << 20)
    eventually(lambda: daemon.call("health")["status"] == "failing", what="health says so")
    disk.fill()
    eventually(lambda: daemon.get(execution)["stalled"] == "storage_full", what="it shows why")
    assert daemon.is_running()
    assert daemon.get(execution)["state"] == "running"
    before = len(history.read(daemon, project="web").texts(execution))
    assert before < 600
    disk.empty()
    freed = time.monotonic()
    eventually(
        lambda: len(history.read(daemon, project="web").texts(execution)) > before, within_s=5
    )
    print(f"went on {time.monotonic() - freed:.2f} s after there was room")
    ended = daemon.wait(execution)
    assert (ended["state"], ended["stalled"]) == ("completed", None)
    history.read(daemon, project="web").check().check_mock_events(execution, 600)
    assert daemon.call("health")["status"] != "failing"


def test_lines_kept_beside_the_log_wait_for_room_too(daemon: Daemon, disk: SmallDisk) -> None:
    execution = daemon.execute({"events": 12, "bytes": 400_000, "delay_ms": 150})
    eventually(lambda: daemon.get(execution)["state"] == "running")
    disk.fill(leave=1_500_000)
    pid = daemon.get(execution)["pid"]
    eventually(lambda: disk.free_bytes < 400_000, what="no room for a line")
    disk.fill()
    time.sleep(1.5)
    assert daemon.is_running()
    assert daemon.get(execution)["state"] == "running"
    assert Path(f"/proc/{pid}").exists(), "nobody ended it"
    disk.empty()
    assert daemon.wait(execution)["state"] == "completed"
    told = history.read(daemon, project="web").check()
    big = [
        e for e in told.of(execution) if "blob" in e["data"] and e["data"]["kind"] == "assistant"
    ]
    assert [e["data"]["text"].split(" of")[0] for e in big] == [f"event {n}" for n in range(1, 13)]


def test_a_prompt_is_refused_while_the_disk_is_full_and_accepted_after(
    daemon: Daemon, disk: SmallDisk
) -> None:
    daemon.run("first")
    seq = len(history.read(daemon, project="web").events)
    disk.fill()
    refusal = eventually(lambda: _refusal(daemon, disk))
    assert refusal.code == "STORAGE_FULL"
    assert refusal.data["retryable"]
    assert daemon.call("ping")
    assert len(history.read(daemon, project="web").events) >= seq
    disk.empty()
    assert eventually(lambda: daemon.run("after"))["state"] == "completed"
    for item in daemon.call("execution.list", limit=1000)["items"]:
        assert daemon.wait(item["execution"])["state"] == "completed"
    history.read(daemon, project="web").check()


def _refusal(daemon: Daemon, disk: SmallDisk) -> RpcError | None:
    """What a prompt is refused with; the database's own reserve may take a few before."""
    disk.fill()
    try:
        daemon.execute({"text": "x", "about": "y" * 100_000})
    except RpcError as error:
        return error
    return None


def test_an_end_that_came_while_the_disk_was_full_is_stored_afterwards(
    daemon: Daemon, disk: SmallDisk
) -> None:
    execution = daemon.execute({"events": 3, "hang": True})
    daemon.wait_state(execution, "running")
    child = daemon.get(execution)["pid"]
    _fill_until_blocked(daemon, disk)
    with pytest.raises(RpcError):
        daemon.call("kill", execution=execution, mode="kill")
    assert daemon.is_running()
    disk.empty()
    eventually(lambda: _kill(daemon, execution))
    assert not Path(f"/proc/{child}").exists()
    history.read(daemon, project="web").check().check_ended(execution, "cancelled")


def _kill(daemon: Daemon, execution: str) -> bool:
    try:
        daemon.call("kill", execution=execution, mode="kill")
    except RpcError as error:
        return error.code == "PROCESS_NOT_FOUND"
    return True


def test_a_run_that_ends_by_itself_on_a_full_disk_keeps_result_and_exit_code(
    daemon: Daemon, disk: SmallDisk
) -> None:
    execution = daemon.execute({"events": 20, "hang": 1.5, "exit_code": 7, "text": "done"})
    daemon.wait_state(execution, "running")
    _fill_until_blocked(daemon, disk)
    time.sleep(2.5)
    assert daemon.is_running()
    disk.empty()
    ended = daemon.wait(execution)
    assert (ended["state"], ended["exit_code"], ended["result"]) == ("completed", 7, "done")
    history.read(daemon, project="web").check()


def test_a_decision_is_refused_while_the_disk_is_full_and_counts_once(
    daemon: Daemon, disk: SmallDisk
) -> None:
    execution = daemon.execute({"steps": [{"permission": True}, {"text": "thanks"}]})
    approval = daemon.wait_approval(execution)
    _fill_until_blocked(daemon, disk)

    def refused() -> bool:
        disk.fill()
        with pytest.raises(RpcError) as caught:
            daemon.decide(approval)
        return caught.value.code == "STORAGE_FULL"

    assert refused()
    disk.empty()
    eventually(lambda: _decided(daemon, approval))
    assert daemon.wait(execution)["result"] == "thanks"
    told = history.read(daemon, project="web").check()
    assert len(told.of_type("approval.decided")) == 1


def _decided(daemon: Daemon, approval: dict[str, object]) -> bool:
    try:
        daemon.decide(approval)
    except RpcError as error:
        return error.code == "ALREADY_DECIDED"
    return True


def test_a_daemon_killed_on_a_full_disk_starts_when_there_is_room_and_has_lost_nothing(
    daemon: Daemon, disk: SmallDisk
) -> None:
    execution = daemon.execute({"events": 400, "bytes": 8000, "delay_ms": 2})
    eventually(lambda: len(history.read(daemon, project="web").texts(execution)) > 20)
    disk.fill(leave=1 << 20)
    eventually(lambda: daemon.call("health")["status"] == "failing", what="health says so")
    disk.fill()
    daemon.kill()
    with suppress(DaemonEnded):
        daemon.start()
    assert "Traceback" not in daemon.output, "a daemon that cannot start says why, in words"
    disk.empty()
    if not daemon.is_running():
        daemon.start()
    assert daemon.wait(execution)["state"] == "completed"
    history.read(daemon, project="web").check().check_mock_events(execution, 400)
    assert len(daemon.mock_starts()) == 1
