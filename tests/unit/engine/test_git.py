"""git as hivectl runs it: bounded, without prompts, with nothing of the daemon's environment."""

import asyncio
import os
import time

import psutil
import pytest

from hivectl.engine import git as gits
from hivectl.engine.git import Git, last_line
from hivectl.model.errors import HiveError
from tests.harness.repo import Repo


@pytest.fixture
def git():
    return Git(
        {"PATH": os.environ["PATH"], "GIT_DIR": "/nowhere", "HIVECTL_TOKEN": "secret", "HOME": "/nonexistent"}
    )  # fmt: skip


async def test_nothing_of_the_daemons_environment_reaches_it(git, tmp_path):
    repo = Repo(tmp_path)
    assert await git.commit_of(repo.path, "HEAD") == repo.head
    repo.git("config", "alias.env", "!env")
    said = await git.must(repo.path, "env")
    assert "secret" not in said.text
    assert "GIT_TERMINAL_PROMPT=0" in said.text


async def test_output_is_cut_at_its_limit_and_the_command_still_ends(git, tmp_path):
    repo = Repo(tmp_path)
    repo.commit({"big.txt": "x" * 500_000})
    said = await git.ask(repo.path, "cat-file", "blob", "HEAD:big.txt", most=1000)
    assert (said.code, len(said.out), said.is_cut) == (0, 1000, True)


def living(word):
    """Processes with this argument; what has ended and waits to be reaped is none."""
    found = psutil.process_iter(["cmdline", "status"])
    return [
        p for p in found
        if word in (p.info["cmdline"] or ()) and p.info["status"] != psutil.STATUS_ZOMBIE
    ]  # fmt: skip


@pytest.mark.slow
async def test_what_hangs_is_ended_with_its_children_and_named(git, tmp_path):
    repo = Repo(tmp_path)
    repo.git("config", "alias.hang", "!sleep 57.25")
    begun = time.monotonic()
    with pytest.raises(HiveError) as caught:
        await git.ask(repo.path, "hang", limit_s=0.3)
    assert caught.value.details["reason"] == "timeout"
    assert time.monotonic() - begun < gits.END_LIMIT_S
    async with asyncio.timeout(5):
        while living("57.25"):  # it was killed; the kernel takes a moment to make it so
            await asyncio.sleep(0.01)


async def test_a_command_that_fails_says_so_in_gits_own_words(git, tmp_path):
    repo = Repo(tmp_path)
    with pytest.raises(HiveError, match="fatal: ") as caught:
        await git.must(repo.path, "rev-parse", "--verify", "nothing")
    assert caught.value.code == "WORKTREE_UNAVAILABLE"


async def test_what_a_repositorys_configuration_runs_has_a_digest(git, tmp_path):
    repo = Repo(tmp_path)
    assert await git.programs(repo.path) == ("", [])
    repo.git("config", "filter.x.smudge", "evil")
    repo.git("config", "merge.y.driver", "worse")
    first, names = await git.programs(repo.path)
    assert names == ["filter.x.smudge", "merge.y.driver"]
    repo.git("config", "filter.x.smudge", "other")
    assert (await git.programs(repo.path))[0] != first


@pytest.mark.parametrize(
    "key",
    ["gpg.program", "gpg.ssh.program", "hook.x.command", "core.askPass", "core.alternateRefsCommand"],
)  # fmt: skip
async def test_s25_each_key_that_names_a_program_counts(git, tmp_path, key):
    repo = Repo(tmp_path)
    repo.git("config", key, "./evil")
    assert [name.lower() for name in (await git.programs(repo.path))[1]] == [key.lower()]


async def test_s16_what_git_starts_for_us_is_marked_as_an_execution(git, tmp_path):
    repo = Repo(tmp_path)
    repo.git("config", "filter.spy.smudge", f"env > {tmp_path}/seen; cat")
    repo.commit({".gitattributes": "*.x filter=spy\n", "a.x": "text"})
    (repo.path / "a.x").unlink()
    await git.must(repo.path, "checkout", "--", "a.x")
    assert "HIVECTL_EXECUTION=git\n" in (tmp_path / "seen").read_text()


async def test_s16_a_merge_checks_no_signature_by_a_program_of_the_repository(git, tmp_path):
    repo = Repo(tmp_path)
    evil = tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {tmp_path}/owned\n")
    evil.chmod(0o755)
    signed = repo.git("cat-file", "commit", "HEAD").replace(
        "\n\n", "\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n\n", 1
    )  # fmt: skip
    (tmp_path / "commit").write_text(
        signed.replace("author", f"parent {repo.head}\nauthor", 1) + "\n"
    )
    tip = repo.git("hash-object", "-t", "commit", "-w", str(tmp_path / "commit")).strip()
    repo.git("config", "gpg.program", str(evil))
    repo.git("config", "merge.verifySignatures", "true")
    assert (await git.ask(repo.path, "merge", "--ff-only", tip)).code == 0
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("text", "told"),
    [("hint: a\nfatal: b\nhint: c", "fatal: b"), ("x\ny\n", "y"), ("", "no reason given")],
)
def test_the_line_that_names_the_error_is_told(text, told):
    assert last_line(text) == told
