"""The base class of workers against a scripted daemon: what it says, and when it says it again."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from hivectl import config
from hivectl.client import HiveError, Permanent, Unanswered, Worker
from hivectl.testing.daemon import FakeDaemon

JOB = {
    "execution": "x_1", "work_order": "o_1", "attempt": 1, "prompt": "do it", "session": "current", "options": {}, "priority": "normal",
    "pool": "external", "state": "running", "cancel": False, "outputs": 0, "lease_until": "", "project": {"id": "p_1", "name": "web", "path": "/srv/web"},
}  # fmt: skip
HEARD = {"worker": "w_1", "lease_until": "", "is_draining": False, "execution": "x_1", "state": "running", "cancel": False, "cancel_reason": None}  # fmt: skip


class Doing(Worker):
    def __init__(self, daemon, how, **options):
        settings = config.load(env={"HIVECTL_HOME": str(daemon.home), "HOME": str(daemon.home)})
        super().__init__("ada", settings=settings, **options)
        self.how, self.jobs = how, []

    async def handle(self, job):
        self.jobs.append(job)
        return await self.how(job)


@pytest.fixture
def daemon(tmp_path):
    with FakeDaemon(tmp_path) as fake:
        jobs = [JOB]

        async def claim(_params):
            if not jobs:
                await asyncio.sleep(0.05)
            return {"job": jobs.pop() if jobs else None, "is_draining": False, "lease_until": ""}

        fake.answers |= {
            "worker.register": lambda p: {
                "worker": "w_1", "name": p["name"], "pools": p["pools"], "lease_s": 0.3, "lease_until": "", "lost": None
            },
            "worker.deregister": lambda _p: {"worker": "w_1", "name": "ada", "lost": None},
            "worker.heartbeat": lambda _p: HEARD | {"execution": None},
            "queue.heartbeat": lambda _p: HEARD,
            "queue.claim": claim,
            "queue.output": lambda p: {
                "next": p["first"] + len(p["messages"]), "cancel": False, "lease_until": ""
            },
            "queue.complete": lambda _p: {},
            "queue.fail": lambda _p: {},
        }  # fmt: skip
        yield fake


@asynccontextmanager
async def working(worker):
    running = asyncio.ensure_future(worker.run())
    try:
        yield running
    finally:
        worker.stop()
        async with asyncio.timeout(10):
            await asyncio.wait([running])
    if not running.cancelled() and running.exception() is None:
        assert not running.result()


async def said(daemon, method, count=1):
    return await asyncio.to_thread(daemon.wait_for, method, count=count)


async def test_what_is_returned_completes_and_leaving_is_said(daemon):
    async def how(job):
        job.usage = {"input_tokens": 3}
        await job.output("a" * 120_000)
        return {"words": 3}

    async with working(Doing(daemon, how)):
        done = await said(daemon, "queue.complete")
    assert (done["result"], done["structured"]) == ('{"words": 3}', {"words": 3})
    assert done["usage"] == {"input_tokens": 3}
    posted = await said(daemon, "queue.output")
    assert [len(message["text"]) for message in posted["messages"]] == [50_000, 50_000, 20_000]
    assert [name for name, _ in daemon.requests][-1] == "worker.deregister"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("no number"), ("ValueError: no number", None)),
        (Permanent("never"), ("never", False)),
    ],
)
async def test_what_is_raised_fails(daemon, error, expected):
    async def how(_job):
        raise error

    async with working(Doing(daemon, how)):
        failed = await said(daemon, "queue.fail")
    assert (failed["message"], failed.get("retryable")) == expected


async def test_a_result_that_is_no_json_fails_and_the_worker_works_on(daemon):
    async def how(_job):
        return object()

    async with working(Doing(daemon, how)) as running:
        failed = await said(daemon, "queue.fail")
        assert failed["message"].startswith("TypeError")
        assert not running.done()


async def test_a_result_that_the_daemon_refuses_is_told_as_a_failure(daemon):
    def refuse(_params):
        raise HiveError("TOO_LARGE", "The structured result may have 1 byte.")

    daemon.answers["queue.complete"] = refuse

    async def how(_job):
        return "too much"

    async with working(Doing(daemon, how)):
        assert (await said(daemon, "queue.fail"))["message"].startswith("The structured result")


async def test_a_cancellation_stops_the_handler(daemon):
    daemon.answers["queue.heartbeat"] = lambda _p: (
        HEARD | {"cancel": True, "cancel_reason": "enough"}
    )

    async def how(_job):
        await asyncio.Event().wait()

    worker = Doing(daemon, how)
    async with working(worker):
        assert (await said(daemon, "queue.fail"))["message"] == "enough"
    assert worker.jobs[0].is_cancelled


async def test_work_that_was_lost_is_dropped_without_a_word(daemon):
    def lost(_params):
        raise HiveError("LEASE_LOST")

    daemon.answers["queue.heartbeat"] = lost

    async def how(_job):
        await asyncio.Event().wait()

    worker = Doing(daemon, how)
    async with working(worker):
        await said(daemon, "queue.claim", count=2)
    assert worker.jobs[0].is_lost
    assert not {"queue.fail", "queue.complete"} & {name for name, _ in daemon.requests}


async def test_a_lost_connection_is_made_again_and_the_result_handed_in(daemon):
    async def how(_job):
        await asyncio.to_thread(daemon.drop_connections)
        return "done"

    async with working(Doing(daemon, how)):
        assert (await said(daemon, "queue.complete"))["result"] == "done"
    assert daemon.connections_seen > 1


async def test_one_that_is_not_known_any_more_registers_again(daemon):
    def unknown(_params):
        raise HiveError("WORKER_NOT_FOUND")

    claims = [unknown]
    answer = daemon.answers["queue.claim"]
    daemon.answers["queue.claim"] = lambda p: claims.pop()(p) if claims else answer(p)
    daemon.answers["worker.get"] = unknown

    async def how(_job):
        return None

    async with working(Doing(daemon, how)):
        await said(daemon, "worker.register", count=2)


async def test_one_whose_name_another_has_taken_ends(daemon):
    def unknown(_params):
        raise HiveError("WORKER_NOT_FOUND")

    daemon.answers["queue.claim"] = unknown
    daemon.answers["worker.get"] = lambda _p: {"status": "busy"}

    async def how(_job):
        return None

    with pytest.raises(HiveError) as caught:
        async with asyncio.timeout(10):
            await Doing(daemon, how).run()
    assert "Another program" in caught.value.message


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"state": "answered", "answer": "yes", "declined": False, "reason": ""}, "yes"),
        ({"state": "answered", "answer": "no time", "declined": True, "reason": ""}, Unanswered),
        (
            {"state": "expired", "answer": None, "declined": False, "reason": "too late"},
            Unanswered,
        ),
    ],
)
async def test_an_answer_is_returned_and_none_is_raised(daemon, found, expected):
    daemon.answers["question.ask"] = lambda _p: {"id": "q_1", "state": "pending"}
    daemon.answers["question.wait"] = lambda _p: found

    async def how(job):
        return await job.ask("Shall I?", choices=["yes", "no"])

    async with working(Doing(daemon, how)):
        asked = await said(daemon, "question.ask")
        assert (asked["worker"], asked["execution"], asked["choices"]) == (
            "w_1",
            "x_1",
            ["yes", "no"],
        )
        if expected == "yes":
            assert (await said(daemon, "queue.complete"))["result"] == "yes"
        else:
            assert (await said(daemon, "queue.fail"))["message"].startswith("Unanswered")


async def test_a_question_whose_answer_was_lost_is_not_asked_twice(daemon):
    def lost(_params):
        raise HiveError("UNAVAILABLE")

    daemon.answers["question.ask"] = lost
    known = {"id": "q_7", "text": "Shall I?", "asker": "worker:ada", "state": "pending"}
    daemon.answers["question.list"] = lambda _p: {"items": [known], "next_cursor": None}
    daemon.answers["question.wait"] = lambda p: {
        "id": p["id"], "state": "answered", "answer": p["id"], "declined": False, "reason": ""
    }  # fmt: skip

    async def how(job):
        return await job.ask("Shall I?")

    async with working(Doing(daemon, how)):
        assert (await said(daemon, "queue.complete"))["result"] == "q_7"
    assert sum(name == "question.ask" for name, _ in daemon.requests) == 1
