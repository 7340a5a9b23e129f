"""Certificates for tests: an authority of our own, and what it signs, as files."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import trustme

NAMES = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, slots=True)
class Authority:
    """Signs certificates; `file` is what clients are to trust."""

    ca: trustme.CA
    root: Path

    @property
    def file(self) -> Path:
        path = self.root / "ca.pem"
        if not path.exists():
            self.ca.cert_pem.write_to_path(path)
        return path

    def client_context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self.file)

    def issue(
        self, name: str = "one", *names: str, days: float = 90, begins_in_days: float = -1
    ) -> tuple[Path, Path]:
        """Files of a certificate (with its chain) and of its key."""
        now = datetime.now(UTC)
        leaf = self.ca.issue_cert(
            *(names or NAMES),
            not_before=now + timedelta(days=min(begins_in_days, days - 1)),
            not_after=now + timedelta(days=days),
        )
        cert, key = self.root / f"{name}.pem", self.root / f"{name}.key"
        cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        key.touch(0o600)
        key.write_bytes(leaf.private_key_pem.bytes())
        return cert, key


def authority(root: Path) -> Authority:
    """A new one, whose files lie in `root`."""
    root.mkdir(parents=True, exist_ok=True)
    return Authority(trustme.CA(), root)


def settings_of(cert: Path, key: Path | str = "") -> dict[str, Any]:
    """What the configuration says of them."""
    return {"listen.tls_cert": str(cert), "listen.tls_key": str(key)}
