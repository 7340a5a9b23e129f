"""The running process: what it knows, what it says, and its conversation with the host.

Everything that waits, waits here, so that control requests are answered and signals felt at any
moment. It must not know what a turn consists of.
"""

import json
import os
import signal
from collections.abc import Callable
from typing import Protocol

from mock_claude import catalog, events, machine, wire
from mock_claude.flags import Options
from mock_claude.ids import Ids
from mock_claude.machine import Json
from mock_claude.money import Ledger
from mock_claude.sessions import Session

STATE_VARIABLE = "CLAUDE_CODE_EMIT_SESSION_STATE_EVENTS"
SDK_STATE_VARIABLE = "CLAUDE_CODE_SDK_READS_SESSION_STATE"


class Interrupted(Exception):
    """The host asked to interrupt the running turn."""


class Signalled(Exception):
    """A signal asks the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Fatal(Exception):
    """The process cannot go on: text for stderr, exit code 1."""


class StreamClosed(Exception):
    """stdin ended while an answer was awaited."""


class BackgroundTask(Protocol):
    """Work that goes on beside the turns."""

    id: str

    def is_over(self) -> bool:
        """Whether it has ended by itself."""
        ...

    def stop(self, cli: "Cli") -> None:
        """End it now and tell the host."""
        ...

    def summary(self) -> Json:
        """Its entry in the list of live work."""
        ...

    def finish(self, cli: "Cli") -> str:
        """Tell the host that it has ended; the run id for the follow-up turn."""
        ...


class Message:
    """One user message from stdin or the command line."""

    def __init__(self, text: str, *, uuid: str = "", is_composed: bool = False) -> None:
        self.text = text
        self.uuid = uuid
        self.is_composed = is_composed


def text_of(content: object) -> str:
    """The text of a message's content, which is a string or a list of blocks."""
    if isinstance(content, list):
        parts = [block.get("text", "") for block in content if isinstance(block, dict)]
        return "\n".join(part for part in parts if part)
    return content if isinstance(content, str) else ""


