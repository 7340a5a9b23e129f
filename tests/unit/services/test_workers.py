"""What workers outside may say, and how much of it."""

import msgspec
import pytest

from hivectl.model.access import Caller, Scope
from hivectl.model.errors import HiveError
from tests.unit.services.conftest import CALLER

OTHER = Caller(actor="user:other", scopes=frozenset(Scope), request="r_2")


async def project(d):
    folder = d.path / "web"
    folder.mkdir()
    return await d.call("project.create", path=str(folder), name="web")


async def working(d, **wish):
    """A worker and what it carries."""
    await project(d)
    await d.call("queue.enqueue", project="web", prompt="do it", **wish)
    worker = (await d.call("worker.register", name="ada"))["worker"]
    claimed = await d.call("queue.claim", worker=worker, wait_s=2)
    return {"worker": worker, "execution": claimed["job"]["execution"]}, claimed["job"]


async def refused(doing):
    with pytest.raises(HiveError) as caught:
        await doing
    return caught.value


async def test_a_job_says_what_is_to_be_done_and_where(desk):
    async with desk() as d:
        pair, job = await working(d, options={"model": "opus"})
        assert (job["prompt"], job["pool"], job["attempt"]) == ("do it", "external", 1)
        assert job["project"]["name"] == "web"
        assert job["project"]["path"].endswith("/web")
        assert job["options"] == {"model": "opus"}
        listed = (await d.call("worker.list", kind="external"))["items"]
        assert [(w["name"], w["status"], w["execution"]) for w in listed] == [
            ("ada", "busy", pair["execution"])
        ]


async def test_the_daemons_own_pool_is_closed_to_workers_outside(desk):
    async with desk() as d:
        error = await refused(d.call("worker.register", name="ada", pools=["claude"]))
        assert error.code == "INVALID_PARAMS"


async def test_a_worktree_is_for_the_daemons_own_workers(desk):
    async with desk() as d:
        await project(d)
        error = await refused(d.call("queue.enqueue", project="web", prompt="x", worktree=True))
        assert (error.code, error.details["errors"][0]["pointer"]) == (
            "INVALID_PARAMS",
            "/worktree",
        )


async def test_a_key_used_for_the_daemons_own_workers_is_no_key_for_others(desk):
    async with desk() as d:
        await project(d)
        same = {"project": "web", "prompt": "x", "idempotency_key": "k"}
        first = await d.call("queue.enqueue", **same)
        assert (await d.call("queue.enqueue", **same))["execution"] == first["execution"]
        assert (await refused(d.call("execute", **same))).code == "IDEMPOTENCY_MISMATCH"
        again = d.call("execute", **same, pool="external")
        assert (await again)["replayed"] is True


async def test_a_worker_of_another_is_nobody_elses(desk):
    async with desk() as d:
        pair, _ = await working(d)
        for method, params in (
            ("worker.heartbeat", {"worker": pair["worker"]}),
            ("queue.claim", {"worker": pair["worker"]}),
            ("queue.complete", pair),
            ("worker.deregister", {"worker": pair["worker"]}),
        ):
            assert (await refused(d.call(method, caller=OTHER, **params))).code == "FORBIDDEN"


async def test_texts_and_objects_stand_in_the_log_as_whoever_follows_knows_them(desk):
    async with desk() as d:
        pair, _ = await working(d)
        raw = {"type": "assistant", "message": {"content": [{"type": "text", "text": "raw"}]}}
        taken = await d.call(
            "queue.output", **pair, first=0, messages=[{"text": "hello"}, {"raw": raw}]
        )
        assert (taken["next"], taken["cancel"]) == (2, False)
        page = await d.call(
            "get_messages", project="web", execution=pair["execution"], types=["message"]
        )
        found = [msgspec.json.decode(event)["data"] for event in page["items"]]
        said = [data for data in found if data["kind"] == "assistant"]
        assert said[0]["text"] == "hello"
        assert said[0]["raw"]["message"]["content"] == [{"type": "text", "text": "hello"}]
        assert said[1]["raw"] == raw


