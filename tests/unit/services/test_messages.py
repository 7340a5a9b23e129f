"""Pages of a log against a list: every filter, both orders, small byte and scan limits, odd cursors."""

import random

import msgspec
import pytest

from hivectl.journal.record import Draft
from hivectl.model.errors import HiveError
from hivectl.services import messages

TYPES = ("message", "stderr", "execution.state", "execution.ended")


def drafts(count, seed):
    chance = random.Random(seed)
    for _ in range(count):
        type_ = chance.choice(TYPES)
        body = {"kind": "assistant", "direction": chance.choice(("in", "out"))}
        text = chance.choice(("alpha", "Beta", 'with "quotes"', "ünï")) + "x" * chance.choice(
            (0, 0, 700)
        )
        data = msgspec.json.encode({**body, "text": text})
        yield Draft(type_, data, 1, chance.choice(("x_1", "x_2")), chance.choice(("s1", None)))


def wanted(records, **filters):
    def fits(record):
        data = msgspec.json.decode(record["data"])
        types = filters.get("types")
        grep = filters.get("grep")
        return (
            filters.get("execution") in (None, record["execution"])
            and filters.get("session") in (None, record["session"])
            and (
                types is None
                or any(
                    record["type"].startswith(t[:-1]) if t.endswith("*") else record["type"] == t
                    for t in types
                )
            )
            and (
                filters.get("direction") is None
                or (record["type"] == "message" and data["direction"] == filters["direction"])
            )
            and (grep is None or grep.lower() in data["text"].lower())
        )

    return [record["seq"] for record in records if fits(record)]


FILTERS = (
    {},
    {"execution": "x_1"},
    {"session": "s1"},
    {"types": ["message"]},
    {"types": ["execution.*", "stderr"]},
    {"types": ["nothing"]},
    {"direction": "in"},
    {"grep": "BETA"},
    {"grep": 'with "q'},
    {"grep": "ünï", "execution": "x_2", "types": ["message"]},
)


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("limits", [(1 << 22, 200_000), (900, 200_000), (1 << 22, 5)])
async def test_pages_hold_each_wanted_event_once_and_in_order(desk, monkeypatch, order, limits):
    for name, value in zip(("PAGE_BYTES", "SCAN_RECORDS"), limits, strict=True):
        monkeypatch.setattr(messages, name, value)
    async with desk() as d:
        log = d.farm.journal.open("system")
        given = list(drafts(60, seed=1))
        records = [
            {"seq": n, "type": g.type, "data": g.data, "execution": g.execution, "session": g.session}
            for n, g in enumerate(given, 1)
        ]  # fmt: skip
        log.append(given)
        for filters in FILTERS:
            for limit in (1, 4, 1000):
                edge, found, rounds = {}, [], 0
                while True:
                    page = await d.call(
                        "get_messages", stream="system", order=order, limit=limit, **filters, **edge
                    )
                    items = [msgspec.json.decode(bytes(item))["seq"] for item in page["items"]]
                    assert len(items) <= limit
                    found += items
                    rounds += 1
                    if page["next"] is None:
                        break
                    edge = {"after" if order == "asc" else "before": page["next"]}
                    assert rounds < 200, (filters, limit)
                expected = wanted(records, **filters)
                assert found == (expected if order == "asc" else expected[::-1]), (filters, limit)


@pytest.mark.parametrize(
    ("edge", "expected"),
    [
        ({"after": 0}, [1, 2, 3]),
        ({"after": 2}, [3]),
        ({"after": 3}, []),
        ({"after": 99}, []),
        ({"before": 1}, []),
        ({"before": 3}, [1, 2]),
        ({"before": 99}, [1, 2, 3]),
        ({"after": 1, "before": 3}, [2]),
        ({"after": 2, "before": 2}, []),
        ({"until": "2026-01-01T00:00:00Z"}, [1, 2, 3]),
        ({"since": "2026-01-01T00:00:00Z"}, []),
        ({"since": "2026-01-01T00:00:00Z", "until": "10m"}, []),
    ],
)
@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_edges_of_a_page(desk, edge, expected, order):
    async with desk() as d:
        given = [Draft("stderr", b'{"text":"x"}', 1) for _ in range(3)]
        d.farm.journal.open("system").append(given)
        page = await d.call("get_messages", stream="system", order=order, **edge)
        found = [msgspec.json.decode(bytes(item))["seq"] for item in page["items"]]
        assert sorted(found) == expected
        assert (page["next"], page["first_seq"], page["last_seq"]) == (None, 1, 3)


@pytest.mark.parametrize("text", ["yesterday", "0001-01-01", "9999-12-31T24:00", "10x"])
async def test_what_is_no_time_is_refused_by_its_name(desk, text):
    async with desk() as d:
        for name in ("since", "until"):
            with pytest.raises(HiveError) as caught:
                await d.call("get_messages", stream="system", **{name: text})
            assert caught.value.code == "INVALID_PARAMS"
            assert caught.value.details["errors"][0]["pointer"] == f"/{name}"


@pytest.mark.parametrize("text", ["9" * 199, "9" * 198 + "d"])
async def test_a_time_before_all_times_is_the_beginning(desk, text):
    async with desk() as d:
        d.farm.journal.open("system").append([Draft("stderr", b"{}", 1)])
        assert len((await d.call("get_messages", stream="system", since=text))["items"]) == 1


async def test_what_retention_took_is_passed_over_in_both_orders(desk):
    async with desk() as d:
        log = d.farm.journal.open("system")
        for _ in range(3):
            log.append([Draft("stderr", b"{}", 1) for _ in range(5)])
            log._roll()
        log.append([Draft("stderr", b"{}", 1)])
        freed = await d.call("log.prune", project="system", keep_bytes=1, dry_run=True)
        assert freed["freed_bytes"] > 0
        assert log.first_seq == 1
        await d.call("log.prune", project="system", keep_bytes=1)
        for order in ("asc", "desc"):
            page = await d.call("get_messages", stream="system", order=order, after=2)
            assert [msgspec.json.decode(bytes(i))["seq"] for i in page["items"]] == [16]
            assert page["first_seq"] == 16
