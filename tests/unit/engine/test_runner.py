"""One execution from claim to end on a machine in memory: starts, adoptions, questions, clocks."""

import asyncio
import json
from contextlib import asynccontextmanager

import pytest

from hivectl import config
from hivectl.agents.claude import ClaudeAgent
from hivectl.engine import live as lives
from hivectl.engine import runner as runners
from hivectl.engine.bus import Bus
from hivectl.engine.engine import Engine
from hivectl.engine.publisher import Publisher
from hivectl.journal import reader
from hivectl.journal.writer import Journal
from hivectl.kit.aio import Nursery
from hivectl.kit.clock import SystemClock
from hivectl.kit.ids import make_id, make_uuid
from hivectl.model.approval import ApprovalState
from hivectl.model.errors import HiveError
from hivectl.model.project import Project, ProjectState
from hivectl.model.work import ExecutionState
from hivectl.ports import StopMode
from hivectl.store import people, projects, work
from hivectl.store.database import Database
from hivectl.testing.processes import FakeHost, FakeMachine

SESSION = make_uuid()
INIT = {
    "type": "system",
    "subtype": "init",
    "session_id": SESSION,
    "model": "opus",
    "claude_code_version": "2.1.329",
}


def line(event):
    return json.dumps(event).encode() + b"\n"


def said(text):
    content = [{"type": "text", "text": text}]
    return {
        "type": "assistant",
        "session_id": SESSION,
        "message": {"role": "assistant", "model": "opus", "content": content},
    }


def verdict(text="done"):
    usage = {"input_tokens": 1, "output_tokens": 2}
    return {"type": "result", "subtype": "success", "is_error": False, "result": text, "session_id": SESSION, "num_turns": 1, "usage": usage, "total_cost_usd": 0.1}  # fmt: skip


async def plain(child):
    await child.read()
    for event in (INIT, said("hello"), verdict()):
        child.emit(line(event))
    while await child.read() is not None:
        pass
    return 0


async def asks(child):
    await child.read()
    request = {"subtype": "can_use_tool", "tool_name": "Write", "input": {"file_path": "x"}}
    child.emit(
        line(INIT) + line({"type": "control_request", "request_id": "q1", "request": request})
    )
    while (frame := await child.read()) is not None:
        reply = json.loads(frame)
        if reply["type"] == "control_response":
            child.emit(line(verdict(reply["response"]["response"]["behavior"])))
    return 0


