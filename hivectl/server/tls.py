"""The certificate of the TCP listener: read, tried, watched, renewed without a restart.

A certificate is tried in a handshake with ourselves before anybody else meets it, which also tells its
names and dates. One that is wrong refuses the start; one that turns wrong later is told of, and the one
before stays in use. Loaded only where TLS is configured.
"""

from __future__ import annotations

import os
import ssl
import stat
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import msgspec

from hivectl.config import Settings, expand
from hivectl.kit.clock import MICROSECOND, Clock
from hivectl.model.errors import HiveError

CERT, KEY = "listen.tls_cert", "listen.tls_key"
SOON_DAYS = 14
"""A certificate that ends within so many days is told of."""
_PEM_BYTES = 1024 * 1024
_NO_CHECK_TIME = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME: dates are told of, they are no reason not to start."""
_MOST_STEPS = 8
_MOST_READS = 3
"""Files that are others each time they were read are left for the next look."""
_DAY_S = 86400.0


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """What people want to know of it."""

    names: tuple[str, ...]
    """Host names and addresses it is for; those with a `*` too."""
    not_before_s: float
    not_after_s: float
    fingerprint: str
    """SHA-256 of the whole, in hexadecimal."""

    def days_left(self, now_s: float) -> int:
        """Whole days until its end; negative afterwards."""
        return int((self.not_after_s - now_s) // _DAY_S)

    def problem(self, now_s: float) -> str:
        """What is wrong with its dates, or soon will be; empty when nothing is."""
        if now_s < self.not_before_s:
            return "The TLS certificate is not valid yet: clients refuse it, or the clock here is wrong."
        days = self.days_left(now_s)
        if days < 0:
            ago = int((now_s - self.not_after_s) // _DAY_S)
            return f"The TLS certificate expired {ago} days ago: clients refuse it. Renew it."
        if days < SOON_DAYS:
            return f"The TLS certificate expires in {days} days. Renew it."
        return ""


Loaded = tuple[ssl.SSLContext, Certificate]


def load(settings: Settings) -> Loaded:
    """A context that serves the configured certificate, and what that is.

    Raises HiveError CONFIG_INVALID: a file is missing, unreadable, open to others, no PEM, encrypted; the
    key belongs to another certificate; or no client could use them."""
    if not settings.text(CERT):
        raise _refused(KEY, "a key without a certificate", f"Set {CERT} as well.")
    cert = _find(settings, CERT)
    key = _find(settings, KEY) if settings.text(KEY) else cert
    text = _read(cert, CERT)
    _check_private(key)
    key_text = _read(key, KEY) if key != cert else text
    if "-----BEGIN CERTIFICATE-----" not in text:
        raise _refused(CERT, f"{cert} holds no certificate in PEM form", _what_it_is(cert, text))
    if "PRIVATE KEY-----" not in key_text:
        hint = f"Set {KEY} to the file that begins with `BEGIN PRIVATE KEY`."
        raise _refused(KEY, f"{key} holds no private key in PEM form", hint)
    if "ENCRYPTED" in key_text:
        hint = f"Take the password off: openssl pkey -in {key} -out NEW, and chmod 600 NEW."
        raise _refused(KEY, f"the key in {key} is protected by a password", hint)
    context = _make_context(cert, key)
    return context, _try(context, text, cert)


def _find(settings: Settings, key: str) -> Path:
    path = expand(settings, settings.text(key))
    if not path.is_absolute():
        raise _refused(key, f"{path} is no absolute path", "Give it from the root, or from ~/.")
    return path


def _read(path: Path, key: str) -> str:
    try:
        if not path.is_file() and path.exists():
            raise _refused(key, f"{path} is no file", "Name the file itself.")
        with path.open("rb") as file:
            return file.read(_PEM_BYTES).decode("latin-1")
    except OSError as exc:
        hint = f"Check the path and its rights: ls -lL {path}"
        raise _refused(key, f"{path} cannot be read: {exc.strerror}", hint) from exc


def _check_private(path: Path) -> None:
    """As for the token; a key of root's may be shared with a group, which is how systems hand it out."""
    try:
        found = path.stat()
    except OSError:
        return  # told by the reading of it
    mode = stat.S_IMODE(found.st_mode)
    if found.st_uid not in {0, os.geteuid()}:
        raise _refused(KEY, f"{path} belongs to another user", "Copy it to a file of your own.")
    if mode & (0o037 if found.st_uid == 0 else 0o077):
        why = f"others may read or change {path} (mode {mode:04o})"
        raise _refused(KEY, why, f"Run `chmod 600 {path}`; who may have read it can pass for you.")


def _what_it_is(path: Path, text: str) -> str:
    if "PRIVATE KEY-----" in text:
        return f"It is a private key: have {CERT} and {KEY} been mixed up?"
    if text.startswith("\x30"):
        return f"It looks like DER: openssl x509 -inform der -in {path} -out NEW.pem"
    return "Give a file with `-----BEGIN CERTIFICATE-----`, followed by its chain."


