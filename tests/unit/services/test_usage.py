"""Sums as the wire shows them: groups, times, pages, and what is refused."""

import pytest

from hivectl.model.errors import HiveError


@pytest.fixture
def web(desk, tmp_path):
    (tmp_path / "web").mkdir()
    return desk


async def _run(d, count=1):
    for _ in range(count):
        accepted = await d.call("execute", project="web", prompt="hi")
        await d.call("execution.wait", execution=accepted["execution"])


async def test_sums_by_everything_have_the_same_total(web, tmp_path):
    async with web() as d:
        await d.call("project.create", path=str(tmp_path / "web"))
        await _run(d, 3)
        found = {
            by: await d.call("usage", by=by)
            for by in ("project", "user", "model", "day", "execution")
        }
        for page in found.values():
            assert page["total"]["runs"] == 3
            assert page["total"]["cost_usd"] == pytest.approx(0.3)
            assert sum(item["cost_usd"] for item in page["items"]) == pytest.approx(0.3)
        assert [item["name"] for item in found["project"]["items"]] == ["web"]
        assert [item["key"] for item in found["user"]["items"]] == ["user:t"]
        assert found["project"]["budgets"] == []
        assert len(found["execution"]["items"]) == 3


async def test_pages_hold_all_rows_once(web, tmp_path):
    async with web() as d:
        await d.call("project.create", path=str(tmp_path / "web"))
        await _run(d, 3)
        pages = await d.pages("usage", by="execution", limit=2)
        keys = [item["key"] for page in pages for item in page]
        assert len(keys) == len(set(keys)) == 3
        assert keys == sorted(keys, reverse=True)


async def test_only_what_was_asked_for_is_summed(web, tmp_path):
    async with web() as d:
        await d.call("project.create", path=str(tmp_path / "web"))
        await _run(d)
        assert (await d.call("usage", user="user:else"))["total"]["runs"] == 0
        assert (await d.call("usage", project="web", user="user:t"))["total"]["runs"] == 1
        assert (await d.call("usage", since="2020-01-01", until="2020-02-01"))["items"] == []
        assert (await d.call("usage", since="1h"))["total"]["runs"] == 1
        for wrong in ("soon", "2020-13-01"):
            with pytest.raises(HiveError) as caught:
                await d.call("usage", since=wrong)
            assert caught.value.code == "INVALID_PARAMS"
        with pytest.raises(HiveError) as caught:
            await d.call("usage", project="nothing")
        assert caught.value.code == "PROJECT_NOT_FOUND"


async def test_budgets_of_today_are_shown_and_a_used_up_one_is_warned_of(web, tmp_path):
    async with web() as d:
        await d.call(
            "project.create", path=str(tmp_path / "web"), defaults={"budget_usd_per_day": 0.05}
        )
        await _run(d)
        (budget,) = (await d.call("usage"))["budgets"]
        assert (budget["scope"], budget["kind"], budget["is_exceeded"]) == ("project", "usd", True)
        accepted = await d.call("execute", project="web", prompt="next")
        assert "used up" in accepted["warnings"][0]
        waiting = await d.call("execution.get", execution=accepted["execution"])
        assert (waiting["state"], waiting["message"]) == ("pending", accepted["warnings"][0])
