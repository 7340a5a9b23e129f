"""What a program outside or a faulty Claude says breaks no command that shows it: rows S36 and S42."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hivectl import config
from hivectl.cli.transcript import Transcript
from hivectl.model.errors import HiveError

ESC = "\x1b]0;OWNED\x07\x1b[2J\u202e"
ODD: list[Any] = [None, 5, True, "text" + ESC, [], [1, None, "x"], {}, {"a": [1]}]


def blocks() -> list[Any]:
    """Content in which each part is of each kind that JSON has."""
    found: list[Any] = list(ODD)
    for odd in ODD:
        found += [
            {"type": odd},
            {"type": "text", "text": odd},
            {"type": "thinking", "thinking": odd},
            {"type": "tool_result", "tool_use_id": odd, "content": odd, "is_error": odd},
        ]
        for name in ("Bash", "ExitPlanMode", "AskUserQuestion", ESC, odd):
            found += [
                {"type": "tool_use", "id": odd, "name": name, "input": odd},
                {"type": "tool_use", "name": name, "input": {"plan": odd, "questions": odd}},
            ]
    return found


def messages() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"message": {"content": blocks()}}, {}]
    for odd in ODD:
        found += [{"type": odd, "message": odd}, {"message": {"content": odd}}, {"subtype": odd}]
        found += [{"event": odd}, {"event": {"type": "content_block_delta", "delta": odd}}]
        found += [{"subtype": name, "error": odd} for name in ("init", "api_retry")]
    return found


@pytest.mark.parametrize("verbose", [0, 2])
@pytest.mark.parametrize("kind", ["assistant", "user", "system", "partial", "result", "x"])
def test_s36_no_message_breaks_the_transcript(kind: str, verbose: int) -> None:
    transcript = Transcript(verbose=verbose)
    for raw in [*messages(), *ODD]:
        for type_ in ("message", "partial"):
            event = {"type": type_, "data": {"kind": kind, "raw": raw}}
            try:
                transcript.feed(event)
            except Exception as exc:  # noqa: BLE001  which one it was is what counts
                pytest.fail(f"{json.dumps(event)[:400]}: {exc!r}")


def test_s45_the_value_of_a_misspelt_setting_is_not_repeated() -> None:
    with pytest.raises(HiveError) as caught:
        config.parse_value("webhook.secrt", "s3cret", "config.toml")
    assert "s3cret" not in f"{caught.value} {caught.value.details}"
    assert "webhook.secret" in caught.value.hint
