"""A price of tokens, as settings write it."""

from __future__ import annotations

from dataclasses import dataclass

from hivectl.model.usage import Figures

OUTPUT, CACHE_READ, CACHE_CREATION = 5.0, 0.1, 1.25
"""What a token costs against one of input, for all models."""
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
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


def of_input(usd: float) -> Price:
    """The usual shape, from the price of input."""
    return Price(usd, usd * OUTPUT, usd * CACHE_READ, usd * CACHE_CREATION)


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
        usual = of_input(values[0])
        values += [usual.cache_read, usual.cache_creation]
    return Price(*values)
