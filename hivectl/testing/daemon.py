"""An in-process stand-in for the daemon: it speaks the protocol, its answers are scripted.

    with FakeDaemon(home) as daemon:
        daemon.answers["project.get"] = lambda params: {...}
        daemon.publish("project:p_1", "message", {...}, execution="x_1")

It runs in a thread of its own, so that blocking code (the CLI) can be tested against it. It keeps a log
per stream, replays from cursors as the real one does, and can be told to drop connections, restart,
repeat events (at least once) or begin another epoch. What it does not do: anything that is not scripted.
"""

from __future__ import annotations

import asyncio
import fnmatch
import json
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from websockets.exceptions import InvalidState
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from hivectl.kit.aio import Nursery
from hivectl.kit.clock import SystemClock, format_us
from hivectl.model.errors import HiveError
from hivectl.model.event import EVENTS
from hivectl.protocol.methods import METHODS, PROTOCOL_VERSION, SUBPROTOCOL, params_model

Answer = Callable[[dict[str, Any]], Any]
_START_S = 5.0


class FakeDaemon:
    """See the module. `answers` maps a method to a function of its parameters, which returns the result,
    an awaitable of it, or raises HiveError. `requests` lists what was asked, in order."""

    def __init__(self, home: Path, *, protocol: int = PROTOCOL_VERSION) -> None:
        self.home = home
        self.path = home / "run" / "api.sock"
        self.protocol = protocol
        self.epoch = "e_1"
        self.answers: dict[str, Answer] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.streams: dict[str, list[dict[str, Any]]] = {}
        self.repeats_last = 0
        """How many events before a cursor are sent again: at least once."""
        self.connections_seen = 0
        self._connections: set[_Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._server: asyncio.Server | None = None
        self._nursery = Nursery(lambda _name, _error: None)
        self._changed = threading.Condition()
        self._is_idle = asyncio.Event()

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._thread.start()
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self._run(self._nursery.close(within_s=1))
        self._run(self._end_connections())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # -- what tests do to it ------------------------------------------------------------------

    def publish(
        self, stream: str, kind: str, data: dict[str, Any], **fields: Any
    ) -> dict[str, Any]:
        """Append an event to a stream's log and send it to its followers; an ephemeral one is only sent."""
        event: dict[str, Any] = self._run(self._publish(stream, kind, data, fields))
        return event

    def start(self) -> None:
        """Listen (again)."""
        self._run(self._listen())

    def stop(self, *, code: int = 1012, reconnect_after_ms: int | None = None) -> None:
        """Close every connection and stop listening."""
        self._run(self._stop(code, reconnect_after_ms))

    def drop_connections(self) -> None:
        """Cut every connection without a goodbye, as a crash does."""
        self._run(self._drop())

    def new_epoch(self, stream: str, epoch: str) -> None:
        """History was lost: the stream starts over, in another epoch."""
        self.epoch = epoch
        self.streams[stream] = []

    def wait_for(self, method: str, *, count: int = 1, within_s: float = 10.0) -> dict[str, Any]:
        """Wait until `method` was asked for `count` times; the parameters of the last."""
        with self._changed:
            found = self._changed.wait_for(
                lambda: sum(name == method for name, _ in self.requests) >= count, within_s
            )
        if not found:
            raise AssertionError(f"{method} was not called {count} times: {self.requests}")
        return [params for name, params in self.requests if name == method][-1]

    # -- inside -------------------------------------------------------------------------------

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_START_S)

    async def _listen(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._accept, str(self.path))

    async def _stop(self, code: int, reconnect_after_ms: int | None) -> None:
        if self._server is not None:
            for listener in self._server.sockets:
                self._loop.remove_reader(listener.fileno())
            # A closed server forgets whom it has just accepted, and leaves that socket open.
            await _let_in()
            self._server.close()
            self._server = None
        for connection in list(self._connections):
            if reconnect_after_ms is not None:
                await connection.notify("going_away", {"reconnect_after_ms": reconnect_after_ms})
            await connection.close(code)
        self.path.unlink(missing_ok=True)

    async def _end_connections(self) -> None:
        await _let_in()
        await self._drop()
        if self._connections:
            self._is_idle.clear()
            await self._is_idle.wait()

    async def _drop(self) -> None:
        for connection in list(self._connections):
            connection.writer.transport.abort()

    async def _publish(
        self, stream: str, kind: str, data: dict[str, Any], fields: dict[str, Any]
    ) -> dict[str, Any]:
        event: dict[str, Any] = {
            "stream": stream,
            "ts": format_us(SystemClock().now_us()),
            "type": kind,
            **fields,
            "data": data,
        }
        if kind not in EVENTS or EVENTS[kind].is_durable:
            log = self.streams.setdefault(stream, [])
            event |= {"epoch": self.epoch, "seq": len(log) + 1}
            log.append(event)
        for connection in list(self._connections):
            await connection.offer(event)
        return event

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections_seen += 1
        connection = _Connection(self, reader, writer)
        self._connections.add(connection)
        try:
            await connection.serve()
        except (ConnectionError, asyncio.IncompleteReadError):
            return
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()
            self._connections.discard(connection)
            if not self._connections:
                self._is_idle.set()

    async def answer(self, frame: dict[str, Any], connection: _Connection | None) -> dict[str, Any]:
        """The response to one request."""
        method, params = frame["method"], frame.get("params") or {}
        with self._changed:
            self.requests.append((method, params))
            self._changed.notify_all()
        try:
            result = await self._result(method, params, connection)
        except HiveError as exc:
            return {"jsonrpc": "2.0", "id": frame["id"], "error": error_object(exc)}
        return {"jsonrpc": "2.0", "id": frame["id"], "result": result}

    async def _result(
        self, method: str, params: dict[str, Any], connection: _Connection | None
    ) -> Any:
        if method not in METHODS:
            raise HiveError("METHOD_NOT_FOUND", f"There is no method {method}.")
        params_model(METHODS[method]).model_validate(params)
        if method in self.answers:
            result = self.answers[method](params)
            return await result if asyncio.iscoroutine(result) else result
        if method == "ping":
            return {"time": format_us(SystemClock().now_us())}
        if connection is not None and method in {"subscribe", "tail", "unsubscribe"}:
            return connection.follow(method, params)
        raise HiveError("INTERNAL", f"the fake daemon has no answer for {method}")

    def start_task(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run beside the connection that asked."""
        _task = self._nursery.start(work, name="fake request")


async def _let_in() -> None:
    """What was just accepted reaches its handler in a few turns of the loop."""
    for _ in range(5):
        await asyncio.sleep(0)


def error_object(exc: HiveError) -> dict[str, Any]:
    """As the wire shows an error."""
    return {
        "code": exc.kind.rpc,
        "message": exc.message,
        "data": {
            "code": exc.code,
            "retryable": exc.kind.retryable,
            "retry_after_ms": exc.retry_after_ms,
            "hint": exc.hint,
            "details": exc.details,
            "request_id": "r_1",
        },
    }


class _Connection:
    """One peer: either POST /rpc, or a WebSocket."""

    def __init__(
        self, daemon: FakeDaemon, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.daemon = daemon
        self.reader = reader
        self.writer = writer
        self.protocol = ServerProtocol(subprotocols=[Subprotocol(SUBPROTOCOL)], max_size=2**26)
        self.is_open = False
        self.subscriptions: dict[str, dict[str, Any]] = {}
        self._replies: list[tuple[str, dict[str, Any]]] = []

    async def serve(self) -> None:
        head = await self.reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"POST /rpc "):
            await self._serve_rpc(head)
            return
        self.protocol.receive_data(head)
        for event in self.protocol.events_received():
            if isinstance(event, Request):
                self.protocol.send_response(self.protocol.accept(event))
        self._flush()
        self.is_open = True
        hello = {
            "server": "hivectl",
            "protocol": [self.daemon.protocol],
            "auth": ["bearer"],
            "auth_deadline_s": 5,
            "limits": {},
            "heartbeat_s": 30,
        }
        await self.notify("hello", hello)
        while data := await self.reader.read(65536):
            self.protocol.receive_data(data)
            for frame in self.protocol.events_received():
                if isinstance(frame, Frame) and frame.opcode is Opcode.TEXT:
                    await self._handle(json.loads(bytes(frame.data)))
            self._flush()
            if self.protocol.close_expected():
                return

    async def _serve_rpc(self, head: bytes) -> None:
        lengths = [
            line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        ]
        body = await self.reader.readexactly(int(lengths[0].split(b":")[1]))
        response = await self.daemon.answer(json.loads(body), None)
        text = json.dumps(response, ensure_ascii=False).encode()
        status = b"200 OK" if "result" in response else b"400 Bad Request"
        self.writer.write(
            b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
            b"Connection: close\r\n\r\n%s" % (status, len(text), text)
        )
        await self.writer.drain()

    async def _handle(self, frame: dict[str, Any]) -> None:
        if "id" not in frame:
            return
        if frame["method"] == "auth" and "auth" not in self.daemon.answers:
            with self.daemon._changed:
                self.daemon.requests.append(("auth", frame.get("params") or {}))
            info = {
                "actor": "user:tester",
                "scopes": ["read", "execute", "approve", "manage", "admin"],
                "connection": "c_1",
                "version": "0.1.0",
                "node": "here",
                "protocol": self.daemon.protocol,
                "expires_at": None,
            }
            await self.send({"jsonrpc": "2.0", "id": frame["id"], "result": info})
            return
        self.daemon.start_task(self._respond(frame))

    async def _respond(self, frame: dict[str, Any]) -> None:
        response = await self.daemon.answer(frame, self)
        await self.send(response)
        result = response.get("result")
        if isinstance(result, dict) and "sub" in result and "positions" in result:
            await self._replay(result["sub"])

    def follow(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        if method == "unsubscribe":
            self.subscriptions.pop(params["sub"], None)
            return {"sub": params["sub"]}
        sub = f"s{len(self.subscriptions) + 1}"
        wanted = params.get("streams")
        if method == "tail":
            wanted = [f"project:{name}" for name in params.get("projects", [])] or ["*"]
            params = {**params, "since": {"last": params.get("last", 10)}}
        self.subscriptions[sub] = {**params, "streams": wanted, "live": False}
        positions = {
            stream: {"epoch": self.daemon.epoch, "seq": len(log)}
            for stream, log in self.daemon.streams.items()
            if _covers(self.subscriptions[sub], {"stream": stream, "type": "*"})
        }
        since = params.get("since", "now")
        is_same = (
            not isinstance(since, dict)
            or since.get("epoch", self.daemon.epoch) == self.daemon.epoch
        )
        return {
            "sub": sub,
            "positions": positions,
            "recovered": is_same,
            "reason": None if is_same else "epoch_changed",
        }

    async def _replay(self, sub: str) -> None:
        params = self.subscriptions[sub]
        for stream, log in list(self.daemon.streams.items()):
            if _covers(params, {"stream": stream, "type": "*"}):
                first = _first_after(params.get("since", "now"), stream, log, self.daemon)
                for event in log[first:]:
                    if _covers(params, event):
                        await self.notify("event", event)
        params["live"] = True
        positions = {
            stream: {"epoch": self.daemon.epoch, "seq": len(log)}
            for stream, log in self.daemon.streams.items()
            if _covers(params, {"stream": stream, "type": "*"})
        }
        await self.notify("caught_up", {"sub": sub, "positions": positions})

    async def offer(self, event: dict[str, Any]) -> None:
        if self.is_open and any(
            params["live"] and _covers(params, event) for params in self.subscriptions.values()
        ):
            await self.notify("event", event)

    async def notify(self, method: str, params: dict[str, Any]) -> None:
        if self.is_open:
            await self.send({"jsonrpc": "2.0", "method": method, "params": params})

    async def send(self, frame: dict[str, Any]) -> None:
        with suppress(ConnectionError, InvalidState):  # it may be leaving
            self.protocol.send_text(json.dumps(frame, ensure_ascii=False).encode())
            self._flush()
            await self.writer.drain()

    async def close(self, code: int) -> None:
        if self.is_open and self.protocol.state.name == "OPEN":
            self.protocol.send_close(code)
            self._flush()
        else:
            self.writer.close()

    def _flush(self) -> None:
        for data in self.protocol.data_to_send():
            if data:
                self.writer.write(data)


def _covers(params: dict[str, Any], event: dict[str, Any]) -> bool:
    """Whether a subscription wants this event. Project names are not resolved: use ids or `*`."""
    views = (
        EVENTS[event["type"]].views if event["type"] in EVENTS else frozenset({"inbox", "queue"})
    )
    names = {event["stream"], "*", *views}
    if not names.intersection(params["streams"]):
        return False
    if event["type"] == "partial":
        return bool(params.get("partials"))
    types = params.get("types")
    return (
        types is None
        or event["type"] == "*"
        or any(fnmatch.fnmatch(event["type"], pattern) for pattern in types)
    )


def _first_after(since: Any, stream: str, log: list[dict[str, Any]], daemon: FakeDaemon) -> int:
    """The index of the first event to replay."""
    if since == "now":
        return len(log)
    if since == "start" or "time" in since:
        return 0
    if "last" in since:
        return max(len(log) - int(since["last"]), 0)
    place = since["positions"].get(stream) if "positions" in since else since
    if place is None or place["epoch"] != daemon.epoch:
        return 0
    return max(int(place["seq"]) - daemon.repeats_last, 0)
