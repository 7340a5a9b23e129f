"""The account book against recordings of the real CLI: read in any pieces, again and again, killed anywhere."""

import asyncio
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hivectl.agents.claude_stream import ClaudeConversation
from hivectl.model.work import ExecutionState
from tests.harness import money

ALL = money.recordings()
WITH_RESULT = sorted(name for name, lines in ALL.items() if money.stated_usd(lines))


@pytest.mark.parametrize("name", WITH_RESULT)
async def test_the_book_agrees_with_what_claude_states(tmp_path, name):
    lines = ALL[name]
    async with money.opened(tmp_path / "db") as bench:
        run = await money.start(bench)
        await run.read(money.data_of(lines))
        ended = await run.end()
        (sums,) = await run.spend()
    assert sums["usd"] == pytest.approx(money.stated_usd(lines))
    assert sums["tokens"] == money.stated_tokens(lines)
    assert (sums["estimated"], ended.cost_is_estimate) == (0, False), (
        "Claude lived to state all of it"
    )
    assert ended.cost_usd == pytest.approx(sums["usd"])


@pytest.mark.parametrize("name", WITH_RESULT)
async def test_a_version_that_states_running_totals_only_comes_to_the_same(tmp_path, name):
    """Also when another daemon reads on after each result (it knows nothing of the totals before)."""
    older = money.as_older(ALL[name])
    async with money.opened(tmp_path / "db") as bench:
        run = await money.start(bench)
        for count in range(1, len(older) + 1):
            await run.read(money.data_of(older[:count]))
        await run.end()
        (sums,) = await run.spend()
    assert sums["usd"] == pytest.approx(money.stated_usd(ALL[name]))
    assert sums["tokens"] == money.stated_tokens(ALL[name])


@pytest.mark.parametrize("name", WITH_RESULT)
async def test_a_run_killed_before_its_result_costs_about_what_it_would_have(tmp_path, name):
    """What Claude stated for a turn, against what its messages alone come to."""
    lines = ALL[name]
    first = next(at for at, line in enumerate(lines) if line["type"] == "result")
    turn, told = lines[:first], money.stated_usd(lines[: first + 1])
    models = {line["message"]["model"] for line in turn if line["type"] == "assistant"}
    if not models - {"<synthetic>"} or not told:
        pytest.skip("nothing was said before the result")
    async with money.opened(tmp_path / "db") as bench:
        run = await money.start(bench)
        await run.read(money.data_of(turn))
        ended = await run.end(ExecutionState.LOST)
        (sums,) = await run.spend()
    assert ended.cost_is_estimate
    assert sums["estimated"] == sums["usd"] == ended.cost_usd
    assert 0.4 * told <= sums["usd"] <= 2.5 * told, (sums["usd"], told)


@pytest.mark.parametrize("name", ["session-resume-after-sigkill", "sigkill-tool"])
async def test_a_recorded_sigkill_is_not_free(tmp_path, name):
    async with money.opened(tmp_path / "db") as bench:
        run = await money.start(bench)
        await run.read(money.data_of(ALL[name]))
        ended = await run.end(ExecutionState.FAILED)
    assert 0.0003 < ended.cost_usd < 0.01
    assert ended.usage["input_tokens"] > 0


MANY = ["input-multi-turn", "partial-messages", "subagent-foreground", "background-bash", "sigkill-tool", "tool-parallel"]  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(MANY),
    is_older=st.booleans(),
    storm=st.lists(
        st.tuples(st.integers(1, 4000), st.sampled_from(["stored", "logged", "lost"])), max_size=8
    ),
)
def test_daemons_that_are_killed_over_and_over_change_no_sum(name, is_older, storm):
    """Each daemon reads some bytes and dies: before its write, between the write and the log, or after both."""
    lines = money.as_older(ALL[name]) if is_older else ALL[name]
    data = money.data_of(lines)

    async def read() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with money.opened(Path(folder) / "once") as bench:
                calm = await money.start(bench)
                await calm.read(data)
                calm_end = await calm.end()
                wanted = await calm.book()
            async with money.opened(Path(folder) / "storm") as bench:
                run = await money.start(bench)
                for size, fate in storm:
                    piece = data[run.logged : run.logged + size]
                    seen = ClaudeConversation(money.SPEC, offset=run.logged).feed(piece, run.logged)
                    if fate != "lost":
                        await run.take(seen, is_logged=fate == "logged")
                await run.read(data)
                end = await run.end()
                found = await run.book()
        assert _same(found, wanted)
        assert end.cost_usd == pytest.approx(calm_end.cost_usd)

    asyncio.run(read())


def _same(found, wanted) -> bool:
    def sums(rows):
        by = {}
        for model, *figures, usd, estimate, source in rows:
            entry = by.setdefault((model, estimate, source), [0, 0, 0, 0, 0.0])
            for at, value in enumerate([*figures, usd]):
                entry[at] += value
        return by

    one, other = sums(found), sums(wanted)
    assert one.keys() == other.keys()
    for key, entry in one.items():
        assert entry == pytest.approx(other[key]), key
    return True
