"""What the rules say of a call, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hivectl.cli.sanitize import one_line, reveal
from hivectl.cli.views import span

_WORDS = {"allow": "allowed", "deny": "denied", "ask": "a person is asked"}
PASSED_SHOWN = 20
"""Rules that do not match, of which so many are told."""


def text(verdict: Mapping[str, Any]) -> str:
    """`policy.test`'s answer: what happens, by which rule, and why not by those before it."""
    rule = verdict["rule"]
    by = f"by rule {rule['id']}, number {verdict['position']}" if rule else "by default"
    lines = [f"{_WORDS[verdict['action']]} {by}", f"  {verdict['reason']}"]
    if verdict["on_timeout"]:
        lines.append(
            f"  when nobody answers within {span(verdict['timeout_s'])}: {verdict['on_timeout']}"
        )
    lines.append(f"  risk: {verdict['risk']} ({verdict['risk_reason']})")
    passed = verdict["passed"]
    if passed:
        lines.append("  tried before:" if rule else "  tried:")
        lines += [f"    {item['rule']}: {item['why']}" for item in passed[:PASSED_SHOWN]]
        if len(passed) > PASSED_SHOWN:
            lines.append(f"    ... and {len(passed) - PASSED_SHOWN} more")
    return "\n".join(" " * (len(line) - len(line.lstrip())) + one_line(line) for line in lines)


def rule_text(draft: Mapping[str, Any], *, action: str, project: str) -> list[str]:
    """A rule before it is written, whole: what it will cover and no more. Nothing of it is hidden."""
    lines = [f"{action} {reveal(str(draft['tool']))}, in {reveal(project)}, from now on"]
    lines += [
        f"  where {reveal(name)} is {reveal(pattern)}" for name, pattern in draft["match"].items()
    ]
    if not draft["match"]:
        lines.append("  whatever its input is")
    return lines
