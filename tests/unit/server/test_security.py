"""Hosts, origins and tokens as values; over sockets they are tried in tests/security."""

from __future__ import annotations

import pytest

from hivectl.model.errors import HiveError
from hivectl.server.security import (
    Gate,
    Place,
    TcpAddress,
    Token,
    parse_listen,
    parse_origin,
    parse_place,
)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("a.example", Place("a.example", None)),
        ("A.Example.:80", Place("a.example", 80)),
        ("[::1]:4483", Place("::1", 4483)),
        ("[0:0::1]", Place("::1", None)),
        ("a:0", None), ("a:65536", None), ("a:", None), ("a b", None), ("[::1", None), ("[zz]", None),
        ("", None), ("a..b", None), ("a/b", None), ("ä", None),
    ],
)  # fmt: skip
def test_places_have_one_spelling(text: str, wanted: Place | None) -> None:
    assert parse_place(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("http://a.example", ("http", "a.example", 80)),
        ("HTTPS://A.example.:8443", ("https", "a.example", 8443)),
        ("http://[::1]:1", ("http", "::1", 1)),
        ("null", None), ("http://a/", None), ("http://u@a", None), ("a", None), ("foo://a", None),
    ],
)  # fmt: skip
def test_origins_are_parsed_whole(text: str, wanted: object) -> None:
    assert parse_origin(text) == wanted


def test_a_gate_refuses_configured_nonsense() -> None:
    for wrong in ({"allowed_hosts": ["a b"]}, {"public_origins": ["a.example"]}):
        with pytest.raises(HiveError):
            Gate(port=1, **wrong)  # type: ignore[arg-type]


def test_port_80_needs_not_be_named() -> None:
    gate = Gate(port=80, bound="127.0.0.1")
    assert gate.check(b"/", [(b"host", b"127.0.0.1")]) is None
    assert gate.check(b"/", [(b"host", b"127.0.0.1:80")]) is None


def test_listening_on_all_addresses_allows_no_more_hosts() -> None:
    gate = Gate(port=9, bound="0.0.0.0")
    assert gate.check(b"/", [(b"host", b"0.0.0.0:9")]) is not None
    assert gate.check(b"/", [(b"host", b"localhost:9")]) is None


def test_addresses_to_listen_on() -> None:
    assert parse_listen("off", insecure_plain_http=False) is None
    assert parse_listen("localhost:0", insecure_plain_http=False) == TcpAddress("127.0.0.1", 0)
    assert str(parse_listen("[::1]:5", insecure_plain_http=False)) == "[::1]:5"


def test_tokens() -> None:
    with pytest.raises(ValueError, match="short"):
        Token("short")
    token = Token("hive_" + "x" * 40)
    assert token.matches("hive_" + "x" * 40)
    assert not token.matches("hive_" + "x" * 39)
    assert not token.matches("")
    assert "hive_" not in repr(vars(token))
    assert token.matches_header([]) is None
    assert token.matches_header([(b"authorization", b"Bearer hive_" + b"x" * 40)]) is True
    assert token.matches_header([(b"authorization", b"hive_" + b"x" * 40)]) is False
