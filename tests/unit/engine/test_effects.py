"""What follows from Claude's lines: each effect once, rules before people, verdicts that stand."""

import pytest

from hivectl.engine.effects import apply_effects
from hivectl.kit.ids import make_id, make_uuid
from hivectl.model.work import ExecutionState, Usage
from hivectl.ports import (
    ErrorSeen,
    LimitSeen,
    PermissionAsked,
    PermissionWithdrawn,
    ResultSeen,
    RetrySeen,
    SessionSeen,
)
from hivectl.store import people, queue, work
from tests.unit.store.test_work import bench

__all__ = ["bench"]

ASKED = PermissionAsked(request="r1", tool="Bash", input={"command": "touch x"})
RESULT = ResultSeen(
    subtype="success",
    is_error=False,
    text="done",
    usage=Usage(turns=1, input_tokens=10, cost_usd=0.25),
)


@pytest.fixture
async def running(bench):
    project = await bench.project()
    await bench.enqueue(project)
    claimed = await bench.claim()
    bench.project_row = project
    bench.id = (await bench.db.write(lambda tx: work.started(tx, claimed.id, pid=7))).id

    async def apply(*effects, default="ask"):
        return await bench.db.write(
            lambda tx: apply_effects(tx, bench.id, effects, default=default)
        )

    bench.apply = apply
    return bench


async def test_reading_the_same_output_again_changes_nothing(running):
    session = make_uuid()
    effects = [(10, SessionSeen(session, "opus", "2")), (20, RESULT)]
    first = await running.apply(*effects)
    events = await running.events()
    second = await running.apply(*effects)
    assert await running.events() == events
    assert second.execution.cost_usd == first.execution.cost_usd == 0.25
    assert second.is_over


async def test_a_permission_request_waits_for_a_person(running):
    applied = await running.apply((10, ASKED))
    assert applied.execution.state is ExecutionState.WAITING
    assert not applied.decided
    assert "approval.requested" in await running.events()


@pytest.mark.parametrize(("action", "allow"), [("allow", True), ("deny", False)])
async def test_a_rule_answers_instead_of_a_person(running, action, allow):
    rule = {
        "id": make_id("po"),
        "action": action,
        "tool": "Bash",
        "match": {"command": "touch *"},
        "project": None,
        "note": "",
    }
    await running.db.write(
        lambda tx: people.add_policy(tx, rule, first=False, by="user:t", request_id="r")
    )
    applied = await running.apply((10, ASKED))
    assert applied.execution.state is ExecutionState.RUNNING
    assert [a.answer["allow"] for a in applied.decided] == [allow]
    assert applied.decided[0].decided_by == f"policy:{rule['id']}"


async def test_an_allow_rule_and_an_allowing_default_never_answer_a_question(running):
    rule = {
        "id": make_id("po"),
        "action": "allow",
        "tool": "*",
        "match": {},
        "project": None,
        "note": "",
    }
    await running.db.write(
        lambda tx: people.add_policy(tx, rule, first=False, by="user:t", request_id="r")
    )
    question = PermissionAsked(
        request="q", tool="AskUserQuestion", input={"questions": []}, is_question=True
    )
    applied = await running.apply((10, question), default="allow")
    assert applied.execution.state is ExecutionState.WAITING


async def test_a_denying_default_says_why(running):
    applied = await running.apply((10, ASKED), default="deny")
    assert "approval.default" in applied.decided[0].answer["message"]


async def test_a_withdrawn_request_is_closed_and_the_run_goes_on(running):
    await running.apply((10, ASKED))
    applied = await running.apply((20, PermissionWithdrawn("r1")))
    assert applied.execution.wants_slot is not None
    claimed = await running.db.write(
        lambda tx: queue.claim(tx, queue.Caps(max_live=1), process="pr_2")
    )
    assert (claimed.is_resumed, claimed.execution.state) == (True, ExecutionState.RUNNING)
    assert "approval.expired" in await running.events()


async def test_the_first_verdict_on_our_turn_stands_and_usage_adds_up(running):
    later = ResultSeen(
        subtype="success",
        is_error=False,
        text="background",
        origin="task",
        usage=Usage(turns=1, cost_usd=0.5),
    )
    await running.apply((10, RESULT))
    applied = await running.apply((20, later))
    assert applied.execution.verdict["text"] == "done"
    assert applied.execution.cost_usd == 0.75


async def test_a_turn_of_background_work_is_no_verdict(running):
    foreign = ResultSeen(
        subtype="success", is_error=False, text="bg", origin="task-notification", usage=Usage()
    )
    assert not (await running.apply((10, foreign))).is_over


async def test_errors_limits_and_retries_are_kept_and_told(running):
    applied = await running.apply(
        (10, RetrySeen(attempt=3, max_retries=10, delay_ms=500, error="overloaded")),
        (
            20,
            ErrorSeen(error="rate_limit", api_error="usage_limit_reached", resets_at=1_700_000_000),
        ),
        (30, LimitSeen(status="rejected", kind="five_hour", resets_at=1_700_000_000)),
    )
    assert applied.execution.retrying.startswith("3 of 10")
    assert applied.execution.evidence["errors"][0]["error"] == "rate_limit"
    assert "usage_limit.hit" in await running.events()
