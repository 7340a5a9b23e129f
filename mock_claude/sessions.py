"""Session files: finding, reading, continuing, forking. One JSON object per line, append only.

Nothing here fails a run: a home that cannot be written means a session that is not kept.
"""

import json
import os

from mock_claude import VERSION, machine
from mock_claude.machine import Json

UNKNOWN_OUTCOME = (
    "[Tool call interrupted: the session ended before this call's result was recorded, so its "
    "outcome is unknown. It was not run again.]"
)

BEGAN = "mock-conversation"
BEGAN_FIELDS = ("model", "system_prompt", "append_system_prompt")


def find(wanted: str) -> str | None:
    """The file of a session by id, or by title, in any project."""
    root = os.path.join(machine.config_dir(), "projects")
    by_title = None
    for folder in _names(root):
        for name in _names(os.path.join(root, folder)):
            path = os.path.join(root, folder, name)
            if name == f"{wanted}.jsonl":
                return path
            if name.endswith(".jsonl") and _has_title(path, wanted):
                by_title = path
    return by_title


def latest(cwd: str) -> str | None:
    """The session file of this directory that was written last."""
    folder = machine.project_dir(cwd)
    paths = [os.path.join(folder, name) for name in _names(folder) if name.endswith(".jsonl")]
    return max(paths, key=os.path.getmtime, default=None)


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _has_title(path: str, title: str) -> bool:
    return any(
        line.get("type") == "custom-title" and line.get("customTitle") == title
        for line in read_lines(path)
    )


def read_lines(path: str) -> list[Json]:
    """The lines of a session file; a torn or unreadable line is skipped."""
    try:
        with open(path, "rb") as file:
            raw = file.read().split(b"\n")
    except OSError:
        return []
    lines = []
    for text in raw:
        try:
            line = json.loads(text)
        except ValueError:
            continue
        if isinstance(line, dict):
            lines.append(line)
    return lines


class Session:
    """One conversation: its id, its memory, its file."""

    def __init__(self, session_id: str, cwd: str, *, is_kept: bool) -> None:
        self.id = session_id
        self.cwd = cwd
        self.is_kept = is_kept
        self.path = os.path.join(machine.project_dir(cwd), f"{session_id}.jsonl")
        self.prompts: list[str] = []
        self.seen: set[str] = set()
        self.title = ""
        self.cost: Json = {}
        self.began: Json = {}
        """Model and system prompts: what a later resume goes on with."""
        self._leaf: str | None = None
        self._open_calls: list[str] = []
        self._ends_with_user = False
        self._inherited: list[Json] = []
        self._fd = -1

    def load(self, path: str, *, until: str = "", is_fork: bool = False) -> None:
        """Remember a stored conversation, up to an assistant message if one is named."""
        lines = read_lines(path)
        ends = [n for n, line in enumerate(lines) if until and line.get("uuid") == until]
        if ends:
            kept = lines[: ends[0] + 1]
            lines = kept + [line for line in lines[ends[0] + 1 :] if line["type"] == "cost-state"]
        for line in lines:
            self._remember(line)
        if is_fork:
            self._inherited = [{**line, "sessionId": self.id} for line in lines]
        else:
            self.path = path

    def _remember(self, line: Json) -> None:
        kind = line.get("type")
        if kind in ("user", "assistant") and not line.get("isSidechain"):
            self._remember_message(line)
        elif kind == "custom-title":
            self.title = str(line.get("customTitle", ""))
        elif kind == "cost-state":
            self.cost = line
        elif kind == BEGAN:
            self.began = {name: line.get(name, "") for name in BEGAN_FIELDS}

    def _remember_message(self, line: Json) -> None:
        self._leaf = line.get("uuid")
        content = line.get("message", {}).get("content", "")
        self._ends_with_user = line["type"] == "user"
        if line["type"] == "user" and isinstance(content, str) and not line.get("isMeta"):
            self.prompts.append(content)
            self.seen.update(line.get("commandUuids", []))
        for block in content if isinstance(content, list) else []:
            if block.get("type") == "tool_use":
                self._open_calls.append(block["id"])
            elif block.get("tool_use_id") in self._open_calls:
                self._open_calls.remove(block["tool_use_id"])

    def mend(self, next_uuid: str) -> None:
        """Close what a killed run left open: calls without a result, a turn without an end."""
        for call in self._open_calls:
            block = {
                "type": "tool_result",
                "content": UNKNOWN_OUTCOME,
                "is_error": True,
                "tool_use_id": call,
            }
            self.record("user", {"role": "user", "content": [block]}, next_uuid)
        if self._open_calls or self._ends_with_user:
            content = [{"type": "text", "text": "No response requested."}]
            message = {"role": "assistant", "model": "<synthetic>", "content": content}
            self.record("assistant", message, next_uuid)
        self._open_calls = []

    def record(self, kind: str, message: Json, uuid: str, **more: object) -> None:
        """Append a message of the conversation."""
        line = {
            "parentUuid": self._leaf,
            "isSidechain": False,
            "type": kind,
            "message": message,
            "uuid": uuid,
            "timestamp": machine.iso(),
            "userType": "external",
            "entrypoint": machine.env("CLAUDE_CODE_ENTRYPOINT", "sdk-cli"),
            "cwd": self.cwd,
            "sessionId": self.id,
            "version": VERSION,
            "gitBranch": "HEAD",
            **more,
        }
        self._leaf = uuid
        self.append(line)

    def remember_prompt(self, prompt: str, uuid: str, command_uuids: list[str]) -> None:
        """Store a user's prompt before anything is done about it."""
        self.note("queue-operation", operation="enqueue", content=prompt)
        self.note("queue-operation", operation="dequeue")
        message = {"role": "user", "content": prompt}
        self.record("user", message, uuid, commandUuids=command_uuids)
        self.prompts.append(prompt)
        self.seen.update(command_uuids)

    def remember_beginning(self, began: Json) -> None:
        """Store the model and the system prompts, where they are not what is stored already."""
        if began != self.began:
            self.began = began
            self.note(BEGAN, **began)

    def note(self, kind: str, **fields: object) -> None:
        """Append a line of bookkeeping."""
        stamp = {"timestamp": machine.iso()} if kind == "queue-operation" else {}
        self.append({"type": kind, **stamp, "sessionId": self.id, **fields})

    def append(self, line: Json) -> None:
        """Write one line; failures mean that the session is not kept from here on."""
        if not self.is_kept:
            return
        waiting, self._inherited = [*self._inherited, line], []
        text = "".join(json.dumps(item, ensure_ascii=True) + "\n" for item in waiting)
        try:
            if self._fd < 0:
                machine.make_private_dir(os.path.dirname(self.path))
                self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(self._fd, text.encode())
        except OSError:
            self.is_kept = False
