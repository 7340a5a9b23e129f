"""What tokens cost: by the list, by a setting, and scaled."""

import pytest

from hivectl.logic.prices import LIST, list_price
from hivectl.model.price import parse_price
from hivectl.model.usage import Figures

MANY = 10_000
STATED = [
    ("claude-opus-5-5", 0.04, 0.2, 0.002, 0.05),
    ("claude-sonnet-5-5", 0.02, 0.1, 0.001, 0.025),
    ("claude-haiku-5-5", 0.001, 0.005, 0.0001, 0.00125),
]
"""What Claude Code 2.1.329 states for 10,000 tokens of input, output, cache read and cache written."""


@pytest.mark.parametrize(("model", "input_", "output", "read", "creation"), STATED)
def test_the_list_is_what_claude_itself_counts(model, input_, output, read, creation):
    price = list_price(model, {})
    assert price.cost(Figures(input_tokens=MANY)) == pytest.approx(input_)
    assert price.cost(Figures(output_tokens=MANY)) == pytest.approx(output)
    assert price.cost(Figures(cache_read_tokens=MANY)) == pytest.approx(read)
    assert price.cost(Figures(cache_creation_tokens=MANY)) == pytest.approx(creation)


def test_an_unknown_model_costs_rather_too_much_than_too_little():
    assert list_price("claude-fable-9", {}) == LIST["opus"]


def test_a_setting_beats_the_list():
    table = {"opus": "8/40", "fable": "1/2/3/4"}
    assert list_price("claude-opus-5-5", table).output == 40
    assert list_price("claude-fable-9", table).cache_creation == 4
    assert list_price("claude-haiku-5-5", table) == LIST["haiku"]


def test_a_price_is_scaled_as_a_whole():
    doubled = LIST["sonnet"].times(2)
    assert (doubled.input, doubled.output, doubled.cache_read, doubled.cache_creation) == (
        4.0, 20.0, 0.2, 5.0,
    )  # fmt: skip


def test_a_price_has_two_or_four_numbers():
    assert parse_price("4/20/1/2").cache_read == 1
    assert parse_price("4/20").cache_creation == 5
    for text in ("", "4", "4/x", "4/20/1", "-1/2", "nan/1", "inf/1"):
        with pytest.raises(ValueError, match="is no price"):
            parse_price(text)
