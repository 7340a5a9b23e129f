"""What two do at once, and what a crash leaves half done: stops, answers, deletions, the clock."""

import asyncio
import json

import pytest

from hivectl.engine import live as lives
from hivectl.journal import reader
from hivectl.journal.record import Draft
from hivectl.kit.ids import make_id, make_uuid
from hivectl.model.errors import HiveError
from hivectl.model.work import ExecutionState
from hivectl.ports import Launch, StopMode
from hivectl.store import people, projects, queue, work
from hivectl.testing.processes import FakeHandle, FakeHost, FakeMachine
from tests.unit.engine.test_runner import INIT, Farm, asks, line, plain, verdict


async def claimed_and_dead(farm, project):
    """An execution whose daemon died right after the claim, before anything was started."""
    farm.engine.is_draining = True
    wish = work.Wish(
        order=make_id("o"), execution=make_id("x"), project=project, prompt="hi", prompt_uuid=make_uuid(),
        message={"kind": "prompt"}, session="current", fork=False, options={}, priority="normal", actor="user:t", request="r",
        key=None, hash="", refuse_if_busy=False, max_orders=9, key_age_us=1,
    )  # fmt: skip
    await farm.db.write(lambda tx: work.enqueue(tx, wish))
    await farm.db.write(lambda tx: queue.claim(tx, queue.Caps(max_live=9), process=make_id("pr")))
    return wish.execution


async def test_a_kill_that_was_stored_before_a_crash_is_not_followed_by_a_start(tmp_path):
    machine = FakeMachine(plain)
    farm = Farm(tmp_path, machine)
    async with farm.open():
        id_ = await claimed_and_dead(farm, await farm.project())
        await farm.db.write(
            lambda tx: work.want_stop(
                tx, id_, mode="terminate", reason="user", by="user:t", note="no"
            )
        )
    async with farm.open():
        ended = await farm.ended(id_)
    assert (ended.state, ended.message, machine.starts) == (ExecutionState.CANCELLED, "no", [])


async def test_claude_never_hears_a_prompt_that_was_stopped_while_its_process_started(tmp_path):
    frames = []

    async def listens(child):
        while (frame := await child.read()) is not None:
            frames.append(json.loads(frame))
        return 0

    class Slow(FakeHost):
        async def start(self, process, launch):
            starting.set()
            await killed.wait()
            return await super().start(process, launch)

    starting, killed = asyncio.Event(), asyncio.Event()
    machine = FakeMachine(listens)
    async with Farm(tmp_path, machine).open(Slow(machine)) as farm:
        execution = await farm.submit(await farm.project())
        await starting.wait()
        kill = asyncio.ensure_future(
            farm.engine.kill([execution.id], mode=StopMode.TERMINATE, by="user:t", note="")
        )
        runner = farm.engine.runners[execution.id]
        async with asyncio.timeout(20):
            while runner._live.stop is None:
                await asyncio.sleep(0.01)
        killed.set()
        assert (await kill)[0].state is ExecutionState.CANCELLED
    assert not [frame for frame in frames if frame["type"] == "user"]


async def test_a_softer_stop_takes_nothing_back_from_a_harder_one(tmp_path):
    async with Farm(tmp_path, FakeMachine(plain)).open() as farm:
        id_ = await claimed_and_dead(farm, await farm.project())
        for mode, by in (("terminate", "user:a"), ("interrupt", "user:b"), ("kill", "user:c")):
            found = await farm.db.write(
                lambda tx, m=mode, b=by: work.want_stop(tx, id_, mode=m, reason="user", by=b)
            )
            assert found.stop_mode == ("kill" if mode == "kill" else "terminate")
        assert found.stop_by == "user:c"


async def test_a_rule_that_answers_gives_a_run_no_time_back(tmp_path):
    async def asks_twice(child):
        for number in (1, 2):
            await child.read()
            request = {"subtype": "can_use_tool", "tool_name": "Write", "input": {"file_path": "x"}}
            asked = {"type": "control_request", "request_id": f"q{number}", "request": request}
            child.emit(line(INIT) + line(asked))
            if number == 1:
                await child.read()
                await gate.wait()
                child._process.frames.append(b"{}")
        await child.read()
        child.emit(line(verdict()))
        while await child.read() is not None:
            pass
        return 0

    gate = asyncio.Event()
    machine = FakeMachine(asks_twice)
    async with Farm(tmp_path, machine).open() as farm:
        execution = await farm.submit(await farm.project(), timeout_s=100.0)
        approval = await farm.waiting(execution.id)
        await farm.answer(approval)
        rule = {"id": "po_1", "action": "allow", "tool": "Write", "match": {}, "project": None, "note": ""}  # fmt: skip
        await farm.db.write(
            lambda tx: people.add_policy(tx, rule, first=True, by="user:t", request_id="r")
        )
        farm.engine.runners[
            execution.id
        ]._deadline._ran_s += 60.0  # a minute later: 40 s of the limit are left
        process = machine.processes[machine.starts[0]]
        gate.set()
        ended = await farm.ended(execution.id)
    assert ended.state is ExecutionState.COMPLETED
    assert process.deadline_s < 45


