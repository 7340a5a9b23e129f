"""Shell commands that run on beside the turns."""

from mock_claude import machine
from mock_claude.bash import Command
from mock_claude.calls import Call, Outcome
from mock_claude.cli import Cli
from mock_claude.machine import Json

LIMIT_S = 600.0


def is_possible() -> bool:
    """Whether background work is switched on."""
    return machine.env("CLAUDE_CODE_DISABLE_BACKGROUND_TASKS") != "1"


class ShellTask:
    """A Bash command in the background."""

    task_type = "local_bash"

    def __init__(self, cli: Cli, call: Call, running: Command) -> None:
        self.id = running.output_path.rsplit("/", 1)[-1].removesuffix(".output")
        self.run_id = cli.ids.run()
        self.call_id = call.id
        self.description = str(call.input.get("description", "Run a command"))
        self.running = running
        self.ends_at = machine.now() + LIMIT_S

    def is_over(self) -> bool:
        """Whether the command ended, or has had its ten minutes."""
        if machine.now() >= self.ends_at:
            self.running.kill()
        return self.running.poll()

    def summary(self) -> Json:
        """The entry in the list of live tasks."""
        return {
            "task_id": self.id,
            "run_id": self.run_id,
            "task_type": self.task_type,
            "description": self.description,
        }

    def stop(self, cli: Cli) -> None:
        """Kill the command and tell the host."""
        self.running.kill()
        cli.background.remove(self)
        self._notify(cli, "stopped", "", self.description)
        self._update(cli, "killed")
        tell_tasks(cli)

    def finish(self, cli: Cli) -> str:
        """Tell the host that the command ended."""
        cli.background.remove(self)
        code = self.running.exit_code
        word = "completed" if code == 0 else "failed"
        self._update(cli, word)
        text = f'Background command "{self.description}" {word} (exit code {code})'
        self._notify(cli, word, self.running.output_path, text)
        tell_tasks(cli)
        return self.run_id

    def _update(self, cli: Cli, status: str) -> None:
        patch = {"status": status, "end_time": int(machine.wall_s() * 1000)}
        cli.system("task_updated", task_id=self.id, run_id=self.run_id, patch=patch)

    def _notify(self, cli: Cli, status: str, output_file: str, summary: str) -> None:
        cli.system(
            "task_notification",
            task_id=self.id,
            run_id=self.run_id,
            tool_use_id=self.call_id,
            status=status,
            output_file=output_file,
            summary=summary,
        )


def tell_tasks(cli: Cli) -> None:
    """Emit the full list of live background work."""
    tasks = [task.summary() for task in cli.background]
    cli.system("background_tasks_changed", tasks=tasks)


def send(cli: Cli, call: Call, running: Command) -> Outcome:
    """Let a command run on in the background."""
    task = ShellTask(cli, call, running)
    cli.background.append(task)
    tell_tasks(cli)
    cli.system(
        "task_started",
        task_id=task.id,
        run_id=task.run_id,
        tool_use_id=call.id,
        description=task.description,
        is_backgrounded=True,
        task_type=task.task_type,
    )
    text = (
        f"Command running in background with ID: {task.id}. Output is being written to: "
        f"{running.output_path}. You will be notified when it completes. To check interim output, "
        "use Read on that file path."
    )
    result = {
        "stdout": "",
        "stderr": "",
        "interrupted": False,
        "isImage": False,
        "noOutputExpected": False,
        "backgroundTaskId": task.id,
    }
    return Outcome(text, result, is_error=False)
