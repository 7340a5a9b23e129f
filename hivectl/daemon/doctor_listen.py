"""Where the daemon would listen, and whether its TLS certificate is good: rows of (id, status, what, why, next)."""

from __future__ import annotations

from collections.abc import Iterator

from hivectl.config import Settings
from hivectl.daemon.doctor_system import Row
from hivectl.kit.clock import MICROSECOND, Clock, SystemClock
from hivectl.model.errors import HiveError
from hivectl.server.security import parse_listen

_REFUSES = "The daemon refuses to start."


def check(settings: Settings, clock: Clock | None = None) -> Iterator[Row]:
    """Reads the certificate and tries it; opens nothing."""
    has_tls = bool(settings.text("listen.tls_cert") or settings.text("listen.tls_key"))
    try:
        address = parse_listen(
            settings.text("listen.tcp"),
            insecure_plain_http=settings.flag("listen.insecure_plain_http"),
            has_tls=has_tls,
        )
    except HiveError as exc:
        yield ("listen", "fail", exc.message, _REFUSES, exc.hint)
        return
    if address is None:
        yield ("listen", "ok", "TCP is off; the local socket only", "", "")
    elif has_tls:
        yield from _certificate(settings, (clock or SystemClock()).now_us() / MICROSECOND)
    elif address.is_loopback:
        yield ("listen", "ok", f"TCP listens at {address}, for this machine only", "", "")
    else:
        yield (
            "listen",
            "warn",
            f"TCP listens at {address}, for other machines too, unencrypted",
            "Whoever is on the way can read and use the token.",
            "Give it a certificate: `listen.tls_cert` and `listen.tls_key`.",
        )


def _certificate(settings: Settings, now_s: float) -> Iterator[Row]:
    from hivectl.server import tls  # noqa: PLC0415  where TLS is configured

    try:
        _, found = tls.load(settings)
    except HiveError as exc:
        why = f"{_REFUSES} One that runs goes on with the certificate it has."
        yield ("tls", "fail", exc.message, why, exc.hint)
        return
    names = ", ".join(found.names) or "no name"
    what = f"TLS certificate for {names}, {found.days_left(now_s)} days left"
    if problem := found.problem(now_s):
        yield (
            "tls",
            "warn",
            what,
            problem,
            "New files are taken over by a running daemon by themselves.",
        )
    else:
        yield ("tls", "ok", what, f"SHA-256 {found.fingerprint}", "")