async def test_a_run_survives_a_shim_that_does_not_answer_for_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(lives, "ADOPT_RETRY_S", 0.01)
    refusals = {"set_deadline": 3, "close_stdin": 3}

    class Frozen(FakeHandle):
        async def set_deadline(self, seconds):
            self.refuse("set_deadline")
            await super().set_deadline(seconds)

        async def close_stdin(self, *, hang):
            self.refuse("close_stdin")
            await super().close_stdin(hang=hang)

        def refuse(self, what):
            if refusals[what]:
                refusals[what] -= 1
                raise HiveError("UNAVAILABLE", "the shim does not answer")

    class Host(FakeHost):
        def _handle(self, process):
            handle = Frozen(process)
            self._handles.append(handle)
            return handle

    machine = FakeMachine(asks)
    async with Farm(tmp_path, machine).open(Host(machine)) as farm:
        execution = await farm.submit(await farm.project())
        await farm.answer(await farm.waiting(execution.id))
        ended = await farm.ended(execution.id)
    assert (ended.state, ended.result) == (ExecutionState.COMPLETED, "allow")
    assert refusals == {"set_deadline": 0, "close_stdin": 0}


async def test_one_process_that_cannot_be_cleared_does_not_keep_the_others(tmp_path):
    class Stubborn(FakeHost):
        async def adopt(self, process):
            if process == "pr_a":
                raise HiveError("UNAVAILABLE", "the shim does not answer")
            return await super().adopt(process)

    async def idle(child):
        await asyncio.Event().wait()

    machine = FakeMachine(idle)
    launch = Launch(argv=("x",), env={}, cwd=tmp_path, mark="x")
    for name in ("pr_a", "pr_b"):
        machine.start(name, launch)
    async with Farm(tmp_path, machine).open(Stubborn(machine)):
        async with asyncio.timeout(20):
            while "pr_b" in machine.processes:
                await asyncio.sleep(0.01)
        assert "pr_a" in machine.processes
    await machine.switch_off()


async def test_a_prompt_for_a_project_deleted_meanwhile_is_refused_with_its_reason(tmp_path):
    async with Farm(tmp_path, FakeMachine(plain)).open() as farm:
        project = await farm.project()
        await farm.db.write(lambda tx: projects.delete(tx, project.id, actor="u", request="r"))
        with pytest.raises(HiveError) as caught:
            await farm.submit(project)
    assert caught.value.code == "PROJECT_NOT_FOUND"


async def test_the_position_of_an_acceptance_is_that_of_its_own_events(tmp_path):
    async with Farm(tmp_path, FakeMachine(plain)).open() as farm:
        project = await farm.project()
        log = farm.journal.open(project.stream)
        on_event = farm.db.on_commit

        def more_follows_at_once(companion, events):
            on_event(companion, events)
            if any(event.type == "execution.created" for event in events):
                farm.engine.world.publisher.append(project.stream, [Draft("stderr", b"{}", 1)])

        farm.db.on_commit = more_follows_at_once
        wish = work.Wish(
            order=make_id("o"), execution=make_id("x"), project=project, prompt="hi", prompt_uuid=make_uuid(),
            message={"kind": "prompt"}, session="current", fork=False, options={}, priority="normal", actor="user:t", request="r",
            key="k", hash="", refuse_if_busy=False, max_orders=9, key_age_us=10**12,
        )  # fmt: skip
        accepted = await farm.engine.submit(wish)
        events = reader.read_after(log, 0, 100)
        prompt = next(e for e in events if e.type == "message")
        assert accepted.position == (log.epoch, prompt.seq)
        assert (await farm.engine.submit(wish)).is_replayed
        await farm.ended(accepted.execution.id)
        assert not farm.engine._accepted


async def test_a_log_does_not_carry_processes_that_ended_before_a_restart(tmp_path):
    farm = Farm(tmp_path, FakeMachine(plain))
    for _ in range(3):
        async with farm.open():
            known = await farm.db.all("SELECT id FROM projects")
            id_ = known[0]["id"] if known else (await farm.project()).id
            found = await farm.db.write(lambda tx, i=id_: projects.find(tx, i))
            await farm.ended((await farm.submit(found)).id)
            log = farm.journal.open(found.stream)
            log._needs_snapshot = False
            log._is_marked_closed = True  # the daemon died: its last snapshot is an old one
            async with asyncio.timeout(20):
                while farm.engine.runners:
                    await asyncio.sleep(0.01)
            assert not log.source_processes()
