"""Rows 10 and 22: damaged tails, a damaged or missing database, one that is locked or cannot be read."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.harness import history
from tests.harness.daemon import Daemon, DaemonEnded, RpcError
from tests.harness.soak import Report, full
from tests.harness.waiting import eventually

Make = Callable[..., Daemon]


def _open_segment(daemon: Daemon, stream_id: str) -> Path:
    """The segment that is being written for a project."""
    folders = [p for p in (daemon.home / "state" / "log").rglob("*.jsonl") if stream_id in str(p)]
    return max(folders)


def _cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 700)


def _zeros(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-600, os.SEEK_END)
        file.write(bytes(600))


def _more_zeros(path: Path) -> None:
    with path.open("ab") as file:
        file.write(bytes(5000))


def _garbage(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b'{"seq":1,"ts":\xff\xfe half a record')


def _flipped(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-300, os.SEEK_END)
        byte = file.read(1)
        file.seek(-300, os.SEEK_END)
        file.write(bytes([byte[0] ^ 0x80]))


def _no_index(path: Path) -> None:
    path.with_suffix(".idx").unlink()


DAMAGE = (_cut, _zeros, _more_zeros, _garbage, _flipped, _no_index)


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda f: f.__name__.strip("_"))
def test_a_damaged_tail_of_the_log_is_set_aside_and_written_again(
    daemon: Daemon, damage: Callable[[Path], None]
) -> None:
    project = daemon.call("project.get", project="web")["id"]
    execution = daemon.execute({"events": 500, "delay_ms": 2})
    eventually(lambda: len(history.read(daemon, project="web").texts(execution)) > 60)
    daemon.kill()
    damage(_open_segment(daemon, project))
    daemon.start()
    assert daemon.wait(execution)["state"] == "completed"
    told = history.read(daemon, project="web").check()
    told.check_mock_events(execution, 500)
    told.check_ended(execution)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_damaged_tails_again_and_again_are_set_aside_and_written_again(
    make_daemon: Make, report: Report
) -> None:
    daemon = make_daemon().start()
    for number in range(full(60, least=len(DAMAGE))):
        name, damage = f"p{number}", DAMAGE[number % len(DAMAGE)]
        project = daemon.project(name)["id"]
        execution = daemon.execute({"events": 300, "delay_ms": 2}, project=name)
        eventually(
            lambda id_=execution, name=name, most=20 + number % 50: (  # type: ignore[misc]
                len(history.read(daemon, project=name).texts(id_)) > most
            )
        )
        daemon.kill()
        damage(_open_segment(daemon, project))
        daemon.start()
        assert daemon.wait(execution)["state"] == "completed"
        told = history.read(daemon, project=name).check()
        told.check_mock_events(execution, 300)
        told.check_ended(execution)
        report.count("damaged tails")


def _busy_daemon(make_daemon: Make) -> tuple[Daemon, str, str, str]:
    """One execution has ended, one lives and waits for a person, one waits behind it; killed."""
    daemon = make_daemon().start()
    daemon.project(defaults={"model": "sonnet"})
    daemon.project("api")
    daemon.call("policy.add", action="deny", tool="WebFetch", note="not here")
    ended = daemon.run("My name is Ada")
    live = daemon.execute(
        {"steps": [{"events": 20}, {"permission": True}, {"events": 20}, {"text": "thanks"}]}
    )
    daemon.wait_approval(live)
    queued = daemon.execute("and then " + "x" * 400_000)
    daemon.kill()
    return daemon, ended["execution"], live, queued


def _overwrite_all(database: Path) -> None:
    for suffix in ("", "-wal"):  # the log of writes alone may hold every page
        path = database.with_name(database.name + suffix)
        path.write_bytes(os.urandom(path.stat().st_size))


def _overwrite_middle(database: Path) -> None:
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(os.urandom(database.stat().st_size - 4096))


def _empty_first_page(database: Path) -> None:
    with database.open("r+b") as file:
        file.write(bytes(100))
    for suffix in ("-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def _remove(database: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


@pytest.mark.parametrize(
    "damage",
    [_overwrite_all, _overwrite_middle, _empty_first_page, _remove],
    ids=lambda f: f.__name__.strip("_"),
)
def test_a_lost_database_is_rebuilt_from_the_log_and_everything_goes_on(
    make_daemon: Make, damage: Callable[[Path], None]
) -> None:
    daemon, ended, live, queued = _busy_daemon(make_daemon)
    state = daemon.home / "state"
    damage(state / "hivectl.db")
    daemon.start()

    assert {p["name"] for p in daemon.call("project.list")["items"]} == {"web", "api"}
    assert daemon.call("project.get", project="web")["defaults"] == {"model": "sonnet"}
    assert [rule["tool"] for rule in daemon.call("policy.list")["items"]] == ["WebFetch"]
    assert daemon.get(ended)["state"] == "completed"
    assert len(daemon.call("session.list")["items"]) == 1

    health = daemon.call("health")
    assert health["status"] == "degraded"
    assert any("Restored from the log" in problem for problem in health["problems"])
    notices = history.read(daemon, stream="system").of_type("system.notice")
    assert any("Restored from the log" in notice["data"]["message"] for notice in notices)
    if damage is not _remove:
        assert list(state.glob("hivectl.db.corrupt-*")), "the damaged file is kept"

    daemon.decide(daemon.wait_approval(live))
    assert daemon.wait(live)["result"] == "thanks"
    after = daemon.wait(queued)
    assert after["state"] == "completed"
    told = history.read(daemon, project="web").check()
    texts = [text for text in told.texts(live) if text.startswith("event ")]
    assert len(texts) == 40
    assert len(daemon.mock_starts()) == 3, "nothing was started twice"
    daemon.restart()
    assert daemon.call("health")["status"] == "ok", "told once"
    assert daemon.get(live)["state"] == "completed"


def test_a_rebuild_that_was_cut_short_is_done_again(make_daemon: Make) -> None:
    daemon, ended, live, _queued = _busy_daemon(make_daemon)
    database = daemon.home / "state" / "hivectl.db"
    _overwrite_all(database)
    failing = daemon.spawn("store_commit@2:kill")
    assert failing.wait(20) < 0
    assert not database.exists(), "struck in the middle of the rebuild"
    daemon.start()
    assert daemon.get(ended)["state"] == "completed"
    daemon.decide(daemon.wait_approval(live))
    assert daemon.wait(live)["result"] == "thanks"


# --- locked, unreadable ---------------------------------------------------------------------------------


@contextmanager
def _locked(database: Path, seconds: float) -> Iterator[None]:
    """Somebody else writes: for `seconds` from now, beside what the test does."""
    connection = sqlite3.connect(database, isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(seconds, connection.rollback)
    timer.start()
    try:
        yield
    finally:
        timer.join()
        connection.close()


@pytest.mark.parametrize("seconds", [12.0, pytest.param(25.0, marks=pytest.mark.soak)])
def test_a_locked_database_delays_and_loses_nothing(daemon: Daemon, seconds: float) -> None:
    running = daemon.execute({"events": 100, "delay_ms": 20})
    waiting = daemon.execute({"permission": True}, project=daemon.project("api")["id"])
    approval = daemon.wait_approval(waiting)
    with _locked(daemon.home / "state" / "hivectl.db", seconds), ThreadPoolExecutor(1) as beside:
        health = beside.submit(daemon.call, "health")
        begun = time.monotonic()
        with pytest.raises(RpcError) as caught:
            daemon.execute("meanwhile")
        assert caught.value.code == "STORAGE_ERROR"
        assert time.monotonic() - begun < 20
        assert daemon.call("ping")
        assert "database" in str(health.result()["problems"]), health.result()
        assert health.result()["status"] == "failing"
    assert daemon.wait(running)["state"] == "completed"
    daemon.decide(approval)
    assert daemon.wait(waiting)["state"] == "completed"
    history.read(daemon, project="web").check().check_mock_events(running, 100)
    assert daemon.is_running()


def test_a_database_locked_at_the_start_is_told_and_not_replaced(daemon: Daemon) -> None:
    daemon.run("hello")
    daemon.kill()
    database = daemon.home / "state" / "hivectl.db"
    before = database.stat().st_ino
    with _locked(database, 8.0):
        daemon.spawn()
        try:
            daemon.wait_ready()
        except DaemonEnded as ended:
            assert "locked" in ended.output  # noqa: PT017  it may as well come through
    if not daemon.is_running():
        daemon.start()
    assert database.stat().st_ino == before
    assert not list(database.parent.glob("hivectl.db.corrupt*"))
    assert len(daemon.call("execution.list")["items"]) == 1


def _make_link(database: Path) -> None:
    database.rename(database.with_name("elsewhere"))
    database.symlink_to("elsewhere")


def _make_directory(database: Path) -> None:
    database.rename(database.with_name("elsewhere"))
    database.mkdir()


def _forbid(database: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("nothing is unreadable for root")
    database.chmod(0)


@pytest.mark.parametrize("spoil", [_make_link, _make_directory, _forbid])
def test_a_database_that_cannot_be_read_is_an_error_and_never_made_anew(
    daemon: Daemon, spoil: Callable[[Path], None]
) -> None:
    daemon.stop("keep")
    database = daemon.home / "state" / "hivectl.db"
    spoil(database)
    names = sorted(path.name for path in database.parent.iterdir())
    with pytest.raises(DaemonEnded) as caught:
        daemon.start()
    assert caught.value.code > 0
    assert str(database) in caught.value.output
    assert "Traceback" not in caught.value.output
    now = sorted(path.name for path in database.parent.iterdir())
    assert [name for name in now if "hivectl.db" in name] == [
        name for name in names if "hivectl.db" in name
    ]


ASKS = {
    "approval": {"permission": {"name": "Write", "input": {"file_path": "a", "content": "x"}}},
    "question": {"ask_human": "Which?"},
}


@pytest.mark.parametrize("what", ASKS)
@pytest.mark.parametrize("is_yes", [True, False])
def test_what_was_answered_and_had_no_worker_yet_is_heard_by_way_of_a_rebuilt_database(
    make_daemon: Make, what: str, is_yes: bool
) -> None:
    daemon = make_daemon(settings={"worker.slots": 1}).start()
    for name in ("web", "api"):
        daemon.project(name)
    asking = daemon.execute({"steps": [ASKS[what], {"text": "went on"}]}, "web")
    if what == "approval":
        asked = daemon.wait_approval(asking)
    else:
        asked = eventually(lambda: daemon.call("question.list")["items"])[0]
        daemon.wait_state(asking, "waiting")
    busy = daemon.execute({"steps": [{"text": "busy"}, {"hang": "end"}]}, "api")
    daemon.wait_state(busy, "running")
    if what == "question":
        said = {"text": "the newest"} if is_yes else {"decline": True}
        daemon.call("question.answer", id=asked["id"], **said)
    else:
        decision = "allow" if is_yes else "deny"
        daemon.call("approval.decide", id=asked["id"], version=asked["version"], decision=decision)
    daemon.kill()
    _remove(daemon.home / "state" / "hivectl.db")
    daemon.start()
    assert daemon.get(asking)["state"] == "waiting"
    daemon.call("kill", execution=busy, mode="kill")
    assert daemon.wait(asking)["result"] == "went on"
    assert (daemon.root / "projects" / "web" / "a").exists() is (is_yes and what == "approval")
    if what == "question" and is_yes:
        raw = str(history.read(daemon, project="web").of_type("message"))
        assert "the newest" in raw
    history.read(daemon, project="web").check()
