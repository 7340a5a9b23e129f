"""A real daemon in a process of its own, in a private home, with the mock as Claude."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.harness import processes
from tests.harness.disk import SmallDisk
from tests.harness.processes import Process
from tests.harness.waiting import eventually

START_S = 20.0
STOP_S = 40.0
ENDS = frozenset({"completed", "failed", "cancelled", "timed_out", "lost"})
ROOT = Path(__file__).resolve().parents[2]


class RpcError(Exception):
    """The daemon answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        self.error = error
        self.code: str = error["data"]["code"]
        self.data: dict[str, Any] = error["data"]
        super().__init__(f"{self.code}: {error['message']}")


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        # by way of the directory's descriptor: a socket's path may have 107 bytes only
        folder = os.open(self._path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock.connect(f"/proc/self/fd/{folder}/{self._path.name}")
        except BaseException:
            self.sock.close()
            raise
        finally:
            os.close(folder)


class Daemon:
    """Starts, kills and restarts the daemon of one home; `close` leaves nothing behind, or says what was left.

    `root` is the test's directory: `root/h` is HIVECTL_HOME, `root/record.jsonl` gets one line for each
    start of the mock. Everything a daemon ever started carries `root` in its environment, arguments or
    working directory.
    """

    def __init__(
        self,
        root: Path,
        *,
        settings: Mapping[str, Any] | None = None,
        claude_env: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
        disk: str = "",
    ) -> None:
        """`disk` is the size of a small disk of its own for the home, such as `24m`."""
        self.root = root
        self.home = root / "h"
        self.small_disk = SmallDisk(self.home, disk) if disk else None
        self.view = self.small_disk.view if self.small_disk is not None else self.home
        """Where we see the home: a small disk is mounted for the daemon alone."""
        self.record = root / "record.jsonl"
        self.extra_env = dict(env or {})
        self.prefix = self.small_disk.enter if self.small_disk is not None else []
        self.arguments: list[str] = []
        """Further ones of `run`."""
        self.process: subprocess.Popen[bytes] | None = None
        self.kills = 0
        self.starts: list[float] = []
        """Seconds from each spawn to its first answer."""
        self.view.mkdir(mode=0o700, exist_ok=True)
        (root / "user").mkdir(exist_ok=True)
        additions = {"MOCK_CLAUDE_RECORD": str(self.record), **(claude_env or {})}
        self.configure(settings or {}, additions)

    @property
    def env(self) -> dict[str, str]:
        """The environment of the daemon, and of whoever wants to talk to it."""
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.root / "user"),
            "CLAUDE_CONFIG_DIR": str(self.root / "claude"),
            "LANG": "C.UTF-8",
            "TMPDIR": os.environ.get("TMPDIR", "/tmp"),
            "HIVECTL_HOME": str(self.home),
            "HIVECTL_CLAUDE_BIN": "mock",
            "PYTHONPATH": str(ROOT),
            **self.extra_env,
        }

    def configure(self, settings: Mapping[str, Any], claude_env: Mapping[str, str]) -> None:
        """Write the configuration file."""
        sections: dict[str, dict[str, Any]] = {}
        for key, value in settings.items():
            section, _, name = key.partition(".")
            sections.setdefault(section, {})[name] = value
        sections.setdefault("claude", {})["env"] = dict(claude_env)
        lines: list[str] = []
        for section, values in sections.items():
            lines.append(f"[{section}]")
            lines += [f"{name} = {_toml(value)}" for name, value in values.items()]
        (self.view / "config.toml").write_text("\n".join(lines) + "\n")

    @property
    def disk(self) -> SmallDisk:
        """The small disk that was asked for."""
        assert self.small_disk is not None
        return self.small_disk

    # --- life

    @property
    def socket(self) -> Path:
        return self.view / "run" / "api.sock"

    @property
    def log(self) -> str:
        """The daemon's own log."""
        path = self.view / "state" / "daemon.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def spawn(self, failpoint: str = "", **env: str) -> subprocess.Popen[bytes]:
        """Start the process, and do not wait for it."""
        assert self.process is None or self.process.poll() is not None, "it runs already"
        wanted = {**self.env, **env}
        if failpoint:
            wanted["HIVECTL_FAILPOINT"] = failpoint
        with (self.root / "daemon.out").open("ab") as output:
            self.process = subprocess.Popen(
                [
                    *self.prefix,
                    sys.executable,
                    "-P",
                    "-m",
                    "hivectl.daemon",
                    "run",
                    *self.arguments,
                ],
                env=wanted,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return self.process

    def start(self, failpoint: str = "", *, within_s: float = START_S, **env: str) -> Daemon:
        """Start it and wait for its first answer."""
        begun = time.monotonic()
        self.spawn(failpoint, **env)
        self.wait_ready(within_s)
        self.starts.append(time.monotonic() - begun)
        return self

    def wait_ready(self, within_s: float = START_S) -> None:
        def is_ready() -> bool:
            assert self.process is not None
            if (code := self.process.poll()) is not None:
                raise DaemonEnded(code, self.output)
            return self.is_answering()

        eventually(is_ready, within_s=within_s, what="the daemon answers")

    def is_answering(self) -> bool:
        try:
            self.call("ping", patience_s=2)
        except (OSError, http.client.HTTPException, RpcError):
            return False
        return True

    @property
    def output(self) -> str:
        path = self.root / "daemon.out"
        return path.read_text(errors="replace") if path.exists() else ""

    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)
        self.kills += 1

    def restart(self, **env: str) -> Daemon:
        """SIGKILL and start again."""
        if self.is_running():
            self.kill()
        return self.start(**env)

    def wait_end(self, within_s: float = STOP_S) -> int:
        """The exit code."""
        assert self.process is not None
        return self.process.wait(within_s)

    def stop(self, runs: str = "kill") -> int:
        """Stop it through the protocol; the exit code."""
        self.call("daemon.stop", runs=runs)
        return self.wait_end()

    def close(self) -> None:
        """End it all. Raises AssertionError when something outlived a stop that was to leave nothing."""
        try:
            if self.is_running():
                if self.small_disk is not None:
                    self.small_disk.empty()
                self.keep_calling("daemon.stop", runs="kill")
                self.wait_end()
                self._assert_gone()
        finally:
            if self.is_running():
                assert self.process is not None
                self.process.send_signal(signal.SIGABRT)  # its tracebacks say what it was doing
                self.process.wait(10)
                print(self.log[-5000:], (self.view / "state" / "daemon.trace").read_text()[-5000:])
            left = processes.kill_all(self.root)
            log = self.log
            if self.small_disk is not None:
                self.small_disk.close()
        assert not left, f"processes left behind: {left}\n{log[-3000:]}"

    def _assert_gone(self) -> None:
        assert not self.socket.exists(), "the socket is still there"
        sockets = [path for path in self.view.rglob("*") if path.is_socket()]
        assert not sockets, f"sockets left: {sockets}"

    # --- requests

    def call(self, method: str, /, *, patience_s: float = 60.0, **params: Any) -> Any:
        """One request by POST /rpc. Raises RpcError, OSError, HTTPException."""
        body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
        headers = {"Content-Type": "application/json", "Connection": "close"}
        connection = _UnixConnection(self.socket, patience_s)
        try:
            connection.request("POST", "/rpc", body=body.encode(), headers=headers)
            with connection.getresponse() as response:
                text = response.read()
        finally:
            connection.close()
        try:
            answer = json.loads(text)
        except ValueError:
            raise http.client.HTTPException(f"{response.status}: {text[:200]!r}") from None
        if "error" in answer:
            raise RpcError(answer["error"])
        return answer["result"]

    def keep_calling(self, method: str, /, *, within_s: float = 30.0, **params: Any) -> Any:
        """The same request until it is answered: only for what may be asked twice."""
        deadline = time.monotonic() + within_s
        while True:
            try:
                return self.call(method, **params)
            except (OSError, http.client.HTTPException):
                if time.monotonic() > deadline:
                    raise
            except RpcError as error:
                if not error.data["retryable"] or time.monotonic() > deadline:
                    raise
            time.sleep(0.02)

    # --- what tests do most

    def project(self, name: str = "web", **params: Any) -> dict[str, Any]:
        """Make a directory and register it."""
        path = self.root / "projects" / name
        path.mkdir(parents=True, exist_ok=True)
        created: dict[str, Any] = self.call("project.create", path=str(path), name=name, **params)
        return created

    def execute(self, prompt: str | Mapping[str, Any], project: str = "web", **params: Any) -> str:
        """Accept a prompt (or a directive of the mock); the execution's id."""
        return str(self.accept(prompt, project, **params)["execution"])

    def accept(
        self, prompt: str | Mapping[str, Any], project: str = "web", **params: Any
    ) -> dict[str, Any]:
        text = prompt if isinstance(prompt, str) else mock(**prompt)
        accepted: dict[str, Any] = self.call("execute", project=project, prompt=text, **params)
        return accepted

    def get(self, execution: str) -> dict[str, Any]:
        found: dict[str, Any] = self.call("execution.get", execution=execution)
        return found

    def wait(self, execution: str, *, within_s: float = 40.0) -> dict[str, Any]:
        """The execution once it has ended, over any number of restarts."""

        def ended() -> dict[str, Any] | None:
            try:
                found = self.call("execution.wait", execution=execution, timeout_s=2.0)
            except RpcError as error:
                if error.code in ("WAIT_TIMEOUT", "SHUTTING_DOWN"):
                    return None
                raise
            except (OSError, http.client.HTTPException):
                return None
            return dict(found) if found["state"] in ENDS else None

        found = eventually(ended, within_s=within_s, what=f"{execution} ends")
        assert found is not None
        return found

    def run(self, prompt: str | Mapping[str, Any], project: str = "web", **params: Any) -> Any:
        """Accept a prompt and wait for its end."""
        return self.wait(self.execute(prompt, project, **params))

    def wait_state(self, execution: str, *states: str, within_s: float = 20.0) -> dict[str, Any]:
        """The execution once it is in one of the states."""

        def there() -> dict[str, Any] | None:
            found = self.get(execution)
            assert found["state"] in states or found["state"] not in ENDS, found
            return found if found["state"] in states else None

        found = eventually(there, within_s=within_s, what=f"{execution} is {states}")
        assert found is not None
        return found

    def wait_approval(self, execution: str, *, within_s: float = 20.0) -> dict[str, Any]:
        """The oldest approval that is pending for the execution."""
        found = eventually(
            lambda: self.call("approval.list", execution=execution)["items"],
            within_s=within_s,
            what="an approval",
        )
        return dict(found[0])

    def decide(self, approval: Mapping[str, Any], decision: str = "allow", **params: Any) -> Any:
        return self.call(
            "approval.decide",
            id=approval["id"],
            version=approval["version"],
            decision=decision,
            **params,
        )

    def mock_starts(self) -> list[dict[str, Any]]:
        """What the mock wrote about each of its starts."""
        if not self.record.exists():
            return []
        return [json.loads(line) for line in self.record.read_text().splitlines()]

    def shims(self) -> list[Process]:
        """The living shims of this home."""
        return [p for p in processes.belonging_to(self.root) if p.is_shim]

    def shim_of(self, execution: Mapping[str, Any]) -> Process:
        """The living shim of an execution."""
        mark = f"/{execution['process']}"
        found = [p for p in self.shims() if any(part.endswith(mark) for part in p.argv)]
        assert len(found) == 1, found
        return found[0]


class DaemonEnded(Exception):  # noqa: N818
    """It ended before it answered."""

    def __init__(self, code: int, output: str) -> None:
        self.code = code
        self.output = output
        super().__init__(f"exit code {code}: {output[-2000:]}")

    @property
    def was_killed(self) -> bool:
        return self.code == -signal.SIGKILL


def mock(**directive: Any) -> str:
    """A prompt that tells the mock what to do."""
    return f"mock: {json.dumps(directive)}"


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k} = {json.dumps(v)}" for k, v in value.items()) + "}"
    return json.dumps(value)
