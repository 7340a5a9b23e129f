"""Row S45 on a whole daemon: a canary wherever a secret can stand, then a search of every place that tells things.

Messages of Claude's, prompts and rows of the database hold what they were given, word for word; the log, the
audit, errors, notifications, arguments of programs and what commands show hold no secret.
"""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from hivectl.protocol.methods import METHODS, params_model
from tests.harness import processes
from tests.harness.certificates import Authority, authority, settings_of
from tests.harness.daemon import Daemon, RpcError
from tests.harness.receiver import Receiver
from tests.harness.waiting import eventually
from tests.security.test_private_files import FORGED, SECRETS

pytestmark = pytest.mark.timeout(240)
"""The first test waits for the whole stage: some thousand calls and a dozen commands."""
OWN_FILES = {"token", "webhook-secret", "config.toml"}
"""What keeps secrets on purpose, private to the user."""


def bird(place: str) -> str:
    """A secret that no pattern knows: only where it stands tells that it is one."""
    return f"bird{place}9c41e7"


INHERITED = {"ANTHROPIC_API_KEY": bird("key"), "CLAUDE_CODE_OAUTH_TOKEN": bird("oauth")}
WITHHELD = {
    "GITHUB_TOKEN": bird("github"),
    "DATABASE_URL": f"postgres://me:{bird('database')}@host/db",
    "HIVECTL_TOKEN": bird("client"),
    "HIVECTL_WEBHOOK_SECRET": bird("signer"),
    "SOME_PASSWORD": bird("other"),
}
ADDED, PROJECT_S = bird("added"), bird("project")
NOWHERE = [
    bird(place) for place in (
        "key", "oauth", "github", "database", "client", "signer", "other", "added", "bearer", "basic", "cookie",
        "query", "path", "frame", "subprotocol", "hook", "hookuser", "hookkey", "deaf", "deafuser", "clone",
    )
]  # fmt: skip
"""Birds that may be told nowhere, and stored nowhere but in OWN_FILES."""


