"""Warm processes on a machine in memory: used again where all is the same, closed first where not."""

import asyncio
import json
from pathlib import Path

import pytest
from msgspec.structs import replace

from hivectl.engine import warm
from hivectl.kit.clock import FakeClock
from hivectl.kit.ids import make_uuid
from hivectl.model.work import ExecutionState
from hivectl.ports import AgentInfo, Launch, StopMode
from hivectl.store import projects, sessions
from hivectl.testing.processes import FakeMachine
from tests.unit.engine.test_runner import INIT, SESSION, Farm, line, said, verdict


async def talks(child):
    """Answers prompt after prompt, as Claude does."""
    number = 0
    while (frame := await child.read()) is not None:
        asked = json.loads(frame)
        if asked["type"] != "user":
            continue
        number += 1
        for event in (INIT, said(f"hello {number}"), verdict(f"answer {number}")):
            child.emit(line(event))
    return 0


async def prompted(child):
    """Wait for the next prompt."""
    while (frame := await child.read()) is not None:
        if json.loads(frame)["type"] == "user":
            return


def warm_farm(tmp_path, script=talks):
    return Farm(tmp_path, FakeMachine(script))


async def run(farm, project, **more):
    return await farm.ended((await farm.submit(project, **more)).id)


async def gone(farm, count=0):
    async with asyncio.timeout(20):
        while len(farm.machine.processes) > count:
            await asyncio.sleep(0.01)


async def test_the_second_prompt_is_written_into_the_living_process(tmp_path):
    farm = warm_farm(tmp_path)
    async with farm.open(session__warm=True):
        project = await farm.project()
        first = await run(farm, project)
        assert (first.state, first.result, first.exit_code, first.message) == (
            ExecutionState.COMPLETED,
            "answer 1",
            None,
            "",
        )
        second = await run(farm, project)
        assert (second.state, second.result) == (ExecutionState.COMPLETED, "answer 2")
        assert second.process == first.process
        assert second.output_start > 0
        assert len(farm.machine.starts) == 1
        [process] = farm.machine.processes.values()
        assert len([f for f in process.written if f.startswith("prompt")]) == 2
        kinds = farm.kinds(project)
        assert kinds.count("execution.ended") == 2
        assert kinds.count("message") == 2 * 4, "prompt, init, assistant, result: each once"
    assert await machine_is_empty_after_stop(farm)


async def machine_is_empty_after_stop(farm):
    """A restart sweeps what still waits: it belongs to no execution."""
    async with farm.open():
        await gone(farm)
    return True


async def test_a_process_that_waits_is_closed_when_its_conversation_ends(tmp_path):
    clock = FakeClock()
    farm = warm_farm(tmp_path)
    async with farm.open(clock=clock, session__warm=True):
        project = await farm.project()
        await run(farm, project)
        [process] = farm.machine.processes.values()
        assert process.deadline_s == 1800 + warm.ALONE_S, "its shim ends it if no daemon does"
        assert farm.engine.parking.find(SESSION).process == process.name
        clock.advance(1800)
        await farm.engine.keep_alive.look()
        await gone(farm)
        assert (process.exit.code, process.rungs) == (0, [])
        assert farm.engine.parking.parked == []
        again = await run(farm, project)
        assert (again.state, again.resume) == (ExecutionState.COMPLETED, True)
        assert len(farm.machine.starts) == 2


@pytest.mark.parametrize(
    "more", [{"model": "sonnet"}, {"max_turns": 3}, {"no_output_timeout_s": 60.0}]
)
async def test_what_differs_closes_it_first_and_starts_cold(tmp_path, more):
    farm = warm_farm(tmp_path)
    async with farm.open(session__warm=True):
        project = await farm.project()
        first = await run(farm, project)
        [process] = farm.machine.processes.values()
        second = await run(farm, project, **more)
        assert second.process != first.process
        assert second.result == "answer 1"
        assert process.exit.code == 0
        assert process.name not in farm.machine.processes


async def test_another_time_limit_is_no_other_process(tmp_path):
    farm = warm_farm(tmp_path)
    async with farm.open(session__warm=True):
        project = await farm.project()
        first = await run(farm, project)
        second = await farm.submit(project, timeout_s=77.0)
        assert (await farm.ended(second.id)).process == first.process


async def test_a_changed_project_closes_what_waits(tmp_path):
    farm = warm_farm(tmp_path)
    async with farm.open(session__warm=True):
        project = await farm.project()
        await run(farm, project)
        change = {"defaults": {"model": "sonnet"}}
        await farm.db.write(
            lambda tx: projects.update(tx, "web", change, version=None, actor="u", request="r")
        )
        await gone(farm)


