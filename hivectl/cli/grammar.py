"""The words of the hot commands, once for both readers: the quick one (`hot`) and Typer.

`hot` takes a line only if all its options stand here; Typer knows these and more. Imports nothing at load.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Option:
    """One option: how it is written, and what it is for. With a `metavar` it takes a value."""

    __slots__ = ("help", "metavar", "spellings")

    def __init__(self, *spellings: str, help: str, metavar: str | None = None) -> None:  # noqa: A002  Typer's word
        self.spellings = spellings
        self.help = help
        self.metavar = metavar

    def for_typer(self, **more: Any) -> Any:
        """The same for Typer."""
        import typer

        return typer.Option(*self.spellings, metavar=self.metavar, help=self.help, **more)


FORMATS = ("table", "wide", "json", "yaml", "name")
HOT_FORMATS = frozenset({"table", "json", "name"})
"""Those that need no further module."""

EVERYWHERE = {
    "output": Option("-o", "--output", metavar="FORMAT", help=f"{', '.join(FORMATS)}."),
    "json": Option("--json", help="The same as -o json."),
}
HOT = {
    "ps": {"everything": Option("-a", "--all", help="Also those that ended.")},
    "health": {},
    "kill": {
        "force": Option("--force", help="End every process at once."),
        "reason": Option("--reason", metavar="TEXT", help="Kept with the execution."),
    },
    "exec": {
        "project": Option(
            "-p",
            "--project",
            metavar="PROJECT",
            help="Project; default: the current directory's.",
        ),
        "detach": Option("-d", "--detach", help="Do not wait; print the execution's id."),
        "idempotency_key": Option(
            "--idempotency-key",
            metavar="KEY",
            help="The same key again gives the first execution, not a second.",
        ),
    },
}


def is_execution(word: str) -> bool:
    """Whether the word is the id of an execution or work order; project names never look so."""
    return word.startswith(("x_", "o_"))


def kill(word: str) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """What `execution.list` is asked before this is killed, if anything, and how `kill` names it.

    What a project executes or has pending is looked up first: should the daemon die before it answers, it
    is asked again for these, and nothing newer is stopped.
    """
    if is_execution(word):
        return None, {"execution": word}
    return {"project": word, "live": True}, {"project": word}


def split(name: str, words: list[str]) -> tuple[dict[str, str], list[str]] | None:
    """Options by their names in the tables above, and the other words; None when it is not all plain.

    A flag's value is itself. Plain is: every option is known, stands once, and has its value as the next
    word; no word is empty or no text, and no value looks like an option (what Typer makes of those is Typer's).
    """
    if not is_text("".join(words)):
        return None
    known = {**EVERYWHERE, **HOT[name]}
    found: dict[str, str] = {}
    others: list[str] = []
    waiting = ""
    for word in words:
        is_option = word.startswith("-")
        if not word or (waiting and is_option):
            return None
        if waiting:
            found[waiting] = word
            waiting = ""
        elif not is_option:
            others.append(word)
        else:
            key = next((key for key, option in known.items() if word in option.spellings), "")
            if not key or key in found:
                return None
            found[key] = word
            waiting = key if known[key].metavar else ""
    return None if waiting else (found, others)


def is_text(word: str) -> bool:
    """Whether a word of the command line was UTF-8."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True
