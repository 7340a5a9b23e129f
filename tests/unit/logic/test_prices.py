"""What tokens cost: learnt, set, or by the list."""

import pytest

from hivectl.logic import prices
from hivectl.model.price import parse_price
from hivectl.model.usage import Figures

USED = Figures(input_tokens=100, output_tokens=8, cache_read_tokens=1000, cache_creation_tokens=40)


@pytest.mark.parametrize(
    ("model", "usd"),
    [
        ("claude-opus-5-5", 0.00056),
        ("claude-sonnet-5-5", 0.00028),
        ("claude-haiku-5-5", 0.000014),
    ],
)
def test_the_list_is_what_claude_itself_counts(model, usd):
    used = Figures(input_tokens=100, output_tokens=8)
    assert prices.price_of(model, learned=None, table={}).cost(used) == pytest.approx(usd)


def test_an_unknown_model_costs_rather_too_much_than_too_little():
    price = prices.price_of("claude-fable-9", learned=None, table={})
    assert price == prices.LIST["opus"]


def test_a_setting_beats_the_list_and_claudes_own_figures_beat_both():
    table = {"opus": "8/40"}
    assert prices.price_of("claude-opus-5-5", learned=None, table=table).output == 40
    assert prices.price_of("claude-opus-5-5", learned=1e-6, table=table).input == pytest.approx(1.0)


def test_weighed_tokens_cost_what_the_tokens_cost():
    price = prices.price_of("opus", learned=None, table={})
    assert prices.weigh(USED) * price.input / 1e6 == pytest.approx(price.cost(USED))


def test_a_price_has_two_or_four_numbers():
    assert parse_price("4/20/1/2").cache_read == 1
    assert parse_price("4/20").cache_creation == 5
    for text in ("", "4", "4/x", "4/20/1", "-1/2", "nan/1", "inf/1"):
        with pytest.raises(ValueError, match="is no price"):
            parse_price(text)
