"""The process that sends one message by apprise: a request on standard input, an answer on standard output.

Ends itself with SIGALRM when a service does not answer in time, also when the daemon is gone.
"""

from __future__ import annotations

import json
import logging
import signal
import sys
from typing import Any


class _Kept(logging.Handler):
    """What the library complains of: it tells by its log why it failed, and by nothing else."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the first few."""
        if len(self.lines) < 5:
            self.lines.append(" ".join(record.getMessage().split()))


def send(request: dict[str, Any]) -> tuple[bool, str]:
    """Whether it was sent, and what went wrong if not."""
    import apprise  # noqa: PLC0415  only this process pays for it

    kept = _Kept()
    logger = logging.getLogger("apprise")
    logger.addHandler(kept)
    logger.propagate = False
    service = apprise.Apprise()
    if not service.add(request["url"]):
        return False, "; ".join(kept.lines) or "this is no address that apprise knows"
    is_sent = service.notify(
        body=request["text"] or request["title"],
        title=request["title"],
        body_format=apprise.NotifyFormat.TEXT,
    )
    return bool(is_sent), "; ".join(kept.lines)


def main() -> int:
    """One request, one answer."""
    request = json.loads(sys.stdin.buffer.read())
    signal.setitimer(signal.ITIMER_REAL, float(request["limit_s"]))
    answers = sys.stdout
    sys.stdout = sys.stderr
    try:
        is_sent, why = send(request)
    except Exception as exc:  # noqa: BLE001  a fault of a plug-in is an answer too
        is_sent, why = False, f"{type(exc).__name__}: {exc}"
    answers.write(json.dumps({"is_sent": is_sent, "why": why}))
    answers.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
