"""The Agent tool: a sub agent that runs one command and reports, before or beside the turn."""

from typing import TYPE_CHECKING

from mock_claude import background, events, machine, money
from mock_claude import tools as shelf
from mock_claude.calls import Call, Outcome
from mock_claude.cli import Cli
from mock_claude.machine import Json

if TYPE_CHECKING:
    from mock_claude.turn import Turn

DONE = "The sub agent is done."


class AgentTask:
    """One sub agent: what it is and how it talks."""

    def __init__(self, turn: "Turn", call: Call) -> None:
        given = call.input.get("mock") or {}
        self.cli: Cli = turn.cli
        self.model = turn.speech.model
        self.charge = turn.speech.charge
        self.call_id = call.id
        self.id = "a" + self.cli.ids.hex(16)
        self.run_id = self.cli.ids.run()
        self.input = {key: value for key, value in call.input.items() if key != "mock"}
        self.description = str(call.input.get("description", "Look around"))
        self.kind = str(call.input.get("subagent_type", "general-purpose"))
        self.report = str(given.get("text", DONE))
        self.command = str(given.get("command", "echo from the sub agent"))
        self.is_background = bool(call.input.get("run_in_background"))
        self.is_background = self.is_background and background.is_possible()
        self.is_done = False
        self.output_path = (
            f"{machine.tasks_dir(self.cli.cwd, self.cli.session.id)}/{self.id}.output"
        )

    @property
    def marks(self) -> Json:
        """What every event of the sub agent carries."""
        return {"subagent_type": self.kind, "task_description": self.description}

    def start(self) -> None:
        """Announce the sub agent."""
        if self.is_background:
            self.cli.background.append(self)
            background.tell_tasks(self.cli)
        self.cli.system(
            "task_started",
            task_id=self.id,
            run_id=self.run_id,
            tool_use_id=self.call_id,
            description=self.description,
            subagent_type=self.kind,
            is_backgrounded=self.is_background,
            spawn_depth=1,
            task_type="local_agent",
            prompt=self.input.get("prompt", ""),
        )

    def say(self, kind: str, content: list[Json], **more: object) -> None:
        """An event of the sub agent."""
        cli = self.cli
        message: Json = {"role": "user", "content": content}
        if kind == "assistant":
            message = events.api_message(cli.ids.message(), self.model, content)
            message["context_management"] = None
            more["request_id"] = cli.ids.request()
        cli.emit(
            {
                "type": kind,
                "message": message,
                "parent_tool_use_id": self.call_id,
                "agent_id": self.id,
                "session_id": cli.session.id,
                "uuid": cli.ids.uuid(),
                "timestamp": machine.iso(),
                **more,
                **self.marks,
            }
        )

    def work(self) -> None:
        """Run its one command."""
        fields = {"command": self.command, "description": "Run a command"}
        call = Call(self.cli.ids.tool_use(), "Bash", fields)
        made = [{"type": "tool_use", "id": call.id, "name": "Bash", "input": fields}]
        if self.is_background:
            self.say("assistant", made)
            self._progress()
        else:
            self._progress()
            self.say("assistant", made)
        self.charge(10)
        outcome = shelf.run_bash(self.cli, call)
        block: Json = {"tool_use_id": call.id, "type": "tool_result", "content": outcome.content}
        decision = {"decision": "accept", "source": "config", "reason_type": "mode"}
        meta = [{"id": call.id, "permission_decision": decision}]
        self.say("user", [{**block, "is_error": bool(outcome.is_error)}], tool_result_meta=meta)
        if self.is_background or self.cli.options.has("forward-subagent-text"):
            self.say("assistant", [{"type": "text", "text": self.report}])
        self.charge(12)

    def _progress(self) -> None:
        self.cli.system(
            "task_progress",
            task_id=self.id,
            run_id=self.run_id,
            tool_use_id=self.call_id,
            description="Running Run a command",
            subagent_type=self.kind,
            usage={"total_tokens": 110, "tool_uses": 1, "duration_ms": 50},
            last_tool_name="Bash",
        )

    def end(self, status: str = "completed") -> None:
        """Announce the end."""
        self.is_done = True
        words = {"completed": "completed", "stopped": "killed"}[status]
        patch = {"status": words, "end_time": int(machine.wall_s() * 1000)}
        self.cli.system("task_updated", task_id=self.id, run_id=self.run_id, patch=patch)
        more: Json = {"summary_is_report": True} if self.is_background else {}
        self.cli.system(
            "task_notification",
            task_id=self.id,
            run_id=self.run_id,
            tool_use_id=self.call_id,
            status=status,
            output_file=self.output_path,
            summary=self.report,
            **more,
            usage={"total_tokens": 112, "tool_uses": 1, "duration_ms": 170},
        )

    # -- as background work

    def summary(self) -> Json:
        """Its entry in the list of live work."""
        return {
            "task_id": self.id,
            "run_id": self.run_id,
            "task_type": "local_agent",
            "subagent_type": self.kind,
            "description": self.description,
        }

    def is_over(self) -> bool:
        """A background sub agent works when the main conversation rests."""
        return True

    def stop(self, cli: Cli) -> None:
        """End it and tell the host."""
        cli.background.remove(self)
        self.end("stopped")
        background.tell_tasks(cli)

    def finish(self, cli: Cli) -> str:
        """Do the work, tell the host that it has ended."""
        self.work()
        cli.background.remove(self)
        self.end()
        background.tell_tasks(cli)
        return self.run_id


def run(turn: "Turn", call: Call) -> Outcome:
    """Start a sub agent; wait for it unless it is a background one."""
    task = AgentTask(turn, call)
    turn.cli.spawned["background" if task.is_background else "foreground"] += 1
    task.start()
    prompt = str(task.input.get("prompt", ""))
    if task.is_background:
        turn.holds_result = True
        text = (
            "Async agent launched successfully. (This tool result is internal metadata.)\n"
            f"agentId: {task.id}"
        )
        return Outcome([{"type": "text", "text": text}], _launched(task, prompt))
    task.say("user", [{"type": "text", "text": prompt}])
    task.work()
    task.end()
    used = {"type": "text", "text": "<tools-used-before-summary>Bash</tools-used-before-summary>\n"}
    said = {"type": "text", "text": task.report}
    result = {
        "status": "completed",
        "prompt": prompt,
        "agentId": task.id,
        "agentType": task.kind,
        "toolsUsed": ["Bash"],
        "harnessNoteCount": 1,
        "harnessTailCount": 0,
        "harnessSectionHash": "0" * 16,
        "content": [used, said],
        "resolvedModel": task.model,
        "totalDurationMs": 170,
        "totalTokens": 112,
        "totalToolUseCount": 1,
        "usage": money.usage(100, 12),
        "toolStats": {
            "readCount": 0,
            "searchCount": 0,
            "bashCount": 1,
            "editFileCount": 0,
            "linesAdded": 0,
            "linesRemoved": 0,
            "otherToolCount": 0,
        },
        "canContinueAgent": True,
    }
    return Outcome([{"type": "text", "text": f"[Subagent hand-back] {task.report}"}], result)


def _launched(task: AgentTask, prompt: str) -> Json:
    return {
        "isAsync": True,
        "status": "async_launched",
        "agentId": task.id,
        "description": task.description,
        "resolvedModel": task.model,
        "prompt": prompt,
        "outputFile": task.output_path,
        "canReadOutputFile": True,
        "canContinueAgent": True,
    }
