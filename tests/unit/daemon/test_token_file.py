import os
import stat
from pathlib import Path

import pytest

from hivectl.daemon import token_file
from hivectl.model.errors import HiveError


def test_s10_first_start_makes_a_private_token_and_the_next_finds_it(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token = token_file.load_or_make(path)
    assert len(token) >= len("hive_") + 43
    assert token.startswith("hive_")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token_file.load_or_make(path) == token


def test_s10_every_daemon_gets_another_token(tmp_path: Path) -> None:
    assert token_file.load_or_make(tmp_path / "a") != token_file.load_or_make(tmp_path / "b")


@pytest.mark.parametrize(
    "content", ["", "\n", "hive_short", "secret", "hive_" + "a" * 42, "hive_" + "é" * 50]
)
def test_s10_empty_short_or_foreign_tokens_refuse_the_start(tmp_path: Path, content: str) -> None:
    path = tmp_path / "token"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(HiveError, match="no token of full length") as caught:
        token_file.load_or_make(path)
    assert caught.value.code == "CONFIG_INVALID"
    assert content.strip() == "" or content.strip() not in str(caught.value)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_s33_token_open_to_others_refuses_the_start(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "token"
    token_file.load_or_make(path)
    path.chmod(mode)
    with pytest.raises(HiveError, match=f"mode {mode:04o}"):
        token_file.load_or_make(path)


def test_s33_link_directory_and_pipe_are_no_token(tmp_path: Path) -> None:
    token_file.load_or_make(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "dir").mkdir(mode=0o700)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("link", "dir", "pipe"):
        with pytest.raises(HiveError, match="is refused"):
            token_file.load_or_make(tmp_path / name)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_s33_token_of_another_user_refuses_the_start(tmp_path: Path) -> None:
    path = tmp_path / "token"
    token_file.load_or_make(path)
    os.chown(path, 12345, 12345)
    with pytest.raises(HiveError, match="another user"):
        token_file.load_or_make(path)


def test_the_secret_of_webhooks_is_made_once_and_private(tmp_path):
    import base64

    path = tmp_path / "webhook-secret"
    made = token_file.load_or_make_webhook_secret(path)
    assert len(base64.b64decode(made.removeprefix("whsec_"), validate=True)) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert token_file.load_or_make_webhook_secret(path) == made
    path.write_text("short")
    with pytest.raises(HiveError, match="webhook-secret is refused"):
        token_file.load_or_make_webhook_secret(path)
