"""What is checked before anything is routed: Host and Origin (S02-S04), and the token of TCP callers.

Values are compared as parsed parts, never as text that merely looks alike. It decides and answers with
a reason; it reads no socket.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv6Address, ip_address

import msgspec

from hivectl.model.errors import HiveError

_HOST = re.compile(
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]{2,45})\]|(?P<name>[A-Za-z0-9](?:[A-Za-z0-9._-]{0,252})))"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
_ORIGIN = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]{0,20})://(?P<rest>[^/?#@\\\s]{1,270})")
_DEFAULT_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "::1")

Headers = Sequence[tuple[bytes, bytes]]


class Place(msgspec.Struct, frozen=True):
    """Host and port, in one spelling: lower case, no trailing dot, IPv6 without brackets, shortest form."""

    host: str
    port: int | None


def parse_place(text: str) -> Place | None:
    """The parts of `host`, `host:port`, `[v6]` or `[v6]:port`; None when it is none of these."""
    found = _HOST.fullmatch(text)
    if found is None:
        return None
    port = int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port < 65536:
        return None
    if found["v6"]:
        try:
            return Place(IPv6Address(found["v6"]).compressed, port)
        except ValueError:
            return None
    name = found["name"].lower().removesuffix(".")
    return Place(name, port) if name and ".." not in name else None


def parse_origin(text: str) -> tuple[str, str, int] | None:
    """Scheme, host and port of an Origin; None for `null` and anything else that is no origin."""
    found = _ORIGIN.fullmatch(text)
    if found is None:
        return None
    scheme = found["scheme"].lower()
    place = parse_place(found["rest"])
    if place is None:
        return None
    port = place.port if place.port is not None else _DEFAULT_PORTS.get(scheme)
    return (scheme, place.host, port) if port is not None else None


class Refusal(msgspec.Struct, frozen=True):
    """Why a request is not served."""

    status: int
    error: HiveError


class Gate:
    """The Host and Origin rules of one listener."""

    def __init__(
        self,
        *,
        port: int | None,
        bound: str = "",
        is_tls: bool = False,
        own_names: Iterable[str] = (),
        allowed_hosts: Iterable[str] = (),
        public_origins: Iterable[str] = (),
    ) -> None:
        """`port` None = the UNIX socket: Host is exempt, Origin refused. `own_names`: those of the TLS
        certificate, whose owner has proved that they are his.

        Raises HiveError CONFIG_INVALID for a configured host or origin that is none."""
        self._is_unix = port is None
        self._scheme = "https" if is_tls else "http"
        self._places: set[Place] = set()
        self._origins: set[tuple[str, str, int]] = set()
        if port is None:
            return
        names = {*_LOOPBACK_NAMES, bound} - {"", "0.0.0.0", "::"}  # noqa: S104  not bound here
        for name in (*names, *_hosts(own_names)):
            self._allow(Place(name, port), port)
            self._origins.add((self._scheme, name, port))
        for text in allowed_hosts:
            place = parse_place(text)
            if place is None:
                raise _wrong("listen.allowed_hosts", text, "give host or host:port")
            if place.port is None:
                self._places |= {place, Place(place.host, port)}
            else:
                self._allow(place, place.port)
        for text in public_origins:
            origin = parse_origin(text)
            if origin is None:
                raise _wrong("listen.public_origins", text, "give scheme://host:port")
            self._origins.add(origin)

    def _allow(self, place: Place, port: int) -> None:
        self._places.add(place)
        if port == _DEFAULT_PORTS[self._scheme]:
            self._places.add(Place(place.host, None))

    def check(self, target: bytes, headers: Headers) -> Refusal | None:
        """Whether a request with this target and these headers may go on; None = it may."""
        return self._check_host(target, headers) or self._check_origin(headers)

    def _check_host(self, target: bytes, headers: Headers) -> Refusal | None:
        if self._is_unix:
            return None
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1:
            return _misdirected("The request has no Host header, or several.")
        asked = [hosts[0]]
        if not target.startswith(b"/") and target != b"*":
            absolute = re.fullmatch(
                self._scheme.encode() + rb"://([^/?#@\\\s]{1,270})(?:[/?#].*)?",
                target,
                re.IGNORECASE | re.DOTALL,
            )
            if absolute is None:
                return _misdirected("The request's target is not on this server.")
            asked.append(absolute[1])
        for raw in asked:
            place = parse_place(raw.decode("latin-1").strip(" \t"))
            if place is None or place not in self._places:
                return _misdirected("The request's Host is not allowed.")
        return None

    def _check_origin(self, headers: Headers) -> Refusal | None:
        origins = [value for name, value in headers if name == b"origin"]
        if not origins:
            return None
        if len(origins) > 1 or self._is_unix:
            return Refusal(403, HiveError("ORIGIN_DENIED", "The request's Origin is not allowed."))
        origin = parse_origin(origins[0].decode("latin-1").strip(" \t"))
        if origin is None or origin not in self._origins:
            return Refusal(403, HiveError("ORIGIN_DENIED", "The request's Origin is not allowed."))
        return None


def _hosts(names: Iterable[str]) -> Iterable[str]:
    """Names of a certificate in the spelling of Place; those with a `*` name no host."""
    for name in names:
        place = parse_place(f"[{name}]" if ":" in name else name)
        if place is not None and place.port is None:
            yield place.host


def _misdirected(message: str) -> Refusal:
    return Refusal(421, HiveError("ORIGIN_DENIED", message))


def _wrong(key: str, value: str, allowed: str) -> HiveError:
    return HiveError(
        "CONFIG_INVALID", f"{key}: {value!r} is refused; {allowed}", details={"key": key}
    )


class TcpAddress(msgspec.Struct, frozen=True):
    """Where to listen."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(
    text: str, *, insecure_plain_http: bool, has_tls: bool = False
) -> TcpAddress | None:
    """The address of `listen.tcp`; None for `off`.

    Raises HiveError CONFIG_INVALID: no address, or a non-loopback one without TLS that was not allowed
    expressly (S02)."""
    if text.strip().lower() == "off":
        return None
    host, colon, port = text.strip().rpartition(":")
    name = host.removeprefix("[").removesuffix("]")
    if name.lower() == "localhost":
        name = "127.0.0.1"
    try:
        address = TcpAddress(str(ip_address(name)), int(port))
    except ValueError:
        raise _wrong("listen.tcp", text, "give ADDRESS:PORT, or off") from None
    if not colon or not port.isdigit() or not 0 <= address.port < 65536:
        raise _wrong("listen.tcp", text, "give ADDRESS:PORT, or off")
    if not (address.is_loopback or has_tls or insecure_plain_http):
        raise HiveError(
            "CONFIG_INVALID",
            f"listen.tcp: {text} can be reached from other machines, without encryption",
            hint="Give it a certificate (listen.tls_cert and listen.tls_key), or use 127.0.0.1 and a tunnel"
            " (ssh -L). In a network you trust wholly: listen.insecure_plain_http = true, or"
            " `hivectl daemon run --insecure-plain-http`.",
            details={"key": "listen.tcp"},
        )
    return address


class Token:
    """The opaque bearer token, kept as its digest only."""

    def __init__(self, secret: str) -> None:
        """Raises ValueError for one that is too short to be a secret."""
        if len(secret) < 32:
            raise ValueError("the token is too short")
        self._digest = hashlib.sha256(secret.encode()).digest()

    def matches(self, candidate: str) -> bool:
        """Whether it is the token; takes the same time whatever differs."""
        digest = hashlib.sha256(candidate.encode("utf-8", "replace")).digest()
        return hmac.compare_digest(self._digest, digest)

    def matches_header(self, headers: Headers) -> bool | None:
        """Whether the one Authorization header carries it; None when there is no such header."""
        found = [value for name, value in headers if name == b"authorization"]
        if not found:
            return None
        scheme, _, credential = found[0].decode("latin-1").partition(" ")
        return (
            len(found) == 1 and scheme.lower() == "bearer" and self.matches(credential.strip(" "))
        )
