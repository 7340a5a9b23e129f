"""Questions nobody answers, with a clock that the test sets; and what a lost reply costs."""

import asyncio
import json

import pytest

from hivectl.engine.rebuild import rebuild
from hivectl.kit.clock import FakeClock, SystemClock
from hivectl.model.question import QuestionState
from hivectl.model.work import ExecutionState
from hivectl.store import questions
from hivectl.store.database import Database
from hivectl.testing.processes import FakeHost, FakeMachine
from tests.unit.engine.test_rebuild import wished
from tests.unit.engine.test_runner import INIT, Farm, line, verdict
from tests.unit.services.test_questions import asks

TIMED = {"question__timeout_s": 600, "question__on_timeout": "default"}
ASK = {"question": "Which?", "choices": ["a", "b"]}


async def pending(farm, execution):
    """Its question, once it waits."""
    found = await farm.engine.wait(execution.id, timeout_s=20, or_waiting=True)
    assert found.state is ExecutionState.WAITING
    (row,) = await farm.db.all("SELECT id FROM questions WHERE execution = ?", execution.id)
    return await stored(farm, row["id"])


async def stored(farm, id_):
    return await farm.db.write(lambda tx: questions.find(tx, id_))


async def answer(farm, id_, text="b"):
    said = {"text": text, "choices": [], "declined": False}
    return await farm.engine.answer(lambda tx: questions.answer(tx, id_, said, by="user:t"))


@pytest.mark.parametrize(
    ("on_timeout", "heard"),
    [("default", "Nobody answered in time. Decide"), ("deny", "!Nobody answered in time. Do not")],
)
async def test_it_expires_after_its_time_and_not_before(tmp_path, on_timeout, heard):
    clock = FakeClock()
    timed = {**TIMED, "question__on_timeout": on_timeout}
    async with Farm(tmp_path, FakeMachine(asks(ASK))).open(clock=clock, **timed) as farm:
        project = await farm.project()
        execution = await farm.submit(project)
        question = await pending(farm, execution)
        assert question.expires_us == question.created_us + 600_000_000
        clock.advance(599)
        assert await farm.engine.questions.look() == question.expires_us
        assert (await stored(farm, question.id)).state is QuestionState.PENDING
        clock.advance(1)
        assert await farm.engine.questions.look() is None
        assert (await farm.ended(execution.id)).result.startswith(heard)
        assert (await stored(farm, question.id)).state is QuestionState.EXPIRED
        assert farm.kinds(project).count("question.expired") == 1


async def test_by_default_it_waits_whatever_time_passes(tmp_path):
    clock = FakeClock()
    timed = {"question__timeout_s": 600}
    async with Farm(tmp_path, FakeMachine(asks(ASK))).open(clock=clock, **timed) as farm:
        execution = await farm.submit(await farm.project())
        question = await pending(farm, execution)
        clock.advance(30 * 86_400)
        assert await farm.engine.questions.look() is None
        await answer(farm, question.id)
        assert (await farm.ended(execution.id)).result == "b"


async def test_time_also_passes_while_no_daemon_runs(tmp_path):
    clock = FakeClock()
    farm = Farm(tmp_path, FakeMachine(asks(ASK)))
    async with farm.open(clock=clock, **TIMED):
        execution = await farm.submit(await farm.project())
        question = await pending(farm, execution)
    clock.advance(700)
    async with farm.open(clock=clock):  # what is set later holds for later questions
        ended = await farm.ended(execution.id)
        assert ended.result.startswith("Nobody answered in time")
        assert (await stored(farm, question.id)).state is QuestionState.EXPIRED


async def test_an_answer_before_its_time_stands(tmp_path):
    clock = FakeClock()
    async with Farm(tmp_path, FakeMachine(asks(ASK))).open(clock=clock, **TIMED) as farm:
        execution = await farm.submit(await farm.project())
        question = await pending(farm, execution)
        await answer(farm, question.id, "a")
        clock.advance(700)
        assert await farm.engine.questions.look() is None
        assert (await farm.ended(execution.id)).result == "a"
        assert (await stored(farm, question.id)).state is QuestionState.ANSWERED


async def test_an_answer_that_was_stored_but_not_heard_is_given_after_the_restart(tmp_path):
    farm = Farm(tmp_path, FakeMachine(asks(ASK)))
    async with farm.open():
        execution = await farm.submit(await farm.project())
        question = await pending(farm, execution)
        said = {"text": "b", "choices": [], "declined": False}
        await farm.db.write(lambda tx: questions.answer(tx, question.id, said, by="user:t"))
    async with farm.open():
        await farm.db.write(lambda tx: farm_goes_on(tx, execution.id))
        farm.engine.wake()
        assert (await farm.ended(execution.id)).result == "b"
        assert (await stored(farm, question.id)).is_delivered


def farm_goes_on(tx, id_):
    """What the transaction of an answer does as well."""
    from hivectl.store import work

    work.go_on(tx, id_)


async def greets(child):
    """A Claude that cannot go on before its server has said hello."""
    await child.read()
    await child.read()
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
    request = {"subtype": "mcp_message", "server_name": "hivectl", "message": message}
    child.emit(line({"type": "control_request", "request_id": "c1", "request": request}))
    said = json.loads(await child.read())
    child.emit(line(INIT) + line(verdict(said["response"]["request_id"])))
    while await child.read() is not None:
        pass
    return 0


async def test_a_reply_that_was_lost_with_the_daemon_is_given_by_the_next(tmp_path):
    """The request is in the log already: it is not read again, and Claude would wait for ever."""

    class Deaf(FakeHost):
        """Its processes hear everything but replies."""

        async def start(self, process, launch):
            handle = await super().start(process, launch)
            hear = handle.write

            async def write(frame, data):
                if frame.startswith("reply:"):
                    await asyncio.Event().wait()
                return await hear(frame, data)

            handle.write = write
            return handle

    machine = FakeMachine(greets)
    farm = Farm(tmp_path, machine)
    async with farm.open(host=Deaf(machine)):
        project = await farm.project()
        execution = await farm.submit(project)
        async with asyncio.timeout(20):
            while farm.kinds(project).count("message") < 2:  # prompt and request
                await asyncio.sleep(0.01)
    async with farm.open():
        assert (await farm.ended(execution.id)).result == "c1"


async def test_a_lost_database_gets_questions_and_threads_back_from_the_log(tmp_path):
    async with Farm(tmp_path, FakeMachine(asks(ASK, {"question": "And?"}))).open(**TIMED) as farm:
        wish = wished(await farm.project())
        execution = (await farm.engine.submit(wish)).execution
        async with asyncio.timeout(20):
            while len(found := await farm.db.all("SELECT * FROM questions ORDER BY id")) < 2:
                await asyncio.sleep(0.01)
        await answer(farm, found[0]["id"])
        db = await Database.open(tmp_path / "new.db", SystemClock())
        try:
            await rebuild(db, farm.journal)
            for select in (
                "SELECT * FROM questions WHERE state = 'pending'",
                "SELECT id, owner, project, execution, messages FROM chats",
                "SELECT * FROM chat_messages ORDER BY id",
            ):
                before, after = await farm.db.all(select), await db.all(select)
                assert [tuple(row) for row in after] == [tuple(row) for row in before]
                assert before
        finally:
            await db.close()
        await answer(farm, found[1]["id"])
        assert (await farm.ended(execution.id)).result == "b; b"
