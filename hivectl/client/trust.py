"""Whether a daemon reached by wss is the one that was meant, and in plain words why not.

Nothing here switches verification off. What the system does not trust is trusted by naming a file.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

from hivectl.model.errors import HiveError

_EXPIRED, _NOT_YET, _WRONG_NAME, _WRONG_ADDRESS = 10, 9, 62, 64
_UNKNOWN_ISSUER = frozenset({18, 19, 20, 21})
"""OpenSSL's numbers: self-signed, self-signed in the chain, no local issuer, no signature to check."""
_MOST_CAUSES = 8
_BRING_IT = (
    "Bring the daemon's certificate (its `listen.tls_cert`), or that of who signed it, here by a way you"
    " trust, such as scp, and set HIVECTL_CA_FILE to it."
)


def make_context(ca_file: Path | None) -> ssl.SSLContext:
    """Trust of the system's store, or of the certificates in `ca_file` and nothing else.

    One of these may be the daemon's own: then just that one is trusted. Raises HiveError CONFIG_INVALID."""
    if ca_file is None:
        return ssl.create_default_context()
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as exc:
        raise _wrong_file(f"{ca_file} holds no certificate in PEM form") from exc
    except OSError as exc:
        raise _wrong_file(f"{ca_file} cannot be read: {exc.strerror}") from exc
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _wrong_file(why: str) -> HiveError:
    return HiveError(
        "CONFIG_INVALID",
        f"HIVECTL_CA_FILE: {why}",
        hint="Give a file with the certificate of the daemon, or of who signed it (`-----BEGIN CERTIFICATE-----`).",
    )


def explain(failure: BaseException, label: str) -> HiveError | None:
    """What an attempt to connect to `label` by TLS failed of; None when it was nothing of TLS."""
    for exc in _causes(failure):
        if isinstance(exc, ssl.SSLCertVerificationError):
            why, hint = _untrusted(exc)
            return HiveError(
                "CERTIFICATE_UNTRUSTED", f"The daemon at {label} is not trusted: {why}", hint=hint
            )
        if isinstance(exc, ssl.SSLError) and exc.reason in {
            "WRONG_VERSION_NUMBER",
            "HTTP_REQUEST",
            "RECORD_LAYER_FAILURE",
        }:
            return HiveError(
                "UNAVAILABLE",
                f"What answers at {label} does not speak TLS.",
                hint="A daemon without a certificate is spoken to by http://; `listen.tls_cert` gives it one.",
            )
        if isinstance(exc, ssl.SSLError):
            reason = (exc.reason or str(exc)).lower().replace("_", " ")
            return HiveError(
                "UNAVAILABLE",
                f"No TLS connection to {label} came about: {reason}.",
                hint="TLS 1.2 or newer is needed; a proxy on the way may not pass it on.",
            )
    return None


def _causes(failure: BaseException | None) -> Iterator[BaseException]:
    for _ in range(_MOST_CAUSES):
        if failure is None:
            return
        yield failure
        failure = failure.__cause__ or failure.__context__


def _untrusted(exc: ssl.SSLCertVerificationError) -> tuple[str, str]:
    code = exc.verify_code
    if code in _UNKNOWN_ISSUER:
        return "nobody this machine knows has signed its certificate.", _BRING_IT
    if code == _EXPIRED:
        return (
            "its certificate has expired.",
            "Renew it where the daemon runs, and look at the clock here.",
        )
    if code == _NOT_YET:
        return (
            "its certificate is not valid yet.",
            "Look at the clocks, here and where the daemon runs.",
        )
    if code in {_WRONG_NAME, _WRONG_ADDRESS}:
        why = exc.verify_message.partition("'")[2].partition("'")[0]
        return (
            f"its certificate is not for {why or 'this name'}.",
            "Use a name of the certificate in HIVECTL_URL (`hivectl health` there shows them), or make one for this name.",
        )
    return (
        f"{exc.verify_message}.",
        "Look at the certificate where the daemon runs: `hivectl doctor`.",
    )
