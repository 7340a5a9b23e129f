"""Executions: requests that are repeated, positions that miss nothing, pages of conversations."""

import pytest

from hivectl.kit.ids import make_uuid
from hivectl.model.errors import HiveError


@pytest.fixture
def web(desk, tmp_path):
    (tmp_path / "web").mkdir()
    return desk


async def test_a_repeated_request_is_recognised_whatever_changed_since(web, tmp_path):
    async with web() as d:
        await d.call("project.create", path=str(tmp_path / "web"), trust=True)
        asked = {"project": "web", "prompt": "hi", "idempotency_key": "k"}
        first = await d.call("execute", **asked)
        await d.call("execution.wait", execution=first["execution"])
        (tmp_path / "web" / ".claude").mkdir()
        (tmp_path / "web" / ".claude" / "settings.json").write_text('{"hooks": {}}')
        await d.call("project.update", project="web", defaults={"model": "opus"})
        again = await d.call("execute", **asked)
        assert (again["execution"], again["replayed"]) == (first["execution"], True)
        with pytest.raises(HiveError) as caught:
            await d.call("execute", **{**asked, "prompt": "something else"})
        assert caught.value.code == "IDEMPOTENCY_MISMATCH"
        assert len((await d.call("execution.list"))["items"]) == 1


async def test_an_answer_is_never_older_than_the_position_it_is_shown_with(web, tmp_path):
    async with web() as d:
        project = await d.call("project.create", path=str(tmp_path / "web"))
        accepted = await d.call("execute", project="web", prompt="hi")
        log = d.farm.journal.open(project["stream"])
        states = set()
        for _ in range(3000):
            for found in (
                await d.call("execution.get", execution=accepted["execution"]),
                (await d.call("execution.list"))["items"][0],
            ):
                states.add(found["state"])
                ended = [seq for seq, type_ in _events(log) if type_ == "execution.ended"]
                if ended and found["seq"] >= ended[0]:
                    assert found["state"] == "completed"
            if found["state"] == "completed":
                break
        assert "completed" in states


def _events(log):
    from hivectl.journal import reader

    return [(record.seq, record.type) for record in reader.read_after(log, 0, 1000)]


async def test_conversations_with_the_same_time_are_all_on_some_page(web, tmp_path):
    async with web() as d:
        project = await d.call("project.create", path=str(tmp_path / "web"))
        ids = {make_uuid() for _ in range(7)}
        for id_ in ids:
            await d.farm.db.write(
                lambda tx, i=id_: tx.run(
                    "INSERT INTO sessions(id, project, state, created_us, activity_us) VALUES (?,?,'idle',1,5)",
                    i,
                    project["id"],
                )
            )
        pages = await d.pages("session.list", limit=2)
        assert sorted(item["session"] for page in pages for item in page) == sorted(ids)
        for cursor in ("5", "x", "5.", "-1.a"):
            with pytest.raises(HiveError) as caught:
                await d.call("session.list", cursor=cursor)
            assert caught.value.code == "INVALID_PARAMS"


async def test_executions_are_paged_newest_first_without_loss(web, tmp_path):
    async with web() as d:
        await d.call("project.create", path=str(tmp_path / "web"))
        given = [
            (await d.call("execute", project="web", prompt=f"hi {n}"))["execution"]
            for n in range(5)
        ]
        for id_ in given:
            await d.call("execution.wait", execution=id_)
        pages = await d.pages("execution.list", limit=2, states=["completed"])
        assert [i["execution"] for page in pages for i in page] == given[::-1]
        assert [len(page) for page in pages] == [2, 2, 1]
