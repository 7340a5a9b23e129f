"""The decoder of inbound JSON."""

from __future__ import annotations

import json
import time

import pytest

from hivectl.model.errors import HiveError
from hivectl.protocol.decode import MAX_DEPTH, MAX_INT, MAX_MEMBERS, decode_object


def code(data: bytes, max_bytes: int = 1 << 20) -> str:
    with pytest.raises(HiveError) as caught:
        decode_object(data, max_bytes=max_bytes)
    return caught.value.code


def test_the_size_is_checked_first() -> None:
    assert decode_object(b'{"a":1}', max_bytes=7) == {"a": 1}
    assert code(b'{"a":1}', 6) == "TOO_LARGE"
    assert code(b"\xff" * 7, 6) == "TOO_LARGE"


def test_depth_is_counted_outside_of_text_only() -> None:
    nested = '{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH
    assert decode_object(nested.encode(), max_bytes=1 << 20)
    assert code(('{"a":' + nested + "}").encode()) == "PARSE_ERROR"
    brackets = json.dumps({"a": "[{" * 5000 + '\\"' * 5000}).encode()
    assert decode_object(brackets, max_bytes=1 << 20)


def test_members_are_counted_outside_of_text_only() -> None:
    assert decode_object(json.dumps({"a": "," * 50_000}).encode(), max_bytes=1 << 20)
    assert decode_object(json.dumps({"a": [0] * (MAX_MEMBERS - 10)}).encode(), max_bytes=1 << 20)
    assert code(json.dumps({"a": [0] * (MAX_MEMBERS + 1)}).encode()) == "TOO_LARGE"
    assert code(json.dumps({str(n): 0 for n in range(MAX_MEMBERS + 1)}).encode()) == "TOO_LARGE"
    assert code(b'{"a":[' + b"[]," * MAX_MEMBERS + b"[]]}") == "TOO_LARGE"


@pytest.mark.parametrize("number", [MAX_INT, -MAX_INT, 0])
def test_integers_a_double_holds_are_accepted(number: int) -> None:
    assert decode_object(b'{"a":[%d]}' % number, max_bytes=100) == {"a": [number]}


@pytest.mark.parametrize("number", [MAX_INT + 1, -MAX_INT - 1, 2**63, 2**64, 10**30])
def test_larger_ones_are_refused_at_any_depth(number: int) -> None:
    assert code(b'{"a":[{"b":%d}]}' % number) == "PARSE_ERROR"


def test_keys_that_are_equal_after_unescaping_are_doubled() -> None:
    assert code(b'{"a":1,"\\u0061":2}') == "PARSE_ERROR"
    assert decode_object(b'{"a":{"a":1},"b":{"a":1}}', max_bytes=100)


def test_pairs_of_surrogates_are_text_and_single_ones_are_refused() -> None:
    assert decode_object(b'{"a":"\\ud83d\\udc1d"}', max_bytes=100) == {"a": "\N{HONEYBEE}"}
    for lone in (b"\\ud83d", b"\\udc1d", b"\\udc1d\\ud83d", b"\\ud83dx"):
        assert code(b'{"a":"' + lone + b'"}') == "PARSE_ERROR"


def test_a_prompt_of_five_mebibytes_takes_little_time() -> None:
    text = 'He said: "no" \\ and\nwent [away], {etc}: ' * 135_000
    data = json.dumps({"prompt": text}).encode()
    assert len(data) > 5 << 20
    began = time.process_time()
    assert decode_object(data, max_bytes=8 << 20) == {"prompt": text}
    assert time.process_time() - began < 0.5


def test_hostile_shapes_cost_no_more_than_a_look() -> None:
    size = 8 << 20
    began = time.process_time()
    for data in (
        b"[" * size,
        b'"' * size,
        b'{"a":' * (size // 5),
        b"," * size,
        b"\\" * size,
        b'\\"' * (size // 2),
    ):
        assert code(data, size) in {"PARSE_ERROR", "TOO_LARGE"}
    assert time.process_time() - began < 2
