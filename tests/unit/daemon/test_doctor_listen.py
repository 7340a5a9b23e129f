"""What doctor says of the listener and its certificate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hivectl import config
from hivectl.daemon import doctor_listen
from tests.harness.certificates import authority, settings_of


def rows(home: Path, flags: dict[str, Any]) -> list[tuple[str, str, str, str, str]]:
    settings = config.load(flags, {"HIVECTL_HOME": str(home), "HOME": str(home)})
    return list(doctor_listen.check(settings))


@pytest.mark.parametrize(
    ("flags", "status", "words"),
    [
        ({}, "ok", "this machine only"),
        ({"listen.tcp": "off"}, "ok", "off"),
        ({"listen.tcp": "0.0.0.0:0"}, "fail", "without encryption"),
        ({"listen.tcp": "0.0.0.0:0", "listen.insecure_plain_http": True}, "warn", "unencrypted"),
        ({"listen.tcp": "nowhere"}, "fail", "ADDRESS:PORT"),
        ({"listen.tls_key": "/nowhere"}, "fail", "without a certificate"),
    ],
)
def test_the_listener_is_judged(
    tmp_path: Path, flags: dict[str, Any], status: str, words: str
) -> None:
    ((_, found, what, why, step),) = rows(tmp_path, flags)
    assert found == status
    assert words in what
    assert status == "ok" or (why and step)


@pytest.mark.parametrize(("days", "status"), [(90.0, "ok"), (5.0, "warn"), (-5.0, "warn")])
def test_a_certificate_is_shown_with_the_days_it_has(
    tmp_path: Path, days: float, status: str
) -> None:
    files = authority(tmp_path).issue("one", "hive.example", days=days, begins_in_days=-9)
    ((name, found, what, why, _),) = rows(
        tmp_path, {"listen.tcp": "0.0.0.0:0", **settings_of(*files)}
    )
    assert (name, found) == ("tls", status)
    assert "hive.example" in what
    assert "days left" in what
    assert why


def test_a_certificate_that_cannot_be_used_fails(tmp_path: Path) -> None:
    cert, key = authority(tmp_path).issue()
    key.chmod(0o644)
    ((name, found, what, _, step),) = rows(tmp_path, settings_of(cert, key))
    assert (name, found) == ("tls", "fail")
    assert "0644" in what
    assert "chmod 600" in step
