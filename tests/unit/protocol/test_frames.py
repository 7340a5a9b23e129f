"""Envelopes: exactly what the protocol page says."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from hivectl.model.errors import TABLE, HiveError
from hivectl.protocol import frames


@dataclass
class Record:
    seq: int = 7
    ts: int = 1_700_000_000_123_456
    type: str = "message"
    data: msgspec.Raw = field(default_factory=lambda: msgspec.Raw(b'{"b": 1.50, "a":"\\u00e9"}'))
    execution: str | None = None
    session: str | None = None
    request: str | None = None
    actor: str | None = None


def test_an_event_is_spliced_with_its_data_word_for_word() -> None:
    record = Record(execution="x_1", session="s-1", request="r_1", actor="user:me")
    assert frames.encode_event("project:p_1", "e_1", record) == (
        b'{"jsonrpc":"2.0","method":"event","params":{"stream":"project:p_1","epoch":"e_1","seq":7,'
        b'"ts":"2023-11-14T22:13:20.123456Z","type":"message","project":"p_1","execution":"x_1",'
        b'"session":"s-1","request":"r_1","actor":"user:me","data":{"b": 1.50, "a":"\\u00e9"}}}'
    )


def test_what_an_event_lacks_is_left_out() -> None:
    event = json.loads(bytes(frames.event_object("system", "e_1", Record())))
    assert set(event) == {"stream", "epoch", "seq", "ts", "type", "data"}


def test_an_ephemeral_event_has_no_number() -> None:
    frame = json.loads(
        frames.encode_ephemeral("project:p_1", 0, "partial", {"after_seq": 3}, "x_1")
    )
    assert frame["params"] == {
        "stream": "project:p_1",
        "ts": "1970-01-01T00:00:00.000000Z",
        "type": "partial",
        "project": "p_1",
        "execution": "x_1",
        "data": {"after_seq": 3},
    }


def test_an_error_carries_its_code_and_what_to_do() -> None:
    error = HiveError(
        "PROJECT_BUSY", "Project web is busy", retry_after_ms=3000, details={"execution": "x_1"}
    )
    assert json.loads(frames.encode_error(7, error, "r_1")) == {
        "jsonrpc": "2.0",
        "id": 7,
        "error": {
            "code": -32010,
            "message": "Project web is busy",
            "data": {
                "code": "PROJECT_BUSY",
                "retryable": True,
                "hint": TABLE["PROJECT_BUSY"].hint,
                "retry_after_ms": 3000,
                "details": {"execution": "x_1"},
                "request_id": "r_1",
            },
        },
    }


def test_every_error_can_be_shown() -> None:
    for code, kind in TABLE.items():
        shown = json.loads(frames.encode_error(None, HiveError(code)))
        assert shown["id"] is None
        assert shown["error"]["code"] == kind.rpc
        assert shown["error"]["data"]["code"] == code
        assert shown["error"]["data"]["retryable"] is kind.retryable


def test_results_and_requests_and_control_messages() -> None:
    assert (
        frames.encode_result("a", {"x": msgspec.Raw(b"[1]")})
        == b'{"jsonrpc":"2.0","id":"a","result":{"x":[1]}}'
    )
    asked = json.loads(frames.encode_request(1, "ping", {}))
    assert frames.parse_request(asked) == frames.Request(1, "ping", {})
    assert json.loads(frames.encode_notification("hello", {"a": 1})) == {
        "jsonrpc": "2.0",
        "method": "hello",
        "params": {"a": 1},
    }


@pytest.mark.parametrize(
    ("message", "wanted"),
    [({"id": 1}, 1), ({"id": "x" * 64}, "x" * 64), ({"id": "x" * 65}, None), ({"id": ""}, None),
     ({"id": None}, None), ({"id": True}, None), ({"id": 1.0}, None), ({}, None)],
)  # fmt: skip
def test_ids_are_short_texts_or_integers(message: dict[str, Any], wanted: object) -> None:
    assert frames.id_of(message) == wanted
    if "id" in message and wanted is None:
        with pytest.raises(HiveError):
            frames.parse_request({"jsonrpc": "2.0", "method": "ping", **message})


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 70_000])
def test_text_frames_are_those_of_the_standard(size: int) -> None:
    from websockets.frames import Frame, Opcode

    payload = b"x" * size
    assert frames.text_frame(payload) == Frame(Opcode.TEXT, payload).serialize(mask=False)
