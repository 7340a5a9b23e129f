"""A price of tokens, as settings write it."""

from __future__ import annotations

import msgspec

from hivectl.model.usage import Figures

CACHE_READ, CACHE_CREATION = 0.1, 1.25
"""What a token of the cache costs against one of input, where nothing else is said."""
MILLION = 1_000_000


class Price(msgspec.Struct, frozen=True):
    """US dollars a million tokens."""

    input: float
    output: float
    cache_read: float
    cache_creation: float

    def cost(self, used: Figures) -> float:
        """What these tokens cost."""
        return (
            used.input_tokens * self.input
            + used.output_tokens * self.output
            + used.cache_read_tokens * self.cache_read
            + used.cache_creation_tokens * self.cache_creation
        ) / MILLION

    def times(self, factor: float) -> Price:
        """All of it so many times as dear."""
        return Price(
            self.input * factor,
            self.output * factor,
            self.cache_read * factor,
            self.cache_creation * factor,
        )


def parse_price(text: str) -> Price:
    """`INPUT/OUTPUT`, or `INPUT/OUTPUT/CACHE_READ/CACHE_CREATION`. Raises ValueError."""
    try:
        values = [float(part) for part in text.split("/")]
    except ValueError:
        values = []
    if len(values) not in {2, 4} or not all(0 <= value < MILLION for value in values):
        raise ValueError(
            f"{text!r} is no price: give dollars a million tokens as INPUT/OUTPUT"
            " or INPUT/OUTPUT/CACHE_READ/CACHE_CREATION, such as 4/20"
        )
    if len(values) == 2:
        values += [values[0] * CACHE_READ, values[0] * CACHE_CREATION]
    return Price(*values)
