"""What tokens cost, where Claude did not live to say it.

A list gives the shape (what output and the cache cost beside input), and what Claude itself stated for
earlier turns of the model scales it: it knows of new prices, searches and long contexts before the list does.

The list is what Claude Code 2.1.329 (November 2026) counts for its own models, in US dollars a million
tokens, found by giving the real program answers with known token counts and reading its `costUSD`. (It also
counts cache that lasts an hour twice as dear as input, and Haiku's contexts above 200,000 tokens five times.)
`usage.prices` replaces entries.
"""

from __future__ import annotations

from collections.abc import Mapping

from hivectl.model.price import Price, parse_price

LIST: Mapping[str, Price] = {
    "haiku": Price(0.1, 0.5, 0.01, 0.125),
    "sonnet": Price(2.0, 10.0, 0.1, 2.5),
    "opus": Price(4.0, 20.0, 0.2, 5.0),
}
UNKNOWN = LIST["opus"]
"""For a model of another name: rather too much than too little."""


def list_price(model: str, table: Mapping[str, str]) -> Price:
    """The price of a model by the list; `table` (part of a name -> price) comes first."""
    for part, text in table.items():
        if part in model:
            return parse_price(text)
    return next((price for part, price in LIST.items() if part in model), UNKNOWN)
