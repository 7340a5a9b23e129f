"""Text that came from a model, a tool, a file, a user or another machine, made safe for a terminal (S42).

The result has no control characters but newline and tab, so it cannot move the cursor, set the title,
hide or reorder text. Linear in its input, and idempotent.
"""

from __future__ import annotations

import re

_CONTROLS_IN_STRINGS = r"\x07\x18\x1a\x1b\x80-\x9f"
_SEQUENCES = re.compile(
    # CSI: parameters, intermediates, a final byte.
    r"(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~]?"
    # OSC, DCS, APC, PM, SOS with their whole content. Without a terminator only the introducer goes, below.
    rf"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^{_CONTROLS_IN_STRINGS}]*+(?:\x07|\x1b\\|\x9c)"
    # Any other escape: intermediates and a final byte.
    r"|\x1b[ -/]*+[0-~]?"
)
_FORBIDDEN = re.compile(
    "["
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f"
    "\u00ad\u061c\u180e"  # soft hyphen, Arabic letter mark, Mongolian vowel separator
    "\u200b-\u200f"  # zero-width spaces and joiners, left-to-right and right-to-left marks
    "\u2028-\u202e"  # line and paragraph separators, embeddings and overrides
    "\u2060-\u206f"  # word joiner, invisible operators, isolates, deprecated controls
    "\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f"  # tags: text that nobody sees
    "]"
)
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
_REPLACEMENT = "\ufffd"


def sanitize(text: str) -> str:
    """`text` without anything a terminal would obey. Newlines and tabs stay; CR becomes a newline."""
    if text.isascii() and text.isprintable():
        return text
    text = _SEQUENCES.sub("", text)
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = _FORBIDDEN.sub("", text)
    return _LONE_SURROGATES.sub(_REPLACEMENT, text)


def one_line(text: str) -> str:
    """The same on a single line."""
    return " ".join(sanitize(text).split())


def reveal(text: str) -> str:
    """`text` with every control shown as an escape, for what a person is asked to allow.

    Removing them would hide a part of the command that a shell would still run.
    """
    return _REVEALED.sub(_as_escape, text)


_REVEALED = re.compile(f"{_FORBIDDEN.pattern}|\r|{_LONE_SURROGATES.pattern}")


def _as_escape(found: re.Match[str]) -> str:
    code = ord(found.group())
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
