"""Budgets: which of them are nearly or quite used up, in numbers and in words. Pure."""

from __future__ import annotations

import msgspec

from hivectl.model.usage import Kind, Limits, Scope, Used

WARNING_SHARE = 0.8
"""From here on a budget warns, once a day."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One budget that is nearly or quite used up."""

    scope: Scope
    key: str
    """The execution's, project's or user's id."""
    name: str
    """What people call it."""
    kind: Kind
    used: float
    limit: float
    is_estimate: bool = False

    @property
    def is_exceeded(self) -> bool:
        """Nothing more may be used."""
        return self.used >= self.limit

    @property
    def share(self) -> str:
        """`$4.02 of $5.00`."""
        about = "~" if self.is_estimate and self.kind is Kind.USD else ""
        return f"{about}{amount(self.kind, self.used)} of {amount(self.kind, self.limit)}"

    def sentence(self, until: str = "") -> str:
        """What is used up, how much was used, and what to do."""
        whose = f"{self.whose[0].upper()}{self.whose[1:]}"
        if self.scope is Scope.EXECUTION:
            return f"{whose} is used up: {self.share}. {self.raise_it()}"
        return (
            f"{whose} is used up: {self.share}."
            f" What waits starts at {until}, or sooner when you raise it: {self.raise_it()}"
        )

    @property
    def whose(self) -> str:
        """Which budget it is."""
        if self.scope is Scope.EXECUTION:
            return "its budget"
        who = self.name if self.scope is Scope.USER else f"project {self.name}"
        return f"today's budget of {who}"

    def warning(self) -> str:
        """That little is left."""
        return f"{int(self.used / self.limit * 100)} % of {self.whose} are used: {self.share}."

    def raise_it(self) -> str:
        """The command that gives more."""
        more = plain(self.kind, self.limit * 2)
        match self.scope, self.kind:
            case Scope.EXECUTION, Kind.USD:
                return f"Give more with `hivectl exec --budget {more}`."
            case Scope.EXECUTION, _:
                return f"Give more with `hivectl exec --max-tokens {more}`."
            case Scope.PROJECT, kind:
                return (
                    f"`hivectl project update {self.name} --default budget_{kind}_per_day={more}`."
                )
            case Scope.USER, kind:
                return (
                    f"`hivectl config set budget.user_{kind}_per_day {more}`,"
                    " then `hivectl daemon restart` (runs go on)."
                )
        raise AssertionError(self.scope)


def look(
    scope: Scope, key: str, name: str, limits: Limits, used: Used, *, is_estimate: bool
) -> list[Finding]:
    """The budgets of one scope that are nearly or quite used up, those that are quite first."""
    found = [
        Finding(
            scope=scope,
            key=key,
            name=name,
            kind=kind,
            used=used.of(kind),
            limit=limit,
            is_estimate=is_estimate,
        )
        for kind, limit in limits.items()
        if limit > 0 and used.of(kind) >= limit * WARNING_SHARE
    ]
    return sorted(found, key=lambda finding: not finding.is_exceeded)


def amount(kind: Kind, value: float) -> str:
    """An amount with its unit."""
    match kind:
        case Kind.USD:
            return f"${value:.4f}" if 0 < value < 0.1 else f"${value:.2f}"
        case Kind.TOKENS:
            return f"{value:,.0f} tokens"
        case Kind.MINUTES:
            return f"{value:.2f} minutes" if value < 1 else f"{value:.1f} minutes"


def plain(kind: Kind, value: float) -> str:
    """An amount as a command takes it."""
    return f"{value:.0f}" if kind is Kind.TOKENS else f"{value:g}"
