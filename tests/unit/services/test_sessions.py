"""Conversations as clients see them: when they end, what is said of that, ending one by hand."""

import asyncio

import msgspec
import pytest

from hivectl.model.errors import HiveError
from hivectl.store import projects as project_table
from hivectl.store import sessions
from tests.unit.engine.test_runner import SESSION, asks


@pytest.fixture
def web(desk, tmp_path):
    (tmp_path / "web").mkdir()
    return desk


async def run(d, **more):
    accepted = await d.call("execute", project="web", prompt="hi", **more)
    await d.call("execution.wait", execution=accepted["execution"])
    return accepted


async def expire(d):
    """As if half an hour had gone by."""
    await d.farm.db.write(
        lambda tx: tx.run("UPDATE sessions SET activity_us = activity_us - 2000000000")
    )
    await d.farm.engine.keep_alive.look()


async def test_an_idle_conversation_says_when_it_will_end(web, tmp_path):
    async with web() as d:
        await d.call("project.create", path=str(tmp_path / "web"))
        accepted = await run(d)
        found = await d.call("session.get", session=SESSION)
        assert (found["state"], found["last_execution"]) == ("idle", accepted["execution"])
        assert found["expires_at"] > found["last_activity_at"]
        assert (found["execution"], found["process"], found["is_warm"]) == (None, None, False)


async def test_an_active_one_shows_what_executes_in_it_and_has_no_end(web, tmp_path):
    async with web(asks) as d:
        await d.call("project.create", path=str(tmp_path / "web"))
        accepted = await d.call("execute", project="web", prompt="hi")
        await d.call("execution.wait", execution=accepted["execution"], or_waiting=True)
        found = await d.call("session.get", session=SESSION)
        assert (found["state"], found["execution"], found["work_order"]) == (
            "active",
            accepted["execution"],
            accepted["work_order"],
        )
        assert (
            found["worker"]
            == (await d.call("execution.get", execution=found["execution"]))["worker"]
        )
        assert found["worker"] is None, "it waits for a person and has given its worker to others"
        assert found["process"].startswith("pr_")
        assert found["expires_at"] is None
        with pytest.raises(HiveError) as caught:
            await d.call("session.end", session=SESSION)
        assert caught.value.code == "SESSION_IN_USE"


async def test_ended_by_hand_it_says_so_and_twice_is_once(web, tmp_path):
    async with web() as d:
        project = await d.call("project.create", path=str(tmp_path / "web"))
        await run(d)
        for _ in range(2):
            ended = await d.call("session.end", session=SESSION)
            assert (ended["state"], ended["end_reason"]) == ("ended", "user")
            assert ended["ended_at"]
        page = await d.call("get_messages", project="web", types=["session.ended"])
        [event] = page["items"]
        assert msgspec.json.decode(event)["data"] == {"session": SESSION, "reason": "user"}
        assert (await run(d))["warnings"] == [
            "The conversation had been ended by hand: this prompt resumes it."
        ]
        assert (await d.call("session.get", session=SESSION))["state"] == "idle"
        assert (await d.call("project.get", project=project["id"]))["session"] == SESSION


async def test_the_prompt_that_meets_an_expired_conversation_is_told_what_happens(web, tmp_path):
    async with web() as d:
        await d.call("project.create", path=str(tmp_path / "web"))
        assert (await run(d))["warnings"] == []
        await expire(d)
        [text] = (await run(d))["warnings"]
        assert (
            text == "The conversation had ended after 33m 20s of idleness: this prompt resumes it."
        )
        assert (await run(d))["warnings"] == []
        await expire(d)
        assert (await run(d, session="new"))["warnings"] == []


async def test_no_unknown_conversation_is_ended(web, tmp_path):
    async with web() as d:
        with pytest.raises(HiveError) as caught:
            await d.call("session.end", session=SESSION)
        assert caught.value.code == "SESSION_NOT_FOUND"


async def test_one_that_an_execution_left_for_another_is_idle(web, tmp_path):
    async with web() as d:
        await d.call("project.create", path=str(tmp_path / "web"))
        accepted = await run(d)
        other = "0b7dcb1f-7b2a-4d3e-9c55-0d6d8c1f2a3b"

        def leave(tx):
            tx.run("UPDATE sessions SET state = 'active' WHERE id = ?", SESSION)
            sessions.settle(tx, accepted["execution"], other)
            return sessions.find(tx, SESSION).state

        assert await d.farm.db.write(leave) == "idle"
        await asyncio.sleep(0)


async def test_a_copy_is_the_current_one_and_its_request_may_be_repeated(web, tmp_path):
    async with web() as d:
        await d.call("project.create", path=str(tmp_path / "web"))
        await run(d)
        copy = await d.call("session.fork", session=SESSION, idempotency_key="k")
        assert (copy["state"], copy["forked_from"], copy["is_current"]) == ("forked", SESSION, True)
        assert copy["session"] != SESSION
        assert await d.call("session.fork", session=SESSION, idempotency_key="k") == copy
        with pytest.raises(HiveError) as caught:
            await d.call("session.fork", session=copy["session"], idempotency_key="k")
        assert caught.value.code == "IDEMPOTENCY_MISMATCH"
        two = await d.call("session.fork", session=SESSION)
        assert two["session"] not in {SESSION, copy["session"]}
        listed = (await d.call("session.list", project="web"))["items"]
        assert {item["session"]: item["state"] for item in listed} == {
            SESSION: "idle", copy["session"]: "forked", two["session"]: "forked",
        }  # fmt: skip


async def test_a_key_that_is_too_old_makes_another_copy(web, tmp_path):
    async with web() as d:
        await d.call("project.create", path=str(tmp_path / "web"))
        await run(d)
        copy = await d.call("session.fork", session=SESSION, idempotency_key="k")
        await d.farm.db.write(lambda tx: tx.run("UPDATE sessions SET created_us = 0"))
        later = await d.call("session.fork", session=SESSION, idempotency_key="k")
        assert later["session"] != copy["session"]


async def test_a_copy_that_waits_does_not_expire(web, tmp_path):
    async with web() as d:
        await d.call("project.create", path=str(tmp_path / "web"))
        await run(d)
        copy = await d.call("session.fork", session=SESSION)
        await expire(d)
        assert (await d.call("session.get", session=copy["session"]))["state"] == "forked"
        assert (await d.call("session.get", session=SESSION))["state"] == "ended"


async def test_what_was_asked_for_before_the_copy_leaves_it_its_place(web, tmp_path):
    async with web(asks) as d:
        project = await d.call("project.create", path=str(tmp_path / "web"))
        accepted = await d.call("execute", project="web", prompt="hi")
        await d.call("execution.wait", execution=accepted["execution"], or_waiting=True)
        copy = await d.call("session.fork", session=SESSION)

        def see(tx):
            project_table.see_session(
                tx, project["id"], SESSION,
                model=None, version="", execution=accepted["execution"], resumed=False,
            )  # fmt: skip
            return project_table.find(tx, project["id"]).session

        assert await d.farm.db.write(see) == copy["session"]
        await d.farm.db.write(
            lambda tx: tx.run("UPDATE sessions SET created_us = 0 WHERE id = ?", copy["session"])
        )
        assert await d.farm.db.write(see) == SESSION, "what was asked for after it takes it"
        await d.call("kill", execution=accepted["execution"], mode="kill")
