"""How long a person has for an answer, and what is answered when nobody comes.

It fails closed: what happens after the time is fixed when Claude asks, silence never answers a question or
agrees to a plan, and a rule that allows after its time allows only what an allow rule with the same words
would. A rule that asks is read broadly, and nobody may wait until `git *` lets `git x; rm -rf /` through.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from hivectl.logic.options import invalid
from hivectl.logic.policy import QUESTIONS, Action, Place, Policy, covers

OnTimeout = Literal["wait", "deny", "allow"]
ON_TIMEOUT: tuple[OnTimeout, ...] = ("wait", "deny", "allow")
LEAST_S = 1.0
MOST_S = 30 * 86_400.0
"""Shortest and longest time a rule may give."""


class Timeouts(msgspec.Struct, frozen=True):
    """What is configured for requests whose rule says nothing: seconds (0: for ever), and then what."""

    timeout_s: float = 0.0
    on_timeout: Literal["wait", "deny", "default"] = "deny"
    default: Action = "ask"
    """`approval.default`: what `default` stands for. Where that is to ask, it goes on waiting."""


NO_TIMEOUTS = Timeouts()


class Expiry(msgspec.Struct, frozen=True):
    """After so many seconds without an answer it is decided like this."""

    after_s: float
    decision: Literal["deny", "allow"]


def expiry(
    rule: Policy | None,
    tool: str,
    input_: Mapping[str, Any],
    *,
    is_question: bool,
    place: Place,
    timeouts: Timeouts,
) -> Expiry | None:
    """When and how a request that a person is asked decides itself; None: it waits until somebody answers.

    `rule` is the one that asks, None where no rule matched."""
    after_s, wanted = timeouts.timeout_s, _configured(timeouts)
    if rule is not None and rule.on_timeout is not None:
        after_s, wanted = rule.timeout_s or 0.0, rule.on_timeout
    is_question = is_question or tool in QUESTIONS
    if wanted == "wait" or not after_s or (wanted == "allow" and is_question):
        return None
    if (
        wanted == "allow"
        and rule is not None
        and not covers(replace(rule, action="allow"), tool, input_, place)
    ):
        return None
    return Expiry(after_s, wanted)


def _configured(timeouts: Timeouts) -> OnTimeout:
    if timeouts.on_timeout != "default":
        return timeouts.on_timeout
    return "wait" if timeouts.default == "ask" else timeouts.default


def settle(
    action: str, timeout_s: float | None, on_timeout: str | None
) -> tuple[float | None, OnTimeout | None]:
    """A rule's time-out as it is stored: a time alone means to deny after it. Raises INVALID_PARAMS."""
    if timeout_s is None and on_timeout is None:
        return None, None
    problems: list[tuple[str, str, str]] = []
    if action != "ask":
        problems.append(
            ("timeout_s", f"does not go with {action}", "only a rule that asks waits for a person")
        )
    if on_timeout not in {None, *ON_TIMEOUT}:
        problems.append(("on_timeout", "is not known", ", ".join(ON_TIMEOUT)))
    if timeout_s is None and on_timeout != "wait":
        problems.append(("timeout_s", "is missing", f"say after how long to {on_timeout}"))
    if timeout_s is not None and not LEAST_S <= timeout_s <= MOST_S:
        problems.append(("timeout_s", "is out of range", f"{LEAST_S:g} to {MOST_S:g} seconds"))
    if problems:
        raise invalid(problems)
    kept: OnTimeout = "deny" if on_timeout is None else on_timeout  # type: ignore[assignment]
    return (None, kept) if kept == "wait" else (timeout_s, kept)


def sentence(rule: str, *, is_allowed: bool) -> str:
    """What Claude and people hear when it was decided so. `rule` is the asking rule's id, or empty."""
    word = "allowed" if is_allowed else "denied"
    return (
        f"Nobody answered in time; {word} by {f'rule {rule}' if rule else 'approval.on_timeout'}."
    )
