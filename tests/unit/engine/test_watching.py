"""What changes while an execution runs is told as events: with a fake machine, real files and real git."""

import asyncio
import json
import subprocess

import pytest

from hivectl.engine import watching as rooms
from hivectl.engine.watched import Watched
from hivectl.journal import reader
from hivectl.model.work import ExecutionState
from hivectl.testing.processes import FakeMachine
from tests.unit.engine.test_runner import INIT, Farm, line, plain, verdict


class Hands:
    """A child that works with files until it is told to end."""

    def __init__(self):
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()

    async def __call__(self, child):
        await child.read()
        child.emit(line(INIT))
        self.begun.set()
        await self.may_end.wait()
        child.emit(line(verdict()))
        while await child.read() is not None:
            pass
        return 0


async def until(check, what):
    for _ in range(500):
        if found := check():
            return found
        await asyncio.sleep(0.01)
    raise AssertionError(what)


def changes(farm, project):
    """The data of all file.changed events."""
    records = reader.read_after(farm.journal.open(project.stream), 0, 1000)
    return [json.loads(bytes(r.data)) for r in records if r.type == "file.changed"]


def paths(farm, project):
    return {
        (item["path"], item["kind"]) for data in changes(farm, project) for item in data["changes"]
    }


async def watched(farm, project, hands):
    """A run whose directory is listened to."""
    execution = await farm.submit(project)
    await hands.begun.wait()
    runner = farm.engine.runners[execution.id]
    await until(lambda: runner._watch._is_listening, "it listens")
    return execution


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(rooms, "BATCH_S", 0.05)


def git(directory, *words):
    subprocess.run(
        ["git", "-c", "user.name=t", "-c", "user.email=t@t", *words],
        cwd=directory, check=True, capture_output=True,
    )  # fmt: skip


async def test_what_changes_is_told_without_what_git_ignores(tmp_path):
    hands = Hands()
    async with Farm(tmp_path, FakeMachine(hands)).open() as farm:
        home = farm.directory
        (home / ".gitignore").write_text("build/\n*.log\n")
        (home / "old.py").write_text("1")
        (home / "build").mkdir()
        git(home, "init", "-q")
        git(home, "add", ".")
        git(home, "commit", "-qm", "a")
        project = await farm.project()
        execution = await watched(farm, project, hands)
        assert farm.engine.runners[execution.id]._watch._watched.directories == {""}
        (home / "build/out").write_text("1")
        (home / "x.log").write_text("1")
        (home / "src/deep").mkdir(parents=True)
        (home / "src/deep/new.py").write_text("1")
        (home / "old.tmp").write_text("2")
        (home / "old.tmp").rename(home / "old.py")
        await until(lambda: len(paths(farm, project)) >= 2, "two changes")
        assert paths(farm, project) == {("src/deep/new.py", "added"), ("old.py", "modified")}
        (home / "src/deep/new.py").unlink()
        await until(lambda: ("src/deep/new.py", "deleted") in paths(farm, project), "a removal")
        hands.may_end.set()
        assert (await farm.ended(execution.id)).state is ExecutionState.COMPLETED


async def test_what_changed_last_is_told_before_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(rooms, "BATCH_S", 60.0)
    hands = Hands()
    async with Farm(tmp_path, FakeMachine(hands)).open() as farm:
        project = await farm.project()
        execution = await watched(farm, project, hands)
        (farm.directory / "last").write_text("1")
        await asyncio.sleep(0.05)
        hands.may_end.set()
        await farm.ended(execution.id)
        kinds = farm.kinds(project)
        assert kinds.index("file.changed") < kinds.index("execution.ended")


async def test_an_event_names_so_many_paths_and_counts_the_others(tmp_path):
    hands = Hands()
    async with Farm(tmp_path, FakeMachine(hands)).open(watch__max_paths=3) as farm:
        project = await farm.project()
        execution = await watched(farm, project, hands)
        for number in range(10):
            (farm.directory / f"f{number}").write_text("1")

        def count():
            found = changes(farm, project)
            assert all(len(data["changes"]) <= 3 for data in found)
            return sum(len(data["changes"]) + data["more"] for data in found)

        await until(lambda: count() >= 10, "ten changes")
        hands.may_end.set()
        await farm.ended(execution.id)


