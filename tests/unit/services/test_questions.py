"""Questions in one shape, answered once; and what does not fit them."""

import asyncio
import json

import pytest

from hivectl.kit.ids import make_id
from hivectl.model.access import PERSON_SCOPES, Caller, Scope
from hivectl.model.errors import HiveError
from hivectl.model.question import PENDING_MAX
from hivectl.protocol.methods import METHODS
from hivectl.server.dispatch import check_scope
from tests.unit.engine.test_runner import INIT, line, verdict
from tests.unit.services.conftest import CALLER

WORKER = Caller(actor="token:w", scopes=frozenset({Scope.READ, Scope.WORK}), request="r_2")
CHOICES = ["Red", "Blue"]


def asks(*calls):
    """A Claude that calls ask_human and repeats the answers in its result."""

    async def play(child):
        await child.read()
        await child.read()
        child.emit(line(INIT))
        for number, arguments in enumerate(calls):
            message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": "ask_human", "arguments": arguments}}  # fmt: skip
            request = {"subtype": "mcp_message", "server_name": "hivectl", "message": message}
            child.emit(
                line({"type": "control_request", "request_id": f"c{number}", "request": request})
            )
        heard = []
        while len(heard) < len(calls):
            frame = json.loads(await child.read())
            if frame["type"] == "control_response":
                result = frame["response"]["response"]["mcp_response"]["result"]
                heard.append(("!" if result.get("isError") else "") + result["content"][0]["text"])
        child.emit(line(verdict("; ".join(heard))))
        while await child.read() is not None:
            pass
        return 0

    return play


async def started(d, tmp_path, **project):
    (tmp_path / "web").mkdir(exist_ok=True)
    await d.call("project.create", path=str(tmp_path / "web"), **project)
    return (await d.call("execute", project="web", prompt="hi"))["execution"]


async def asked(d, execution, count=1):
    async with asyncio.timeout(20):
        while True:
            items = (await d.call("question.list", execution=execution))["items"]
            if len(items) == count:
                return items if count > 1 else items[0]
            await asyncio.sleep(0.01)


async def refused(d, **answer):
    with pytest.raises(HiveError) as caught:
        await d.call("question.answer", **answer)
    assert caught.value.code == "INVALID_PARAMS"
    return caught.value.details["errors"][0]["pointer"]


async def test_an_answer_fits_what_was_asked(desk, tmp_path):
    async with desk(asks({"question": "Which?", "choices": CHOICES})) as d:
        execution = await started(d, tmp_path)
        id_ = (await asked(d, execution))["id"]
        assert await refused(d, id=id_) == "/text"
        assert await refused(d, id=id_, choices=[3]) == "/choices"
        assert await refused(d, id=id_, choices=["Green"]) == "/choices"
        assert await refused(d, id=id_, choices=[1, 2]) == "/choices"
        assert await refused(d, id=id_, answers={"Who?": "x"}) == "/answers"
        assert await refused(d, id=id_, decline=True, choices=[1]) == "/choices"
        with pytest.raises(HiveError) as caught:
            await d.call("question.answer", id=id_, version=9, text="x")
        assert caught.value.code == "VERSION_CONFLICT"
        done = await d.call("question.answer", id=id_, answers={"Which?": "Blue"})
        assert (done["answer"], done["answered_by"], done["version"]) == ("Blue", "user:t", 2)
        assert (await d.call("execution.wait", execution=execution))["result"] == "Blue"
        with pytest.raises(HiveError) as caught:
            await d.call("question.answer", id=id_, text="again")
        assert caught.value.details["answered_by"] == "user:t"


async def test_several_choices_where_several_may_be_taken_and_a_declined_one(desk, tmp_path):
    calls = {"question": "Which?", "choices": CHOICES, "multi": True}, {"question": "And why?"}
    async with desk(asks(*calls)) as d:
        execution = await started(d, tmp_path)
        first, second = await asked(d, execution, count=2)
        await d.call("question.answer", id=first["id"], choices=[2, "Red", 2])
        # One still waits: the execution does as well.
        assert (await d.call("execution.get", execution=execution))["state"] == "waiting"
        declined = await d.call("question.answer", id=second["id"], decline=True, text="no time")
        assert (declined["declined"], declined["state"]) == (True, "answered")
        ended = await d.call("execution.wait", execution=execution)
        assert ended["result"] == "Blue, Red; !The person declined to answer. no time"


