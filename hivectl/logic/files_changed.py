"""Which files an execution changed, from its project's log.

`file.changed` events say what happened on disk; where nobody watched, the calls of Claude's writing tools
say what it meant to change.
"""

from __future__ import annotations

import json
from typing import Any

WRITERS = frozenset({"Write", "Edit", "MultiEdit", "NotebookEdit"})
_MARKS = tuple(f'"name":"{name}"'.encode() for name in sorted(WRITERS))
_TOOL_USE = b'"tool_use"'
_PATH_FIELDS = ("path", "file_path", "notebook_path")
PATH_CHARS = 300


def may_write(data: bytes) -> bool:
    """Whether a message's data may hold a call of a writing tool; cheap."""
    return _TOOL_USE in data and any(
        mark in data or mark.replace(b":", b": ") in data for mark in _MARKS
    )


class Files:
    """Collects paths from records in any order."""

    def __init__(self) -> None:
        """Empty."""
        self._changed: set[str] = set()
        self._meant: set[str] = set()

    def see(self, type_: str, data: bytes) -> None:
        """Look at a record's data; what cannot be read is passed over."""
        try:
            found = json.loads(data)
        except (ValueError, RecursionError):
            return
        if not isinstance(found, dict):
            return
        if type_ == "file.changed":
            self._changed.update(_paths(found))
        else:
            self._meant.update(_called(found.get("raw")))

    def paths(self) -> list[str]:
        """What changed on disk, or where nothing was watched, what was meant to."""
        return sorted(self._changed or self._meant)


def _paths(found: dict[str, Any]) -> list[str]:
    listed: list[Any] = [found.get(name) for name in _PATH_FIELDS]
    for name in ("paths", "files", "changes"):
        items = found.get(name)
        some = items if isinstance(items, list) else []
        listed += [item.get("path") if isinstance(item, dict) else item for item in some]
    return [item[:PATH_CHARS] for item in listed if isinstance(item, str) and item]


def _called(raw: Any) -> list[str]:
    message = raw.get("message") if isinstance(raw, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    paths: list[str] = []
    for block in content if isinstance(content, list) else []:
        if not isinstance(block, dict) or block.get("type") != "tool_use":
            continue
        if block.get("name") in WRITERS and isinstance(block.get("input"), dict):
            paths += _paths(block["input"])
    return paths
