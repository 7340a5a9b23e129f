"""What the wire says went wrong, as HiveError."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hivectl.model.errors import TABLE, HiveError

TERMINAL_CLOSES: dict[int, str] = {
    1003: "INVALID_REQUEST",
    1007: "INVALID_REQUEST",
    1009: "TOO_LARGE",
    4400: "INVALID_REQUEST",
    4401: "UNAUTHENTICATED",
    4403: "FORBIDDEN",
    4404: "PROTOCOL_MISMATCH",
    4408: "UNAUTHENTICATED",
    4410: "TOKEN_REVOKED",
}
"""Close codes after which connecting again cannot help; all others are worth another try."""


class ConnectionLost(Exception):  # noqa: N818  it names what happened
    """The connection ended. `code` is the close code, 1006 when there was none."""

    def __init__(self, code: int, reason: str = "", *, reconnect_after_ms: int = 0) -> None:
        self.code = code
        self.reason = reason
        self.reconnect_after_ms = reconnect_after_ms
        super().__init__(f"{code} {reason}".strip())

    @property
    def is_terminal(self) -> bool:
        """Whether connecting again cannot help."""
        return self.code in TERMINAL_CLOSES

    @property
    def is_graceful(self) -> bool:
        """Whether the daemon said goodbye: it stops or restarts on purpose."""
        return self.code in {1001, 1012}

    def as_error(self) -> HiveError:
        """For whoever waits for an answer."""
        code = TERMINAL_CLOSES.get(self.code, "UNAVAILABLE")
        why = f": {self.reason}" if self.reason else ""
        return HiveError(
            code,
            f"The connection to the daemon ended ({self.code}{why}).",
            details={"close": self.code},
        )


def parse_error(error: Mapping[str, Any]) -> HiveError:
    """The HiveError of a JSON-RPC error object. A code of a newer daemon becomes INTERNAL, and is named."""
    data = error.get("data") or {}
    code = str(data.get("code", "INTERNAL"))
    details = dict(data.get("details") or {})
    if request := data.get("request_id"):
        details.setdefault("request_id", request)
    if code not in TABLE:
        details["code"] = code
        code = "INTERNAL"
    return HiveError(
        code,
        str(error.get("message") or ""),
        hint=str(data.get("hint") or ""),
        retry_after_ms=data.get("retry_after_ms"),
        details=details,
    )
