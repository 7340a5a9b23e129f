"""Projects: what two ask at once, and what the machine refuses."""

import asyncio

import pytest

from hivectl.model.errors import HiveError
from hivectl.model.work import ExecutionState


async def test_of_two_that_register_a_directory_and_one_below_it_at_once_one_is_refused(
    desk, tmp_path
):
    (tmp_path / "a" / "b").mkdir(parents=True)
    async with desk() as d:
        found = await asyncio.gather(
            d.call("project.create", path=str(tmp_path / "a")),
            d.call("project.create", path=str(tmp_path / "a" / "b")),
            return_exceptions=True,
        )
    refused = [one for one in found if isinstance(one, HiveError)]
    assert [one.code for one in refused] == ["PROJECT_NESTING"]


async def test_two_changes_at_once_both_last(desk, tmp_path):
    (tmp_path / "web").mkdir()
    async with desk() as d:
        await d.call("project.create", path=str(tmp_path / "web"))
        await asyncio.gather(
            d.call("project.update", project="web", env={"A": "1"}),
            d.call("project.update", project="web", env={"B": "2"}),
            d.call("project.update", project="web", defaults={"model": "opus"}),
        )
        found = await d.call("project.get", project="web")
    assert (set(found["env"]), found["defaults"]["model"]) == ({"A", "B"}, "opus")


async def test_a_directory_that_cannot_be_made_is_refused_with_its_reason(desk, tmp_path):
    (tmp_path / "file").write_text("")
    async with desk() as d:
        with pytest.raises(HiveError) as caught:
            await d.call("project.create", path=str(tmp_path / "file" / "web"), mkdir=True)
        assert caught.value.code == "INVALID_PATH"
        assert not (await d.call("project.list"))["items"]


async def test_names_are_paged_without_loss(desk, tmp_path):
    async with desk() as d:
        for name in ("c", "a", "e", "b", "d"):
            (tmp_path / name).mkdir()
            await d.call("project.create", path=str(tmp_path / name))
        pages = await d.pages("project.list", limit=2)
    assert [[item["name"] for item in page] for page in pages] == [["a", "b"], ["c", "d"], ["e"]]


async def test_a_forced_delete_kills_first_and_purges_the_log(desk, tmp_path):
    async def waits(child):
        while await child.read() is not None:
            pass
        return 0

    (tmp_path / "web").mkdir()
    async with desk(waits) as d:
        project = await d.call("project.create", path=str(tmp_path / "web"))
        accepted = [await d.call("execute", project="web", prompt=f"hi {n}") for n in range(3)]
        async with asyncio.timeout(20):
            while (await d.call("execution.get", execution=accepted[0]["execution"]))[
                "state"
            ] != ExecutionState.RUNNING:
                await asyncio.sleep(0.01)
        with pytest.raises(HiveError) as caught:
            await d.call("project.delete", project="web")
        assert caught.value.code == "PROJECT_BUSY"
        await d.call("project.delete", project="web", force=True, purge=True)
        assert project["stream"] not in d.farm.journal.streams()
        assert not (await d.call("execution.list"))["items"]


async def test_a_forced_delete_passes_over_a_run_that_ended_just_then(desk, tmp_path):
    (tmp_path / "web").mkdir()
    async with desk() as d:
        await d.call("project.create", path=str(tmp_path / "web"))
        accepted = await d.call("execute", project="web", prompt="hi")
        running = await d.farm.engine.find(accepted["execution"])
        await d.call("execution.wait", execution=running.id)
        service = d.bindings["project.delete"].__self__
        write = service._h.db.write

        async def stale(work, *rest):
            found = await write(work, *rest)
            return [running] if found == [] else found

        service._h.db.write = stale
        try:
            await d.call("project.delete", project="web", force=True)
        finally:
            service._h.db.write = write
        assert not (await d.call("project.list"))["items"]