class Cli:
    """State shared by everything that runs in the process."""

    is_recorded = False
    has_host_servers = False
    has_told_limit = False
    redirected_to = ""  # a base URL that came from a settings file
    interrupt_is_ignored = False
    eof_is_ignored = False

    def __init__(self, options: Options, pipe: wire.Wire, ids: Ids, cwd: str) -> None:
        self.argv: list[str] = []
        self.options = options
        self.wire = pipe
        self.ids = ids
        self.cwd = cwd
        self.session = Session("", cwd, is_kept=False)
        self.ledger = Ledger()
        self.mode = "default"
        self.model = catalog.ALIASES["default"]
        self.is_model_named = False
        self.system_prompts = {"system_prompt": "", "append_system_prompt": ""}
        self.settings: Json = {}
        self.rules: dict[str, list[str]] = {"allow": [], "deny": []}
        self.directories: list[str] = []
        self.mcp_servers: list[Json] = []
        self.mcp_tools: list[Json] = []
        self.mcp: dict[str, object] = {}
        self.hooks: Json = {}
        self.command_hooks: dict[str, list[Json]] = {}
        self.run_command_hooks: Callable[[Cli, str, Json, str], Json] = lambda *_: {}
        self.queue: list[Message] = []
        self.deferred: list[Json] = []
        self.background: list[BackgroundTask] = []
        self.on_control: Callable[[Cli, Json], None] = lambda _cli, _request: None
        self.on_initialize: Callable[[Cli], None] = lambda _cli: None
        self.on_first_turn: Callable[[Cli], None] = lambda _cli: None
        self.is_turn_running = False
        self.is_interrupted = False
        self.spawned = {"background": 0, "foreground": 0}
        self.turn_count = 0
        self.result_count = 0
        self.exit_code = 0
        self.forced_exit_code: int | None = None
        self.last_words = b""
        self.collected: list[Json] = []
        self.held: list[Json] = []
        self._pending: list[str] = []
        self._replies: dict[str, Json] = {}

    # -- output

    def emit(self, event: Json) -> None:
        """Put an event on stdout, or keep it when the format shows the end only."""
        if self.options.output_format == "stream-json":
            self.wire.send(wire.encode(event))
        else:
            self.collected.append(event)

    def emit_raw(self, data: bytes) -> None:
        """Put bytes on stdout that are no event."""
        self.wire.send(data)

    def system(self, subtype: str, **fields: object) -> None:
        """Emit a `system` event."""
        self.emit(
            {
                "type": "system",
                "subtype": subtype,
                **fields,
                "uuid": self.ids.uuid(),
                "session_id": self.session.id,
            }
        )

    def state(self, state: str) -> None:
        """Tell the host what the session does, if it wants to know."""
        extra: Json = {"sdk_host_only": True}
        if machine.env(STATE_VARIABLE) == "1":
            extra = {}
        elif machine.env(SDK_STATE_VARIABLE) != "1":
            return
        self.system("session_state_changed", state=state, **extra)

    def lifecycle(self, uuid: str, state: str) -> None:
        """Tell what became of a message that had a uuid."""
        if uuid:
            self.emit(
                {
                    "type": "command_lifecycle",
                    "command_uuid": uuid,
                    "state": state,
                    "uuid": self.ids.uuid(),
                    "session_id": self.session.id,
                }
            )

    def replay(self, text: str, uuid: str, **more: object) -> None:
        """Echo a user message."""
        self.emit(
            {
                "type": "user",
                "message": {"role": "user", "content": text},
                "session_id": self.session.id,
                "parent_tool_use_id": None,
                "uuid": uuid or self.ids.uuid(),
                **more,
                "isReplay": True,
            }
        )

    def tool_meta(self, call_id: str, name: str) -> Json | None:
        """Display names of an MCP tool, for the event of its call."""
        for tool in self.mcp_tools:
            if tool["full_name"] == name:
                short = str(tool["name"])
                return {
                    "id": call_id,
                    "display_name": short[:1].upper() + short[1:],
                    "server_display_name": tool["server"],
                    "tool_name": short,
                }
        return None

    def mcp_name(self, name: str) -> str:
        """The full name of an MCP server's tool; the name itself when no server has it."""
        found = (str(tool["full_name"]) for tool in self.mcp_tools if tool["name"] == name)
        return next(found, name)

    def tools(self) -> list[str]:
        """The names of the tools that exist in this run."""
        given = self.options.values.get("tools")
        names = list(catalog.TOOLS)
        if given is not None and given != ["default"]:
            wanted = self.options.many("tools")
            names = [name for name in names if name in wanted or (name == "Task" in wanted)]
        if self.options.has("bare"):
            names = ["Bash", "Edit", "Read"]
        if self.options.value("permission-prompt-tool") == "stdio":
            names += catalog.INTERACTIVE
        if self.options.has("json-schema"):
            names.append("StructuredOutput")
        removed = [rule for rule in self.rules["deny"] if "(" not in rule]
        shown = sorted((name for name in names if name not in removed), key=_tool_order)
        return shown + [tool["full_name"] for tool in self.mcp_tools]

    def init_event(self, user_message_uuids: list[str]) -> Json:
        """`system/init` as of now."""
        agents = self.options.value("agents")
        return events.init(
            {
                "cwd": self.cwd,
                "session_id": self.session.id,
                "uuid": self.ids.uuid(),
                "model": self.model,
                "mode": self.mode,
                "tools": self.tools(),
                "mcp_servers": self.mcp_servers,
                "agents": list(json.loads(agents)) if agents else [],
                "additional_directories": self.directories,
                "user_message_uuids": user_message_uuids,
            }
        )

    # -- waiting

    def check(self) -> None:
        """Raise what has happened meanwhile."""
        if self.wire.signals:
            raise Signalled(self.wire.signals[0])
        if self.is_interrupted and self.is_turn_running:
            self.is_interrupted = False
            raise Interrupted

    def wait(self, seconds: float | None, done: Callable[[], bool] | None = None) -> bool:
        """Wait so long, for ever with None, or until `done`; tell whether `done` came true.

        Raises Interrupted and Signalled at once when they happen.
        """
        deadline = None if seconds is None else machine.now() + seconds
        while True:
            self.wire.pump(0)
            self.check()
            if done is not None and done():
                return True
            left = None if deadline is None else deadline - machine.now()
            if left is not None and left <= 0:
                return False
            self.wire.pump(left)

    def ask(self, request: Json, *, timeout_s: float | None = None) -> Json:
        """Send a control request to the host and return its `response` envelope.

        Raises StreamClosed when stdin ends first, TimeoutError (after cancelling the request).
        """
        request_id = self.ids.uuid()
        self.emit({"type": "control_request", "request_id": request_id, "request": request})
        self._pending.append(request_id)

        def is_done() -> bool:
            return request_id in self._replies or self.wire.is_eof

        try:
            if not self.wait(timeout_s, is_done):
                self.cancel_pending()
                raise TimeoutError
        except Signalled:
            self.cancel_pending()
            raise
        finally:
            if request_id in self._pending:
                self._pending.remove(request_id)
        if request_id not in self._replies:
            raise StreamClosed
        return self._replies.pop(request_id)

    def cancel_pending(self) -> None:
        """Withdraw the questions that the host has not answered."""
        for request_id in self._pending:
            self.emit({"type": "control_cancel_request", "request_id": request_id})
        self._pending.clear()

    def hook(self, name: str, fields: Json, *, matcher: str = "") -> Json:
        """Call all hooks of this name; the last answer that says something, or {}."""
        said: Json = {}
        if name in self.command_hooks:
            said = self.run_command_hooks(self, name, fields, matcher)
        for entry in self.hooks.get(name) or []:
            wanted = entry.get("matcher")
            if wanted and matcher and matcher not in wanted.split("|") and wanted != "*":
                continue
            for callback in entry.get("hookCallbackIds", []):
                said = self._call_hook(callback, name, fields, entry.get("timeout")) or said
        return said

    def _call_hook(self, callback: str, name: str, fields: Json, limit: float | None) -> Json:
        request = {
            "subtype": "hook_callback",
            "callback_id": callback,
            "input": {
                "session_id": self.session.id,
                "transcript_path": self.session.path,
                "cwd": self.cwd,
                "permission_mode": self.mode,
                "hook_event_name": name,
                **fields,
            },
            "tool_use_id": fields.get("tool_use_id") or self.ids.uuid(),
        }
        try:
            reply = self.ask(request, timeout_s=limit)
        except StreamClosed:
            return {}
        except TimeoutError:
            refused = {"permissionDecision": "deny", "permissionDecisionReason": "timeout"}
            return {"hookSpecificOutput": refused} if name == "PreToolUse" else {}
        if reply.get("subtype") == "error":
            text = f"{name} hook callback failed: {reply.get('error', '')}"
            self.system("informational", content=text, level="warning")
            return {}
        return reply.get("response") or {}

    # -- input

    def take_line(self, raw: bytes) -> None:
        """Handle one line of stream-json input. Raises Fatal."""
        text = raw.decode("utf-8", "replace")
        if not text.strip():
            return
        try:
            item = json.loads(text)
        except ValueError:
            raise Fatal(
                f"Error parsing streaming input line (type=unknown, {len(text)} chars): SyntaxError"
            ) from None
        if not isinstance(item, dict):
            return
        if item.get("type") == "user":
            self._take_message(item)
        elif item.get("type") == "control_request":
            self.on_control(self, item)
        elif item.get("type") == "control_response":
            reply = item.get("response") or {}
            if reply.get("request_id") in self._pending:
                self._replies[reply["request_id"]] = reply

    def _take_message(self, item: Json) -> None:
        message = item.get("message") or {}
        role = message.get("role")
        if role != "user":
            raise Fatal(f"Error: Expected message role 'user', got '{role}'")
        uuid = item.get("uuid") or ""
        if uuid and uuid in self.session.seen:
            return
        if uuid:
            self.session.seen.add(uuid)
        self.queue.append(
            Message(
                text_of(message.get("content")),
                uuid=uuid,
                is_composed=bool(item.get("client_composed")),
            )
        )
        self.lifecycle(uuid, "queued")

    def save_totals(self) -> None:
        """Store what the session has cost so far; a SIGKILL never comes here."""
        if self.turn_count and os.path.exists(self.session.path):
            self.session.note("cost-state", **self.ledger.stored())


def _tool_order(name: str) -> tuple[bool, str]:
    return name != "Task", name
