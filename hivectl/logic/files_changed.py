"""Which files an execution changed, from its project's log.

`file.changed` events say what happened on disk; where nobody watched, the calls of Claude's writing tools
say what it meant to change, but for those that were refused or failed.
"""

from __future__ import annotations

import json
from typing import Any

WRITERS = frozenset({"Write", "Edit", "MultiEdit", "NotebookEdit"})
_MARKS = tuple(f'"name":"{name}"'.encode() for name in sorted(WRITERS))
_TOOL_USE = b'"tool_use"'
_FAILED = (b'"is_error":true', b'"is_error": true')
_PATH_FIELDS = ("path", "file_path", "notebook_path")
PATH_CHARS = 300


def may_write(data: bytes) -> bool:
    """Whether a message's data may hold a call of a writing tool, or the failure of one; cheap."""
    if any(mark in data for mark in _FAILED):
        return True
    return _TOOL_USE in data and any(
        mark in data or mark.replace(b":", b": ") in data for mark in _MARKS
    )


class Files:
    """Collects paths from records in any order."""

    def __init__(self) -> None:
        """Empty."""
        self._changed: set[str] = set()
        self._meant: set[tuple[str, str]] = set()
        self._failed: set[str] = set()

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
            for block in _blocks(found.get("raw")):
                self._look(block)

    def _look(self, block: dict[str, Any]) -> None:
        if block.get("type") == "tool_result" and block.get("is_error") is True:
            self._failed.add(str(block.get("tool_use_id") or ""))
        elif block.get("type") == "tool_use" and block.get("name") in WRITERS:
            call, given = str(block.get("id") or ""), block.get("input")
            if isinstance(given, dict):
                self._meant.update((call, path) for path in _paths(given))

    def paths(self) -> list[str]:
        """What changed on disk, or where nothing was watched, what was meant to."""
        meant = {path for call, path in self._meant if call not in self._failed}
        return sorted(self._changed or meant)


def _paths(found: dict[str, Any]) -> list[str]:
    listed: list[Any] = [found.get(name) for name in _PATH_FIELDS]
    for name in ("paths", "files", "changes"):
        items = found.get(name)
        some = items if isinstance(items, list) else []
        listed += [item.get("path") if isinstance(item, dict) else item for item in some]
    return [item[:PATH_CHARS] for item in listed if isinstance(item, str) and item]


def _blocks(raw: Any) -> list[dict[str, Any]]:
    message = raw.get("message") if isinstance(raw, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    return (
        [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []
    )
