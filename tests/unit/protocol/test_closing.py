"""Close codes are a table."""

from __future__ import annotations

from websockets.frames import Close as CloseFrame

from hivectl.protocol.closing import MEANINGS, TERMINAL, Close


def test_every_code_has_a_meaning_and_may_be_sent() -> None:
    assert set(MEANINGS) == set(Close)
    assert set(Close) >= TERMINAL
    for code in Close:
        CloseFrame(code, "reason").check()
