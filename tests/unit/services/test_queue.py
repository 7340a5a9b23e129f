"""The queue for people: places, and what is said of what does not run."""

import time

from hivectl.store import projects, queue, work
from tests.unit.services.test_workers import project
from tests.unit.store.test_work import a_wish

HOW = {"actor": "user:t", "request": "r"}


async def paused(d):
    await d.farm.db.write(lambda tx: queue.pause(tx, None, reason="back at six", **HOW))


async def test_places_are_those_of_the_whole_queue_also_of_one_project_and_on_later_pages(desk):
    async with desk() as d:
        await paused(d)
        names = {}
        for name in ("web", "api"):
            (d.path / name).mkdir()
            await d.call("project.create", path=str(d.path / name), name=name)
        for number in range(7):
            wish = {"project": "web" if number % 3 else "api", "prompt": f"{number}"}
            if number == 5:
                wish["not_before"] = "2h"
            names[(await d.call("execute", **wish))["work_order"]] = number
        await d.call("queue.move", work_order=next(iter(names)), to="last")
        places = {1: 1, 2: 2, 3: 3, 4: 4, 6: 5, 0: 6, 5: None}
        for project_ in (None, "web", "api"):
            pages = await d.pages("queue.list", project=project_, limit=2)
            found = {names[item["work_order"]]: item["place"] for page in pages for item in page}
            mine = {n: p for n, p in places.items() if project_ is None or (n % 3 > 0) is (project_ == "web")}  # fmt: skip
            assert found == mine
        listed = (await d.call("execution.list", live=True))["items"]
        assert {names[item["work_order"]]: item["place"] for item in listed} == places


async def test_what_stands_in_the_way_is_said_when_a_prompt_is_accepted(desk):
    async with desk() as d:
        await project(d)
        assert (await d.call("execute", project="web", prompt="x"))["warnings"] == []
        await paused(d)
        await d.call("worker.scale", slots=0)
        accepted = await d.call("execute", project="web", prompt="y")
        said = accepted["warnings"]
        assert "back at six" in said[0]
        assert "`hivectl queue resume` goes on" in said[0]
        assert "hivectl worker scale 1" in said[1]
        elsewhere = await d.call("queue.enqueue", project="web", prompt="z")
        assert len(elsewhere["warnings"]) == 1, "another pool needs no worker of ours"


async def test_the_last_worker_that_only_ends_what_it_carries_is_none(desk):
    async with desk() as d:
        await project(d)
        await d.call("worker.scale", slots=1)
        running = await d.call("execute", project="web", prompt="x")
        await d.farm.db.write(lambda tx: tx.run("UPDATE workers SET execution = ?", running["execution"]))  # fmt: skip
        await d.call("worker.scale", slots=0)
        (d.path / "api").mkdir()
        await d.call("project.create", path=str(d.path / "api"), name="api")
        waits = await d.call("execute", project="api", prompt="y")
        said = await d.call("queue.describe", work_order=waits["work_order"])
        assert "There is no local worker: `hivectl worker scale 1` makes one." in said["reasons"]


async def test_a_follower_with_a_time_says_both(desk):
    async with desk() as d:
        await project(d)
        await paused(d)
        first = await d.call("execute", project="web", prompt="x")
        waits = await d.call(
            "execute", project="web", prompt="y", after=[first["work_order"]], not_before="2h"
        )
        said = (await d.call("queue.describe", work_order=waits["work_order"]))["reasons"]
        assert said[0].startswith("It follows")
        assert said[1].startswith("It is not to start before")


async def test_slots_are_listed_by_number(desk):
    async with desk() as d:
        for slots in (1, 0, 12):
            await d.call("worker.scale", slots=slots)
        await d.call("worker.scale", slots=12)
        names = [item["name"] for item in (await d.call("worker.list"))["items"]]
        assert names == [f"slot-{number}" for number in range(1, 13)]


async def test_a_page_of_a_long_queue_takes_milliseconds(desk):
    async with desk() as d:
        await paused(d)
        (d.path / "web").mkdir()
        made = await d.call("project.create", path=str(d.path / "web"), name="web")
        found = await d.farm.db.write(lambda tx: projects.find(tx, made["id"]))

        def fill(tx):
            for number in range(3000):
                work.enqueue(tx, a_wish(found, f"{number}", max_orders=9999))

        await d.farm.db.write(fill)
        for method, more in (("queue.list", {}), ("execution.list", {"live": True})):
            begun = time.process_time()
            assert len((await d.call(method, limit=200, **more))["items"]) == 200
            assert time.process_time() - begun < 1.0, method
