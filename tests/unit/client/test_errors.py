import pytest

from hivectl.client.errors import TERMINAL_CLOSES, ConnectionLost, parse_error
from hivectl.model.errors import TABLE, HiveError
from hivectl.testing.daemon import error_object


@pytest.mark.parametrize("code", TABLE)
def test_every_error_of_the_table_survives_the_wire(code):
    sent = HiveError(code, "what happened", hint="do that", details={"a": 1}, retry_after_ms=5)
    found = parse_error(error_object(sent))
    assert (found.code, found.message, found.hint) == (code, "what happened", "do that")
    assert found.details["a"] == 1
    assert found.details["request_id"] == "r_1"
    assert found.retry_after_ms == 5


def test_a_code_of_a_newer_daemon_is_internal_and_named():
    found = parse_error({"code": -1, "message": "new", "data": {"code": "BRAND_NEW"}})
    assert found.code == "INTERNAL"
    assert found.details["code"] == "BRAND_NEW"


def test_an_error_without_data_is_internal():
    assert parse_error({"code": -32603, "message": "x"}).code == "INTERNAL"


@pytest.mark.parametrize("code", [1001, 1006, 1011, 1012, 4429, 4430, 4431, 4440])
def test_after_these_closes_another_try_helps(code):
    lost = ConnectionLost(code)
    assert not lost.is_terminal
    assert lost.as_error().code == "UNAVAILABLE"


@pytest.mark.parametrize("code", TERMINAL_CLOSES)
def test_after_these_closes_it_does_not(code):
    assert ConnectionLost(code).is_terminal