class Farm:
    """Everything but the server, over a fake machine that outlives it."""

    def __init__(self, path, machine):
        self.path, self.machine = path, machine
        self.directory = path / "project"
        self.directory.mkdir(exist_ok=True)

    @asynccontextmanager
    async def open(self, host=None, clock=None, **flags):
        settings = config.load(
            {name.replace("__", "."): value for name, value in flags.items()},
            env={
                "HOME": str(self.path),
                "HIVECTL_HOME": str(self.path / "h"),
                "PATH": "/usr/bin:/bin",
            },
        )
        clock, failures = clock or SystemClock(), []
        self.db = await Database.open(self.path / "hive.db", clock)
        self.journal = Journal(self.path / "log", clock=clock, boot_id="b")
        nursery = Nursery(lambda name, error: failures.append((name, error)))
        bus = Bus(self.journal, clock)
        publisher = Publisher(self.journal, bus, nursery)
        publisher.attach(self.db)
        await publisher.recover()
        world = runners.World(
            settings=lambda: settings, clock=clock, db=self.db, journal=self.journal, publisher=publisher, bus=bus,
            host=host or FakeHost(self.machine), agent=ClaudeAgent("mock", env=settings.environment), nursery=nursery, deny_read=(),
        )  # fmt: skip
        self.engine = Engine(world)
        await self.engine.start()
        try:
            yield self
        finally:
            await nursery.close(within_s=2)
            await world.host.close()
            await self.db.close()
            await self.journal.close()
            assert not failures

    async def project(self):
        found = self.directory.stat()
        project = Project(
            id=make_id("p"), name="web", path=str(self.directory), dev=found.st_dev, ino=found.st_ino, trust_hash=None,
            trust_broken=False, defaults={}, env={}, version=1, session=None, state=ProjectState.IDLE, error=None, executions=0,
            input_tokens=0, output_tokens=0, cost_usd=0.0, created_us=1, activity_us=1,
        )  # fmt: skip
        await self.db.write(
            lambda tx: projects.insert(tx, project, limit=9, actor="user:t", request="r")
        )
        return project

    async def submit(self, project, session="current", **options):
        wish = work.Wish(
            order=make_id("o"), execution=make_id("x"), project=project, prompt="hi", prompt_uuid=make_uuid(),
            message={"kind": "prompt"}, session=session, fork=False, options=options, priority="normal", actor="user:t", request="r",
            key=None, hash="", refuse_if_busy=False, max_orders=9, key_age_us=1,
        )  # fmt: skip
        return (await self.engine.submit(wish)).execution

    async def ended(self, id_):
        return await self.engine.wait(id_, timeout_s=20, or_waiting=False)

    async def waiting(self, id_):
        found = await self.engine.wait(id_, timeout_s=20, or_waiting=True)
        pending = await self.db.write(
            lambda tx: people.of_execution(tx, id_, ApprovalState.PENDING)
        )
        assert found.state is ExecutionState.WAITING
        return pending[0]

    async def answer(self, approval, *, allow=True):
        said = {"allow": allow, "message": "" if allow else "no"}
        decision = "allow" if allow else "deny"
        return await self.engine.decide(
            lambda tx: people.decide(
                tx,
                approval.id,
                version=None,
                decision=decision,
                answer=said,
                message="",
                by="user:t",
            )
        )

    def kinds(self, project):
        records = reader.read_after(self.journal.open(project.stream), 0, 1000)
        assert [r.seq for r in records] == list(range(1, len(records) + 1))
        return [r.type for r in records]


async def test_a_prompt_runs_to_its_result_and_leaves_no_process_directory(tmp_path):
    machine = FakeMachine(plain)
    async with Farm(tmp_path, machine).open() as farm:
        project = await farm.project()
        ended = await farm.ended((await farm.submit(project)).id)
        assert (ended.state, ended.result, ended.session) == (
            ExecutionState.COMPLETED,
            "done",
            SESSION,
        )
        assert farm.kinds(project)[-1] == "project.state"
        assert not farm.engine.world.host.list_processes()


async def test_a_question_survives_the_daemon_and_its_answer_is_heard_once(tmp_path):
    machine = FakeMachine(asks)
    farm = Farm(tmp_path, machine)
    async with farm.open():
        project = await farm.project()
        execution = await farm.submit(project)
        approval = await farm.waiting(execution.id)
    async with farm.open():
        await farm.answer(approval)
        ended = await farm.ended(execution.id)
        assert (ended.state, ended.result) == (ExecutionState.COMPLETED, "allow")
        assert farm.kinds(project).count("approval.requested") == 1


async def test_an_answer_that_was_stored_but_not_heard_is_given_after_the_restart(tmp_path):
    machine = FakeMachine(asks)
    farm = Farm(tmp_path, machine)
    async with farm.open():
        execution = await farm.submit(await farm.project())
        approval = await farm.waiting(execution.id)
        said = {"allow": False, "message": "no"}
        await farm.db.write(
            lambda tx: people.decide(
                tx,
                approval.id,
                version=None,
                decision="deny",
                answer=said,
                message="no",
                by="user:t",
            )
        )
    async with farm.open():
        assert (await farm.ended(execution.id)).result == "deny"


async def test_output_of_the_time_without_a_daemon_is_read_once(tmp_path):
    gate = asyncio.Event()

    async def slow(child):
        await child.read()
        child.emit(line(INIT) + line(said("before")))
        await gate.wait()
        child.emit(line(said("between")) + line(verdict()))
        while await child.read() is not None:
            pass
        return 0

    machine = FakeMachine(slow)
    farm = Farm(tmp_path, machine)
    async with farm.open():
        project = await farm.project()
        execution = await farm.submit(project)
        async with asyncio.timeout(20):
            while farm.kinds(project).count("message") < 3:
                await asyncio.sleep(0.01)
    gate.set()
    async with farm.open():
        ended = await farm.ended(execution.id)
        assert ended.state is ExecutionState.COMPLETED
        assert farm.kinds(project).count("message") == 5  # prompt, init, before, between, result