async def test_a_new_conversation_has_a_process_of_its_own_and_the_oldest_makes_room(tmp_path):
    async def names_itself(child):
        session = next(a for a in child.launch.argv if a.startswith(("--session-id=", "--resume=")))
        own = {"session_id": session.partition("=")[2]}
        while (frame := await child.read()) is not None:
            if json.loads(frame)["type"] == "user":
                child.emit(line(INIT | own) + line(verdict() | own))
        return 0

    farm = warm_farm(tmp_path, names_itself)
    async with farm.open(session__warm=True, session__max_warm=2):
        project = await farm.project()
        ended = [await run(farm, project, session="new") for _ in range(3)]
        await gone(farm, 2)
        parked = [p.session for p in farm.engine.parking.parked]
        assert parked == [ended[1].session, ended[2].session]
        back = await run(farm, project, session=ended[1].session)
        assert back.process == ended[1].process


async def test_an_error_leaves_nothing_warm(tmp_path):
    async def fails(child):
        await child.read()
        bad = verdict() | {"is_error": True, "subtype": "error_during_execution"}
        child.emit(line(INIT) + line(bad))
        while await child.read() is not None:
            pass
        return 0

    farm = warm_farm(tmp_path, fails)
    async with farm.open(session__warm=True):
        ended = await run(farm, await farm.project())
        assert (ended.state, ended.exit_code) == (ExecutionState.FAILED, 0)
        assert farm.engine.parking.parked == []


async def test_a_kill_ends_the_warm_process_with_the_execution_it_carries(tmp_path):
    async def hangs_the_second_time(child):
        await child.read()  # the greeting
        for is_first in (True, False):
            await child.read()
            child.emit(line(INIT))
            if is_first:
                child.emit(line(verdict()))
        await asyncio.Event().wait()

    farm = warm_farm(tmp_path, hangs_the_second_time)
    farm.machine.rungs_s = (0.01, 0.01, 0.01)
    async with farm.open(session__warm=True):
        project = await farm.project()
        first = await run(farm, project)
        second = await farm.submit(project)
        async with asyncio.timeout(20):
            while (await farm.engine.find(second.id)).state is not ExecutionState.RUNNING:
                await asyncio.sleep(0.01)
        [killed] = await farm.engine.kill(
            [second.id], mode=StopMode.TERMINATE, by="user:t", note="enough"
        )
        assert (killed.state, killed.process) == (ExecutionState.CANCELLED, first.process)
        assert farm.engine.parking.parked == []
        assert not farm.machine.processes


async def test_a_process_that_dies_while_it_waits_is_replaced(tmp_path):
    farm = warm_farm(tmp_path)
    async with farm.open(session__warm=True):
        project = await farm.project()
        await run(farm, project)
        [process] = farm.machine.processes.values()
        process.stop(StopMode.KILL, "user")
        await gone(farm)
        again = await run(farm, project)
        assert (again.state, again.result) == (ExecutionState.COMPLETED, "answer 1")
        assert len(farm.machine.starts) == 2


async def test_an_execution_on_a_warm_process_survives_the_daemon(tmp_path):
    gate = asyncio.Event()

    async def slow_the_second_time(child):
        for number in (1, 2):
            await child.read()
            child.emit(line(INIT) + line(said(f"hello {number}")))
            if number == 2:
                await gate.wait()
            child.emit(line(verdict(f"answer {number}")))
        while await child.read() is not None:
            pass
        return 0

    farm = warm_farm(tmp_path, slow_the_second_time)
    async with farm.open(session__warm=True):
        project = await farm.project()
        first = await run(farm, project)
        [process] = farm.machine.processes.values()
        second = await farm.submit(project)
        async with asyncio.timeout(20):
            while farm.kinds(project).count("session.started") < 2:
                await asyncio.sleep(0.01)
    gate.set()
    async with farm.open(session__warm=True):
        ended = await farm.ended(second.id)
        assert (ended.state, ended.result) == (ExecutionState.COMPLETED, "answer 2")
        assert (ended.process, ended.exit_code) == (first.process, 0)
        assert farm.kinds(project).count("message") == 2 * 4
    assert len([frame for frame in process.written if frame.startswith("prompt")]) == 2


