"""Which addresses git is given, and that none with a secret is, nor repeated."""

import asyncio

import pytest

from hivectl.model.errors import HiveError
from hivectl.services.cloning import carries_secret, check_address, clone

SECRET = "bird9c41e7"


@pytest.mark.parametrize(
    "repo",
    [
        "https://example.org/x.git", "https://example.org:8443/a/b@v1.git", "ssh://git@example.org/x", "git@host:a/b.git",
        "ssh://git@secrets:22/x", "git://example.org/x", "file:///srv/x.git", "/srv/x@y.git", "https://[::1]:3000/x",
        "https://example.org/x?ref=main", "me@secrets:team/x", "ssh://token@host/x",
    ],
)  # fmt: skip
def test_an_address_without_a_secret_is_taken(repo):
    check_address(repo)


@pytest.mark.parametrize(
    "repo",
    [
        f"https://me:{SECRET}@host/x", f"https://{SECRET}@host/x", f"https://me:@{SECRET}@host/x", f"https://:{SECRET}@host/",
        f"HTTPS://me:{SECRET}@host/x", f"http://me:{SECRET}@host/x", f"git://{SECRET}@host/x", f"ssh://git:{SECRET}@host/x",
        f"file://me:{SECRET}@host/x", f"https://me:{SECRET}%40@host/x", f"https://{SECRET}\\@host/x", f"https://me:{SECRET}@host",
        f"https://host/x?private_token={SECRET}", f"https://host/x#password={SECRET}", f"https://me: {SECRET}@host/x",
        "https://host/ghp_bird9c41e7bird9c41e7bird9c41e7bird/x", "ssh://ghp_bird9c41e7bird9c41e7bird9c41e7bird@host/x",
    ],
)  # fmt: skip
def test_s45_an_address_with_a_secret_is_refused_and_not_repeated(repo):
    assert carries_secret(repo)
    with pytest.raises(HiveError) as caught:
        check_address(repo)
    error = caught.value
    assert error.code == "INVALID_PARAMS"
    assert error.details == {"reason": "secret_in_address"}
    assert "credential helper" in error.hint
    assert "bird" not in f"{error} {error.hint}"


@pytest.mark.parametrize(
    "repo",
    [
        "ext::sh -c x", "--upload-pack=x", "-u", "", f"me:{SECRET}@host:path", f"https//me:{SECRET}@host", "relative/x",
        f"https:/me:{SECRET}@host/x",
    ],
)  # fmt: skip
def test_what_is_no_address_is_refused_and_not_repeated_either(repo):
    with pytest.raises(HiveError) as caught:
        check_address(repo)
    assert caught.value.code == "INVALID_PARAMS"
    assert SECRET not in f"{caught.value} {caught.value.hint}"


def test_a_branch_is_no_option():
    with pytest.raises(HiveError, match="no name of a branch"):
        check_address("https://example.org/x", "--upload-pack=x")


async def test_git_is_not_started_for_a_refused_address(tmp_path):
    with pytest.raises(HiveError):
        await clone(f"https://{SECRET}@127.0.0.1:1/x", None, tmp_path / "x", {"PATH": "/usr/bin"})
    assert not (tmp_path / "x").exists()


async def test_what_git_says_against_it_is_told(tmp_path):
    with pytest.raises(HiveError) as caught:
        await clone(f"file://{tmp_path}/no.git", None, tmp_path / "x", {"PATH": "/usr/bin"})
    assert caught.value.details == {"reason": "clone_failed"}
    assert "could not clone file://" in caught.value.message


async def test_a_clone_that_is_given_up_leaves_nothing(tmp_path, monkeypatch):
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "git").write_text(
        f'#!/bin/sh\nmkdir "{tmp_path}/x"\necho $$ > "{tmp_path}/pid"\nexec sleep 60\n'
    )
    (bin_ / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:/usr/bin:/bin")
    task = asyncio.create_task(clone("/srv/x", None, tmp_path / "x", {"PATH": "/usr/bin:/bin"}))
    async with asyncio.timeout(20):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (tmp_path / "x").exists()