async def test_a_process_whose_supervisor_died_with_the_daemon_is_lost_and_never_completed(
    tmp_path,
):
    async def silent(child):
        await child.read()
        child.emit(line(INIT))
        await asyncio.Event().wait()

    machine = FakeMachine(silent)
    farm = Farm(tmp_path, machine)
    async with farm.open():
        project = await farm.project()
        execution = await farm.submit(project)
        async with asyncio.timeout(20):
            while "session.started" not in farm.kinds(project):
                await asyncio.sleep(0.01)
    for process in machine.processes.values():
        process.lose()
    async with farm.open():
        ended = await farm.ended(execution.id)
        assert (ended.state, ended.cause) == (ExecutionState.LOST, "shim_lost")


async def test_a_run_whose_shim_does_not_answer_is_not_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(lives, "ADOPT_RETRY_S", 0.01)

    class Deaf(FakeHost):
        refusals = 3

        async def adopt(self, process):
            if self.refusals:
                self.refusals -= 1
                raise HiveError("UNAVAILABLE", "The shim does not answer.")
            return await super().adopt(process)

    machine = FakeMachine(asks)
    farm = Farm(tmp_path, machine)
    async with farm.open():
        execution = await farm.submit(await farm.project())
        approval = await farm.waiting(execution.id)
    async with farm.open(Deaf(machine)):
        await farm.answer(approval)
        ended = await farm.ended(execution.id)
        assert (ended.state, ended.stalled) == (ExecutionState.COMPLETED, None)


async def test_a_kill_before_the_process_exists_cancels_the_execution(tmp_path):
    class Slow(FakeHost):
        async def start(self, process, launch):
            raise HiveError("STORAGE_FULL")

    machine = FakeMachine(plain)
    async with Farm(tmp_path, machine).open(Slow(machine)) as farm:
        execution = await farm.submit(await farm.project())
        async with asyncio.timeout(20):
            while (await farm.engine.find(execution.id)).stalled != "storage_full":
                await asyncio.sleep(0.01)
        killed = await farm.engine.kill(
            [execution.id], mode=StopMode.TERMINATE, by="user:t", note="enough"
        )
        assert (killed[0].state, killed[0].cause, killed[0].message) == (
            ExecutionState.CANCELLED,
            "killed",
            "enough",
        )


async def test_a_directory_that_changed_fails_the_execution_and_puts_the_project_in_error(tmp_path):
    machine = FakeMachine(plain)
    async with Farm(tmp_path, machine).open() as farm:
        project = await farm.project()
        farm.directory.rename(tmp_path / "elsewhere")
        ended = await farm.ended((await farm.submit(project)).id)
        assert (ended.state, ended.cause) == (ExecutionState.FAILED, "spawn_failed")
        found = await farm.db.write(lambda tx: projects.find(tx, project.id))
        assert found.state is ProjectState.ERROR
        (tmp_path / "elsewhere").rename(farm.directory)
        again = await farm.ended((await farm.submit(project)).id)
        assert again.state is ExecutionState.COMPLETED
        assert (
            await farm.db.write(lambda tx: projects.find(tx, project.id))
        ).state is ProjectState.IDLE


@pytest.mark.parametrize("decision", [True, False])
async def test_the_wall_clock_stands_still_while_a_person_thinks(tmp_path, decision):
    machine = FakeMachine(asks)
    async with Farm(tmp_path, machine).open() as farm:
        execution = await farm.submit(await farm.project(), timeout_s=0.5)
        approval = await farm.waiting(execution.id)
        await asyncio.sleep(0.8)  # longer than the whole limit
        await farm.answer(approval, allow=decision)
        ended = await farm.ended(execution.id)
        assert ended.state is ExecutionState.COMPLETED
        assert ended.waited_us > 700_000
