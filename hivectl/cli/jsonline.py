"""One JSON document on one line, ASCII only: bidi and C1 controls must not reach a terminal (S42).

On the path of hot commands: takes the encoder of the thin client, whose output is the same for both.
"""

from __future__ import annotations

import sys

from hivectl.client.thin import encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def dump(document: Any) -> str:
    """The text."""
    json = sys.modules.get("json")
    if json is not None:
        return str(json.dumps(document, separators=(", ", ": "), default=str))
    return encode(document)
