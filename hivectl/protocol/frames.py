"""Envelopes of the wire: what a request, an answer, an event and a control message look like as bytes.

Pure bytes and values, no socket. An event is encoded once, by splicing its stored `data` unchanged into
the envelope, and the same bytes serve all receivers.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from hivectl.kit.clock import MICROSECOND, format_us
from hivectl.model.errors import HiveError

MAX_ID_CHARS = 64
_encoder = msgspec.json.Encoder()
encode = _encoder.encode
"""JSON bytes of plain values, dataclasses, structs and msgspec.Raw."""

_REQUEST_KEYS = frozenset({"jsonrpc", "id", "method", "params"})
_EVENT_HEAD = b'{"jsonrpc":"2.0","method":"event","params":'

RequestId = str | int


class EventRecord(Protocol):
    """What is needed of a journal record to show it."""

    @property
    def seq(self) -> int: ...
    @property
    def ts(self) -> int: ...
    @property
    def type(self) -> str: ...
    @property
    def data(self) -> msgspec.Raw: ...
    @property
    def execution(self) -> str | None: ...
    @property
    def session(self) -> str | None: ...
    @property
    def request(self) -> str | None: ...
    @property
    def actor(self) -> str | None: ...


class Request(msgspec.Struct, frozen=True):
    """One request; `id` is None for a notification, of which only `$/cancel` is known."""

    id: RequestId | None
    method: str
    params: dict[str, Any]


def parse_request(message: dict[str, Any]) -> Request:
    """The request in a decoded message. Raises HiveError INVALID_REQUEST."""
    if message.get("jsonrpc") != "2.0":
        raise _invalid('`jsonrpc` must be "2.0"')
    if not message.keys() <= _REQUEST_KEYS:
        unknown = min(message.keys() - _REQUEST_KEYS)
        # What was cut off says so: by that sign a secret is found of which only the beginning is left.
        shown = unknown if len(unknown) <= 40 else f"{unknown[:39]}…"
        raise _invalid(f"unknown member {shown!r}")
    method = message.get("method")
    if not isinstance(method, str) or not 0 < len(method) <= 100:
        raise _invalid("`method` must be a text")
    params = message.get("params", {})
    if not isinstance(params, dict):
        raise _invalid("`params` must be an object")
    return Request(_checked_id(message), method, params)


def id_of(message: dict[str, Any]) -> RequestId | None:
    """The id of a message that may be no proper request: an error can still name it."""
    try:
        return _checked_id(message)
    except HiveError:
        return None


def _checked_id(message: dict[str, Any]) -> RequestId | None:
    if "id" not in message:
        return None
    found = message["id"]
    if isinstance(found, str) and 0 < len(found) <= MAX_ID_CHARS:
        return found
    if isinstance(found, int) and not isinstance(found, bool):
        return found
    raise _invalid(f"`id` must be an integer or a text of at most {MAX_ID_CHARS} characters")


def _invalid(why: str) -> HiveError:
    return HiveError("INVALID_REQUEST", f"The message is no request: {why}.")


def encode_request(request_id: RequestId, method: str, params: dict[str, Any]) -> bytes:
    """A request, as clients send it."""
    return encode({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})


def encode_result(request_id: RequestId, result: Any) -> bytes:
    """The answer of a request that succeeded. Raises TypeError for what is no JSON."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (encode(request_id), encode(result))


def error_object(error: HiveError, request: str = "") -> dict[str, Any]:
    """The error member: integer, message, and `data` whose `code` is the contract."""
    kind = error.kind
    data: dict[str, Any] = {"code": error.code, "retryable": kind.retryable, "hint": error.hint}
    if error.retry_after_ms is not None:
        data["retry_after_ms"] = error.retry_after_ms
    if error.details:
        data["details"] = error.details
    if request:
        data["request_id"] = request
    return {"code": kind.rpc, "message": error.message, "data": data}


