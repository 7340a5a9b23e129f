"""The decoder agrees with a plain one on what is valid, and never fails in an unforeseen way."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hivectl.model.errors import HiveError
from hivectl.protocol.decode import MAX_INT, decode_object


def decode(data: bytes, max_bytes: int) -> tuple[str | None, dict[str, Any] | None]:
    """The error's code, or the value."""
    try:
        return None, decode_object(data, max_bytes=max_bytes)
    except HiveError as exc:
        return exc.code, None


plain_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_INT, MAX_INT)
    | st.floats(allow_nan=False, allow_infinity=False)
    | plain_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(plain_text, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(plain_text, values, max_size=6), st.booleans(), st.sampled_from([None, 1]))
def test_what_is_plain_json_comes_through_unchanged(
    value: dict[str, Any], is_ascii: bool, indent: int | None
) -> None:
    data = json.dumps(value, ensure_ascii=is_ascii, indent=indent).encode()
    assert decode_object(data, max_bytes=1 << 20) == json.loads(data)


@settings(max_examples=400)
@given(st.binary(max_size=60) | st.text('{}[]",:\\u0d8fc1e9-+. tn\n', max_size=40).map(str.encode))
def test_s36_any_bytes_give_an_object_or_a_typed_error(data: bytes) -> None:
    code, value = decode(data, 50)
    if code is None:
        assert value == json.loads(data)
    else:
        assert code in {"PARSE_ERROR", "INVALID_REQUEST", "TOO_LARGE"}


@given(st.dictionaries(plain_text, values, min_size=1, max_size=4), st.data())
def test_s36_a_key_that_stands_twice_is_refused(value: dict[str, Any], data: st.DataObject) -> None:
    key = data.draw(st.sampled_from(sorted(value)))
    text = json.dumps(value)
    doubled = f"{text[:-1]},{json.dumps(key)}:1}}"
    assert decode(doubled.encode(), 1 << 20) == ("PARSE_ERROR", None)
