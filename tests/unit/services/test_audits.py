"""The audit: what is refused has a limit and is counted, what is done has none; and the chain is read whole."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from dataclasses import replace

import pytest
from pydantic import ValidationError

from hivectl.services import audits
from tests.unit.services.conftest import CALLER


async def entries(d):
    return [
        json.loads(row["body"]) for row in await d.farm.db.all("SELECT body FROM audit ORDER BY id")
    ]


async def test_s46_refusals_beyond_the_limit_become_one_entry_with_their_number(desk):
    async with desk() as d:
        audit = d.audits
        for number in range(audits.REFUSED_A_MINUTE + 300):
            outcome = ("FORBIDDEN", "INVALID_PARAMS", "SELF_APPROVAL_DENIED")[number % 3]
            await audit.note(CALLER, "kill", f"x_{number}", outcome)
        assert len(await entries(d)) == audits.REFUSED_A_MINUTE
        await audit.settle()
        last = (await entries(d))[-1]
        assert (last["method"], last["outcome"], last["count"]) == ("*", "REFUSED", 300)
        assert (last["actor"], last["peer"]) == (CALLER.actor, CALLER.peer)
        assert last["since"] <= last["at"]
        await audit.note(CALLER, "kill", "x", "FORBIDDEN")
        await audit.settle()
        assert len(await entries(d)) == audits.REFUSED_A_MINUTE + 2, "a new minute, a new limit"
        assert (await d.call("audit.verify"))["is_whole"]


async def test_s46_what_was_or_may_have_been_done_is_never_left_out(desk):
    async with desk() as d:
        for outcome in ("ok", "cancelled", "INTERNAL"):
            for _ in range(audits.REFUSED_A_MINUTE + 5):
                await d.audits.note(CALLER, "kill", "x", outcome)
        await d.audits.settle()
        assert len(await entries(d)) == 3 * (audits.REFUSED_A_MINUTE + 5)


async def test_s46_one_caller_does_not_use_up_the_limit_of_another(desk):
    async with desk() as d:
        other = replace(CALLER, execution="x_1")
        for caller in (CALLER, other):
            for _ in range(audits.REFUSED_A_MINUTE + 1):
                await d.audits.note(caller, "kill", "x", "FORBIDDEN")
        assert len(await entries(d)) == 2 * audits.REFUSED_A_MINUTE
        # A new connection or process is no new caller.
        for number in range(5):
            anew = replace(other, connection=f"c_{number}", peer=f"unix pid={number}")
            await d.audits.note(anew, "kill", "x", "FORBIDDEN")
        assert len(await entries(d)) == 2 * audits.REFUSED_A_MINUTE


async def test_s46_callers_without_number_are_counted_as_one(desk, monkeypatch):
    monkeypatch.setattr(audits, "CALLERS", 3)
    monkeypatch.setattr(audits, "REFUSED_A_MINUTE", 2)
    async with desk() as d:
        for number in range(20):
            caller = replace(CALLER, execution=f"x_{number}")
            await d.audits.note(caller, "kill", "x", "FORBIDDEN")
        assert len(await entries(d)) == 3 + 2
        await d.audits.settle()
        assert [e["count"] for e in (await entries(d))[5:]] == [15]


async def test_s46_the_minute_ends_by_itself(desk, monkeypatch):
    monkeypatch.setattr(audits, "MINUTE_S", 0.01)
    async with desk() as d:
        for _ in range(audits.REFUSED_A_MINUTE + 7):
            await d.audits.note(CALLER, "kill", "x", "FORBIDDEN")
        running = asyncio.ensure_future(d.audits.run())
        async with asyncio.timeout(30):
            while (await entries(d))[-1].get("count") != 7:
                await asyncio.sleep(0.01)
        running.cancel()


async def test_s46_the_first_entry_that_was_changed_is_named(desk, monkeypatch):
    monkeypatch.setattr(audits, "PAGE", 4)
    async with desk() as d:
        empty = await d.call("audit.verify")
        assert empty == {"is_whole": True, "entries": 0, "anchor": None, "fault": None}
        for number in range(11):
            await d.audits.note(CALLER, "kill", f"x_{number}", "ok")
        whole = await d.call("audit.verify")
        assert (whole["is_whole"], whole["entries"]) == (True, 11)
        assert (await d.call("audit.verify", anchor=whole["anchor"]))["is_whole"]
        later = "12" + whole["anchor"][2:]
        cut = await d.call("audit.verify", anchor=later)
        assert cut["fault"] == {"id": 12, "why": "is missing: the end was cut off"}
        (path,) = {row["file"] for row in await d.farm.db.all("PRAGMA database_list")}
        forger = sqlite3.connect(path)
        forger.execute("DROP TRIGGER audit_keeps")
        forger.execute("UPDATE audit SET body = replace(body, 'x_5', 'x_6') WHERE id = 6")
        forger.commit()
        forger.close()
        forged = await d.call("audit.verify")
        assert (forged["is_whole"], forged["entries"], forged["fault"]["id"]) == (False, 5, 6)
        for wrong in ("7", "x:" + "a" * 64, "1:" + "A" * 64):
            with pytest.raises(ValidationError):
                await d.call("audit.verify", anchor=wrong)