def encode_error(request_id: RequestId | None, error: HiveError, request: str = "") -> bytes:
    """The answer of a request that failed; id null when it could not be read."""
    return encode({"jsonrpc": "2.0", "id": request_id, "error": error_object(error, request)})


def encode_notification(method: str, params: dict[str, Any]) -> bytes:
    """A control message: hello, caught_up, bookmark, lagged, reset, auth.expiring, going_away."""
    return encode({"jsonrpc": "2.0", "method": method, "params": params})


def project_of(stream: str) -> str | None:
    """The project whose home stream this is; None for `system`."""
    return stream.removeprefix("project:") if stream.startswith("project:") else None


@lru_cache(maxsize=1024)
def _envelope(
    kind: str,
    project: str | None,
    execution: str | None,
    session: str | None,
    request: str | None,
    actor: str | None,
) -> bytes:
    fields = {
        "type": kind,
        "project": project,
        "execution": execution,
        "session": session,
        "request": request,
        "actor": actor,
    }
    shown = encode({name: value for name, value in fields.items() if value is not None})
    return shown[1:-1]


@lru_cache(maxsize=256)
def _head(stream: str, epoch: str) -> bytes:
    return b'{"stream":%b,"epoch":%b,"seq":' % (encode(stream), encode(epoch))


@lru_cache(maxsize=64)
def _second(seconds: int) -> bytes:
    return format_us(seconds * MICROSECOND)[:-7].encode()


def event_object(stream: str, epoch: str, record: EventRecord) -> msgspec.Raw:
    """The event as JSON: `params` of an event frame, an item of get_messages."""
    seconds, micros = divmod(record.ts, MICROSECOND)
    envelope = _envelope(
        record.type,
        project_of(stream),
        record.execution,
        record.session,
        record.request,
        record.actor,
    )
    return msgspec.Raw(
        b'%b%d,"ts":"%b%06dZ",%b,"data":%b}'
        % (_head(stream, epoch), record.seq, _second(seconds), micros, envelope, record.data)
    )


def encode_alike(
    stream: str,
    epoch: str,
    seq: int,
    data: Sequence[bytes],
    *,
    ts: int,
    type: str,  # noqa: A002  as the member is called
    execution: str | None = None,
    session: str | None = None,
) -> list[bytes]:
    """The frames of events from `seq` on that differ in their data alone: a format for all of them."""
    seconds, micros = divmod(ts, MICROSECOND)
    envelope = _envelope(type, project_of(stream), execution, session, None, None)
    rest = b',"ts":"%b%06dZ",%b,"data":' % (_second(seconds), micros, envelope)
    head = _EVENT_HEAD + _head(stream, epoch)
    form = head.replace(b"%", b"%%") + b"%d" + rest.replace(b"%", b"%%") + b"%b}}"
    return [form % each for each in zip(range(seq, seq + len(data)), data, strict=True)]


def encode_event(stream: str, epoch: str, record: EventRecord) -> bytes:
    """The frame of a numbered event."""
    return b"".join((_EVENT_HEAD, bytes(event_object(stream, epoch, record)), b"}"))


def encode_ephemeral(
    stream: str, ts_us: int, kind: str, data: Any, execution: str | None = None
) -> bytes:
    """The frame of an event without `seq`: shown once, never stored."""
    params: dict[str, Any] = {"stream": stream, "ts": format_us(ts_us), "type": kind}
    project = project_of(stream)
    if project is not None:
        params["project"] = project
    if execution is not None:
        params["execution"] = execution
    params["data"] = data
    return encode({"jsonrpc": "2.0", "method": "event", "params": params})


def text_frame(payload: bytes) -> bytes:
    """`payload` as one unmasked WebSocket text frame, ready to be written to any receiver."""
    size = len(payload)
    if size < 126:
        return b"\x81%c%b" % (size, payload)
    if size < 65536:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), payload)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), payload)
