"""What is stored of a permission request: the rule that asks, when it ends, how risky it is."""

from msgspec.structs import replace

from hivectl.engine import permission
from hivectl.logic.expiry import Timeouts
from hivectl.model.approval import ApprovalState
from hivectl.model.work import ExecutionState
from hivectl.ports import PermissionAsked
from hivectl.store import people, work
from tests.unit.engine.test_effects import running
from tests.unit.store.test_work import bench

__all__ = ["bench", "running"]

RISKY = PermissionAsked(request="r1", tool="Bash", input={"command": "git push"})
QUESTION = PermissionAsked(request="r2", tool="ExitPlanMode", input={"plan": "x"}, is_question=True)


async def asked(running, item, timeouts, default="ask"):
    def change(tx):
        execution = work.find(tx, running.id)
        answered = permission.ask(tx, execution, item, default=default, timeouts=timeouts)
        return answered, people.find_request(tx, running.id, item.request)

    return await running.db.write(change)


async def test_risk_and_end_are_stored_with_the_request(running):
    answered, stored = await asked(running, RISKY, Timeouts(60, "deny"))
    assert answered is None
    assert (stored.risk, stored.on_timeout) == ("high", "deny")
    assert stored.expires_us == stored.created_us + 60_000_000
    shown = people.describe(stored)
    assert shown["expires_at"]
    assert shown["risk_reason"].startswith("git push")
    found = await running.db.write(lambda tx: work.find(tx, running.id))
    assert found.state is ExecutionState.WAITING


async def test_what_a_rule_answers_at_once_has_no_end(running):
    answered, stored = await asked(running, RISKY, Timeouts(60, "deny"), default="deny")
    assert answered is not None
    assert (stored.state, stored.expires_us) == (ApprovalState.DECIDED, None)
    assert answered.message == permission.DENIED_BY_DEFAULT


async def test_of_too_many_requests_the_next_is_denied_and_those_that_wait_go_on_waiting(
    running, monkeypatch
):
    monkeypatch.setattr(permission, "PENDING_MAX", 3)
    patient = Timeouts(None, "wait")
    for number in range(5):
        answered, stored = await asked(running, replace(RISKY, request=f"q{number}"), patient)
        if number < 3:
            assert (answered, stored.state) == (None, ApprovalState.PENDING)
        else:
            assert (answered.decision, answered.decided_by) == ("deny", "policy:limit")
            assert answered.message == permission.TOO_MANY
    # Read again after a restart, one of the first is no new one.
    answered, stored = await asked(running, replace(RISKY, request="q1"), patient)
    assert (answered, stored.state) == (None, ApprovalState.PENDING)
    said = {"allow": True}
    await running.db.write(
        lambda tx: people.decide(tx, stored.id, version=None, decision="allow", answer=said, message="", by="user:t")
    )  # fmt: skip
    answered, stored = await asked(running, replace(RISKY, request="q9"), patient)
    assert (answered, stored.state) == (None, ApprovalState.PENDING)


async def test_silence_never_agrees_to_a_plan_even_where_the_row_says_so(running):
    _, stored = await asked(running, QUESTION, Timeouts(60, "default", "allow"))
    assert stored.expires_us is None

    def force(tx):
        tx.run("UPDATE approvals SET expires_us = 1, on_timeout = 'allow' WHERE id = ?", stored.id)
        return permission.expire(tx, people.find(tx, stored.id))

    assert (await running.db.write(force)).decision == "deny"
