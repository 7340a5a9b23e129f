"""Answers that say no tell everything but secrets, on every transport alike."""

import json

import pytest

from hivectl.logic.redact import MASK
from hivectl.model.errors import TABLE, HiveError
from hivectl.protocol.frames import error_object, parse_request
from hivectl.server.problem import error_frame, problem_body, raw_response, without_secrets
from tests.arch import source

TOKEN = "ghp_" + "a1B2" * 9
ERROR = HiveError(
    "PROJECT_NOT_FOUND",
    f"There is no project 'x {TOKEN}'.",
    hint=f"Did you mean `{TOKEN}`?",
    retry_after_ms=7,
    details={"project": TOKEN, "close": ["web", f"password={TOKEN}"], "max": 5, "password": "abc"},
)


def test_s45_a_frame_a_problem_and_a_raw_answer_hold_no_secret():
    assert TOKEN in json.dumps(error_object(ERROR))
    answers = error_frame(7, ERROR, "r_1"), problem_body(404, ERROR, "r_1"), raw_response(404, ERROR, ())  # fmt: skip
    for answer in answers:
        assert TOKEN.encode() not in answer
        assert MASK.encode() in answer
    found = json.loads(answers[0])
    assert found["id"] == 7
    assert found["error"]["message"] == f"There is no project 'x {MASK}'."
    data = found["error"]["data"]
    assert (data["code"], data["retry_after_ms"], data["request_id"]) == (ERROR.code, 7, "r_1")
    expected = {"project": MASK, "close": ["web", f"password={MASK}"], "max": 5, "password": MASK}
    assert data["details"] == expected


@pytest.mark.parametrize("code", TABLE)
def test_nothing_is_lost_of_what_the_table_says(code):
    error = HiveError(code, details={"limit": "limits.connections", "max": 5, "next": [1, None]})
    assert error_object(without_secrets(error)) == error_object(error)


def test_what_is_wrong_with_a_variable_is_told():
    error = HiveError("INVALID_PARAMS", "env.API_KEY: must be a text")
    assert without_secrets(error).message == error.message


@pytest.mark.parametrize("before", range(40))
def test_s45_a_secret_for_the_name_of_a_member_is_not_repeated_cut_off_or_whole(before):
    secret = "eyJ" + "bird" * 8 + ".eyJbird.bird"
    with pytest.raises(HiveError) as caught:
        parse_request({"jsonrpc": "2.0", "id": 1, "method": "ping", "." * before + secret: 1})
    answer = error_frame(1, caught.value)
    assert b"unknown member" in answer
    assert b"birdb" not in answer


def test_s45_no_other_place_of_the_server_makes_an_error_frame():
    makers = [
        source.name(path)
        for path in source.python_files("hivectl/server")
        if "encode_error" in path.read_text(encoding="utf-8")
    ]
    assert makers == ["hivectl/server/problem.py"]
