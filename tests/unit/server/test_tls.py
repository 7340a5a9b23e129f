"""What is read of a certificate, what is refused, and how the next one is taken."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from hivectl import config
from hivectl.kit.clock import FakeClock, SystemClock
from hivectl.model.errors import ExitCode, HiveError
from hivectl.server import tls
from tests.harness.certificates import authority, settings_of


def settings(home: Path, flags: dict[str, Any]) -> config.Settings:
    return config.load(flags, {"HIVECTL_HOME": str(home), "HOME": str(home)})


def refusal(home: Path, flags: dict[str, Any]) -> HiveError:
    with pytest.raises(HiveError) as caught:
        tls.load(settings(home, flags))
    assert caught.value.code == "CONFIG_INVALID"
    assert caught.value.kind.exit == ExitCode.USAGE
    assert caught.value.hint
    return caught.value


def test_names_dates_and_fingerprint_are_those_of_the_certificate(tmp_path: Path) -> None:
    cert, key = authority(tmp_path).issue(
        "one", "hive.example", "*.example", "10.0.0.7", "::1", days=30
    )
    context, found = tls.load(settings(tmp_path, settings_of(cert, key)))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert found.names == ("hive.example", "*.example", "10.0.0.7", "::1")
    now = SystemClock().now_us() / 1e6
    assert found.days_left(now) == 29
    assert found.not_before_s < now
    assert len(found.fingerprint) == 64


def test_a_key_may_stand_in_the_certificates_file(tmp_path: Path) -> None:
    cert, key = authority(tmp_path).issue()
    both = tmp_path / "both.pem"
    both.touch(0o600)
    both.write_text(key.read_text() + cert.read_text())
    assert tls.load(settings(tmp_path, settings_of(both)))
    both.chmod(0o644)
    assert "chmod 600" in refusal(tmp_path, settings_of(both)).hint


def test_a_home_is_looked_up_and_a_relative_path_refused(tmp_path: Path) -> None:
    authority(tmp_path).issue()
    assert tls.load(settings(tmp_path, settings_of(Path("~/one.pem"), "~/one.key")))
    assert "absolute" in refusal(tmp_path, settings_of(Path("one.pem"), "one.key")).message


def test_missing_unreadable_and_foreign_files_are_named(tmp_path: Path) -> None:
    cert, key = authority(tmp_path).issue()
    found = refusal(tmp_path, settings_of(tmp_path / "none.pem", key))
    assert "listen.tls_cert" in found.message
    assert "No such file" in found.message
    found = refusal(tmp_path, settings_of(cert, tmp_path / "none.key"))
    assert "listen.tls_key" in found.message
    assert "is no file" in refusal(tmp_path, settings_of(tmp_path, key)).message
    assert "without a certificate" in refusal(tmp_path, {"listen.tls_key": str(key)}).message


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o602])
def test_a_key_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    cert, key = authority(tmp_path).issue()
    key.chmod(mode)
    if key.stat().st_uid == 0 and mode == 0o640:
        assert tls.load(
            settings(tmp_path, settings_of(cert, key))
        )  # root may share it with a group
        return
    found = refusal(tmp_path, settings_of(cert, key))
    assert f"chmod 600 {key}" in found.hint
    assert f"{mode:04o}" in found.message


def test_mixed_up_encrypted_binary_and_foreign_keys_are_told_apart(tmp_path: Path) -> None:
    mine = authority(tmp_path)
    cert, key = mine.issue()
    _, other = mine.issue("two")
    assert "does not fit" in refusal(tmp_path, settings_of(cert, other)).message
    cert.chmod(0o600)
    assert "mixed up" in refusal(tmp_path, settings_of(key, cert)).hint
    der = tmp_path / "one.der"
    der.write_bytes(
        ssl.PEM_cert_to_DER_cert(
            cert.read_text().split("-----END")[0] + "-----END CERTIFICATE-----"
        )
    )
    assert "inform der" in refusal(tmp_path, settings_of(der, key)).hint
    key.write_text(key.read_text().replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"))
    assert "password" in refusal(tmp_path, settings_of(cert, key)).message


def test_broken_files_and_weak_keys_are_refused_in_words(tmp_path: Path) -> None:
    cert, key = authority(tmp_path).issue()
    text = cert.read_text()
    cert.write_text(text.replace("M", "N"))
    assert "cannot be used" in refusal(tmp_path, settings_of(cert, key)).message
    cert.write_text("-----BEGIN CERTIFICATE-----\n")
    assert "cannot be used" in refusal(tmp_path, settings_of(cert, key)).message


def test_a_certificate_that_is_none_for_a_server_is_refused(tmp_path: Path) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "me")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, private.public_key(), 1, now, now + timedelta(days=9))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
        .sign(private, hashes.SHA256())
    )
    both = tmp_path / "both.pem"
    both.touch(0o600)
    plain = serialization.NoEncryption(), serialization.PrivateFormat.PKCS8
    key = private.private_bytes(serialization.Encoding.PEM, plain[1], plain[0])
    both.write_bytes(key + made.public_bytes(serialization.Encoding.PEM))
    found = refusal(tmp_path, settings_of(both))
    assert "no client could use" in found.message
    assert "purpose" in found.message


@pytest.mark.parametrize(
    ("begins", "days", "words"),
    [(-1, 90, ""), (-1, 14.5, ""), (-1, 13.5, "expires in 13 days"), (-9, -3.5, "expired 3 days ago"), (2, 90, "not valid yet")],
)  # fmt: skip
def test_dates_are_told_of_and_refuse_nothing(
    tmp_path: Path, begins: float, days: float, words: str
) -> None:
    cert, key = authority(tmp_path).issue(days=days, begins_in_days=begins)
    _, found = tls.load(settings(tmp_path, settings_of(cert, key)))
    problem = found.problem(SystemClock().now_us() / 1e6)
    assert problem == "" if not words else words in problem


class Told(list[str]):
    def __call__(self, message: str, hint: str) -> None:
        assert hint
        self.append(message)


def test_a_changed_file_is_taken_and_a_broken_one_leaves_the_old(tmp_path: Path) -> None:
    mine, told = authority(tmp_path), Told()
    cert, key = mine.issue()
    keeper = tls.Credentials(settings(tmp_path, settings_of(cert, key)), SystemClock(), tell=told)
    first = keeper.certificate
    assert not keeper.look()
    cert.write_text("nonsense")
    assert not keeper.look()
    assert keeper.certificate == first
    assert len(keeper.problems) == 1
    assert "the one before stays" in keeper.problems[0]
    assert not keeper.look()
    assert not keeper.reload()
    assert len(told) == 1
    mine.issue()
    assert keeper.look()
    assert keeper.certificate != first
    assert keeper.problems == []
    assert not keeper.reload()


class Writer:
    """Reads as ever, but behind each reading of `times` somebody has written the files anew."""

    def __init__(self, root: Path, times: int) -> None:
        self.ca = authority(root)
        self.cert, self.key = self.ca.issue("one", days=100)
        self.times, self.reads = times, 0

    def load(self, settings: config.Settings) -> tls.Loaded:
        self.reads += 1
        try:
            return tls.load(settings)
        finally:
            if 1 < self.reads <= self.times + 1:
                self.ca.issue("one", days=100 + self.reads)

    def keeper(self, home: Path, told: Told) -> tls.Credentials:
        flags = settings_of(self.cert, self.key)
        return tls.Credentials(settings(home, flags), SystemClock(), tell=told, load=self.load)


def test_files_that_change_while_they_are_read_are_read_again(tmp_path: Path) -> None:
    told = Told()
    writer = Writer(tmp_path, times=2)
    keeper = writer.keeper(tmp_path, told)
    writer.ca.issue("one", days=101)
    assert keeper.look()
    assert writer.reads == 4
    assert keeper.certificate == tls.load(settings(tmp_path, settings_of(writer.cert, writer.key)))[1]  # fmt: skip
    assert not keeper.look()
    assert not told


def test_a_certificate_and_a_key_of_two_writings_are_no_fault_that_is_told(tmp_path: Path) -> None:
    told = Told()
    writer = Writer(tmp_path, times=1)
    keeper = writer.keeper(tmp_path, told)
    foreign = writer.ca.issue("other")[1]
    writer.key.write_bytes(foreign.read_bytes())
    assert keeper.reload()
    assert keeper.fault == ""
    assert not told


def test_files_that_never_rest_are_left_for_the_next_look(tmp_path: Path) -> None:
    told = Told()
    writer = Writer(tmp_path, times=3)
    keeper = writer.keeper(tmp_path, told)
    before = keeper.certificate
    writer.ca.issue("one", days=101)
    assert not keeper.look()
    assert keeper.certificate == before
    assert "change while they are read" in keeper.fault
    assert len(told) == 1
    assert keeper.look()
    assert keeper.certificate != before
    assert keeper.fault == ""


def test_links_that_are_turned_count_as_new_files(tmp_path: Path) -> None:
    mine = authority(tmp_path / "archive")
    live = tmp_path / "live"
    live.mkdir()
    for name in ("one", "two"):
        mine.issue(name)
    for kind in ("pem", "key"):
        (live / kind).symlink_to(f"../archive/one.{kind}")
    keeper = tls.Credentials(
        settings(tmp_path, settings_of(live / "pem", live / "key")), SystemClock(), tell=Told()
    )
    first = keeper.certificate
    for kind in ("pem", "key"):
        (live / "new").symlink_to(f"../archive/two.{kind}")
        (live / "new").rename(live / kind)
        keeper.look()
    assert keeper.certificate != first
    assert keeper.problems == []


def test_an_end_that_comes_near_is_told_once_a_day(tmp_path: Path) -> None:
    told, clock = Told(), FakeClock(wall_us=SystemClock().now_us())
    cert, key = authority(tmp_path).issue(days=15.5)
    keeper = tls.Credentials(settings(tmp_path, settings_of(cert, key)), clock, tell=told)
    assert told == []
    for _ in range(3):
        clock.advance(86400)
        keeper.look()
        keeper.look()
    assert told == [f"The TLS certificate expires in {days} days. Renew it." for days in (13, 12)]
