"""A worktree's changes for people: the files, then the patch in colours.

File names and lines are a model's: on a terminal what would be obeyed there is shown as an escape, because
leaving it out would hide a part of what is about to be accepted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from hivectl.cli.sanitize import reveal

if TYPE_CHECKING:
    from hivectl.cli.screen import Piece
    from hivectl.cli.session import Session

_STYLES = (
    (("diff --git", "index ", "--- ", "+++ ", "new file", "deleted file", "rename ", "similarity ", "old mode", "new mode"), "bold"),
    (("@@",), "tool"),
    (("+",), "good"),
    (("-",), "bad"),
)  # fmt: skip


def show(hive: Session, found: Mapping[str, Any], *, is_stat: bool) -> None:
    """Print it in the wanted format."""
    screen = hive.screen
    match hive.options.output:
        case "json" | "yaml":
            hive.print_document(found)
            return
        case "name":
            screen.result("\n".join(reveal(file["path"]) for file in found["files"]))
            return
        case _:
            pass
    if not found["files"]:
        screen.note(("dim", "nothing was changed"))
    elif is_stat:
        screen.result("\n".join(stat(found)))
    elif screen.out_is_terminal:
        screen.show(("", "\n".join(stat(found)) + "\n"))
        screen.show(*pieces(found["patch"]))
    else:
        screen.result(found["patch"])
    if found["truncated"] and not is_stat:
        screen.note(
            ("warn", "note: "),
            ("", f"the patch is longer than {found['limit_bytes']} bytes and was cut; see it whole with: "),
            ("", f"git -C {found['worktree']['path']} diff {found['worktree']['base']}"),
        )  # fmt: skip
    if found["ignored"]:
        named = ", ".join(reveal(name) for name in found["ignored"][:5])
        more = " ..." if len(found["ignored"]) > 5 else ""
        screen.note(("dim", f"ignored by git, and gone with the worktree: {named}{more}"))


def stat(found: Mapping[str, Any]) -> list[str]:
    """One line a file, and the sum."""
    lines = []
    for file in found["files"]:
        name = reveal(file["path"])
        if file["from"]:
            name = f"{reveal(file['from'])} => {name}"
        much = "binary" if file["added"] is None else f"+{file['added']} -{file['deleted']}"
        lines.append(f"{file['status']}  {name}  {much}")
    left = found["files_total"] - len(found["files"])
    if left > 0:
        lines.append(f"... and {left} more files")
    lines.append(f"{found['files_total']} files, +{found['added']} -{found['deleted']}")
    return lines


def pieces(patch: str) -> Iterator[Piece]:
    """The patch line by line, each in its style."""
    for line in patch.rstrip("\n").split("\n"):
        yield style_of(line), reveal(line) + "\n"


def style_of(line: str) -> str:
    """The style of a line of a patch."""
    for beginnings, style in _STYLES:
        if line.startswith(beginnings):
            return style
    return ""