async def test_a_project_can_be_warm_by_itself(tmp_path):
    farm = warm_farm(tmp_path)
    async with farm.open():
        project = replace(await farm.project(), defaults={"warm": True})
        await farm.db.write(
            lambda tx: projects.update(
                tx, "web", {"defaults": {"warm": True}}, version=None, actor="u", request="r"
            )
        )
        first = await run(farm, project)
        second = await run(farm, project)
        assert first.process == second.process


async def test_a_reset_closes_the_warm_process(tmp_path):
    farm = warm_farm(tmp_path)
    async with farm.open(session__warm=True):
        project = await farm.project()
        await run(farm, project)
        await farm.db.write(lambda tx: projects.reset_session(tx, "web", actor="u", request="r"))
        await gone(farm)
        assert await farm.db.write(lambda tx: sessions.find(tx, SESSION).state) == "reset"


def launch(**more):
    given = {"argv": ("claude", "-p"), "env": {"A": "1"}, "cwd": Path("/p"), "mark": "x_1"}
    return Launch(**{**given, **more})


@pytest.mark.parametrize(
    "other",
    [
        {"argv": ("claude", "-p", "--model=opus")},
        {"env": {"A": "2"}},
        {"cwd": Path("/q")},
        {"files": {"settings.json": b"{}"}},
        {"hang_s": 3.0},
        {"keep_descendants": True},
    ],
)
def test_each_part_of_a_start_is_in_its_signature(other):
    info = AgentInfo(path=Path("/c"), version="1")
    assert warm.signature_of(launch(), info, trust_hash=None) != warm.signature_of(
        launch(**other), info, trust_hash=None
    )


def test_the_executable_and_the_trusted_files_are_in_it_and_the_execution_is_not():
    info = AgentInfo(path=Path("/c"), version="1")
    one = warm.signature_of(launch(), info, trust_hash="a")
    again = launch(env={"A": "1", "HIVECTL_EXECUTION": make_uuid()}, mark="x_2", deadline_s=5.0)
    assert warm.signature_of(again, info, trust_hash="a") == one
    assert warm.signature_of(launch(), info, trust_hash="b") != one
    assert warm.signature_of(launch(), replace(info, version="2"), trust_hash="a") != one


LIFECYCLE = {"type": "command_lifecycle", "command_uuid": make_uuid(), "uuid": make_uuid()}


@pytest.mark.parametrize(
    "afterwords",
    [
        [],
        [{**LIFECYCLE, "state": "completed"}],
        [{"type": "rate_limit_event", "rate_limit_info": {"status": "allowed"}}],
        [
            {
                "type": "system",
                "subtype": "task_notification",
                "task_id": "t",
                "status": "completed",
            },
            {"type": "system", "subtype": "background_tasks_changed", "tasks": []},
            {"type": "system", "subtype": "session_state_changed", "state": "idle"},
        ],
    ],
)
async def test_a_prompt_that_a_dying_process_never_heard_is_given_to_a_new_one(
    tmp_path, afterwords
):
    async def dies_at_the_second(child):
        if len(farm.machine.starts) > 1:
            return await talks(child)
        await prompted(child)
        child.emit(line(INIT) + line(verdict("answer 1")))
        await prompted(child)
        child.emit(b"".join(map(line, afterwords)))
        return 137

    farm = warm_farm(tmp_path, dies_at_the_second)
    async with farm.open(session__warm=True):
        project = await farm.project()
        first = await run(farm, project)
        second = await run(farm, project)
        assert (second.state, second.result) == (ExecutionState.COMPLETED, "answer 1")
        assert second.process != first.process
        assert second.output_start == 0
        assert len(farm.machine.starts) == 2
        assert farm.kinds(project).count("execution.ended") == 2
        third = await run(farm, project)
        assert (third.process, third.result) == (second.process, "answer 2")


@pytest.mark.parametrize(
    "said",
    [
        {**LIFECYCLE, "state": "queued"},
        {"type": "system", "subtype": "session_state_changed", "state": "running"},
        {
            "type": "system",
            "subtype": "hook_started",
            "hook_id": "h",
            "hook_name": "UserPromptSubmit",
        },
    ],
)
async def test_a_prompt_that_a_dying_process_has_heard_is_told_to_nobody_else(tmp_path, said):
    async def dies_at_the_second(child):
        await prompted(child)
        child.emit(line(INIT) + line(verdict("answer 1")))
        await prompted(child)
        child.emit(line(said))
        return 137

    farm = warm_farm(tmp_path, dies_at_the_second)
    async with farm.open(session__warm=True):
        project = await farm.project()
        await run(farm, project)
        second = await run(farm, project)
        assert second.state is ExecutionState.FAILED
        assert len(farm.machine.starts) == 1