@pytest.mark.parametrize("by", ["setting", "project"])
async def test_it_can_be_switched_off(tmp_path, by):
    hands = Hands()
    flags = {"watch__files": False} if by == "setting" else {}
    async with Farm(tmp_path, FakeMachine(hands)).open(**flags) as farm:
        project = await farm.project()
        if by == "project":
            await farm.db.write(
                lambda tx: tx.run("UPDATE projects SET defaults = ?", '{"watch_files":false}')
            )
        execution = await farm.submit(project)
        await hands.begun.wait()
        (farm.directory / "x").write_text("1")
        await asyncio.sleep(0.2)
        hands.may_end.set()
        await farm.ended(execution.id)
        assert changes(farm, project) == []


def notices(farm):
    records = reader.read_after(farm.journal.open("system"), 0, 100)
    return [json.loads(bytes(r.data))["message"] for r in records if r.type == "system.notice"]


async def test_a_limit_of_the_system_is_told_once_and_no_run_suffers(tmp_path, monkeypatch):
    def refuse(self, directories):
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr(Watched, "listen", refuse)
    async with Farm(tmp_path, FakeMachine(plain)).open() as farm:
        project = await farm.project()
        for _ in range(2):
            ended = await farm.ended((await farm.submit(project)).id)
            assert ended.state is ExecutionState.COMPLETED
        await until(lambda: notices(farm), "a notice")
        assert len(notices(farm)) == 1
        assert "limit reached" in notices(farm)[0]


async def test_more_directories_than_are_watched_are_told(tmp_path):
    hands = Hands()
    async with Farm(tmp_path, FakeMachine(hands)).open(watch__max_directories=2) as farm:
        for number in range(5):
            (farm.directory / f"d{number}").mkdir()
        project = await farm.project()
        execution = await watched(farm, project, hands)
        await until(lambda: notices(farm), "a notice")
        assert "more than 2 directories" in notices(farm)[0]
        hands.may_end.set()
        await farm.ended(execution.id)


async def test_an_adopted_run_is_watched_again(tmp_path):
    hands = Hands()
    farm = Farm(tmp_path, FakeMachine(hands))
    async with farm.open():
        project = await farm.project()
        execution = await watched(farm, project, hands)
    async with farm.open():
        await until(lambda: execution.id in farm.engine.runners, "it is adopted")
        runner = farm.engine.runners[execution.id]
        await until(lambda: runner._watch and runner._watch._is_listening, "it listens")
        (farm.directory / "x").write_text("1")
        await until(lambda: paths(farm, project) == {("x", "added")}, "a change")
        hands.may_end.set()
        await farm.ended(execution.id)


async def test_nothing_is_left_when_a_run_has_ended(tmp_path):
    async with Farm(tmp_path, FakeMachine(plain)).open() as farm:
        project = await farm.project()
        await farm.ended((await farm.submit(project)).id)
        await until(
            lambda: not any(t.get_name().startswith("files of") for t in asyncio.all_tasks()),
            "the watch ends",
        )


async def test_a_hostile_repository_runs_nothing(tmp_path):
    hands = Hands()
    async with Farm(tmp_path, FakeMachine(hands)).open() as farm:
        git(farm.directory, "init", "-q")
        spy, trace = tmp_path / "spy.sh", tmp_path / "trace"
        spy.write_text(f"#!/bin/sh\necho $0 >> {trace}\n")
        spy.chmod(0o755)
        git(farm.directory, "config", "core.fsmonitor", str(spy))
        git(farm.directory, "config", "core.hooksPath", str(tmp_path))
        project = await farm.project()
        execution = await watched(farm, project, hands)
        (farm.directory / "x").write_text("1")
        await until(lambda: paths(farm, project) == {("x", "added")}, "a change")
        hands.may_end.set()
        await farm.ended(execution.id)
        assert not trace.exists()
