"""What was used and what may be used: figures of one model, sums, and budgets with their limits."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import msgspec


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens and dollars of one model."""

    model: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_creation_tokens: int = 0
    cost_usd: float = 0.0

    @property
    def tokens(self) -> int:
        """All that were processed: what a budget of tokens counts."""
        return (
            self.input_tokens
            + self.output_tokens
            + self.cache_read_tokens
            + self.cache_creation_tokens
        )


class Scope(StrEnum):
    """Whose budget it is."""

    EXECUTION = "execution"
    PROJECT = "project"
    USER = "user"


class Kind(StrEnum):
    """What a budget counts."""

    USD = "usd"
    TOKENS = "tokens"
    MINUTES = "minutes"


Limits = Mapping[Kind, float]
"""The limits of one scope; a kind that is missing has none."""


class Used(msgspec.Struct, frozen=True, kw_only=True):
    """A sum, with what of its money was worked out from tokens because Claude never said it."""

    usd: float = 0.0
    tokens: int = 0
    ms: int = 0
    estimated_usd: float = 0.0

    def of(self, kind: Kind) -> float:
        """The amount a budget of this kind counts."""
        match kind:
            case Kind.USD:
                return self.usd
            case Kind.TOKENS:
                return self.tokens
            case Kind.MINUTES:
                return self.ms / 60_000


class Budgets(msgspec.Struct, frozen=True, kw_only=True):
    """What holds where nothing else is said, and how tokens become money."""

    project: Limits = msgspec.field(default_factory=dict)
    user: Limits = msgspec.field(default_factory=dict)
    prices: Mapping[str, str] = msgspec.field(default_factory=dict)
    """By part of a model's name; before the built-in ones."""


NO_BUDGETS = Budgets()


def execution_limits(options: Mapping[str, Any]) -> dict[Kind, float]:
    """The budgets of one execution."""
    given = {
        Kind.USD: options.get("max_budget_usd"),
        Kind.TOKENS: options.get("max_total_tokens"),
    }
    return {kind: float(limit) for kind, limit in given.items() if limit}


def project_limits(budgets: Budgets, defaults: Mapping[str, Any]) -> dict[Kind, float]:
    """A project's budgets of a day: its own where it has them (0 = none), else the settings'."""
    found: dict[Kind, float] = {}
    for kind in Kind:
        own = defaults.get(f"budget_{kind}_per_day")
        limit = budgets.project.get(kind) if own is None else own
        if limit:
            found[kind] = float(limit)
    return found
