"""A real server over a real journal with pretended services: what tests of the wire talk to.

    async with ServerWorld.open() as world:
        world.append("project:p_a", 3)
        async with world.connect() as client:
            await client.call("subscribe", streams=["project:p_a"], since="start")

`HistoryChecker` says whether what a client saw is what the log holds: nothing lost, doubled or disordered.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect, unix_connect
from websockets.exceptions import ConnectionClosed

from hivectl import config
from hivectl.engine.bus import Bus
from hivectl.journal.record import Draft
from hivectl.journal.writer import Journal, JournalLimits
from hivectl.kit.clock import SystemClock
from hivectl.model.access import Caller
from hivectl.model.errors import HiveError
from hivectl.procs.shim import SYSTEM as PROCESSES
from hivectl.server.app import Server
from hivectl.server.peers import Ancestry

TOKEN = "hive_" + "t" * 43
PATIENCE_S = 10.0


class ServerWorld:
    """See the module. `projects` maps names to ids; `audits` lists what was audited."""

    def __init__(self, home: Path, flags: Mapping[str, Any], limits: JournalLimits | None) -> None:
        self.home = home
        self.settings = config.load(flags, {"HIVECTL_HOME": str(home), "HOME": str(home)})
        self.clock = SystemClock()
        self.journal = Journal(
            self.settings.places.journal, clock=self.clock, limits=limits, boot_id="boot"
        )
        self.bus = Bus(self.journal, self.clock)
        self.projects = {"web": "p_a", "api": "p_b"}
        self.audits: list[tuple[str, str, str, str]] = []
        self.calls: list[tuple[Caller, str, Any]] = []
        self.release = asyncio.Event()
        self.extra: dict[str, Callable[[Caller, Any], Awaitable[Any]]] = {}
        self.server: Server | None = None
        self.execution_of_pid: Callable[[int], str | None] | None = None

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        flags: Mapping[str, Any] | None = None,
        *,
        journal: JournalLimits | None = None,
        extra: Mapping[str, Callable[[Caller, Any], Awaitable[Any]]] | None = None,
        execution_of_pid: Callable[[int], str | None] | None = None,
    ) -> AsyncIterator[ServerWorld]:
        """Start it in a directory of its own; everything is gone afterwards."""
        home = Path(tempfile.mkdtemp(prefix="hw"))
        world = cls(home, flags or {}, journal)
        world.extra = dict(extra or {})
        world.execution_of_pid = execution_of_pid
        try:
            await world.start()
            yield world
        finally:
            await world.stop()
            await world.journal.close()
            await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)

    async def start(self) -> None:
        """Start the server over the journal as it is."""
        self.journal.open("system")
        self.server = Server(
            self.settings,
            {**self._bindings(), **self.extra},
            self.bus,
            resolve_stream=self._resolve,
            token=TOKEN,
            audit=self._audit,
            node="here",
            ancestry=Ancestry(kin=PROCESSES, of_pid=self.execution_of_pid),
        )
        await self.server.start()

    async def stop(self) -> None:
        """Stop the server; the journal stays."""
        if self.server is not None:
            await self.server.stop()
            self.server = None

    @property
    def socket(self) -> Path:
        """The UNIX socket."""
        return self.settings.places.socket

    @property
    def port(self) -> int:
        """The TCP port."""
        assert self.server is not None
        assert self.server.addresses.tcp is not None
        return int(self.server.addresses.tcp.rpartition(":")[2])

    def append(
        self, stream: str, count: int = 1, *, kind: str = "message", size: int = 0, **fields: Any
    ) -> int:
        """Append events and show them; the last one's number."""
        log = self.journal.open(stream)
        text = b"x" * size
        now = self.clock.now_us()
        first = log.last_seq + 1
        drafts = [
            Draft(kind, b'{"n":%d,"text":"%b"}' % (first + i, text), now, **fields)
            for i in range(count)
        ]
        log.append(drafts)
        self.bus.notify(stream)
        return log.last_seq

    def _resolve(self, _caller: Caller, ref: str) -> str:
        known = self.projects.get(ref, ref)
        if known not in self.projects.values():
            raise HiveError("PROJECT_NOT_FOUND", f"There is no project {ref!r}.")
        return f"project:{known}"

    async def _audit(self, caller: Caller, method: str, target: str, outcome: str) -> None:
        self.audits.append((caller.actor, method, target, outcome))

    def _bindings(self) -> dict[str, Callable[[Caller, Any], Awaitable[Any]]]:
        async def note(caller: Caller, params: Any) -> dict[str, Any]:
            self.calls.append((caller, type(params).__name__, params))
            return {"ok": True}

        async def execute(caller: Caller, params: Any) -> dict[str, Any]:
            self.calls.append((caller, "Execute", params))
            return {"execution": "x_1", "size": len(params.prompt)}

        async def wait(_caller: Caller, _params: Any) -> dict[str, Any]:
            await self.release.wait()
            return {"execution": "x_1"}

        async def broken(_caller: Caller, _params: Any) -> dict[str, Any]:
            raise RuntimeError("secret of the inside")

        async def unshowable(_caller: Caller, _params: Any) -> Any:
            return {"x": object()}

        async def stats(_caller: Caller, _params: Any) -> dict[str, Any]:
            return {"uptime_s": 1.0}

        return {
            "project.list": note,
            "project.create": note,
            "approval.decide": note,
            "config.get": note,
            "execute": execute,
            "execution.wait": wait,
            "kill": wait,
            "session.list": broken,
            "session.get": unshowable,
            "stats": stats,
        }

    # --- clients -----------------------------------------------------------------------------------

    @asynccontextmanager
    async def connect(
        self, *, tcp: bool = False, auth: bool = True, **options: Any
    ) -> AsyncIterator[Client]:
        """A client that has said who it is (unless `auth` is False)."""
        options = {
            "compression": None, "proxy": None, "ping_interval": None, "max_size": None,
            "subprotocols": ["hivectl.v1"], "close_timeout": 1, **options,
        }  # fmt: skip
        if tcp:
            opening = connect(f"ws://127.0.0.1:{self.port}/ws", **options)
        else:
            options.pop("proxy")
            opening = unix_connect(str(self.socket), "ws://localhost/ws", **options)
        async with opening as socket:
            client = Client(socket)
            if auth:
                await client.authenticate(TOKEN if tcp else None)
            yield client


