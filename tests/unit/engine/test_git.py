"""git as hivectl runs it: bounded, without prompts, with nothing of the daemon's environment."""

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


@pytest.mark.slow
async def test_what_hangs_is_ended_with_its_children_and_named(git, tmp_path):
    repo = Repo(tmp_path)
    repo.git("config", "alias.hang", "!sleep 57.25")
    begun = time.monotonic()
    with pytest.raises(HiveError) as caught:
        await git.ask(repo.path, "hang", limit_s=0.3)
    assert caught.value.details["reason"] == "timeout"
    assert time.monotonic() - begun < gits.END_LIMIT_S
    assert not [p for p in psutil.process_iter(["cmdline"]) if "57.25" in (p.info["cmdline"] or ())]


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
    ("text", "told"),
    [("hint: a\nfatal: b\nhint: c", "fatal: b"), ("x\ny\n", "y"), ("", "no reason given")],
)
def test_the_line_that_names_the_error_is_told(text, told):
    assert last_line(text) == told
