"""Running shell commands as the Bash tool does: each in its own session, output in a file.

Invariant: whatever ends the wait (interrupt, signal, timeout) kills the command's process group
first; only a SIGKILL of the mock itself leaves the command behind, as with the real CLI.
"""

import os
import signal

from mock_claude import machine
from mock_claude.cli import Cli

OUTPUT_LIMIT = 30_000
PREVIEW = 2_000


class Command:
    """One running shell command."""

    def __init__(self, cli: Cli, command: str, task_id: str) -> None:
        folder = machine.tasks_dir(cli.cwd, cli.session.id)
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError:
            folder = "/tmp"  # noqa: S108 - a home and TMPDIR that cannot be written
        self.output_path = os.path.join(folder, f"{task_id}.output")
        self.started = machine.now()
        self.status: int | None = None
        self.pid = self._start(command, cli)

    def _start(self, command: str, cli: Cli) -> int:
        environment = machine.child_env(cli.session.id)
        output = os.open(self.output_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        pid = os.fork()
        if pid:
            os.close(output)
            return pid
        try:
            os.setsid()
            become_plain()
            null = os.open(os.devnull, os.O_RDONLY)
            os.dup2(null, 0)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.closerange(3, 64)
            os.chdir(cli.cwd)
            os.execve("/bin/bash", ["/bin/bash", "-c", command], environment)  # noqa: S606
        finally:
            os._exit(127)

    def poll(self) -> bool:
        """Whether the command has ended."""
        if self.status is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                pid, status = self.pid, 0
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status is not None

    @property
    def exit_code(self) -> int:
        """The exit code as a shell shows it."""
        status = self.status or 0
        return 128 - status if status < 0 else status

    def kill(self) -> None:
        """Kill the command's group and wait for its end."""
        if self.poll():
            return
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        self.status = -signal.SIGKILL

    def output(self) -> str:
        """Everything the command wrote, without the last newline."""
        try:
            with open(self.output_path, "rb") as file:
                return file.read().decode("utf-8", "replace").rstrip("\n")
        except OSError:
            return ""


def become_plain() -> None:
    """In a forked child: undo the mock's signal handling, so that the child is an ordinary one."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
