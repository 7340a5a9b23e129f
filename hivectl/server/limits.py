"""Every limit of a connection, read once from the settings."""

from __future__ import annotations

import msgspec

from hivectl.config import Settings

HEAD_BYTES = 16 * 1024
"""Largest head of an HTTP request."""
HEAD_S = 10.0
"""Time for a head to arrive whole, and for the first one to begin."""
BODY_S = 60.0
"""Time for a body to arrive whole."""
KEEP_ALIVE_S = 5.0
"""How long a connection may stay silent between two requests."""
HTTP_CONNECTIONS = 256
"""Most connections of a listener that are no WebSocket (yet)."""
HANDSHAKE_S = 5.0
"""Time for a TLS handshake, from the connection on."""
HANDSHAKES = 64
"""Most TLS handshakes under way; the oldest makes room for the next."""
CERTIFICATE_LOOK_S = 60.0
"""How often the files of the certificate are looked at."""
BEFORE_AUTH_BYTES = 64 * 1024
"""Largest message of who has not shown a credential."""
SLICE_BYTES = 4 * 1024
"""What is parsed of a read before its frames are looked at: at most 683 of them."""
FRAMES_A_TURN = 256
"""After so many frames of one connection the others have their turn."""
FRAGMENT_BYTES = 1024
"""A message may have one fragment for each of so many bytes that it might have."""
CHUNK_BYTES = 128 * 1024
"""Events written to a connection at once."""
CLOSE_GRACE_S = 2.0
"""How long a peer may take to end its side after we ended ours."""
BOOKMARK_S = 30.0
STATS_S = 10.0
RECONNECT_AFTER_MS = 1000


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Counts, bytes and seconds; see SETTINGS for what each means."""

    connections: int
    unauthenticated: int
    auth_deadline_s: float
    message_bytes: int
    requests_in_flight: int
    subscriptions: int
    messages_per_s: int
    messages_burst: int
    held_events: int
    held_bytes: int
    write_stall_s: float
    heartbeat_s: float
    pong_s: float
    idle_close_s: float

    @property
    def chunk_bytes(self) -> int:
        """Most bytes of events written at once."""
        return min(self.held_bytes, CHUNK_BYTES)

    def shown(self) -> dict[str, int]:
        """What `hello` tells a client."""
        return {
            "message_bytes": self.message_bytes,
            "before_auth_bytes": BEFORE_AUTH_BYTES,
            "requests_in_flight": self.requests_in_flight,
            "subscriptions": self.subscriptions,
            "messages_per_s": self.messages_per_s,
            "messages_burst": self.messages_burst,
        }


def read_limits(settings: Settings) -> Limits:
    """The limits of these settings."""
    return Limits(
        connections=settings.number("limits.connections"),
        unauthenticated=settings.number("limits.unauthenticated"),
        auth_deadline_s=settings.seconds("limits.auth_deadline_s"),
        message_bytes=settings.number("limits.message_bytes"),
        requests_in_flight=settings.number("limits.requests_in_flight"),
        subscriptions=settings.number("limits.subscriptions"),
        messages_per_s=settings.number("limits.messages_per_s"),
        messages_burst=settings.number("limits.messages_burst"),
        held_events=settings.number("limits.held_events"),
        held_bytes=settings.number("limits.held_bytes"),
        write_stall_s=settings.seconds("limits.write_stall_s"),
        heartbeat_s=settings.seconds("limits.heartbeat_s"),
        pong_s=settings.seconds("limits.pong_s"),
        idle_close_s=settings.seconds("limits.idle_close_s"),
    )


class Bucket:
    """A token bucket: `burst` at once, refilled at `rate` a second. Refusals do not cost tokens."""

    __slots__ = ("_at", "_burst", "_rate", "_tokens", "refused")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._at = now
        self.refused = 0
        """Refusals since the bucket was last full enough."""

    def take(self, now: float) -> bool:
        """Whether one more may come now."""
        self._tokens = min(self._burst, self._tokens + (now - self._at) * self._rate)
        self._at = now
        if self._tokens < 1:
            self.refused += 1
            return False
        self._tokens -= 1
        if self._tokens > self._burst / 2:
            self.refused = 0
        return True

    def wait_ms(self) -> int:
        """After how long one may come again."""
        return max(1, int((1 - self._tokens) / self._rate * 1000))
