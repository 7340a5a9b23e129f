"""What the model says: API messages, block by block, whole or in pieces, with their waits.

Invariant: the `assistant` event of a block comes after its last delta and before its
`content_block_stop`, as in the real stream.
"""

from collections.abc import Callable

from mock_claude import events, machine
from mock_claude.calls import Call
from mock_claude.cli import Cli, Interrupted, Signalled
from mock_claude.machine import Json

SIGNATURE = "ZmFrZS1zaWduYXR1cmU="
DELTA = 16  # characters of a delta when nothing else is said, as recorded


def pieces_of(text: str, count: int) -> list[str]:
    """Cut a text into at most so many pieces of about the same length."""
    size = max(1, -(-len(text) // max(1, count)))
    return [text[start : start + size] for start in range(0, len(text), size)] or [""]


class Speech:
    """The API messages of one turn."""

    def __init__(self, cli: Cli, uuids: list[str]) -> None:
        self.cli = cli
        self.model = cli.model
        self.calls = 0
        self.input_tokens = 0
        self.output_tokens = 0
        self.last_text = ""
        self.is_open = False
        self.is_waiting_for_headers = False
        self.partial = cli.options.has("include-partial-messages")
        self.pieces = 0
        self.before: Callable[[], None] = lambda: None
        self.cost_usd: float | None = None
        self.ttft_ms: int | None = None
        self.started = machine.now()
        self._marks: Json = {}
        if uuids:
            self._marks = {"user_message_uuid": uuids[-1], "user_message_uuids": uuids}
        self._message_id = ""
        self._request_id = ""
        self._index = 0
        self._tokens = 0
        self._said_of_block = ""

    # -- messages

    def begin(self) -> None:
        """Open an API message."""
        self.before()
        cli = self.cli
        self.calls += 1
        self.is_open = True
        self._message_id, self._request_id = cli.ids.message(), cli.ids.request()
        self._index, self._tokens = 0, 7
        if self.partial:
            cli.system("status", status="requesting")
        if self.ttft_ms is None:
            self.ttft_ms = int((machine.now() - self.started) * 1000) + 1
        message = events.api_message(self._message_id, self.model, [])
        more = {"ttft_ms": self.ttft_ms, "thinking_display": "updates"}
        self._stream({"type": "message_start", "message": message}, **more)

    def end(self, stop_reason: str) -> None:
        """Close the message and charge for it."""
        if not self.is_open:
            return
        self.is_open = False
        delta = {"stop_reason": stop_reason, "stop_sequence": None}
        usage = events.api_usage(self._tokens)
        self._stream({"type": "message_delta", "delta": delta, "usage": usage})
        self._stream({"type": "message_stop"})
        self.input_tokens += 100
        self.output_tokens += self._tokens
        self.charge(self._tokens)

    def charge(self, output_tokens: int) -> None:
        """Book one API call."""
        self.cli.ledger.charge(self.model, 100, output_tokens, self.cost_usd)
        if self.cost_usd is not None:
            self.cost_usd = 0.0
        self.cli.ledger.api_ms += 20

    def _stream(self, event: Json, **more: object) -> None:
        if self.partial:
            self.cli.emit(
                {
                    "type": "stream_event",
                    "event": event,
                    "session_id": self.cli.session.id,
                    "parent_tool_use_id": None,
                    "uuid": self.cli.ids.uuid(),
                    **more,
                    "api_message_id": self._message_id,
                }
            )

    # -- blocks

    def text(self, text: str, delay_s: float, hang: Callable[[], None] | None = None) -> None:
        """Say a text, spread over its delay; `hang` is called in the middle of it."""
        self._open_block({"type": "text", "text": ""})
        count = self.pieces or (4 if delay_s and not self.partial else len(text) // 64 + 1)
        pieces = pieces_of(text, count)
        try:
            for index, piece in enumerate(pieces):
                self.pause(delay_s / len(pieces))
                self._delta("text_delta", "text", piece)
                self._said_of_block += piece
                if hang and index == (len(pieces) - 1) // 2:
                    hang()
        except (Interrupted, Signalled):
            self._abort_block()
            raise
        self._close_block({"type": "text", "text": text})
        self.last_text = text

    def think(self, thought: str, delay_s: float) -> None:
        """Think aloud."""
        self._open_block({"type": "thinking", "thinking": "", "signature": ""})
        told = 0
        started = machine.now()
        pieces = pieces_of(thought, -(-len(thought) // DELTA) if self.partial else 1)
        for piece in pieces:
            self.pause(delay_s / len(pieces))
            tokens = max(1, len(piece) // 4)
            told += tokens
            self.cli.system("thinking_tokens", estimated_tokens=told, estimated_tokens_delta=tokens)
            self._delta("thinking_delta", "thinking", piece)
        self._delta("signature_delta", "signature", SIGNATURE)
        block = {"type": "thinking", "thinking": thought, "signature": SIGNATURE}
        lasted = int((machine.now() - started) * 1000) + 1
        self._close_block(block, thinking_duration_ms=lasted, thinking_display="updates")

    def call(self, call: Call, delay_s: float, meta: Json | None = None) -> str:
        """Call a tool; the uuid of its event."""
        block: Json = {"type": "tool_use", "id": call.id, "name": call.name}
        self._open_block({**block, "input": {}})
        text = str(call.input)
        pieces = pieces_of(text, -(-len(text) // DELTA))
        for piece in pieces:
            self.pause(delay_s / len(pieces))
            self._delta("input_json_delta", "partial_json", piece)
        more = {"tool_use_meta": [meta]} if meta else {}
        return self._close_block({**block, "input": call.input}, **more)

    def pause(self, seconds: float) -> None:
        """Wait between events; even no wait lets the host be heard."""
        self.cli.wait(seconds)

    def _open_block(self, block: Json) -> None:
        if not self.is_open:
            self.begin()
        self._said_of_block = ""
        more = {"thinking_display": "updates"} if block["type"] == "thinking" else {}
        event = {"type": "content_block_start", "index": self._index, "content_block": block}
        self._stream(event, **more)

    def _delta(self, kind: str, key: str, piece: str) -> None:
        more = {"thinking_display": "updates"} if kind == "thinking_delta" else {}
        event = {"type": "content_block_delta", "index": self._index}
        self._stream({**event, "delta": {"type": kind, key: piece}}, **more)

    def _close_block(self, block: Json, **more: object) -> str:
        self._tokens += 1 + len(str(block)) // 4
        uuid = self._assistant(block, **more)
        self._stream({"type": "content_block_stop", "index": self._index})
        self._index += 1
        return uuid

    def _assistant(self, block: Json, **more: object) -> str:
        cli = self.cli
        message = events.api_message(self._message_id, self.model, [block])
        uuid = cli.ids.uuid()
        cli.emit(
            {
                "type": "assistant",
                "message": {**message, "context_management": None},
                "parent_tool_use_id": None,
                "session_id": cli.session.id,
                "uuid": uuid,
                "timestamp": machine.iso(),
                "request_id": self._request_id,
                **self._marks,
                **more,
            }
        )
        cli.session.record("assistant", message, uuid, requestId=self._request_id)
        return uuid

    def _abort_block(self) -> None:
        if self._said_of_block:
            self._assistant({"type": "text", "text": self._said_of_block}, aborted=True)

    def close_aborted(self) -> None:
        """Close the stream of a message that was cut off."""
        if not self.is_open:
            return
        self.is_open = False
        self.charge(self._tokens)
        self._stream({"type": "content_block_stop", "index": self._index})
        delta = {
            "container": None,
            "stop_details": None,
            "stop_reason": None,
            "stop_sequence": None,
        }
        usage = {
            "output_tokens_details": {"thinking_tokens": 0},
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "input_tokens": 100,
            "iterations": [],
            "output_tokens": 1,
            "server_tool_use": {"web_search_requests": 0, "web_fetch_requests": 0},
            "fallback_credit": None,
        }
        event = {"type": "message_delta", "context_management": None, "delta": delta}
        self._stream({**event, "usage": usage})
        abandoned = {"api_message_id": self._message_id, "from_block_index": self._index + 1}
        self._stream({"type": "message_stop"}, abandoned_blocks=abandoned)

    def synthetic(self, text: str, **more: object) -> None:
        """The message the CLI writes itself when the API failed."""
        cli = self.cli
        message = events.synthetic_message(cli.ids.uuid(), text)
        uuid = cli.ids.uuid()
        cli.emit(
            {
                "type": "assistant",
                "message": message,
                "parent_tool_use_id": None,
                "session_id": cli.session.id,
                "uuid": uuid,
                "timestamp": machine.iso(),
                **more,
                **self._marks,
            }
        )
        cli.session.record("assistant", message, uuid, isApiErrorMessage=True)
        self.last_text = text
