"""What tokens cost, where Claude did not live to say it.

Claude's own figures come first: models are priced in one shape (output five times input, reading the
cache a tenth of it, filling it one and a quarter), so a model's price is one number, and what Claude
stated for earlier turns of that model gives it. Where it stated none, a table holds.

The table is what Claude Code 2.1.329 (2026) counts for its own models, in US dollars a million tokens,
worked out from its `costUSD` and token counts in recorded runs. `usage.prices` replaces entries.
"""

from __future__ import annotations

from collections.abc import Mapping

from hivectl.model.price import (
    CACHE_CREATION,
    CACHE_READ,
    MILLION,
    OUTPUT,
    Price,
    of_input,
    parse_price,
)
from hivectl.model.usage import Figures

LIST: Mapping[str, Price] = {
    "haiku": of_input(0.1),
    "sonnet": of_input(2.0),
    "opus": of_input(4.0),
}
UNKNOWN = LIST["opus"]
"""For a model of another name: rather too much than too little."""


def weigh(used: Figures) -> float:
    """Tokens as if all were input."""
    return (
        used.input_tokens
        + used.output_tokens * OUTPUT
        + used.cache_read_tokens * CACHE_READ
        + used.cache_creation_tokens * CACHE_CREATION
    )


def price_of(model: str, *, learned: float | None, table: Mapping[str, str]) -> Price:
    """The price of a model. `learned`: dollars a weighed token, from Claude's own figures; None = unknown."""
    if learned is not None:
        return of_input(learned * MILLION)
    for part, text in table.items():
        if part in model:
            return parse_price(text)
    return next((price for part, price in LIST.items() if part in model), UNKNOWN)