async def test_messages_and_results_have_limits_that_are_named(desk):
    async with desk() as d:
        pair, _ = await working(d)
        large = {"raw": {"text": "x" * 300_000}}
        error = await refused(d.call("queue.output", **pair, first=0, messages=[large]))
        assert (error.code, error.details["max"]) == ("TOO_LARGE", 256 * 1024)
        many = [{"raw": {"text": "x" * 200_000}}] * 6
        error = await refused(d.call("queue.output", **pair, first=0, messages=many))
        assert (error.code, error.details["max"]) == ("TOO_LARGE", 1024 * 1024)
        structured = {"text": "x" * 1024 * 1024}
        error = await refused(d.call("queue.complete", **pair, structured=structured))
        assert error.code == "TOO_LARGE"
        ended = await d.call("queue.complete", **pair, result="fine", structured=[1])
        assert (ended["state"], ended["result"], ended["structured"]) == ("completed", "fine", [1])


async def test_an_execution_that_says_more_than_it_may_has_failed(desk):
    async with desk() as d:
        pair, _ = await working(d)
        await d.farm.db.write(
            lambda tx: tx.run("UPDATE executions SET output_bytes = ?", 1024 * 1024 * 1024)
        )
        error = await refused(
            d.call("queue.output", **pair, first=0, messages=[{"text": "one more"}])
        )
        assert error.code == "OUTPUT_LIMIT"
        ended = await d.call("execution.get", execution=pair["execution"])
        assert (ended["state"], ended["cause"]) == ("failed", "output_limit")


async def test_a_question_of_a_worker_lets_its_execution_wait_until_it_is_answered(desk):
    async with desk() as d:
        pair, _ = await working(d)
        asked = await d.call("question.ask", **pair, text="Shall I?", choices=["yes", "no"])
        assert (asked["asker"], asked["source"]) == ("worker:ada", "worker")
        waiting = await d.call("execution.get", execution=pair["execution"])
        assert (waiting["state"], waiting["waiting_for"]) == ("waiting", [asked["id"]])
        heard = await d.call("queue.heartbeat", **pair)
        assert (heard["state"], heard["cancel"]) == ("waiting", False)
        await d.call("question.answer", id=asked["id"], choices=[1])
        going = await d.call("execution.get", execution=pair["execution"])
        assert (going["state"], going["worker"]) == ("running", "ada")


async def test_a_question_about_it_that_is_no_workers_lets_nothing_wait(desk):
    async with desk() as d:
        pair, _ = await working(d)
        await d.call("question.ask", execution=pair["execution"], text="By the way?")
        assert (await d.call("execution.get", execution=pair["execution"]))["state"] == "running"


async def test_why_it_does_not_run_is_said_also_of_other_pools(desk):
    async with desk() as d:
        await project(d)
        accepted = await d.call("queue.enqueue", project="web", prompt="x", pool="words")
        said = await d.call("queue.describe", work_order=accepted["work_order"])
        assert said["reasons"] == [
            "No worker that serves the pool 'words' is there: `hivectl worker list`."
        ]
        await d.call("worker.register", name="ada", pools=["words"])
        said = await d.call("queue.describe", work_order=accepted["work_order"])
        assert said["reasons"] == ["A worker of the pool 'words' has yet to claim it."]


async def test_a_failure_says_what_it_used_and_why(desk):
    async with desk() as d:
        pair, _ = await working(d)
        used = {"input_tokens": 7, "cost_usd": 0.5}
        ended = await d.call("queue.fail", **pair, message="no disk", usage=used)
        assert (ended["message"], ended["cost_usd"]) == ("no disk", 0.5)
        (row,) = (await d.call("usage"))["items"]
        assert (row["name"], row["cost_usd"]) == ("web", 0.5)
        assert CALLER.allows(Scope.WORK)
