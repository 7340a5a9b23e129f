"""What the live tests stand on: a scripted Messages API on loopback, and a daemon that drives the real Claude Code.

The API is a program of its own, not part of this project. It is started as `python PROGRAM --port N`,
plays POST /v1/messages, and understands markers in the prompt: `[[text]]`, `[[write path=x]]`,
`[[script: [STEP, …] ]]`. GET /__log tells which requests it has seen.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.harness import history, processes
from tests.harness.daemon import Daemon
from tests.harness.processes import Process
from tests.harness.waiting import eventually

CLAUDE_VARIABLE = "HIVECTL_LIVE_CLAUDE"
API_VARIABLE = "HIVECTL_LIVE_API"


class Api:
    """The scripted API, running."""

    def __init__(self, program: Path, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, str(program), "--port", str(self.port)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        try:
            eventually(self._is_listening, within_s=10, what="the scripted API listens")
        except BaseException:
            self.close()
            raise

    def _is_listening(self) -> bool:
        assert self._process.poll() is None, "the scripted API ended"
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def requests(self, text: str = "") -> list[dict[str, Any]]:
        """Model requests so far whose body holds `text`, oldest first."""
        with urllib.request.urlopen(f"{self.url}/__log", timeout=10) as response:
            seen = json.loads(response.read())
        return [
            found
            for found in seen
            if found["path"].startswith("/v1/messages")
            and text in json.dumps(found["body"], ensure_ascii=False)
        ]

    def everything(self) -> str:
        """All it was ever sent, headers included, as one text."""
        with urllib.request.urlopen(f"{self.url}/__log", timeout=10) as response:
            return str(json.dumps(json.loads(response.read()), ensure_ascii=False))

    def close(self) -> None:
        self._process.kill()
        self._process.wait(10)


class LiveDaemon(Daemon):
    """A daemon with the real Claude Code, which finds its own things below `root/user`."""

    def __init__(self, root: Path, claude: Path, api: Api, **how: Any) -> None:
        self._claude = claude
        self.api = api
        self.login: dict[str, str] = {"ANTHROPIC_API_KEY": "sk-ant-fake-live-key"}
        settings = {"projects.roots": [str(root)], **how.pop("settings", {})}
        super().__init__(root, settings=settings, **how)

    @property
    def env(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.user),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.temporary),
            "HIVECTL_HOME": str(self.home),
            "HIVECTL_CLAUDE_BIN": str(self._claude),
            "PYTHONPATH": super().env["PYTHONPATH"],
            "ANTHROPIC_BASE_URL": self.api.url,
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "DISABLE_TELEMETRY": "1",
            "DISABLE_ERROR_REPORTING": "1",
            "CLAUDE_CODE_MAX_RETRIES": "1",
            **self.login,
            **self.extra_env,
        }

    @property
    def user(self) -> Path:
        """The home directory Claude sees."""
        return self.root / "user"

    @property
    def temporary(self) -> Path:
        path = self.root / "tmp"
        path.mkdir(exist_ok=True)
        return path

    @property
    def place(self) -> Path:
        """Where the project `web` lives."""
        return self.root / "projects" / "web"

    def events(self, execution: str) -> list[dict[str, Any]]:
        return history.read(self, project="web").of(execution)

    def said(self, execution: str, kind: str) -> list[dict[str, Any]]:
        """Claude's own lines of one type."""
        return [
            event["data"]["raw"]
            for event in self.events(execution)
            if event["type"] == "message" and event["data"]["kind"] == kind
        ]

    def tool_results(self, execution: str) -> list[str]:
        """What tools answered, as the model saw it."""
        found = []
        for line in self.said(execution, "user"):
            for block in line["message"]["content"]:
                if isinstance(block, dict) and block.get("type") == "tool_result":
                    content = block["content"]
                    found.append(content if isinstance(content, str) else json.dumps(content))
        return found

    def in_project(self, word: str = "") -> list[Process]:
        """Living processes of the project's directory that were started with `word`."""
        return [
            process
            for process in processes.belonging_to(self.root)
            if any(word in part for part in process.argv)
            and not process.is_daemon
            and not process.is_shim
        ]


def script(*steps: Mapping[str, Any]) -> str:
    """A prompt that makes the API answer so, one step for each request."""
    return f"[[script: {json.dumps(list(steps))} ]]"


def tool(name: str, **arguments: Any) -> dict[str, Any]:
    """A step in which the model calls a tool."""
    return {"tool": name, "input": arguments}


def bash(command: str) -> dict[str, Any]:
    return tool("Bash", command=command, description="a command of a test")


def nap(mark: str, seconds: int = 300) -> str:
    """A command that takes long and can be found by `mark`. (A bare `sleep` is refused by Claude.)"""
    return f"python3 -c 'import time; time.sleep({seconds}) # {mark}'"


def text(words: str) -> dict[str, Any]:
    return {"text": words}