@dataclass
class Stage:
    """A daemon in which every secret has been used, and what was seen of it meanwhile."""

    daemon: Daemon
    ca: Authority
    hook: Receiver
    token: str = ""
    key_lines: list[str] = field(default_factory=list)
    answers: list[bytes] = field(default_factory=list)
    """Everything that was answered over TCP, and every error."""
    arguments: set[str] = field(default_factory=set)
    """Command lines that were seen."""
    environments: set[str] = field(default_factory=set)
    """Environments of what the daemon started."""
    shown: dict[str, str] = field(default_factory=dict)
    """What commands printed."""

    @property
    def port(self) -> int:
        return int(self.daemon.call("health")["tcp"].rpartition(":")[2])

    # --- sinks

    @property
    def log(self) -> str:
        """The daemon's own log, and whatever else it wrote for people."""
        state = self.daemon.view / "state"
        files = [*state.glob("daemon.*"), self.daemon.root / "daemon.out"]
        return "\n".join(file.read_text(errors="replace") for file in files if file.is_file())

    @property
    def stored(self) -> dict[str, bytes]:
        """Every file of the home but those that keep secrets on purpose."""
        return {
            str(path.relative_to(self.daemon.view)): path.read_bytes()
            for path in self.daemon.view.rglob("*")
            if stat.S_ISREG(path.lstat().st_mode) and path.name not in OWN_FILES
        }

    def rows(self, what: str) -> str:
        """Rows of the database as text."""
        with sqlite3.connect(f"file:{self.daemon.view}/state/hivectl.db?mode=ro", uri=True) as db:
            return "\n".join(repr(row) for row in db.execute(what))

    @property
    def told(self) -> dict[str, str]:
        """All that is told to people and programs, and must hold no secret of any kind."""
        hooks = "\n".join(
            f"{item.path if item.path != self.hook_path else ''} {item.body.decode()}"
            for item in self.hook.requests
        )
        audit = self.daemon.call(
            "get_messages", stream="system", types=["audit.entry", "system.notice"], limit=1000
        )
        return {
            "log": self.log,
            "errors and answers": b"\n".join(self.answers).decode("utf-8", "replace"),
            "audit": self.rows("SELECT body FROM audit"),
            "events of system": json.dumps(audit),
            "webhooks": hooks,
            "notifications": self.rows("SELECT * FROM notifications")
            + self.rows("SELECT * FROM deliveries"),
            "arguments": "\n".join(self.arguments),
            **self.shown,
        }

    @property
    def hook_path(self) -> str:
        return f"/{bird('hook')}?key={bird('hookkey')}"

    # --- deeds

    def ask(self, *lines: str, body: bytes = b"") -> bytes:
        """A request over TLS, as it is; the whole answer."""
        head = [lines[0], *(() if any(x.startswith("Host:") for x in lines) else (f"Host: 127.0.0.1:{self.port}",)), *lines[1:], f"Content-Length: {len(body)}", "Connection: close"]  # fmt: skip
        data = b""
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=10) as raw,
            self.ca.client_context().wrap_socket(raw, server_hostname="127.0.0.1") as sock,
            suppress(OSError, ssl.SSLError),
        ):
            sock.sendall("\r\n".join(head).encode() + b"\r\n\r\n" + body)
            while part := sock.recv(65536):
                data += part
        self.answers.append(data)
        return data

    def refused(self, method: str, **params: Any) -> str:
        """The code of the error; empty when it was none."""
        try:
            self.daemon.call(method, **params)
        except RpcError as error:
            self.answers.append(json.dumps(error.error).encode())
            return error.code
        return ""

    def look(self) -> None:
        """What runs now: its arguments, and the environments of the daemon's children."""
        for found in processes.belonging_to(self.daemon.root):
            self.arguments.add("\0".join(found.argv))
            if not found.is_daemon:
                with suppress(OSError):
                    self.environments.add(Path(f"/proc/{found.pid}/environ").read_text())

    def command(self, *words: str, **env: str) -> None:
        """Run a command, and keep what it printed."""
        done = subprocess.run(
            [sys.executable, "-P", "-m", "hivectl", *words],
            env={**self.daemon.env, **WITHHELD, **env}, cwd="/", capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        self.shown[" ".join(words)] = done.stdout + done.stderr


def credentials_that_are_refused(stage: Stage) -> None:
    """In every place where a client may put one, with line ends where they may be."""
    call = b'{"jsonrpc":"2.0","id":1,"method":"whoami","params":{}}'
    kind = "Content-Type: application/json"
    post = "POST /rpc HTTP/1.1"
    for headers in (
        (f"Authorization: Bearer {bird('bearer')}",),
        (f"Authorization: Basic {bird('basic')}",),
        (f"Authorization: Bearer {SECRETS['jwt']}",),
        (f"Cookie: session={bird('cookie')}",),
        (f"X-Api-Key: {SECRETS['hive']}", f"User-Agent: {SECRETS['github']}"),
        (f"Origin: https://{bird('bearer')}.example",),
    ):
        assert stage.ask(post, kind, *headers, body=call).split()[1] in {b"401", b"403"}
    for target in (
        f"/rpc?token={bird('query')}",
        f"/{bird('path')}",
        f"/healthz?x={bird('query')}",
    ):
        stage.ask(f"POST {target} HTTP/1.1", kind, body=call)
        stage.ask(f"GET {target} HTTP/1.1")
    stage.ask("GET /healthz HTTP/1.1", f"Host: {bird('path')}")
    stage.ask(
        post, kind, f"Authorization: Bearer {stage.token}", body=b"{" + SECRETS["hive"].encode()
    )
    ours = stage.ask(post, kind, f"Authorization: Bearer {stage.token}", body=call)
    assert b'"actor"' in ours
    url = f"wss://127.0.0.1:{stage.port}/ws"
    for more, how in (
        (f"?token={bird('query')}", {}),
        ("", {"additional_headers": {"Authorization": f"Bearer {bird('bearer')}"}}),
        ("", {"subprotocols": [bird("subprotocol")]}),
    ):
        with (
            suppress(InvalidStatus, ConnectionClosed),
            connect(url + more, ssl=stage.ca.client_context(), **how) as ws,  # type: ignore[arg-type]
        ):
            stage.answers.append(str(ws.recv(timeout=5)).encode())
    for token, name in ((bird("frame"), "x"), (stage.token, SECRETS["github"] + FORGED[:20])):
        with connect(url, ssl=stage.ca.client_context()) as ws:
            client = {"name": name[:100], "version": "1"}
            auth = {"token": token, "client": client, "protocol": 1}
            ws.send(json.dumps({"jsonrpc": "2.0", "id": 1, "method": "auth", "params": auth}))
            with suppress(ConnectionClosed, TimeoutError):
                while True:
                    stage.answers.append(str(ws.recv(timeout=1)).encode())


KNOWN: dict[str, Any] = {
    "project": "web", "prompt": "x", "path": "/tmp", "execution": "x_1", "id": "a_1", "seq": 1, "version": 1,
    "decision": "deny", "action": "deny", "tool": "Bash", "session": "current", "stream": "system",
}  # fmt: skip


def every_input(stage: Stage) -> None:
    """Each field of each method is given a secret once, with a line end and a forged line behind it."""
    secrets = cycle(SECRETS.values())
    for name, row in METHODS.items():
        if row.socket_only or name in {"daemon.stop", "execute", "queue.pause"}:
            continue
        fields = params_model(row).model_fields
        needed = {key: KNOWN[key] for key, f in fields.items() if f.is_required() and key in KNOWN}
        for each in fields:
            for text in (next(secrets) + FORGED, "x" * 180 + " " + next(secrets)):
                more = {"timeout_s": 0} if "timeout_s" in fields and name.endswith("wait") else {}
                stage.refused(name, **{**needed, **more, each: text})
                stage.refused(name, **{**needed, **more, each: text[:188]})
    for secret in SECRETS.values():
        for method in (secret + FORGED, f"x.{secret}"):
            stage.refused(method[:90])


def work(stage: Stage) -> None:
    """Runs whose prompts, output, ends and reasons hold secrets."""
    daemon = stage.daemon
    for name, secret in SECRETS.items():
        daemon.run(f"{secret}{FORGED} {name}")
        daemon.run(
            {"stderr": secret + FORGED, "error": {"kind": "400", "message": secret}, "retries": 0}
        )
        daemon.run({"stderr": f"error: {secret}\n", "exit_code": 3, "crash": True})
    asks = {"name": "Bash", "input": {"command": f"curl -H '{SECRETS['bearer']}' x # {FORGED}"}}
    execution = daemon.execute({"permission": asks})
    daemon.wait_approval(execution)
    stage.look()
    daemon.call("kill", execution=execution, reason=SECRETS["assigned"] + FORGED)
    daemon.wait(execution)
    for user, code in (
        ("", "INVALID_PATH"),  # git is asked, and fails
        (f"me:{bird('clone')}@", "INVALID_PARAMS"),
        (f"{bird('clone')}@", "INVALID_PARAMS"),
    ):
        clone = {"repo": f"https://{user}127.0.0.1:1/x.git", "name": "clone"}
        found = stage.refused("project.create", path=f"{daemon.root}/projects/clone", **clone)
        assert found == code


def commands(stage: Stage) -> None:
    for words in (
        "doctor", "doctor --json", "daemon logs", "daemon logs --json", "config show", "config show --json", "health",
        "notify list", "project show web", "project show web --json", "audit verify", "daemon status",
    ):  # fmt: skip
        stage.command(*words.split())
    far = {"HIVECTL_URL": f"https://127.0.0.1:{stage.port}", "HIVECTL_CA_FILE": str(stage.ca.file)}
    stage.command("whoami", **far, HIVECTL_TOKEN=stage.token)
    stage.command("ps", **far, HIVECTL_TOKEN=bird("bearer"))


def watching_git(root: Path) -> Path:
    """A directory with a git that notes its arguments and environment."""
    place = root / "bin"
    place.mkdir()
    program = place / "git"
    program.write_text(
        f'#!/bin/sh\nenv >> "{root}/git.seen"\necho "$@" >> "{root}/git.seen"\nexit 1\n'
    )
    program.chmod(0o755)
    return place


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    root = tmp_path_factory.mktemp("c")
    ca = authority(root / "ca")
    cert, key = ca.issue()
    with Receiver() as hook:
        urls = [
            f"http://{bird('hookuser')}:{bird('hookkey')}@127.0.0.1:{hook.port}/{bird('hook')}?key={bird('hookkey')}",
            f"http://{bird('deafuser')}:{bird('deaf')}@127.0.0.1:1/{bird('deaf')}",
        ]
        daemon = Daemon(
            root,
            settings={"webhook.urls": urls, "webhook.events": ["*"], **settings_of(cert, key)},
            claude_env={"PAYMENTS_PASSWORD": ADDED},
            env={**INHERITED, **WITHHELD, "PATH": f"{watching_git(root)}:{os.environ['PATH']}"},
        )
        daemon.start()
        try:
            stage = Stage(daemon, ca, hook)
            stage.token = (daemon.view / "state" / "token").read_text().strip()
            stage.key_lines = [
                x for x in key.read_text().splitlines() if len(x) > 40 and "-" not in x
            ]
            daemon.project()
            daemon.call("project.update", project="web", env={"API_KEY": PROJECT_S})
            work(stage)
            credentials_that_are_refused(stage)
            every_input(stage)
            commands(stage)
            hook.wait(20)
            yield stage
        finally:
            daemon.close()


def where(needle: str, places: dict[str, str]) -> list[str]:
    return [
        f"{name}: ...{text[max(at - 160, 0) : at + 60]!r}"
        for name, text in places.items()
        if (at := text.find(needle)) >= 0
    ]


def test_s45_the_search_finds_what_is_there(stage: Stage) -> None:
    """What is stored and passed on by purpose is met where it belongs, so the search looks in the right places."""
    stored = {name: data.decode("latin-1") for name, data in stage.stored.items()}
    assert any(
        name.startswith("state/log/")
        for name in (x.split(": ")[0] for x in where("CANARYbearer", stored))
    )
    assert "birdproject" in stage.rows("SELECT env FROM projects")
    environments = "\n".join(stage.environments)
    for passed in (*INHERITED.values(), ADDED, PROJECT_S):
        assert passed in environments
    assert "[redacted]" in stage.log
    assert "[redacted]" in stage.told["webhooks"]
    assert "[redacted]" in stage.told["audit"]
    assert any("procs/shim.py" in line for line in stage.arguments)
    assert stage.key_lines
    assert (stage.daemon.root / "git.seen").exists()
    assert "notification not delivered" in stage.log


@pytest.mark.parametrize("needle", NOWHERE)
def test_s45_a_secret_with_a_place_of_its_own_is_nowhere_else(stage: Stage, needle: str) -> None:
    stored = {name: data.decode("latin-1") for name, data in stage.stored.items()}
    assert where(needle, stored) == []
    assert where(needle, stage.told) == []


def test_s45_neither_is_the_token_nor_the_tls_key(stage: Stage) -> None:
    stored = {name: data.decode("latin-1") for name, data in stage.stored.items()}
    for needle in (stage.token, *stage.key_lines):
        assert where(needle, stored) == []
        assert where(needle, stage.told) == []


def test_s45_the_environment_of_a_project_is_in_the_database_only(stage: Stage) -> None:
    stored = {name: data.decode("latin-1") for name, data in stage.stored.items()}
    found = {place.split(":")[0] for place in where(PROJECT_S, stored)}
    assert found <= {"state/hivectl.db", "state/hivectl.db-wal"}
    assert where(PROJECT_S, stage.told) == []


def test_s45_no_secret_of_the_daemon_s_reaches_what_it_starts(stage: Stage) -> None:
    environments = "\n".join([*stage.environments, (stage.daemon.root / "git.seen").read_text()])
    for needle in (*WITHHELD.values(), stage.token, bird("hook"), bird("clone")):
        assert needle not in environments


def test_s45_what_has_the_shape_of_a_secret_is_masked_in_all_that_is_told(stage: Stage) -> None:
    """In errors, too, which repeat what was asked to the one who asked."""
    assert where("CANARY", stage.told) == []


def test_s45_no_line_is_forged_and_nothing_is_obeyed(stage: Stage) -> None:
    lines = (stage.daemon.view / "state" / "daemon.log").read_text().splitlines()
    assert all(json.loads(line).get("msg") != "forged" for line in lines)
    for name, text in stage.told.items():
        if name not in {"errors and answers", "notifications"}:
            assert "\x1b" not in text, name
    for line in stage.shown["daemon logs --json"].splitlines():
        assert json.loads(line).get("msg") != "forged"
    eventually(stage.daemon.is_answering)
