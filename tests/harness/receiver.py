"""A real HTTP server on loopback that keeps what it is sent and answers as told."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.harness.waiting import eventually


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Receiver:
    """Answers with the codes of `answers` in turn, then with 200; `delay_s` before each answer."""

    answers: list[int] = field(default_factory=list)
    delay_s: float = 0.0
    requests: list[Received] = field(default_factory=list)

    def __enter__(self) -> Receiver:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer._take(self)

            do_PUT = do_POST  # noqa: N815  the name is the library's

            def log_message(self, *_args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def _take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        self.requests.append(Received(handler.path, headers, body))
        if self.delay_s:
            time.sleep(self.delay_s)
        code = self.answers.pop(0) if self.answers else 200
        try:
            handler.send_response(code)
            if 300 <= code < 400:
                handler.send_header("Location", f"{self.url}/elsewhere")
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", "2")
            handler.end_headers()
            handler.wfile.write(b"{}")
        except OSError:
            pass

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ntfy(self) -> str:
        """The address of apprise for a topic on this server."""
        return f"ntfy://127.0.0.1:{self.port}/secrettopic"

    def wait(
        self,
        count: int = 1,
        *,
        wants: Callable[[Received], bool] = lambda _: True,
        within_s: float = 20,
    ) -> list[Received]:
        """Its requests once so many of those wanted have come."""

        def come() -> list[Received] | None:
            found = [item for item in self.requests if wants(item)]
            return found if len(found) >= count else None

        found = eventually(come, within_s=within_s, what=f"{count} requests")
        assert found is not None
        return found
