"""Budgets in numbers and words."""

import pytest

from hivectl.logic.budgets import Finding, look
from hivectl.model.usage import Budgets, Kind, Scope, Used, execution_limits, project_limits


@pytest.mark.parametrize(
    ("usd", "found"), [(0.79, []), (0.8, [False]), (0.99, [False]), (1.0, [True]), (7, [True])]
)
def test_a_budget_warns_at_80_percent_and_ends_at_100(usd, found):
    limits = {Kind.USD: 1.0}
    seen = look(Scope.PROJECT, "p", "web", limits, Used(usd=usd), is_estimate=False)
    assert [finding.is_exceeded for finding in seen] == found


def test_what_is_used_up_is_told_before_what_is_nearly():
    limits = {Kind.USD: 1.0, Kind.TOKENS: 100, Kind.MINUTES: 1}
    seen = look(
        Scope.USER, "u", "u", limits, Used(usd=0.9, tokens=100, ms=48_000), is_estimate=True
    )
    assert [(finding.kind, finding.is_exceeded) for finding in seen] == [
        (Kind.TOKENS, True), (Kind.USD, False), (Kind.MINUTES, False),
    ]  # fmt: skip


def finding(scope, kind, used, limit, **more):
    return Finding(scope=scope, key="k", name="web", kind=kind, used=used, limit=limit, **more)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (finding(Scope.EXECUTION, Kind.USD, 0.62, 0.5), ["Its budget is used up: $0.62 of $0.50", "exec --budget 1"]),
        (finding(Scope.EXECUTION, Kind.TOKENS, 1200, 1000), ["1,200 tokens of 1,000 tokens", "exec --max-tokens 2000"]),
        (finding(Scope.PROJECT, Kind.USD, 5.1, 5, is_estimate=True), ["Today's budget of project web is used up: ~$5.10 of $5.00", "budget_usd_per_day=10", "at TOMORROW"]),
        (finding(Scope.PROJECT, Kind.MINUTES, 61, 60), ["61.0 minutes of 60.0 minutes", "budget_minutes_per_day=120"]),
        (finding(Scope.USER, Kind.TOKENS, 10, 10), ["budget of web", "config set budget.user_tokens_per_day 20"]),
    ],
)  # fmt: skip
def test_a_sentence_says_what_how_much_and_what_to_do(found, words):
    text = found.sentence("TOMORROW")
    for word in words:
        assert word in text
    assert found.is_exceeded


def test_a_warning_names_the_share():
    assert (
        finding(Scope.PROJECT, Kind.USD, 4.1, 5)
        .warning()
        .startswith("82 % of today's budget of project web")
    )


def test_a_project_may_have_its_own_limits_or_none():
    settings = Budgets(project={Kind.USD: 5.0, Kind.TOKENS: 9})
    own = project_limits(settings, {"budget_usd_per_day": 2, "budget_tokens_per_day": 0})
    assert own == {Kind.USD: 2.0}
    assert project_limits(settings, {}) == {Kind.USD: 5.0, Kind.TOKENS: 9.0}
    assert execution_limits({"max_budget_usd": None, "max_total_tokens": 7}) == {Kind.TOKENS: 7.0}
