"""hivectl at work, with a stand-in for Claude: run by `make demo`.

Standard library only; everything is done with the installed `hivectl`, as a person would do it. A private
daemon lives in a temporary directory; at the end nothing is left. Exit code 0 means that every claim
printed here was checked.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

HERE = Path(__file__).parent
STEP_S = 30.0
EVENTS = 150


class DemoError(Exception):
    """A claim of this demo did not hold."""


class Demo:
    """One private daemon and the commands that are given to it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.project = home / "garden"
        self.hivectl = str(Path(sys.executable).with_name("hivectl"))
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("HIVECTL_", "NOTIFY_"))}
        self.env = kept | {
            "HIVECTL_HOME": str(home / "hive"),
            "HIVECTL_CLAUDE_BIN": "mock",
            # The stand-in keeps sessions and output where Claude would: not beside yours.
            "CLAUDE_CONFIG_DIR": str(home / "claude"),
            "TMPDIR": str(home),
        }
        self.started = time.monotonic()

    # --- telling and doing -------------------------------------------------------------------------

    def say(self, text: str) -> None:
        print(f"\n{self._bold(f'== {text}')}", flush=True)

    def _bold(self, text: str) -> str:
        is_plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ
        return text if is_plain else f"\x1b[1m{text}\x1b[0m"

    def _echo(self, words: tuple[str, ...]) -> None:
        print(f"$ hivectl {shlex.join(words)}", flush=True)

    def show(self, *words: str) -> None:
        """Run a command before the eyes of the reader; it must succeed."""
        self._echo(words)
        done = subprocess.run([self.hivectl, *words], env=self.env, timeout=STEP_S, check=False)
        if done.returncode != 0:
            raise DemoError(f"`hivectl {shlex.join(words)}` ended with {done.returncode}")

    def ask(self, *words: str, code: int = 0) -> Any:
        """The JSON a command answers, without showing it."""
        done = subprocess.run(
            [self.hivectl, *words, "--json"],
            env=self.env,
            timeout=STEP_S,
            check=False,
            capture_output=True,
            text=True,
        )
        if done.returncode != code:
            raise DemoError(f"`hivectl {shlex.join(words)}`: {done.returncode}\n{done.stderr}")
        return json.loads(done.stdout)

    def lines(self, *words: str) -> list[dict[str, Any]]:
        """The JSON lines of a command that prints one event per line."""
        done = subprocess.run(
            [self.hivectl, *words, "--json"],
            env=self.env,
            timeout=STEP_S,
            check=True,
            capture_output=True,
            text=True,
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    def begin(self, prompt: str) -> str:
        """Start a prompt without waiting; the execution's id."""
        words = ("exec", "--detach", "garden", prompt)
        self._echo(words)
        execution = str(self.ask(*words)["execution"])
        print(execution)
        return execution

    def execution(self, execution: str) -> dict[str, Any]:
        found: dict[str, Any] = self.ask("show", execution)
        return found

    def until(self, what: str, condition: Callable[[], Any]) -> Any:
        """Ask again and again until the answer is true, within the step's time."""
        deadline = time.monotonic() + STEP_S
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise DemoError(f"not within {STEP_S:.0f} s: {what}")
            time.sleep(0.1)
        return found

    def daemon_pid(self) -> int:
        return int(self.ask("health")["pid"])

    def check(self, claim: str, *, holds: bool) -> None:
        if not holds:
            raise DemoError(f"this does not hold: {claim}")
        print(f"  checked: {claim}", flush=True)

    def processes(self, mark: str) -> list[int]:
        """Processes with `mark` in their environment (Linux; elsewhere none are seen)."""
        found = []
        for environ in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark.encode() in environ.read_bytes().split(b"\0"):
                    found.append(int(environ.parent.name))
            except OSError:
                continue
        return [pid for pid in found if pid != os.getpid()]

    # --- the story ---------------------------------------------------------------------------------

    def create(self) -> None:
        self.say("A project: any git repository. The daemon starts by itself.")
        shutil.copytree(HERE / "project", self.project)
        for words in (("init", "-q"), ("add", "."), ("commit", "-q", "-m", "A garden")):
            identity = ("-c", "user.name=demo", "-c", "user.email=demo@localhost")
            subprocess.run(["git", *identity, *words], cwd=self.project, check=True, timeout=STEP_S)
        self.show("project", "create", str(self.project), "--name", "garden", "--no-trust")

    def execute(self) -> None:
        self.say("A prompt, and its answer.")
        tool = json.dumps(
            {"tool": {"name": "Bash", "input": {"command": "ls"}}, "text": "Three files."}
        )
        self.show("exec", "garden", f"What is in here? mock: {tool}")

    def tail(self) -> None:
        self.say("Another one in the background, watched live.")
        execution = self.begin('Count slowly. mock: {"events": 20, "delay_ms": 120}')
        words = ("tail", "-f", "garden", "-n", "3")
        self._echo(words)
        with subprocess.Popen([self.hivectl, *words], env=self.env) as watcher:
            try:
                self.ask("wait", execution)
            finally:
                watcher.terminate()  # Ctrl-C does as well, unless who started this ignores it
                watcher.wait(STEP_S)

    def approve(self) -> None:
        self.say("Claude wants to write a file, and asks.")
        written = self.project / "mock-permission.txt"
        execution = self.begin('Write it down. mock: {"permission": true}')
        waiting = self.until("an approval", lambda: items(self.ask("inbox")))
        self.show("inbox")
        self.check("nothing is written before the answer", holds=not written.exists())
        self.show("approve", waiting[0]["id"])
        self.ask("wait", execution)
        self.check(f"{written.name} is written after it", holds=written.exists())

    def kill(self) -> None:
        self.say("A run with processes that are hard to kill, killed.")
        tree = json.dumps(
            {"spawn": ["double_fork", "deaf_setsid"], "hang": "end", "ignore_signals": "all"}
        )
        execution = self.begin(f"Misbehave. mock: {tree}")
        mark = f"HIVECTL_EXECUTION={execution}"
        # Claude's stand-in and two more; elsewhere than on Linux they cannot be seen.
        enough = 3 if Path("/proc/self/environ").exists() else 0
        self.until("its processes", lambda: len(self.processes(mark)) >= enough)
        print(f"  it has {len(self.processes(mark))} processes", flush=True)
        self.show("kill", "--force", execution)
        self.check("none of them is left", holds=self.processes(mark) == [])

    def crash(self) -> None:
        self.say(f"{EVENTS} messages; in the middle of them the daemon is killed with kill -9.")
        execution = self.begin(f'Go on. mock: {{"events": {EVENTS}, "delay_ms": 20}}')
        self.until("some messages", lambda: len(self.texts(execution)) >= EVENTS // 5)
        pid = self.daemon_pid()
        print(f"$ kill -9 {pid}    # the daemon", flush=True)
        os.kill(pid, signal.SIGKILL)
        self.until("the daemon's death", lambda: not is_alive(pid))
        seen = self.execution_after_restart(execution)
        self.check(
            f"a new daemon (pid {self.daemon_pid()}) found the run alive",
            holds=self.daemon_pid() != pid,
        )
        self.check(
            f"the run {seen['state']}, exit code {seen['exit_code']}",
            holds=seen["state"] == "completed",
        )
        texts = self.texts(execution)
        self.check(f"{len(texts)} of {EVENTS} messages are in the log", holds=len(texts) == EVENTS)
        sequence = [event["seq"] for event in self.lines("tail", "garden", "-n", "100000")]
        dense = list(range(sequence[0], sequence[0] + len(sequence)))
        self.check(
            f"{len(sequence)} events, numbered without a gap or a repeat", holds=sequence == dense
        )

    def execution_after_restart(self, execution: str) -> dict[str, Any]:
        self.show("wait", execution)
        return self.execution(execution)

    def texts(self, execution: str) -> list[dict[str, Any]]:
        """What Claude said in an execution."""
        return [
            event
            for event in self.lines("logs", execution)
            if event["type"] == "message" and event["data"]["kind"] == "assistant"
        ]

    def stop(self) -> None:
        self.say("The end.")
        self.show("ps", "-a")
        self.show("daemon", "stop", "--runs=kill")
        home = f"HIVECTL_HOME={self.env['HIVECTL_HOME']}"
        self.check("no process is left", holds=self.processes(home) == [])

    def play(self) -> None:
        for step in (
            self.create,
            self.execute,
            self.tail,
            self.approve,
            self.kill,
            self.crash,
            self.stop,
        ):
            step()

    def clean(self) -> None:
        """End what may still run after a failure, by pid."""
        runs = Path(self.env["HIVECTL_HOME"], "state/runs")
        if runs.is_dir() and any(runs.iterdir()):
            # Runs outlive a daemon that was killed: a new one finds them, and ends them.
            subprocess.run(
                [self.hivectl, "daemon", "start"], env=self.env, timeout=STEP_S, check=False
            )
        if self.processes(f"HIVECTL_HOME={self.env['HIVECTL_HOME']}"):
            words = [self.hivectl, "--no-autostart", "daemon", "stop", "--runs=kill"]
            subprocess.run(words, env=self.env, timeout=STEP_S, check=False)
        for pid in self.processes(f"HIVECTL_HOME={self.env['HIVECTL_HOME']}"):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def items(document: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document["items"] if isinstance(document, dict) else document
    return found


def is_alive(pid: int) -> bool:
    """A dead process whose parent has not fetched its end yet is dead all the same."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def main() -> int:
    # A closed terminal must leave nothing behind either.
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, interrupt)
    with tempfile.TemporaryDirectory(prefix="hivectl-demo-") as place:
        demo = Demo(Path(place))
        try:
            demo.play()
        except (DemoError, subprocess.SubprocessError, OSError, KeyboardInterrupt) as exc:
            print(f"\nThe demo failed: {exc or type(exc).__name__}", file=sys.stderr)
            log = Path(place) / "hive/state/daemon.log"
            if log.exists():
                print("".join(log.read_text().splitlines(keepends=True)[-20:]), file=sys.stderr)
            return 1
        finally:
            demo.clean()
    took = time.monotonic() - demo.started
    print(f"\nAll of it held, in {took:.0f} s. Nothing is left behind.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
