"""Wrong command lines, said as what / why / next step instead of a parser's words."""

from __future__ import annotations

import sys
from typing import Any

from hivectl.cli.failure import closest
from hivectl.model.errors import HiveError

_PROMPT_COMMANDS = frozenset({"exec"})


def as_hive_error(error: Exception, arguments: list[str]) -> HiveError | None:
    """The error to report; None when help was printed because nothing was asked for."""
    context: Any = getattr(error, "ctx", None)
    message = str(getattr(error, "format_message", lambda: str(error))())
    if type(error).__name__ == "NoArgsIsHelpError":
        sys.stderr.write(message + "\n")
        return None
    path = context.command_path if context is not None else "hivectl"
    hint = f"`{path} --help` shows what it takes."
    if type(error).__name__ == "NoSuchOption":
        hint = _hint_for_option(error, context, path, arguments) or hint
    elif "No such command" in message and context is not None:
        # Typer's own suggestion is replaced by one form for all.
        message = message.split(" Did you mean", maxsplit=1)[0].rstrip("?.") + "."
        word = message.split("'")[1] if "'" in message else ""
        near = closest(word, list(context.command.commands))
        hint = f"{near} {hint}" if near else hint
    return HiveError("INVALID_PARAMS", message, hint=hint)


def _hint_for_option(error: Any, context: Any, path: str, arguments: list[str]) -> str:
    known = [name for param in context.command.params for name in param.opts] if context else []
    near = closest(str(error.option_name), known)
    if path.rsplit(maxsplit=1)[-1] not in _PROMPT_COMMANDS:
        return near
    dash = f"A prompt that starts with a dash comes after `--`, as in `{path} PROJECT -- '-x …'`, or on stdin."
    is_prompt = any(" " in word and word.startswith("-") for word in arguments)
    return dash if is_prompt else f"{near} {dash}".strip()
