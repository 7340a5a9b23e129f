"""Write the convenience methods of both clients from METHODS: `python -m hivectl.client.generate`.

One typed method a row, so that editors complete them and mypy checks them. A test fails when the
files on disk are not what this writes.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from hivectl.protocol.methods import METHODS, Method, params_model

HAND_WRITTEN = frozenset({"auth", "subscribe", "unsubscribe", "tail"})
"""Rows with a method of their own in the clients: the handshake, and what returns a Subscription."""

_HEAD = '''"""One method a row of METHODS, {how}. Written by hivectl.client.generate; do not edit."""

# ruff: noqa: A002, ARG002, RUF100, PLR0913

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, cast

from hivectl.client.unset import UNSET, Unset, given

if TYPE_CHECKING:
    from hivectl.protocol import results


class {name}:
    """Mixed into the client, which supplies `request`."""

    {a}def request(self, method: str, params: dict[str, Any]) -> Any:
        """Send one request and return its result."""
        raise TypeError("mixed into a client")
'''


def method_name(row: Method) -> str:
    """`project.create` is `project_create`."""
    return row.name.replace(".", "_")


def render(*, is_async: bool) -> str:
    """The text of calls.py or calls_sync.py."""
    name, how = ("Calls", "awaited") if is_async else ("CallsSync", "blocking")
    parts = [_HEAD.format(name=name, how=how, a="async " if is_async else "")]
    parts += [_method(row, is_async) for row in METHODS.values() if row.name not in HAND_WRITTEN]
    return "".join(parts)


def _method(row: Method, is_async: bool) -> str:  # noqa: FBT001  private
    fields = params_model(row).model_fields
    required = [(n, f) for n, f in fields.items() if f.is_required()]
    optional = [(n, f) for n, f in fields.items() if not f.is_required()]
    arguments = ["self"]
    arguments += [f"{n}: {_annotation(f.annotation)}" for n, f in required]
    if optional:
        arguments.append("*")
    arguments += [f"{n}: {_or_unset(_annotation(f.annotation))} = UNSET" for n, f in optional]
    prefix, wait = ("async ", "await ") if is_async else ("", "")
    lines = [
        "",
        f"    {prefix}def {method_name(row)}(",
        *[f"        {argument}," for argument in arguments],
        f"    ) -> results.{row.result}:",
        f'        """{row.summary}"""',
    ]
    if fields:
        pairs = ", ".join(f"{n}={n}" for n in fields)
        lines.append(f"        sent = given({pairs})")
    else:
        lines.append("        sent: dict[str, Any] = {}")
    lines += [
        f'        answer = {wait}self.request("{row.name}", sent)',
        f'        return cast("results.{row.result}", answer)',
    ]
    return "\n".join(lines) + "\n"


def _or_unset(annotation: str) -> str:
    if annotation.endswith(" | None"):
        return f"{annotation.removesuffix(' | None')} | Unset | None"
    return f"{annotation} | Unset"


def _annotation(kind: Any) -> str:
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _annotation(inner[0])
    if origin is Literal:
        return f"Literal[{', '.join(repr(value) for value in inner)}]".replace("'", '"')
    if origin in {Union, types.UnionType}:
        return " | ".join(_annotation(part) for part in inner)
    if origin in {list, dict}:
        return f"{origin.__name__}[{', '.join(_annotation(part) for part in inner)}]"
    if kind is type(None):
        return "None"
    if kind is Any:
        return "Any"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "dict[str, Any]"
    return str(kind.__name__)


def main() -> None:
    """Write both files, formatted."""
    import subprocess  # noqa: PLC0415

    here = Path(__file__).parent
    for name, is_async in (("calls.py", True), ("calls_sync.py", False)):
        (here / name).write_text(render(is_async=is_async))
    files = [str(here / "calls.py"), str(here / "calls_sync.py")]
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", *files], check=True)


if __name__ == "__main__":
    main()
