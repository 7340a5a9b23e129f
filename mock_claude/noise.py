"""Lines on stdout that are no events, to prove that a reader survives them."""

from collections.abc import Callable

from mock_claude import scenario
from mock_claude.cli import Cli
from mock_claude.machine import Json

GIANT = 8 * 1024 * 1024
DEPTH = 100_000


def _giant(size: int) -> bytes:
    head, tail = b'{"type":"mock_giant","padding":"', b'"}\n'
    return head + b"x" * max(0, size - len(head) - len(tail)) + tail


LINES: dict[str, Callable[[int], bytes]] = {
    "text": lambda _size: b"this line is not JSON\n",
    "json": lambda _size: b'42\n"text"\nnull\n[]\n[1,2]\n{}\n',
    "utf8": lambda _size: b'{"type":"mock_garbage","text":"\xff\xfe\xc3("}\n\xc0\xaf\xed\xa0\x80\n',
    "nul": lambda _size: b'\x00\x00\n{"type":"mock_garbage","text":"a\x00b"}\n',
    "blank": lambda _size: b"\n   \n\r\n",
    "unknown": lambda _size: b'{"type":"mock_unknown","subtype":"new","value":{"deep":[1]}}\n',
    "half": lambda _size: b'{"type":"assistant","message":{"content":[{"type":"te\n',
    "deep": lambda _size: b"[" * DEPTH + b"]" * DEPTH + b"\n",
    "giant": _giant,
    "giant_text": lambda size: b"x" * max(0, size - 1) + b"\n",
    "truncated": lambda _size: b'{"type":"assistant","message":{"role":"assist',
}
LATE = "truncated"  # comes as the very last bytes of the process
USUAL = [name for name in LINES if name not in ("giant", "giant_text", LATE)]


def spread(cli: Cli, given: object) -> None:
    """Write the wanted garbage. Raises ScenarioError for an unknown kind."""
    fields: Json = given if isinstance(given, dict) else {"kinds": given}
    kinds = fields.get("kinds", True)
    names = USUAL if kinds is True else kinds if isinstance(kinds, list) else [kinds]
    size = int(fields.get("bytes", GIANT))
    for name in names:
        make = LINES.get(str(name))
        if make is None:
            known = ", ".join(LINES)
            raise scenario.ScenarioError(f"unknown garbage '{name}'; known: {known}")
        if name == LATE:
            cli.last_words = make(size)
        else:
            cli.emit_raw(make(size))