async def test_more_than_so_many_at_once_are_not_asked(desk, tmp_path):
    calls = [{"question": f"{n}?"} for n in range(PENDING_MAX + 1)]
    async with desk(asks(*calls)) as d:
        execution = await started(d, tmp_path)
        for item in await asked(d, execution, count=PENDING_MAX):
            await d.call("question.answer", id=item["id"], text="ok")
        ended = await d.call("execution.wait", execution=execution)
        assert ended["result"].count("ok") == PENDING_MAX
        assert "!20 questions of yours wait already" in ended["result"]


async def test_a_worker_asks_and_reads_the_answer(desk):
    async with desk() as d:
        item = await d.call("question.ask", caller=WORKER, text="Go on?", choices=["yes", "no"])
        assert (item["source"], item["asker"], item["execution"]) == ("worker", "token:w", None)
        waiting = asyncio.ensure_future(d.call("question.wait", id=item["id"], timeout_s=20))
        await asyncio.sleep(0)
        await d.call("question.answer", id=item["id"], choices=["yes"])
        assert (await waiting)["answer"] == "yes"
        again = await d.call("question.ask", caller=WORKER, text="Still?")
        with pytest.raises(HiveError) as caught:
            await d.call("question.wait", id=again["id"], timeout_s=0.05)
        assert caught.value.code == "WAIT_TIMEOUT"


async def test_a_worker_cannot_flood_people(desk):
    async with desk() as d:
        for number in range(PENDING_MAX):
            await d.call("question.ask", caller=WORKER, text=f"{number}?")
        with pytest.raises(HiveError) as caught:
            await d.call("question.ask", caller=WORKER, text="one more?")
        assert caught.value.code == "RESOURCE_LIMIT"
        pages = await d.pages("question.list", limit=7)
        assert [len(page) for page in pages] == [7, 7, 6]
        assert len({item["id"] for page in pages for item in page}) == PENDING_MAX


async def test_a_question_of_a_program_in_an_execution_stops_nothing(desk, tmp_path):
    async with desk(asks({"question": "Which?"})) as d:
        execution = await started(d, tmp_path)
        first = await asked(d, execution)
        child = Caller(actor="user:t", scopes=PERSON_SCOPES, execution=execution, request="r_3")
        own = await d.call("question.ask", caller=child, text="And this?")
        assert (own["asker"], own["thread"]) == (f"execution:{execution}", first["thread"])
        waiting = await d.call("execution.get", execution=execution)
        assert waiting["waiting_for"] == [first["id"]]
        with pytest.raises(HiveError):
            await d.call("question.ask", caller=child, text="x", execution=make_id("x"))
        await d.call("question.answer", id=first["id"], text="a")
        await d.call("execution.wait", execution=execution)
        # Nobody is left to hear it.
        assert (await d.call("question.get", id=own["id"]))["state"] == "withdrawn"


def test_s16_whoever_works_may_ask_and_never_answer():
    child = Caller(actor="user:t", scopes=PERSON_SCOPES, execution="x_1")
    for caller in (child, WORKER):
        check_scope(caller, METHODS["question.ask"])
        with pytest.raises(HiveError):
            check_scope(caller, METHODS["question.answer"])
    with pytest.raises(HiveError):
        check_scope(Caller(actor="user:t", scopes=frozenset({Scope.READ})), METHODS["question.ask"])


async def test_what_does_not_exist_is_not_found(desk):
    async with desk() as d:
        for method in ("question.get", "question.wait"):
            for id_ in ("q_1", "a_1", "x"):
                with pytest.raises(HiveError) as caught:
                    await d.call(method, id=id_)
                assert caught.value.code == "QUESTION_NOT_FOUND"
        with pytest.raises(HiveError) as caught:
            await d.call("question.ask", caller=WORKER, text="?", execution="x_1")
        assert caught.value.code == "EXECUTION_NOT_FOUND"
        assert CALLER.allows(Scope.ASK)


async def test_claude_withdraws_its_question(desk, tmp_path):
    async def gives_up(child):
        await child.read()
        await child.read()
        arguments = {"question": "Which?"}
        calls = {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "ask_human", "arguments": arguments}}  # fmt: skip
        gone = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}}
        child.emit(line(INIT))
        for number, message in enumerate((calls, gone)):
            request = {"subtype": "mcp_message", "server_name": "hivectl", "message": message}
            child.emit(
                line({"type": "control_request", "request_id": f"c{number}", "request": request})
            )
        child.emit(line(verdict()))
        while await child.read() is not None:
            pass
        return 0

    async with desk(gives_up) as d:
        execution = await started(d, tmp_path)
        ended = await d.call("execution.wait", execution=execution)
        assert ended["state"] == "completed"
        (item,) = (await d.call("question.list", state="all"))["items"]
        assert item["state"] == "withdrawn"