class Client:
    """A client that keeps everything it receives. `frames`: notifications not looked at yet."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.frames: deque[dict[str, Any]] = deque()
        self._ids = 0

    async def authenticate(self, token: str | None = None) -> dict[str, Any]:
        """Wait for hello, then say who we are."""
        hello = await self.receive()
        assert hello["method"] == "hello", hello
        params = {"token": token} if token else {}
        result: dict[str, Any] = await self.call("auth", **params)
        return result

    async def receive(self) -> dict[str, Any]:
        """The next frame, whatever it is."""
        async with asyncio.timeout(PATIENCE_S):
            frame: dict[str, Any] = json.loads(await self.socket.recv())
        return frame

    async def send(self, method: str, **params: Any) -> int:
        """Send a request; its id."""
        self._ids += 1
        frame = {"jsonrpc": "2.0", "id": self._ids, "method": method, "params": params}
        await self.socket.send(json.dumps(frame, ensure_ascii=False))
        return self._ids

    async def answer(self, request_id: Any) -> dict[str, Any]:
        """The whole answer to a request; notifications met on the way are kept in `frames`."""
        while True:
            frame = await self.receive()
            if "method" not in frame and frame.get("id") == request_id:
                return frame
            self.frames.append(frame)

    async def call(self, method: str, **params: Any) -> Any:
        """The result. Raises CallError."""
        frame = await self.answer(await self.send(method, **params))
        if "error" in frame:
            raise CallError(frame["error"])
        return frame["result"]

    async def next(self, method: str | None = None) -> dict[str, Any]:
        """Parameters of the next notification (of that method; others are dropped)."""
        while True:
            frame = self.frames.popleft() if self.frames else await self.receive()
            if method is None or frame.get("method") == method:
                params: dict[str, Any] = frame.get("params", frame)
                return params

    async def events(self, count: int) -> list[dict[str, Any]]:
        """The next numbered events."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            event = await self.next("event")
            if "seq" in event:
                found.append(event)
        return found

    async def closed(self) -> int:
        """The code the server closes with; everything before is read."""
        with suppress(ConnectionClosed):
            while True:
                self.frames.append(await self.receive())
        return self.socket.close_code or 0


class CallError(Exception):
    """A request failed. `error` is the whole member, `code` the contract."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error)
        self.error = error
        self.code: str = error["data"]["code"]


class HistoryChecker:
    """Collects what a client was shown, over all its connections, and compares it with the truth."""

    def __init__(self) -> None:
        self.seen: dict[str, list[int]] = {}
        self.repeats = 0
        self.faults: list[str] = []
        self._epochs: dict[str, str] = {}

    def feed(self, frame: Mapping[str, Any]) -> None:
        """Take one `event` notification's parameters; those without `seq` are ignored.

        What was seen before counts as a repeat (at least once is allowed), a gap as a fault."""
        if "seq" not in frame:
            return
        stream, seq, epoch = frame["stream"], frame["seq"], frame["epoch"]
        known = self.seen.setdefault(stream, [])
        if self._epochs.setdefault(stream, epoch) != epoch:
            self._epochs[stream] = epoch
            known.clear()
        last = known[-1] if known else 0
        if seq <= last:
            self.repeats += 1
            if seq not in known:
                self.faults.append(f"{stream}: {seq} came late, after {last}")
            return
        if known and seq != last + 1:
            self.faults.append(f"{stream}: {seq} came after {last}")
        known.append(seq)

    def position(self, stream: str) -> dict[str, Any] | None:
        """The cursor to resume with."""
        known = self.seen.get(stream)
        return {"epoch": self._epochs[stream], "seq": known[-1]} if known else None

    def check(self, last_seqs: Mapping[str, int], *, first: int = 1) -> list[str]:
        """What is wrong, in words; empty = every stream was seen whole, in order, from `first` on."""
        found = list(self.faults)
        for stream, last in last_seqs.items():
            known = self.seen.get(stream, [])
            if known != list(range(first, last + 1)):
                ends = f"{known[0]}..{known[-1]}" if known else "nothing"
                found.append(f"{stream}: saw {len(known)} events ({ends}) of {first}..{last}")
        return found