def _make_context(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    try:
        # An empty password, for OpenSSL would ask for one at the terminal.
        context.load_cert_chain(cert, key, password="")
    except ssl.SSLError as exc:
        if exc.reason == "KEY_VALUES_MISMATCH":
            why, hint = (
                f"it belongs to another certificate than {cert}",
                "Name the two that were made together.",
            )
            raise _refused(KEY, f"the key in {key} does not fit: {why}", hint) from exc
        hint = f"Look at both: openssl x509 -in {cert} -noout -text; openssl pkey -in {key} -noout"
        raise _refused(CERT, f"{cert} with {key} cannot be used: {_reason(exc)}", hint) from exc
    except OSError as exc:
        raise _refused(CERT, f"{cert} cannot be read: {exc.strerror}", "Check the path.") from exc
    return context


def _try(server: ssl.SSLContext, text: str, path: Path) -> Certificate:
    """Shake hands with ourselves, trusting just this certificate. Raises HiveError CONFIG_INVALID."""
    try:
        begin = text.index("-----BEGIN CERTIFICATE-----")
        der = ssl.PEM_cert_to_DER_cert(
            text[begin : text.index("-----END", begin)] + "-----END CERTIFICATE-----"
        )
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client.check_hostname = False
        client.verify_flags |= ssl.VerifyFlags(ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME)
        client.load_verify_locations(cadata=der)
        found = _shake_hands(server, client)
    except (ssl.SSLError, ValueError) as exc:
        hint = f"Look at it: openssl x509 -in {path} -noout -text; a new one must be for a server, with a key of 2048 bits or EC."
        raise _refused(CERT, f"no client could use {path}: {_reason(exc)}", hint) from exc
    names = found.get("subjectAltName", ())
    return Certificate(
        names=tuple(
            str(name) if kind == "DNS" else str(ip_address(name.strip()))
            for kind, name in names
            if kind in {"DNS", "IP Address"}
        ),
        not_before_s=ssl.cert_time_to_seconds(found["notBefore"]),
        not_after_s=ssl.cert_time_to_seconds(found["notAfter"]),
        fingerprint=sha256(der).hexdigest(),
    )


def _shake_hands(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, Any]:
    """The certificate the client gets to see, decoded."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(down, up)
    theirs = server.wrap_bio(up, down, server_side=True)
    for _ in range(_MOST_STEPS):
        for side in (ours, theirs):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    found: dict[str, Any] = ours.getpeercert() or {}
    return found


def _reason(exc: Exception) -> str:
    if isinstance(exc, ssl.SSLCertVerificationError):
        return exc.verify_message
    reason = exc.reason if isinstance(exc, ssl.SSLError) else None
    return reason.lower().replace("_", " ") if reason else str(exc)


def _refused(key: str, why: str, hint: str) -> HiveError:
    return HiveError("CONFIG_INVALID", f"{key}: {why}", hint=hint, details={"key": key})


class Credentials:
    """The certificate in use. `context` is for connections that come; those that live keep theirs."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        *,
        tell: Callable[[str, str], None],
        load: Callable[[Settings], Loaded] = load,
    ) -> None:
        """`tell(message, hint)` hears once of each thing that people must know.

        Raises HiveError CONFIG_INVALID when the certificate cannot be used."""
        self._settings = settings
        self._clock = clock
        self._tell = tell
        self._load = load
        self._told = ""
        self._seen = self._identity()
        self.fault = ""
        """Why the newest files are not in use."""
        self.context, self.certificate = self._read()
        self._tell_dates()

    @property
    def problems(self) -> list[str]:
        """What health tells."""
        found = [self.fault, self.certificate.problem(self._now_s())]
        return [text for text in found if text]

    def facts(self) -> dict[str, Any]:
        """For health."""
        certificate = self.certificate
        return {
            "names": list(certificate.names),
            "expires_in_days": certificate.days_left(self._now_s()),
            "fingerprint": certificate.fingerprint,
        }

    def look(self) -> bool:
        """Take a new certificate when the files are others than before; whether one was taken.

        Compared with links followed, so a link that was turned (certbot) counts."""
        self._tell_dates()
        return self._identity() != self._seen and self.reload()

    def reload(self) -> bool:
        """Read the files again; what is wrong is told, and then the certificate before stays in use."""
        try:
            context, certificate = self._read()
        except HiveError as exc:
            fault = f"The new TLS certificate is not used, the one before stays: {exc.message}"
            if fault != self.fault:
                self._tell(fault, exc.hint)
            self.fault = fault
            return False
        is_new = certificate != self.certificate
        self.context, self.certificate, self.fault = context, certificate, ""
        self._tell_dates()
        return is_new

    def _read(self) -> Loaded:
        """What the files hold when they are the same behind the reading as before: it reads them more than once,
        and what two writings left of a certificate and its key is neither a certificate nor a fault."""
        for _ in range(_MOST_READS):
            self._seen = self._identity()
            found: Loaded | HiveError
            try:
                found = self._load(self._settings)
            except HiveError as exc:
                found = exc
            if self._identity() != self._seen:
                continue
            if isinstance(found, HiveError):
                raise found
            return found
        raise _refused(
            CERT, "the files change while they are read", "They are read again by themselves."
        )

    def _tell_dates(self) -> None:
        problem = self.certificate.problem(self._now_s())
        if problem and problem != self._told:
            self._tell(problem, "The new files are taken over by themselves.")
        self._told = problem

    def _identity(self) -> tuple[Any, ...]:
        return tuple(
            _stamp(expand(self._settings, self._settings.text(key))) for key in (CERT, KEY)
        )

    def _now_s(self) -> float:
        return self._clock.now_us() / MICROSECOND


def _stamp(path: Path) -> tuple[int, ...]:
    try:
        found = path.stat()
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
